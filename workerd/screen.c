/* The screen's link to the RFB server: bytes in and out, the frame, the end of it all. */
#include "screen-private.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE (256 * 1024)
#define READS_PER_TURN 16

void screen_flush(struct screen *s)
{
        struct buf *out = &s->rfb.out;
        while (buf_pending(out) > 0) {
                ssize_t n =
                        send(s->fd, buf_head(out), buf_pending(out), MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        break; /* a lost server shows as end of stream */
                buf_consume(out, (size_t) n);
        }
        if (buf_pending(out) == 0)
                buf_clear(out);
        uint32_t events = EPOLLIN | (buf_pending(out) > 0 ? (uint32_t) EPOLLOUT : 0);
        (void) sd_event_source_set_io_events(s->io, events);
}

static int work(struct screen *s)
{
        int r = rfb_work(&s->rfb);
        if (s->rfb.generation != s->seen_generation) {
                s->seen_generation = s->rfb.generation;
                s->changed_at = now_monotonic();
        }
        if (r < 0)
                screen_end(s, s->rfb.why);
        return r;
}

/* After a turn's bytes: answers, and what waited for the frame. */
static void worked(struct screen *s)
{
        screen_flush(s);
        if (s->ready || !s->rfb.whole)
                return;
        s->ready = true;
        s->x = s->rfb.width / 2; /* where an X server puts the pointer at first */
        s->y = s->rfb.height / 2;
        if (s->config.on_ready)
                s->config.on_ready(s->config.userdata);
}

static void on_work(void *userdata)
{
        struct screen *s = userdata;
        if (s->ended || s->freed)
                return;
        int r = work(s);
        if (r < 0)
                return;
        if (r > 0)
                loop_task_queue(&s->work);
        else
                (void) sd_event_source_set_enabled(s->io, SD_EVENT_ON);
        worked(s);
}

static int receive(struct screen *s)
{
        static char data[READ_SIZE];
        for (unsigned i = 0; i < READS_PER_TURN; i++) {
                ssize_t n = recv(s->fd, data, sizeof(data), MSG_DONTWAIT);
                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return 0;
                if (n <= 0) {
                        screen_end(s, "the display server closed the connection");
                        return -ECONNRESET;
                }
                if (rfb_feed(&s->rfb, data, (size_t) n) < 0) {
                        screen_end(s, "the display server sends too much");
                        return -ENOBUFS;
                }
                int r = work(s);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct screen *s = userdata;
        if (revents & EPOLLOUT) {
                screen_flush(s);
                screen_play(s);
        }
        if (!(revents & (EPOLLIN | EPOLLHUP | EPOLLERR)) || s->ended || s->freed)
                return 0;
        int r = receive(s);
        if (r < 0 || s->freed)
                return 0;
        if (r > 0) {
                /* More work than one turn may take: read no more until it is done. */
                (void) sd_event_source_set_enabled(s->io, SD_EVENT_OFF);
                loop_task_queue(&s->work);
        }
        worked(s);
        return 0;
}

int screen_new(const struct screen_config *c, struct screen **ret)
{
        struct screen *s = xnew(struct screen);
        s->config = *c;
        s->fd = c->fd;
        s->changed_at = now_monotonic();
        rfb_init(&s->rfb);
        list_init(&s->actions);
        list_init(&s->waiters);
        list_init(&s->shots);
        s->png = png_writer_new();
        int r = fcntl(s->fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
        if (r == 0)
                r = loop_task_init(&s->work, c->event, on_work, s);
        if (r == 0)
                r = loop_task_init(&s->shoot, c->event, screen_on_shoot, s);
        if (r == 0)
                r = loop_timer_init(&s->pace, c->event, screen_on_pace, s);
        if (r == 0)
                r = loop_timer_init(&s->quiet, c->event, screen_look_at_waiters, s);
        if (r == 0)
                r = sd_event_add_io(c->event, &s->io, s->fd, EPOLLIN, on_io, s);
        if (r < 0) {
                screen_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

static void stop_sources(struct screen *s)
{
        s->io = sd_event_source_disable_unref(s->io);
        loop_timer_disarm(&s->pace);
        loop_timer_disarm(&s->quiet);
}

void screen_end(struct screen *s, const char *why)
{
        if (s->ended || s->freed)
                return;
        s->ended = true;
        stop_sources(s);
        screen_actions_end(s, -ECONNRESET);
        if (!s->freed)
                screen_waits_end(s, -ECONNRESET);
        if (!s->freed && s->config.on_end)
                s->config.on_end(s->config.userdata, why);
}

static void destroy(void *p)
{
        struct screen *s = p;
        loop_task_done(&s->work);
        loop_task_done(&s->shoot);
        loop_timer_done(&s->pace);
        loop_timer_done(&s->quiet);
        fd_close(s->fd);
        rfb_done(&s->rfb);
        png_writer_free(s->png);
        buf_done(&s->picture);
        free(s->scaled);
        free(s);
}

struct screen *screen_free(struct screen *s)
{
        if (!s || s->freed)
                return NULL;
        s->freed = true;
        stop_sources(s);
        screen_actions_end(s, -ECANCELED);
        screen_waits_end(s, -ECANCELED);
        /* A callback of ours may be on the stack. */
        loop_defer_free(s->config.event, s, destroy);
        return NULL;
}

bool screen_ready(const struct screen *s)
{
        return s->ready && !s->ended;
}

void screen_size(const struct screen *s, unsigned *ret_width, unsigned *ret_height)
{
        *ret_width = s->rfb.width;
        *ret_height = s->rfb.height;
}

void screen_cursor(const struct screen *s, unsigned *ret_x, unsigned *ret_y)
{
        *ret_x = s->x;
        *ret_y = s->y;
}

int screen_resize(struct screen *s, unsigned width, unsigned height)
{
        if (!s->ready || s->ended || s->freed)
                return -ENOTCONN;
        if (width < SCREEN_SIDE_MIN || height < SCREEN_SIDE_MIN || width > SCREEN_SIDE_MAX ||
            height > SCREEN_SIDE_MAX || (uint64_t) width * height > RFB_PIXELS_MAX)
                return -ERANGE;
        int r = rfb_set_size(&s->rfb, width, height);
        if (r == 0)
                screen_flush(s);
        return r;
}

uint64_t screen_generation(const struct screen *s)
{
        return s->rfb.generation;
}
