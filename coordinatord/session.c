/* Sessions in memory and their state machine. */
#include "session.h"

#include "approval.h"
#include "common/io/log.h"
#include "hub.h"

#define TO(s) SESSION_STATE_BIT(SESSION_STATE_##s)
#define ENDS (TO(FINISHED) | TO(STOPPED) | TO(FAILED))

/* Ended sessions run again: through the queue, or at once when they run elsewhere (kind external).
 */
static const uint32_t allowed[SESSION_STATE_MAX] = {
        [SESSION_STATE_QUEUED] = TO(STARTING) | TO(IDLE) | TO(PAUSED) | TO(STOPPED) | TO(FAILED),
        [SESSION_STATE_STARTING] =
                TO(RUNNING) | TO(IDLE) | TO(WAITING) | TO(PAUSED) | TO(QUEUED) | ENDS,
        [SESSION_STATE_RUNNING] = TO(IDLE) | TO(WAITING) | TO(PAUSED) | TO(QUEUED) | ENDS,
        [SESSION_STATE_IDLE] = TO(RUNNING) | TO(WAITING) | TO(PAUSED) | TO(QUEUED) | ENDS,
        [SESSION_STATE_WAITING] = TO(RUNNING) | TO(IDLE) | TO(PAUSED) | TO(QUEUED) | ENDS,
        [SESSION_STATE_PAUSED] = TO(RUNNING) | TO(IDLE) | TO(QUEUED) | ENDS,
        [SESSION_STATE_FINISHED] = TO(QUEUED) | TO(RUNNING),
        [SESSION_STATE_STOPPED] = TO(QUEUED) | TO(RUNNING),
        [SESSION_STATE_FAILED] = TO(QUEUED) | TO(RUNNING),
};

static const char *state_name(int state)
{
        return session_state_name((enum session_state) state);
}

const struct state_table session_states = {
        .what = "session",
        .name = state_name,
        .allowed = allowed,
        .max = SESSION_STATE_MAX,
};

void sessions_init(struct sessions *t)
{
        *t = (struct sessions){ .by_id = map_new() };
        list_init(&t->queue);
        list_init(&t->leased);
}

static void session_free(struct session *s)
{
        session_clear(s);
        list_remove(&s->queue_link);
        list_remove(&s->lease_link);
        free(s);
}

void sessions_done(struct sessions *t)
{
        size_t iter = 0;
        void *s;

        if (!t->by_id)
                return;
        while (map_next(t->by_id, &iter, NULL, &s))
                session_free(s);
        t->by_id = map_free(t->by_id);
}

size_t sessions_live(const struct sessions *t)
{
        return t->n_queued + t->n_leased;
}

struct session *sessions_get(struct sessions *t, const char *id)
{
        struct session *s = map_get(t->by_id, id);

        if (!s) {
                s = xnew(struct session);
                (void) snprintf(s->id, sizeof(s->id), "%s", id);
                s->table = t;
                list_init(&s->waiters);
                list_init(&s->queue_link);
                list_init(&s->lease_link);
                (void) map_set(t->by_id, id, s);
        }
        return session_ref(s);
}

struct session *session_ref(struct session *s)
{
        s->refs++;
        return s;
}

static bool in_list(const struct list *l)
{
        return l->next && !list_empty(l);
}

struct session *session_unref(struct session *s)
{
        if (!s || --s->refs > 0 || in_list(&s->queue_link) || in_list(&s->lease_link))
                return NULL;
        (void) map_remove(s->table->by_id, s->id);
        session_free(s);
        return NULL;
}

bool session_id_valid(const char *id)
{
        size_t n = strlen(id);

        if (n == 0 || n >= SESSION_ID_MAX || id[0] == '.')
                return false;
        return strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

void session_clear(struct session *s)
{
        char **texts[] = { &s->tenant,   &s->name,   &s->agent_name, &s->model,     &s->project_dir,
                           &s->metadata, &s->budget, &s->files,      &s->network,   &s->image,
                           &s->parent,   &s->slot,   &s->error,      &s->worker_id, &s->blueprint,
                           &s->question, &s->asked,  &s->report };

        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
                free(*texts[i]);
                *texts[i] = NULL;
        }
        for (size_t i = 0; i < SESSION_RECENT; i++) {
                free(s->recent[i].idem);
                s->recent[i] = (struct session_append){ 0 };
        }
        s->recent_next = 0;
        approvals_clear(s);
        s->waiting_for = WAITING_FOR_MODEL;
        session_control_clear(s);
        s->kind = SLOT_KIND_HEADLESS;
        s->state = SESSION_STATE_QUEUED;
        s->width = s->height = 0;
        s->created_us = s->modified_us = s->queued_us = s->running_since_us = 0;
        s->last_seq = s->last_message_seq = s->epoch = s->run_us = s->running_at = 0;
        s->losses = s->depth = 0;
        s->stop_requested = false;
        s->usage = (struct usage){ 0 };
        s->exists = s->purging = false;
}

