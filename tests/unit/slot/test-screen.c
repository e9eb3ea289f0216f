/* The screen between a fake display server and its real decoder, and before decoders that were
 * taken over: whatever they do, the worker goes on and says what happened. */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io/daemon.h"
#include "fake-rfb.h"
#include "fixture.h"
#include "workerd/screen-decoder.h"
#include "workerd/screen.h"

struct fake {
        sd_event *event;
        struct screen *screen;
        int server;
        struct buf script; /* what is left to say */
        size_t piece;      /* bytes said at once, 0 = all that fits */
        bool deaf;         /* does not read */
        uint64_t key_gap;  /* us, as in struct screen_config */
        bool ready, ended, done;
        screen_done_fn pasted; /* a paste was asked for */
        void *pasted_userdata;
        int result;
        struct buf png;
        char why[200];
};

static void on_ready(void *userdata)
{
        ((struct fake *) userdata)->ready = true;
}

static void on_end(void *userdata, const char *why)
{
        struct fake *f = userdata;
        f->ended = true;
        (void) snprintf(f->why, sizeof(f->why), "%s", why);
}

static void on_done(void *userdata, int r)
{
        struct fake *f = userdata;
        f->done = true;
        f->result = r;
}

static void on_picture(void *userdata, int r, const void *png, size_t n, unsigned width,
                       unsigned height)
{
        struct fake *f = userdata;
        buf_clear(&f->png);
        if (r == 0)
                buf_put(&f->png, png, n);
        on_done(f, r);
}

static int on_paste(void *userdata, const char *text, size_t n, screen_done_fn fn,
                    void *fn_userdata)
{
        struct fake *f = userdata;
        f->pasted = fn;
        f->pasted_userdata = fn_userdata;
        return 0;
}

static void begin(struct fake *f, const char *decoder)
{
        int pair[2];
        f->event = fixture_loop();
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        f->server = pair[0];
        struct screen_config c = { .event = f->event,
                                   .fd = pair[1],
                                   .decoder = decoder ? decoder : getenv("BERTH_DECODER"),
                                   .on_ready = on_ready,
                                   .on_end = on_end,
                                   .paste = on_paste,
                                   .no_spare_keys = f->key_gap > 0,
                                   .key_gap = f->key_gap,
                                   .userdata = f };
        assert_int_equal(screen_new(&c, &f->screen), 0);
}

static void finish(struct fake *f)
{
        screen_free(f->screen);
        f->server = fd_close(f->server);
        for (uint64_t until = now_monotonic() + 10 * USEC_PER_SEC;
             waitid(P_ALL, 0, &(siginfo_t){ 0 }, WEXITED | WNOHANG | WNOWAIT) == 0;) {
                assert_true(now_monotonic() < until); /* the loop collects the decoder */
                (void) sd_event_run(f->event, 10000);
        }
        fixture_loop_free(f->event);
        buf_done(&f->script);
        buf_done(&f->png);
        *f = (struct fake){ 0 };
}

/* The server's turn: some words out, the worker's in. */
static void serve(struct fake *f)
{
        static char bin[65536];
        while (buf_pending(&f->script) > 0) {
                size_t n = buf_pending(&f->script);
                ssize_t sent = send(f->server, buf_head(&f->script),
                                    f->piece ? MIN(n, f->piece) : n, MSG_DONTWAIT | MSG_NOSIGNAL);
                if (sent < 0 && errno == EAGAIN)
                        break;
                if (sent < 0) {
                        buf_clear(&f->script); /* hung up on */
                        break;
                }
                buf_consume(&f->script, (size_t) sent);
                if (f->piece)
                        break;
        }
        while (!f->deaf && recv(f->server, bin, sizeof(bin), MSG_DONTWAIT) > 0)
                ;
}

#define until(f, condition)                                                                        \
        do {                                                                                       \
                uint64_t stop_at = now_monotonic() + 60 * USEC_PER_SEC;                            \
                while (!(condition)) {                                                             \
                        assert_true(now_monotonic() < stop_at);                                    \
                        serve(f);                                                                  \
                        (void) sd_event_run((f)->event, 1000);                                     \
                }                                                                                  \
        } while (0)

static void whole_frame(struct buf *b, unsigned width, unsigned height, uint32_t colour)
{
        fake_update(b, 1);
        fake_rect(b, 0, 0, width, height, 0);
        fake_fill(b, (size_t) width * height, colour);
}

/* Pictures can be had, of this size and colour. */
static void assert_sees(struct fake *f, unsigned width, unsigned height, uint32_t colour)
{
        unsigned w, h;
        f->done = false;
        assert_int_equal(screen_capture(f->screen, NULL, 0, 0, on_picture, f), 0);
        until(f, f->done);
        assert_int_equal(f->result, 0);
        assert_true(decoder_picture_sound(f->png.data, f->png.len, width, height));
        const uint32_t *pixels = screen_pixels(f->screen, &w, &h);
        assert_non_null(pixels);
        assert_true(w == width && h == height);
        assert_int_equal(pixels[(size_t) w * h - 1], colour);
}

