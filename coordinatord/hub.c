/* Group commit: one batch at a time from queue to database to bus to answers. */
#include "hub.h"

#include "batch.h"
#include "common/base/fault.h"
#include "common/io/daemon.h"
#include "common/io/log.h"
#include "store.h"

enum hub_state { HUB_IDLE, HUB_COMMITTING, HUB_PAUSING, HUB_REBUILDING, HUB_CLOSED, HUB_STATE_MAX };

static const char *const state_names[HUB_STATE_MAX] = { "idle", "committing", "pausing",
                                                        "rebuilding", "closed" };

#define PAUSE_FIRST (50 * USEC_PER_MSEC)
#define PAUSE_MAX (500 * USEC_PER_MSEC)
#define DOUBTFUL_ATTEMPTS                                                                          \
        5 /* of a batch that timed out or failed inside, before its entries go one by one */

struct hub {
        struct hub_config config;
        enum hub_state state;
        struct loop_task turn;
        struct loop_timer pause;
        struct list queue;
        size_t n_queue, queue_bytes;
        uint64_t number, cursor;
        uint64_t now_us; /* time of the newest batch */
        uint64_t since;  /* monotonic: when the batch under way was first sent */
        struct hub_batch *batch;
        size_t rebuilt;          /* sessions of the batch that were read again */
        bool voiding;            /* the batch is given up: its number is taken from it first */
        struct pg_error refusal; /* why */
        struct hub_counters counters;
};

static void turn(void *userdata);
static void commit(struct hub *h);
static void rebuild_next(struct hub *h);
static void void_batch(struct hub *h);
static void found_stored(struct hub *h);

static void hub_set_state(struct hub *h, enum hub_state to)
{
        if (h->state != to && h->state != HUB_CLOSED) {
                log_debug("hub: %s -> %s", state_names[h->state], state_names[to]);
                h->state = to;
        }
}

static void pause_over(void *userdata)
{
        struct hub *h = userdata;

        if (h->rebuilt < SIZE_MAX)
                rebuild_next(h);
        else if (h->voiding)
                void_batch(h);
        else
                commit(h);
}

int hub_new(const struct hub_config *c, struct hub **ret)
{
        struct hub *h = xnew(struct hub);
        int r;

        h->config = *c;
        h->number = c->batch;
        h->cursor = c->cursor;
        h->rebuilt = SIZE_MAX;
        list_init(&h->queue);
        r = loop_task_init(&h->turn, c->event, turn, h);
        if (r >= 0)
                r = loop_timer_init(&h->pause, c->event, pause_over, h);
        if (r < 0) {
                (void) hub_free(h);
                return r;
        }
        *ret = h;
        return 0;
}

static void end_entry(struct hub *h, struct hub_entry *e, int r, const struct hub_batch *b)
{
        h->n_queue--;
        h->queue_bytes -= e->weight;
        if (r < 0)
                h->counters.refused++;
        e->done(e, r, b);
}

struct hub *hub_free(struct hub *h)
{
        struct list *lists[2];
        struct hub_entry *e;

        if (!h)
                return NULL;
        hub_set_state(h, HUB_CLOSED);
        pg_forget(h->config.pool, h);
        lists[0] = h->batch ? &h->batch->entries : &h->queue;
        lists[1] = &h->queue;
        for (size_t i = 0; i < ARRAY_LEN(lists); i++)
                while ((e = list_first(lists[i], struct hub_entry, link))) {
                        list_remove(&e->link);
                        e->code = ERROR_CODE_UNAVAILABLE;
                        (void) snprintf(e->message, sizeof(e->message),
                                        "the coordinator is stopping");
                        end_entry(h, e, -ECANCELED, NULL);
                }
        h->batch = batch_free(h->batch);
        loop_task_done(&h->turn);
        loop_timer_done(&h->pause);
        free(h);
        return NULL;
}

