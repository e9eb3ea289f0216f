/* berth-egress: the only way out of a slot (egress.h). Started by workerd, ends with it. */
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "egress.h"

enum option_id {
        OPT_LISTENER = 1,
        OPT_CONTROL,
        OPT_CREDENTIALS,
        OPT_DNS,
        OPT_PRIVATE,
        OPT_HOSTS,
        OPT_CA,
        OPT_IDLE
};

static const struct option options[] = {
        { "listener", required_argument, NULL, OPT_LISTENER },
        { "control", required_argument, NULL, OPT_CONTROL },
        { "credentials", required_argument, NULL, OPT_CREDENTIALS },
        { "dns", required_argument, NULL, OPT_DNS },
        { "private", required_argument, NULL, OPT_PRIVATE },
        { "hosts", required_argument, NULL, OPT_HOSTS },
        { "ca", required_argument, NULL, OPT_CA },
        { "idle", required_argument, NULL, OPT_IDLE },
        { 0 },
};

static int descriptor(const char *text)
{
        uint64_t fd;
        if (parse_u64(text, &fd) < 0 || fd > 1 << 20 || fcntl((int) fd, F_GETFD) < 0 ||
            fcntl((int) fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl((int) fd, F_SETFL, O_NONBLOCK) < 0)
                return -EBADF;
        return (int) fd;
}

static int take_option(struct proxy_config *c, int id, const char *value)
{
        switch ((enum option_id) id) {
        case OPT_LISTENER:
                return c->listener = descriptor(value);
        case OPT_CONTROL:
                return c->control = descriptor(value);
        case OPT_CREDENTIALS:
                c->credentials = value;
                return 0;
        case OPT_DNS:
                c->dns = value;
                return 0;
        case OPT_PRIVATE:
                c->private_ranges = value;
                return 0;
        case OPT_HOSTS:
                c->hosts = value;
                return 0;
        case OPT_CA:
                c->ca_file = value;
                return 0;
        case OPT_IDLE:
                return parse_duration(value, &c->idle_usec);
        }
        return -EINVAL;
}

/* What it will never need is refused by the kernel: it reads the bytes of hostile clients and
 * hostile servers. */
static int confine(void)
{
        static const int denied[] = {
                SCMP_SYS(execve),         SCMP_SYS(execveat),
                SCMP_SYS(fork),           SCMP_SYS(vfork),
                SCMP_SYS(ptrace),         SCMP_SYS(process_vm_readv),
                SCMP_SYS(kill),           SCMP_SYS(process_vm_writev),
                SCMP_SYS(tkill),          SCMP_SYS(bind),
                SCMP_SYS(listen),         SCMP_SYS(mount),
                SCMP_SYS(umount2),        SCMP_SYS(setns),
                SCMP_SYS(unshare),        SCMP_SYS(bpf),
                SCMP_SYS(keyctl),         SCMP_SYS(perf_event_open),
                SCMP_SYS(io_uring_setup), SCMP_SYS(userfaultfd),
                SCMP_SYS(unlink),         SCMP_SYS(unlinkat),
                SCMP_SYS(rename),         SCMP_SYS(renameat),
                SCMP_SYS(renameat2),      SCMP_SYS(link),
                SCMP_SYS(linkat),         SCMP_SYS(symlink),
                SCMP_SYS(symlinkat),      SCMP_SYS(mkdir),
                SCMP_SYS(mkdirat),        SCMP_SYS(chmod),
                SCMP_SYS(fchmodat),       SCMP_SYS(chown),
                SCMP_SYS(fchownat),       SCMP_SYS(pidfd_getfd),
        };
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        int r = filter ? 0 : -ENOMEM;
        for (size_t i = 0; r == 0 && i < ARRAY_LEN(denied); i++) {
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), denied[i], 0);
                r = r == -EDOM ? 0 : r; /* this machine does not have that call */
        }
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                                     SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(openat), 1,
                                     SCMP_A2(SCMP_CMP_MASKED_EQ, O_WRONLY, O_WRONLY));
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(openat), 1,
                                     SCMP_A2(SCMP_CMP_MASKED_EQ, O_RDWR, O_RDWR));
        if (r == 0)
                r = seccomp_load(filter);
        seccomp_release(filter);
        return r;
}

int main(int argc, char **argv)
{
        struct proxy_config c = { .listener = -1, .control = -1, .idle_usec = 900 * USEC_PER_SEC };
        CLEANUP(sd_event_unrefp) sd_event *event = NULL;
        cleanup_free char *error = NULL;
        struct proxy *p = NULL;
        log_open("egress");
        for (int id; (id = getopt_long(argc, argv, "", options, NULL)) != -1;)
                if (take_option(&c, id, optarg) < 0) {
                        log_error("usage: berth-egress --control FD [--listener FD] [--credentials "
                                  "FILE] [--dns SERVERS] [--private RANGES] [--hosts NAME=ADDRESS] "
                                  "[--ca FILE] [--idle TIME]");
                        return 2;
                }
        if (c.control < 0) {
                log_error("--control is missing");
                return 2;
        }
        (void) signal(SIGPIPE, SIG_IGN);
        (void) prctl(PR_SET_DUMPABLE, 0);
        (void) setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        int r = sd_event_new(&event);
        if (r >= 0)
                r = proxy_new(event, &c, &p, &error);
        if (r < 0) {
                log_error("%s", error ? error : strerror(-r));
                return 1;
        }
        r = confine();
        if (r < 0)
                log_errno(LOG_WARNING, r, "no system call filter");
        r = sd_event_loop(event);
        proxy_free(p);
        loop_defer_flush(event);
        return r < 0;
}