/* --- lies ------------------------------------------------------------------------------------- */

static void test_lies(void **state)
{
        for (int which = 0; which < FAKE_LIES; which++) {
                struct fake f = { 0 };
                begin(&f, NULL);
                fake_lie(&f.script, which);
                until(&f, f.ended);
                if (screen_decoder_lost(f.screen) || !f.why[0])
                        print_error("lie %d: %s\n", which, f.why);
                assert_false(screen_decoder_lost(f.screen));
                assert_true(f.why[0]);
                assert_int_equal(screen_capture(f.screen, NULL, 0, 0, on_picture, &f), -ENOTCONN);
                finish(&f);
        }
}

/* Ends in the middle of everything it can say. */
static void test_truncated(void **state)
{
        cleanup_buf struct buf all = BUF_INIT;
        fake_greet(&all, 4, 3);
        whole_frame(&all, 4, 3, 7);
        fake_update(&all, 1);
        fake_rect(&all, 0, 0, 4, 3, -308);
        buf_put(&all, "\2\0\0\0", 4);
        fake_fill(&all, 8, 0);
        for (size_t n = 0; n < all.len; n += n < 60 ? 7 : 31) {
                struct fake f = { 0 };
                begin(&f, NULL);
                buf_put(&f.script, all.data, n);
                until(&f, buf_pending(&f.script) == 0);
                (void) shutdown(f.server, SHUT_RDWR);
                until(&f, f.ended);
                assert_string_equal(f.why, "the display server closed the connection");
                finish(&f);
        }
}

/* --- nuisances: odd, allowed, and survived --------------------------------------------------- */

static void bells(struct buf *b)
{
        for (int i = 0; i < 500000; i++)
                buf_put(b, "\2", 1);
}

static void clipboards(struct buf *b)
{
        cleanup_free char *text = xnewn(char, RFB_TEXT_MAX);
        for (int i = 0; i < 20; i++) {
                buf_put(b, "\3\0\0\0", 4);
                fake_u32(b, RFB_TEXT_MAX);
                buf_put(b, text, RFB_TEXT_MAX);
        }
}

static void colours(struct buf *b)
{
        cleanup_free char *map = xnewn(char, 6 * 65535);
        for (int i = 0; i < 20; i++) {
                buf_put(b, "\1\0\0\0\377\377", 6);
                buf_put(b, map, 6 * 65535);
        }
}

static void nothings(struct buf *b)
{
        fake_update(b, 65534);
        for (int i = 0; i < 65534; i++)
                fake_rect(b, 0, 0, 0, 0, 0);
}

static void copies(struct buf *b)
{
        fake_update(b, 20000);
        for (int i = 0; i < 20000; i++) {
                fake_rect(b, 0, 0, 99, 80, 1);
                fake_u16(b, 1);
                fake_u16(b, 0);
        }
}

static void sizes(struct buf *b)
{
        fake_update(b, 400);
        for (int i = 0; i < 400; i++)
                fake_rect(b, 0, 0, i % 2 ? 100 : 1 + (unsigned) i, i % 2 ? 80 : 2000, -223);
}

static void huge_once(struct buf *b)
{
        fake_update(b, 2);
        fake_rect(b, 0, 0, 8192, 2048, -223);
        fake_rect(b, 0, 0, 100, 80, -223);
}

static void refusals(struct buf *b)
{
        for (int i = 0; i < 1000; i++) {
                fake_update(b, 1);
                fake_rect(b, 1, 4, 65535, 65535, -308);
                buf_put(b, "\0\0\0\0", 4);
        }
}

static void empties(struct buf *b)
{
        for (int i = 0; i < 20000; i++)
                fake_update(b, 0);
}

static void test_nuisances(void **state)
{
        static void (*const kinds[])(struct buf *) = { bells,     clipboards, colours,
                                                       nothings,  copies,     sizes,
                                                       huge_once, refusals,   empties };
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                struct fake f = { 0 };
                begin(&f, NULL);
                fake_greet(&f.script, 100, 80);
                whole_frame(&f.script, 100, 80, 1);
                kinds[i](&f.script);
                whole_frame(&f.script, 100, 80, 0x112233);
                uint64_t before = 0;
                until(&f, f.ended || (buf_pending(&f.script) == 0 && f.ready &&
                                      screen_generation(f.screen) > before));
                if (f.ended)
                        print_error("nuisance %zu: %s\n", i, f.why);
                assert_false(f.ended);
                until(&f, screen_pixels(f.screen, &(unsigned){ 0 }, &(unsigned){ 0 }) &&
                                  screen_pixels(f.screen, &(unsigned){ 0 },
                                                &(unsigned){ 0 })[7999] == 0x112233);
                assert_sees(&f, 100, 80, 0x112233);
                finish(&f);
        }
}

