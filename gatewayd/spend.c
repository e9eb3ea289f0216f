/* Tells the coordinator what models have used for requests. */
#include "gatewayd/spend.h"

#include "common/base/list.h"
#include "common/io/log.h"
#include "gatewayd/gateway.h"
#include "gatewayd/query.h"
#include "proto/messages.h"

#define NOTES_MAX 1000u
#define AGAIN_USEC (USEC_PER_SEC)
#define HELD_RETRY "60" /* seconds; a limit may be raised at any time */

struct note {
        struct list link;
        char tenant[65];
        char *model;
        struct usage usage;
};

struct spend {
        struct gateway *gateway;
        struct list notes; /* oldest first; the first may be on its way */
        size_t n;
        bool telling;
        struct loop_timer again;
};

/* ---- before ---- */

struct asked {
        struct http_request *req;
        void (*go)(struct http_request *req);
};

static void on_verdict(void *userdata, int r, const void *reply)
{
        cleanup_free struct asked *a = userdata;
        const struct usage_verdict *m = reply;

        if (r < 0)
                http_reply_rpc_error(a->req, r, reply);
        else if (m->hold) {
                http_reply_header(a->req, "Retry-After", HELD_RETRY);
                http_reply_error(a->req, ERROR_CODE_RATE_LIMITED, NULL, "%s", m->hold);
        } else
                a->go(a->req);
}

void spend_ask(struct http_request *req, void (*go)(struct http_request *req))
{
        struct gateway *g = req->gateway;
        struct asked *a = xnew(struct asked);

        *a = (struct asked){ .req = req, .go = go };
        if (rpc_call(rpc_client_peer(g->coordinator), &wire_usage_may,
                     &(struct usage_may){ .tenant = req->principal.tenant },
                     MIN(g->settings->request_timeout, GATEWAY_ANSWER_USEC), on_verdict, a) < 0) {
                free(a);
                http_reply_busy(req, "coordinator");
        }
}

/* ---- after ---- */

static void note_free(struct spend *s, struct note *n)
{
        list_remove(&n->link);
        s->n--;
        free(n->model);
        free(n);
}

static void tell(void *userdata);

static void on_added(void *userdata, int r, const void *reply)
{
        struct spend *s = userdata;
        struct note *n = list_first(&s->notes, struct note, link);

        s->telling = false;
        if (r == -ECANCELED)
                return;
        if (r == -EREMOTEIO) {
                loop_timer_arm(&s->again, AGAIN_USEC);
                return;
        }
        if (r < 0)
                log_warning("whether the use of %s was counted is not known", n->model);
        note_free(s, n);
        tell(s);
}

static void tell(void *userdata)
{
        struct spend *s = userdata;
        struct gateway *g = s->gateway;
        const struct note *n = list_first(&s->notes, struct note, link);

        if (!n || s->telling)
                return;
        const struct usage_add m = { .tenant = n->tenant, .model = n->model, .usage = n->usage };
        s->telling = rpc_call(rpc_client_peer(g->coordinator), &wire_usage_add, &m,
                              g->settings->request_timeout, on_added, s) >= 0;
        if (!s->telling)
                loop_timer_arm(&s->again, AGAIN_USEC);
}

void spend_note(struct spend *s, const char *tenant, const char *model, const struct usage *u)
{
        if (s->n >= NOTES_MAX) {
                log_error("the coordinator is away for too long: a use of %s is not counted",
                          model);
                return;
        }
        struct note *n = xnew(struct note);
        (void) snprintf(n->tenant, sizeof(n->tenant), "%s", tenant);
        n->model = xstrdup(model);
        n->usage = *u;
        list_push_back(&s->notes, &n->link);
        s->n++;
        tell(s);
}

struct spend *spend_new(struct gateway *g)
{
        struct spend *s = xnew(struct spend);

        s->gateway = g;
        list_init(&s->notes);
        if (loop_timer_init(&s->again, g->event, tell, s) < 0) {
                free(s);
                return NULL;
        }
        return s;
}

struct spend *spend_free(struct spend *s)
{
        struct note *n;

        if (!s)
                return NULL;
        if (s->n > 0)
                log_warning("%zu uses of models were not counted", s->n);
        while ((n = list_first(&s->notes, struct note, link)))
                note_free(s, n);
        loop_timer_done(&s->again);
        free(s);
        return NULL;
}
