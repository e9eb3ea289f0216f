/* The SQL statements about texts of documents: the queue of what is to be read, passages, vectors.
 * Rules and results as in store.h. */
#pragma once

#include "passages.h"
#include "store-volumes.h"

/* A document whose text is to be read. */
struct store_reading {
        const char *document_id, *tenant;
        uint64_t version, attempts, size;
        const char *filename, *content_type;
        const char *hook;          /* metadata.preIngestHook, NULL = none */
        const char *document_json; /* the document object */
};
/* reading NULL: nothing waits (again in *ret_wait_us, at most a minute). */
typedef void (*store_reading_fn)(void *userdata, int r, const struct store_reading *reading,
                                 uint64_t wait_us);
int store_text_claim(struct pg_pool *p, store_reading_fn fn, void *userdata) mustuse;

/* Documents that nobody reads any more wait again. ids: an array as text of those that are being
 * read; age_us: claims that are younger stay. */
int store_text_unclaim(struct pg_pool *p, const char *ids, uint64_t age_us, store_done_fn fn,
                       void *userdata) mustuse;

struct store_text_end {
        const char *document_id;
        uint64_t version;
        const char *state;              /* queued, ready, none, failed */
        const char *error, *hook_error; /* NULL = none */
        uint64_t wait_us;               /* of queued: not before */
};
/* -ENOENT: it has another version by now, or is gone. */
int store_text_end(struct pg_pool *p, const struct store_text_end *e, store_done_fn fn,
                   void *userdata) mustuse;

/* Removes all passages of the document. */
int store_passages_clear(struct pg_pool *p, const char *document_id, store_done_fn fn,
                         void *userdata) mustuse;
/* Passages [from, from + n). Nobody finds them before store_text_end says ready. -ENOENT: the
 * document is gone. */
int store_passages_add(struct pg_pool *p, const char *document_id, const char *tenant,
                       uint64_t version, const char *language, const struct passages *passages,
                       size_t from, size_t n, store_done_fn fn, void *userdata) mustuse;

/* The document is read again; gives the document object. */
int store_text_again(struct pg_pool *p, const char *tenant, const char *id, store_json_fn fn,
                     void *userdata) mustuse;
/* The text as passages in order, at most `max` bytes; state of reading it. */
typedef void (*store_text_fn)(void *userdata, int r, const char *state, struct span text);
int store_text(struct pg_pool *p, const char *tenant, const char *id, uint64_t max,
               store_text_fn fn, void *userdata) mustuse;

/* The language of the index becomes this one: r 1 = there is more to do from *ret_last on, 0 = it
 * is. */
typedef void (*store_language_fn)(void *userdata, int r, uint64_t last);
int store_language(struct pg_pool *p, const char *language, uint64_t from, unsigned n,
                   store_language_fn fn, void *userdata) mustuse;
