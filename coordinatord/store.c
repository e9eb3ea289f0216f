/* The statements, and rows to structs. */
#include "store.h"

#include "approval.h"
#include "audit.h"
#include "batch.h"
#include "control.h"
#include "coordinatord/migrations.h"

/* Columns of arrays travel as one text, joined by a character that valid JSON text and our ids
 * never hold. */
#define SEPARATOR "\x1f"

const char store_try_lock[] =
        "SELECT pg_try_advisory_lock(hashtextextended('berth.coordinatord', 0))";

const char store_beat[] = "SELECT 1 AS the_coordinator_lives";

/* A big key is shown in two halves. Only one that is active shows beats. */
#define HOLDER                                                                                     \
        "pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND "        \
        "l.granted AND l.objsubid = 1 AND a.datname = current_database() AND l.database = "        \
        "a.datid AND ((l.classid::bigint << 32) | l.objid::bigint) = "                             \
        "hashtextextended('berth.coordinatord', 0) AND l.pid <> pg_backend_pid() AND "             \
        "a.query = 'SELECT 1 AS the_coordinator_lives'"
const char store_holder[] = "SELECT l.pid, a.query_start::text FROM " HOLDER;
const char store_end_holder[] = "SELECT pg_terminate_backend(l.pid) FROM " HOLDER
                                " AND l.pid = $1::int AND a.query_start::text = $2";

const char store_activate[] = "SELECT term, batch, cursor, db_epoch FROM core.hub_activate()";

int store_migrate(const struct pg_config *c, char **ret_error)
{
        return pg_migrate(c, "core", migrations, ARRAY_LEN(migrations), ret_error);
}

void store_read_start(const PGresult *r, struct store_start *ret)
{
        ret->term = (uint64_t) pg_i64(r, 0, 0);
        ret->batch = (uint64_t) pg_i64(r, 0, 1);
        ret->cursor = (uint64_t) pg_i64(r, 0, 2);
        (void) snprintf(ret->db_epoch, sizeof(ret->db_epoch), "%s", pg_str(r, 0, 3));
}

/* ---- sessions ---- */

#define SESSION_COLUMNS                                                                            \
        "tenant, session_name, status, kind, agent_name, model, project_dir, metadata, budget, "   \
        "files, network, image, width, height, parent_session_id, "                                \
        "(extract(epoch FROM created_at) * 1000000)::bigint, "                                     \
        "(extract(epoch FROM modified_at) * 1000000)::bigint, "                                    \
        "(extract(epoch FROM queued_at) * 1000000)::bigint, "                                      \
        "(extract(epoch FROM running_since) * 1000000)::bigint, "                                  \
        "last_seq, last_message_seq, epoch, worker_id, slot, losses, error, input_tokens, "        \
        "output_tokens, cache_read_tokens, cache_write_tokens, cost_microusd, turns, run_us, "     \
        "waiting ->> 'for', waiting ->> 'question', depth, stop_requested, blueprint, "            \
        "control, asked, report"

static const char session_row[] =
        "SELECT " SESSION_COLUMNS " FROM core.session WHERE session_id = $1";
static const char session_recents[] =
        "SELECT idem, seq, span, id FROM core.event WHERE session_id = $1 AND idem IS NOT NULL "
        "ORDER BY seq DESC LIMIT $2::int";
static const char session_approvals[] =
        "SELECT approval_id, digest, subject, call_id, kind, status, scope, decided_seq FROM "
        "core.approval WHERE session_id = $1 AND (status = 'pending' OR (scope = 'session' AND "
        "status IN ('allowed', 'denied')) OR approval_id IN (SELECT approval_id FROM core.approval "
        "WHERE session_id = $1 ORDER BY created_at DESC LIMIT 32)) "
        "ORDER BY created_at, approval_id";
static const char session_purging[] = "SELECT FROM core.purge WHERE session_id = $1";

const char store_live_ids[] =
        "SELECT session_id FROM core.session "
        "WHERE worker_id IS NOT NULL OR status IN ('queued', 'starting', 'running')";

static char *column(const PGresult *r, int col)
{
        return xstrdup(pg_str(r, 0, col));
}

static uint64_t number(const PGresult *r, int col)
{
        return (uint64_t) pg_i64(r, 0, col);
}

