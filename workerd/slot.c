/* The life of a slot: start, ready, end, and what of it may follow what. */
#include "slot-private.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/states.h"
#include "slot-tree.h"

#define HOLD_USEC USEC_PER_SEC
#define HOLD_PASSES 20
#define LATER_USEC (500 * USEC_PER_MSEC)
#define WATCH_USEC (250 * USEC_PER_MSEC)

static const char *phase_name(int phase)
{
        static const char *const names[] = { "starting", "ready", "ending", "down" };
        return phase >= 0 && phase < SLOT_PHASE_MAX ? names[phase] : "?";
}

#define TO(phase) (1U << SLOT_PHASE_##phase)
static const uint32_t allowed[SLOT_PHASE_MAX] = {
        [SLOT_PHASE_STARTING] = TO(READY) | TO(ENDING),
        [SLOT_PHASE_READY] = TO(ENDING),
        [SLOT_PHASE_ENDING] = TO(DOWN),
        [SLOT_PHASE_DOWN] = TO(STARTING) | TO(ENDING),
};
static const struct state_table phases = {
        .what = "slot", .name = phase_name, .allowed = allowed, .max = SLOT_PHASE_MAX
};

static void set_phase(struct slot *s, enum slot_phase to, const char *why)
{
        if (state_check(&phases, (int) s->phase, (int) to) < 0) {
                log_error("slot %s: %s -> %s is not allowed (%s)", s->config.id,
                          phase_name((int) s->phase), phase_name((int) to), why);
                abort();
        }
        log_debug("slot %s: %s -> %s: %s", s->config.id, phase_name((int) s->phase),
                  phase_name((int) to), why);
        s->phase = to;
}

static void drop_sources(struct slot *s)
{
        s->child = sd_event_source_disable_unref(s->child);
        s->info = sd_event_source_disable_unref(s->info);
        s->errors = sd_event_source_disable_unref(s->errors);
        s->inner = sd_event_source_disable_unref(s->inner);
}

static int start(struct slot *s);
static void finish_destroy(struct slot *s, int r);

/* --- end -------------------------------------------------------------------------------------- */

static bool inner_alive(const struct slot *s)
{
        struct pollfd p = { .fd = s->sandbox.inner_fd, .events = POLLIN };
        return s->sandbox.inner_fd >= 0 && poll(&p, 1, 0) == 0;
}

static void begin_end(struct slot *s, const char *why)
{
        if (s->phase == SLOT_PHASE_ENDING)
                return;
        set_phase(s, SLOT_PHASE_ENDING, why);
        crash_point("slot.destroy");
        s->epoch = 0;
        s->paused = false;
        s->guest = guest_free(s->guest);
        s->ops->end(s);
        slot_network_end(s);
        s->listener = fd_close(s->listener);
        loop_timer_disarm(&s->watch);
        loop_timer_disarm(&s->thaw);
        loop_timer_disarm(&s->later);
        sandbox_kill(&s->sandbox, false);
        loop_timer_arm(&s->deadline, s->config.stop_usec);
        loop_task_queue(&s->settle);
}

void slot_fail(struct slot *s, const char *fmt, ...)
{
        char why[600];
        va_list ap;
        if (s->phase == SLOT_PHASE_ENDING || s->phase == SLOT_PHASE_DOWN)
                return;
        va_start(ap, fmt);
        (void) vsnprintf(why, sizeof(why), fmt, ap);
        va_end(ap);
        begin_end(s, why);
        if (!s->destroying && s->want == SLOT_WANT_NOTHING)
                s->config.on_failed(s->config.userdata, why);
}

static void all_gone(struct slot *s)
{
        drop_sources(s);
        sandbox_done(&s->sandbox);
        loop_timer_disarm(&s->deadline);
        (void) unlinkat(s->folder, "processes", 0);
        (void) unlinkat(s->folder, "display/rfb", 0);
        unsigned left = cgroup_kill(&s->cgroup);
        if (left > 0)
                log_warning("slot %s: %u processes were still in its group", s->config.id, left);
        set_phase(s, SLOT_PHASE_DOWN, "all gone");
        if (s->want == SLOT_WANT_DESTROY)
                finish_destroy(s, 0);
        if (s->want != SLOT_WANT_START)
                return;
        s->want = SLOT_WANT_NOTHING;
        int r = start(s);
        if (r < 0)
                s->config.on_failed(s->config.userdata, "the slot cannot be started again");
}

