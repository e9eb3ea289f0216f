/* Headless slots on the real bubblewrap: commands, files, limits, the attacker's table, and that
 * nothing stays. */
#include "fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io/daemon.h"

static int setup(void **state)
{
        struct test_slot *t = xnew(struct test_slot);
        t->event = fixture_loop();
        test_slot_start(t, SLOT_KIND_HEADLESS, "h1");
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
        test_bash(t, &r, script);
        if (r.status.code != code || (out && strcmp(r.out.data, out) != 0))
                print_error("%s: status %d\n%s%s\n", script, r.status.code, r.out.data, r.err.data);
        assert_int_equal(r.status.code, code);
        if (out)
                assert_string_equal(r.out.data, out);
        test_run_done(&r);
}

/* --- commands --------------------------------------------------------------------------------- */

static void test_commands(void **state)
{
        struct test_slot *t = *state;
        struct test_run r;
        test_bash(t, &r, "echo out; echo err >&2; pwd; exit 3");
        assert_int_equal(r.status.code, 3);
        assert_int_equal(r.status.signal, 0);
        assert_string_equal(r.out.data, "out\n/home/agent\n");
        assert_string_equal(r.err.data, "err\n");
        test_run_done(&r);

        const char *const none[] = { "no-such-program", NULL };
        struct guest_command_config c = test_run_config(&r, none);
        assert_int_equal(guest_spawn(slot_guest(t->slot), 7, &c, &r.command), 0);
        run_until(t->event, r.ended);
        assert_int_equal(r.status.code, -1);
        assert_non_null(strstr(r.error, "No such file"));
        test_run_done(&r);

        const char *const env[] = { "COLOUR=blue", "HOME=/tmp", NULL };
        const char *const show[] = { "bash", "-c", "echo $COLOUR $HOME $PWD", NULL };
        c = test_run_config(&r, show);
        c.env = env;
        c.cwd = "/var/tmp";
        assert_int_equal(guest_spawn(slot_guest(t->slot), 7, &c, &r.command), 0);
        run_until(t->event, r.ended);
        assert_string_equal(r.out.data, "blue /tmp /var/tmp\n");
        test_run_done(&r);

        c = test_run_config(&r, show);
        c.cwd = "/nowhere";
        assert_int_equal(guest_spawn(slot_guest(t->slot), 7, &c, &r.command), 0);
        run_until(t->event, r.ended);
        assert_non_null(strstr(r.error, "folder"));
        test_run_done(&r);
}

static void test_fence(void **state)
{
        struct test_slot *t = *state;
        struct test_run r;
        const char *const argv[] = { "true", NULL };
        struct guest_command_config c = test_run_config(&r, argv);
        assert_int_equal(guest_spawn(slot_guest(t->slot), 6, &c, &r.command), -ESTALE);
        assert_int_equal(guest_spawn(slot_guest(t->slot), 8, &c, &r.command), -ESTALE);
        assert_int_equal(guest_write_file(slot_guest(t->slot), 6, "x", "", 0, NULL, NULL), -ESTALE);
        slot_set_epoch(t->slot, 8);
        assert_int_equal(guest_spawn(slot_guest(t->slot), 7, &c, &r.command), -ESTALE);
        slot_set_epoch(t->slot, 7);
}

static void test_kill(void **state)
{
        struct test_slot *t = *state;
        struct test_run r;
        const char *const argv[] = { "bash", "-mc",
                                     "sleep 61 & sleep 62 | sleep 63 & echo up; wait", NULL };
        struct guest_command_config c = test_run_config(&r, argv);
        assert_int_equal(guest_spawn(slot_guest(t->slot), 7, &c, &r.command), 0);
        for (uint64_t until = now_monotonic() + 5 * USEC_PER_SEC;
             r.out.len < 3 && now_monotonic() < until;)
                (void) sd_event_run(t->event, 100000);
        uint64_t before = now_monotonic();
        assert_int_equal(guest_command_kill(r.command, SIGKILL), 0);
        run_until(t->event, r.ended);
        assert_int_equal(r.status.signal, SIGKILL);
        assert_true(now_monotonic() - before < USEC_PER_SEC);
        test_run_done(&r);
        /* Jobs of the shell had process groups of their own. */
        assert_bash(t, "pgrep -c sleep", 1, "0\n");
}