static void place_queue(struct session *s)
{
        struct sessions *t = s->table;
        bool want = s->exists && s->state == SESSION_STATE_QUEUED && s->kind != SLOT_KIND_EXTERNAL;

        if (in_list(&s->queue_link)) {
                list_remove(&s->queue_link);
                t->n_queued--;
        }
        if (!want)
                return;
        struct list *at = &t->queue;
        while (at->prev != &t->queue &&
               list_entry(at->prev, struct session, queue_link)->queued_us > s->queued_us)
                at = at->prev;
        list_insert_before(at, &s->queue_link);
        t->n_queued++;
}

void session_place(struct session *s)
{
        struct sessions *t = s->table;
        bool leased = s->exists && s->worker_id;

        place_queue(s);
        if (leased == in_list(&s->lease_link))
                return;
        if (leased) {
                list_push_back(&t->leased, &s->lease_link);
                t->n_leased++;
        } else {
                list_remove(&s->lease_link);
                t->n_leased--;
        }
}

static void emit_state(struct session *s, struct hub_batch *b, enum session_state from,
                       const char *why, bool stop_event)
{
        cleanup_buf struct buf body = BUF_INIT;

        buf_putf(&body, "{\"from\":\"%s\",\"to\":\"%s\",\"reason\":", session_state_name(from),
                 session_state_name(s->state));
        buf_put_json_string(&body, why, strlen(why));
        buf_puts(&body, "}");
        (void) hub_event(b, s, EVENT_TYPE_STATUS, (struct span){ body.data, body.len });
        if (!session_ended(s) || !stop_event)
                return;
        buf_clear(&body);
        buf_putf(&body, "{\"status\":\"%s\",\"reason\":", session_state_name(s->state));
        buf_put_json_string(&body, why, strlen(why));
        buf_puts(&body, "}");
        (void) hub_event(b, s, EVENT_TYPE_SESSION_STOP, (struct span){ body.data, body.len });
}

/* A clock that was set while it ran must not use up its budget of time. */
static uint64_t ran_for(const struct session *s, uint64_t now)
{
        if (s->running_at)
                return now_monotonic() - s->running_at;
        return now > s->running_since_us ? now - s->running_since_us : 0;
}

static void enter_state(struct session *s, struct hub_batch *b, enum session_state to)
{
        uint64_t now = hub_now(b);

        if (s->running_since_us) {
                s->run_us += ran_for(s, now);
                s->running_since_us = s->running_at = 0;
        }
        s->state = to;
        hub_entered(b, to);
        if (to == SESSION_STATE_RUNNING) {
                s->running_since_us = now;
                s->running_at = now_monotonic();
        }
        if (to == SESSION_STATE_IDLE || to == SESSION_STATE_PAUSED || to == SESSION_STATE_WAITING)
                s->idle_since = now_monotonic();
        s->waiting_for = WAITING_FOR_MODEL;
        free(s->question);
        s->question = NULL;
        free(s->asked);
        s->asked = NULL;
        if (to != SESSION_STATE_FAILED) {
                free(s->error);
                s->error = NULL;
        }
        session_place(s);
        hub_session_write(b, s, true);
}

static int change_state(struct session *s, struct hub_batch *b, enum session_state to,
                        const char *why, bool stop_event)
{
        enum session_state from = s->state;
        int r;

        if (from == to)
                return 0;
        r = state_check(&session_states, (int) from, (int) to);
        if (r < 0)
                return r;
        log_info("session %s: %s -> %s (%s)", s->id, session_state_name(from),
                 session_state_name(to), why);
        enter_state(s, b, to);
        if (session_ended(s) || to == SESSION_STATE_IDLE)
                approvals_cancel(b, s, to == SESSION_STATE_IDLE, why);
        emit_state(s, b, from, why, stop_event);
        return 0;
}

