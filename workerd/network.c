/* Turns refusals of the egress proxy into events and approvals, and approvals into policy. */
#include "network.h"

#include "common/base/netpolicy.h"
#include "common/io/log.h"

#define AGAIN_USEC (60 * USEC_PER_SEC)

struct denial {
        struct network *network;
        char *host;
        uint16_t port;
        char reason[41];
        uint64_t count, told_at; /* since the last event; when that was */
        bool asking, refused;    /* a person is asked; said no for the session */
        struct loop_timer once;  /* allowed until then */
};

struct network {
        struct network_config c; /* strings owned; policy unused */
        struct slot *slot;
        json_t *policy; /* object: as the session has it, and what was added */
        struct denial denials[NETWORK_DENIALS_MAX];
        size_t n_denials;
        bool overflow;
};

static void push(struct network *n)
{
        cleanup_free char *text = n->policy ? json_text(n->policy) : NULL;
        if (n->slot)
                slot_set_network(n->slot, span_of(text), n->c.tenant, n->c.agent_name);
}

static char *rule_of(const struct denial *d)
{
        bool v6 = strchr(d->host, ':') != NULL;
        return xasprintf("%s%s%s:%u", v6 ? "[" : "", d->host, v6 ? "]" : "", d->port);
}

static void allow(struct denial *d)
{
        struct network *n = d->network;
        cleanup_free char *rule = rule_of(d);
        json_t *list = json_object_get(n->policy, "allow");
        if (!json_is_array(list)) {
                list = json_array();
                (void) json_object_set_new(n->policy, "allow", list);
        }
        if (json_array_size(list) >= NETWORK_RULES_MAX) {
                log_warning("network: no room for another host");
                return;
        }
        (void) json_array_append_new(list, json_string(rule));
        push(n);
}

static void on_once_over(void *userdata)
{
        struct denial *d = userdata;
        cleanup_free char *rule = rule_of(d);
        json_t *list = json_object_get(d->network->policy, "allow");
        for (size_t i = json_array_size(list); i-- > 0;)
                if (streq(json_string_value(json_array_get(list, i)), rule))
                        (void) json_array_remove(list, i);
        push(d->network);
}

static void on_decided(void *userdata, enum approval_verdict verdict)
{
        struct denial *d = userdata;
        d->asking = false;
        switch (verdict) {
        case APPROVAL_DENY_SESSION:
                d->refused = true;
                return;
        case APPROVAL_DENY_ONCE:
                return;
        case APPROVAL_ALLOW_ONCE:
                loop_timer_arm(&d->once, NETWORK_ONCE);
                break;
        case APPROVAL_ALLOW_SESSION:
                break;
        }
        allow(d);
}

static void ask(struct denial *d, const struct egress_verdict *v)
{
        if (d->asking || d->refused || loop_timer_armed(&d->once) ||
            !(streq(v->reason, "not_listed") || streq(v->reason, "port_not_allowed")))
                return;
        cleanup_json json_t *details =
                json_pack("{s:s, s:s}", "method", v->method, "reason", v->reason);
        int r = approvals_ask_network(d->network->c.approvals, d->host, d->port, details,
                                      on_decided, d);
        d->asking = r == 0;
}

static struct denial *denial_of(struct network *n, const struct egress_verdict *v)
{
        for (size_t i = 0; i < n->n_denials; i++) {
                struct denial *d = &n->denials[i];
                if (d->port == v->port && streq(d->host, v->host) && streq(d->reason, v->reason))
                        return d;
        }
        if (n->n_denials == NETWORK_DENIALS_MAX)
                return NULL;
        struct denial *d = &n->denials[n->n_denials];
        if (loop_timer_init(&d->once, n->c.event, on_once_over, d) < 0)
                return NULL;
        n->n_denials++;
        d->network = n;
        d->host = xstrdup(v->host);
        d->port = (uint16_t) v->port;
        (void) snprintf(d->reason, sizeof(d->reason), "%s", v->reason);
        return d;
}

