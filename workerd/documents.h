/* The worker's client of docserverd: stores bytes as a document, opens documents for the slot.
 *
 * Nothing blocks: bodies travel by descriptor and are copied a piece per turn of the loop. Every
 * operation ends by exactly one callback from the loop, unless its userdata was cancelled. */
#pragma once

#include <systemd/sd-event.h>

#include "common/base/util.h"
#include "proto/wire.h"

struct documents;
struct documents_config {
        sd_event *event;
        void *zmq;
        const char *socket;            /* docserverd's request socket, a path */
        const char *descriptor_socket; /* its descriptor socket, a path */
};
int documents_new(const struct documents_config *c, struct documents **ret) mustuse;
struct documents *documents_free(struct documents *d);
DEFINE_CLEANUP(struct documents, documents_free)

struct document_new { /* strings are copied */
        const char *tenant;
        const char *session_id;
        int fd; /* the bytes, from offset 0; taken over, also on failure */
        uint64_t size;
        const char *filename;
        const char *const *tags;
        size_t n_tags;
        const char *metadata;        /* JSON object or NULL */
        const char *result_path;     /* in /results: see document_create; or NULL */
        const char *idempotency_key; /* or NULL */
};
/* r: 0 with document = the document object of the API as text; else negative, and why = one
 * sentence. */
typedef void (*document_stored_fn)(void *userdata, int r, struct span document, const char *why);
int documents_store(struct documents *d, const struct document_new *n, document_stored_fn fn,
                    void *userdata) mustuse;

/* The same bytes as a piece of the session's recording; filename, tags and metadata do not count.
 * The callback's document is empty. */
struct document_recording {
        uint64_t epoch, piece, started_us, ended_us, first_seq, last_seq;
        uint32_t width, height, frames;
};
int documents_record(struct documents *d, const struct document_new *n,
                     const struct document_recording *recording, document_stored_fn fn,
                     void *userdata) mustuse;

/* r: 0 with a readable descriptor (the callback's) and the size. */
typedef void (*document_opened_fn)(void *userdata, int r, int fd, uint64_t size, const char *why);
int documents_open(struct documents *d, const char *tenant, const char *document_id,
                   document_opened_fn fn, void *userdata) mustuse;

/* Questions whose answer is JSON text. r: 0 with the answer; else negative, and why = one sentence.
 * `more` (may be NULL in the question) is set when a list was cut. */
typedef void (*documents_json_fn)(void *userdata, int r, struct span json, bool more,
                                  const char *why);
int documents_query(struct documents *d, const struct document_query *q, documents_json_fn fn,
                    void *userdata) mustuse;
int documents_search(struct documents *d, const struct document_search *q, documents_json_fn fn,
                     void *userdata) mustuse;
int documents_show(struct documents *d, const struct document_show *q, documents_json_fn fn,
                   void *userdata) mustuse;

void documents_cancel(struct documents *d, void *userdata); /* no callback will come */
