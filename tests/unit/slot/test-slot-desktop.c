/* A desktop slot on the real Xvnc: start, type, click, pictures; libvncclient as an independent
 * witness. */
#include "fixture.h"

#include <rfb/rfbclient.h>
#include <signal.h>
#include <unistd.h>

#include "common/io/daemon.h"

static int setup(void **state)
{
        struct test_slot *t = xnew(struct test_slot);
        t->event = fixture_loop();
        test_slot_start(t, SLOT_KIND_DESKTOP, "d1");
        test_slot_wait_ready(t);
        slot_set_epoch(t->slot, 3);
        *state = t;
        return 0;
}

static int teardown(void **state)
{
        struct test_slot *t = *state;
        test_slot_destroy(t);
        fixture_loop_free(t->event);
        free(t);
        return processes_settle(0) ? 0 : -1;
}

struct wait {
        bool done;
        int r;
        struct buf png;
        unsigned width, height;
};

static void on_done(void *userdata, int r)
{
        struct wait *w = userdata;
        w->done = true;
        w->r = r;
}

static void on_picture(void *userdata, int r, const void *png, size_t n, unsigned width,
                       unsigned height)
{
        struct wait *w = userdata;
        w->done = true;
        w->r = r;
        w->width = width;
        w->height = height;
        buf_clear(&w->png);
        if (r == 0)
                buf_put(&w->png, png, n);
}

/* call = 0 that was just made with &w */
#define finish(t, w, call)                                                                         \
        do {                                                                                       \
                (w).done = false;                                                                  \
                assert_int_equal((call), 0);                                                       \
                run_until((t)->event, (w).done);                                                   \
        } while (0)

static void quiet(struct test_slot *t)
{
        struct wait w = { 0 };
        finish(t, w, screen_wait_quiet(slot_screen(t->slot), 100, 3000, on_done, &w));
        assert_int_equal(w.r, 0);
}

/* Runs a script whose end is not waited for. */
static void launch(struct test_slot *t, struct test_run *r, const char *script)
{
        const char *const argv[] = { "bash", "-c", script, NULL };
        struct guest_command_config c = test_run_config(r, argv);
        assert_int_equal(guest_spawn(slot_guest(t->slot), 3, &c, &r->command), 0);
}

static void stop(struct test_slot *t, struct test_run *r)
{
        (void) guest_command_kill(r->command, SIGKILL);
        run_until(t->event, r->ended);
        test_run_done(r);
}

/* Until the file is there, at most 10 s; the slot's side waits. */
static void wait_for(struct test_slot *t, const char *condition)
{
        struct test_run r;
        cleanup_free char *script = xasprintf(
                "for i in $(seq 200); do %s && exit 0; sleep 0.05; done; exit 1", condition);
        test_bash(t, &r, script);
        if (r.status.code != 0)
                print_error("%s\n", condition);
        assert_int_equal(r.status.code, 0);
        test_run_done(&r);
}

#define WINDOWS "xprop -root _NET_CLIENT_LIST | grep -q 0x"

static void test_ready(void **state)
{
        struct test_slot *t = *state;
        unsigned width, height;
        print_message("# desktop ready after %.0f ms\n", (double) t->ready_usec / 1000);
        assert_true(t->ready_usec < 10 * USEC_PER_SEC);
        screen_size(slot_screen(t->slot), &width, &height);
        assert_int_equal(width, 1280);
        assert_int_equal(height, 800);
        struct test_run r;
        test_bash(t, &r,
                  "env | grep -c DISPLAY; find / -type s 2>/dev/null; "
                  "cat /proc/net/tcp /proc/net/tcp6 | grep -c : ");
        assert_string_equal(r.out.data, "1\n/tmp/.X11-unix/X1\n0\n");
        test_run_done(&r);
}

static void test_type(void **state)
{
        struct test_slot *t = *state;
        struct screen *s = slot_screen(t->slot);
        struct wait w = { 0 };
        struct test_run r;
        quiet(t);
        launch(t, &r, "xterm -e 'stty -echo; touch up; cat > typed'");
        wait_for(t, "test -e up && " WINDOWS);
        quiet(t);
        uint64_t before = screen_generation(s);
        static const char text[] =
                "Hello, World! ~!@#$%^&*()_+{}|:\"<>? `-=[]\\;',./ AbCdEf 0123456789 "
                "\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f"
                " \xe2\x82\xac \xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e \xf0\x9f\x98\x80 \xd0\x96\n";
        finish(t, w, screen_type(s, 3, text, sizeof(text) - 1, on_done, &w));
        assert_int_equal(w.r, 0);
        finish(t, w, screen_key(s, 3, "ctrl+d", 1, on_done, &w));
        run_until(t->event, r.ended);
        test_run_done(&r);
        assert_true(screen_generation(s) > before);
        struct test_run shown;
        test_bash(t, &shown, "cat typed");
        assert_string_equal(shown.out.data, text);
        test_run_done(&shown);
}

