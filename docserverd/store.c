/* Reads and writes the rows of documents, their versions and the idempotency keys. */
#include "store.h"

#include "common/base/buf.h"
#include "common/io/log.h"
#include "store-call.h"

#define TENANT_ROLE "berth_docs_tenant" /* database.sql; its rules: common/io/pg-rules.c */

struct pg_batch *store_batch(const char *tenant)
{
        struct pg_batch *b = pg_batch_new();
        pg_batch_tenant_role(b, tenant, TENANT_ROLE);
        return b;
}

void store_quota_check(struct pg_batch *b, const char *tenant, const struct store_quota *q)
{
        pg_batch_add(b, "SELECT docs.quota_check($1, $2, $3)", "suu", tenant, q->bytes_max,
                     q->documents_max);
}

static bool is_passing(const char *state)
{
        static const char *const classes[] = { "08", "40", "53", "55", "57" };
        for (size_t i = 0; i < ARRAY_LEN(classes); i++)
                if (str_starts(state, classes[i]))
                        return true;
        return false;
}

int store_failure(const char *what, int r, const struct pg_error *error)
{
        if (r == -ECONNRESET)
                return r;
        if (r != -EREMOTEIO)
                return -EAGAIN;
        if (streq(error->sqlstate, "BQ001"))
                return -EUSERS;
        if (streq(error->sqlstate, "23505"))
                return -EEXIST;
        if (streq(error->sqlstate, "23503"))
                return -ENOENT; /* a document was deleted while a relation to it was made */
        if (streq(error->sqlstate, "23514") && strstr(error->message, "document_metadata_size"))
                return -EOVERFLOW;
        if (streq(error->sqlstate, "23514") && strstr(error->message, "document_tags_check"))
                return -E2BIG;
        log_at(is_passing(error->sqlstate) ? LOG_WARNING : LOG_ERR, "Database refused %s: %s %s",
               what, error->sqlstate, error->message);
        return is_passing(error->sqlstate) ? -EAGAIN : -EIO;
}

static int failure(const struct store_call *c, int r, const struct pg_error *error)
{
        return store_failure(c->what, r, error);
}

/* {"a","b"}: what arrays look like as text. The members need no escaping: tags and checksums. */
static void array_begin(struct buf *b)
{
        buf_puts(b, "{");
}

static void array_add(struct buf *b, const char *member)
{
        buf_putf(b, "%s\"%s\"", buf_pending(b) > 1 ? "," : "", member);
}

static void tags_array(struct buf *b, const struct document_tags *tags)
{
        array_begin(b);
        for (size_t i = 0; tags && i < tags->n; i++)
                array_add(b, tags->tags[i]);
        buf_puts(b, "}");
}

/* ---- one JSON document back, from the first statement ---- */

static void on_json(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        if (r < 0)
                c->fn.json(c->userdata, failure(c, r, error), NULL);
        else if (PQntuples(results[0]) == 0)
                c->fn.json(c->userdata, -ENOENT, NULL);
        else
                c->fn.json(c->userdata, 0, pg_str(results[0], 0, 0));
}

int store_create(struct pg_pool *p, const struct store_document *d, store_json_fn fn,
                 void *userdata)
{
        cleanup_buf struct buf tags = BUF_INIT;
        tags_array(&tags, d->tags);
        struct pg_batch *b = store_batch(d->tenant);
        pg_batch_add(
                b,
                "INSERT INTO docs.document (id, tenant, filename, content_type, size_bytes, "
                "checksum, tags, "
                "metadata, session_id) VALUES ($1, $2, $3, $4, $5, $6, $7::text[], $8::jsonb, $9) "
                "RETURNING docs.document_json(document)",
                "ssssussss", d->id, d->tenant, d->filename, d->content_type, d->size, d->checksum,
                tags.data, d->metadata, d->session_id);
        pg_batch_add(b,
                     "INSERT INTO docs.document_version (document_id, version, checksum, "
                     "size_bytes, content_type) "
                     "VALUES ($1, 1, $2, $3, $4)",
                     "ssus", d->id, d->checksum, d->size, d->content_type);
        if (d->idempotency_key) {
                pg_batch_add(b,
                             "DELETE FROM docs.idempotency WHERE tenant = $1 AND key = $2 "
                             "AND created_at < now() - interval '24 hours'",
                             "ss", d->tenant, d->idempotency_key);
                pg_batch_add(b,
                             "INSERT INTO docs.idempotency (tenant, key, fingerprint, document_id) "
                             "VALUES ($1, $2, $3, $4)",
                             "ssss", d->tenant, d->idempotency_key, d->fingerprint, d->id);
        }
        store_quota_check(b, d->tenant, d->quota);
        struct store_call *c = store_call_new("a new document", userdata);
        c->fn.json = fn;
        return store_call_submit(p, b, on_json, c);
}

