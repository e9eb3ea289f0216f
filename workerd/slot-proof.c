/* Proves at the start of a worker what holds on this host: a small slot tries to exceed each limit.
 */
#include "slot-private.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROOF_USEC (8 * USEC_PER_SEC)
#define WATCH_MS 50

static const char *const names[SLOT_LIMIT_MAX] = { "memory", "cpu",        "processes", "disk",
                                                   "files",  "open_files", "network" };

/* Small, so that the attempt costs nothing; guest/canary.c tries a few times as much. */
static const struct slot_limits small = { .processes = 24,
                                          .open_files = 64,
                                          .file_bytes = 64 * MIB,
                                          .tmp_bytes = 4 * MIB,
                                          .tmp_files = 64,
                                          .home_bytes = 4 * MIB,
                                          .home_files = 64,
                                          .memory_bytes = 48 * MIB,
                                          .cpu_percent = 20 };

static char *failure(struct sandbox *b)
{
        char said[512];
        ssize_t n = read(b->errors, said, sizeof(said) - 1);
        said[n > 0 ? n : 0] = '\0';
        return xasprintf("a slot cannot be made on this host: %s. Unprivileged user namespaces "
                         "must be allowed (sysctl user.max_user_namespaces, "
                         "kernel.apparmor_restrict_unprivileged_userns) and bubblewrap installed",
                         n > 0 ? strstrip(said) : "it gave no answer in time");
}

/* Takes what process 1 tells until it ends; watches its memory where nothing else does. */
static void listen_to(int stream, struct sandbox *b, const struct cgroup *g, struct buf *said)
{
        uint64_t until = now_monotonic() + PROOF_USEC;
        uint64_t tasks;
        bool watch = g->enter[CGROUP_MEMORY] < 0;
        while (now_monotonic() < until) {
                struct pollfd p = { .fd = stream, .events = POLLIN };
                char text[256];
                (void) !sandbox_read_info(b);
                if (poll(&p, 1, WATCH_MS) > 0) {
                        ssize_t n = recv(stream, text, sizeof(text), MSG_DONTWAIT);
                        if (n <= 0 || buf_append(said, text, (size_t) n) < 0)
                                return;
                }
                if (watch)
                        (void) slot_watch_memory(b->inner, small.memory_bytes, &tasks);
        }
}

static bool held(const struct buf *said, const char *what)
{
        char line[64];
        int n = snprintf(line, sizeof(line), "%s held\n", what);
        return memmem(buf_head(said), buf_pending(said), line, (size_t) n) != NULL;
}

static void judge(const struct buf *said, const struct cgroup *g, struct slot_proof *ret)
{
        const char *const by[SLOT_LIMIT_MAX] = {
                [SLOT_LIMIT_MEMORY] = g->enter[CGROUP_MEMORY] >= 0 ? "cgroup" : "watchdog",
                [SLOT_LIMIT_CPU] = g->enter[CGROUP_CPU] >= 0 ? "cgroup" : "none",
                [SLOT_LIMIT_PROCESSES] = g->enter[CGROUP_PIDS] >= 0 ? "cgroup" : "rlimit",
                [SLOT_LIMIT_DISK] = "filesystem",
                [SLOT_LIMIT_FILES] = "filesystem",
                [SLOT_LIMIT_OPEN_FILES] = "rlimit",
                [SLOT_LIMIT_NETWORK] = "namespace",
        };
        for (int l = 0; l < SLOT_LIMIT_MAX; l++) {
                ret->limits[l].proven = !streq(by[l], "none") && held(said, names[l]);
                ret->limits[l].by = by[l];
        }
}