static void test_output_flow(void **state)
{
        struct test_slot *t = *state;
        struct test_run r;
        const char *const argv[] = { "head", "-c", "4000000", "/dev/zero", NULL };
        struct guest_command_config c = test_run_config(&r, argv);
        assert_int_equal(guest_spawn(slot_guest(t->slot), 7, &c, &r.command), 0);
        guest_command_pause(r.command);
        for (uint64_t until = now_monotonic() + 300 * USEC_PER_MSEC; now_monotonic() < until;)
                (void) sd_event_run(t->event, 50000);
        assert_false(r.ended);
        assert_true(r.out.len > 0 && r.out.len <= 256 * 1024);
        guest_command_resume(r.command);
        run_until(t->event, r.ended);
        if (r.status.code != 0)
                print_error("status %d, signal %d, %s; %s\n", r.status.code, r.status.signal,
                            r.error, t->why);
        assert_int_equal(r.out.len, 4000000);
        test_run_done(&r);
        /* A command that is forgotten dies and says nothing. */
        const char *const endless[] = { "yes", NULL };
        c = test_run_config(&r, endless);
        assert_int_equal(guest_spawn(slot_guest(t->slot), 7, &c, &r.command), 0);
        guest_command_forget(r.command);
        assert_bash(t,
                    "for i in 1 2 3 4 5 6 7 8 9; do pgrep yes >/dev/null || exit 0; sleep 0.1; "
                    "done; exit 1",
                    0, "");
        assert_int_equal(r.out.len, 0);
}

struct feeder {
        struct test_run run;
        bool room;
};

static void on_room(void *userdata)
{
        ((struct feeder *) userdata)->room = true;
}

static void test_input_flow(void **state)
{
        struct test_slot *t = *state;
        struct feeder f;
        const char *const argv[] = { "bash", "-c", "sleep 0.2; wc -c", NULL };
        struct guest_command_config c = test_run_config(&f.run, argv);
        c.stdin_pipe = true;
        c.on_input_room = on_room;
        c.userdata = &f;
        assert_int_equal(guest_spawn(slot_guest(t->slot), 7, &c, &f.run.command), 0);
        static char block[100000];
        memset(block, 'x', sizeof(block));
        unsigned refused = 0;
        for (int i = 0; i < 20; i++)
                for (int r; (r = guest_command_input(f.run.command, 7, block, sizeof(block),
                                                     i == 19)) != 0;) {
                        assert_int_equal(r, -EAGAIN);
                        f.room = false;
                        refused++;
                        run_until(t->event, f.room);
                }
        assert_true(refused > 0);
        assert_int_equal(guest_command_input(f.run.command, 7, "x", 1, false), -EPIPE);
        run_until(t->event, f.run.ended);
        assert_string_equal(f.run.out.data, "2000000\n");
        test_run_done(&f.run);
}

/* --- files ------------------------------------------------------------------------------------ */

struct file_result {
        bool done;
        int r, fd;
        uint64_t size;
        char *data;
        size_t n, entries;
        uint32_t kind;
        char first[200], last[200];
};

static void on_data(void *userdata, int r, const char *data, size_t n, uint64_t size)
{
        struct file_result *f = userdata;
        f->done = true;
        f->r = r;
        f->size = size;
        f->n = n;
        f->data = r < 0 ? NULL : span_dup((struct span){ data, n });
}

static void on_fd(void *userdata, int r, int fd, uint64_t size)
{
        struct file_result *f = userdata;
        *f = (struct file_result){ .done = true, .r = r, .fd = fd, .size = size };
}

static void on_done(void *userdata, int r)
{
        struct file_result *f = userdata;
        f->done = true;
        f->r = r;
}

static void on_listing(void *userdata, int r, const struct guest_listing *l)
{
        struct file_result *f = userdata;
        *f = (struct file_result){ .done = true, .r = r };
        if (!l)
                return;
        f->entries = l->n_entries;
        f->kind = l->kind;
        if (l->n_entries > 0) {
                (void) snprintf(f->first, sizeof(f->first), "%s", l->entries[0].path);
                (void) snprintf(f->last, sizeof(f->last), "%s", l->entries[l->n_entries - 1].path);
        }
}

static int read_file(struct test_slot *t, const char *path, size_t max, struct file_result *f)
{
        *f = (struct file_result){ 0 };
        assert_int_equal(guest_read_file(slot_guest(t->slot), 7, path, 0, max, on_data, f), 0);
        run_until(t->event, f->done);
        return f->r;
}

