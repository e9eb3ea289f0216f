/* Records the screen of a session: looks at it some times a second, closes a piece every few
 * seconds, compresses it on a thread and gives it to docserverd. Only a worker that dies loses the
 * piece it had open. Nothing is recorded while the screen is blind, or does not change.
 *
 * Bounded: a piece by RECORD_RAW_MAX, pieces on their way by RECORDER_WAITING (the oldest goes). */
#pragma once

#include "documents.h"
#include "slot.h"

#define RECORDER_WAITING 4

struct recorders; /* of a worker: the thread, and what is still on its way after its session */
int recorders_new(sd_event *e, struct documents *documents, struct recorders **ret) mustuse;
struct recorders *recorders_free(struct recorders *r); /* what is on its way is lost */
DEFINE_CLEANUP(struct recorders, recorders_free)

struct recorder_config {
        struct recorders *recorders;
        const char *tenant, *session_id; /* copied */
        uint64_t epoch;
        struct slot *slot; /* outlives the recorder */
        unsigned frames_per_second;
        uint64_t piece_usec;
        uint64_t (*seq)(void *userdata); /* newest event known */
        void *userdata;
};
struct recorder;
int recorder_new(const struct recorder_config *c, struct recorder **ret) mustuse;
/* The session is being deleted: nothing more of it is sent. */
void recorder_discard(struct recorder *r);
/* Closes the piece that is open; sends it and those before when it can. */
struct recorder *recorder_free(struct recorder *r);
DEFINE_CLEANUP(struct recorder, recorder_free)