static int read_row(const PGresult *r, struct session *s)
{
        int c = 0;

        s->tenant = column(r, c++);
        s->name = column(r, c++);
        if (session_state_parse(pg_str(r, 0, c++), &s->state) < 0 ||
            slot_kind_parse(pg_str(r, 0, c++), &s->kind) < 0)
                return -EBADMSG;
        s->agent_name = column(r, c++);
        s->model = column(r, c++);
        s->project_dir = column(r, c++);
        s->metadata = column(r, c++);
        s->budget = column(r, c++);
        s->files = column(r, c++);
        s->network = column(r, c++);
        s->image = column(r, c++);
        s->width = (uint32_t) number(r, c++);
        s->height = (uint32_t) number(r, c++);
        s->parent = column(r, c++);
        s->created_us = number(r, c++);
        s->modified_us = number(r, c++);
        s->queued_us = number(r, c++);
        s->running_since_us = number(r, c++);
        s->last_seq = number(r, c++);
        s->last_message_seq = number(r, c++);
        s->epoch = number(r, c++);
        s->worker_id = column(r, c++);
        s->slot = column(r, c++);
        s->losses = (unsigned) number(r, c++);
        s->error = column(r, c++);
        s->usage.input_tokens = number(r, c++);
        s->usage.output_tokens = number(r, c++);
        s->usage.cache_read_tokens = number(r, c++);
        s->usage.cache_write_tokens = number(r, c++);
        s->usage.cost_microusd = number(r, c++);
        s->usage.turns = number(r, c++);
        s->run_us = number(r, c++);
        if (pg_str(r, 0, c) && waiting_for_parse(pg_str(r, 0, c), &s->waiting_for) < 0)
                return -EBADMSG;
        s->question = column(r, ++c);
        c++;
        s->depth = (unsigned) number(r, c++);
        s->stop_requested = pg_bool(r, 0, c++);
        s->blueprint = column(r, c++);
        if (control_read(s, pg_str(r, 0, c++)) < 0)
                return -EBADMSG;
        s->asked = column(r, c++);
        s->report = column(r, c++);
        return 0;
}

struct reload {
        struct session *session;
        store_reload_fn fn;
        void *userdata;
};

static int reload_read(struct session *s, PGresult **results)
{
        int r = 0;

        session_clear(s);
        if (PQntuples(results[0]) > 0) {
                r = read_row(results[0], s);
                s->exists = r == 0;
        }
        for (int i = PQntuples(results[1]) - 1; i >= 0; i--) {
                uint64_t first = (uint64_t) pg_i64(results[1], i, 1);
                session_remember(s, pg_str(results[1], i, 0), (uint64_t) pg_i64(results[1], i, 3),
                                 first, first + (uint64_t) pg_i64(results[1], i, 2) - 1);
        }
        s->purging = PQntuples(results[2]) > 0;
        approvals_read(s, results[3]);
        s->loaded = r == 0;
        s->idle_since = now_monotonic();
        return r;
}

static void on_reload(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct reload *l = userdata;

        if (r == 0) {
                r = reload_read(l->session, results);
                session_place(l->session);
        }
        l->fn(l->userdata, r);
        (void) session_unref(l->session);
        free(l);
}

int store_session_reload(struct pg_pool *p, struct session *s, store_reload_fn fn, void *userdata)
{
        struct pg_batch *b = pg_batch_new();
        struct reload *l = xnew(struct reload);

        *l = (struct reload){ session_ref(s), fn, userdata };
        pg_batch_add(b, session_row, "s", s->id);
        pg_batch_add(b, session_recents, "si", s->id, (int64_t) SESSION_RECENT);
        pg_batch_add(b, session_purging, "s", s->id);
        pg_batch_add(b, session_approvals, "s", s->id);
        int r = pg_submit(p, b, on_reload, l);
        if (r < 0) {
                (void) session_unref(s);
                free(l);
        }
        return r;
}

/* ---- group commit ---- */

static const char batch_begin[] = "SELECT core.batch_begin($1::bigint, $2::bigint, $3::bigint)";

static const char session_insert[] =
        "WITH alive AS (DELETE FROM core.tombstone WHERE session_id = $1) "
        "INSERT INTO core.session (session_id, tenant, status, kind, model, budget, files, "
        "network, "
        "image, width, height, parent_session_id, created_at, modified_at, queued_at, depth, "
        "blueprint) "
        "VALUES ($1, $2, 'queued', $3, $4, $5::json, $6::json, $7::json, $8, NULLIF($9::int, 0), "
        "NULLIF($10::int, 0), $11, $12::timestamptz, $12::timestamptz, $12::timestamptz, $13::int, "
        "$14::json)";

