/* Waiting until the screen is quiet, and pictures of it. */
#include "common/io/log.h"
#include "screen-private.h"

/* A picture takes some ten milliseconds; a machine may be busy. */
#define ANSWER_USEC (20 * USEC_PER_SEC)

/* --- quiet ------------------------------------------------------------------------------------ */

static void waiter_end(struct screen *s, struct screen_waiter *w, int r)
{
        s->n_waiters--;
        list_remove(&w->link);
        if (w->fn)
                w->fn(w->userdata, r);
        free(w);
}

/* When this one is due, given what is known now; *ret_r is what it will be told. */
static uint64_t due(const struct screen *s, const struct screen_waiter *w, int *ret_r)
{
        uint64_t quiet = MAX(s->changed_at, w->started) + w->quiet_usec,
                 max = w->started + w->max_usec;
        *ret_r = quiet <= max ? 0 : 1;
        return MIN(quiet, max);
}

void screen_look_at_waiters(void *userdata)
{
        struct screen *s = userdata;
        struct screen_waiter *w;
        uint64_t now = now_monotonic(), next = UINT64_MAX;
        int r;
again:
        list_foreach (w, &s->waiters, link) {
                /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the list lets go of what is freed */
                if (w->started == 0 && s->done_number >= w->after)
                        w->started = now;
                if (w->started == 0)
                        continue;
                uint64_t at = due(s, w, &r);
                if (at <= now) {
                        waiter_end(s, w, r);
                        if (s->freed)
                                return;
                        next = UINT64_MAX;
                        goto again; /* the callback may have changed the list */
                }
                next = MIN(next, at);
        }
        if (next != UINT64_MAX)
                loop_timer_arm(&s->quiet, next - now);
        else
                loop_timer_disarm(&s->quiet);
}

int screen_wait_quiet(struct screen *s, unsigned quiet_ms, unsigned max_ms, screen_done_fn fn,
                      void *userdata)
{
        if (!s->ready || s->ended || s->freed)
                return -ENOTCONN;
        if (s->n_waiters >= SCREEN_WAITERS_MAX)
                return -EAGAIN;
        struct screen_waiter *w = xnew(struct screen_waiter);
        *w = (struct screen_waiter){ .after = s->last_number,
                                     .quiet_usec = quiet_ms * USEC_PER_MSEC,
                                     .max_usec = max_ms * USEC_PER_MSEC,
                                     .fn = fn,
                                     .userdata = userdata };
        s->n_waiters++;
        list_push_back(&s->waiters, &w->link);
        if (s->done_number >= w->after)
                w->started = now_monotonic();
        /* From the loop, also when it is due at once. */
        if (w->started && !loop_timer_armed(&s->quiet))
                loop_timer_arm(&s->quiet, MIN(w->quiet_usec, w->max_usec));
        return 0;
}

/* --- pictures --------------------------------------------------------------------------------- */

static void shot_drop(struct screen *s, struct screen_shot *shot)
{
        s->n_shots--;
        list_remove(&shot->link);
        if (s->taken == shot)
                s->taken = NULL;
}

static void shot_end(struct screen *s, struct screen_shot *shot, int r)
{
        shot_drop(s, shot);
        if (r < 0)
                shot->fn(shot->userdata, r, NULL, 0, 0, 0);
        else
                shot->fn(shot->userdata, 0, s->picture.data, s->picture.len, shot->width,
                         shot->height);
        free(shot);
}

static bool same_shot(const struct screen_shot *a, const struct screen_shot *b)
{
        return memcmp(&a->region, &b->region, sizeof(a->region)) == 0 && a->width == b->width &&
               a->height == b->height;
}

/* Nothing has changed since the picture we have was taken. */
static bool have(const struct screen *s, const struct screen_shot *shot)
{
        return s->picture.len > 0 && s->pictured_generation == s->generation &&
               same_shot(&s->pictured, shot);
}

static int ask(struct screen *s, struct screen_shot *shot)
{
        const struct screen_region *from = &shot->region;
        const struct decoder_order o = {
                .kind = ORDER_PICTURE,
                .picture = { s->asked + 1, from->x, from->y, from->width, from->height, shot->width,
                             shot->height },
        };
        int r = screen_order(s, &o);
        if (r < 0)
                return r;
        (void) !screen_flush(s);
        s->asked++;
        s->waiting = true;
        s->taken = shot;
        loop_timer_arm(&s->answer, ANSWER_USEC);
        return 0;
}

void screen_on_shoot(void *userdata)
{
        struct screen *s = userdata;
        struct screen_shot *shot = NULL;
        while (!s->ended && !s->freed && !s->waiting &&
               (shot = list_first(&s->shots, struct screen_shot, link))) {
                if (have(s, shot))
                        shot_end(s, shot, 0);
                else if (ask(s, shot) < 0)
                        return; /* called again when there is room */
        }
}

