/* Drives libcurl's multi interface from the sd-event loop: sockets, its timer, ends of transfers.
 */
#include "httpc-private.h"

#include <sys/epoll.h>

#define CONNECTIONS_KEPT 32L
#define CONNECTIONS_MAX 128L
#define CONNECTIONS_PER_HOST_MAX 64L

struct watched {
        struct list link;
        struct httpc *client;
        sd_event_source *source;
};

static void settle(struct httpc *h);

static void unwatch(struct watched *w)
{
        list_remove(&w->link);
        sd_event_source_disable_unref(w->source);
        free(w);
}

static void client_destroy(struct httpc *h)
{
        (void) curl_multi_cleanup(h->multi);
        struct watched *w, *next;
        list_foreach_safe (w, next, &h->sockets, link) {
                unwatch(w);
        }
        loop_timer_done(&h->timer);
        sd_event_unref(h->event);
        free(h);
        curl_global_cleanup();
}

static void enter(struct httpc *h)
{
        h->depth++;
}

static void leave(struct httpc *h)
{
        if (h->depth == 1)
                settle(h);
        if (--h->depth == 0 && h->dead)
                client_destroy(h);
}

static void act(struct httpc *h, curl_socket_t fd, int what)
{
        int left;
        enter(h);
        h->in_curl = true;
        (void) curl_multi_socket_action(h->multi, fd, what, &left);
        h->in_curl = false;
        leave(h);
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
        struct watched *w = userdata;
        int what = (revents & EPOLLIN ? CURL_CSELECT_IN : 0) |
                   (revents & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (revents & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR | CURL_CSELECT_IN : 0);
        act(w->client, fd, what);
        return 0;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *per_socket)
{
        struct httpc *h = userdata;
        struct watched *w = per_socket;
        if (what == CURL_POLL_REMOVE) {
                if (w)
                        unwatch(w);
                (void) curl_multi_assign(h->multi, fd, NULL);
                return 0;
        }
        uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0) |
                          (what & CURL_POLL_OUT ? (uint32_t) EPOLLOUT : 0);
        if (w)
                return sd_event_source_set_io_events(w->source, events) < 0 ? -1 : 0;
        w = xnew(struct watched);
        w->client = h;
        list_push_back(&h->sockets, &w->link);
        if (sd_event_add_io(h->event, &w->source, fd, events, on_io, w) < 0) {
                unwatch(w);
                return -1;
        }
        (void) curl_multi_assign(h->multi, fd, w);
        return 0;
}

static int on_curl_timer(CURLM *multi, long msec, void *userdata)
{
        struct httpc *h = userdata;
        if (msec < 0)
                loop_timer_disarm(&h->timer);
        else
                loop_timer_arm(&h->timer, (uint64_t) msec * USEC_PER_MSEC);
        return 0;
}

static void on_timer(void *userdata)
{
        act(userdata, CURL_SOCKET_TIMEOUT, 0);
}

/* Takes the easy handle out of libcurl and ends the request. */
static void end_running(struct httpc_request *r, int result, const char *text)
{
        (void) curl_multi_remove_handle(r->client->multi, r->easy);
        httpc_request_finish(r, result, text);
}

static bool settle_done(struct httpc *h)
{
        int left;
        CURLMsg *m = curl_multi_info_read(h->multi, &left);
        if (!m)
                return false;
        struct httpc_request *r = NULL;
        if (m->msg != CURLMSG_DONE ||
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **) &r) != CURLE_OK || !r)
                return true;
        char text[CURL_ERROR_SIZE];
        CURLcode code = m->data.result;
        int result = httpc_result(r, code);
        (void) snprintf(text, sizeof(text), "%s",
                        result == -EMSGSIZE ? "the answer is larger than allowed"
                        : *r->error         ? r->error
                                            : curl_easy_strerror(code));
        end_running(r, result, text);
        return true;
}

/* What callbacks asked for while libcurl was on the stack. */
static void settle_requests(struct httpc *h)
{
        struct httpc_request *r, *next;
        list_foreach_safe (r, next, &h->requests, link) {
                if (r->state == REQUEST_CANCELLED) {
                        end_running(r, -ECANCELED, "");
                } else if (r->state == REQUEST_NEW) {
                        r->state = REQUEST_RUNNING;
                        (void) curl_multi_add_handle(h->multi, r->easy);
                }
        }
}

static void settle(struct httpc *h)
{
        while (settle_done(h))
                ;
        settle_requests(h);
}

static void cancel_all(struct httpc *h)
{
        struct httpc_request *r;
        list_foreach (r, &h->requests, link) {
                r->state = REQUEST_CANCELLED;
        }
}

int httpc_new(sd_event *e, struct httpc **ret)
{
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return -ENOMEM;
        struct httpc *h = xnew(struct httpc);
        *h = (struct httpc){ .event = sd_event_ref(e), .multi = curl_multi_init() };
        list_init(&h->requests);
        list_init(&h->sockets);
        int r = loop_timer_init(&h->timer, e, on_timer, h);
        if (r < 0 || !h->multi ||
            curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_socket) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, CONNECTIONS_MAX) !=
                    CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_MAX_HOST_CONNECTIONS, CONNECTIONS_PER_HOST_MAX) !=
                    CURLM_OK) {
                client_destroy(h);
                return r < 0 ? r : -ENOMEM;
        }
        *ret = h;
        return 0;
}

struct httpc *httpc_free(struct httpc *h)
{
        if (!h || h->dead)
                return NULL;
        h->dead = true;
        enter(h);
        cancel_all(h);
        leave(h);
        return NULL;
}

int httpc_start(struct httpc *h, const struct httpc_config *c, struct httpc_request **ret)
{
        struct httpc_request *r;
        if (h->dead)
                return -ECANCELED;
        if (h->n_requests >= HTTPC_REQUESTS_MAX)
                return -EAGAIN;
        int e = httpc_request_new(h, c, &r);
        if (e < 0)
                return e;
        list_push_back(&h->requests, &r->link);
        h->n_requests++;
        if (!h->in_curl) {
                r->state = REQUEST_RUNNING;
                if (curl_multi_add_handle(h->multi, r->easy) != CURLM_OK) {
                        r->state = REQUEST_CANCELLED;
                        httpc_request_finish(r, -ENOMEM, "");
                        return -ENOMEM;
                }
        }
        if (ret)
                *ret = r;
        return 0;
}

void httpc_cancel(struct httpc_request *r)
{
        if (r->state == REQUEST_CANCELLED)
                return;
        r->state = REQUEST_CANCELLED;
        if (!r->client->in_curl)
                end_running(r, -ECANCELED, "");
}

void httpc_request_stalled(struct httpc_request *r)
{
        struct httpc *h = r->client;
        enter(h);
        end_running(r, -ETIMEDOUT, "no byte arrived within the allowed time");
        leave(h);
}
