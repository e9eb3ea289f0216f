/* The table of workers, their state machine, and their rows in the database. */
#include "worker.h"

#include "approval.h"
#include "common/base/json.h"
#include "common/io/log.h"
#include "store.h"

#define CANCEL_TIMEOUT (10 * USEC_PER_SEC)

#define BIT(s) (UINT32_C(1) << WORKER_##s)
static const uint32_t allowed[WORKER_STATE_MAX] = {
        [WORKER_OFFLINE] = BIT(FREE) | BIT(HOLDING) | BIT(RELEASING),
        [WORKER_FREE] = BIT(OFFLINE) | BIT(RESERVED) | BIT(RELEASING),
        [WORKER_RESERVED] = BIT(OFFLINE) | BIT(FREE) | BIT(HOLDING) | BIT(RELEASING),
        [WORKER_HOLDING] = BIT(OFFLINE) | BIT(FREE) | BIT(RELEASING),
        [WORKER_RELEASING] = BIT(OFFLINE) | BIT(FREE) | BIT(HOLDING),
};

const char *worker_state_name(int state)
{
        static const char *const names[WORKER_STATE_MAX] = {
                [WORKER_OFFLINE] = "offline",     [WORKER_FREE] = "free",
                [WORKER_RESERVED] = "reserved",   [WORKER_HOLDING] = "holding",
                [WORKER_RELEASING] = "releasing",
        };
        return state >= 0 && state < WORKER_STATE_MAX ? names[state] : "?";
}

const struct state_table worker_states = {
        .what = "worker",
        .name = worker_state_name,
        .allowed = allowed,
        .max = WORKER_STATE_MAX,
};

static void flush(void *userdata);

int workers_init(struct workers *t, sd_event *e, struct pg_pool *pool, size_t max)
{
        *t = (struct workers){ .by_id = map_new(), .max = max, .pool = pool };
        return loop_task_init(&t->flush, e, flush, t);
}

static void worker_free(struct worker *w)
{
        if (w->peer)
                rpc_peer_set_userdata(w->peer, NULL);
        free(w->endpoint);
        free(w->limits);
        free(w->load);
        free(w->slot);
        free(w->image);
        free(w);
}

void workers_done(struct workers *t)
{
        size_t iter = 0;
        void *w;

        if (!t->by_id)
                return;
        pg_forget(t->pool, t);
        loop_task_done(&t->flush);
        while (map_next(t->by_id, &iter, NULL, &w))
                worker_free(w);
        t->by_id = map_free(t->by_id);
}

struct worker *workers_find(struct workers *t, const char *id)
{
        return id ? map_get(t->by_id, id) : NULL;
}

/* Forgets the worker that has been away longest and holds nothing. */
static int make_room(struct workers *t)
{
        struct worker *oldest = NULL;
        size_t iter = 0;
        void *p;

        while (map_next(t->by_id, &iter, NULL, &p)) {
                struct worker *w = p;
                if (w->state == WORKER_OFFLINE && !w->session_id[0] &&
                    (!oldest || w->heartbeat_us < oldest->heartbeat_us))
                        oldest = w;
        }
        if (!oldest)
                return -ENOSPC;
        (void) map_remove(t->by_id, oldest->id);
        worker_free(oldest);
        return 0;
}

int workers_get(struct workers *t, const char *id, struct worker **ret)
{
        struct worker *w = workers_find(t, id);

        if (!w) {
                int r = map_count(t->by_id) < t->max ? 0 : make_room(t);
                if (r < 0)
                        return r;
                w = xnew(struct worker);
                (void) snprintf(w->id, sizeof(w->id), "%s", id);
                w->endpoint = xstrdup("");
                w->limits = xstrdup("{}");
                w->load = xstrdup("{}");
                w->slot = xstrdup("{}");
                (void) map_set(t->by_id, id, w);
        }
        *ret = w;
        return 0;
}

static void replace(char **place, const char *text)
{
        free(*place);
        *place = xstrdup(text ? text : "");
}

static uint32_t parse_kinds(const char *list)
{
        cleanup_free char *copy = xstrdup(list ? list : "");
        uint32_t kinds = 0;
        char *save = NULL;

        for (char *k = strtok_r(copy, ",", &save); k; k = strtok_r(NULL, ",", &save)) {
                enum slot_kind kind;
                if (slot_kind_parse(k, &kind) >= 0)
                        kinds |= UINT32_C(1) << kind;
        }
        return kinds;
}