static int write_file(struct test_slot *t, const char *path, const void *data, size_t n)
{
        struct file_result f = { 0 };
        assert_int_equal(guest_write_file(slot_guest(t->slot), 7, path, data, n, on_done, &f), 0);
        run_until(t->event, f.done);
        return f.r;
}

static void test_files(void **state)
{
        struct test_slot *t = *state;
        struct file_result f;
        size_t n = 1000003;
        char *big = xmalloc(n);
        random_bytes(big, n);

        assert_int_equal(write_file(t, "a/b/c.txt", "hello", 5), 0);
        assert_int_equal(read_file(t, "/home/agent/a/b/c.txt", 100, &f), 0);
        assert_int_equal(f.n, 5);
        assert_string_equal(f.data, "hello");
        free(f.data);
        assert_int_equal(write_file(t, "a/b/c.txt", "", 0), 0);
        assert_int_equal(read_file(t, "a/b/c.txt", 100, &f), 0);
        assert_int_equal(f.n, 0);
        free(f.data);

        assert_int_equal(write_file(t, "big", big, n), 0);
        assert_int_equal(read_file(t, "big", GUEST_READ_MAX, &f), 0);
        assert_int_equal(f.n, n);
        assert_memory_equal(f.data, big, n);
        free(f.data);
        assert_int_equal(read_file(t, "big", 70000, &f), 0);
        assert_int_equal(f.n, 70000);
        assert_int_equal(f.size, n);
        free(f.data);

        assert_int_equal(guest_fetch_file(slot_guest(t->slot), 7, "big", GIB, on_fd, &f), 0);
        f.done = false;
        run_until(t->event, f.done);
        assert_int_equal(f.r, 0);
        assert_int_equal(f.size, n);
        assert_int_equal(fcntl(f.fd, F_GET_SEALS),
                         F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
        struct file_result w = { 0 };
        assert_int_equal(guest_write_from(slot_guest(t->slot), 7, "copy", f.fd, on_done, &w), 0);
        run_until(t->event, w.done);
        assert_int_equal(w.r, 0);
        assert_bash(t, "cmp big copy && stat -c %a copy", 0, "644\n");
        free(big);
}

static void test_file_errors(void **state)
{
        struct test_slot *t = *state;
        struct file_result f;
        assert_int_equal(read_file(t, "missing", 10, &f), -ENOENT);
        assert_int_equal(read_file(t, "/tmp", 10, &f), -EISDIR);
        assert_int_equal(read_file(t, "/dev/zero", 10, &f), -EINVAL);
        assert_bash(t, "mkfifo pipe", 0, "");
        assert_int_equal(read_file(t, "pipe", 10, &f), -EINVAL);
        assert_int_equal(write_file(t, "/usr/x", "x", 1), -EROFS);
        assert_int_equal(write_file(t, "/tmp", "x", 1), -EISDIR);
        assert_int_equal(write_file(t, "pipe", "x", 1), -EINVAL);
        assert_bash(t, "mkdir shut; chmod 500 shut", 0, "");
        assert_int_equal(write_file(t, "shut/x", "x", 1), -EACCES);
        assert_int_equal(guest_read_file(slot_guest(t->slot), 7, "", 0, 1, on_data, &f), -EINVAL);
        assert_int_equal(guest_read_file(slot_guest(t->slot), 7, "\xff", 0, 1, on_data, &f),
                         -EINVAL);
        f.done = false;
        assert_int_equal(guest_fetch_file(slot_guest(t->slot), 7, "/usr/bin/bash", 1000, on_fd, &f),
                         0);
        run_until(t->event, f.done);
        assert_int_equal(f.r, -EFBIG);
        /* Nothing half-written stays. */
        assert_bash(t, "find / -xdev -name '*.part-*' 2>/dev/null", 1, "");
        /* A symbolic link keeps being one; the mode stays. */
        assert_bash(t, "echo old > target; chmod 755 target; ln -s target link", 0, "");
        assert_int_equal(write_file(t, "link", "new", 3), 0);
        assert_bash(t, "cat target; stat -c %a target; readlink link", 0, "new755\ntarget\n");
}

static void test_list(void **state)
{
        struct test_slot *t = *state;
        struct file_result f = { 0 };
        assert_bash(t, "mkdir -p l/b/deep l/.hidden; touch l/a l/b/c l/b/deep/x l/.hidden/y", 0,
                    "");
        assert_int_equal(guest_list_dir(slot_guest(t->slot), 7, "l", 2, on_listing, &f), 0);
        run_until(t->event, f.done);
        assert_int_equal(f.r, 0);
        assert_int_equal(f.kind, 2);
        assert_int_equal(f.entries, 5);
        assert_string_equal(f.first, ".hidden");
        assert_string_equal(f.last, "b/deep");
        f.done = false;
        assert_int_equal(guest_list_dir(slot_guest(t->slot), 7, "missing", 1, on_listing, &f), 0);
        run_until(t->event, f.done);
        assert_int_equal(f.r, -ENOENT);
        assert_bash(t, "mkdir many; cd many; touch $(seq 3000)", 0, "");
        f.done = false;
        assert_int_equal(guest_list_dir(slot_guest(t->slot), 7, "many", 2, on_listing, &f), 0);
        run_until(t->event, f.done);
        assert_int_equal(f.entries, 1000);
}

static void test_cancel(void **state)
{
        struct test_slot *t = *state;
        struct file_result f = { 0 }, g = { 0 };
        static char data[2000000];
        assert_int_equal(
                guest_write_file(slot_guest(t->slot), 7, "never", data, sizeof(data), on_done, &f),
                0);
        guest_cancel(slot_guest(t->slot), &f);
        assert_int_equal(guest_list_dir(slot_guest(t->slot), 7, "/", 1, on_listing, &g), 0);
        run_until(t->event, g.done);
        assert_bash(t, "ls never* 2>/dev/null | wc -l", 0, "0\n");
        assert_false(f.done);
}

/* --- the attacker's table --------------------------------------------------------------------- */

static void test_attacker(void **state)
{
        static const struct {
                const char *script, *out;
        } rows[] = {
                { "id -u; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | awk '{print "
                  "$2}'",
                  "1000\n0000000000000000\n1\n2\n" },
                { "unshare -Ur true 2>&1 | grep -c 'not permitted'", "1\n" },
                { "ls /proc | grep -c '^[0-9]'", "4\n" },
                { "ls /home; ls /root /sys/fs/cgroup 2>/dev/null; ls /run", "agent\nslot\n" },
                { "env | cut -d= -f1 | grep -v -x -E '_|PWD|SHLVL|OLDPWD' | sort | tr '\\n' ' '",
                  "HOME LANG PATH " },
                { "find / -type s 2>/dev/null | wc -l", "0\n" },
                { "ls -l /proc/self/fd | grep -c -v -E '(^total)|/proc|pipe|/dev/null'", "0\n" },
                { "tty", "not a tty\n" },
                { "grep -c : /proc/net/dev", "1\n" },
                { "curl -sS -m2 http://169.254.169.254/ 2>&1 | grep -c -i 'connect'", "1\n" },
                { "getent hosts x.example.com | wc -l", "0\n" },
                { "touch /usr/x 2>&1 | grep -c Read-only", "1\n" },
                { "touch /run/slot/guest /dev/x 2>&1 | wc -l", "2\n" },
                { "(echo 1 > /proc/sys/kernel/core_pattern) 2>/dev/null || (echo b > "
                  "/proc/sysrq-trigger) 2>/dev/null || echo no",
                  "no\n" },
                { "ls /dev/kvm 2>/dev/null; dmesg >/dev/null 2>&1 || echo no", "no\n" },
                { "kill -9 1; kill -STOP 1; sleep 0.1; echo alive", "alive\n" },
                { "cat /proc/1/environ 2>/dev/null | wc -c; tr '\\0' ' ' < /proc/1/cmdline",
                  "0\n/run/slot/guest 3 - 512 - 9 " },
                { "ulimit -c; ulimit -n", "0\n4096\n" },
                { "fallocate -l 1G /tmp/x 2>&1 | grep -c 'No space'; (fallocate -l 3G x) "
                  "2>/dev/null; echo $?",
                  "1\n153\n" },
        };
        struct test_slot *t = *state;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct test_run r;
                test_bash(t, &r, rows[i].script);
                if (strcmp(r.out.data, rows[i].out) != 0)
                        print_error("row %zu: %s\n%s\n%s", i, rows[i].script, r.out.data,
                                    r.err.data);
                assert_string_equal(r.out.data, rows[i].out);
                test_run_done(&r);
        }
}