static const char session_update[] =
        "UPDATE core.session s SET session_name = u.session_name, agent_name = u.agent_name, "
        "project_dir = u.project_dir, metadata = u.metadata, budget = u.budget, status = u.status, "
        "modified_at = u.modified_at, queued_at = u.queued_at, last_seq = u.last_seq, "
        "last_message_seq = u.last_message_seq, epoch = u.epoch, worker_id = u.worker_id, "
        "slot = u.slot, losses = u.losses, error = u.error, input_tokens = u.input_tokens, "
        "output_tokens = u.output_tokens, cache_read_tokens = u.cache_read_tokens, "
        "cache_write_tokens = u.cache_write_tokens, cost_microusd = u.cost_microusd, "
        "turns = u.turns, run_us = u.run_us, running_since = u.running_since, "
        "waiting = u.waiting, stop_requested = u.stop_requested, control = u.control, "
        "asked = u.asked, report = u.report "
        "FROM json_to_recordset($1::json) AS u (session_id text, session_name text, "
        "agent_name text, project_dir text, metadata json, budget json, status text, modified_at "
        "timestamptz, "
        "queued_at timestamptz, last_seq bigint, last_message_seq bigint, epoch bigint, "
        "worker_id text, slot json, losses int, error json, input_tokens bigint, "
        "output_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint, "
        "cost_microusd bigint, turns bigint, run_us bigint, running_since timestamptz, "
        "waiting json, stop_requested bool, control json, asked json, report json) "
        "WHERE s.session_id = u.session_id";

#define COLUMN(n) "string_to_array($" #n ", E'\\x1f')"

/* Sessions that only got events. */
static const char session_touch[] =
        "UPDATE core.session s SET last_seq = u.last_seq, modified_at = $1::timestamptz "
        "FROM unnest(" COLUMN(2) ", " COLUMN(3) "::bigint[]) AS u (session_id, last_seq) "
                                                "WHERE s.session_id = u.session_id";

static const char event_insert[] =
        "INSERT INTO core.event (id, session_id, seq, tenant, event_type, ts, json, idem, span) "
        "SELECT e.id::bigint, e.session_id, e.seq::bigint, e.tenant, e.event_type, "
        "$1::timestamptz, e.json, NULLIF(e.idem, ''), NULLIF(e.span, '')::int "
        "FROM unnest(" COLUMN(2) ", " COLUMN(3) ", " COLUMN(4) ", " COLUMN(5) ", " COLUMN(
                6) ", " COLUMN(7) ", " COLUMN(8) ", " COLUMN(9) ") "
                                                                "AS e (id, session_id, seq, "
                                                                "tenant, event_type, "
                                                                "json, idem, span)";

static const char event_copies[] =
        "INSERT INTO core.event (id, session_id, seq, tenant, event_type, ts, json) "
        "SELECT $1::bigint + seq - $5::bigint, $2::text, seq, tenant, event_type, $3::timestamptz, "
        "core.event_copy(json, $4::text, $2::text, $1::bigint + seq - $5::bigint, seq) "
        "FROM core.event WHERE session_id = $4::text AND seq BETWEEN $5::bigint AND $6::bigint";

static const char batch_seqs[] = "SELECT core.batch_seqs(" COLUMN(1) ", " COLUMN(2) "::bigint[])";

static const char attachment_insert[] =
        "INSERT INTO core.attachment (session_id, digest, media_type, data) "
        "VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (session_id, digest) DO UPDATE SET created_at = EXCLUDED.created_at";

static const char idempotency_insert[] =
        "INSERT INTO core.idempotency (tenant, scope, key, request_digest, session_id, message_id, "
        "seq) VALUES ($1, $2, $3, $4, $5, $6, NULLIF($7::bigint, 0))";

