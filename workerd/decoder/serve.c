/* The decoder's loop: bytes of the server into the frame, orders of the worker to the server,
 * pictures.
 */
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "decoder.h"
#include "png.h"
#include "resample.h"

#define READ_SIZE (256 * 1024)
#define READS_PER_TURN 16
/* Input that the server has not taken; from then on orders wait in the socket, and so does the
 * worker. */
#define OUT_HIGH 4096
#define LAST_WORDS_MS 1000

struct decoder {
        int control, server;
        uint8_t *memory;
        struct rfb rfb;
        bool working; /* the budget of a turn ended before the bytes did */
        struct decoder_news told, answer;
        bool answering;
        struct png_writer *png;
        uint32_t *scaled;
        size_t scaled_room; /* pixels */
        struct buf picture;
};

static int say(struct decoder *d, const struct decoder_news *n)
{
        ssize_t sent;
        do
                sent = send(d->control, n, sizeof(*n), MSG_DONTWAIT | MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        return sent < 0 ? -errno : 0;
}

/* The display has ended, and with it this process. */
static __attribute__((noreturn)) void end(struct decoder *d, const char *why)
{
        struct decoder_news n = { .kind = NEWS_END };
        struct pollfd p = { .fd = d->control, .events = POLLOUT };
        (void) snprintf(n.why, sizeof(n.why), "%s", why);
        while (say(d, &n) == -EAGAIN && poll(&p, 1, LAST_WORDS_MS) > 0)
                ;
        _exit(0);
}

/* --- pictures --------------------------------------------------------------------------------- */

static int scale(struct decoder *d, const struct decoder_order *o, const uint32_t *pixels)
{
        size_t need = (size_t) o->picture.width * o->picture.height;
        if (need > d->scaled_room) {
                free(d->scaled);
                d->scaled = malloc(need * sizeof(*d->scaled));
                d->scaled_room = d->scaled ? need : 0;
        }
        if (!d->scaled)
                return -ENOMEM;
        resample(pixels, o->picture.w, o->picture.h, d->rfb.width, d->scaled, o->picture.width,
                 o->picture.height);
        return 0;
}

static int take_picture(struct decoder *d, const struct decoder_order *o)
{
        unsigned x = o->picture.x, y = o->picture.y, w = o->picture.w, h = o->picture.h;
        /* The screen may have become smaller since the picture was asked for. */
        if (!d->rfb.pixels || x > d->rfb.width || y > d->rfb.height || w > d->rfb.width - x ||
            h > d->rfb.height - y)
                return -ERANGE;
        const uint32_t *pixels = d->rfb.pixels + (size_t) y * d->rfb.width + x;
        size_t stride = d->rfb.width;
        int r = 0;
        if (o->picture.width != w || o->picture.height != h) {
                r = scale(d, o, pixels);
                pixels = d->scaled;
                stride = o->picture.width;
        }
        buf_clear(&d->picture);
        if (r == 0)
                r = png_write(d->png, pixels, o->picture.width, o->picture.height, stride,
                              &d->picture);
        if (r == 0)
                memcpy(d->memory + DECODER_PICTURE_AT, d->picture.data, d->picture.len);
        return r;
}

static void on_picture(struct decoder *d, const struct decoder_order *o)
{
        int r = take_picture(d, o);
        d->answer = (struct decoder_news){ .kind = NEWS_PICTURE,
                                           .number = o->picture.number,
                                           .width = o->picture.width,
                                           .height = o->picture.height,
                                           .generation = d->rfb.generation,
                                           .bytes = r == 0 ? (uint32_t) d->picture.len : 0,
                                           .result = r };
        d->answering = true;
}

/* --- orders ----------------------------------------------------------------------------------- */

static void obey(struct decoder *d, const struct decoder_order *o)
{
        int r = 0;
        switch ((enum decoder_order_kind) o->kind) {
        case ORDER_KEY:
                r = rfb_key(&d->rfb, o->key.down != 0, o->key.keysym);
                break;
        case ORDER_POINTER:
                r = rfb_pointer(&d->rfb, o->pointer.buttons, o->pointer.x, o->pointer.y);
                break;
        case ORDER_SIZE:
                r = rfb_set_size(&d->rfb, o->size.width, o->size.height);
                break;
        case ORDER_PICTURE:
                on_picture(d, o);
                break;
        }
        if (r == -EAGAIN)
                end(d, "it does not read");
}

static void read_orders(struct decoder *d)
{
        struct decoder_order orders[DECODER_ORDERS_MAX];
        ssize_t n = recv(d->control, orders, sizeof(orders), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0)
                _exit(0); /* the worker has gone */
        for (size_t i = 0; i < (size_t) n / sizeof(*orders); i++)
                obey(d, &orders[i]);
}

/* --- the server ------------------------------------------------------------------------------- */

static void work(struct decoder *d)
{
        int r = rfb_work(&d->rfb);
        if (r < 0)
                end(d, d->rfb.why);
        d->working = r > 0;
}

static void read_server(struct decoder *d)
{
        static char data[READ_SIZE];
        for (unsigned i = 0; i < READS_PER_TURN && !d->working; i++) {
                ssize_t n = recv(d->server, data, sizeof(data), MSG_DONTWAIT);
                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                if (n <= 0)
                        end(d, "the display server closed the connection");
                if (rfb_feed(&d->rfb, data, (size_t) n) < 0)
                        end(d, "the display server sends too much");
                work(d);
        }
}

static void write_server(struct decoder *d)
{
        struct buf *out = &d->rfb.out;
        while (buf_pending(out) > 0) {
                ssize_t n = send(d->server, buf_head(out), buf_pending(out),
                                 MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return; /* a lost server shows as end of stream */
                buf_consume(out, (size_t) n);
        }
        buf_clear(out);
}

/* --- turns ------------------------------------------------------------------------------------ */

/* What the worker must know and does not yet; true while some of it waits for room. */
static bool tell(struct decoder *d)
{
        const struct rfb *r = &d->rfb;
        struct decoder_news n = { .kind = NEWS_FRAME,
                                  .width = r->width,
                                  .height = r->height,
                                  .place = r->place,
                                  .generation = r->generation,
                                  .whole = r->whole,
                                  .sizable = r->sizable };
        if (r->pixels && memcmp(&n, &d->told, sizeof(n)) != 0) {
                if (say(d, &n) < 0)
                        return true;
                d->told = n;
        }
        if (!d->answering)
                return false;
        d->answering = say(d, &d->answer) < 0;
        return d->answering;
}

static void turn(struct decoder *d)
{
        bool late = tell(d);
        write_server(d);
        size_t out = buf_pending(&d->rfb.out);
        struct pollfd p[2] = {
                { .fd = d->control,
                  .events = (short) ((out < OUT_HIGH && !d->answering ? POLLIN : 0) |
                                     (late ? POLLOUT : 0)) },
                { .fd = d->server,
                  .events = (short) ((d->working ? 0 : POLLIN) | (out > 0 ? POLLOUT : 0)) },
        };
        if (poll(p, 2, d->working ? 0 : -1) < 0)
                return; /* interrupted */
        if (d->working)
                work(d);
        else if (p[1].revents & (POLLIN | POLLHUP | POLLERR))
                read_server(d);
        if (p[0].revents & POLLIN)
                read_orders(d);
        else if (p[0].revents & (POLLHUP | POLLERR))
                _exit(0);
}

void decoder_serve(int control, int server, void *memory)
{
        uint8_t *at = memory;
        struct decoder d = { .control = control,
                             .server = server,
                             .memory = memory,
                             .picture = BUF_LIMIT(DECODER_PICTURE_BYTES) };
        uint32_t *const storage[2] = { (uint32_t *) (void *) at,
                                       (uint32_t *) (void *) (at + DECODER_FRAME_BYTES) };
        rfb_init(&d.rfb, storage);
        d.png = png_writer_new();
        for (;;)
                turn(&d);
}
