/* What a session leaves in /results of its slot becomes documents, so that the volume's download
 * has it: one document per path, a changed file is its next version.
 *
 * Nothing blocks; one file is on its way at a time. Bounded: files and bytes of one session, bytes
 * of one file, time of one pass. What is left out is said. The slot is hostile: what it shows are
 * names and sizes of its own. */
#pragma once

#include "documents.h"
#include "slot.h"

struct results;
struct results_config {
        sd_event *event;
        struct documents *documents;
        struct slot *slot; /* outlives it */
        uint64_t epoch;
        const char *tenant, *session_id;         /* copied */
        uint64_t files_max, bytes_max, file_max; /* 0 files = nothing is kept */
};
int results_new(const struct results_config *c, struct results **ret) mustuse;
struct results *results_free(struct results *s);
DEFINE_CLEANUP(struct results, results_free)

/* Keeps what is new or changed since the last time, then tells once, from the loop (it may be freed
 * there). left_out: one sentence on what was not kept, or NULL. A pass under way is joined: only
 * the newest asker is told. */
typedef void (*results_fn)(void *userdata, const char *left_out);
void results_keep(struct results *s, results_fn fn, void *userdata);
/* Nobody is told; the pass goes on. */
void results_forget(struct results *s);