static const char approval_insert[] =
        "INSERT INTO core.approval (approval_id, session_id, tenant, kind, subject, bound, digest, "
        "details, call_id, status, scope, requested_seq, created_at, expires_at) "
        "SELECT approval_id, session_id, tenant, kind, subject, bound, digest, details, "
        "tool_call_id, status, 'once', requested_seq, $1::timestamptz, expires_at "
        "FROM json_to_recordset($2::json) AS u (approval_id text, session_id text, tenant text, "
        "kind text, subject text, bound json, digest text, details json, tool_call_id text, "
        "status text, requested_seq bigint, expires_at timestamptz)";
static const char approval_update[] =
        "UPDATE core.approval a SET status = u.status, scope = u.scope, note = u.note, "
        "decided_by = u.decided_by, decided_seq = u.decided_seq, decided_at = $1::timestamptz "
        "FROM json_to_recordset($2::json) AS u (approval_id text, status text, scope text, "
        "note text, decided_by text, decided_seq bigint) WHERE a.approval_id = u.approval_id";
static const char approval_delete[] = "DELETE FROM core.approval WHERE session_id = $1";

const char store_usage_add[] =
        "INSERT INTO core.usage AS have SELECT tenant, ($1::timestamptz AT TIME ZONE 'UTC')::date, "
        "session_id, model, max(agent_name), sum(calls), sum(input_tokens), sum(output_tokens), "
        "sum(cache_read_tokens), sum(cache_write_tokens), sum(cost_microusd) "
        "FROM json_to_recordset($2::json) AS u (tenant text, session_id text, model text, "
        "agent_name text, calls bigint, input_tokens bigint, output_tokens bigint, "
        "cache_read_tokens bigint, cache_write_tokens bigint, cost_microusd bigint) "
        "GROUP BY tenant, session_id, model "
        "ON CONFLICT (tenant, day, session_id, model) DO UPDATE SET "
        "calls = have.calls + EXCLUDED.calls, "
        "input_tokens = have.input_tokens + EXCLUDED.input_tokens, "
        "output_tokens = have.output_tokens + EXCLUDED.output_tokens, "
        "cache_read_tokens = have.cache_read_tokens + EXCLUDED.cache_read_tokens, "
        "cache_write_tokens = have.cache_write_tokens + EXCLUDED.cache_write_tokens, "
        "cost_microusd = have.cost_microusd + EXCLUDED.cost_microusd";

static const char session_delete[] = "DELETE FROM core.session WHERE session_id = $1";
static const char session_delete_idempotency[] =
        "DELETE FROM core.idempotency WHERE session_id = $1";
static const char purge_insert[] =
        "INSERT INTO core.purge (session_id) VALUES ($1) ON CONFLICT DO NOTHING";

static const char tombstone_insert[] =
        "INSERT INTO core.tombstone (session_id, tenant) VALUES ($1, $2) "
        "ON CONFLICT (session_id) DO UPDATE SET deleted_at = EXCLUDED.deleted_at";

static const char sessions_json[] = "SELECT s.session_id, core.session_json(s) FROM core.session s "
                                    "WHERE s.session_id = ANY (" COLUMN(1) ")";

const char store_session_json[] =
        "SELECT core.session_json(s) FROM core.session s WHERE s.session_id = $1";

static void put_member(struct buf *out, const char *name, const char *value)
{
        buf_putf(out, ",\"%s\":", name);
        if (value)
                buf_put_json_string(out, value, strlen(value));
        else
                buf_puts(out, "null");
}

static void put_json(struct buf *out, const char *name, const char *json)
{
        buf_putf(out, ",\"%s\":%s", name, json ? json : "null");
}

static void put_number(struct buf *out, const char *name, uint64_t v)
{
        buf_putf(out, ",\"%s\":%" PRIu64, name, v);
}

static void put_time(struct buf *out, const char *name, uint64_t us)
{
        char text[TIMESTAMP_MAX];

        timestamp_format(us, text);
        put_member(out, name, us ? text : NULL);
}

