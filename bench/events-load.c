/* Load for bench/events: plays workers on coordinatord's worker socket and appends events as fast
 * as they are acknowledged, or at RATE events/s in all when that is not 0.
 * events-load SOCKET WORKERS ITEMS WINDOW SECONDS RATE SIZE; prints one JSON line. With a SIZE each
 * event holds "at", the monotonic time in microseconds, and is padded to about that many bytes. */
#include <systemd/sd-event.h>
#include <zmq.h>

#include "common/io/daemon.h"
#include "common/io/log.h"
#include "common/io/rpc.h"

#define LATENCIES_MAX 200000

struct load {
        sd_event *event;
        unsigned n_items, window;
        uint64_t begin, end, events, appends, refused, total, size;
        uint64_t *latency;
        size_t n_latency;
        struct loop_timer over, pace;
        uint64_t rate, paced_from, given; /* appends: given out since paced_from, by the rate */
        struct bench_worker *workers;
        size_t n_workers, turn;
};

struct bench_worker {
        struct load *load;
        struct rpc_link *link;
        char id[32], session_id[65];
        uint64_t epoch, next;
        unsigned flying, due;
        bool sending;
        struct loop_timer beat;
};

struct flight {
        struct bench_worker *w;
        uint64_t at;
};

static void pump(struct bench_worker *w);

static void on_appended(void *userdata, int r, const void *reply)
{
        struct flight *f = userdata;
        struct bench_worker *w = f->w;
        struct load *l = w->load;
        uint64_t now = now_monotonic();

        w->flying--;
        l->total += r < 0 ? 0 : l->n_items;
        if (r < 0) {
                l->refused++;
        } else if (l->begin) {
                l->events += l->n_items;
                l->appends++;
                if (l->n_latency < LATENCIES_MAX)
                        l->latency[l->n_latency++] = now - f->at;
        }
        free(f);
        pump(w);
}

#define ENVELOPE 146u /* bytes that the hub and the stream add around a body */

static struct span make_body(const struct load *l, char *buf, size_t size)
{
        static const char plain[] =
                "{\"level\":\"info\",\"message\":\"a line of an agent's log, about as "
                "long as they are in practice, with a number and a word or two\"}";

        if (l->size == 0)
                return (struct span){ plain, sizeof(plain) - 1 };
        size_t n = (size_t) snprintf(buf, size, "{\"at\":%" PRIu64 ",\"pad\":\"", now_monotonic());
        size_t pad = l->size > ENVELOPE + n + 2 ? MIN(l->size - ENVELOPE - n - 2, size - n - 2) : 0;
        memset(buf + n, 'x', pad);
        memcpy(buf + n + pad, "\"}", 2);
        return (struct span){ buf, n + pad + 2 };
}

static void pump(struct bench_worker *w)
{
        struct event_item items[64];
        struct load *l = w->load;
        char text[2048];

        while (w->sending && w->flying < l->window && (l->rate == 0 || w->due > 0)) {
                char idem[32];
                struct span body = make_body(l, text, sizeof(text));
                for (unsigned i = 0; i < l->n_items; i++)
                        items[i] = (struct event_item){ EVENT_TYPE_LOG, body };
                (void) snprintf(idem, sizeof(idem), "%" PRIu64, w->next++);
                struct event_append m = {
                        .session_id = w->session_id,
                        .epoch = w->epoch,
                        .idem = idem,
                        .items = items,
                        .n_items = l->n_items,
                };
                struct flight *f = xnew(struct flight);
                *f = (struct flight){ w, now_monotonic() };
                w->flying++;
                w->due -= w->due > 0;
                if (rpc_call(rpc_client_peer(w->link), &wire_event_append, &m, 10 * USEC_PER_SEC,
                             on_appended, f) < 0) {
                        w->flying--;
                        free(f);
                        return;
                }
        }
}

/* Each millisecond: as many appends as the rate asks for, spread over the workers. */
static void pace(void *userdata)
{
        struct load *l = userdata;
        uint64_t now = now_monotonic(), want;

        loop_timer_arm(&l->pace, USEC_PER_MSEC);
        if (!l->paced_from)
                l->paced_from = now;
        want = (now - l->paced_from) * l->rate / l->n_items / USEC_PER_SEC;
        for (; l->given < want; l->given++) {
                struct bench_worker *w = &l->workers[l->turn++ % l->n_workers];

                w->due++;
                pump(w);
        }
}

static int on_assign(void *userdata, struct rpc_peer *p, struct rpc_request *req, const void *msg)
{
        struct bench_worker *w = userdata;
        const struct session_assign *m = msg;
        struct ok_reply ok = { 0 };

        (void) snprintf(w->session_id, sizeof(w->session_id), "%s", m->session_id);
        w->epoch = m->epoch;
        rpc_reply(req, &ok);
        w->sending = true;
        pump(w);
        return 0;
}

static void ignore(void *userdata, int r, const void *reply)
{
}

