/* The pool: a bounded queue of batches, handed to the connection that has the least to do. */
#include "pg-private.h"

#include "log.h"

static void pool_destroy(struct pg_pool *p)
{
        loop_task_done(&p->dispatch);
        loop_timer_done(&p->expiry);
        pg_params_free(p->keywords);
        pg_params_free(p->values);
        free(p->settings);
        free(p->settings_local);
        free(p->connections);
        sd_event_unref(p->event);
        free(p);
}

void pg_pool_enter(struct pg_pool *p)
{
        p->depth++;
}

void pg_pool_leave(struct pg_pool *p)
{
        if (--p->depth == 0 && p->dead)
                pool_destroy(p);
}

static struct pg_batch *first_waiting(struct pg_pool *p)
{
        return list_first(&p->waiting, struct pg_batch, link);
}

static void leave_queue(struct pg_pool *p, struct pg_batch *b)
{
        list_remove(&b->link);
        p->n_waiting--;
        p->waiting_bytes -= pg_batch_bytes(b);
}

static void arm_expiry(struct pg_pool *p)
{
        struct pg_batch *b = first_waiting(p);
        uint64_t now = now_monotonic();
        if (!b)
                loop_timer_disarm(&p->expiry);
        else
                loop_timer_arm(&p->expiry, b->deadline > now ? b->deadline - now : 0);
}

static void on_expiry(void *userdata)
{
        struct pg_pool *p = userdata;
        struct pg_batch *b;
        pg_pool_enter(p);
        uint64_t now = now_monotonic();
        while (!p->dead && (b = first_waiting(p)) && b->deadline <= now) {
                leave_queue(p, b);
                pg_batch_finish(b, -ETIMEDOUT);
        }
        if (!p->dead)
                arm_expiry(p);
        pg_pool_leave(p);
}

static struct pg_connection *pick_connection(struct pg_pool *p)
{
        struct pg_connection *best = NULL;
        for (size_t i = 0; i < p->n_connections; i++) {
                struct pg_connection *c = &p->connections[i];
                if (c->state == PG_READY && !c->retiring && c->n_flying < PG_FLYING_MAX &&
                    (!best || c->n_flying < best->n_flying))
                        best = c;
        }
        return best;
}

static void fail_on_purpose(struct pg_batch *b, enum pg_fault fault)
{
        b->error = (struct pg_error){ "XXBER", "fault injected" };
        pg_batch_finish(b, fault == PG_FAULT_ERROR ? -EREMOTEIO : -ETIMEDOUT);
}

static void on_dispatch(void *userdata)
{
        struct pg_pool *p = userdata;
        pg_pool_enter(p);
        struct pg_connection *c;
        struct pg_batch *b;
        while (!p->dead && (b = first_waiting(p)) && (c = pick_connection(p))) {
                leave_queue(p, b);
                enum pg_fault fault = pg_fault_next();
                if (fault == PG_FAULT_ERROR || fault == PG_FAULT_TIMEOUT) {
                        fail_on_purpose(b, fault);
                        continue;
                }
                b->lose = fault == PG_FAULT_LOST;
                if (pg_connection_send(c, b) == 0)
                        continue;
                if (p->dead) { /* a callback of the lost connection's batches ended the pool */
                        pg_batch_finish(b, -ECANCELED);
                        break;
                }
                list_push_front(&p->waiting, &b->link);
                p->n_waiting++;
                p->waiting_bytes += pg_batch_bytes(b);
        }
        for (size_t i = 0; !p->dead && i < p->n_connections; i++)
                pg_connection_flush(&p->connections[i]);
        if (!p->dead)
                arm_expiry(p);
        pg_pool_leave(p);
}

void pg_pool_connection_ready(struct pg_pool *p)
{
        p->problem[0] = 0;
        p->told_down = false;
        if (++p->n_ready == 1 && p->on_state)
                p->on_state(p->userdata, true);
        if (!p->dead)
                loop_task_queue(&p->dispatch);
}

void pg_pool_connection_lost(struct pg_pool *p, bool was_ready, const char *why)
{
        log_debug("database connection lost: %s", why);
        (void) snprintf(p->problem, sizeof(p->problem), "%s", why);
        if (was_ready)
                p->n_ready--;
        if (p->n_ready > 0 || p->told_down)
                return;
        p->told_down = true;
        if (p->on_state)
                p->on_state(p->userdata, false);
}