static void put_session(struct buf *out, const struct session *s)
{
        cleanup_free char *control = control_text(s);

        buf_putf(out, "%s{\"session_id\":\"%s\"", out->len > 1 ? "," : "", s->id);
        put_member(out, "session_name", s->name);
        put_member(out, "agent_name", s->agent_name);
        put_member(out, "project_dir", s->project_dir);
        put_json(out, "metadata", s->metadata);
        put_json(out, "budget", s->budget);
        put_member(out, "status", session_state_name(s->state));
        put_time(out, "modified_at", s->modified_us);
        put_time(out, "queued_at", s->queued_us);
        put_number(out, "last_seq", s->last_seq);
        put_number(out, "last_message_seq", s->last_message_seq);
        put_number(out, "epoch", s->epoch);
        put_member(out, "worker_id", s->worker_id);
        put_json(out, "control", control);
        put_json(out, "slot", s->slot);
        put_number(out, "losses", s->losses);
        put_json(out, "error", s->error);
        put_number(out, "input_tokens", s->usage.input_tokens);
        put_number(out, "output_tokens", s->usage.output_tokens);
        put_number(out, "cache_read_tokens", s->usage.cache_read_tokens);
        put_number(out, "cache_write_tokens", s->usage.cache_write_tokens);
        put_number(out, "cost_microusd", s->usage.cost_microusd);
        put_number(out, "turns", s->usage.turns);
        put_number(out, "run_us", s->run_us);
        put_time(out, "running_since", s->running_since_us);
        buf_putf(out, ",\"stop_requested\":%s", s->stop_requested ? "true" : "false");
        put_json(out, "asked", s->asked);
        put_json(out, "report", s->report);
        if (s->state == SESSION_STATE_WAITING) {
                buf_putf(out, ",\"waiting\":{\"for\":\"%s\"", waiting_for_name(s->waiting_for));
                put_member(out, "question", s->question);
                buf_puts(out, "}");
        } else {
                put_json(out, "waiting", NULL);
        }
        buf_puts(out, "}");
}

/* New rows; then every session must stand where the batch begins. */
static void add_inserts(struct pg_batch *p, const struct hub_batch *b)
{
        cleanup_buf struct buf ids = BUF_INIT, before = BUF_INIT;

        for (size_t i = 0; i < b->n_sessions; i++) {
                const struct session *s = b->sessions[i];
                if (s->batch.inserted)
                        pg_batch_add(p, session_insert, "ssssssssuussus", s->id, s->tenant,
                                     slot_kind_name(s->kind), s->model, s->budget, s->files,
                                     s->network, s->image, (uint64_t) s->width,
                                     (uint64_t) s->height, s->parent, b->now_text,
                                     (uint64_t) s->depth, s->blueprint);
                buf_putf(&ids, "%s%s", i > 0 ? SEPARATOR : "", s->id);
                buf_putf(&before, "%s%" PRIu64, i > 0 ? SEPARATOR : "", s->batch.before);
        }
        if (b->n_sessions > 0)
                pg_batch_add(p, batch_seqs, "tt", (struct span){ ids.data, ids.len },
                             (struct span){ before.data, before.len });
}

static void add_sessions(struct pg_batch *p, const struct hub_batch *b)
{
        cleanup_buf struct buf full = BUF_INIT, ids = BUF_INIT, seqs = BUF_INIT;

        add_inserts(p, b);
        buf_puts(&full, "[");
        for (size_t i = 0; i < b->n_sessions; i++) {
                const struct session *s = b->sessions[i];
                if (s->batch.full) {
                        put_session(&full, s);
                        continue;
                }
                buf_putf(&ids, "%s%s", ids.len > 0 ? SEPARATOR : "", s->id);
                buf_putf(&seqs, "%s%" PRIu64, seqs.len > 0 ? SEPARATOR : "", s->last_seq);
        }
        buf_puts(&full, "]");
        if (full.len > 2)
                pg_batch_add(p, session_update, "t", (struct span){ full.data, full.len });
        if (ids.len > 0)
                pg_batch_add(p, session_touch, "stt", b->now_text,
                             (struct span){ ids.data, ids.len },
                             (struct span){ seqs.data, seqs.len });
}

enum { COL_ID, COL_SESSION, COL_SEQ, COL_TENANT, COL_TYPE, COL_JSON, COL_IDEM, COL_SPAN, COL_MAX };

static void put_event(struct buf *cols, const struct hub_batch *b, const struct batch_event *e,
                      bool first)
{
        if (!first)
                for (size_t c = 0; c < COL_MAX; c++)
                        buf_puts(&cols[c], SEPARATOR);
        buf_putf(&cols[COL_ID], "%" PRIu64, e->id);
        buf_puts(&cols[COL_SESSION], e->session->id);
        buf_putf(&cols[COL_SEQ], "%" PRIu64, e->seq);
        buf_puts(&cols[COL_TENANT], e->session->tenant);
        buf_puts(&cols[COL_TYPE], event_type_name(e->type));
        buf_put(&cols[COL_JSON], b->json.data + e->json_at, e->json_len);
        if (e->idem) {
                buf_puts(&cols[COL_IDEM], e->idem);
                buf_putf(&cols[COL_SPAN], "%" PRIu32, e->span);
        }
}