static void test_system_calls(void **state)
{
        /* io_uring_setup, bpf, keyctl, perf_event_open, userfaultfd, mount, clock_settime, ptrace
         * of process 1, then the socket families. */
        static const char script[] =
                "python3 - <<'E'\n"
                "import ctypes, errno, socket\n"
                "c = ctypes.CDLL(None, use_errno=True)\n"
                "def call(n, *a):\n"
                "    ctypes.set_errno(0)\n"
                "    r = c.syscall(n, *a)\n"
                "    return errno.errorcode.get(ctypes.get_errno(), 'ok') if r < 0 else 'ok'\n"
                "for n, a in [(425, (1, 0)), (321, (0, 0, 0)), (250, (0, 0, 0)), (298, (0, 0, -1, "
                "-1, 0)),\n"
                "             (323, (0,)), (165, (0, 0, 0, 0, 0)), (227, (0, 0)), (101, (16, 1, 0, "
                "0)),\n"
                "             (272, (0x10000000,)), (56, (0x10000011, 0, 0, 0, 0))]:\n"
                "    print(call(n, *a), end=' ')\n"
                "print(call(435, 0, 0))\n"
                "for f in 40, 17, 38, 16, 99:\n"
                "    try:\n"
                "        socket.socket(f, 2); print('ok', end=' ')\n"
                "    except OSError as e:\n"
                "        print(errno.errorcode[e.errno], end=' ')\n"
                "E";
        assert_bash(*state, script, 0,
                    "EPERM EPERM EPERM EPERM EPERM EPERM EPERM EPERM EPERM EPERM ENOSYS\n"
                    "EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT ");
}

