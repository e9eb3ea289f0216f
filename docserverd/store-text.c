/* Reads and writes the queue of documents to read and their passages. */
#include "store-text.h"

#include "common/base/buf.h"
#include "store-call.h"

#define WAIT_MAX (60 * USEC_PER_SEC)

/* ---- the queue ---- */

static void on_claimed(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        if (r < 0) {
                c->fn.reading(c->userdata, store_failure(c->what, r, error), NULL, 0);
                return;
        }
        const PGresult *row = results[0];
        if (PQntuples(row) == 0) {
                uint64_t wait = (uint64_t) MAX(pg_i64(results[1], 0, 0), INT64_C(0));
                c->fn.reading(c->userdata, 0, NULL, MIN(wait, (uint64_t) WAIT_MAX));
                return;
        }
        struct store_reading reading = {
                .document_id = pg_str(row, 0, 0),
                .tenant = pg_str(row, 0, 1),
                .version = (uint64_t) pg_i64(row, 0, 2),
                .attempts = (uint64_t) pg_i64(row, 0, 3),
                .size = (uint64_t) pg_i64(row, 0, 4),
                .filename = pg_str(row, 0, 5),
                .content_type = pg_str(row, 0, 6),
                .hook = pg_str(row, 0, 7),
                .document_json = pg_str(row, 0, 8),
        };
        c->fn.reading(c->userdata, 0, &reading, 0);
}

int store_text_claim(struct pg_pool *p, store_reading_fn fn, void *userdata)
{
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b,
                     "UPDATE docs.document_text AS t SET state = 'reading', "
                     "attempts = t.attempts + 1, updated_at = now() FROM docs.document d "
                     "WHERE d.id = t.document_id AND t.document_id = (SELECT document_id FROM "
                     "docs.document_text WHERE state = 'queued' AND not_before <= now() "
                     "ORDER BY not_before LIMIT 1 FOR UPDATE SKIP LOCKED) "
                     "RETURNING t.document_id, t.tenant, t.version, t.attempts, d.size_bytes, "
                     "d.filename, d.content_type, d.metadata ->> 'preIngestHook', "
                     "docs.document_json(d)",
                     "");
        pg_batch_add(b,
                     "SELECT coalesce(extract(epoch FROM min(not_before) - now()) * 1000000, "
                     "60000000)::bigint FROM docs.document_text WHERE state = 'queued'",
                     "");
        struct store_call *c = store_call_new("looking for documents to read", userdata);
        c->fn.reading = fn;
        return store_call_submit(p, b, on_claimed, c);
}

int store_text_unclaim(struct pg_pool *p, const char *ids, uint64_t age_us, store_done_fn fn,
                       void *userdata)
{
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(
                b,
                "UPDATE docs.document_text SET state = 'queued', not_before = now(), "
                "updated_at = now() WHERE state = 'reading' AND document_id <> ALL ($1::text[])",
                "s", ids);
        struct store_call *c = store_call_new("looking for interrupted readings", userdata);
        c->fn.done = fn;
        return store_call_submit(p, b, store_call_done, c);
}

static void on_ended(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        if (r < 0)
                r = store_failure(c->what, r, error);
        else
                r = PQntuples(results[0]) > 0 ? 0 : -ENOENT;
        c->fn.done(c->userdata, r);
}

int store_text_end(struct pg_pool *p, const struct store_text_end *e, store_done_fn fn,
                   void *userdata)
{
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b,
                     "UPDATE docs.document_text SET state = $3, error = $4, hook_error = $5, "
                     "not_before = now() + $6 * interval '1 microsecond', updated_at = now() "
                     "WHERE document_id = $1 AND version = $2 AND state = 'reading' "
                     "RETURNING document_id",
                     "susssu", e->document_id, e->version, e->state, e->error, e->hook_error,
                     e->wait_us);
        struct store_call *c = store_call_new("ending the reading of a document", userdata);
        c->fn.done = fn;
        return store_call_submit(p, b, on_ended, c);
}

/* ---- passages ---- */

int store_passages_clear(struct pg_pool *p, const char *document_id, store_done_fn fn,
                         void *userdata)
{
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b, "DELETE FROM docs.passage WHERE document_id = $1", "s", document_id);
        struct store_call *c = store_call_new("removing passages", userdata);
        c->fn.done = fn;
        return store_call_submit(p, b, store_call_done, c);
}

