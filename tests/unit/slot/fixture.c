/* See fixture.h. */
#include "fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/io/daemon.h"
#include "workerd/slot-tree.h"

static char *state_dir;

/* In TAP's way: meson takes exit status 77 as a failure. Before cmocka prints its plan. */
static __attribute__((noreturn)) void leave_out(const char *what, const char *why)
{
        printf("1..0 # SKIP %s%s\n", what, why);
        if (state_dir)
                (void) rmdir(state_dir);
        exit(0);
}

static const char *environment(const char *name)
{
        const char *v = getenv(name);
        if (!v || access(v, X_OK) < 0)
                leave_out(name, " is not set to something usable");
        return v;
}

const char *fixture_image(void)
{
        return environment("BERTH_IMAGE");
}

const char *fixture_state_dir(void)
{
        return state_dir;
}

static void drop_root(void)
{
        /* A uid of its own for each run: its processes can be counted. */
        uid_t uid = 200000 + (uid_t) getpid() % 100000;
        if (geteuid() != 0)
                return;
        if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
                exit(1);
}

void fixture_begin(bool needs_image)
{
        sigset_t set;
        drop_root();
        (void) prctl(PR_SET_DUMPABLE, 1); /* /proc/self stays ours after the change of uid */
        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
        (void) signal(SIGPIPE, SIG_IGN);
        state_dir = xasprintf("%s/berth-slot-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
        if (!mkdtemp(state_dir))
                exit(1);
        if (!needs_image)
                return;
        struct slot_config c = { .kind = SLOT_KIND_HEADLESS,
                                 .image_dir = fixture_image(),
                                 .state_dir = state_dir,
                                 .helper = environment("BERTH_GUEST") };
        char *why = NULL;
        struct slot_proof proof;
        if (slot_prove(&c, &proof, &why) < 0) {
                why[strcspn(why, "\n")] = '\0';
                leave_out(why, "");
        }
        if (slot_reconcile(state_dir, NULL) < 0)
                exit(1);
}

void fixture_finish(void)
{
        (void) !tree_remove(AT_FDCWD, state_dir);
        free(state_dir);
}

sd_event *fixture_loop(void)
{
        sd_event *e = NULL;
        assert_int_equal(sd_event_new(&e), 0);
        return e;
}

void fixture_loop_free(sd_event *e)
{
        /* What was doomed goes at the end of a turn. */
        while (sd_event_run(e, 0) > 0)
                ;
        loop_defer_flush(e);
        sd_event_unref(e);
}

bool loop_until(sd_event *e, const bool *flag, uint64_t usec)
{
        uint64_t until = now_monotonic() + usec;
        while (!*flag) {
                uint64_t now = now_monotonic();
                if (now >= until || sd_event_run(e, until - now) < 0)
                        return *flag;
        }
        return true;
}

static void on_ready(void *userdata)
{
        struct test_slot *t = userdata;
        t->ready = t->changed = true;
        t->ready_usec = now_monotonic() - t->started;
}

static void on_failed(void *userdata, const char *why)
{
        struct test_slot *t = userdata;
        t->failed = t->changed = true;
        (void) snprintf(t->why, sizeof(t->why), "%s", why);
}

static void on_destroyed(void *userdata, int r)
{
        struct test_slot *t = userdata;
        t->destroyed = true;
        t->destroy_result = r;
}

void test_slot_start(struct test_slot *t, enum slot_kind kind, const char *id)
{
        struct slot_config c = { .event = t->event,
                                 .id = id,
                                 .kind = kind,
                                 .image_dir = fixture_image(),
                                 .state_dir = state_dir,
                                 .helper = getenv("BERTH_GUEST"),
                                 .machine = t->machine,
                                 .decoder = getenv("BERTH_DECODER"),
                                 .on_ready = on_ready,
                                 .on_failed = on_failed,
                                 .userdata = t };
        t->started = now_monotonic();
        assert_int_equal(slot_new(&c, &t->slot), 0);
}

void test_slot_wait_ready(struct test_slot *t)
{
        bool in_time =
                loop_until(t->event, &t->changed, t->wait_usec ? t->wait_usec : 30 * USEC_PER_SEC);
        if (t->failed)
                print_error("the slot failed: %s\n", t->why);
        assert_true(in_time);
        assert_true(t->ready);
        assert_true(slot_ready(t->slot));
}

void test_slot_reset(struct test_slot *t)
{
        t->ready = t->failed = t->changed = false;
        t->started = now_monotonic();
        assert_int_equal(slot_reset(t->slot), 0);
        assert_false(slot_ready(t->slot));
        test_slot_wait_ready(t);
}

void test_slot_destroy(struct test_slot *t)
{
        slot_destroy(t->slot, on_destroyed, t);
        run_until(t->event, t->destroyed);
        assert_int_equal(t->destroy_result, 0);
        t->slot = NULL;
}

static void on_output(void *userdata, int stream, const char *data, size_t n)
{
        struct test_run *r = userdata;
        buf_put(stream == 1 ? &r->out : &r->err, data, n);
}

static void on_exit_of(void *userdata, const struct guest_status *status)
{
        struct test_run *r = userdata;
        r->ended = true;
        r->status = *status;
        (void) snprintf(r->error, sizeof(r->error), "%s", status->error ? status->error : "");
        buf_puts(&r->out, "");
        buf_puts(&r->err, "");
}

struct guest_command_config test_run_config(struct test_run *r, const char *const *argv)
{
        *r = (struct test_run){ 0 };
        return (struct guest_command_config){
                .argv = argv, .on_output = on_output, .on_exit = on_exit_of, .userdata = r
        };
}

void test_bash(struct test_slot *t, struct test_run *r, const char *script)
{
        const char *const argv[] = { "bash", "-c", script, NULL };
        struct guest_command_config c = test_run_config(r, argv);
        assert_int_equal(guest_spawn(slot_guest(t->slot), slot_epoch(t->slot), &c, &r->command), 0);
        run_until(t->event, r->ended);
        if (r->error[0])
                print_error("bash: %s\n", r->error);
        assert_string_equal(r->error, "");
}

void test_run_done(struct test_run *r)
{
        buf_done(&r->out);
        buf_done(&r->err);
}

unsigned count_processes(void)
{
        DIR *d = opendir("/proc");
        unsigned n = 0;
        assert_non_null(d);
        for (struct dirent *e; (e = readdir(d));) {
                struct stat st;
                if (e->d_name[0] < '1' || e->d_name[0] > '9' ||
                    strtol(e->d_name, NULL, 10) == getpid())
                        continue;
                char path[64];
                char text[512] = "";
                (void) snprintf(path, sizeof(path), "/proc/%.20s/status", e->d_name);
                FILE *f = fopen(path, "re");
                if (!f)
                        continue;
                size_t got = fread(text, 1, sizeof(text) - 1, f);
                (void) fclose(f);
                const char *uid = got > 0 ? strstr(text, "\nUid:\t") : NULL;
                if (uid && (uid_t) strtoul(uid + 6, NULL, 10) == getuid() &&
                    stat("/proc", &st) == 0)
                        n++;
        }
        closedir(d);
        return n;
}

bool processes_settle(unsigned n)
{
        for (uint64_t until = now_monotonic() + 5 * USEC_PER_SEC; now_monotonic() < until;
             (void) usleep(2000))
                if (count_processes() == n)
                        return true;
        return false;
}