static void on_created(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        struct store_created made[STORE_CREATE_MAX];
        int rows = 0;

        if (r == -EREMOTEIO && !is_passing(error->sqlstate)) {
                c->fn.created(c->userdata, r, 0, NULL);
                return;
        }
        if (r < 0) {
                c->fn.created(c->userdata, failure(c, r, error), 0, NULL);
                return;
        }
        for (; rows < PQntuples(results[0]) && rows < STORE_CREATE_MAX; rows++)
                made[rows] = (struct store_created){ .id = pg_str(results[0], rows, 0),
                                                     .json = pg_str(results[0], rows, 1) };
        c->fn.created(c->userdata, 0, (size_t) rows, made);
}

static void put_field(struct buf *b, const char *name, const char *value)
{
        if (!value)
                return;
        buf_putf(b, "\"%s\":", name);
        buf_put_json_string(b, value, strlen(value));
        buf_puts(b, ",");
}

#define LISTED(n)                                                                                  \
        "jsonb_to_recordset(" n "::jsonb) AS n (id text, filename text, content_type text, "       \
        "size_bytes bigint, checksum text, tags text[], metadata jsonb, session_id text)"

/* As LISTED reads it; what is not there is null. */
static void put_document(struct buf *b, const struct store_document *d)
{
        buf_puts(b, "{");
        put_field(b, "id", d->id);
        put_field(b, "filename", d->filename);
        put_field(b, "content_type", d->content_type);
        put_field(b, "checksum", d->checksum);
        put_field(b, "session_id", d->session_id);
        buf_puts(b, "\"tags\":[");
        for (size_t i = 0; i < d->tags->n; i++)
                buf_putf(b, "%s\"%s\"", i > 0 ? "," : "", d->tags->tags[i]);
        buf_putf(b, "],\"size_bytes\":%" PRIu64 ",\"metadata\":%s}", d->size, d->metadata);
}

int store_create_many(struct pg_pool *p, const struct store_document *const *d, size_t n,
                      store_created_fn fn, void *userdata)
{
        cleanup_buf struct buf list = BUF_INIT;
        for (size_t i = 0; i < n; i++) {
                buf_puts(&list, i > 0 ? "," : "[");
                put_document(&list, d[i]);
        }
        buf_puts(&list, "]");
        struct pg_batch *b = store_batch(d[0]->tenant);
        struct span documents = { list.data, list.len };
        pg_batch_add(b,
                     "INSERT INTO docs.document AS d (id, tenant, filename, content_type, "
                     "size_bytes, checksum, tags, metadata, session_id) SELECT n.id, $1, "
                     "n.filename, n.content_type, n.size_bytes, n.checksum, n.tags, n.metadata, "
                     "n.session_id FROM " LISTED("$2") " RETURNING d.id, docs.document_json(d)",
                     "st", d[0]->tenant, documents);
        pg_batch_add(b,
                     "INSERT INTO docs.document_version (document_id, version, checksum, "
                     "size_bytes, content_type) SELECT n.id, 1, n.checksum, n.size_bytes, "
                     "n.content_type FROM " LISTED("$1"),
                     "t", documents);
        store_quota_check(b, d[0]->tenant, d[0]->quota);
        struct store_call *c = store_call_new("new documents", userdata);
        c->fn.created = fn;
        return store_call_submit(p, b, on_created, c);
}