int pg_pool_new(sd_event *e, const struct pg_config *c, struct pg_pool **ret)
{
        struct pg_pool *p = xnew(struct pg_pool);
        *p = (struct pg_pool){
                .event = sd_event_ref(e),
                .queue_max = c->queue_max ? c->queue_max : 10000,
                .queue_bytes_max = c->queue_bytes_max ? c->queue_bytes_max : 64 * MIB,
                .queue_timeout = c->queue_timeout_usec ? c->queue_timeout_usec : 2 * USEC_PER_SEC,
                .statement_timeout =
                        c->statement_timeout_usec ? c->statement_timeout_usec : 5 * USEC_PER_SEC,
                .own_session = c->own_session,
                .on_state = c->on_state,
                .userdata = c->userdata,
        };
        p->silence =
                c->silence_usec ? c->silence_usec : p->statement_timeout + PG_SILENCE_EXTRA_USEC;
        list_init(&p->waiting);
        p->settings = pg_settings_sql(p->statement_timeout, PG_LOCK_USEC, false);
        p->settings_local = pg_settings_sql(p->statement_timeout, PG_LOCK_USEC, true);
        int r = pg_params_make(c, &p->keywords, &p->values);
        if (r == 0)
                r = loop_task_init(&p->dispatch, e, on_dispatch, p);
        if (r == 0)
                r = loop_timer_init(&p->expiry, e, on_expiry, p);
        if (r == 0) {
                p->connections = xnewn(struct pg_connection, MAX(c->connections, 1U));
                for (; r == 0 && p->n_connections < MAX(c->connections, 1U); p->n_connections++) {
                        pg_connection_init(&p->connections[p->n_connections], p);
                        r = pg_connection_start(&p->connections[p->n_connections]);
                }
        }
        if (r < 0) {
                pg_pool_free(p);
                return r;
        }
        *ret = p;
        return 0;
}

struct pg_pool *pg_pool_free(struct pg_pool *p)
{
        if (!p || p->dead)
                return NULL;
        p->dead = true;
        p->on_state = NULL;
        pg_pool_enter(p);
        struct pg_batch *b;
        for (size_t i = 0; i < p->n_connections; i++)
                pg_connection_done(&p->connections[i]);
        while ((b = first_waiting(p))) {
                leave_queue(p, b);
                pg_batch_finish(b, -ECANCELED);
        }
        loop_task_done(&p->dispatch);
        loop_timer_disarm(&p->expiry);
        pg_pool_leave(p);
        return NULL;
}

bool pg_pool_up(const struct pg_pool *p)
{
        return p->n_ready > 0;
}

const char *pg_pool_problem(const struct pg_pool *p)
{
        return p->problem;
}

size_t pg_pool_waiting(const struct pg_pool *p)
{
        return p->n_waiting;
}

int pg_submit(struct pg_pool *p, struct pg_batch *b, pg_done_fn fn, void *userdata)
{
        int r = p->dead                                  ? -ECANCELED
                : b->n_statements == 0                   ? -EINVAL
                : b->invalid                             ? b->invalid
                : pg_batch_bytes(b) > PG_BATCH_BYTES_MAX ? -EMSGSIZE
                : p->n_waiting >= p->queue_max ||
                                (p->n_waiting > 0 &&
                                 p->waiting_bytes + pg_batch_bytes(b) > p->queue_bytes_max)
                        ? -EAGAIN
                        : 0;
        if (r < 0) {
                pg_batch_free(b);
                return r;
        }
        b->fn = fn;
        b->userdata = userdata;
        b->deadline = now_monotonic() + p->queue_timeout;
        list_push_back(&p->waiting, &b->link);
        p->waiting_bytes += pg_batch_bytes(b);
        if (++p->n_waiting == 1)
                arm_expiry(p);
        loop_task_queue(&p->dispatch);
        return 0;
}

int pg_query_as(struct pg_pool *p, const char *tenant, pg_done_fn fn, void *userdata,
                const char *sql, const char *types, ...)
{
        struct pg_batch *b = pg_batch_new();
        va_list ap;
        pg_batch_tenant(b, tenant);
        va_start(ap, types);
        pg_batch_addv(b, sql, types, ap);
        va_end(ap);
        return pg_submit(p, b, fn, userdata);
}

int pg_query(struct pg_pool *p, pg_done_fn fn, void *userdata, const char *sql, const char *types,
             ...)
{
        struct pg_batch *b = pg_batch_new();
        va_list ap;
        va_start(ap, types);
        pg_batch_addv(b, sql, types, ap);
        va_end(ap);
        return pg_submit(p, b, fn, userdata);
}

static void forget_in(struct list *list, const void *userdata)
{
        struct pg_batch *b;
        list_foreach (b, list, link) {
                if (b->userdata == userdata)
                        b->fn = NULL;
        }
}

void pg_forget(struct pg_pool *p, void *userdata)
{
        forget_in(&p->waiting, userdata);
        for (size_t i = 0; i < p->n_connections; i++)
                forget_in(&p->connections[i].flying, userdata);
}
