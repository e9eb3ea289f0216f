/* The SQL statements of searches; rules and results as in store.h. */
#pragma once

#include "store.h"

#define SEARCH_RESULTS_MAX 100u
#define SEARCH_OFFSET_MAX 1000u

struct store_search {
        const char *tenant, *language;
        const char *words;  /* as a person wrote them */
        const char *prefix; /* the beginning of one more word, or "" */
        const struct document_tags *tags;
        uint64_t limit, offset, per_document;
        bool any; /* any of the words */
        /* The vector of the query as pgvector writes it, "[0.1,...]", or NULL; with
         * near_max, the cosine distance from which on nothing is alike. */
        const char *vector;
        double near_max;
        bool iterative; /* the index of the vectors can be asked to go on */
};
/* A row of what was found, best first; strings are borrowed. */
struct store_hit {
        const char *id, *filename, *content_type, *document_json;
        uint64_t version, page; /* page 0 = none */
        const char *passage;    /* NULL: only name or description match */
        const char *headline;   /* STX and ETX around what matched */
        const char *score;      /* a decimal number */
};
typedef void (*store_hits_fn)(void *userdata, int r, size_t n, const struct store_hit *hits);
int store_search(struct pg_pool *p, const struct store_search *s, store_hits_fn fn,
                 void *userdata) mustuse;
