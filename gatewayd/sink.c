/* Queues of frames to clients: bounded, joined into one write per client and turn, ended when too
 * slow. */
#include "gatewayd/sink-private.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "gatewayd/gateway.h"
#include "gatewayd/metrics.h"

#define IOV_MAX_PER_WRITE 64
#define UNSENT_MAX                                                                                 \
        (128 << 10)       /* what the kernel may hold for a client beyond what is on its way       \
                           */
#define CONTROL_EXTRA 32u /* control frames beyond the bound: pongs, the lagged frame, close */
#define CLOSING_USEC (5 * USEC_PER_SEC)      /* without progress */
#define CLOSING_MAX_USEC (60 * USEC_PER_SEC) /* in all */
#define REST_FROM_USEC UINT64_C(500)
#define REST_MAX_USEC (20 * USEC_PER_MSEC)
#define GOODBYE_USEC (2 * USEC_PER_SEC)
#define READ_SIZE 65536u
#define RECHECK_USEC USEC_PER_SEC
#define READS_PER_TURN 4

enum sink_kind sink_kind(const struct sink *s)
{
        return s->class->kind;
}

void *sink_userdata(const struct sink *s)
{
        return s->userdata;
}

void sink_set_userdata(struct sink *s, void *userdata)
{
        s->userdata = userdata;
}

size_t sink_frames(const struct sink *s)
{
        return s->held;
}

size_t sink_bytes(const struct sink *s)
{
        return s->bytes;
}

/* What counts in the bound: a frame that is larger than all of it (a list of many sessions) was
 * taken alone, and what comes while it is under way must have its own room. */
static size_t counted(const struct sink *s)
{
        return s->bytes - s->oversize;
}

static bool half_full(const struct sink *s)
{
        return counted(s) >= SINK_BYTES_MAX / 2 || s->held >= SINK_FRAMES_MAX / 2;
}

size_t sink_space(const struct sink *s)
{
        if (s->state != SINK_OPEN || half_full(s))
                return 0;
        return SINK_FRAMES_MAX / 2 - s->held;
}

static void want_events(struct sink *s)
{
        uint32_t events = (s->paused ? 0 : EPOLLIN) | (s->count > 0 ? EPOLLOUT : 0);

        if (events == s->events || !s->io)
                return;
        s->events = events;
        (void) sd_event_source_set_io_events(s->io, events);
}

void sink_pause(struct sink *s, bool pause)
{
        s->paused = pause;
        want_events(s);
}

static void drop_queue(struct sink *s)
{
        for (uint32_t i = 0; i < s->count; i++)
                (void) frame_unref(s->ring[(s->first + i) % s->ring_size]);
        free(s->ring);
        s->ring = NULL;
        s->ring_size = s->first = s->count = s->held = 0;
        s->offset = s->bytes = s->oversize = 0;
}

static void set_state(struct sink *s, enum sink_state to)
{
        s->state = to;
        list_remove(&s->all);
        if (to == SINK_CLOSING || to == SINK_CLOSED_OUT) {
                s->beat_us = now_monotonic(); /* no heartbeats any more: when the end began */
                s->deadline_us = s->beat_us + (to == SINK_CLOSING ? CLOSING_USEC : GOODBYE_USEC);
                list_push_back(&s->set->closing, &s->all);
        }
}

void sink_end(struct sink *s)
{
        if (s->state == SINK_DEAD)
                return;
        set_state(s, SINK_DEAD);
        list_remove(&s->dirty);
        s->io = sd_event_source_disable_unref(s->io);
        s->fd = fd_close(s->fd);
        if (s->slot)
                http_slot_release(s->set->gateway->http, TAKE_PTR(s->slot));
        s->grant = auth_grant_release(s->grant);
        drop_queue(s);
        s->set->n[s->class->kind]--;
        list_push_back(&s->set->doomed, &s->doomed);
        loop_task_queue(&s->set->reap);
}

static void reap(void *userdata)
{
        struct sink_set *set = userdata;
        struct sink *s;

        while ((s = list_first(&set->doomed, struct sink, doomed))) {
                list_remove(&s->doomed);
                s->ops->gone(s);
                s->class->destroy(s);
        }
}

static void grow(struct sink *s)
{
        uint32_t size = s->ring_size ? s->ring_size * 2 : 4;
        struct frame **ring = xnewn(struct frame *, size);

        for (uint32_t i = 0; i < s->count; i++)
                ring[i] = s->ring[(s->first + i) % s->ring_size];
        free(s->ring);
        s->ring = ring;
        s->ring_size = size;
        s->first = 0;
}