static void test_fork_bomb(void **state)
{
        struct test_slot *t = *state;
        assert_bash(t,
                    "python3 - <<'E'\n"
                    "import os, time\n"
                    "n = 0\n"
                    "try:\n"
                    "    while n < 2000:\n"
                    "        if os.fork() == 0:\n"
                    "            time.sleep(60)\n"
                    "            os._exit(0)\n"
                    "        n += 1\n"
                    "except BlockingIOError:\n"
                    "    pass\n"
                    "print(400 < n < 512)\n"
                    "E",
                    0, "True\n");
        /* The worker's own uid is not at its limit: another slot can be made. */
        struct test_slot other = { .event = t->event };
        test_slot_start(&other, SLOT_KIND_HEADLESS, "h2");
        test_slot_wait_ready(&other);
        test_slot_destroy(&other);
}

/* --- life ------------------------------------------------------------------------------------- */

static void test_reset(void **state)
{
        struct test_slot *t = *state;
        struct test_run r;
        const char *const argv[] = {
                "bash", "-c",
                "setsid sleep 99 & (setsid sleep 98 &) & touch kept /tmp/kept; echo up; wait", NULL
        };
        struct guest_command_config c = test_run_config(&r, argv);
        assert_int_equal(guest_spawn(slot_guest(t->slot), 7, &c, &r.command), 0);
        for (uint64_t until = now_monotonic() + 5 * USEC_PER_SEC;
             r.out.len < 3 && now_monotonic() < until;)
                (void) sd_event_run(t->event, 100000);
        test_slot_reset(t);
        assert_true(r.ended);
        assert_int_equal(r.status.code, -1);
        test_run_done(&r);
        assert_int_equal(slot_epoch(t->slot), 0);
        slot_set_epoch(t->slot, 7);
        assert_bash(t, "ls -A ~ /tmp; pgrep -c sleep", 1, "/home/agent:\n\n/tmp:\n0\n");
        struct slot_load load;
        assert_int_equal(slot_load(t->slot, &load), 0);
        assert_int_equal(load.processes, 1);
}

static void test_hostile_home(void **state)
{
        struct test_slot *t = *state;
        /* Deep, unreadable, many. */
        assert_bash(t,
                    "mkdir -p a/b/c shut/in; chmod 0 shut/in; chmod 500 shut; touch $(seq 5000); "
                    "chmod 0 .;"
                    "cd /home/agent 2>/dev/null; python3 -c \"\nimport "
                    "os\nos.chmod('/home/agent',0o700); os.chdir('/home/agent')\n"
                    "for i in range(2000):\n os.mkdir('d'); os.chdir('d')\n\"; chmod 0 ~",
                    0, NULL);
        test_slot_reset(t);
        slot_set_epoch(t->slot, 7);
        assert_bash(t, "ls -A ~ | wc -l", 0, "0\n");
        /* teardown checks that all of it goes */
}