void hub_submit_own(struct hub *h, struct hub_entry *e)
{
        list_push_back(&h->queue, &e->link);
        h->n_queue++;
        h->queue_bytes += e->weight;
        h->counters.entries++;
        if (h->state == HUB_IDLE)
                loop_task_queue(&h->turn);
}

int hub_submit(struct hub *h, struct hub_entry *e)
{
        const struct hub_config *c = &h->config;

        if (h->state == HUB_CLOSED || h->n_queue >= c->queue_max ||
            (h->n_queue > 0 && h->queue_bytes + e->weight > c->queue_bytes_max)) {
                h->counters.queue_full++;
                return -EAGAIN;
        }
        hub_submit_own(h, e);
        return 0;
}

uint64_t hub_cursor(const struct hub *h)
{
        return h->cursor;
}

size_t hub_waiting(const struct hub *h)
{
        return h->n_queue;
}

uint64_t hub_stuck_usec(const struct hub *h)
{
        return h->batch ? now_monotonic() - h->since : 0;
}

const struct hub_counters *hub_counters(const struct hub *h)
{
        return &h->counters;
}

int hub_refuse(struct hub_entry *e, enum error_code code, const char *fmt, ...)
{
        va_list ap;

        e->code = code;
        va_start(ap, fmt);
        (void) vsnprintf(e->message, sizeof(e->message), fmt, ap);
        va_end(ap);
        return -EREMOTEIO;
}

static void build(struct hub *h)
{
        struct hub_batch *b = batch_new(h->config.term, h->number + 1, h->cursor, h->now_us);
        struct hub_entry *e;

        h->now_us = b->now_us;
        while ((e = list_first(&h->queue, struct hub_entry, link))) {
                bool first = list_empty(&b->entries);
                if (!first && (e->alone || b->n_events + e->events > h->config.batch_events_max ||
                               batch_bytes(b) + e->weight > h->config.batch_bytes_max))
                        break;
                list_remove(&e->link);
                list_push_back(&b->entries, &e->link);
                e->result = e->apply(e, b);
                if (e->alone)
                        break;
        }
        h->batch = b;
        h->since = now_monotonic();
}

static void count(struct hub *h, const struct hub_batch *b)
{
        struct hub_counters *n = &h->counters;

        n->batches++;
        n->events += b->n_events;
        for (size_t i = 0; i < b->n_events; i++)
                n->events_of[b->events[i].type]++;
        for (size_t i = 0; i < ARRAY_LEN(b->entered); i++)
                n->transitions[i] += b->entered[i];
        histogram_add(&n->commits, now_monotonic() - h->since);
}

static void publish(struct hub *h, const struct hub_batch *b)
{
        const struct hub_config *c = &h->config;

        for (size_t i = 0; i < b->n_events; i++) {
                const struct batch_event *row = &b->events[i];
                struct hub_event e = {
                        .session = row->session,
                        .id = row->id,
                        .seq = row->seq,
                        .type = row->type,
                        .json = { b->json.data + row->json_at, row->json_len },
                };
                c->on_event(c->userdata, &e);
        }
        for (size_t i = 0; i < b->n_sessions; i++) {
                if (b->session_json && b->session_json[i])
                        c->on_session(c->userdata, b->sessions[i], b->session_json[i], b->cursor);
                if (b->sessions[i]->batch.deleted)
                        c->on_deleted(c->userdata, b->sessions[i], b->cursor);
        }
}

/* The batch is stored (or had nothing to store): tell everybody. */
static void finish(struct hub *h)
{
        struct hub_batch *b = TAKE_PTR(h->batch);
        struct hub_entry *e;

        if (!batch_empty(b)) {
                crash_point("hub.before_publish");
                h->number = b->number;
                h->cursor = b->cursor;
                count(h, b);
                publish(h, b);
                crash_point("hub.before_ack");
        }
        hub_set_state(h, HUB_IDLE);
        while ((e = list_first(&b->entries, struct hub_entry, link))) {
                list_remove(&e->link);
                end_entry(h, e, e->result, b);
        }
        if (b->n_events > 0)
                crash_point("hub.after_ack");
        (void) batch_free(b);
        if (!list_empty(&h->queue))
                loop_task_queue(&h->turn);
}