static void queue_flush(struct sink_set *set)
{
        if (!set->joining && !loop_timer_armed(&set->rest))
                loop_task_queue(&set->flush);
}

void sink_flush_soon(struct sink_set *set)
{
        queue_flush(set);
}

void sink_set_before_flush(struct sink_set *set, void (*fn)(void *userdata), void *userdata)
{
        set->before_flush = fn;
        set->before_userdata = userdata;
}

static void queue_frame(struct sink *s, struct frame *f)
{
        if (s->count == s->ring_size)
                grow(s);
        if (s->count == 0 && f->len > SINK_BYTES_MAX)
                s->oversize = f->len;
        s->ring[(s->first + s->count++) % s->ring_size] = f;
        s->bytes += f->len;
        s->held += f->events;
        if (half_full(s))
                s->over_half = true;
        if (s->dirty.next == NULL || s->dirty.next == &s->dirty)
                list_push_back(&s->set->dirty, &s->dirty);
        queue_flush(s->set);
}

void sink_push_control(struct sink *s, struct frame *f)
{
        if (s->state == SINK_DEAD || s->state == SINK_CLOSED_OUT) {
                (void) frame_unref(f);
                return;
        }
        if (s->count >= SINK_FRAMES_MAX + CONTROL_EXTRA) { /* floods us and does not read */
                (void) frame_unref(f);
                sink_end(s);
                return;
        }
        queue_frame(s, f);
}

void sink_close_with(struct sink *s, struct frame *last)
{
        if (s->state != SINK_OPEN) {
                (void) frame_unref(last);
                return;
        }
        if (last)
                sink_push_control(s, last);
        if (s->state == SINK_DEAD)
                return;
        set_state(s, SINK_CLOSING);
        /* Even with nothing to send, the end comes from the flush at the end of the turn. */
        if (s->dirty.next == NULL || s->dirty.next == &s->dirty)
                list_push_back(&s->set->dirty, &s->dirty);
        queue_flush(s->set);
}

void sink_close(struct sink *s, uint16_t code, const char *reason)
{
        if (s->state == SINK_OPEN)
                sink_close_with(s, s->class->closing ? s->class->closing(code, reason) : NULL);
}

void sink_peer_closed(struct sink *s)
{
        if (s->state == SINK_CLOSED_OUT || s->count == 0)
                sink_end(s);
        else
                set_state(s, SINK_CLOSING);
}

/* ---- writing ---- */

static void consume(struct sink *s, size_t n)
{
        s->bytes -= n;
        s->oversize -= MIN(s->oversize, n);
        n += s->offset;
        while (s->count > 0 && n >= s->ring[s->first]->len) {
                n -= s->ring[s->first]->len;
                s->held -= s->ring[s->first]->events;
                (void) frame_unref(s->ring[s->first]);
                s->first = (s->first + 1) % s->ring_size;
                s->count--;
        }
        s->offset = n;
}

static void drained(struct sink *s)
{
        drop_queue(s);
        if (s->state == SINK_CLOSING) {
                (void) shutdown(s->fd, SHUT_WR);
                set_state(s, SINK_CLOSED_OUT);
                if (s->class->eof_is_dead)
                        sink_end(s);
        }
}

static void write_frames(struct sink *s)
{
        for (;;) {
                struct iovec iov[IOV_MAX_PER_WRITE];
                size_t n = MIN((size_t) s->count, (size_t) IOV_MAX_PER_WRITE), total = 0;
                for (size_t i = 0; i < n; i++) {
                        struct frame *f = s->ring[(s->first + i) % s->ring_size];
                        size_t skip = i == 0 ? s->offset : 0;
                        iov[i] = (struct iovec){ f->data + skip, f->len - skip };
                        total += f->len - skip;
                }
                if (n == 0)
                        break;
                struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };
                ssize_t r = sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (r < 0 && errno != EAGAIN && errno != EINTR) {
                        sink_end(s);
                        return;
                }
                if (r > 0) {
                        consume(s, (size_t) r);
                        if (s->state == SINK_CLOSING)
                                s->deadline_us = MIN(now_monotonic() + CLOSING_USEC,
                                                     s->beat_us + CLOSING_MAX_USEC);
                }
                if (r < (ssize_t) total)
                        break;
        }
        if (s->count == 0)
                drained(s);
        want_events(s);
}

static bool has_room(const struct sink *s, const struct frame *f)
{
        return s->count == 0 ||
               (s->held + f->events <= SINK_FRAMES_MAX && counted(s) + f->len <= SINK_BYTES_MAX);
}