static int on_inner(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct slot *s = userdata;
        s->inner = sd_event_source_disable_unref(s->inner);
        loop_task_queue(&s->settle);
        return 0;
}

static void settle(void *userdata)
{
        struct slot *s = userdata;
        if (s->phase != SLOT_PHASE_ENDING || s->child)
                return;
        if (inner_alive(s)) {
                /* bubblewrap died first; its child is ours now (subreaper). */
                sandbox_kill(&s->sandbox, false);
                if (!s->inner)
                        (void) sd_event_add_io(s->config.event, &s->inner, s->sandbox.inner_fd,
                                               EPOLLIN, on_inner, s);
                return;
        }
        if (s->sandbox.inner > 0)
                (void) waitpid(s->sandbox.inner, NULL, WNOHANG);
        all_gone(s);
}

static int on_errors(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct slot *s = userdata;
        size_t have = strlen(s->said), room = sizeof(s->said) - 1 - have;
        char spill[256];
        ssize_t n = read(fd, room ? s->said + have : spill, room ? room : sizeof(spill));
        if (n > 0 && room)
                s->said[have + (size_t) n] = '\0';
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
                s->errors = sd_event_source_disable_unref(s->errors);
        return 0;
}

static int on_child(sd_event_source *source, const siginfo_t *si, void *userdata)
{
        struct slot *s = userdata;
        s->child = sd_event_source_disable_unref(s->child);
        s->sandbox.pid = 0;
        if (s->errors)
                (void) on_errors(s->errors, s->sandbox.errors, EPOLLIN, s);
        if (si->si_code == CLD_EXITED)
                slot_fail(s, "the slot ended with status %d: %s", si->si_status,
                          s->said[0] ? strstrip(s->said) : "it said nothing");
        else
                slot_fail(s, "the slot was ended by signal %d", si->si_status);
        loop_task_queue(&s->settle);
        return 0;
}

static void on_deadline(void *userdata)
{
        struct slot *s = userdata;
        if (s->phase == SLOT_PHASE_STARTING) {
                slot_fail(s, "the slot was not ready in %" PRIu64 " s: %s%s",
                          s->start_usec / USEC_PER_SEC,
                          s->said[0] ? strstrip(s->said) : "it said nothing",
                          s->start_usec == s->config.start_usec
                                  ? "; a slow machine needs a larger slot_start or "
                                    "slot_cpu_percent (workerd.conf)"
                                  : "");
                return;
        }
        if (s->phase != SLOT_PHASE_ENDING)
                return;
        log_error("slot %s: processes outlive the deadline", s->config.id);
        sandbox_kill(&s->sandbox, true);
        (void) cgroup_kill(&s->cgroup);
        if (s->want == SLOT_WANT_DESTROY) {
                finish_destroy(s, -ETIME);
                return;
        }
        loop_timer_arm(&s->deadline, s->config.stop_usec);
}

/* Where no control group limits the memory, we look ourselves. */
static void on_watch(void *userdata)
{
        struct slot *s = userdata;
        uint64_t tasks = 0;
        if (slot_watch_memory(s->sandbox.inner, s->config.limits.memory_bytes, &tasks)) {
                s->watch_kills++;
                log_notice("slot %s: a program was ended: out of memory", s->config.id);
        }
        /* At the limit of processes, or so close that little can be started. */
        if (s->cgroup.enter[CGROUP_PIDS] < 0 && tasks + 4 >= s->config.limits.processes)
                s->watch_full++;
        loop_timer_arm(&s->watch, WATCH_USEC);
}

/* Who is stopped cannot fork: a few looks find all. */
static void stop_all(struct slot *s, bool display)
{
        for (int pass = 0; pass < HOLD_PASSES; pass++)
                if (slot_signal_all(s->sandbox.inner, SIGSTOP, display) == 0)
                        break;
}

static void on_thaw(void *userdata)
{
        struct slot *s = userdata;
        (void) slot_signal_all(s->sandbox.inner, SIGCONT, true);
        if (s->paused && !s->ops->hold)
                stop_all(s, false);
}

