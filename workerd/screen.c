/* The screen's link to its decoder: orders out, what it tells of the frame in, the end of it all.
 */
#include "screen-private.h"

int screen_flush(struct screen *s)
{
        if (s->n_out == 0)
                return 0;
        int r = decoder_send(s->decoder, s->out, s->n_out);
        if (r == 0)
                s->n_out = 0;
        return r;
}

int screen_order(struct screen *s, const struct decoder_order *o)
{
        if (s->n_out == ARRAY_LEN(s->out)) {
                int r = screen_flush(s);
                if (r < 0)
                        return r;
        }
        s->out[s->n_out++] = *o;
        return 0;
}

static void on_frame(void *userdata, const struct decoder_news *n)
{
        struct screen *s = userdata;
        if (s->ended || s->freed)
                return;
        if (n->generation != s->generation)
                s->changed_at = now_monotonic();
        s->generation = n->generation;
        s->width = n->width;
        s->height = n->height;
        s->place = n->place;
        s->whole = n->whole != 0;
        s->sizable = n->sizable != 0;
        if (s->ready || !s->whole)
                return;
        s->ready = true;
        s->x = s->width / 2; /* where an X server puts the pointer at first */
        s->y = s->height / 2;
        if (s->config.on_ready)
                s->config.on_ready(s->config.userdata);
}

static void on_room(void *userdata)
{
        struct screen *s = userdata;
        if (s->ended || s->freed)
                return;
        if (screen_flush(s) == 0) {
                loop_task_queue(&s->shoot);
                screen_play(s);
        }
}

static void on_end(void *userdata, bool lost, const char *why)
{
        struct screen *s = userdata;
        s->lost = lost;
        screen_end(s, why);
}

int screen_new(const struct screen_config *c, struct screen **ret)
{
        struct screen *s = xnew(struct screen);
        cleanup_close int server = c->fd; /* the decoder has its own copy */
        s->config = *c;
        s->config.fd = -1;
        s->changed_at = now_monotonic();
        list_init(&s->actions);
        list_init(&s->waiters);
        list_init(&s->shots);
        struct decoder_config d = { .event = c->event,
                                    .program = c->decoder,
                                    .identity = c->identity,
                                    .server = server,
                                    .on_frame = on_frame,
                                    .on_picture = screen_on_answer,
                                    .on_room = on_room,
                                    .on_end = on_end,
                                    .userdata = s };
        int r = loop_task_init(&s->shoot, c->event, screen_on_shoot, s);
        if (r == 0)
                r = loop_timer_init(&s->pace, c->event, screen_on_pace, s);
        if (r == 0)
                r = loop_timer_init(&s->quiet, c->event, screen_look_at_waiters, s);
        if (r == 0)
                r = loop_timer_init(&s->answer, c->event, screen_on_late, s);
        if (r == 0)
                r = decoder_new(&d, &s->decoder);
        if (r < 0) {
                screen_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

static void stop_sources(struct screen *s)
{
        loop_timer_disarm(&s->answer);
        loop_timer_disarm(&s->pace);
        loop_timer_disarm(&s->quiet);
}

void screen_end(struct screen *s, const char *why)
{
        if (s->ended || s->freed)
                return;
        s->ended = true;
        s->decoder = decoder_free(s->decoder);
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
        loop_task_done(&s->shoot);
        loop_timer_done(&s->answer);
        loop_timer_done(&s->pace);
        loop_timer_done(&s->quiet);
        buf_done(&s->picture);
        free(s);
}

struct screen *screen_free(struct screen *s)
{
        if (!s || s->freed)
                return NULL;
        s->freed = true;
        s->decoder = decoder_free(s->decoder);
        stop_sources(s);
        screen_actions_end(s, -ECANCELED);
        screen_waits_end(s, -ECANCELED);
        /* A callback of ours may be on the stack. */
        loop_defer_free(s->config.event, s, destroy);
        return NULL;
}

bool screen_decoder_lost(const struct screen *s)
{
        return s->lost;
}

bool screen_ready(const struct screen *s)
{
        return s->ready && !s->ended;
}

void screen_size(const struct screen *s, unsigned *ret_width, unsigned *ret_height)
{
        *ret_width = s->width;
        *ret_height = s->height;
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
        if (!s->sizable)
                return -EOPNOTSUPP;
        const struct decoder_order o = { .kind = ORDER_SIZE, .size = { width, height } };
        int r = screen_order(s, &o);
        if (r == 0)
                (void) !screen_flush(s); /* else when there is room */
        return r;
}

uint64_t screen_generation(const struct screen *s)
{
        return s->generation;
}