/* One commit may bring more than the queue holds: what the client's socket takes goes at once, so
 * that only a client that does not read is found too slow. */
static void make_room(struct sink *s, const struct frame *f)
{
        if (s->state == SINK_OPEN && (half_full(s) || !has_room(s, f)) && !(s->events & EPOLLOUT))
                write_frames(s);
}

bool sink_fits(struct sink *s, const struct frame *f)
{
        make_room(s, f);
        if (s->state != SINK_OPEN || has_room(s, f))
                return true; /* or sink_push says what is wrong */
        s->over_half = true;
        return false;
}

int sink_push(struct sink *s, struct frame *f)
{
        make_room(s, f);
        if (s->state != SINK_OPEN)
                return -EPIPE;
        if (f->live && half_full(s))
                return 0;
        if (!has_room(s, f)) {
                struct frame *last = s->ops->lagged ? s->ops->lagged(s) : NULL;
                if (last)
                        sink_push_control(s, last);
                metrics_lagged(s->set->gateway->metrics);
                sink_close(s, SINK_CLOSE_LAGGED, "too slow, resume");
                return -EMSGSIZE;
        }
        queue_frame(s, frame_ref(f));
        return 0;
}

void sink_set_unsent(struct sink *s, size_t max)
{
        if (s->fd >= 0)
                (void) setsockopt(s->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){ (int) max },
                                  sizeof(int));
}

int sink_send(struct sink *s, struct span data)
{
        uint8_t head[10];
        struct iovec iov[2] = { { head, frame_ws_head(WS_BINARY, data.len, head) },
                                { (void *) data.data, data.len } };
        struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
        ssize_t n = 0;

        if (s->state != SINK_OPEN)
                return -EPIPE;
        if (s->count > 0) {
                struct frame *f = frame_ws_binary(&data, 1);
                int r = sink_push(s, f);
                (void) frame_unref(f);
                return r;
        }
        n = sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
                sink_end(s);
                return -EPIPE;
        }
        size_t sent = n > 0 ? (size_t) n : 0;
        if (sent == iov[0].iov_len + data.len)
                return 0;
        struct frame *rest = frame_ws_binary(&data, 1);
        queue_frame(s, rest);
        consume(s, sent);
        want_events(s);
        return 0;
}

static void write_out(struct sink *s)
{
        write_frames(s);
        if (s->state == SINK_OPEN && s->over_half && !half_full(s)) {
                s->over_half = false;
                if (s->ops->room)
                        s->ops->room(s);
        }
}

static void flush(void *userdata)
{
        struct sink_set *set = userdata;
        uint64_t took = now_monotonic();
        struct list now;
        struct sink *s;

        set->joining = true;
        if (set->before_flush)
                set->before_flush(set->before_userdata);
        set->joining = false;
        /* What is pushed while this runs (room) is for the next turn. */
        list_init(&now);
        while ((s = list_first(&set->dirty, struct sink, dirty))) {
                list_remove(&s->dirty);
                list_push_back(&now, &s->dirty);
        }
        while ((s = list_first(&now, struct sink, dirty))) {
                list_remove(&s->dirty);
                write_out(s);
        }
        /* Many clients make a turn's writes dear: what comes meanwhile is joined with them, and
         * half of the time is left for everything else. */
        took = now_monotonic() - took;
        if (took > REST_FROM_USEC)
                loop_timer_arm(&set->rest, MIN(took, REST_MAX_USEC));
}

/* ---- the loop's side ---- */

static void on_input(struct sink *s)
{
        static char scratch[READ_SIZE];

        for (int i = 0; i < READS_PER_TURN && s->state != SINK_DEAD && !s->paused; i++) {
                ssize_t n = recv(s->fd, scratch, sizeof(scratch), MSG_DONTWAIT);
                if (n < 0) {
                        if (errno != EAGAIN && errno != EINTR)
                                sink_end(s);
                        return;
                }
                if (n == 0) {
                        sink_end(s);
                        return;
                }
                s->heard_us = now_monotonic();
                s->class->input(s, scratch, (size_t) n);
                if ((size_t) n < sizeof(scratch))
                        return;
        }
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct sink *s = userdata;

        if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                if (s->paused && (revents & (EPOLLHUP | EPOLLERR))) {
                        sink_end(s);
                        return 0;
                }
                on_input(s);
        }
        if (s->state != SINK_DEAD && (revents & EPOLLOUT)) {
                /* It had no room and has some now: the client reads. Pings may still wait behind
                 * much else. */
                s->heard_us = now_monotonic();
                write_out(s);
        }
        return 0;
}