static void turn(void *userdata)
{
        struct hub *h = userdata;

        if (h->state != HUB_IDLE || list_empty(&h->queue))
                return;
        build(h);
        if (batch_empty(h->batch))
                finish(h);
        else
                commit(h);
}

static void pause_then_retry(struct hub *h)
{
        uint64_t wait = PAUSE_FIRST << MIN(h->batch->attempts, 5u);

        h->counters.retries++;
        hub_set_state(h, HUB_PAUSING);
        loop_timer_arm(&h->pause, MIN(wait, PAUSE_MAX));
}

static void fenced(struct hub *h, const char *why)
{
        log_error("hub: fenced: %s", why);
        hub_set_state(h, HUB_CLOSED);
        h->config.on_fenced(h->config.userdata);
}

/* ---- after a refusal: read the sessions again, then the entries one by one ---- */

static void rebuilt_all(struct hub *h, const char *why)
{
        struct hub_batch *b = TAKE_PTR(h->batch);
        struct list *last = &h->queue; /* entries keep their order at the queue's front */
        struct hub_entry *e;

        h->rebuilt = SIZE_MAX;
        hub_set_state(h, HUB_IDLE);
        while ((e = list_first(&b->entries, struct hub_entry, link))) {
                list_remove(&e->link);
                if (e->alone) {
                        if (!e->message[0])
                                (void) hub_refuse(e, ERROR_CODE_INTERNAL, "%s", why);
                        end_entry(h, e, -EREMOTEIO, NULL);
                        continue;
                }
                e->alone = true;
                list_insert_before(last->next, &e->link);
                last = &e->link;
        }
        (void) batch_free(b);
        if (!list_empty(&h->queue))
                loop_task_queue(&h->turn);
}

static void on_reloaded(void *userdata, int r)
{
        struct hub *h = userdata;

        if (r < 0) {
                h->batch->attempts++;
                pause_then_retry(h);
                return;
        }
        h->rebuilt++;
        rebuild_next(h);
}

static void rebuild_next(struct hub *h)
{
        struct hub_batch *b = h->batch;

        hub_set_state(h, HUB_REBUILDING);
        if (h->rebuilt == b->n_sessions) {
                rebuilt_all(h, "the database refused this; see the coordinator's log");
                return;
        }
        if (store_session_reload(h->config.pool, b->sessions[h->rebuilt], on_reloaded, h) < 0)
                pause_then_retry(h);
}

static void rebuild(struct hub *h)
{
        struct hub_entry *first = list_first(&h->batch->entries, struct hub_entry, link);

        log_error("hub: the database refuses batch %" PRIu64 " (%s %s); sessions are read again",
                  h->batch->number, h->refusal.sqlstate, h->refusal.message);
        h->counters.rebuilds++;
        if (first->alone && streq(h->refusal.sqlstate, "23505"))
                (void) hub_refuse(first, ERROR_CODE_CONFLICT, "this exists already");
        else
                first->message[0] = 0;
        h->batch->attempts = 0;
        h->rebuilt = 0;
        rebuild_next(h);
}

static void on_void(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct hub *h = userdata;
        struct hub_batch *b = h->batch;

        if (h->state == HUB_CLOSED)
                return;
        uint64_t term = r < 0 ? 0 : (uint64_t) pg_i64(results[0], 0, 0);
        uint64_t batch = r < 0 ? 0 : (uint64_t) pg_i64(results[0], 0, 1);
        if (r < 0 ||
            (term == h->config.term && batch == b->number - 1 && !pg_str(results[0], 0, 2))) {
                b->attempts++; /* no answer, or the attempt was being stored at that moment */
                pause_then_retry(h);
                return;
        }
        h->voiding = false;
        if (term != h->config.term) {
                fenced(h, "another term has begun");
        } else if (batch == b->number) {
                found_stored(h);
        } else {
                h->number = b->number + 1;
                rebuild(h);
        }
}