void session_set_waiting(struct session *s, struct hub_batch *b, enum waiting_for what,
                         const char *question)
{
        char *text = xstrdup(question);

        s->waiting_for = what;
        free(s->question);
        s->question = text;
        hub_session_write(b, s, true);
}

int session_set_state(struct session *s, struct hub_batch *b, enum session_state to,
                      const char *why)
{
        return change_state(s, b, to, why, true);
}

int session_set_end(struct session *s, struct hub_batch *b, enum session_state to, const char *why)
{
        return change_state(s, b, to, why, false);
}

void session_set_first_state(struct session *s, struct hub_batch *b, enum session_state state)
{
        log_info("session %s: new, %s", s->id, session_state_name(state));
        enter_state(s, b, state);
}

void session_set_holder(struct session *s, struct hub_batch *b, const char *worker_id)
{
        char *holder = xstrdup(worker_id);

        session_control_end(s, b, "ended"); /* it is of the slot */
        free(s->worker_id);
        s->worker_id = holder;
        s->epoch++;
        free(s->slot);
        s->slot = NULL;
        session_place(s);
        hub_session_write(b, s, true);
}

/* ---- who drives the desktop ---- */

void session_control_clear(struct session *s)
{
        free(s->control.person);
        free(s->control.viewer);
        free(s->control.token_hash);
        s->control = (struct session_driver){ 0 };
}

static void emit_control(struct session *s, struct hub_batch *b, const char *action,
                         const char *person, const char *from)
{
        cleanup_buf struct buf body = BUF_INIT;

        buf_putf(&body, "{\"action\":\"%s\",\"person\":", action);
        buf_put_json_string(&body, person, strlen(person));
        if (from) {
                buf_puts(&body, ",\"from\":");
                buf_put_json_string(&body, from, strlen(from));
        }
        if (s->control.since_us && hub_now(b) > s->control.since_us)
                buf_putf(&body, ",\"held_ms\":%" PRIu64,
                         (hub_now(b) - s->control.since_us) / USEC_PER_MSEC);
        buf_puts(&body, "}");
        (void) hub_event(b, s, EVENT_TYPE_CONTROL, (struct span){ body.data, body.len });
        log_info("session %s: control %s", s->id, action);
}

void session_control_take(struct session *s, struct hub_batch *b, const struct session_driver *by)
{
        cleanup_free char *from = s->control.person ? xstrdup(s->control.person) : NULL;

        session_control_clear(s);
        s->control = *by;
        emit_control(s, b, "taken", s->control.person, from ? from : "agent");
        hub_session_write(b, s, true);
}

void session_control_secret(struct session *s, struct hub_batch *b, bool on)
{
        if (s->control.secret == on)
                return;
        s->control.secret = on;
        emit_control(s, b, on ? "secret_on" : "secret_off", s->control.person, NULL);
        hub_session_write(b, s, true);
}

void session_control_end(struct session *s, struct hub_batch *b, const char *how)
{
        if (!s->control.person)
                return;
        emit_control(s, b, how, s->control.person, NULL);
        session_control_clear(s);
        hub_session_write(b, s, true);
}

void session_set_error(struct session *s, const char *code, const char *message)
{
        cleanup_buf struct buf text = BUF_INIT;

        buf_puts(&text, "{\"code\":");
        buf_put_json_string(&text, code, strlen(code));
        buf_puts(&text, ",\"message\":");
        buf_put_json_string(&text, message, strlen(message));
        buf_puts(&text, "}");
        free(s->error);
        s->error = buf_take(&text, NULL);
}

const struct session_append *session_recent(const struct session *s, const char *idem)
{
        for (size_t i = 0; i < SESSION_RECENT; i++)
                if (s->recent[i].idem && streq(s->recent[i].idem, idem))
                        return &s->recent[i];
        return NULL;
}

void session_remember(struct session *s, const char *idem, uint64_t first_id, uint64_t first_seq,
                      uint64_t last_seq)
{
        struct session_append *a = &s->recent[s->recent_next];

        s->recent_next = (s->recent_next + 1) % SESSION_RECENT;
        free(a->idem);
        *a = (struct session_append){ xstrdup(idem), first_id, first_seq, last_seq };
}
