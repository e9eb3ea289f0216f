/* One job that makes a video of a recording: its pieces stream through a program in the slot, and
 * what that leaves becomes a document. Nothing of it is kept here but a piece's descriptor.
 *
 * As with job_run the slot is the job's alone, and nothing the program does is believed or waited
 * for beyond its limits. */
#pragma once

#include "documents.h"
#include "slot.h"
#include "proto/messages.h"

struct film;
struct film_config {
        sd_event *event;
        struct documents *documents;
        /* How far it is, whenever that changes. */
        void (*progress)(void *userdata, const char *job_id, unsigned percent);
        /* r 0: the video is stored. -EAGAIN: it may be tried again; else it may not; why = one
         * sentence. Once, from the loop; the film is gone afterwards. All is borrowed. */
        void (*done)(void *userdata, int r, const struct job_filmed *filmed, const char *why);
        void *userdata;
};
/* m is copied. */
int film_new(const struct film_config *c, const struct job_film *m, struct film **ret) mustuse;
/* The slot is there, with this epoch. */
void film_begin(struct film *f, struct slot *slot, uint64_t epoch);
bool film_begun(const struct film *f);
bool film_is(const struct film *f, const char *id);
struct film *film_free(struct film *f); /* no callback; the slot must be reset or gone next */
DEFINE_CLEANUP(struct film, film_free)