static void test_type_much(void **state)
{
        struct test_slot *t = *state;
        struct screen *s = slot_screen(t->slot);
        struct wait w = { 0 };
        struct test_run r;
        launch(t, &r, "xterm -e 'stty -echo; touch up; cat > typed'");
        wait_for(t, "test -e up && " WINDOWS);
        quiet(t);
        /* 400 different characters that are on no key, and plain lines. */
        cleanup_buf struct buf text = BUF_INIT;
        for (unsigned i = 0; i < 400; i++) {
                unsigned c = 0x4e00 + i * 7;
                char utf8[4] = { (char) (0xe0 | c >> 12), (char) (0x80 | (c >> 6 & 0x3f)),
                                 (char) (0x80 | (c & 0x3f)) };
                buf_puts(&text, utf8);
                if (i % 40 == 39)
                        buf_putf(&text, "\nline %u of plain ASCII, Mixed Case & (symbols)\n", i);
        }
        uint64_t begin = now_monotonic();
        finish(t, w, screen_type(s, 3, text.data, text.len, on_done, &w));
        print_message("# %zu bytes typed in %.0f ms\n", text.len,
                      (double) (now_monotonic() - begin) / 1000);
        finish(t, w, screen_key(s, 3, "ctrl+d", 1, on_done, &w));
        run_until(t->event, r.ended);
        test_run_done(&r);
        struct test_run shown;
        test_bash(t, &shown, "cat typed");
        assert_string_equal(shown.out.data, text.data);
        test_run_done(&shown);
}

static void test_keys(void **state)
{
        static const struct {
                const char *keys, *seen; /* seen: keysym names of the presses */
        } rows[] = {
                { "ctrl+shift+t", "Control_L Shift_L T" },
                { "ctrl+A", "Control_L a" },
                { "A", "Shift_L A" },
                { "Return", "Return" },
                { "shift+Tab", "Shift_L ISO_Left_Tab" },
                { "ctrl+plus", "Control_L Shift_L plus" },
                { "alt+F2", "Alt_L F2" },
                { "Page_Down pgup", "Next Prior" },
                { "super+e", "Super_L e" },
                { "BackSpace", "BackSpace" },
        };
        struct test_slot *t = *state;
        struct screen *s = slot_screen(t->slot);
        struct wait w = { 0 };
        struct test_run r;
        launch(t, &r, "xev -event keyboard -geometry 400x300+200+200 > seen & touch up; wait");
        wait_for(t, "test -e up && " WINDOWS);
        quiet(t);
        struct screen_point inside = { 400, 400 };
        finish(t, w, screen_click(s, 3, SCREEN_LEFT, 1, &inside, NULL, on_done, &w));
        quiet(t);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct test_run seen;
                test_bash(t, &seen, "wc -c < seen > before");
                test_run_done(&seen);
                finish(t, w, screen_key(s, 3, rows[i].keys, 1, on_done, &w));
                /* A last key marks the end. */
                finish(t, w, screen_key(s, 3, "F12", 1, on_done, &w));
                test_bash(t, &seen,
                          "for i in $(seq 100); do tail -c +$(($(cat before)+1)) seen | grep -A3 "
                          "KeyRelease | grep -q F12 && break; sleep 0.02; done;"
                          "tail -c +$(($(cat before)+1)) seen | grep -A3 KeyPress | sed -n "
                          "'s/.*keysym 0x[0-9a-f]*, \\([A-Za-z0-9_]*\\)).*/\\1/p' | grep -v F12 | "
                          "tr '\\n' ' ' | sed 's/ $//'");
                if (strcmp(seen.out.data, rows[i].seen) != 0)
                        print_error("%s\n", rows[i].keys);
                assert_string_equal(seen.out.data, rows[i].seen);
                test_run_done(&seen);
        }
        stop(t, &r);
}

