/* c-ares in the loop. */
#include "resolve.h"

#include <ares.h>
#include <netinet/in.h>

#include "common/io/log.h"

#define SOCKETS_MAX 16
#define TRY_MS 2000 /* per server and try; c-ares doubles it */
#define TRIES 3

struct resolver {
        sd_event *event;
        ares_channel channel;
        struct {
                int fd;
                sd_event_source *source;
        } sockets[SOCKETS_MAX];
        struct loop_timer timer;
};

struct lookup {
        resolved_fn fn; /* NULL once cancelled */
        void *userdata;
        bool answered;
        int r;
        uint16_t port;
        struct address addresses[ADDRESSES_MAX];
        size_t n;
        struct loop_task report;
};

static void arm(struct resolver *r)
{
        struct timeval tv, *next = ares_timeout(r->channel, NULL, &tv);
        if (next)
                loop_timer_arm(&r->timer, (uint64_t) next->tv_sec * USEC_PER_SEC +
                                                  (uint64_t) next->tv_usec + USEC_PER_MSEC);
        else
                loop_timer_disarm(&r->timer);
}

static void on_timer(void *userdata)
{
        struct resolver *r = userdata;
        ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
        arm(r);
}

static int on_socket(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct resolver *r = userdata;
        ares_process_fd(r->channel,
                        revents & (EPOLLIN | EPOLLERR | EPOLLHUP) ? fd : ARES_SOCKET_BAD,
                        revents & EPOLLOUT ? fd : ARES_SOCKET_BAD);
        arm(r);
        return 0;
}

static void on_socket_state(void *userdata, ares_socket_t fd, int readable, int writable)
{
        struct resolver *r = userdata;
        uint32_t events = (readable ? EPOLLIN : 0U) | (writable ? EPOLLOUT : 0U);
        size_t free_at = SOCKETS_MAX;
        for (size_t i = 0; i < SOCKETS_MAX; i++) {
                if (!r->sockets[i].source) {
                        free_at = MIN(free_at, i);
                        continue;
                }
                if (r->sockets[i].fd != fd)
                        continue;
                if (events)
                        (void) sd_event_source_set_io_events(r->sockets[i].source, events);
                else
                        r->sockets[i].source = sd_event_source_disable_unref(r->sockets[i].source);
                return;
        }
        if (!events || free_at == SOCKETS_MAX)
                return; /* without a place the query ends by its time limit */
        r->sockets[free_at].fd = fd;
        int e = sd_event_add_io(r->event, &r->sockets[free_at].source, fd, events, on_socket, r);
        if (e < 0)
                log_errno(LOG_WARNING, e, "resolver: cannot watch a socket");
}

int resolver_new(sd_event *e, const char *servers, struct resolver **ret)
{
        CLEANUP(resolver_freep) struct resolver *r = xnew(struct resolver);
        struct ares_options o = { .timeout = TRY_MS,
                                  .tries = TRIES,
                                  .lookups = (char *) "fb",
                                  .sock_state_cb = on_socket_state,
                                  .sock_state_cb_data = r };
        r->event = e;
        int code = loop_timer_init(&r->timer, e, on_timer, r);
        if (code < 0)
                return code;
        if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS ||
            ares_init_options(&r->channel, &o,
                              ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
                                      ARES_OPT_SOCK_STATE_CB) != ARES_SUCCESS)
                return -ENOMEM;
        if (servers && ares_set_servers_ports_csv(r->channel, servers) != ARES_SUCCESS)
                return -EINVAL;
        *ret = TAKE_PTR(r);
        return 0;
}

struct resolver *resolver_free(struct resolver *r)
{
        if (!r)
                return NULL;
        if (r->channel)
                ares_destroy(r->channel); /* ends every lookup, closes every socket */
        for (size_t i = 0; i < SOCKETS_MAX; i++)
                sd_event_source_disable_unref(r->sockets[i].source);
        loop_timer_done(&r->timer);
        free(r);
        return NULL;
}

static void lookup_destroy(struct lookup *l)
{
        loop_task_done(&l->report);
        free(l);
}

static void report(void *userdata)
{
        struct lookup *l = userdata;
        l->fn(l->userdata, l->r, l->addresses, l->n);
        lookup_destroy(l);
}

static void on_answer(void *userdata, int status, int timeouts, struct ares_addrinfo *list)
{
        struct lookup *l = userdata;
        for (const struct ares_addrinfo_node *n = list ? list->nodes : NULL;
             n && l->n < ADDRESSES_MAX; n = n->ai_next) {
                struct address *a = &l->addresses[l->n];
                if (n->ai_addrlen > sizeof(a->storage))
                        continue;
                memcpy(&a->storage, n->ai_addr, n->ai_addrlen);
                a->len = n->ai_addrlen;
                if (a->storage.ss_family == AF_INET)
                        ((struct sockaddr_in *) &a->storage)->sin_port = htons(l->port);
                else
                        ((struct sockaddr_in6 *) &a->storage)->sin6_port = htons(l->port);
                l->n++;
        }
        if (list)
                ares_freeaddrinfo(list);
        l->r = l->n > 0 ? 0
               : status == ARES_ENOTFOUND || status == ARES_ENODATA || status == ARES_SUCCESS
                       ? -ENOENT
                       : -EIO;
        l->answered = true;
        if (status == ARES_EDESTRUCTION || !l->fn)
                lookup_destroy(l);
        else
                loop_task_queue(&l->report);
}

int resolver_lookup(struct resolver *r, const char *host, uint16_t port, resolved_fn fn,
                    void *userdata, struct lookup **ret)
{
        static const struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC,
                                                          .ai_socktype = SOCK_STREAM };
        struct lookup *l = xnew(struct lookup);
        l->fn = fn;
        l->userdata = userdata;
        l->port = port;
        int e = loop_task_init(&l->report, r->event, report, l);
        if (e < 0) {
                free(l);
                return e;
        }
        *ret = l;
        ares_getaddrinfo(r->channel, host, NULL, &hints, on_answer, l); /* may answer at once */
        arm(r);
        return 0;
}

struct lookup *lookup_cancel(struct lookup *l)
{
        if (!l)
                return NULL;
        l->fn = NULL;
        if (l->answered)
                lookup_destroy(l);
        /* Else c-ares still holds it: its answer ends it. */
        return NULL;
}
