/* The SQL statements about relations; rules and results as in store.h. */
#pragma once

#include "store-volumes.h"

struct store_relation {
        const char *tenant, *from, *to, *kind; /* as in docs.document_relation */
};
/* -ENOENT: not both documents are there. -EEXIST: `to` has another parent. -ELOOP: `to` is above
 * `from`. */
int store_relation_add(struct pg_pool *p, const struct store_relation *s, store_done_fn fn,
                       void *userdata) mustuse;
/* -ENOENT: there is no such relation. */
int store_relation_remove(struct pg_pool *p, const struct store_relation *s, store_done_fn fn,
                          void *userdata) mustuse;
