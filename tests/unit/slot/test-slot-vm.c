/* Slots that are machines, on the real QEMU: needs BERTH_VM_IMAGE (the folder of an image built by
 * images/build vm) besides BERTH_IMAGE, and is skipped without. The template is kept in
 * BERTH_VM_TEMPLATES where that is set; making it takes a minute and, without KVM on a machine with
 * other work, several. BERTH_VM_ROUNDS: so many starts are measured and printed. */
#include "fixture.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io/daemon.h"
#include "workerd/machine.h"

static struct machine *machine;

static int setup(void **state)
{
        struct test_slot *t = xnew(struct test_slot);
        t->event = fixture_loop();
        t->machine = machine;
        t->wait_usec = 900 * USEC_PER_SEC;
        test_slot_start(t, SLOT_KIND_VM, "v1");
        test_slot_wait_ready(t);
        slot_set_epoch(t->slot, 7);
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

static void assert_bash(struct test_slot *t, const char *script, int code, const char *out)
{
        struct test_run r;
        const char *const argv[] = { "bash", "-c", script, NULL };
        struct guest_command_config c = test_run_config(&r, argv);
        assert_int_equal(guest_spawn(slot_guest(t->slot), 7, &c, &r.command), 0);
        assert_true(loop_until(t->event, &r.ended, 120 * USEC_PER_SEC));
        if (r.status.code != code || (out && strcmp(r.out.data, out) != 0))
                print_error("%s: status %d %s\n%s%s\n", script, r.status.code, r.error, r.out.data,
                            r.err.data);
        assert_int_equal(r.status.code, code);
        if (out)
                assert_string_equal(r.out.data, out);
        test_run_done(&r);
}

/* --- commands, time, what an attacker finds --------------------------------------------------- */

static void test_inside(void **state)
{
        struct test_slot *t = *state;
        assert_bash(t, "echo out; pwd; id -u; exit 3", 3, "out\n/home/agent\n1000\n");
        cleanup_free char *clock = xasprintf("d=$(( $(date +%%s) - %" PRIu64
                                             " )); [ ${d#-} -le 60 ] || echo off by $d",
                                             now_realtime() / USEC_PER_SEC);
        assert_bash(t, clock, 0, "");
        assert_bash(t, "grep -E '^(CapEff|NoNewPrivs)' /proc/self/status", 0,
                    "CapEff:\t0000000000000000\nNoNewPrivs:\t1\n");
        assert_bash(t,
                    "kill -9 1; kill -STOP 1; ls /proc/1/fd 2>/dev/null; cat /proc/1/environ "
                    "2>/dev/null; echo still",
                    0, "still\n");
        assert_bash(t, "mount -t tmpfs x /mnt 2>/dev/null || echo no", 0, "no\n");
        assert_bash(t, "touch /usr/x 2>/dev/null || echo no", 0, "no\n");
        assert_bash(t, "cat /dev/vda /dev/mem /dev/kmsg /dev/vport* 2>/dev/null | wc -c", 0, "0\n");
        assert_bash(t, "echo c >/proc/sysrq-trigger", 1, NULL);
        assert_bash(t, "cat /proc/net/route | wc -l; getent hosts example.com", 2, NULL);
}

static void test_no_way_out(void **state)
{
        struct test_slot *t = *state;
        static const char *const targets[] = { "http://169.254.169.254/", "http://10.0.0.1/",
                                               "http://10.0.2.3/",        "http://10.0.2.2:22/",
                                               "http://127.0.0.1:5432/",  "http://93.184.216.34/" };
        for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
                cleanup_free char *script = xasprintf(
                        "curl -s -m 5 --noproxy '*' %s && echo reached || echo none", targets[i]);
                assert_bash(t, script, 0, "none\n");
        }
}

/* --- files and the screen --------------------------------------------------------------------- */

struct done {
        bool done;
        int r;
        size_t n;
        char data[64];
};

static void on_written(void *userdata, int r)
{
        struct done *d = userdata;
        d->done = true;
        d->r = r;
}

static void on_read(void *userdata, int r, const char *data, size_t n, uint64_t size)
{
        struct done *d = userdata;
        d->done = true;
        d->r = r;
        d->n = n;
        (void) snprintf(d->data, sizeof(d->data), "%.*s", r < 0 ? 0 : (int) MIN(n, 60U), data);
}

