/* What the helper in a slot, or whoever took its place, sends to the worker: frames for commands
 * and files that are under way, true ones and others. The link never crashes, hands out no more
 * than it promises, and every action ends once.
 *
 * The first byte: 1 = a good greeting goes before; the rest of it is the size of the pieces. */
#include <assert.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "workerd/guest-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
        unsigned exits, answers, ends;
};

static void on_output(void *userdata, int stream, const char *data, size_t n)
{
        assert(stream == 1 || stream == 2);
        assert(n <= GUEST_PIECE);
        size_t sum = 0;
        for (size_t i = 0; i < n; i++) /* all of it can be read */
                sum += (unsigned char) data[i];
        assert(sum <= n * 255);
}

static void on_exit_of(void *userdata, const struct guest_status *status)
{
        ((struct seen *) userdata)->exits++;
        assert(!status->error || strlen(status->error) <= 200);
}

static void on_data(void *userdata, int r, const char *data, size_t n, uint64_t file_size)
{
        ((struct seen *) userdata)->answers++;
        assert(r < 0 || (n <= 4096 && data[n] == '\0'));
}

static void on_fd(void *userdata, int r, int fd, uint64_t size)
{
        ((struct seen *) userdata)->answers++;
        assert(r < 0 || (fd >= 0 && size <= 8192));
        if (fd >= 0)
                (void) close(fd);
}

static void on_done(void *userdata, int r)
{
        ((struct seen *) userdata)->answers++;
        assert(r <= 0);
}

static void on_listing(void *userdata, int r, const struct guest_listing *l)
{
        ((struct seen *) userdata)->answers++;
        assert((r < 0) == !l);
        for (size_t i = 0; l && i < l->n_entries; i++)
                assert(strlen(l->entries[i].path) <= 4096);
}

static void on_end(void *userdata, const char *why)
{
        ((struct seen *) userdata)->ends++;
        assert(why[0]);
}

/* proc 1 and 2, calls 1 to 4. */
static unsigned begin_actions(struct guest *g, struct seen *seen)
{
        static const char *const argv[] = { "true", NULL };
        struct guest_command_config c = { .argv = argv,
                                          .stdin_pipe = true,
                                          .on_output = on_output,
                                          .on_exit = on_exit_of,
                                          .userdata = seen };
        struct guest_command *p, *q;
        if (guest_spawn(g, 0, &c, &p) < 0)
                return 0;
        int r = guest_spawn(g, 0, &c, &q);
        assert(r == 0);
        r = guest_command_input(p, 0, "hello", 5, false);
        assert(r == 0);
        guest_command_forget(q);
        r = guest_read_file(g, 0, "a", 0, 4096, on_data, seen);
        assert(r == 0);
        r = guest_fetch_file(g, 0, "b", 8192, on_fd, seen);
        assert(r == 0);
        r = guest_write_file(g, 0, "c", "12345", 5, on_done, seen);
        assert(r == 0);
        r = guest_list_dir(g, 0, "d", 2, on_listing, seen);
        assert(r == 0);
        return 4;
}

static void drain(sd_event *e, int fd)
{
        static char bin[65536];
        while (sd_event_run(e, 0) > 0 || recv(fd, bin, sizeof(bin), MSG_DONTWAIT) > 0)
                ;
}

static void say(sd_event *e, int fd, const void *data, size_t size, size_t piece)
{
        const char *at = data;
        while (size > 0) {
                ssize_t n = send(fd, at, MIN(piece, size), MSG_DONTWAIT | MSG_NOSIGNAL);
                drain(e, fd);
                if (n < 0 && errno == EAGAIN)
                        continue;
                if (n < 0)
                        return;
                at += n;
                size -= (size_t) n;
        }
}

static void greet(sd_event *e, int fd)
{
        static const uint8_t correlation[WIRE_CORRELATION];
        cleanup_buf struct buf b = BUF_INIT;
        const struct guest_hello m = { .version = 1, .pid = 1 };
        int r = wire_pack(&b, &wire_guest_hello, &m, 0, correlation);
        const uint8_t length[4] = { 0, 0, (uint8_t) (b.len >> 8), (uint8_t) b.len };
        assert(r == 0);
        say(e, fd, length, sizeof(length), 4);
        say(e, fd, b.data, b.len, b.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct seen seen = { 0 };
        struct guest *g = NULL;
        sd_event *e = NULL;
        int pair[2];
        if (size == 0)
                return 0;
        int r = sd_event_new(&e);
        assert(r >= 0);
        r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
        assert(r == 0);
        struct guest_config c = { .event = e, .fd = pair[0], .on_end = on_end, .userdata = &seen };
        r = guest_new(&c, &g);
        assert(r == 0);
        unsigned calls = 0;
        if (data[0] & 1) {
                greet(e, pair[1]);
                calls = begin_actions(g, &seen);
                drain(e, pair[1]);
                assert(calls > 0 && seen.ends == 0);
        }
        say(e, pair[1], data + 1, size - 1, (size_t) (data[0] >> 1) * 97 + 1);
        (void) close(pair[1]);
        while (sd_event_run(e, 0) > 0)
                ;
        assert(seen.ends == 1);
        assert(seen.exits == (calls > 0) && seen.answers == calls);
        guest_free(g);
        loop_defer_flush(e);
        sd_event_unref(e);
        return 0;
}