static void add_events(struct pg_batch *p, const struct hub_batch *b)
{
        struct buf cols[COL_MAX] = { 0 };
        struct span t[COL_MAX];

        if (b->n_events == 0)
                return;
        for (size_t i = 0; i < b->n_events; i++)
                put_event(cols, b, &b->events[i], i == 0);
        for (size_t c = 0; c < COL_MAX; c++)
                t[c] = (struct span){ cols[c].data ? cols[c].data : "", cols[c].len };
        pg_batch_add(p, event_insert, "stttttttt", b->now_text, t[COL_ID], t[COL_SESSION],
                     t[COL_SEQ], t[COL_TENANT], t[COL_TYPE], t[COL_JSON], t[COL_IDEM], t[COL_SPAN]);
        for (size_t c = 0; c < COL_MAX; c++)
                buf_done(&cols[c]);
}

static void published_ids(const struct hub_batch *b, struct buf *ids)
{
        for (size_t i = 0; i < b->n_sessions; i++)
                if (b->sessions[i]->batch.publish && !b->sessions[i]->batch.deleted)
                        buf_putf(ids, "%s%s", ids->len > 0 ? SEPARATOR : "", b->sessions[i]->id);
}

/* Rows that were collected as members of a JSON array. */
static void add_rows(struct pg_batch *p, const struct hub_batch *b, const char *sql,
                     const struct buf *rows)
{
        cleanup_buf struct buf array = BUF_INIT;

        if (rows->len == 0)
                return;
        buf_puts(&array, "[");
        buf_put(&array, rows->data, rows->len);
        buf_puts(&array, "]");
        pg_batch_add(p, sql, "st", b->now_text, (struct span){ array.data, array.len });
}

int store_batch_commit(struct pg_pool *p, const struct hub_batch *b, pg_done_fn fn, void *userdata)
{
        struct pg_batch *q = pg_batch_new();
        cleanup_buf struct buf ids = BUF_INIT;

        pg_batch_add(q, batch_begin, "uuu", b->term, b->number, b->cursor);
        add_sessions(q, b);
        add_events(q, b);
        for (size_t i = 0; i < b->n_copies; i++) {
                const struct batch_copy *c = &b->copies[i];
                pg_batch_add(q, event_copies, "usssuu", c->first_id, c->session->id, b->now_text,
                             c->from->id, c->oldest, c->last_seq);
                pg_batch_add(q, store_purge_done, "s", c->session->id);
        }
        add_rows(q, b, approval_insert, &b->approvals_new);
        add_rows(q, b, approval_update, &b->approvals_decided);
        add_rows(q, b, store_usage_add, &b->usage);
        for (size_t i = 0; i < b->n_attachments; i++) {
                const struct batch_attachment *a = &b->attachments[i];
                pg_batch_add(q, attachment_insert, "sssb", a->session->id, a->a->digest,
                             a->a->media_type, a->a->data);
        }
        for (size_t i = 0; i < b->n_idempotency; i++) {
                const struct batch_idempotency *k = &b->idempotency[i];
                pg_batch_add(q, idempotency_insert, "ssssssu", k->tenant, k->scope, k->key,
                             k->digest, k->session_id, k->message_id, k->seq);
        }
        for (size_t i = 0; i < b->n_sessions; i++) {
                if (!b->sessions[i]->batch.deleted)
                        continue;
                pg_batch_add(q, session_delete, "s", b->sessions[i]->id);
                pg_batch_add(q, session_delete_idempotency, "s", b->sessions[i]->id);
                pg_batch_add(q, approval_delete, "s", b->sessions[i]->id);
                pg_batch_add(q, purge_insert, "s", b->sessions[i]->id);
                pg_batch_add(q, tombstone_insert, "ss", b->sessions[i]->id, b->sessions[i]->tenant);
        }
        audit_commit(q, b);
        published_ids(b, &ids);
        pg_batch_add(q, sessions_json, "t", (struct span){ ids.data ? ids.data : "", ids.len });
        return pg_submit(p, q, fn, userdata);
}