static void test_files(void **state)
{
        struct test_slot *t = *state;
        cleanup_free char *big = xmalloc(3 * MIB);
        struct done d = { 0 };
        memset(big, 'x', 3 * MIB);
        assert_int_equal(
                guest_write_file(slot_guest(t->slot), 7, "a/b.txt", big, 3 * MIB, on_written, &d),
                0);
        assert_true(loop_until(t->event, &d.done, 60 * USEC_PER_SEC));
        assert_int_equal(d.r, 0);
        assert_bash(t, "wc -c <a/b.txt", 0, "3145728\n");
        d = (struct done){ 0 };
        assert_int_equal(
                guest_read_file(slot_guest(t->slot), 7, "a/b.txt", 0, 4 * MIB, on_read, &d), 0);
        assert_true(loop_until(t->event, &d.done, 60 * USEC_PER_SEC));
        assert_int_equal(d.n, 3 * MIB);
        assert_true(guest_has_volume(slot_guest(t->slot)));
        assert_bash(t, "touch /data/x 2>/dev/null || echo no; echo r >/results/r && echo yes", 0,
                    "no\nyes\n");
}

static void on_done(void *userdata, int r)
{
        on_written(userdata, r);
}

static void on_picture(void *userdata, int r, const void *png, size_t n, unsigned width,
                       unsigned height)
{
        struct done *d = userdata;
        const char *path = getenv("BERTH_VM_PICTURE");
        FILE *f = path && r == 0 ? fopen(path, "we") : NULL;
        if (f) {
                (void) !fwrite(png, 1, n, f);
                (void) fclose(f);
        }
        *d = (struct done){ .done = true, .r = r, .n = n };
}

static void finish(struct test_slot *t, struct done *d, int r)
{
        assert_int_equal(r, 0);
        assert_true(loop_until(t->event, &d->done, 120 * USEC_PER_SEC));
        assert_true(d->r >= 0);
        *d = (struct done){ 0 };
}

/* Until the machine, which may have little time, has come so far; looking takes of that time. */
static void wait_for_window(struct test_slot *t, const char *check)
{
        cleanup_free char *script = xasprintf(
                "for i in $(seq 90); do (%s) 2>/dev/null && exit 0; sleep 1; done; exit 1", check);
        assert_bash(t, script, 0, "");
}

/* More than QEMU keeps for a machine that is behind. */
static void type_much(struct test_slot *t, struct screen *s)
{
        char text[1001];
        struct done d = { 0 };
        for (size_t i = 0; i < 1000; i++)
                text[i] = "Keys {1} come one by one, Shift too\n"[i % 36];
        text[999] = '\n';
        text[1000] = '\0';
        assert_bash(t, "cp typed before", 0, "");
        finish(t, &d, screen_type(s, 7, text, 1000, on_done, &d));
        assert_bash(t,
                    "n=$(wc -c <before); for i in $(seq 60); do [ \"$(wc -c <typed)\" -ge "
                    "$((n + 1000)) ] && break; sleep 1; done; tail -c +$((n + 1)) typed",
                    0, text);
}

/* What is typed arrives in a program on the screen, whatever its characters. */
static void test_screen(void **state)
{
        struct test_slot *t = *state;
        struct screen *s = slot_screen(t->slot);
        unsigned width, height;
        struct done d = { 0 };
        assert_non_null(s);
        screen_size(s, &width, &height);
        assert_true(width == 1280 && height == 800);
        assert_bash(t,
                    "(setsid xterm -geometry 60x10+100+100 -T typing -e sh -c 'cat >typed' "
                    ">/dev/null 2>&1 &)",
                    0, "");
        wait_for_window(t, "xwininfo -name typing | grep -q IsViewable");
        finish(t, &d, screen_wait_quiet(s, 500, 30000, on_done, &d));
        struct screen_point at = { 200, 160 };
        finish(t, &d, screen_click(s, 7, SCREEN_LEFT, 1, &at, NULL, on_done, &d));
        wait_for_window(t, "id=$(xwininfo -name typing | grep -o '0x[0-9a-f]*' | head -1); "
                           "xprop -root _NET_ACTIVE_WINDOW | grep -q \"$id\"");
        static const char text[] =
                "Plain {@#$} \"quoted\"\nund gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac\n";
        finish(t, &d, screen_type(s, 7, text, strlen(text), on_done, &d));
        cleanup_free char *wait = xasprintf("for i in $(seq 60); do [ \"$(wc -c <typed)\" -ge "
                                            "%zu ] && break; sleep 1; done; cat typed",
                                            strlen(text));
        assert_bash(t, wait, 0, text);
        type_much(t, s);
        finish(t, &d, screen_capture(s, NULL, 0, 0, on_picture, &d));
        int fd = -1;
        char hello[12];
        assert_int_equal(slot_display_connect(t->slot, &fd), 0);
        for (size_t n = 0; n < sizeof(hello);) {
                assert_true(sd_event_run(t->event, 10000) >= 0);
                ssize_t got = recv(fd, hello + n, sizeof(hello) - n, MSG_DONTWAIT);
                assert_true(got != 0);
                n += got > 0 ? (size_t) got : 0;
        }
        assert_memory_equal(hello, "RFB 003.008\n", sizeof(hello));
        fd_close(fd);
}

