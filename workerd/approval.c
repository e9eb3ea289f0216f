/* Approvals under way that are not calls of tools: asked, asked again, answered. */
#include "approval.h"

#include "common/base/list.h"
#include "common/io/log.h"

#define CALL_USEC (5 * USEC_PER_SEC)
#define POLL_USEC (15 * USEC_PER_SEC)
#define AGAIN_USEC (1 * USEC_PER_SEC)

struct asking {
        struct list link;
        struct approvals *owner;
        enum approval_kind kind;
        char *subject, *bound, *details; /* details may be NULL */
        char id[UUID_MAX];               /* "" until it is stored */
        bool calling;
        approval_fn fn; /* NULL = forgotten; it goes when its call has come back */
        void *userdata;
        struct loop_timer timer;
};

struct approvals {
        sd_event *event;
        struct rpc_link *link;
        char *session_id;
        uint64_t epoch;
        struct list all;
        size_t n;
};

static void asking_free(struct asking *k)
{
        if (k->owner) {
                list_remove(&k->link);
                k->owner->n--;
        }
        loop_timer_done(&k->timer);
        free(k->subject);
        free(k->bound);
        free(k->details);
        free(k);
}

/* Ends it; its memory waits for a call that is under way. */
static void finish(struct asking *k, enum approval_verdict verdict)
{
        approval_fn fn = k->fn;
        void *userdata = k->userdata;

        k->fn = NULL;
        loop_timer_disarm(&k->timer);
        if (!k->calling)
                asking_free(k);
        if (fn)
                fn(userdata, verdict);
}

/* False while it is pending. */
static bool decided(enum approval_status status, enum approval_scope scope,
                    enum approval_verdict *ret)
{
        bool session = scope == APPROVAL_SCOPE_SESSION;

        if (status == APPROVAL_STATUS_PENDING)
                return false;
        if (status == APPROVAL_STATUS_ALLOWED)
                *ret = session ? APPROVAL_ALLOW_SESSION : APPROVAL_ALLOW_ONCE;
        else
                *ret = session && status == APPROVAL_STATUS_DENIED ? APPROVAL_DENY_SESSION
                                                                   : APPROVAL_DENY_ONCE;
        return true;
}

static void on_answer(void *userdata, int r, const void *reply)
{
        struct asking *k = userdata;
        const struct approval_answer *answer = reply;
        const struct error_reply *error = reply;
        enum approval_verdict verdict;

        k->calling = false;
        if (!k->owner || !k->fn) {
                asking_free(k);
                return;
        }
        if (r == 0 && decided(answer->status, answer->scope, &verdict)) {
                finish(k, verdict);
        } else if (r == 0) {
                (void) snprintf(k->id, sizeof(k->id), "%s", answer->approval_id);
                loop_timer_arm(&k->timer, POLL_USEC);
        } else if (r == -EREMOTEIO && error->code != ERROR_CODE_UNAVAILABLE &&
                   error->code != ERROR_CODE_TIMEOUT) {
                log_notice("session %s: %s cannot be asked for: %s", k->owner->session_id,
                           k->subject, error->message);
                finish(k, APPROVAL_DENY_ONCE);
        } else {
                loop_timer_arm(&k->timer, AGAIN_USEC);
        }
}

static void send(void *userdata)
{
        struct asking *k = userdata;
        struct approval_request m = {
                .session_id = k->owner->session_id,
                .epoch = k->owner->epoch,
                .ask = { .kind = k->kind,
                         .subject = k->subject,
                         .bound = span_of(k->bound),
                         .details = span_of(k->details) },
                .approval_id = k->id[0] ? k->id : NULL,
        };

        if (k->calling)
                return;
        if (rpc_call(rpc_client_peer(k->owner->link), &wire_approval_request, &m, CALL_USEC,
                     on_answer, k) < 0)
                loop_timer_arm(&k->timer, AGAIN_USEC);
        else
                k->calling = true;
}

int approvals_ask(struct approvals *a, enum approval_kind kind, const char *subject,
                  const json_t *bound, const json_t *details, approval_fn fn, void *userdata)
{
        struct asking *k;
        int r;

        if (a->n >= APPROVALS_MAX)
                return -EAGAIN;
        k = xnew(struct asking);
        k->kind = kind;
        k->fn = fn;
        k->userdata = userdata;
        k->subject = xasprintf("%.480s", subject);
        k->bound = json_text(bound);
        k->details = details ? json_text(details) : NULL;
        r = loop_timer_init(&k->timer, a->event, send, k);
        if (r < 0) {
                asking_free(k);
                return r;
        }
        k->owner = a;
        list_push_back(&a->all, &k->link);
        a->n++;
        loop_timer_arm(&k->timer, 0); /* fn never comes from in here */
        return 0;
}

int approvals_ask_network(struct approvals *a, const char *host, uint16_t port,
                          const json_t *details, approval_fn fn, void *userdata)
{
        cleanup_free char *subject = xasprintf("%s:%u", host, port);
        cleanup_json json_t *bound = json_pack("{s:s,s:i}", "host", host, "port", (int) port);

        if (!bound)
                return -EINVAL; /* a host that is not UTF-8 */
        return approvals_ask(a, APPROVAL_KIND_NETWORK, subject, bound, details, fn, userdata);
}

void approvals_forget(struct approvals *a, const void *userdata)
{
        struct asking *k, *next;

        list_foreach_safe (k, next, &a->all, link) {
                if (k->userdata != userdata || !k->fn)
                        continue;
                k->fn = NULL;
                finish(k, APPROVAL_DENY_ONCE);
        }
}

/* Those that wait for it look at once. */
void approvals_told(struct approvals *a, const struct approval_notify *m)
{
        struct asking *k;

        list_foreach (k, &a->all, link)
                if (k->fn && !k->calling && streq(k->id, m->approval_id))
                        loop_timer_arm(&k->timer, 0);
}

int approvals_new(sd_event *event, struct rpc_link *link, const char *session_id, uint64_t epoch,
                  struct approvals **ret)
{
        struct approvals *a = xnew(struct approvals);

        a->event = event;
        a->link = link;
        a->session_id = xstrdup(session_id);
        a->epoch = epoch;
        list_init(&a->all);
        *ret = a;
        return 0;
}

struct approvals *approvals_free(struct approvals *a)
{
        struct asking *k, *next;

        if (!a)
                return NULL;
        list_foreach_safe (k, next, &a->all, link) {
                k->fn = NULL;
                loop_timer_disarm(&k->timer);
                if (k->calling) { /* on_answer frees it */
                        list_remove(&k->link);
                        k->owner = NULL;
                } else {
                        asking_free(k);
                }
        }
        free(a->session_id);
        free(a);
        return NULL;
}