int store_keep_result(struct pg_pool *p, const struct store_document *d, const char *path,
                      store_json_fn fn, void *userdata)
{
        cleanup_buf struct buf tags = BUF_INIT;
        tags_array(&tags, d->tags);
        struct pg_batch *b = store_batch(d->tenant);
        pg_batch_add(b,
                     "SELECT docs.keep_result($1, $2, $3, $4, $5, $6, $7, $8, $9::text[], "
                     "$10::jsonb)",
                     "ssssssusss", d->id, d->tenant, d->session_id, path, d->filename,
                     d->content_type, d->size, d->checksum, tags.data, d->metadata);
        store_quota_check(b, d->tenant, d->quota);
        struct store_call *c = store_call_new("a result of a session", userdata);
        c->fn.json = fn;
        return store_call_submit(p, b, on_json, c);
}

int store_json(struct pg_pool *p, const char *tenant, const char *id, store_json_fn fn,
               void *userdata)
{
        struct pg_batch *b = store_batch(tenant);
        pg_batch_add(
                b,
                "SELECT docs.document_json(d) FROM docs.document d WHERE tenant = $1 AND id = $2",
                "ss", tenant, id);
        struct store_call *c = store_call_new("reading a document", userdata);
        c->fn.json = fn;
        return store_call_submit(p, b, on_json, c);
}

int store_patch(struct pg_pool *p, const char *tenant, const char *id,
                const struct document_tags *tags, const char *metadata, const char *filename,
                store_json_fn fn, void *userdata)
{
        cleanup_buf struct buf list = BUF_INIT;
        tags_array(&list, tags);
        struct pg_batch *b = store_batch(tenant);
        pg_batch_add(
                b,
                "UPDATE docs.document SET tags = CASE WHEN $3::boolean THEN $4::text[] ELSE tags "
                "END, "
                "metadata = (metadata || $5::jsonb) - ARRAY(SELECT key FROM jsonb_each($5::jsonb) "
                "WHERE value = 'null'::jsonb), filename = coalesce($6::text, filename), "
                "updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond') "
                "WHERE tenant = $1 AND id = $2 RETURNING docs.document_json(document)",
                "ssBsss", tenant, id, tags != NULL, list.data, metadata, filename);
        struct store_call *c = store_call_new("a change of a document", userdata);
        c->fn.json = fn;
        return store_call_submit(p, b, on_json, c);
}

/* The rows are locked in the order of their ids: two of these never wait for each other. */
int store_tag(struct pg_pool *p, const char *tenant, const char *ids,
              const struct document_tags *add, const struct document_tags *remove, store_json_fn fn,
              void *userdata)
{
        cleanup_buf struct buf plus = BUF_INIT, minus = BUF_INIT;
        tags_array(&plus, add);
        tags_array(&minus, remove);
        struct pg_batch *b = store_batch(tenant);
        pg_batch_add(
                b,
                "WITH chosen AS MATERIALIZED (SELECT id FROM docs.document WHERE tenant = $1 "
                "AND id = ANY($2::text[]) ORDER BY id FOR UPDATE), "
                "changed AS (UPDATE docs.document d SET tags = ARRAY(SELECT t FROM unnest(d.tags "
                "|| $3::text[]) WITH ORDINALITY AS u(t, o) WHERE NOT t = ANY($4::text[]) GROUP BY "
                "t ORDER BY min(o)), "
                "updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond') "
                "FROM chosen WHERE d.id = chosen.id RETURNING d.id) "
                "SELECT json_build_object('updated', (SELECT count(*) FROM changed), 'missing', "
                "coalesce((SELECT json_agg(DISTINCT i) FROM unnest($2::text[]) AS i WHERE i NOT IN "
                "(SELECT id FROM chosen)), '[]'::json))::text",
                "ssss", tenant, ids, plus.data, minus.data);
        struct store_call *c = store_call_new("a change of tags", userdata);
        c->fn.json = fn;
        return store_call_submit(p, b, on_json, c);
}

static void on_replaced(void *userdata, int r, PGresult **results, size_t n,
                        const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        if (r < 0)
                c->fn.json(c->userdata, failure(c, r, error), NULL);
        else if (PQntuples(results[0]) == 0)
                c->fn.json(c->userdata, pg_bool(results[1], 0, 0) ? -ESTALE : -ENOENT, NULL);
        else
                c->fn.json(c->userdata, 0, pg_str(results[0], 0, 0));
}