static void test_pointer(void **state)
{
        struct test_slot *t = *state;
        struct screen *s = slot_screen(t->slot);
        struct wait w = { 0 };
        struct test_run r, seen;
        unsigned x, y;
        launch(t, &r, "xev -event button -geometry 400x300+200+200 > seen & touch up; wait");
        wait_for(t, "test -e up && " WINDOWS);
        quiet(t);
        struct screen_point p = { 350, 410 }, q = { 450, 380 };
        finish(t, w, screen_click(s, 3, SCREEN_LEFT, 2, &p, "ctrl", on_done, &w));
        finish(t, w, screen_scroll(s, 3, SCREEN_DOWN, 3, &q, NULL, on_done, &w));
        finish(t, w, screen_drag(s, 3, p, q, NULL, on_done, &w));
        finish(t, w, screen_click(s, 3, SCREEN_RIGHT, 1, NULL, NULL, on_done, &w));
        screen_cursor(s, &x, &y);
        assert_true(x == q.x && y == q.y);
        test_bash(t, &seen,
                  "for i in $(seq 1000); do [ $(grep -c 'button 3' seen) -ge 2 ] && break; sleep "
                  "0.02; done;"
                  "grep -A2 -E 'ButtonPress|ButtonRelease' seen | sed -n -e "
                  "'s/.*root:(\\([0-9,]*\\)).*/\\1/p' -e 's/.*state \\(0x[0-9a-f]*\\), button "
                  "\\([0-9]\\).*/\\1 \\2/p' | paste -d' ' - - | uniq | head -20");
        assert_non_null(strstr(seen.out.data,
                               "350,410 0x4 1\n350,410 0x104 1\n350,410 0x4 1\n350,410 0x104 1\n"
                               "450,380 0x0 5\n450,380 0x1000 5\n450,380 0x0 5\n450,380 0x1000 "
                               "5\n450,380 0x0 5\n450,380 0x1000 5\n"
                               "350,410 0x0 1\n450,380 0x100 1\n450,380 0x0 3\n"));
        test_run_done(&seen);
        stop(t, &r);
        struct screen_point outside = { 1280, 0 };
        assert_int_equal(screen_move(s, 3, outside, NULL, NULL), -ERANGE);
        assert_int_equal(screen_move(s, 2, p, NULL, NULL), -ESTALE);
        assert_int_equal(screen_key(s, 3, "ctrl+nonsense", 1, NULL, NULL), -EINVAL);
        assert_int_equal(screen_key(s, 3, "ctrl+", 1, NULL, NULL), -EINVAL);
        assert_int_equal(screen_click(s, 3, SCREEN_LEFT, 1, &p, "a", NULL, NULL), -EINVAL);
        assert_int_equal(screen_type(s, 3, "\x01", 1, NULL, NULL), -EINVAL);
}

static void test_cancel(void **state)
{
        struct test_slot *t = *state;
        struct screen *s = slot_screen(t->slot);
        struct wait held = { 0 }, later = { 0 }, waiting = { 0 };
        assert_int_equal(screen_hold(s, 3, "shift+a", 60000, on_done, &held), 0);
        assert_int_equal(screen_type(s, 3, "never", 5, on_done, &later), 0);
        assert_int_equal(screen_wait_quiet(s, 10, 60000, on_done, &waiting), 0);
        for (int i = 0; i < 5; i++)
                (void) sd_event_run(t->event, 20000);
        assert_false(held.done);
        screen_cancel(s);
        assert_true(held.done && later.done && waiting.done);
        assert_int_equal(held.r, -ECANCELED);
        assert_int_equal(later.r, -ECANCELED);
        assert_int_equal(waiting.r, -ECANCELED);
        for (int i = 0; i < SCREEN_ACTIONS_MAX; i++)
                assert_int_equal(screen_hold(s, 3, "shift", 60000, NULL, NULL), 0);
        assert_int_equal(screen_hold(s, 3, "shift", 60000, NULL, NULL), -EAGAIN);
        screen_cancel(s);
}

