/* The worker's descriptor socket, asked as the gateway asks it. */
#include "fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io/fdlink.h"
#include "workerd/display.h"

static struct test_slot slot;
static struct display *display;
static struct fdlink_client *client;

struct answer {
        bool done;
        int r, fd;
        uint32_t width, height;
        uint64_t size;
        enum error_code code;
};

static struct slot *find(void *userdata, const char *session_id)
{
        return streq(session_id, "s1") ? slot.slot : NULL;
}

static void on_opened(void *userdata, int r, const void *reply, int fd)
{
        struct answer *a = userdata;
        *a = (struct answer){ .done = true, .r = r, .fd = fd };
        if (r == -EREMOTEIO)
                a->code = ((const struct error_reply *) reply)->code;
        else if (r == 0) {
                a->width = ((const struct display_opened *) reply)->width;
                a->height = ((const struct display_opened *) reply)->height;
        }
}

static void on_screenshot(void *userdata, int r, const void *reply, int fd)
{
        struct answer *a = userdata;
        *a = (struct answer){ .done = true, .r = r, .fd = fd };
        if (r == -EREMOTEIO)
                a->code = ((const struct error_reply *) reply)->code;
        else if (r == 0) {
                const struct screenshot_reply *m = reply;
                a->width = m->width;
                a->height = m->height;
                a->size = m->size_bytes;
        }
}

static struct answer open_display(const char *session_id)
{
        struct answer a = { 0 };
        struct display_open m = { .session_id = session_id };
        assert_int_equal(
                fdlink_call(client, &wire_display_open, &m, 5 * USEC_PER_SEC, on_opened, &a), 0);
        run_until(slot.event, a.done);
        return a;
}

static struct answer screenshot(const char *session_id, unsigned width)
{
        struct answer a = { 0 };
        struct screenshot_get m = { .session_id = session_id, .width = width };
        assert_int_equal(
                fdlink_call(client, &wire_screenshot_get, &m, 5 * USEC_PER_SEC, on_screenshot, &a),
                0);
        run_until(slot.event, a.done);
        return a;
}

static int setup(void **state)
{
        cleanup_free char *path = xasprintf("%s/fd.sock", fixture_state_dir());
        slot.event = fixture_loop();
        test_slot_start(&slot, SLOT_KIND_DESKTOP, "shown");
        struct display_config c = { .event = slot.event, .path = path, .find = find };
        assert_int_equal(display_new(&c, &display), 0);
        assert_int_equal(fdlink_client_new(slot.event, path, &client), 0);
        return 0;
}

static int teardown(void **state)
{
        fdlink_client_free(client);
        display_free(display);
        test_slot_destroy(&slot);
        fixture_loop_free(slot.event);
        return 0;
}

static void test_too_early(void **state)
{
        struct answer a = open_display("s1");
        assert_int_equal(a.r, -EREMOTEIO);
        assert_int_equal(a.code, ERROR_CODE_CONFLICT);
        a = screenshot("s1", 0);
        assert_int_equal(a.code, ERROR_CODE_CONFLICT);
        test_slot_wait_ready(&slot);
}

static void test_unknown(void **state)
{
        struct answer a = open_display("s2");
        assert_int_equal(a.r, -EREMOTEIO);
        assert_int_equal(a.code, ERROR_CODE_NOT_FOUND);
        a = screenshot("s2", 0);
        assert_int_equal(a.code, ERROR_CODE_NOT_FOUND);
}

static void test_open(void **state)
{
        char hello[12];
        struct answer a = open_display("s1"), b = open_display("s1");
        assert_int_equal(a.r, 0);
        assert_true(a.width == 1280 && a.height == 800);
        /* Two viewers at a time; each has a stream of its own on which the server speaks first. */
        assert_int_equal(recv(a.fd, hello, sizeof(hello), MSG_WAITALL), 12);
        assert_memory_equal(hello, "RFB 003.008\n", 12);
        assert_int_equal(recv(b.fd, hello, sizeof(hello), MSG_WAITALL), 12);
        (void) close(a.fd);
        (void) close(b.fd);
        /* The screen of the worker does not mind. */
        assert_true(screen_ready(slot_screen(slot.slot)));
}

static void test_screenshot(void **state)
{
        static const unsigned widths[] = { 0, 640, 5000 };
        for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
                struct answer a = screenshot("s1", widths[i]);
                struct stat st;
                char magic[8];
                assert_int_equal(a.r, 0);
                assert_int_equal(a.width, widths[i] == 640 ? 640 : 1280);
                assert_int_equal(a.height, widths[i] == 640 ? 400 : 800);
                assert_int_equal(fcntl(a.fd, F_GET_SEALS),
                                 F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
                assert_int_equal(fstat(a.fd, &st), 0);
                assert_int_equal(st.st_size, a.size);
                assert_int_equal(read(a.fd, magic, 8), 8);
                assert_memory_equal(magic, "\x89PNG\r\n\x1a\n", 8);
                (void) close(a.fd);
        }
}

static void test_reset_meanwhile(void **state)
{
        struct answer a = { 0 };
        struct screenshot_get m = { .session_id = "s1" };
        assert_int_equal(
                fdlink_call(client, &wire_screenshot_get, &m, 5 * USEC_PER_SEC, on_screenshot, &a),
                0);
        test_slot_reset(&slot);
        run_until(slot.event, a.done);
        if (a.r == 0)
                (void) close(a.fd);
        else
                assert_true(a.r == -EREMOTEIO && a.code != ERROR_CODE_INTERNAL);
}

int main(void)
{
        fixture_begin(true);
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_too_early),
                cmocka_unit_test(test_unknown),
                cmocka_unit_test(test_open),
                cmocka_unit_test(test_screenshot),
                cmocka_unit_test(test_reset_meanwhile),
        };
        int r = cmocka_run_group_tests(tests, setup, teardown);
        fixture_finish();
        return r;
}