const char store_batch_void[] =
        "WITH v AS (UPDATE core.hub SET batch = $2::bigint + 1 WHERE term = $1::bigint AND "
        "batch = $2::bigint - 1 RETURNING batch) "
        "SELECT h.term, h.batch, v.batch FROM core.hub h LEFT JOIN v ON true";

int store_batch_read_jsons(struct pg_pool *p, const struct hub_batch *b, pg_done_fn fn,
                           void *userdata)
{
        cleanup_buf struct buf ids = BUF_INIT;

        published_ids(b, &ids);
        return pg_query(p, fn, userdata, sessions_json, "t",
                        (struct span){ ids.data ? ids.data : "", ids.len });
}

void store_batch_jsons(struct hub_batch *b, const PGresult *last)
{
        if (PQntuples(last) == 0)
                return;
        if (!b->session_json)
                b->session_json = xnewn(char *, b->n_sessions);
        for (int row = 0; row < PQntuples(last); row++) {
                const char *id = pg_str(last, row, 0);
                for (size_t i = 0; i < b->n_sessions; i++)
                        if (streq(b->sessions[i]->id, id) && !b->session_json[i])
                                b->session_json[i] = xstrdup(pg_str(last, row, 1));
        }
}

/* ---- the rest ---- */

/* -> request_digest, session_id, message_id, seq, object */
const char store_idempotency_find[] =
        "SELECT request_digest, session_id, message_id, seq, object FROM core.idempotency "
        "WHERE tenant = $1 AND scope = $2 AND key = $3";
const char store_idempotency_object[] =
        "INSERT INTO core.idempotency (tenant, scope, key, request_digest, session_id, object) "
        "VALUES ($1, $2, $3, $4, '', $5)";

/* -> json, seq, the session's last_seq; in seq order: at least one event, then until `bytes` are
 * full. */
const char store_history[] =
        "SELECT json, seq, (SELECT last_seq FROM core.session WHERE session_id = $1) FROM ("
        "SELECT json, seq, sum(length(json)) OVER (ORDER BY seq) AS total FROM ("
        "SELECT json, seq FROM core.event WHERE session_id = $1 AND seq > $2::bigint "
        "ORDER BY seq LIMIT $3::bigint) AS page) AS sums "
        "WHERE total - length(json) < $4::bigint ORDER BY seq";

/* -> media_type, data */
const char store_attachment[] =
        "SELECT media_type, data FROM core.attachment WHERE session_id = $1 AND digest = $2";

const char store_purge_list[] = "SELECT session_id FROM core.purge WHERE deleted_at <= now() ORDER "
                                "BY deleted_at LIMIT $1::int";
const char store_purge_events[] =
        "WITH gone AS (DELETE FROM core.event WHERE session_id = $1 AND seq IN (SELECT seq FROM "
        "core.event WHERE session_id = $1 ORDER BY seq LIMIT $2::int) RETURNING 1) "
        "SELECT count(*) FROM gone";
const char store_purge_attachments[] =
        "WITH gone AS (DELETE FROM core.attachment WHERE session_id = $1 AND digest IN (SELECT "
        "digest FROM core.attachment WHERE session_id = $1 LIMIT $2::int) RETURNING 1) "
        "SELECT count(*) FROM gone";
const char store_purge_done[] = "DELETE FROM core.purge WHERE session_id = $1";

const char store_idempotency_expire[] =
        "DELETE FROM core.idempotency WHERE ctid = ANY (ARRAY(SELECT ctid FROM core.idempotency "
        "WHERE created_at < now() - $1::bigint * interval '1 second' LIMIT $2::int))";

const char store_partitions[] = "SELECT core.event_partition_add(now() + n * interval '1 month') "
                                "FROM generate_series(0, 2) AS n";
const char store_expire_events[] =
        "SELECT core.event_expire(now() - $1::bigint * interval '1 second', $2::bigint)";
const char store_expire_attachments[] =
        "WITH gone AS (DELETE FROM core.attachment WHERE ctid = ANY (ARRAY(SELECT ctid FROM "
        "core.attachment WHERE created_at < now() - $1::bigint * interval '1 second' "
        "LIMIT $2::int)) RETURNING 1) SELECT count(*) FROM gone";