static int run(const struct slot_config *c, const struct cgroup *g, struct slot_proof *ret,
               char **ret_why)
{
        int pair[2];
        cleanup_buf struct buf said = BUF_LIMIT(4096);
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        cleanup_close int ours = pair[0], theirs = pair[1];
        struct sandbox_config sc = { .bwrap = c->bwrap ? c->bwrap : "/usr/bin/bwrap",
                                     .image_dir = c->image_dir,
                                     .helper = c->helper,
                                     .profile = c->kind == SLOT_KIND_DESKTOP ? SANDBOX_BROWSER
                                                                             : SANDBOX_TOOL,
                                     .stream = theirs,
                                     .listener = -1,
                                     .gate = -1,
                                     .limits = small,
                                     .identity = c->host ? &c->host->identity : NULL,
                                     .cgroup = g,
                                     .canary = true };
        struct sandbox b = SANDBOX_NONE;
        int r = sandbox_start(&sc, &b);
        if (r < 0)
                return r;
        fd_close(TAKE_FD(theirs));
        listen_to(ours, &b, g, &said);
        r = held(&said, "begin") ? 0 : -ENOSYS;
        fd_close(TAKE_FD(ours));
        sandbox_kill(&b, true);
        (void) cgroup_kill(g);
        (void) waitpid(b.pid, NULL, 0);
        if (b.inner > 0) /* it may have become ours */
                (void) waitpid(b.inner, NULL, 0);
        if (r < 0)
                *ret_why = failure(&b);
        else
                judge(&said, g, ret);
        sandbox_done(&b);
        return r;
}

int slot_prove(const struct slot_config *c, struct slot_proof *ret, char **ret_why)
{
        char *why = NULL;
        struct cgroup g = CGROUP_NONE;
        struct slot_proof proof = { .identity = identity_source_name(IDENTITY_OWN) };
        if (geteuid() == 0) {
                *ret_why =
                        xstrdup("the worker must not run as root: start it as a user of its own");
                return -EPERM;
        }
        if (c->host) {
                cleanup_free char *name = xasprintf("canary-%s", c->id ? c->id : "");
                cgroup_make(&c->host->cgroups, name, &small, &g);
                proof.identity = identity_source_name(c->host->identity.source);
                (void) snprintf(proof.identity_why, sizeof(proof.identity_why), "%s",
                                c->host->identity.why);
        }
        int r = run(c, &g, &proof, &why);
        cgroup_remove(&g);
        if (r < 0) {
                *ret_why = why ? why : xasprintf("a slot cannot be made: %s", strerror(-r));
                return r;
        }
        *ret = proof;
        return 0;
}

void slot_proof_json(const struct slot_proof *p, const struct slot_limits *l, struct buf *to)
{
        const uint64_t most[SLOT_LIMIT_MAX] = {
                [SLOT_LIMIT_MEMORY] = l->memory_bytes,
                [SLOT_LIMIT_CPU] = l->cpu_percent,
                [SLOT_LIMIT_PROCESSES] = l->processes,
                [SLOT_LIMIT_DISK] = l->home_bytes,
                [SLOT_LIMIT_FILES] = l->home_files,
                [SLOT_LIMIT_OPEN_FILES] = l->open_files,
                [SLOT_LIMIT_NETWORK] = 0,
        };
        buf_puts(to, "{");
        for (int i = 0; i < SLOT_LIMIT_MAX; i++)
                buf_putf(to, "\"%s\":{\"by\":\"%s\",\"proven\":%s,\"max\":%" PRIu64 "},", names[i],
                         p->limits[i].by, p->limits[i].proven ? "true" : "false", most[i]);
        buf_putf(to, "\"identity\":{\"by\":\"%s\",\"proven\":%s", p->identity,
                 p->identity_why[0] ? "false" : "true");
        if (p->identity_why[0]) {
                buf_puts(to, ",\"why\":");
                buf_put_json_string(to, p->identity_why, strlen(p->identity_why));
        }
        if (p->machine)
                buf_putf(to, "},\"machine\":{\"by\":\"%s\",\"proven\":%s", p->machine,
                         streq(p->machine, "none") ? "false" : "true");
        if (p->machine && p->machine_why[0]) {
                buf_puts(to, ",\"why\":");
                buf_put_json_string(to, p->machine_why, strlen(p->machine_why));
        }
        buf_puts(to, "},\"sandbox\":\"bubblewrap\",\"version\":\"" BERTH_VERSION "\"}");
}
