/* What the files of SQL share: a statement's way back to its asker. */
#pragma once

#include "store-exports.h"
#include "store-search.h"
#include "store-text.h"
#include "store-volumes.h"
#include "store.h"

struct store_call {
        union { /* whom to tell; done may be NULL */
                store_json_fn json;
                store_key_fn key;
                store_bytes_fn bytes;
                store_names_fn names;
                store_done_fn done;
                store_entries_fn entries;
                store_reading_fn reading;
                store_text_fn text;
                store_language_fn language;
                store_hits_fn hits;
                store_export_fn export;
                store_created_fn created;
        } fn;
        void *userdata;
        const char *what; /* for the log; lives for ever */
        size_t statement; /* the caller's own */
};

struct store_call *store_call_new(const char *what, void *userdata) mustuse;
/* Takes both. `done` gets the call as userdata and frees it. -ECANCELED without a pool; on failure
 * nobody is told. */
int store_call_submit(struct pg_pool *p, struct pg_batch *b, pg_done_fn done,
                      struct store_call *c) mustuse;
/* A pg_done_fn for those who only want to know how it ended (fn.done). */
void store_call_done(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error);