static int keep_picture(struct screen *s, const struct decoder_news *n, const void *png)
{
        buf_clear(&s->picture);
        if (n->result < 0)
                return n->result;
        /* From memory that the decoder may still write to: looked at after it was copied. */
        buf_put(&s->picture, png, n->bytes);
        if (!decoder_picture_sound(s->picture.data, s->picture.len, s->taken->width,
                                   s->taken->height)) {
                buf_clear(&s->picture);
                return -EBADMSG;
        }
        s->pictured = *s->taken;
        s->pictured_generation = n->generation;
        return 0;
}

void screen_on_answer(void *userdata, const struct decoder_news *n, const void *png)
{
        struct screen *s = userdata;
        int r = !s->waiting || n->number != s->asked ? -EBADMSG : 0;
        if (r == 0 && s->taken)
                r = keep_picture(s, n, png);
        if (r == -EBADMSG) {
                s->lost = true;
                screen_end(s, "the display decoder was ended: it sent no picture but nonsense");
                return;
        }
        struct screen_shot *shot = TAKE_PTR(s->taken);
        s->waiting = false;
        loop_timer_disarm(&s->answer);
        if (shot)
                shot_end(s, shot, r);
        screen_on_shoot(s);
}

void screen_on_late(void *userdata)
{
        struct screen *s = userdata;
        s->lost = true;
        screen_end(s, "the display decoder was ended: it does not answer");
}

/* The missing side keeps the aspect. */
static void complete_size(const struct screen_region *from, unsigned *width, unsigned *height)
{
        if (*width == 0 && *height == 0) {
                *width = from->width;
                *height = from->height;
        } else if (*height == 0)
                *height = MAX((unsigned) ((uint64_t) *width * from->height / from->width), 1U);
        else if (*width == 0)
                *width = MAX((unsigned) ((uint64_t) *height * from->width / from->height), 1U);
}

int screen_capture(struct screen *s, const struct screen_region *region, unsigned width,
                   unsigned height, screen_picture_fn fn, void *userdata)
{
        if (!s->ready || s->ended || s->freed)
                return -ENOTCONN;
        if (s->blind)
                return -EACCES;
        if (s->n_shots >= SCREEN_WAITERS_MAX)
                return -EAGAIN;
        struct screen_region from =
                region ? *region : (struct screen_region){ 0, 0, s->width, s->height };
        if (from.width == 0 || from.height == 0 || from.x > s->width || from.y > s->height ||
            from.width > s->width - from.x || from.height > s->height - from.y)
                return -ERANGE;
        complete_size(&from, &width, &height);
        if (width > SCREEN_SIDE_MAX || height > SCREEN_SIDE_MAX ||
            (uint64_t) width * height > RFB_PIXELS_MAX)
                return -ERANGE;
        struct screen_shot *shot = xnew(struct screen_shot);
        *shot = (struct screen_shot){
                .region = from, .width = width, .height = height, .fn = fn, .userdata = userdata
        };
        s->n_shots++;
        list_push_back(&s->shots, &shot->link);
        loop_task_queue(&s->shoot);
        return 0;
}

void screen_set_blind(struct screen *s, bool blind)
{
        struct screen_shot *shot = NULL;

        if (blind && !s->blind)
                log_debug("the screen is not looked at for a while");
        s->blind = blind;
        buf_clear(&s->picture); /* kept for whoever asks next */
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the list lets go of what is freed */
        while (blind && (shot = list_first(&s->shots, struct screen_shot, link)))
                shot_end(s, shot, -EACCES);
}

bool screen_blind(const struct screen *s)
{
        return s->blind;
}

const uint32_t *screen_pixels(const struct screen *s, unsigned *ret_width, unsigned *ret_height)
{
        if (!s->ready || s->ended || s->freed || s->blind || !s->whole)
                return NULL;
        *ret_width = s->width;
        *ret_height = s->height;
        return decoder_frame(s->decoder, s->place);
}

void screen_waits_end(struct screen *s, int r)
{
        struct screen_waiter *w;
        struct screen_shot *shot;
        /* NOLINTBEGIN(clang-analyzer-unix.Malloc): it does not see that the list lets go of what is
         * freed */
        while ((w = list_first(&s->waiters, struct screen_waiter, link)))
                waiter_end(s, w, r);
        while ((shot = list_first(&s->shots, struct screen_shot, link)))
                shot_end(s, shot, r);
        /* NOLINTEND(clang-analyzer-unix.Malloc) */
}

void screen_forget(struct screen *s, void *userdata)
{
        struct screen_waiter *w, *w_next;
        struct screen_shot *shot, *shot_next;
        list_foreach_safe (w, w_next, &s->waiters, link) {
                if (w->userdata != userdata)
                        continue;
                s->n_waiters--;
                list_remove(&w->link);
                free(w);
        }
        list_foreach_safe (shot, shot_next, &s->shots, link) {
                if (shot->userdata != userdata)
                        continue;
                shot_drop(s, shot);
                free(shot);
        }
}