static void beat(struct sink_set *set, enum sink_kind kind, uint64_t now)
{
        struct sink *s;

        while ((s = list_first(&set->open[kind], struct sink, all)) && s->beat_us <= now) {
                uint64_t interval = s->class->heartbeat_usec(s);
                if (s->class->mute_is_dead && now > s->heard_us + 2 * interval + interval / 2) {
                        sink_end(s);
                        continue;
                }
                s->beat_us = now + interval;
                list_remove(&s->all);
                list_push_back(&set->open[kind], &s->all);
                struct frame *f = s->class->heartbeat(s);
                if (f)
                        sink_push_control(s, f);
        }
}

/* A token that was revoked ends the streams it opened. */
static void recheck(struct sink_set *set, uint64_t now)
{
        struct sink *s, *tmp;

        if (now < set->recheck_us)
                return;
        set->recheck_us = now + RECHECK_USEC;
        for (int kind = 0; kind < 2; kind++)
                list_foreach_safe (s, tmp, &set->open[kind], all)
                        if (s->grant && !auth_grant_stands(s->grant))
                                sink_close(s, SINK_CLOSE_POLICY, "token revoked");
}

static void on_tick(void *userdata)
{
        struct sink_set *set = userdata;
        uint64_t now = now_monotonic();
        struct sink *s, *tmp;

        loop_timer_arm(&set->tick, USEC_PER_SEC / 2);
        beat(set, SINK_WS, now);
        beat(set, SINK_SSE, now);
        recheck(set, now);
        list_foreach_safe (s, tmp, &set->closing, all)
                if (s->deadline_us <= now)
                        sink_end(s);
}

int sink_init(struct sink *s, struct sink_set *set, const struct sink_class *class, int fd,
              void *slot, struct auth_grant *grant, const struct sink_ops *ops, void *userdata)
{
        uint64_t now = now_monotonic();

        s->class = class;
        s->set = set;
        s->ops = ops;
        s->userdata = userdata;
        s->fd = fd;
        s->slot = slot;
        s->grant = grant;
        s->heard_us = now;
        s->beat_us = now + class->heartbeat_usec(s);
        s->events = EPOLLIN;
        /* Not all are TCP; those that are not have small buffers anyway. */
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){ UNSENT_MAX }, sizeof(int));
        int r = sd_event_add_io(set->gateway->event, &s->io, fd, EPOLLIN, on_io, s);
        if (r < 0) {
                s->fd = fd_close(s->fd);
                http_slot_release(set->gateway->http, TAKE_PTR(s->slot));
                s->grant = auth_grant_release(s->grant);
                return r;
        }
        set->n[class->kind]++;
        list_push_back(&set->open[class->kind], &s->all);
        return 0;
}

int sink_set_new(struct gateway *g, struct sink_set **ret)
{
        struct sink_set *set = xnew(struct sink_set);

        set->gateway = g;
        list_init(&set->open[SINK_WS]);
        list_init(&set->open[SINK_SSE]);
        list_init(&set->closing);
        list_init(&set->dirty);
        list_init(&set->doomed);
        int r = loop_task_init(&set->flush, g->event, flush, set);
        if (r >= 0)
                r = loop_task_init(&set->reap, g->event, reap, set);
        if (r >= 0)
                r = loop_timer_init(&set->rest, g->event, flush, set);
        if (r >= 0)
                r = loop_timer_init(&set->tick, g->event, on_tick, set);
        if (r < 0) {
                (void) sink_set_free(set);
                return r;
        }
        loop_timer_arm(&set->tick, USEC_PER_SEC / 2);
        *ret = set;
        return 0;
}

void sink_set_close_all(struct sink_set *set, uint16_t code, const char *reason)
{
        struct sink *s, *tmp;

        for (int kind = 0; kind < 2; kind++)
                list_foreach_safe (s, tmp, &set->open[kind], all)
                        sink_close(s, code, reason);
}

bool sink_set_empty(const struct sink_set *set)
{
        return set->n[SINK_WS] == 0 && set->n[SINK_SSE] == 0;
}

struct sink_set *sink_set_free(struct sink_set *set)
{
        struct sink *s;

        if (!set)
                return NULL;
        while ((s = list_first(&set->open[SINK_WS], struct sink, all)) ||
               (s = list_first(&set->open[SINK_SSE], struct sink, all)) ||
               (s = list_first(&set->closing, struct sink, all)))
                sink_end(s);
        reap(set);
        loop_task_done(&set->flush);
        loop_task_done(&set->reap);
        loop_timer_done(&set->rest);
        loop_timer_done(&set->tick);
        free(set);
        return NULL;
}
