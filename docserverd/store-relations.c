/* Writes the relations between documents. */
#include "store-relations.h"

#include "store-call.h"

static void on_added(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        if (r < 0)
                r = store_failure(c->what, r, error);
        else if (pg_i64(results[2], 0, 0) < 2)
                r = -ENOENT;
        else
                r = pg_bool(results[2], 0, 1) ? 0 : -ELOOP;
        c->fn.done(c->userdata, r);
}

int store_relation_add(struct pg_pool *p, const struct store_relation *s, store_done_fn fn,
                       void *userdata)
{
        struct pg_batch *b = store_batch(s->tenant);
        pg_batch_add(b, "SELECT pg_advisory_xact_lock(" STORE_RELATION_LOCK ")", "s", s->tenant);
        pg_batch_add(b,
                     "INSERT INTO docs.document_relation (from_id, to_id, kind) "
                     "SELECT f.id, t.id, $4 FROM docs.document f, docs.document t "
                     "WHERE f.tenant = $1 AND f.id = $2 AND t.tenant = $1 AND t.id = $3 "
                     "AND ($4 <> 'parent' OR f.id NOT IN (SELECT docs.document_tree($3))) "
                     "ON CONFLICT (from_id, to_id, kind) DO NOTHING",
                     "ssss", s->tenant, s->from, s->to, s->kind);
        pg_batch_add(b,
                     "SELECT (SELECT count(*) FROM docs.document WHERE tenant = $1 "
                     "AND id IN ($2, $3)), EXISTS (SELECT FROM docs.document_relation "
                     "WHERE from_id = $2 AND to_id = $3 AND kind = $4)",
                     "ssss", s->tenant, s->from, s->to, s->kind);
        struct store_call *c = store_call_new("a relation", userdata);
        c->fn.done = fn;
        return store_call_submit(p, b, on_added, c);
}

static void on_removed(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        if (r < 0)
                r = store_failure(c->what, r, error);
        else
                r = PQntuples(results[0]) > 0 ? 0 : -ENOENT;
        c->fn.done(c->userdata, r);
}

int store_relation_remove(struct pg_pool *p, const struct store_relation *s, store_done_fn fn,
                          void *userdata)
{
        struct pg_batch *b = store_batch(s->tenant);
        pg_batch_add(b,
                     "DELETE FROM docs.document_relation r USING docs.document d "
                     "WHERE d.tenant = $1 AND d.id = r.from_id AND r.from_id = $2 AND r.to_id = $3 "
                     "AND r.kind = $4 RETURNING r.kind",
                     "ssss", s->tenant, s->from, s->to, s->kind);
        struct store_call *c = store_call_new("removing a relation", userdata);
        c->fn.done = fn;
        return store_call_submit(p, b, on_removed, c);
}
