/* Sends durable events to the hub, in order, until each is answered. */
#include "outbox.h"

#include "common/base/list.h"
#include "common/io/daemon.h"
#include "common/io/log.h"
#include "utf8.h"

#define CALL_USEC (5 * USEC_PER_SEC)
#define WAIT_FIRST (20 * USEC_PER_MSEC)
#define WAIT_MAX (500 * USEC_PER_MSEC)
#define REFUSALS_MAX 20 /* of the kind that may pass, from a coordinator that answers */
#define BODY_MAX 4194304
#define REASON_MAX 480

struct append {
        struct list link;
        struct event_item items[OUTBOX_ITEMS_MAX];
        char *bodies[OUTBOX_ITEMS_MAX];
        struct attachment attachments[16];
        void *data[16];
        struct event_append message;
        char *ask_id, *ask_subject, *ask_bound;
        struct usage usage;
        char *reason, *idem, *question, *report;
        bool too_large;
        outbox_fn fn;
        void *userdata;
};

struct outbox {
        sd_event *event;
        struct rpc_link *link;
        char *session_id;
        uint64_t epoch, sent; /* sent counts appends: the keys */
        struct list queue;    /* the first is under way */
        bool calling, fenced;
        uint64_t wait;
        unsigned refusals;
        struct loop_timer again;
        void (*on_fenced)(void *userdata);
        void *userdata;
};

struct append *append_new(void)
{
        struct append *a = xnew(struct append);

        a->message.items = a->items;
        a->message.attachments = a->attachments;
        return a;
}

struct append *append_free(struct append *a)
{
        if (!a)
                return NULL;
        list_remove(&a->link);
        for (size_t i = 0; i < a->message.n_items; i++)
                free(a->bodies[i]);
        for (size_t i = 0; i < a->message.n_attachments; i++) {
                free((char *) (uintptr_t) a->attachments[i].digest);
                free((char *) (uintptr_t) a->attachments[i].media_type);
                free(a->data[i]);
        }
        free(a->ask_id);
        free(a->ask_subject);
        free(a->ask_bound);
        free(a->reason);
        free(a->idem);
        free(a->question);
        free(a->report);
        free(a);
        return NULL;
}

void append_event(struct append *a, enum event_type type, json_t *body)
{
        size_t n = a->message.n_items;

        if (n == OUTBOX_ITEMS_MAX)
                abort(); /* the callers count */
        a->bodies[n] = json_text(body);
        json_decref(body);
        a->items[n] = (struct event_item){ .event_type = type, .body = span_of(a->bodies[n]) };
        a->too_large |= a->items[n].body.len > BODY_MAX;
        a->message.n_items++;
}

void append_attachment(struct append *a, const char *digest, const char *media_type, void *data,
                       size_t n)
{
        size_t i = a->message.n_attachments;

        if (i == ARRAY_LEN(a->attachments))
                abort(); /* the callers count */
        a->data[i] = data;
        a->attachments[i] = (struct attachment){ .digest = xstrdup(digest),
                                                 .media_type = xstrdup(media_type),
                                                 .data = { data, n } };
        a->message.n_attachments++;
}

void append_usage(struct append *a, const struct usage *usage)
{
        a->message.has_usage = true;
        a->message.usage = *usage;
}

void append_state(struct append *a, enum session_state to, uint64_t if_last_message_seq,
                  const char *reason)
{
        a->message.has_to_state = true;
        a->message.to_state = to;
        free(a->reason);
        a->reason = strempty(reason)
                            ? NULL
                            : xstrndup(reason, utf8_cut(reason, strlen(reason), REASON_MAX));
        a->message.reason = a->reason;
        a->message.has_if_last_message_seq = if_last_message_seq > 0;
        a->message.if_last_message_seq = if_last_message_seq;
}

void append_question(struct append *a, json_t *question, const char *reason)
{
        append_state(a, SESSION_STATE_WAITING, 0, reason);
        a->message.has_waiting_for = true;
        a->message.waiting_for = WAITING_FOR_ANSWER;
        free(a->question);
        a->question = json_text(question);
        json_decref(question);
        a->message.question = span_of(a->question);
}

void append_report(struct append *a, const json_t *report)
{
        free(a->report);
        a->report = json_text(report);
        a->message.report = span_of(a->report);
}

void append_waiting(struct append *a, enum waiting_for what)
{
        a->message.has_waiting_for = true;
        a->message.waiting_for = what;
}

void append_ask(struct append *a, const char *call_id, const char *subject, char *bound)
{
        a->ask_id = xstrdup(call_id);
        a->ask_subject = xstrdup(subject);
        a->ask_bound = bound;
        a->message.has_ask = true;
        a->message.ask = (struct approval_ask){ .kind = APPROVAL_KIND_TOOL,
                                                .subject = a->ask_subject,
                                                .bound = span_of(a->ask_bound),
                                                .call_id = a->ask_id };
}

size_t append_count(const struct append *a)
{
        return a->message.n_items;
}