void slot_hold(struct slot *s)
{
        stop_all(s, true);
        loop_timer_arm(&s->thaw, HOLD_USEC);
}

int slot_pause(struct slot *s)
{
        if (s->phase != SLOT_PHASE_READY)
                return -ENOTCONN;
        if (!s->paused && s->ops->hold)
                s->ops->hold(s, true);
        else if (!s->paused)
                stop_all(s, false);
        s->paused = true;
        return 0;
}

void slot_resume(struct slot *s)
{
        if (s->paused && s->phase == SLOT_PHASE_READY && s->ops->hold)
                s->ops->hold(s, false);
        else if (s->paused && s->phase == SLOT_PHASE_READY)
                (void) slot_signal_all(s->sandbox.inner, SIGCONT, true);
        s->paused = false;
}

void slot_hits(const struct slot *s, struct slot_hits *ret)
{
        static const struct guest_limits none;
        const struct guest_limits *in = s->guest ? guest_limits(s->guest) : &none;
        struct cgroup_use use;
        cgroup_read(&s->cgroup, &use);
        *ret = (struct slot_hits){ use.memory_kills + s->watch_kills + in->memory_kills,
                                   use.fork_refusals + s->watch_full + in->fork_refusals };
}

char *slot_hits_text(const struct slot *s, const struct slot_hits *before)
{
        const struct slot_limits *l = &s->config.limits;
        const struct guest_limits *in = s->guest ? guest_limits(s->guest) : NULL;
        struct slot_hits now;
        slot_hits(s, &now);
        bool machine = in && in->processes > 0;
        if (now.memory_kills > before->memory_kills)
                return xasprintf("A program was killed: everything in the slot together used more "
                                 "than %" PRIu64 " MiB of memory (files in the home folder and "
                                 "/tmp count).",
                                 (machine ? in->memory_bytes : l->memory_bytes) / MIB);
        if (now.fork_refusals > before->fork_refusals)
                return xasprintf("A program could not be started: there were already %" PRIu64
                                 " processes and threads in the slot.",
                                 machine ? in->processes : l->processes);
        return NULL;
}

/* --- start ------------------------------------------------------------------------------------ */

static int on_info(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct slot *s = userdata;
        bool known = s->sandbox.inner > 0;
        int r = sandbox_read_info(&s->sandbox);
        if (r == 0 && !known) {
                slot_write_processes(s);
                if (s->phase == SLOT_PHASE_ENDING)
                        sandbox_kill(&s->sandbox, false); /* it could not be killed before */
        }
        if (s->sandbox.info < 0)
                s->info = sd_event_source_disable_unref(s->info);
        return 0; /* without it bubblewrap is about to end and says why */
}

static void on_guest_up(void *userdata)
{
        struct slot *s = userdata;
        slot_network_up(s);
        s->ops->guest_up(s);
}

static void on_guest_end(void *userdata, const char *why)
{
        struct slot *s = userdata;
        /* The exit of bubblewrap tells more; it follows at once unless the helper broke the
         * protocol. */
        if (s->said[0])
                slot_fail(s, "%s: %s", why, strstrip(s->said));
        else
                slot_fail(s, "%s", why);
}

void slot_set_ready(struct slot *s)
{
        if (s->phase != SLOT_PHASE_STARTING)
                return;
        loop_timer_disarm(&s->deadline);
        set_phase(s, SLOT_PHASE_READY, "up");
        s->config.on_ready(s->config.userdata);
}

void slot_limit_start(struct slot *s, uint64_t usec)
{
        s->start_usec = usec;
        loop_timer_arm(&s->deadline, usec);
}

void slot_restart(struct slot *s, const char *why)
{
        if (s->phase == SLOT_PHASE_ENDING)
                return;
        s->want = SLOT_WANT_START;
        begin_end(s, why);
}

static int start_usual(struct slot *s, int stream, int gate)
{
        struct sandbox_config c = {
                .bwrap = s->config.bwrap,
                .image_dir = s->config.image_dir,
                .helper = s->config.helper,
                .profile = s->ops->profile,
                .display = s->ops->display,
                .stream = stream,
                .listener = s->listener,
                .gate = gate,
                .limits = s->config.limits,
                .identity = s->config.host ? &s->config.host->identity : NULL,
                .cgroup = &s->cgroup,
        };
        return sandbox_start(&c, &s->sandbox);
}