static void tell(struct network *n, const struct egress_verdict *v, uint64_t count)
{
        json_t *body = json_pack("{s:s, s:i, s:s, s:s, s:s, s:I}", "host", v->host, "port",
                                 (int) v->port, "method", v->method, "reason", v->reason, "message",
                                 v->detail, "count", (json_int_t) count);
        if (!body)
                return;
        struct append *a = append_new();
        append_event(a, EVENT_TYPE_NETWORK_DENIED, body);
        outbox_send(n->c.outbox, a, NULL, NULL);
}

/* What was no decision but bad luck is in the log only. */
static bool is_denial(const struct egress_verdict *v)
{
        return !v->allowed && !streq(v->reason, "unresolved") && !streq(v->reason, "unreachable") &&
               !streq(v->reason, "busy");
}

static void on_verdict(void *userdata, const struct egress_verdict *v)
{
        struct network *n = userdata;
        if (!is_denial(v))
                return;
        struct denial *d = denial_of(n, v);
        if (!d) {
                if (!n->overflow)
                        tell(n,
                             &(struct egress_verdict){ .host = "*",
                                                       .method = "",
                                                       .reason = "too_many",
                                                       .detail = "more hosts were refused than are "
                                                                 "listed here; the log has them" },
                             1);
                n->overflow = true;
                return;
        }
        d->count++;
        if (d->told_at == 0 || now_monotonic() - d->told_at >= AGAIN_USEC) {
                tell(n, v, d->count);
                d->count = 0;
                d->told_at = now_monotonic();
        }
        ask(d, v);
}

int network_new(const struct network_config *c, struct network **ret)
{
        struct network_policy policy;
        struct json_problem problem;
        cleanup_free char *error = NULL;
        CLEANUP(network_freep) struct network *n = xnew(struct network);
        n->c = *c;
        n->c.tenant = xstrdup(c->tenant);
        n->c.agent_name = xstrdup(c->agent_name);
        if (c->policy.len == 0 || span_eq(c->policy, "null"))
                n->policy = json_object();
        else if (json_parse(c->policy.data, c->policy.len, &n->policy, &problem) < 0)
                return -EINVAL;
        if (network_policy_parse(n->policy, &policy, &error) < 0) {
                log_error("%s", error);
                return -EINVAL;
        }
        network_policy_done(&policy);
        *ret = TAKE_PTR(n);
        return 0;
}

struct network *network_free(struct network *n)
{
        if (!n)
                return NULL;
        network_attach(n, NULL);
        for (size_t i = 0; i < n->n_denials; i++) {
                approvals_forget(n->c.approvals, &n->denials[i]);
                loop_timer_done(&n->denials[i].once);
                free(n->denials[i].host);
        }
        json_decref(n->policy);
        free((char *) n->c.tenant);
        free((char *) n->c.agent_name);
        free(n);
        return NULL;
}

void network_attach(struct network *n, struct slot *slot)
{
        if (n->slot && n->slot != slot) {
                slot_set_network(n->slot, (struct span){ 0 }, NULL, NULL);
                slot_on_verdict(n->slot, NULL, NULL);
        }
        n->slot = slot;
        if (!slot)
                return;
        slot_on_verdict(slot, on_verdict, n);
        push(n);
}

static const char *mode_of(const struct network *n)
{
        const char *mode = json_string_value(json_object_get(n->policy, "mode"));
        return mode ? mode : json_object_get(n->policy, "allow") ? "allow" : "none";
}

bool network_on(const struct network *n)
{
        return !streq(mode_of(n), "none");
}

char *network_words(const struct network *n)
{
        const json_t *list = json_object_get(n->policy, "allow");
        struct buf b = BUF_INIT;
        if (!network_on(n))
                return xstrdup("- There is no network. Do not retry what it refuses.\n");
        buf_puts(&b, "- The network is reached only through the proxy in the environment "
                     "(http_proxy, https_proxy); there is no DNS. ");
        if (streq(mode_of(n), "open"))
                buf_puts(&b, "All public hosts on the ports 80 and 443.\n");
        else {
                buf_puts(&b, "Allowed hosts:");
                for (size_t i = 0; i < json_array_size(list) && i < 50; i++)
                        buf_putf(&b, "%s %s", i ? "," : "",
                                 json_string_value(json_array_get(list, i)));
                buf_puts(&b, ". A refused host (403) is shown to the person, who may allow it: go "
                             "on with other work and try again later, at most a few times.\n");
        }
        return buf_take(&b, NULL);
}