static void test_quiet(void **state)
{
        struct test_slot *t = *state;
        struct screen *s = slot_screen(t->slot);
        struct wait w = { 0 };
        struct test_run r;
        quiet(t);
        uint64_t begin = now_monotonic();
        finish(t, w, screen_wait_quiet(s, 60, 5000, on_done, &w));
        uint64_t took = now_monotonic() - begin;
        assert_int_equal(w.r, 0);
        assert_true(took >= 60 * USEC_PER_MSEC && took < 500 * USEC_PER_MSEC);
        launch(t, &r, "for i in $(seq 1000); do xsetroot -solid \"#$((100000 + i))\"; done");
        begin = now_monotonic();
        finish(t, w, screen_wait_quiet(s, 300, 400, on_done, &w));
        took = now_monotonic() - begin;
        assert_int_equal(w.r, 1);
        assert_true(took >= 400 * USEC_PER_MSEC && took < 900 * USEC_PER_MSEC);
        stop(t, &r);
}

/* --- the witness ------------------------------------------------------------------------------ */

static bool updated;

static void on_update(rfbClient *c, int x, int y, int w, int h)
{
        updated = true;
}

/* The frame as libvncclient sees it, once `pixels` have come. */
static rfbClient *witness(int fd)
{
        rfbClient *c = rfbGetClient(8, 3, 4);
        assert_non_null(c);
        rfbEnableClientLogging = FALSE;
        c->sock = fd;
        c->GotFrameBufferUpdate = on_update;
        c->appData.encodingsString = "raw";
        c->appData.useRemoteCursor = FALSE;
        c->canHandleNewFBSize = FALSE;
        c->format.redShift = 16;
        c->format.greenShift = 8;
        c->format.blueShift = 0;
        assert_true(InitialiseRFBConnection(c));
        c->width = c->si.framebufferWidth;
        c->height = c->si.framebufferHeight;
        assert_true(c->MallocFrameBuffer(c));
        c->updateRect.x = c->updateRect.y = 0;
        c->updateRect.w = c->width;
        c->updateRect.h = c->height;
        assert_true(SetFormatAndEncodings(c));
        assert_true(SendFramebufferUpdateRequest(c, 0, 0, c->width, c->height, FALSE));
        return c;
}

static void test_witness(void **state)
{
        struct test_slot *t = *state;
        struct screen *s = slot_screen(t->slot);
        struct wait w = { 0 };
        struct test_run r;
        int fd = -1;
        launch(t, &r, "xterm -e 'ls -l --color=always /usr/bin | head -60; touch up; sleep 60'");
        wait_for(t, "test -e up && " WINDOWS);
        struct screen_point p = { 900, 600 };
        finish(t, w, screen_move(s, 3, p, on_done, &w));
        quiet(t);
        finish(t, w, screen_capture(s, NULL, 0, 0, on_picture, &w));
        assert_int_equal(w.r, 0);
        assert_int_equal(slot_display_connect(t->slot, &fd), 0);
        rfbClient *c = witness(fd);
        /* As many updates as come within a moment; the screen is quiet. */
        for (updated = false; WaitForMessage(c, updated ? 200 * 1000 : 5 * 1000 * 1000) > 0;)
                assert_true(HandleRFBServerMessage(c));
        assert_true(updated);
        const uint32_t *theirs = (const uint32_t *) c->frameBuffer;
        char path[200];
        (void) snprintf(path, sizeof(path), "%s/ours.png", fixture_state_dir());
        FILE *f = fopen(path, "we");
        assert_non_null(f);
        assert_int_equal(fwrite(w.png.data, 1, w.png.len, f), w.png.len);
        (void) fclose(f);
        /* The picture of ours is read by a third party and compared pixel by pixel. */
        (void) snprintf(path, sizeof(path), "%s/theirs.raw", fixture_state_dir());
        f = fopen(path, "we");
        assert_non_null(f);
        for (int i = 0; i < c->width * c->height; i++) {
                uint8_t rgb[3] = { (uint8_t) (theirs[i] >> 16), (uint8_t) (theirs[i] >> 8),
                                   (uint8_t) theirs[i] };
                assert_int_equal(fwrite(rgb, 1, 3, f), 3);
        }
        (void) fclose(f);
        cleanup_free char *script = xasprintf(
                "cd %s && /usr/bin/python3 -c \"\n"
                "import zlib, struct\n"
                "d = open('ours.png', 'rb').read(); at = 8; data = b''; plte = None\n"
                "while at < len(d):\n"
                "    n, = struct.unpack('>I', d[at:at+4]); k = d[at+4:at+8]; b = d[at+8:at+8+n]\n"
                "    assert zlib.crc32(k + b) == struct.unpack('>I', d[at+8+n:at+12+n])[0]\n"
                "    if k == b'IHDR': w, h, bits, kind = struct.unpack('>IIBB', b[:10])\n"
                "    if k == b'PLTE': plte = b\n"
                "    if k == b'IDAT': data += b\n"
                "    at += 12 + n\n"
                "raw = zlib.decompress(data); out = b''; bpp = 1 if kind == 3 else 3\n"
                "for y in range(h):\n"
                "    row = raw[y*(w*bpp+1):(y+1)*(w*bpp+1)]; assert row[0] == 0\n"
                "    out += row[1:] if bpp == 3 else b''.join(plte[3*i:3*i+3] for i in row[1:])\n"
                "t = open('theirs.raw', 'rb').read(); assert len(t) == len(out), (len(t), "
                "len(out))\n"
                "bad = sum(1 for i in range(0, len(t), 3) if t[i:i+3] != out[i:i+3])\n"
                "assert bad == 0, bad\"",
                fixture_state_dir());
        assert_int_equal(system(script), 0); /* NOLINT(cert-env33-c) */
        free(c->frameBuffer);                /* the library leaves it to its user */
        rfbClientCleanup(c);
        buf_done(&w.png);
        stop(t, &r);
}