/* --- one after another ------------------------------------------------------------------------ */

static void test_nothing_stays(void **state)
{
        struct test_slot *t = *state;
        assert_bash(t,
                    "echo secret >mine; echo secret >/tmp/mine; (setsid sleep 1000 &) ; "
                    "echo secret | xclip -i",
                    0, NULL);
        test_slot_reset(t);
        slot_set_epoch(t->slot, 7);
        assert_bash(t, "ls -A; cat /tmp/mine 2>/dev/null; pgrep sleep; xclip -o 2>/dev/null", 1,
                    NULL);
        assert_bash(t, "cat mine /tmp/mine 2>/dev/null | wc -c", 0, "0\n");
}

static void test_own_random(void **state)
{
        struct test_slot *t = *state;
        struct test_run one, two;
        test_bash(t, &one, "od -An -N16 -tx1 /dev/urandom");
        test_slot_reset(t);
        slot_set_epoch(t->slot, 7);
        test_bash(t, &two, "od -An -N16 -tx1 /dev/urandom");
        assert_string_not_equal(one.out.data, two.out.data);
        test_run_done(&one);
        test_run_done(&two);
}

static int by_value(const void *a, const void *b)
{
        const uint64_t *x = a, *y = b;
        return *x < *y ? -1 : *x > *y;
}

static void test_rounds(void **state)
{
        struct test_slot *t = *state;
        uint64_t took[200];
        size_t n = 0, rounds = (size_t) strtoul(getenv("BERTH_VM_ROUNDS") ?: "3", NULL, 10);
        for (; n < MIN(rounds, ARRAY_LEN(took)); n++) {
                test_slot_reset(t);
                took[n] = t->ready_usec;
        }
        qsort(took, n, sizeof(took[0]), by_value);
        print_message("# %zu starts from the template, killed until ready: p50 %" PRIu64
                      " ms, slowest %" PRIu64 " ms\n",
                      n, took[n / 2] / 1000, took[n - 1] / 1000);
        slot_set_epoch(t->slot, 7);
        assert_bash(t, "true", 0, "");
}

static const char *need(const char *name)
{
        const char *v = getenv(name);
        if (!v || access(v, R_OK) < 0) {
                printf("1..0 # SKIP %s is not set to something usable\n", name);
                exit(0);
        }
        return v;
}

int main(void)
{
        const char *image = need("BERTH_VM_IMAGE"), *preload = need("BERTH_VM_PRELOAD");
        cleanup_free char *why = NULL;
        fixture_begin(true);
        cleanup_free char *templates = xasprintf("%s/templates", fixture_state_dir());
        if (mkdir(templates, 0700) < 0)
                return 1;
        struct machine_config c = { .image_dir = image,
                                    .qemu = "/usr/bin/qemu-system-x86_64",
                                    .preload = preload,
                                    .templates = getenv("BERTH_VM_TEMPLATES") ?: templates,
                                    .helper = getenv("BERTH_GUEST"),
                                    .memory_bytes = 2 * GIB,
                                    .width = 1280,
                                    .height = 800,
                                    .kvm = true };
        if (machine_new(&c, &machine, &why) < 0) {
                printf("1..0 # SKIP %s\n", why);
                fixture_finish();
                return 0;
        }
        printf("# KVM: %s\n", machine->kvm ? "yes" : machine->kvm_why);
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_inside, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_way_out, setup, teardown),
                cmocka_unit_test_setup_teardown(test_files, setup, teardown),
                cmocka_unit_test_setup_teardown(test_screen, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nothing_stays, setup, teardown),
                cmocka_unit_test_setup_teardown(test_own_random, setup, teardown),
                cmocka_unit_test_setup_teardown(test_rounds, setup, teardown),
        };
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        machine = machine_free(machine);
        fixture_finish();
        return r;
}