static int start_sandbox(struct slot *s, int stream, int gate)
{
        int r = s->ops->start ? s->ops->start(s, stream, gate) : start_usual(s, stream, gate);
        if (r < 0)
                return r;
        slot_write_processes(s);
        r = sd_event_add_child(s->config.event, &s->child, s->sandbox.pid, WEXITED, on_child, s);
        if (r >= 0)
                r = sd_event_add_io(s->config.event, &s->info, s->sandbox.info, EPOLLIN, on_info,
                                    s);
        if (r >= 0)
                r = sd_event_add_io(s->config.event, &s->errors, s->sandbox.errors, EPOLLIN,
                                    on_errors, s);
        return r < 0 ? r : 0;
}

static int launch(struct slot *s)
{
        int pair[2];
        int r = s->ops->prepare(s);
        if (r < 0)
                return r;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        cleanup_close int theirs = pair[1], gate = -1;
        struct guest_config c = { .event = s->config.event,
                                  .fd = pair[0],
                                  .epoch = &s->epoch,
                                  .on_up = on_guest_up,
                                  .on_end = on_guest_end,
                                  .userdata = s };
        r = guest_new(&c, &s->guest);
        if (r == 0)
                r = slot_network_prepare(s, &gate);
        if (r == 0)
                r = start_sandbox(s, theirs, gate);
        return r;
}

static void on_later(void *userdata)
{
        struct slot *s = userdata;
        int r = launch(s);
        if (r == -EAGAIN)
                loop_timer_arm(&s->later, LATER_USEC);
        else if (r < 0)
                slot_fail(s, "the slot cannot be started: %s", strerror(-r));
}

static int start(struct slot *s)
{
        set_phase(s, SLOT_PHASE_STARTING, "start");
        s->said[0] = '\0';
        slot_limit_start(s, s->config.start_usec);
        if (s->cgroup.enter[CGROUP_MEMORY] < 0 || s->cgroup.enter[CGROUP_PIDS] < 0)
                loop_timer_arm(&s->watch, WATCH_USEC);
        int r = launch(s);
        crash_point("slot.create");
        if (r == -EAGAIN) {
                loop_timer_arm(&s->later, LATER_USEC);
                return 0;
        }
        if (r < 0)
                begin_end(s, "a part cannot be started");
        return r;
}

/* --- outside ---------------------------------------------------------------------------------- */

static const struct slot_ops *ops_of(enum slot_kind kind, const struct slot_config *c)
{
        return kind == SLOT_KIND_DESKTOP            ? &slot_desktop_ops
               : kind == SLOT_KIND_HEADLESS         ? &slot_headless_ops
               : kind == SLOT_KIND_VM && c->machine ? &slot_vm_ops
                                                    : NULL;
}

static void slot_release(void *p)
{
        struct slot *s = p;
        drop_sources(s);
        loop_timer_done(&s->deadline);
        loop_timer_done(&s->watch);
        loop_timer_done(&s->thaw);
        loop_timer_done(&s->later);
        loop_task_done(&s->settle);
        sandbox_done(&s->sandbox);
        fd_close(s->listener);
        fd_close(s->folder);
        fd_close(s->lock);
        buf_done(&s->desktop.log);
        free((char *) s->config.id);
        free((char *) s->config.image_dir);
        free((char *) s->config.state_dir);
        free((char *) s->config.helper);
        free((char *) s->config.decoder);
        free((char *) s->config.bwrap);
        free(s);
}

void slot_limits_default(struct slot_limits *l)
{
        const struct slot_limits d = { .processes = 512,
                                       .open_files = 4096,
                                       .file_bytes = 2 * GIB,
                                       .tmp_bytes = 512 * MIB,
                                       .tmp_files = 40000,
                                       .home_bytes = 2 * GIB,
                                       .home_files = 200000,
                                       .memory_bytes = 4 * GIB,
                                       .cpu_percent = 200 };
        l->processes = l->processes ? l->processes : d.processes;
        l->open_files = l->open_files ? l->open_files : d.open_files;
        l->file_bytes = l->file_bytes ? l->file_bytes : d.file_bytes;
        l->tmp_bytes = l->tmp_bytes ? l->tmp_bytes : d.tmp_bytes;
        l->tmp_files = l->tmp_files ? l->tmp_files : d.tmp_files;
        l->home_bytes = l->home_bytes ? l->home_bytes : d.home_bytes;
        l->home_files = l->home_files ? l->home_files : d.home_files;
        l->memory_bytes = l->memory_bytes ? l->memory_bytes : d.memory_bytes;
        l->cpu_percent = l->cpu_percent ? l->cpu_percent : d.cpu_percent;
}