static void test_capture(void **state)
{
        struct test_slot *t = *state;
        struct screen *s = slot_screen(t->slot);
        struct wait w = { 0 };
        finish(t, w, screen_capture(s, NULL, 1024, 768, on_picture, &w));
        assert_true(w.r == 0 && w.width == 1024 && w.height == 768);
        finish(t, w, screen_capture(s, NULL, 640, 0, on_picture, &w));
        assert_true(w.r == 0 && w.width == 640 && w.height == 400);
        struct screen_region zoom = { 100, 100, 64, 40 };
        finish(t, w, screen_capture(s, &zoom, 1280, 800, on_picture, &w));
        assert_true(w.r == 0 && w.width == 1280 && w.height == 800);
        struct screen_region outside = { 1270, 0, 11, 10 }, empty = { 0, 0, 0, 10 },
                             wrap = { 1, 1, UINT32_MAX, 1 };
        assert_int_equal(screen_capture(s, &outside, 0, 0, on_picture, &w), -ERANGE);
        assert_int_equal(screen_capture(s, &empty, 0, 0, on_picture, &w), -ERANGE);
        assert_int_equal(screen_capture(s, &wrap, 0, 0, on_picture, &w), -ERANGE);
        assert_int_equal(screen_capture(s, NULL, 9000, 10, on_picture, &w), -ERANGE);
        buf_done(&w.png);
}

static void test_browser(void **state)
{
        struct test_slot *t = *state;
        struct test_run r, seen;
        uint64_t begin = now_monotonic();
        launch(t, &r,
               "echo '<title>Shop</title><h1>Orders</h1>' > page.html; browser "
               "file://$PWD/page.html > log 2>&1 & wait");
        wait_for(
                t,
                "xprop -root _NET_CLIENT_LIST | grep -q 0x && xwininfo -root -tree | grep -q Shop");
        print_message("# browser page after %.0f ms\n", (double) (now_monotonic() - begin) / 1000);
        test_bash(t, &seen,
                  "ps -eo args | grep -c -- '--type=renderer'; grep -c -i 'no usable sandbox' log");
        assert_true(atoi(seen.out.data) >= 1);
        assert_non_null(strstr(seen.out.data, "\n0\n"));
        test_run_done(&seen);
        test_slot_reset(t);
        assert_true(r.ended);
        test_run_done(&r);
}

static void test_server_dies(void **state)
{
        struct test_slot *t = *state;
        struct test_run r;
        t->changed = false;
        launch(t, &r, "pkill -9 Xvnc; pkill -9 Xtigervnc");
        run_until(t->event, t->changed);
        assert_true(t->failed);
        assert_null(slot_screen(t->slot));
        test_run_done(&r);
        test_slot_reset(t);
}

/* The process below us whose name this is; 0 = there is none. */
static pid_t find_decoder(void)
{
        char text[64] = "";
        FILE *f = popen("pgrep -n -x berth-decoder -P $PPID", "re");
        if (!f)
                return 0;
        (void) !fgets(text, sizeof(text), f);
        (void) pclose(f);
        return (pid_t) strtol(text, NULL, 10);
}