bool append_has_state(const struct append *a)
{
        return a->message.has_to_state;
}

static void outbox_next(struct outbox *o);

/* The answered append leaves the queue before its function runs: that may send more. */
static void answered(struct outbox *o, int r, const struct event_appended *done, const char *why)
{
        CLEANUP(append_freep) struct append *a = list_first(&o->queue, struct append, link);

        list_remove(&a->link);
        o->calling = false;
        o->wait = 0;
        o->refusals = 0;
        outbox_next(o);
        if (a->fn)
                a->fn(a->userdata, r, done, why);
}

static void again_later(struct outbox *o)
{
        o->calling = false;
        o->wait = o->wait == 0 ? WAIT_FIRST : MIN(o->wait * 2, WAIT_MAX);
        loop_timer_arm(&o->again, o->wait);
}

static void refused(struct outbox *o, const struct error_reply *e)
{
        switch (e->code) {
        case ERROR_CODE_STALE_EPOCH:
        case ERROR_CODE_NOT_FOUND:
                o->fenced = true;
                o->calling = false;
                o->on_fenced(o->userdata);
                return;
        case ERROR_CODE_CONFLICT:
                answered(o, -EBUSY, NULL, e->message);
                return;
        case ERROR_CODE_INTERNAL:
                if (++o->refusals >= REFUSALS_MAX) {
                        answered(o, -EBADMSG, NULL, e->message);
                        return;
                }
                again_later(o);
                return;
        case ERROR_CODE_UNAVAILABLE:
        case ERROR_CODE_TIMEOUT:
        case ERROR_CODE_RATE_LIMITED:
        case ERROR_CODE_PRECONDITION_FAILED: /* the coordinator was restarted; the greeting is on
                                                its way */
                again_later(o);
                return;
        case ERROR_CODE_BAD_REQUEST:
        case ERROR_CODE_UNAUTHORIZED:
        case ERROR_CODE_FORBIDDEN:
        case ERROR_CODE_TOO_LARGE:
        case ERROR_CODE_UNSUPPORTED_MEDIA_TYPE:
        case ERROR_CODE_UNPROCESSABLE:
        case ERROR_CODE_GONE:
        case ERROR_CODE_QUOTA_EXCEEDED:
        case ERROR_CODE_MAX:
                break;
        }
        answered(o, -EBADMSG, NULL, e->message);
}

static void on_reply(void *userdata, int r, const void *reply)
{
        struct outbox *o = userdata;

        if (r == 0)
                answered(o, 0, reply, NULL);
        else if (r == -EREMOTEIO)
                refused(o, reply);
        else
                again_later(o); /* it may be stored or not: the same key again tells */
}

static void outbox_next(struct outbox *o)
{
        struct append *a = list_first(&o->queue, struct append, link);
        int r;

        if (!a || o->calling || o->fenced || loop_timer_armed(&o->again))
                return;
        if (!a->idem)
                a->idem = xasprintf("w%" PRIu64 ".%" PRIu64, o->epoch, ++o->sent);
        a->message.idem = a->idem;
        a->message.session_id = o->session_id;
        a->message.epoch = o->epoch;
        r = a->too_large ? -EMSGSIZE
                         : rpc_call(rpc_client_peer(o->link), &wire_event_append, &a->message,
                                    CALL_USEC, on_reply, o);
        if (r == -EMSGSIZE) {
                a->too_large = true;
                loop_timer_arm(&o->again, 0); /* refused from the loop, like everything else */
        } else if (r < 0) {
                again_later(o);
        } else {
                o->calling = true;
        }
}

static void on_again(void *userdata)
{
        struct outbox *o = userdata;
        const struct append *a = list_first(&o->queue, struct append, link);

        if (a && a->too_large) {
                log_error("an event is larger than the hub takes");
                answered(o, -EBADMSG, NULL, "An event of this session is too large to be stored.");
        } else {
                outbox_next(o);
        }
}

void outbox_send(struct outbox *o, struct append *a, outbox_fn fn, void *userdata)
{
        a->fn = fn;
        a->userdata = userdata;
        list_push_back(&o->queue, &a->link);
        outbox_next(o);
}

int outbox_new(const struct outbox_config *c, struct outbox **ret)
{
        struct outbox *o = xnew(struct outbox);
        int r;

        list_init(&o->queue);
        o->event = c->event;
        o->link = c->link;
        o->session_id = xstrdup(c->session_id);
        o->epoch = c->epoch;
        o->on_fenced = c->on_fenced;
        o->userdata = c->userdata;
        r = loop_timer_init(&o->again, c->event, on_again, o);
        if (r < 0) {
                outbox_free(o);
                return r;
        }
        *ret = o;
        return 0;
}

struct outbox *outbox_free(struct outbox *o)
{
        struct append *a, *next;

        if (!o)
                return NULL;
        rpc_cancel(o->link, o);
        list_foreach_safe (a, next, &o->queue, link)
                append_free(a);
        loop_timer_done(&o->again);
        free(o->session_id);
        free(o);
        return NULL;
}