int store_replace(struct pg_pool *p, const struct store_replace *s, store_json_fn fn,
                  void *userdata)
{
        struct pg_batch *b = store_batch(s->tenant);
        pg_batch_add(
                b,
                "WITH changed AS (UPDATE docs.document SET version = version + 1, checksum = $3, "
                "size_bytes = $4, content_type = coalesce($5::text, content_type), "
                "updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond') "
                "WHERE tenant = $1 AND id = $2 AND ($6::text IS NULL OR checksum = $6::text) "
                "RETURNING id, version, checksum, size_bytes, content_type, "
                "docs.document_json(document) AS json), "
                "kept AS (INSERT INTO docs.document_version (document_id, version, checksum, "
                "size_bytes, "
                "content_type) SELECT id, version, checksum, size_bytes, content_type FROM "
                "changed) "
                "SELECT json FROM changed",
                "sssuss", s->tenant, s->id, s->checksum, s->size, s->content_type, s->if_match);
        pg_batch_add(b, "SELECT EXISTS (SELECT FROM docs.document WHERE tenant = $1 AND id = $2)",
                     "ss", s->tenant, s->id);
        store_quota_check(b, s->tenant, s->quota);
        struct store_call *c = store_call_new("a new version", userdata);
        c->fn.json = fn;
        return store_call_submit(p, b, on_replaced, c);
}

/* ---- idempotency keys ---- */

static void on_key(void *userdata, int r, PGresult **results, size_t n,
                   const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        if (r < 0)
                c->fn.key(c->userdata, failure(c, r, error), NULL, NULL);
        else if (PQntuples(results[0]) == 0)
                c->fn.key(c->userdata, -ENOENT, NULL, NULL);
        else
                c->fn.key(c->userdata, 0, pg_str(results[0], 0, 0), pg_str(results[0], 0, 1));
}

int store_find_key(struct pg_pool *p, const char *tenant, const char *key, store_key_fn fn,
                   void *userdata)
{
        struct pg_batch *b = store_batch(tenant);
        pg_batch_add(b,
                     "SELECT i.fingerprint, (SELECT docs.document_json(d) FROM docs.document d "
                     "WHERE d.id = i.document_id AND d.tenant = i.tenant) "
                     "FROM docs.idempotency i WHERE i.tenant = $1 AND i.key = $2",
                     "ss", tenant, key);
        struct store_call *c = store_call_new("reading an idempotency key", userdata);
        c->fn.key = fn;
        return store_call_submit(p, b, on_key, c);
}

int store_expire_keys(struct pg_pool *p)
{
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b,
                     "DELETE FROM docs.idempotency WHERE created_at < now() - interval '24 hours' "
                     "OR created_at < "
                     "(SELECT created_at FROM docs.idempotency ORDER BY created_at DESC OFFSET "
                     "100000 LIMIT 1)",
                     "");
        return store_call_submit(p, b, store_call_done,
                                 store_call_new("removing old idempotency keys", NULL));
}

/* ---- bytes and blobs ---- */

static void on_bytes(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        if (r < 0) {
                c->fn.bytes(c->userdata, failure(c, r, error), NULL);
                return;
        }
        if (PQntuples(results[0]) == 0) {
                c->fn.bytes(c->userdata, -ENOENT, NULL);
                return;
        }
        struct store_bytes bytes = {
                .filename = pg_str(results[0], 0, 0),
                .content_type = pg_str(results[0], 0, 1),
                .checksum = pg_str(results[0], 0, 2),
                .size = (uint64_t) pg_i64(results[0], 0, 3),
                .updated_at_us = (uint64_t) pg_i64(results[0], 0, 4),
        };
        c->fn.bytes(c->userdata, 0, &bytes);
}