/* All of the way to a picture, with all the memory and sorting it may need, within the filter. */
static void test_large(void **state)
{
        static const unsigned sizes[][2] = { { 0, 0 }, { 1024, 768 }, { 3000, 0 }, { 7, 5 } };
        struct fake f = { 0 };
        begin(&f, NULL);
        fake_greet(&f.script, 1280, 800);
        fake_update(&f.script, 1);
        fake_rect(&f.script, 0, 0, 1280, 800, 0);
        for (uint32_t i = 0, x = 1; i < 1280 * 800; i++, x = x * 1664525 + 1013904223)
                fake_fill(&f.script, 1, i < 1280 * 400 ? x >> 8 : (x >> 8) & 0x0f0f0f);
        until(&f, f.ready);
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
                f.done = false;
                assert_int_equal(
                        screen_capture(f.screen, NULL, sizes[i][0], sizes[i][1], on_picture, &f),
                        0);
                until(&f, f.done || f.ended);
                assert_false(f.ended);
                assert_int_equal(f.result, 0);
                assert_true(f.png.len > 57);
        }
        finish(&f);
}

static void test_dribble(void **state)
{
        struct fake f = { .piece = 1 };
        begin(&f, NULL);
        fake_greet(&f.script, 10, 8);
        whole_frame(&f.script, 10, 8, 0x445566);
        until(&f, f.ready);
        assert_sees(&f, 10, 8, 0x445566);
        finish(&f);
}

/* Says nothing at all, or an update without end: no picture, and nothing else either. */
static void test_silence(void **state)
{
        struct fake f = { 0 };
        begin(&f, NULL);
        for (int i = 0; i < 50; i++)
                (void) sd_event_run(f.event, 1000);
        assert_false(f.ready || f.ended);
        assert_int_equal(screen_capture(f.screen, NULL, 0, 0, on_picture, &f), -ENOTCONN);
        fake_greet(&f.script, 10, 8);
        fake_update(&f.script, 0xffff);
        fake_rect(&f.script, 0, 0, 10, 8, 0);
        fake_fill(&f.script, 79, 1);
        until(&f, buf_pending(&f.script) == 0);
        assert_false(f.ready || f.ended);
        finish(&f);
}

/* Never reads: actions wait for it, and can be taken back. */
static void test_deaf(void **state)
{
        struct fake f = { .deaf = true };
        char text[2000];
        memset(text, 'x', sizeof(text));
        begin(&f, NULL);
        fake_greet(&f.script, 100, 80);
        whole_frame(&f.script, 100, 80, 1);
        until(&f, f.ready);
        f.result = 1;
        for (int i = 0; i < SCREEN_ACTIONS_MAX; i++)
                assert_int_equal(screen_type(f.screen, 0, text, sizeof(text), on_done, &f), 0);
        assert_int_equal(screen_type(f.screen, 0, "x", 1, NULL, NULL), -EAGAIN);
        /* What fits on the way is taken, then it stands still: half a second without an end. */
        for (uint64_t still = now_monotonic(); now_monotonic() - still < USEC_PER_SEC / 2;) {
                if (f.done)
                        still = now_monotonic();
                f.done = false;
                serve(&f);
                (void) sd_event_run(f.event, 1000);
        }
        assert_false(f.ended);
        screen_cancel(f.screen);
        assert_int_equal(f.result, -ECANCELED);
        finish(&f);
}

/* A server that loses keys gets them one by one: typed, pressed together, and held for a click. */
static void test_key_gap(void **state)
{
        struct fake f = { .key_gap = 5 * USEC_PER_MSEC };
        struct screen_point at = { 5, 5 };
        begin(&f, NULL);
        fake_greet(&f.script, 10, 8);
        whole_frame(&f.script, 10, 8, 1);
        until(&f, f.ready);
        uint64_t began = now_monotonic();
        assert_int_equal(screen_type(f.screen, 0, "abC\n", 4, NULL, NULL), 0);
        assert_int_equal(screen_key(f.screen, 0, "ctrl+shift+t", 2, NULL, NULL), 0);
        assert_int_equal(screen_click(f.screen, 0, SCREEN_LEFT, 1, &at, "ctrl+shift", on_done, &f),
                         0);
        until(&f, f.done);
        assert_int_equal(f.result, 0);
        assert_true(now_monotonic() - began >= (10 + 12 + 4) * f.key_gap);
        finish(&f);
}