/* A decoder that dies is replaced, some times; the slot, its programs and the worker go on. */
static void test_decoder_dies(void **state)
{
        struct test_slot *t = *state;
        struct wait w = { 0 };
        for (int i = 0; i < 3; i++) {
                pid_t pid = find_decoder();
                assert_true(pid > 0);
                assert_int_equal(kill(pid, SIGKILL), 0);
                struct screen *before = slot_screen(t->slot);
                for (uint64_t until = now_monotonic() + 20 * USEC_PER_SEC;
                     slot_screen(t->slot) == before || !screen_ready(slot_screen(t->slot));) {
                        assert_true(now_monotonic() < until);
                        assert_false(t->failed);
                        (void) sd_event_run(t->event, 10000);
                }
                finish(t, w, screen_capture(slot_screen(t->slot), NULL, 0, 0, on_picture, &w));
                assert_true(w.png.len > 0);
        }
        pid_t last = find_decoder();
        t->changed = false;
        assert_int_equal(kill(last, SIGKILL), 0);
        run_until(t->event, t->changed);
        assert_true(t->failed);
        assert_non_null(strstr(t->why, "the display decoder ended (signal 9)"));
        test_slot_reset(t);
        assert_true(screen_ready(slot_screen(t->slot)));
        buf_done(&w.png);
}

static void test_window_manager_returns(void **state)
{
        struct test_slot *t = *state;
        struct test_run r;
        test_bash(t, &r,
                  "pkill -9 openbox; for i in $(seq 100); do pgrep openbox >/dev/null && exit 0; "
                  "sleep 0.05; done; exit 1");
        assert_int_equal(r.status.code, 0);
        assert_true(slot_ready(t->slot));
        test_run_done(&r);
}

static void test_cycles(void **state)
{
        sd_event *e = fixture_loop();
        uint64_t sum = 0, worst = 0;
        unsigned n = 0;
        for (int i = 0; i < 20; i++) {
                struct test_slot t = { .event = e };
                test_slot_start(&t, SLOT_KIND_DESKTOP, "cycle");
                if (i % 4 != 3) {
                        test_slot_wait_ready(&t);
                        sum += t.ready_usec;
                        worst = MAX(worst, t.ready_usec);
                        n++;
                } else
                        for (int k = 0; k < i * 2; k++)
                                (void) sd_event_run(e, 2000);
                test_slot_destroy(&t);
        }
        print_message("# desktop ready: mean %.0f ms, worst %.0f ms of %u\n",
                      (double) sum / n / 1000, (double) worst / 1000, n);
        fixture_loop_free(e);
        assert_true(processes_settle(0));
        char path[200];
        (void) snprintf(path, sizeof(path), "%s/cycle", fixture_state_dir());
        assert_int_equal(access(path, F_OK), -1);
}

static void test_other_kind(void **state)
{
        struct test_slot *t = *state;
        t->changed = t->ready = false;
        assert_int_equal(slot_reset_as(t->slot, SLOT_KIND_HEADLESS, 0, 0), 0);
        test_slot_wait_ready(t);
        assert_null(slot_screen(t->slot));
        int fd;
        assert_int_equal(slot_display_connect(t->slot, &fd), -ENOTCONN);
        t->changed = t->ready = false;
        assert_int_equal(slot_reset_as(t->slot, SLOT_KIND_DESKTOP, 1024, 768), 0);
        test_slot_wait_ready(t);
        unsigned width, height;
        screen_size(slot_screen(t->slot), &width, &height);
        assert_true(width == 1024 && height == 768);
}

int main(void)
{
        fixture_begin(true);
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_ready, setup, teardown),
                cmocka_unit_test_setup_teardown(test_type, setup, teardown),
                cmocka_unit_test_setup_teardown(test_type_much, setup, teardown),
                cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pointer, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
                cmocka_unit_test_setup_teardown(test_quiet, setup, teardown),
                cmocka_unit_test_setup_teardown(test_witness, setup, teardown),
                cmocka_unit_test_setup_teardown(test_capture, setup, teardown),
                cmocka_unit_test_setup_teardown(test_browser, setup, teardown),
                cmocka_unit_test_setup_teardown(test_server_dies, setup, teardown),
                cmocka_unit_test_setup_teardown(test_decoder_dies, setup, teardown),
                cmocka_unit_test_setup_teardown(test_window_manager_returns, setup, teardown),
                cmocka_unit_test_setup_teardown(test_other_kind, setup, teardown),
                cmocka_unit_test(test_cycles),
        };
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        fixture_finish();
        return r;
}