static void copy_config(struct slot *s, const struct slot_config *c)
{
        s->config = *c;
        s->config.id = xstrdup(c->id);
        s->config.image_dir = xstrdup(c->image_dir);
        s->config.state_dir = xstrdup(c->state_dir);
        s->config.helper = xstrdup(c->helper);
        s->config.decoder = c->decoder ? xstrdup(c->decoder) : NULL;
        s->config.bwrap = xstrdup(c->bwrap ? c->bwrap : "/usr/bin/bwrap");
        s->config.width = c->width ? c->width : 1280;
        s->config.height = c->height ? c->height : 800;
        s->config.start_usec = c->start_usec ? c->start_usec : 20 * USEC_PER_SEC;
        s->config.stop_usec = c->stop_usec ? c->stop_usec : 5 * USEC_PER_SEC;
        slot_limits_default(&s->config.limits);
}

static int open_folder(struct slot *s)
{
        int r = slot_folder_open(s->config.state_dir, s->config.id, &s->folder, &s->lock);
        if (r < 0)
                return r;
        if (mkdirat(s->folder, "display", 0700) < 0 && errno != EEXIST)
                return -errno;
        (void) unlinkat(s->folder, "display/rfb", 0);
        if (s->config.host) /* kills what an earlier run of the worker may have left in it */
                cgroup_make(&s->config.host->cgroups, s->config.id, &s->config.limits, &s->cgroup);
        return 0;
}