static void beat(void *userdata)
{
        struct bench_worker *w = userdata;
        struct worker_heartbeat m = {
                .worker_id = w->id,
                .kind = SLOT_KIND_HEADLESS,
                .state = w->epoch ? SLOT_STATE_BUSY : SLOT_STATE_WARM,
                .session_id = w->epoch ? w->session_id : NULL,
                .epoch = w->epoch,
                .slot = { "{}", 2 },
                .load = { "{}", 2 },
        };
        int r = rpc_call(rpc_client_peer(w->link), &wire_worker_heartbeat, &m, USEC_PER_SEC, ignore,
                         w);

        if (r < 0)
                log_warning("heartbeat: %s", strerrordesc_np(-r));
        loop_timer_arm(&w->beat, 500 * USEC_PER_MSEC);
}

static void on_peer(void *userdata, struct rpc_peer *p, enum rpc_peer_event what)
{
        struct bench_worker *w = userdata;
        enum slot_kind kinds[] = { SLOT_KIND_HEADLESS };
        struct worker_hello m = {
                .worker_id = w->id,
                .instance = w->id,
                .version = "bench",
                .kind = SLOT_KIND_HEADLESS,
                .kinds = kinds,
                .n_kinds = 1,
                .state = SLOT_STATE_WARM,
                .endpoint = "/nowhere",
                .limits = { "{}", 2 },
        };

        if (what != RPC_PEER_UP)
                return;
        int r = rpc_call(p, &wire_worker_hello, &m, USEC_PER_SEC, ignore, w);
        if (r < 0)
                log_error("hello: %s", strerrordesc_np(-r));
        loop_timer_arm(&w->beat, 500 * USEC_PER_MSEC);
}

static void on_over(void *userdata)
{
        struct load *l = userdata;

        if (!l->begin) { /* warmed up: now it counts */
                l->begin = now_monotonic();
                loop_timer_arm(&l->over, l->end);
                return;
        }
        l->end = now_monotonic();
        (void) sd_event_exit(l->event, 0);
}

static int compare(const void *a, const void *b)
{
        const uint64_t *x = a, *y = b;
        return *x < *y ? -1 : *x > *y;
}

int main(int argc, char **argv)
{
        static const struct rpc_route routes[] = { { &wire_session_assign, on_assign } };
        struct load l = { 0 };
        uint64_t n[6];

        if (argc != 8)
                return 2;
        for (int i = 0; i < 6; i++)
                if (parse_u64(argv[i + 2], &n[i]) < 0)
                        return 2;
        l.n_items = (unsigned) MIN(n[1], 64U);
        l.window = (unsigned) n[2];
        l.end = n[3] * USEC_PER_SEC;
        l.rate = n[4];
        l.size = n[5];
        l.latency = xcalloc(LATENCIES_MAX, sizeof(*l.latency));
        log_open("events-load");
        if (sd_event_new(&l.event) < 0 || loop_timer_init(&l.over, l.event, on_over, &l) < 0 ||
            loop_timer_init(&l.pace, l.event, pace, &l) < 0)
                return 1;
        void *zmq = zmq_ctx_new();
        cleanup_free char *endpoint = xasprintf("ipc://%s", argv[1]);
        cleanup_free struct bench_worker *workers = xnewn(struct bench_worker, n[0]);
        l.workers = workers;
        l.n_workers = n[0];
        for (size_t i = 0; i < n[0]; i++) {
                struct bench_worker *w = &workers[i];
                struct rpc_config config = {
                        .event = l.event,
                        .zmq = zmq,
                        .endpoint = endpoint,
                        .routes = routes,
                        .n_routes = ARRAY_LEN(routes),
                        .on_peer = on_peer,
                        .userdata = w,
                };
                w->load = &l;
                (void) snprintf(w->id, sizeof(w->id), "bench%zu", i);
                if (loop_timer_init(&w->beat, l.event, beat, w) < 0 ||
                    rpc_client_new(&config, &w->link) < 0)
                        return 1;
        }
        loop_timer_arm(&l.over, 2 * USEC_PER_SEC);
        if (l.rate > 0)
                loop_timer_arm(&l.pace, USEC_PER_SEC);
        (void) sd_event_loop(l.event);
        qsort(l.latency, l.n_latency, sizeof(*l.latency), compare);
        double seconds = (double) (l.end - l.begin) / 1e6;
        printf("{\"workers\":%" PRIu64 ",\"items\":%u,\"window\":%u,\"events_per_s\":%.0f,"
               "\"appends_per_s\":%.0f,\"refused\":%" PRIu64 ",\"total\":%" PRIu64
               ",\"p50_ms\":%.2f,\"p99_ms\":%.2f}\n",
               n[0], l.n_items, l.window, (double) l.events / seconds, (double) l.appends / seconds,
               l.refused, l.total, l.n_latency ? (double) l.latency[l.n_latency / 2] / 1e3 : 0,
               l.n_latency ? (double) l.latency[l.n_latency * 99 / 100] / 1e3 : 0);
        return 0; /* the process's end releases links and timers */
}
