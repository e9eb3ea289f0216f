/* Reads the text out of documents, in the background: takes what waits in docs.document_text, has a
 * slot read it, lets the preIngestHook look at it, stores it as passages.
 *
 * States of a document's text: queued -> reading -> ready | none (there is nothing to read) |
 * failed; reading -> queued again when a worker was lost, `read_attempts` times at most. A new
 * version is queued by the database itself (docs.queue_text). */
#pragma once

#include "docserver.h"

struct reading;
struct reading *reading_new(struct docserver *d) mustuse;
struct reading *reading_free(struct reading *r); /* after pool and link: nothing is under way */
DEFINE_CLEANUP(struct reading, reading_free)
void reading_poke(struct reading *r); /* a document came, or a slot is free */
/* How many are being read, and have been since the start. */
struct reading_counts {
        uint64_t now, ready, none, failed, again;
};
void reading_counts(const struct reading *r, struct reading_counts *ret);