static void void_batch(struct hub *h)
{
        hub_set_state(h, HUB_COMMITTING);
        if (pg_query(h->config.pool, on_void, h, store_batch_void, "uu", h->config.term,
                     h->batch->number) < 0)
                pause_then_retry(h);
}

/* An attempt before this one may be stored, or its bytes may still wait in a connection that we
 * have lost: what was refused now may have happened then. */
static void refused(struct hub *h, const struct pg_error *error)
{
        h->refusal = *error;
        if (!h->batch->unknown) {
                rebuild(h);
                return;
        }
        h->voiding = true;
        void_batch(h);
}

/* ---- the commit ---- */

/* Conditions that pass: the same batch is sent again. */
static bool passes(const char *sqlstate)
{
        static const char *const classes[] = { "08", "40", "53", "55", "57", "58" };

        if (streq(sqlstate, "25006") || !sqlstate[0]) /* read-only for now; no state at all */
                return true;
        for (size_t i = 0; i < ARRAY_LEN(classes); i++)
                if (str_starts(sqlstate, classes[i]))
                        return true;
        return false;
}

/* Those that may pass, or may be the fault of what is sent: tried some times. */
static bool doubtful(const char *sqlstate)
{
        return streq(sqlstate, "57014") || str_starts(sqlstate, "XX") ||
               str_starts(sqlstate, "0A") || str_starts(sqlstate, "26");
}

static bool worth_repeating(struct hub_batch *b, const char *sqlstate)
{
        if (doubtful(sqlstate))
                return ++b->doubts < DOUBTFUL_ATTEMPTS;
        return passes(sqlstate);
}

static void on_session_jsons(void *userdata, int r, PGresult **results, size_t n,
                             const struct pg_error *error)
{
        struct hub *h = userdata;

        if (r < 0) {
                h->batch->attempts++;
                pause_then_retry(h); /* sends the batch again, which is found stored again */
                return;
        }
        store_batch_jsons(h->batch, results[n - 1]);
        finish(h);
}

/* An earlier attempt had been stored although its answer was lost. */
static void found_stored(struct hub *h)
{
        log_notice("hub: batch %" PRIu64 " had been stored; its answer was lost", h->batch->number);
        h->counters.replays++;
        h->batch->attempts = 1; /* the database works: what may fail now is tried again soon */
        if (store_batch_read_jsons(h->config.pool, h->batch, on_session_jsons, h) < 0)
                pause_then_retry(h);
}

static void on_error(struct hub *h, int r, const struct pg_error *error)
{
        struct hub_batch *b = h->batch;
        const char *state = r == -EREMOTEIO ? error->sqlstate : "";

        b->attempts++;
        b->unknown |= r == -ECONNRESET;
        if (streq(state, "BT002") && b->attempts > 1) {
                found_stored(h);
        } else if (str_starts(state, "BT0")) {
                fenced(h, error->message);
        } else if (worth_repeating(b, state)) {
                log_warning("hub: batch %" PRIu64 " attempt %u: %s %s", b->number, b->attempts,
                            state[0] ? state : "connection",
                            error && error->message[0] ? error->message : strerrordesc_np(-r));
                pause_then_retry(h);
        } else {
                refused(h, error);
        }
}

static void on_commit(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct hub *h = userdata;

        if (h->state == HUB_CLOSED)
                return;
        if (r < 0) {
                on_error(h, r, error);
                return;
        }
        crash_point("hub.after_commit");
        store_batch_jsons(h->batch, results[n - 1]);
        finish(h);
}

static void commit(struct hub *h)
{
        hub_set_state(h, HUB_COMMITTING);
        crash_point("hub.before_commit");
        int r = store_batch_commit(h->config.pool, h->batch, on_commit, h);
        if (r == -EAGAIN) {
                h->batch->attempts++;
                pause_then_retry(h);
        } else if (r < 0) {
                struct pg_error error = { "54000", "the batch is too large to send" };
                refused(h, &error);
        }
}
