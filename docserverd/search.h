/* Finding passages: what document_search and document_ask share. */
#pragma once

#include "docserver.h"
#include "store-search.h"

struct search_asked { /* borrowed until search_run returns */
        const char *tenant, *query;
        const struct document_tags *tags;
        uint64_t limit, offset, per_document;
        bool prefix, any;
        bool vectors; /* where there are some */
};
/* vectors: whether they were used. r as in store.h, and -ETIME: it took too long. */
typedef void (*search_fn)(void *userdata, int r, bool vectors, size_t n,
                          const struct store_hit *hits);
int search_run(struct docserver *d, const struct search_asked *a, search_fn fn,
               void *userdata) mustuse;

/* The last word of a query that is still being typed: *ret_words is the query before it,
 * *ret_prefix the word; "" when the end of the query is no beginning of a word. The caller frees
 * both. */
void search_split(const char *query, char **ret_words, char **ret_prefix);

/* A headline (STX and ETX around what matched) as HTML: escaped, with <mark>, always balanced. */
struct buf;
void search_highlight(struct buf *b, const char *headline);

/* The error reply for r of a search. */
void search_refuse(struct rpc_request *req, int r);
