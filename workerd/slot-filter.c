/* The system call filter of a slot, compiled by libseccomp: what no program of an agent needs is
 * refused. */
#include "slot-sandbox.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Refused with EPERM in every slot. */
static const char *const refused[] = {
        "acct",
        "add_key",
        "adjtimex",
        "bpf",
        "clock_adjtime",
        "clock_settime",
        "create_module",
        "delete_module",
        "fanotify_init",
        "finit_module",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "get_kernel_syms",
        "init_module",
        "io_uring_enter",
        "io_uring_register",
        "io_uring_setup",
        "ioperm",
        "iopl",
        "kexec_file_load",
        "kexec_load",
        "keyctl",
        "kcmp",
        "lookup_dcookie",
        "mbind",
        "migrate_pages",
        "mount",
        "mount_setattr",
        "move_mount",
        "move_pages",
        "name_to_handle_at",
        "nfsservctl",
        "open_by_handle_at",
        "open_tree",
        "perf_event_open",
        "personality",
        "pidfd_getfd",
        "pivot_root",
        "process_vm_readv",
        "process_vm_writev",
        "quotactl",
        "quotactl_fd",
        "reboot",
        "request_key",
        "set_mempolicy",
        "set_mempolicy_home_node",
        "setns",
        "settimeofday",
        "stime",
        "swapoff",
        "swapon",
        "syslog",
        "sysfs",
        "umount",
        "umount2",
        "uselib",
        "userfaultfd",
        "vhangup",
        "vm86",
        "vm86old",
};
/* Refused in addition where nothing builds a sandbox of its own. Browsers do: user namespaces and
 * chroot, never a mount. */
static const char *const refused_tool[] = { "chroot", "unshare" };
/* Families that work; the rest looks as if the kernel had none. */
static const int families[] = { AF_UNIX, AF_INET, AF_INET6 };

static int refuse_calls(scmp_filter_ctx f, const char *const *names, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                int nr = seccomp_syscall_resolve_name(names[i]);
                if (nr == __NR_SCMP_ERROR || nr < 0)
                        continue; /* this architecture has none */
                int r = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), nr, 0);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int refuse_families(scmp_filter_ctx f, bool netlink)
{
        int r = 0;
        for (int family = 0; family < 64 && r == 0; family++) {
                bool works = netlink && family == AF_NETLINK;
                for (size_t i = 0; i < ARRAY_LEN(families); i++)
                        works = works || families[i] == family;
                if (!works)
                        r = seccomp_rule_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                             SCMP_A0_32(SCMP_CMP_EQ, (uint64_t) family));
        }
        if (r == 0)
                r = seccomp_rule_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                     SCMP_A0_32(SCMP_CMP_GE, 64));
        return r;
}

/* In a user namespace of one's own one may do anything to one's own network: of the kernel's doors
 * to that only the one for looking up addresses stays open, and no raw packets. */
static int refuse_kinds(scmp_filter_ctx f)
{
        int r = 0;
        for (uint64_t protocol = 1; protocol < 32 && r == 0; protocol++)
                if (protocol != NETLINK_KOBJECT_UEVENT)
                        r = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPROTONOSUPPORT), SCMP_SYS(socket),
                                             2, SCMP_A0_32(SCMP_CMP_EQ, AF_NETLINK),
                                             SCMP_A2_32(SCMP_CMP_EQ, protocol));
        const uint64_t kinds[] = { SOCK_RAW, SOCK_PACKET };
        for (size_t i = 0; i < ARRAY_LEN(kinds) && r == 0; i++)
                for (size_t k = 0; k < ARRAY_LEN(families) && r == 0; k++)
                        r = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 2,
                                             SCMP_A0_32(SCMP_CMP_EQ, (uint64_t) families[k]),
                                             SCMP_A1_32(SCMP_CMP_MASKED_EQ, 0xf, kinds[i]));
        return r;
}

static int refuse_terminal(scmp_filter_ctx f)
{
        int r = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                                 SCMP_A1_32(SCMP_CMP_EQ, TIOCSTI));
        if (r == 0)
                r = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                                     SCMP_A1_32(SCMP_CMP_EQ, TIOCLINUX));
        return r;
}

static int refuse_namespaces(scmp_filter_ctx f)
{
        int r = refuse_calls(f, refused_tool, ARRAY_LEN(refused_tool));
        if (r == 0)
                r = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                                     SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER));
        if (r ==
            0) /* its flags are in memory, where a filter cannot look: callers fall back to clone */
                r = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
        return r;
}

int sandbox_filter(enum sandbox_profile profile, int *ret_fd)
{
        scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
        if (!f)
                return -ENOMEM;
        int r = refuse_calls(f, refused, ARRAY_LEN(refused));
        if (r == 0)
                r = refuse_families(f, profile == SANDBOX_BROWSER);
        if (r == 0)
                r = refuse_kinds(f);
        if (r == 0)
                r = refuse_terminal(f);
        if (r == 0 && profile == SANDBOX_TOOL)
                r = refuse_namespaces(f);
        cleanup_close int fd = -1;
        if (r == 0) {
                fd = memfd_create("filter", MFD_CLOEXEC);
                r = fd < 0 ? -errno : seccomp_export_bpf(f, fd);
        }
        if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
                r = -errno;
        seccomp_release(f);
        if (r < 0)
                return r;
        *ret_fd = TAKE_FD(fd);
        return 0;
}