int store_bytes(struct pg_pool *p, const char *tenant, const char *id, uint32_t version,
                store_bytes_fn fn, void *userdata)
{
        struct pg_batch *b = store_batch(tenant);
        if (version == 0)
                pg_batch_add(b,
                             "SELECT filename, content_type, checksum, size_bytes, "
                             "(extract(epoch FROM updated_at) * 1000000)::bigint "
                             "FROM docs.document WHERE tenant = $1 AND id = $2 "
                             "UNION ALL SELECT regexp_replace(f.path, '^.*/', ''), f.content_type, "
                             "f.checksum, f.size_bytes, "
                             "(extract(epoch FROM f.created_at) * 1000000)::bigint FROM "
                             "docs.volume_file f "
                             "JOIN docs.volume v ON v.name = f.volume_name WHERE v.tenant = $1 AND "
                             "f.id = $2 "
                             "UNION ALL SELECT 'recording', 'application/gzip', checksum, "
                             "size_bytes, (extract(epoch FROM ended_at) * 1000000)::bigint "
                             "FROM docs.recording_piece WHERE tenant = $1 AND id = $2",
                             "ss", tenant, id);
        else
                pg_batch_add(b,
                             "SELECT d.filename, v.content_type, v.checksum, v.size_bytes, "
                             "(extract(epoch FROM v.created_at) * 1000000)::bigint "
                             "FROM docs.document_version v JOIN docs.document d "
                             "ON d.id = v.document_id WHERE d.tenant = $1 AND d.id = $2 "
                             "AND v.version = $3",
                             "ssu", tenant, id, (uint64_t) version);
        struct store_call *c = store_call_new("looking up a document's bytes", userdata);
        c->fn.bytes = fn;
        return store_call_submit(p, b, on_bytes, c);
}

static void names_of(const PGresult *result, struct blob_names *names)
{
        for (int i = 0; i < PQntuples(result); i++) {
                const char *checksum = pg_str(result, i, 0);
                if (blob_checksum_valid(checksum))
                        blob_names_add(names, checksum);
        }
}

static void on_names(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        struct blob_names names = { 0 };
        if (r < 0) {
                c->fn.names(c->userdata, failure(c, r, error), &names);
                return;
        }
        names_of(results[0], &names);
        c->fn.names(c->userdata, 0, &names);
        blob_names_done(&names);
}

static void on_deleted(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        struct blob_names names = { 0 };
        if (r < 0)
                r = failure(c, r, error);
        else if (PQntuples(results[2]) == 0)
                r = -ENOENT;
        else
                names_of(results[1], &names);
        c->fn.names(c->userdata, MIN(r, 0), &names);
        blob_names_done(&names);
}

/* What the document is the parent of goes with it. */
int store_delete(struct pg_pool *p, const char *tenant, const char *id, store_names_fn fn,
                 void *userdata)
{
        struct pg_batch *b = store_batch(tenant);
        pg_batch_add(b, "SELECT pg_advisory_xact_lock_shared(" STORE_RELATION_LOCK ")", "s",
                     tenant);
        pg_batch_add(b,
                     "SELECT DISTINCT v.checksum FROM docs.document_version v JOIN docs.document d "
                     "ON d.id = v.document_id WHERE d.tenant = $1 AND d.id IN "
                     "(SELECT docs.document_tree($2))",
                     "ss", tenant, id);
        pg_batch_add(b,
                     "DELETE FROM docs.document WHERE tenant = $1 AND id IN "
                     "(SELECT docs.document_tree($2)) RETURNING id",
                     "ss", tenant, id);
        struct store_call *c = store_call_new("deleting a document", userdata);
        c->fn.names = fn;
        return store_call_submit(p, b, on_deleted, c);
}

int store_unreferenced(struct pg_pool *p, const struct blob_names *names, store_names_fn fn,
                       void *userdata)
{
        cleanup_buf struct buf list = BUF_INIT;
        array_begin(&list);
        for (size_t i = 0; i < names->n; i++)
                array_add(&list, names->names[i]);
        buf_puts(&list, "}");
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b,
                     "SELECT c FROM unnest($1::text[]) AS c WHERE NOT EXISTS "
                     "(SELECT FROM docs.document_version v WHERE v.checksum = c) AND NOT EXISTS "
                     "(SELECT FROM docs.volume_file f WHERE f.checksum = c) AND NOT EXISTS "
                     "(SELECT FROM docs.recording_piece r WHERE r.checksum = c)",
                     "s", list.data);
        struct store_call *c = store_call_new("looking for unused blobs", userdata);
        c->fn.names = fn;
        return store_call_submit(p, b, on_names, c);
}