int slot_new(const struct slot_config *c, struct slot **ret)
{
        if (geteuid() == 0)
                return -EPERM;
        if (!ops_of(c->kind, c))
                return -EOPNOTSUPP;
        if (strempty(c->id) ||
            c->id[strspn(c->id,
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")])
                return -EINVAL;
        struct slot *s = xnew(struct slot);
        s->folder = s->lock = s->listener = s->network.gate = -1;
        s->sandbox = SANDBOX_NONE;
        s->vm = SLOT_VM_NONE;
        s->cgroup = CGROUP_NONE;
        s->phase = SLOT_PHASE_DOWN;
        s->ops = ops_of(c->kind, c);
        copy_config(s, c);
        const char *const needed[] = { s->config.image_dir, s->config.helper, s->config.bwrap };
        int r = 0;
        for (size_t i = 0; i < ARRAY_LEN(needed) && r == 0; i++)
                r = access(needed[i], X_OK) < 0 ? -errno : 0;
        if (r == 0)
                r = loop_timer_init(&s->deadline, c->event, on_deadline, s);
        if (r == 0)
                r = loop_timer_init(&s->watch, c->event, on_watch, s);
        if (r == 0)
                r = loop_timer_init(&s->thaw, c->event, on_thaw, s);
        if (r == 0)
                r = loop_timer_init(&s->later, c->event, on_later, s);
        if (r == 0)
                r = loop_task_init(&s->settle, c->event, settle, s);
        if (r == 0)
                r = open_folder(s);
        if (r == 0)
                r = start(s);
        if (r < 0) {
                slot_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

int slot_reset_as(struct slot *s, enum slot_kind kind, unsigned width, unsigned height)
{
        const struct slot_ops *ops = ops_of(kind, &s->config);
        if (!ops)
                return -EOPNOTSUPP;
        if (s->destroying)
                return -EBUSY;
        s->want = SLOT_WANT_START;
        begin_end(s, "reset");
        s->ops = ops;
        s->config.kind = kind;
        s->config.width = width ? width : s->config.width;
        s->config.height = height ? height : s->config.height;
        return 0;
}

int slot_reset(struct slot *s)
{
        return slot_reset_as(s, s->config.kind, 0, 0);
}

static void finish_destroy(struct slot *s, int r)
{
        cleanup_free char *id = xstrdup(s->config.id);
        void (*done)(void *, int) = s->done;
        void *userdata = s->done_userdata;
        if (s->freed)
                return;
        s->freed = true;
        drop_sources(s);
        loop_timer_disarm(&s->deadline);
        if (r == 0) {
                cleanup_close int state =
                        open(s->config.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                r = state < 0 ? -errno : tree_remove(state, id); /* a few entries of ours */
                cgroup_remove(&s->cgroup);
        }
        loop_defer_free(s->config.event, s, slot_release);
        if (done)
                done(userdata, r);
}

void slot_destroy(struct slot *s, void (*done)(void *userdata, int r), void *userdata)
{
        s->destroying = true;
        s->want = SLOT_WANT_DESTROY;
        s->done = done;
        s->done_userdata = userdata;
        if (s->phase == SLOT_PHASE_DOWN)
                finish_destroy(s, 0);
        else
                begin_end(s, "destroy");
}

/* Blocks until `pidfd` has ended or the time is over. */
static bool wait_gone(int pidfd, uint64_t until)
{
        for (;;) {
                uint64_t now = now_monotonic();
                struct pollfd p = { .fd = pidfd, .events = POLLIN };
                int ms = now >= until ? 0 : (int) ((until - now) / USEC_PER_MSEC + 1);
                int r = poll(&p, 1, ms);
                if (r > 0)
                        return true;
                if (r == 0 && now_monotonic() >= until)
                        return false;
        }
}

struct slot *slot_free(struct slot *s)
{
        if (!s || s->freed)
                return NULL;
        s->destroying = s->freed = true;
        uint64_t until = now_monotonic() + s->config.stop_usec;
        if (s->phase == SLOT_PHASE_STARTING || s->phase == SLOT_PHASE_READY)
                begin_end(s, "free");
        drop_sources(s);
        bool gone = true;
        if (s->sandbox.pid > 0) {
                cleanup_close int outer = pidfd_open(s->sandbox.pid, 0);
                /* Process 1 must be known to be killed; bubblewrap names it within milliseconds. */
                while (sandbox_read_info(&s->sandbox) == -EAGAIN && now_monotonic() < until) {
                        struct pollfd p = { .fd = s->sandbox.info, .events = POLLIN };
                        (void) poll(&p, 1, 100);
                }
                sandbox_kill(&s->sandbox, false);
                gone = outer < 0 || wait_gone(outer, until);
                if (!gone)
                        sandbox_kill(&s->sandbox, true);
                (void) waitpid(s->sandbox.pid, NULL, gone ? 0 : WNOHANG);
        }
        if (s->sandbox.inner_fd >= 0) {
                sandbox_kill(&s->sandbox, false);
                gone = wait_gone(s->sandbox.inner_fd, until) && gone;
                (void) waitpid(s->sandbox.inner, NULL, WNOHANG);
        }
        (void) cgroup_kill(&s->cgroup);
        cgroup_remove(&s->cgroup);
        cleanup_close int state = open(s->config.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (gone && state >= 0 && s->lock >= 0 && tree_remove(state, s->config.id) < 0)
                log_warning("slot %s: its folder stays until the next start", s->config.id);
        loop_defer_free(s->config.event, s, slot_release);
        return NULL;
}

void slot_set_epoch(struct slot *s, uint64_t epoch)
{
        s->epoch = epoch;
}

uint64_t slot_epoch(const struct slot *s)
{
        return s->epoch;
}

int slot_display_connect(struct slot *s, int *ret_fd)
{
        return slot_ready(s) && s->ops->connect ? s->ops->connect(s, ret_fd) : -ENOTCONN;
}

int slot_resize(struct slot *s, unsigned width, unsigned height)
{
        struct screen *screen = slot_screen(s);
        if (!screen)
                return -ENOTCONN;
        return s->ops->resize ? s->ops->resize(s, width, height)
                              : screen_resize(screen, width, height);
}

bool slot_ready(const struct slot *s)
{
        return s->phase == SLOT_PHASE_READY;
}

enum slot_kind slot_kind(const struct slot *s)
{
        return s->config.kind;
}

struct guest *slot_guest(struct slot *s)
{
        return s->phase == SLOT_PHASE_READY ? s->guest : NULL;
}

struct screen *slot_screen(struct slot *s)
{
        return s->phase == SLOT_PHASE_READY ? s->desktop.screen : NULL;
}