/* A machine may take long to show what is pasted: what comes behind it waits for that. */
static void test_slow_paste(void **state)
{
        static const char text[] = "\u4e16\n";
        struct fake f = { .key_gap = USEC_PER_MSEC };
        begin(&f, NULL);
        fake_greet(&f.script, 10, 8);
        whole_frame(&f.script, 10, 8, 1);
        until(&f, f.ready);
        assert_int_equal(screen_type(f.screen, 0, text, strlen(text), on_done, &f), 0);
        until(&f, f.pasted);
        f.pasted(f.pasted_userdata, 0);
        for (uint64_t end = now_monotonic() + USEC_PER_SEC / 2; now_monotonic() < end;) {
                serve(&f);
                (void) sd_event_run(f.event, 1000);
        }
        assert_false(f.done);
        whole_frame(&f.script, 10, 8, 2);
        until(&f, f.done);
        assert_int_equal(f.result, 0);
        finish(&f);
}

/* --- decoders that were taken over ------------------------------------------------------------ */

static void test_false_decoders(void **state)
{
        static const struct {
                char kind;
                const char *why;
        } rows[] = {
                { 'a', "the display decoder ended (status 7)" },
                { 'b', "it said something impossible" },
                { 'c', "it said something impossible" },
                { 'd', "it said something impossible" },
                { 'e', "it said something impossible" },
                { 'f', "it sent no picture but nonsense" },
                { 'g', "it sent no picture but nonsense" },
                { 'h', "it sent no picture but nonsense" },
                { 'i', "it said something impossible" },
                { 'j', "it sent no picture but nonsense" },
                { 'k', "it said something impossible" },
                { 'l', "it said something impossible" },
                { 'm', "the display decoder ended (signal 6)" },
        };
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct fake f = { 0 };
                cleanup_free char *name =
                        xasprintf("%s/decoder-%c", fixture_state_dir(), rows[i].kind);
                cleanup_free char *copy =
                        xasprintf("cp %s %s && chmod 755 %s", getenv("FAKE_DECODER"), name, name);
                assert_int_equal(system(copy), 0);
                begin(&f, name);
                until(&f, f.ready || f.ended);
                if (f.ready && !f.ended)
                        assert_int_equal(screen_capture(f.screen, NULL, 0, 0, on_picture, &f), 0);
                until(&f, f.ended);
                if (!strstr(f.why, rows[i].why))
                        print_error("decoder %c: %s\n", rows[i].kind, f.why);
                assert_non_null(strstr(f.why, rows[i].why));
                assert_true(screen_decoder_lost(f.screen));
                if (f.done)
                        assert_int_equal(f.result, -ECONNRESET);
                finish(&f);
        }
}

static void test_no_decoder(void **state)
{
        struct screen *s;
        sd_event *e = fixture_loop();
        struct screen_config c = { .event = e, .fd = dup(0), .decoder = "/nonexistent/decoder" };
        assert_int_equal(screen_new(&c, &s), -ENOENT);
        fixture_loop_free(e);
}

/* --- the cage --------------------------------------------------------------------------------- */

static int attempt(int which)
{
        switch (which) {
        case 0:
                return open("/etc/passwd", O_RDONLY | O_CLOEXEC);
        case 1:
                return socket(AF_INET, SOCK_STREAM, 0);
        case 2:
                return fork();
        case 3:
                return execl("/bin/true", "true", (char *) NULL);
        case 4:
                return kill(getppid(), 0);
        case 5:
                return prctl(PR_SET_DUMPABLE, 1);
        case 6:
                return dup(0);
        case 7:
                return (int) getuid();
        default:
                return 0;
        }
}

static void test_confined(void **state)
{
        for (int which = 0; which <= 8; which++) {
                pid_t pid = fork();
                assert_true(pid >= 0);
                if (pid == 0) {
                        (void) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                        if (decoder_confine() < 0)
                                _exit(99);
                        char *much = malloc(8 * MIB); /* memory is there */
                        _exit(!much || attempt(which) == -1 ? 98 : 0);
                }
                int status;
                assert_int_equal(waitpid(pid, &status, 0), pid);
                if (which == 8)
                        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
                else if (DECODER_SANITIZED)
                        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 98);
                else
                        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lies),       cmocka_unit_test(test_truncated),
                cmocka_unit_test(test_nuisances),  cmocka_unit_test(test_large),
                cmocka_unit_test(test_dribble),    cmocka_unit_test(test_silence),
                cmocka_unit_test(test_deaf),       cmocka_unit_test(test_key_gap),
                cmocka_unit_test(test_slow_paste), cmocka_unit_test(test_false_decoders),
                cmocka_unit_test(test_no_decoder), cmocka_unit_test(test_confined),
        };
        fixture_begin(false);
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        fixture_finish();
        return r;
}
