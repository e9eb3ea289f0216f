/* A fake decoder that was taken over by its display server: what it says to the worker is nonsense.
 * Its kind is the last letter of the name it was started under. */
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "workerd/decoder/decoder.h"

static void say(const struct decoder_news *n)
{
        if (send(DECODER_CONTROL, n, sizeof(*n), MSG_NOSIGNAL) < 0)
                _exit(1);
}

static void good_frame(void)
{
        say(&(struct decoder_news){
                .kind = NEWS_FRAME, .width = 100, .height = 80, .generation = 1, .whole = 1 });
}

static void await_order(struct decoder_order *ret)
{
        struct decoder_order orders[DECODER_ORDERS_MAX];
        struct pollfd p = { .fd = DECODER_CONTROL, .events = POLLIN };
        do {
                (void) poll(&p, 1, -1);
                if (recv(DECODER_CONTROL, orders, sizeof(orders), 0) <= 0)
                        _exit(0);
                *ret = orders[0];
        } while (ret->kind != ORDER_PICTURE);
}

static void false_picture(const char *bytes, size_t n, size_t claimed, uint32_t number_off)
{
        struct decoder_order o;
        uint8_t *memory = mmap(NULL, DECODER_MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                               DECODER_MEMORY, 0);
        if (memory == MAP_FAILED)
                _exit(1);
        good_frame();
        await_order(&o);
        memcpy(memory + DECODER_PICTURE_AT, bytes, n);
        say(&(struct decoder_news){ .kind = NEWS_PICTURE,
                                    .number = o.picture.number + number_off,
                                    .bytes = (uint32_t) claimed,
                                    .width = 1,
                                    .height = 1 });
}

int main(int argc, char **argv)
{
        char self[4096];
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self));
        struct decoder_news bad = { .kind = NEWS_FRAME, .width = 100, .height = 80 };
        static const char png[64] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff";
        struct decoder_order o;
        switch (n > 0 ? self[n - 1] : '?') {
        case 'a': /* ends at once */
                return 7;
        case 'b': /* not a packet of ours */
                (void) !send(DECODER_CONTROL, "hello", 5, 0);
                break;
        case 'c': /* a frame outside the memory */
                bad.place = 4000000000U;
                say(&bad);
                break;
        case 'd': /* a size that would lead out of it */
                bad.width = bad.height = 65535;
                say(&bad);
                break;
        case 'e': /* another kind of news */
                bad.kind = 99;
                say(&bad);
                break;
        case 'f': /* a picture that nobody wants */
                good_frame();
                say(&(struct decoder_news){ .kind = NEWS_PICTURE, .bytes = 100 });
                break;
        case 'g': /* a picture that is none, of a wrong size, longer than its place, of another
                     order */
                false_picture("<script>alert(1)</script>", 25, 100, 0);
                break;
        case 'h':
                false_picture(png, sizeof(png), sizeof(png), 0);
                break;
        case 'i':
                false_picture(png, sizeof(png), 0xffffffff, 0);
                break;
        case 'j':
                false_picture(png, sizeof(png), sizeof(png), 1);
                break;
        case 'k': /* last words for the log of the worker */
                bad.kind = NEWS_END;
                memset(bad.why, 'x', sizeof(bad.why));
                say(&bad);
                break;
        case 'l':
                bad.kind = NEWS_END;
                (void) snprintf(bad.why, sizeof(bad.why), "\033]0;all is well\a\nsession 1: done");
                say(&bad);
                break;
        case 'm': /* crashes while it owes a picture */
                good_frame();
                await_order(&o);
                abort();
        default:
                return 9;
        }
        for (;;)
                (void) pause();
}
