/* The proxy: accepts clients, keeps the policy the worker sends, and tells it what was refused. */
#include "egress.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/json.h"
#include "common/io/local-address.h"

/* Tunnels above TUNNELS_MAX only carry a refusal; beyond this they are not even taken. */
#define CLIENTS_MAX (TUNNELS_MAX + 32)

void proxy_tell(struct proxy *p, const struct egress_verdict *v)
{
        static const uint8_t none[WIRE_CORRELATION];
        cleanup_buf struct buf frame = BUF_LIMIT(4096);
        log_at(v->allowed ? LOG_INFO : LOG_NOTICE,
               "%s %s:%u %s%s%s %s, %" PRIu64 " bytes up, %" PRIu64 " down", v->method, v->host,
               v->port, v->allowed ? "allowed" : "refused", v->address ? " at " : "",
               v->address ? v->address : "", v->reason, v->bytes_up, v->bytes_down);
        if (wire_pack(&frame, &wire_egress_verdict, v, 0, none) < 0 ||
            send(p->control, buf_head(&frame), buf_pending(&frame), MSG_DONTWAIT | MSG_NOSIGNAL) <
                    0)
                p->lost_verdicts++; /* the log has it */
}

bool proxy_address_allowed(const struct proxy *p, const struct sockaddr *a, const char **ret_what)
{
        for (size_t i = 0; i < p->n_ranges; i++)
                if (address_in_range(a, &p->ranges[i]))
                        return true;
        *ret_what = address_not_public(a);
        return !*ret_what;
}

/* --- control ---------------------------------------------------------------------------------- */

static void set_up(struct proxy *p, const struct egress_setup *m)
{
        cleanup_json json_t *network = NULL;
        cleanup_free char *error = NULL;
        struct json_problem problem;
        struct network_policy policy = { 0 };
        if (m->network.len > 0 &&
            (json_parse(m->network.data, m->network.len, &network, &problem) < 0 ||
             network_policy_parse(network, &policy, &error) < 0))
                log_error("a policy that cannot be read: nothing is allowed");
        network_policy_done(&p->policy);
        p->policy = policy;
        free(p->tenant);
        free(p->agent);
        p->tenant = xstrdup(m->tenant);
        p->agent = xstrdup(m->agent_name);
}

/* Returns a number of bytes, 0 at the end, or a negative errno; *ret_fd is -1 when none came. */
static ssize_t receive(int control, char *data, size_t n, int *ret_fd)
{
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } room;
        struct iovec iov = { data, n };
        struct msghdr h = { .msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = room.bytes,
                            .msg_controllen = sizeof(room.bytes) };
        ssize_t got = recvmsg(control, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        *ret_fd = -1;
        if (got < 0)
                return -errno;
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
                memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
        return got;
}

static int on_control(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct proxy *p = userdata;
        static char data[128 * 1024];
        cleanup_close int client = -1;
        struct wire_envelope e;
        void *msg = NULL;
        ssize_t n = receive(fd, data, sizeof(data), &client);
        if (n == -EAGAIN || n == -EINTR)
                return 0;
        if (n <= 0)
                return sd_event_exit(p->event, 0); /* the worker is gone */
        wire_arena_reset(p->arena);
        if (wire_open((struct span){ data, (size_t) n }, &e) < 0)
                return sd_event_exit(p->event, -EBADMSG);
        if (e.id == wire_egress_setup.id &&
            wire_unpack(&wire_egress_setup, e.body, p->arena, &msg) == 0)
                set_up(p, msg);
        else if (e.id == wire_egress_client.id && client >= 0 && p->n_tunnels < CLIENTS_MAX)
                tunnel_new(p, TAKE_FD(client));
        return 0;
}

static int on_listener(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct proxy *p = userdata;
        for (int i = 0; i < 16; i++) {
                int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (client < 0)
                        return 0;
                if (p->n_tunnels < CLIENTS_MAX)
                        tunnel_new(p, client);
                else
                        fd_close(client);
        }
        return 0;
}

/* --- configuration ---------------------------------------------------------------------------- */

static int parse_address(const char *text, struct address *ret)
{
        struct sockaddr_in *v4 = (void *) &ret->storage;
        struct sockaddr_in6 *v6 = (void *) &ret->storage;
        *ret = (struct address){ 0 };
        if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
                v4->sin_family = AF_INET;
                ret->len = sizeof(*v4);
        } else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
                v6->sin6_family = AF_INET6;
                ret->len = sizeof(*v6);
        } else
                return -EINVAL;
        return 0;
}