const char store_expire_tombstones[] =
        "DELETE FROM core.tombstone WHERE deleted_at < now() - interval '1 day'";

/* -> oldest seq that is there (NULL: none), newest user message up to $2 */
const char store_fork_look[] =
        "SELECT (SELECT min(seq) FROM core.event WHERE session_id = $1), "
        "(SELECT max(seq) FROM core.event WHERE session_id = $1 AND seq <= $2::bigint AND "
        "event_type = 'message' AND json::json ->> 'role' = 'user')";
/* What is copied before the session is stored goes away with the guard's hour, should we die. */
const char store_fork_guard[] = "INSERT INTO core.purge (session_id, deleted_at) VALUES ($1, now() "
                                "+ interval '1 hour')";
const char store_fork_attachments[] =
        "WITH copied AS (INSERT INTO core.attachment (session_id, digest, media_type, data) "
        "SELECT $2, digest, media_type, data FROM core.attachment a WHERE session_id = $1 AND NOT "
        "EXISTS (SELECT FROM core.attachment b WHERE b.session_id = $2 AND b.digest = a.digest) "
        "LIMIT $3::int RETURNING 1) SELECT count(*) FROM copied";

/* -> session_id, idem, id, seq */
const char store_idems_find[] =
        "SELECT session_id, idem, id, seq FROM core.event "
        "WHERE session_id = ANY (" COLUMN(1) ") AND idem = ANY (" COLUMN(2) ")";

const char store_workers_write[] =
        "INSERT INTO core.worker (worker_id, instance, version, online, draining, state, kind, "
        "kinds, session_id, epoch, endpoint, slot, load, limits, greeted_at, heartbeat_at) "
        "SELECT worker_id, instance, version, online, draining, state, kind, "
        "string_to_array(kinds, ','), session_id, epoch, endpoint, slot, load, limits, greeted_at, "
        "heartbeat_at FROM json_to_recordset($1::json) AS u (worker_id text, instance text, "
        "version text, online bool, draining bool, state text, kind text, kinds text, "
        "session_id text, epoch bigint, endpoint text, slot json, load json, limits json, "
        "greeted_at timestamptz, heartbeat_at timestamptz) ON CONFLICT (worker_id) DO UPDATE SET "
        "instance = EXCLUDED.instance, version = EXCLUDED.version, online = EXCLUDED.online, "
        "draining = EXCLUDED.draining, state = EXCLUDED.state, kind = EXCLUDED.kind, "
        "kinds = EXCLUDED.kinds, session_id = EXCLUDED.session_id, epoch = EXCLUDED.epoch, "
        "endpoint = EXCLUDED.endpoint, slot = EXCLUDED.slot, load = EXCLUDED.load, "
        "limits = EXCLUDED.limits, greeted_at = EXCLUDED.greeted_at, "
        "heartbeat_at = EXCLUDED.heartbeat_at";

/* -> worker_id, instance, version, draining, state, kind, kinds (comma list), endpoint, slot, load,
 * limits, greeted and heartbeat in us */
const char store_workers_read[] =
        "SELECT worker_id, instance, version, draining, state, kind, array_to_string(kinds, ','), "
        "endpoint, slot, load, limits, (extract(epoch FROM greeted_at) * 1000000)::bigint, "
        "(extract(epoch FROM heartbeat_at) * 1000000)::bigint FROM core.worker "
        "ORDER BY heartbeat_at DESC LIMIT $1::int";

const char store_fence[] = "SELECT core.fence($1::bigint)";
const char store_approval_json[] = "SELECT core.approval_json(a) FROM core.approval a "
                                   "WHERE approval_id = $1 AND session_id = $2";
/* -> approval_id, session_id */
const char store_approvals_late[] =
        "SELECT approval_id, session_id FROM core.approval WHERE status = 'pending' AND "
        "expires_at <= now() ORDER BY expires_at LIMIT 100";

const char store_status_write[] =
        "INSERT INTO core.status (process, json, updated_at) VALUES ($1, $2::json, now()) "
        "ON CONFLICT (process) DO UPDATE SET json = EXCLUDED.json, updated_at = "
        "EXCLUDED.updated_at";

const char store_token_exists[] = "SELECT EXISTS (SELECT FROM core.auth_token)";
const char store_token_add[] = "INSERT INTO core.auth_token (token_hash, name, role, tenant) "
                               "VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