int store_passages_add(struct pg_pool *p, const char *document_id, const char *tenant,
                       uint64_t version, const char *language, const struct passages *passages,
                       size_t from, size_t n, store_done_fn fn, void *userdata)
{
        cleanup_buf struct buf list = BUF_INIT;
        buf_puts(&list, "[");
        for (size_t i = from; i < from + n; i++) {
                const struct passage *s = &passages->list[i];
                buf_putf(&list, "%s[%zu,%u,", i > from ? "," : "", i, s->page);
                buf_put_json_string(&list, s->text, s->len);
                buf_puts(&list, "]");
        }
        buf_puts(&list, "]");
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b,
                     "INSERT INTO docs.passage (document_id, tenant, version, n, page, body, "
                     "search) SELECT $1, $2, $3, (e ->> 0)::integer, "
                     "nullif((e ->> 1)::integer, 0), e ->> 2, "
                     "docs.passage_search($4::text::regconfig, e ->> 2) "
                     "FROM jsonb_array_elements($5::jsonb) AS e",
                     "ssuss", document_id, tenant, version, language, list.data);
        struct store_call *c = store_call_new("storing passages", userdata);
        c->fn.done = fn;
        return store_call_submit(p, b, store_call_done, c);
}

/* ---- what clients ask for ---- */

static void on_again(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        if (r < 0)
                c->fn.json(c->userdata, store_failure(c->what, r, error), NULL);
        else if (PQntuples(results[1]) == 0)
                c->fn.json(c->userdata, -ENOENT, NULL);
        else
                c->fn.json(c->userdata, 0, pg_str(results[1], 0, 0));
}

int store_text_again(struct pg_pool *p, const char *tenant, const char *id, store_json_fn fn,
                     void *userdata)
{
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b,
                     "UPDATE docs.document_text SET state = 'queued', attempts = 0, not_before = "
                     "now(), error = NULL, hook_error = NULL, updated_at = now() "
                     "WHERE document_id = $2 AND tenant = $1 AND state <> 'reading'",
                     "ss", tenant, id);
        pg_batch_add(b,
                     "SELECT docs.document_json(d) FROM docs.document d WHERE d.tenant = $1 "
                     "AND d.id = $2",
                     "ss", tenant, id);
        struct store_call *c = store_call_new("queueing a document", userdata);
        c->fn.json = fn;
        return store_call_submit(p, b, on_again, c);
}

static void on_text(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        if (r < 0)
                c->fn.text(c->userdata, store_failure(c->what, r, error), NULL, (struct span){ 0 });
        else if (PQntuples(results[0]) == 0)
                c->fn.text(c->userdata, -ENOENT, NULL, (struct span){ 0 });
        else
                c->fn.text(c->userdata, 0, pg_str(results[0], 0, 0),
                           span_of(pg_str(results[0], 0, 1)));
}

int store_text(struct pg_pool *p, const char *tenant, const char *id, uint64_t max,
               store_text_fn fn, void *userdata)
{
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b,
                     "SELECT CASE WHEN t.version = d.version THEN t.state ELSE 'queued' END, "
                     "coalesce((SELECT string_agg(s.body, E'\\n\\n' ORDER BY s.n) FROM (SELECT "
                     "p.body, p.n, sum(octet_length(p.body) + 2) OVER (ORDER BY p.n) AS size FROM "
                     "docs.passage p WHERE p.document_id = d.id AND p.version = d.version AND "
                     "t.state = 'ready') AS s WHERE s.size <= $3), '') "
                     "FROM docs.document d LEFT JOIN docs.document_text t ON t.document_id = d.id "
                     "WHERE d.tenant = $1 AND d.id = $2",
                     "ssu", tenant, id, max);
        struct store_call *c = store_call_new("reading a document's text", userdata);
        c->fn.text = fn;
        return store_call_submit(p, b, on_text, c);
}

/* ---- the language ---- */

static void on_language(void *userdata, int r, PGresult **results, size_t n,
                        const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        if (r < 0)
                c->fn.language(c->userdata, store_failure(c->what, r, error), 0);
        else if (PQntuples(results[0]) == 0)
                c->fn.language(c->userdata, 0, 0);
        else
                c->fn.language(c->userdata, 1, (uint64_t) pg_i64(results[0], 0, 0));
}

/* A walk by id: passages that come meanwhile have the new language already. What was changed is
 * remembered when the walk has come to the end, so that a killed one begins again. */
int store_language(struct pg_pool *p, const char *language, uint64_t from, unsigned n,
                   store_language_fn fn, void *userdata)
{
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b,
                     "WITH few AS (SELECT p.id FROM docs.passage p, docs.search_state s WHERE "
                     "s.language <> $1 AND p.id > $2 ORDER BY p.id LIMIT $3), "
                     "changed AS (UPDATE docs.passage p SET "
                     "search = docs.passage_search($1::text::regconfig, p.body) "
                     "FROM few WHERE p.id = few.id RETURNING p.id) "
                     "SELECT max(id) FROM changed HAVING count(*) > 0",
                     "suu", language, from, (uint64_t) n);
        pg_batch_add(
                b,
                "UPDATE docs.search_state SET language = $1 WHERE language <> $1 AND NOT EXISTS "
                "(SELECT FROM docs.passage p WHERE p.id > $2)",
                "su", language, from);
        struct store_call *c = store_call_new("changing the language of the index", userdata);
        c->fn.language = fn;
        return store_call_submit(p, b, on_language, c);
}
