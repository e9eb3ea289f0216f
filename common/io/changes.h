/* Word of changes in shared memory: one process changes rows, others remember what they read of
 * them and find out without asking whether it still holds.
 *
 * The writer says changes_begin before it asks the database, so before anybody hears of the change.
 * A reader takes a stamp before it asks the writer for a row and keeps the answer only if the stamp
 * is not 0 and still holds; from then on the answer is right as long as the stamp holds. Keys share
 * slots by their hash: a change of one may end what is kept of others, never the other way round.
 * The memory is a memfd that only its maker can write to and nobody can shrink. It ends with its
 * writer: readers unmap it when their link to the writer is lost. */
#pragma once

#include "common/base/util.h"

struct changes;

int changes_new(struct changes **ret) mustuse;         /* the writer's */
int changes_map(int fd, struct changes **ret) mustuse; /* a reader's; fd stays the caller's.
                                                          -EPROTO: not such a memory */
struct changes *changes_free(struct changes *c);
DEFINE_CLEANUP(struct changes, changes_free)
int changes_fd(const struct changes *c); /* the writer's, to hand out; stays its own */

/* ---- the writer ---- */

/* A row is about to be changed, or with id NULL any number of them. Returns the slot for
 * changes_end. */
unsigned changes_begin(struct changes *c, const char *tenant, const char *id);
/* The change is committed or refused; or (certain false) nobody knows, then nothing is kept until
 * the time limits of the database have decided it. now_us is monotonic. */
void changes_end(struct changes *c, unsigned slot, bool certain, uint64_t now_us);
/* The same for changes whose end is not waited for. */
void changes_pulse(struct changes *c, uint64_t now_us);

/* ---- readers ---- */

/* 0: it is being changed; what is read now must not be kept. */
uint64_t changes_stamp(const struct changes *c, const char *tenant, const char *id,
                       uint64_t now_us);
bool changes_hold(const struct changes *c, const char *tenant, const char *id, uint64_t stamp);