static uint64_t cpu_used(const struct test_slot *t)
{
        struct slot_load load;
        assert_int_equal(slot_load(t->slot, &load), 0);
        return load.cpu_usec;
}

/* Paused programs get no processor time, and the helper still answers; resumed they go on. */
static void test_pause(void **state)
{
        static const char *const argv[] = { "bash", "-c", "while :; do :; done", NULL };
        struct test_slot *t = *state;
        struct test_run spinner = { 0 };
        struct file_result f = { 0 };
        struct guest_command_config c = test_run_config(&spinner, argv);
        assert_int_equal(guest_spawn(slot_guest(t->slot), 7, &c, &spinner.command), 0);
        for (uint64_t until = now_monotonic() + 20 * USEC_PER_SEC, at = cpu_used(t);
             cpu_used(t) < at + 50 * USEC_PER_MSEC;) {
                assert_true(now_monotonic() < until);
                (void) sd_event_run(t->event, 10000);
        }
        assert_int_equal(slot_pause(t->slot), 0);
        assert_int_equal(slot_pause(t->slot), 0);
        uint64_t still = cpu_used(t);
        for (int i = 0; i < 30; i++)
                (void) sd_event_run(t->event, 10000);
        assert_true(cpu_used(t) <= still + 20 * USEC_PER_MSEC); /* the helper's own */
        assert_int_equal(guest_list_dir(slot_guest(t->slot), 7, ".", 1, on_listing, &f), 0);
        run_until(t->event, f.done);
        slot_hold(t->slot); /* its end is not the end of the pause */
        for (uint64_t until = now_monotonic() + 1200 * USEC_PER_MSEC; now_monotonic() < until;)
                (void) sd_event_run(t->event, 10000);
        assert_true(cpu_used(t) <= still + 60 * USEC_PER_MSEC);
        slot_resume(t->slot);
        for (uint64_t until = now_monotonic() + 20 * USEC_PER_SEC;
             cpu_used(t) < still + 200 * USEC_PER_MSEC;) {
                assert_true(now_monotonic() < until);
                (void) sd_event_run(t->event, 10000);
        }
        /* A slot that stands still ends like any other. */
        assert_int_equal(slot_pause(t->slot), 0);
        test_slot_reset(t);
        slot_set_epoch(t->slot, 7);
        test_run_done(&spinner);
        assert_bash(t, "echo again", 0, "again\n");
}

static void test_guest_killed(void **state)
{
        struct test_slot *t = *state;
        t->changed = false;
        struct slot_load load;
        assert_int_equal(slot_load(t->slot, &load), 0);
        /* From outside: the host may kill process 1. The slot says so and can be started again. */
        char path[200];
        (void) snprintf(path, sizeof(path), "%s/h1/processes", fixture_state_dir());
        FILE *f = fopen(path, "re");
        assert_non_null(f);
        int outer = 0, inner = 0;
        assert_int_equal(fscanf(f, "%d %*u %d", &outer, &inner), 2); /* NOLINT(cert-err34-c) */
        (void) fclose(f);
        assert_int_equal(kill(inner, SIGKILL), 0);
        run_until(t->event, t->changed);
        assert_true(t->failed);
        test_slot_reset(t);
        slot_set_epoch(t->slot, 7);
        assert_bash(t, "echo again", 0, "again\n");
        /* The same for bubblewrap. */
        f = fopen(path, "re");
        assert_non_null(f);
        assert_int_equal(fscanf(f, "%d %*u %d", &outer, &inner), 2); /* NOLINT(cert-err34-c) */
        (void) fclose(f);
        t->changed = t->failed = t->ready = false;
        assert_int_equal(kill(outer, SIGKILL), 0);
        run_until(t->event, t->changed);
        assert_true(t->failed);
        test_slot_reset(t);
        slot_set_epoch(t->slot, 7);
        assert_bash(t, "echo again", 0, "again\n");
}

