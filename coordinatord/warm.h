/* Which slot each free worker keeps ready: a pure function of targets, workers and time; and who
 * tells them (warm-keeper.c).
 *
 * A target is a number of free workers that keep a slot of a kind (and image) ready. Who keeps one
 * already goes on doing so; what is missing comes from workers that no target needs, one for each
 * target in turn. When there are none of those, a target without any takes one from the target that
 * has most, two at least, once that has lasted for `patience`. Nobody is told anything new within
 * `hold`. Workers that no target needs keep what they have, unless its target says 0. A worker that
 * holds a session hears what its next slot is to be; it counts when it is free.
 */
#pragma once

#include "common/base/buf.h"
#include "proto/wire.h"

#define WARM_TARGETS_MAX 16
#define WARM_COUNT_MAX 1000
#define WARM_IMAGE_MAX 101
#define WARM_NONE SIZE_MAX

struct warm_target {
        enum slot_kind kind;
        char image[WARM_IMAGE_MAX]; /* "" = any */
        size_t wanted;
        uint64_t empty_since; /* monotonic; no free worker keeps one since then; 0 = one does */
};
struct warm_worker {
        uint32_t kinds;       /* bit set of what it can make */
        const char *image;    /* of all its slots; NULL = unknown */
        enum slot_kind keeps; /* what it was last told, or keeps by itself */
        bool usable;          /* linked, neither draining nor broken */
        bool out;             /* linked, but draining or broken */
        bool free;            /* holds no session, and none is on its way */
        bool tellable;        /* it understands what it is told */
        bool ready;           /* its slot is of the kind it keeps, and warm */
        uint64_t told_at;     /* monotonic; when it was last told something new, 0 = never */
};
struct warm_limits {
        uint64_t patience, hold; /* microseconds */
};
enum warm_lack { /* why a target is not met */
                 WARM_MET,
                 WARM_MAKING,   /* enough workers keep one; some are not ready yet */
                 WARM_NO_KIND,  /* no worker makes such slots */
                 WARM_OUT,      /* those that could are draining or broken */
                 WARM_TOO_FEW,  /* all that could are in use, or kept for other targets */
                 WARM_UNTAUGHT, /* those that could are of a version that cannot be told */
                 WARM_LACK_MAX,
};
struct warm_count {
        size_t kept, ready;  /* free workers that keep one; whose slot is ready */
        size_t able, in_use; /* workers that could; of these hold a session */
        enum warm_lack lack;
};

/* Reads "desktop:2, headless:2, vm@IMAGE:1". *ret_error: a sentence, freed by the caller, on
 * -EINVAL. */
int warm_parse(const char *text, struct warm_target targets[WARM_TARGETS_MAX], size_t *ret_n,
               char **ret_error) mustuse;

/* keep[i]: what worker i is to keep; serves[i]: the target for which it does, WARM_NONE = none;
 * counts[k]: how target k stands then. All are arrays of the caller. */
void warm_plan(const struct warm_target *targets, size_t n_targets,
               const struct warm_worker *workers, size_t n, const struct warm_limits *l,
               uint64_t now, enum slot_kind *keep, size_t *serves, struct warm_count *counts);

struct coordinator;
struct worker;
struct warm;
struct warm *warm_new(struct coordinator *c) mustuse;
struct warm *warm_free(struct warm *w);
void warm_active(struct warm *w); /* from now on workers greet */
void warm_reload(struct warm *w); /* the settings were read again */
void warm_tick(struct warm *w);   /* once a second */
/* A worker told what it keeps; NULL: it does not know of this. */
void warm_heard(struct warm *w, struct worker *worker, const enum slot_kind *keeps);
/* It is about to throw its slot away for one of the kind it was told to keep. */
bool warm_changing(const struct worker *worker);
/* What it is to keep; false: what its own settings say. */
bool warm_keep(const struct warm *w, const struct worker *worker, enum slot_kind *ret);
size_t warm_wanted(const struct warm *w); /* the sum of all targets */
bool warm_news(struct warm *w);           /* since it was last asked, targets stand otherwise */
void warm_json(const struct warm *w, struct buf *out); /* a list, for GET /status */