void workers_load(struct workers *t, const PGresult *r)
{
        for (int i = 0; i < PQntuples(r); i++) {
                struct worker *w;
                if (!session_id_valid(pg_str(r, i, 0)) || workers_get(t, pg_str(r, i, 0), &w) < 0)
                        continue;
                (void) snprintf(w->instance, sizeof(w->instance), "%s", pg_str(r, i, 1));
                (void) snprintf(w->version, sizeof(w->version), "%s", pg_str(r, i, 2));
                w->draining = pg_bool(r, i, 3);
                enum slot_state slot = SLOT_STATE_COLD;
                if (slot_state_parse(pg_str(r, i, 4), &slot) < 0)
                        slot = SLOT_STATE_COLD;
                worker_set_slot(t, w, slot, "as it was stored");
                if (slot_kind_parse(pg_str(r, i, 5), &w->kind) < 0)
                        w->kind = SLOT_KIND_HEADLESS;
                w->kinds = parse_kinds(pg_str(r, i, 6));
                replace(&w->endpoint, pg_str(r, i, 7));
                replace(&w->slot, pg_str(r, i, 8));
                replace(&w->load, pg_str(r, i, 9));
                replace(&w->limits, pg_str(r, i, 10));
                w->greeted_us = (uint64_t) pg_i64(r, i, 11);
                w->heartbeat_us = (uint64_t) pg_i64(r, i, 12);
                worker_changed(t, w); /* it is offline until it greets */
        }
}

void worker_changed(struct workers *t, struct worker *w)
{
        w->dirty = true;
        if (!t->writing)
                loop_task_queue(&t->flush);
}

void worker_set_state(struct workers *t, struct worker *w, enum worker_state to, const char *why)
{
        enum worker_state from = w->state;

        if (from == to)
                return;
        if (state_check(&worker_states, (int) from, (int) to) < 0) {
                log_error("worker %s: %s -> %s is not allowed (%s)", w->id, worker_state_name(from),
                          worker_state_name(to), why);
                return;
        }
        log_info("worker %s: %s -> %s (%s)", w->id, worker_state_name(from), worker_state_name(to),
                 why);
        w->state = to;
        if (to == WORKER_FREE)
                w->free_since = now_monotonic();
        worker_changed(t, w);
}

/* Every change is possible: the worker tells what is, seldom every step on the way. */
void worker_set_slot(struct workers *t, struct worker *w, enum slot_state to, const char *why)
{
        if (w->slot_state == to)
                return;
        log_debug("worker %s: slot %s -> %s (%s)", w->id, slot_state_name(w->slot_state),
                  slot_state_name(to), why);
        w->slot_state = to;
        worker_changed(t, w);
}

void worker_bind(struct workers *t, struct worker *w, const char *session_id, uint64_t epoch)
{
        (void) snprintf(w->session_id, sizeof(w->session_id), "%s", session_id ? session_id : "");
        w->epoch = session_id ? epoch : 0;
        w->settled = false;
        worker_changed(t, w);
}

static int read_object(struct span text, json_t **ret)
{
        struct json_problem problem;
        cleanup_json json_t *j = NULL;
        int r = json_parse(text.data, text.len, &j, &problem);

        if (r < 0 || !json_is_object(j))
                return -EINVAL;
        *ret = TAKE_PTR(j);
        return 0;
}

static uint32_t pixels(const json_t *slot, const char *name)
{
        json_int_t v = json_integer_value(json_object_get(slot, name));
        return v > 0 && v <= UINT16_MAX ? (uint32_t) v : 0;
}

int worker_report(struct workers *t, struct worker *w, enum slot_kind kind, enum slot_state state,
                  struct span slot, struct span load)
{
        cleanup_json json_t *s = NULL, *l = NULL;
        const char *image;

        if (read_object(slot, &s) < 0 || read_object(load, &l) < 0)
                return -EINVAL;
        image = json_string_value(json_object_get(s, "image"));
        free(w->image);
        w->image = xstrdup(image);
        w->width = pixels(s, "width");
        w->height = pixels(s, "height");
        free(w->slot);
        w->slot = json_text(s);
        free(w->load);
        w->load = json_text(l);
        worker_set_slot(t, w, state, "told");
        w->kind = kind;
        w->heartbeat_us = now_realtime();
        w->heard_at = now_monotonic();
        worker_changed(t, w);
        return 0;
}

static void on_cancelled(void *userdata, int r, const void *reply)
{
        /* What the worker holds is learned from its heartbeats; a lost answer changes nothing. */
}