/* Calls take() with each member of a list with commas. */
static int each(struct proxy *p, const char *list, int (*take)(struct proxy *p, char *text),
                const char *what, char **ret_error)
{
        cleanup_free char *copy = xstrdup(list ? list : "");
        char *save = NULL;
        for (char *s = strtok_r(copy, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
                int r = take(p, strstrip(s));
                if (r < 0) {
                        *ret_error = xasprintf("\"%s\" is not %s%s", s, what,
                                               r == -E2BIG ? ", or there are too many" : "");
                        return r;
                }
        }
        return 0;
}

static int take_range(struct proxy *p, char *text)
{
        if (p->n_ranges == RANGES_MAX)
                return -E2BIG;
        int r = address_range_parse(text, &p->ranges[p->n_ranges]);
        p->n_ranges += r == 0;
        return r;
}

static int take_host(struct proxy *p, char *text)
{
        char name[HOST_TEXT_MAX], *equals = strchr(text, '=');
        enum host_kind kind;
        if (p->n_hosts == HOSTS_MAX)
                return -E2BIG;
        struct static_host *h = &p->hosts[p->n_hosts];
        if (!equals ||
            host_normalise((struct span){ text, (size_t) (equals - text) }, name, &kind) < 0 ||
            parse_address(equals + 1, &h->address) < 0)
                return -EINVAL;
        h->name = xstrdup(name);
        p->n_hosts++;
        return 0;
}

static int make_tls(struct proxy *p, const char *ca_file, char **ret_error)
{
        p->tls = SSL_CTX_new(TLS_client_method());
        if (!p->tls || SSL_CTX_set_default_verify_paths(p->tls) != 1 ||
            SSL_CTX_set_min_proto_version(p->tls, TLS1_2_VERSION) != 1) {
                *ret_error = xstrdup("TLS cannot be set up");
                return -EIO;
        }
        if (ca_file && SSL_CTX_load_verify_locations(p->tls, ca_file, NULL) != 1) {
                *ret_error = xasprintf("%s holds no certificates in PEM", ca_file);
                return -EINVAL;
        }
        SSL_CTX_set_verify(p->tls, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_options(p->tls, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
        SSL_CTX_set_mode(p->tls, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                         SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
        return 0;
}

static int configure(struct proxy *p, const struct proxy_config *c, char **ret_error)
{
        int r = each(p, c->private_ranges, take_range, "a range of addresses such as 10.1.0.0/16",
                     ret_error);
        if (r == 0)
                r = each(p, c->hosts, take_host, "a host and its address, name=address", ret_error);
        if (r == 0 && c->credentials)
                r = credentials_read(p, c->credentials, ret_error);
        if (r == 0 && p->n_credentials > 0)
                r = make_tls(p, c->ca_file, ret_error);
        if (r < 0)
                return r;
        r = resolver_new(p->event, c->dns, &p->resolver);
        if (r < 0)
                *ret_error = xasprintf("the resolver cannot be made: %s", strerror(-r));
        return r;
}

int proxy_new(sd_event *e, const struct proxy_config *c, struct proxy **ret, char **ret_error)
{
        CLEANUP(proxy_freep) struct proxy *p = xnew(struct proxy);
        *ret_error = NULL;
        p->event = sd_event_ref(e);
        p->listener = c->listener;
        p->control = c->control;
        p->idle_usec = c->idle_usec;
        p->arena = wire_arena_new();
        list_init(&p->tunnels);
        int r = configure(p, c, ret_error);
        if (r == 0)
                r = sd_event_add_io(e, &p->controlling, p->control, EPOLLIN, on_control, p);
        if (r >= 0 && p->listener >= 0)
                r = sd_event_add_io(e, &p->listening, p->listener, EPOLLIN, on_listener, p);
        if (r < 0) {
                if (!*ret_error)
                        *ret_error = xstrdup(strerror(-r));
                return r;
        }
        *ret = TAKE_PTR(p);
        return 0;
}

struct proxy *proxy_free(struct proxy *p)
{
        if (!p)
                return NULL;
        while (!list_empty(&p->tunnels))
                tunnel_free(tunnel_of(p->tunnels.next));
        resolver_free(p->resolver);
        SSL_CTX_free(p->tls);
        credentials_done(p);
        for (size_t i = 0; i < p->n_hosts; i++)
                free(p->hosts[i].name);
        network_policy_done(&p->policy);
        sd_event_source_disable_unref(p->listening);
        sd_event_source_disable_unref(p->controlling);
        fd_close(p->listener);
        fd_close(p->control);
        free(p->tenant);
        free(p->agent);
        wire_arena_free(p->arena);
        sd_event_unref(p->event);
        free(p);
        return NULL;
}