static void test_cycles(void **state)
{
        sd_event *e = fixture_loop();
        for (int i = 0; i < 20; i++) {
                struct test_slot t = { .event = e };
                test_slot_start(&t, SLOT_KIND_HEADLESS, "cycle");
                if (i % 3 != 2) /* every third is destroyed while it starts */
                        test_slot_wait_ready(&t);
                test_slot_destroy(&t);
                char path[200];
                (void) snprintf(path, sizeof(path), "%s/cycle", fixture_state_dir());
                assert_int_equal(access(path, F_OK), -1);
        }
        fixture_loop_free(e);
        assert_true(processes_settle(0));
}

static void test_free_blocks(void **state)
{
        struct test_slot t = { .event = fixture_loop() };
        test_slot_start(&t, SLOT_KIND_HEADLESS, "freed");
        test_slot_wait_ready(&t);
        assert_null(slot_free(t.slot));
        assert_int_equal(count_processes(), 0);
        struct test_slot early = { .event = t.event };
        test_slot_start(&early, SLOT_KIND_HEADLESS, "early");
        assert_null(slot_free(early.slot));
        assert_int_equal(count_processes(), 0);
        fixture_loop_free(t.event);
}

static void test_refusals(void **state)
{
        sd_event *e = fixture_loop();
        struct slot *s = NULL;
        struct slot_config c = { .event = e,
                                 .id = "r",
                                 .kind = SLOT_KIND_HEADLESS,
                                 .image_dir = "/nonexistent",
                                 .state_dir = fixture_state_dir(),
                                 .helper = getenv("BERTH_GUEST") };
        assert_int_equal(slot_new(&c, &s), -ENOENT);
        c.image_dir = fixture_image();
        c.id = "../x";
        assert_int_equal(slot_new(&c, &s), -EINVAL);
        c.id = "r";
        c.kind = SLOT_KIND_VM;
        assert_int_equal(slot_new(&c, &s), -EOPNOTSUPP);
        /* Two workers cannot have the same slot. */
        struct test_slot t = { .event = e };
        test_slot_start(&t, SLOT_KIND_HEADLESS, "r");
        c.kind = SLOT_KIND_HEADLESS;
        assert_int_equal(slot_new(&c, &s), -EBUSY);
        /* nor does reconciling touch what lives */
        unsigned killed = 9;
        assert_int_equal(slot_reconcile(fixture_state_dir(), &killed), 0);
        assert_int_equal(killed, 0);
        test_slot_wait_ready(&t);
        test_slot_destroy(&t);
        fixture_loop_free(e);
}

/* A worker dies without a word; the next one clears up. */
static void test_reconcile(void **state)
{
        int ready[2];
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                struct test_slot t = { .event = fixture_loop() };
                test_slot_start(&t, SLOT_KIND_HEADLESS, "crash");
                test_slot_wait_ready(&t);
                (void) !write(ready[1], "x", 1);
                for (;;)
                        (void) pause();
        }
        char x;
        assert_int_equal(read(ready[0], &x, 1), 1);
        (void) close(ready[0]);
        (void) close(ready[1]);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(slot_reconcile(fixture_state_dir(), NULL), 0);
        char path[200];
        (void) snprintf(path, sizeof(path), "%s/crash", fixture_state_dir());
        assert_int_equal(access(path, F_OK), -1);
        while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
        assert_true(processes_settle(0));
}

int main(void)
{
        fixture_begin(true);
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_commands, setup, teardown),
                cmocka_unit_test_setup_teardown(test_fence, setup, teardown),
                cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
                cmocka_unit_test_setup_teardown(test_output_flow, setup, teardown),
                cmocka_unit_test_setup_teardown(test_input_flow, setup, teardown),
                cmocka_unit_test_setup_teardown(test_files, setup, teardown),
                cmocka_unit_test_setup_teardown(test_file_errors, setup, teardown),
                cmocka_unit_test_setup_teardown(test_list, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
                cmocka_unit_test_setup_teardown(test_attacker, setup, teardown),
                cmocka_unit_test_setup_teardown(test_system_calls, setup, teardown),
                cmocka_unit_test_setup_teardown(test_fork_bomb, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
                cmocka_unit_test_setup_teardown(test_hostile_home, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
                cmocka_unit_test_setup_teardown(test_guest_killed, setup, teardown),
                cmocka_unit_test(test_cycles),
                cmocka_unit_test(test_free_blocks),
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_reconcile),
        };
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        fixture_finish();
        return r;
}