void worker_cancel(struct workers *t, struct worker *w, const char *session_id, uint64_t epoch,
                   enum cancel_reason reason)
{
        struct session_cancel m = { .session_id = session_id, .epoch = epoch, .reason = reason };

        if (!w || !w->peer)
                return;
        int r = rpc_call(w->peer, &wire_session_cancel, &m, CANCEL_TIMEOUT, on_cancelled, t);
        if (r < 0)
                (void) log_errno(LOG_WARNING, r, "worker %s: cannot cancel %s", w->id, session_id);
        if (w->state == WORKER_HOLDING && streq(w->session_id, session_id))
                worker_set_state(t, w, WORKER_RELEASING, cancel_reason_name(reason));
}

void worker_notify(struct worker *w, const struct session *s)
{
        struct message_notify m = {
                .session_id = s->id,
                .epoch = s->epoch,
                .seq = session_input_seq(s),
                .session_state = s->state,
                .has_session_state = true,
                .budget = span_of(s->budget),
        };

        if (!w || !w->peer || w->state != WORKER_HOLDING || !streq(w->session_id, s->id))
                return;
        TRACE_SCOPE(&s->trace);
        int r = rpc_send(w->peer, &wire_message_notify, &m);
        if (r < 0)
                (void) log_errno(LOG_WARNING, r, "worker %s: cannot notify", w->id);
}

/* ---- rows ---- */

static void put(struct buf *out, const char *name, const char *text)
{
        buf_putf(out, ",\"%s\":", name);
        buf_put_json_string(out, text, strlen(text));
}

static void put_row(struct buf *out, const struct worker *w)
{
        char when[TIMESTAMP_MAX];

        buf_puts(out, out->len > 1 ? ",{\"worker_id\":" : "{\"worker_id\":");
        buf_put_json_string(out, w->id, strlen(w->id));
        put(out, "instance", w->instance);
        put(out, "version", w->version);
        put(out, "state", slot_state_name(w->slot_state));
        put(out, "kind", slot_kind_name(w->kind));
        buf_puts(out, ",\"kinds\":\"");
        for (unsigned k = 0, n = 0; k < SLOT_KIND_MAX; k++)
                if (w->kinds & (UINT32_C(1) << k))
                        buf_putf(out, "%s%s", n++ > 0 ? "," : "", slot_kind_name(k));
        buf_puts(out, "\"");
        if (w->session_id[0])
                put(out, "session_id", w->session_id);
        put(out, "endpoint", w->endpoint);
        timestamp_format(w->greeted_us, when);
        put(out, "greeted_at", when);
        timestamp_format(w->heartbeat_us, when);
        put(out, "heartbeat_at", when);
        buf_putf(out, ",\"epoch\":%" PRIu64 ",\"online\":%s,\"draining\":%s", w->epoch,
                 w->state != WORKER_OFFLINE ? "true" : "false", w->draining ? "true" : "false");
        buf_putf(out, ",\"slot\":%s,\"load\":%s,\"limits\":%s}", w->slot, w->load, w->limits);
}

/* The next tick tries again. */
static void not_written(struct workers *t)
{
        size_t iter = 0;
        void *p;

        while (map_next(t->by_id, &iter, NULL, &p))
                ((struct worker *) p)->dirty = true;
}

static void on_written(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        struct workers *t = userdata;

        t->writing = false;
        if (r == -EREMOTEIO)
                log_warning("workers: not written: %s %s", error->sqlstate, error->message);
        if (r < 0)
                not_written(t);
        else
                workers_tick(t);
}

void workers_tick(struct workers *t)
{
        size_t iter = 0;
        void *p;

        while (map_next(t->by_id, &iter, NULL, &p))
                if (((struct worker *) p)->dirty && !t->writing)
                        loop_task_queue(&t->flush);
}

static void flush(void *userdata)
{
        struct workers *t = userdata;
        cleanup_buf struct buf rows = BUF_INIT;
        size_t iter = 0;
        void *p;

        if (t->writing)
                return;
        buf_puts(&rows, "[");
        while (map_next(t->by_id, &iter, NULL, &p)) {
                struct worker *w = p;
                if (w->dirty)
                        put_row(&rows, w);
                w->dirty = false;
        }
        if (rows.len == 1)
                return;
        buf_puts(&rows, "]");
        t->writing = pg_query(t->pool, on_written, t, store_workers_write, "t",
                              (struct span){ rows.data, rows.len }) >= 0;
        if (!t->writing)
                not_written(t);
}
