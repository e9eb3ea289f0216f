"""Runs inside a slot: tries what an attacker would try and prints one JSON object, attempt -> what happened.

"ok" = it worked; an errno name = the kernel said no; else a word of its own. Only the standard library."""
import ctypes
import errno
import fcntl
import json
import os
import pty
import resource
import signal
import socket
import stat
import subprocess

libc = ctypes.CDLL(None, use_errno=True)
OUT = {}


def attempt(name, function):
    """function() -> anything; OSError becomes its name."""
    try:
        value = function()
        OUT[name] = "ok" if value is None else value
    except OSError as e:
        OUT[name] = errno.errorcode.get(e.errno, str(e))
    except Exception as e:  # noqa: BLE001 - whatever it is, it is told
        OUT[name] = type(e).__name__


def call(number, *args):
    def run():
        ctypes.set_errno(0)
        r = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
        if r < 0:
            raise OSError(ctypes.get_errno(), "")
    return run


def write(path, text):
    def run():
        with open(path, "w") as f:
            f.write(text)
    return run


def read(path):
    def run():
        with open(path, "rb") as f:
            return "ok" if f.read(64) else "empty"
    return run


def open_socket(family, kind=socket.SOCK_STREAM, protocol=0):
    def run():
        socket.socket(family, kind, protocol).close()
    return run


def connect(address, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    def run():
        s = socket.socket(family, kind)
        s.settimeout(2)
        try:
            s.connect(address)
        finally:
            s.close()
    return run


def status():
    lines = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
    return {k: lines[k].strip() for k in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")}


def terminal(request, argument):
    def run():
        master, slave = pty.openpty()
        try:
            fcntl.ioctl(slave, request, argument)
        finally:
            os.close(master)
            os.close(slave)
    return run


def in_child(function):
    """The result of function() in a child of its own."""
    def run():
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                function()
                os.write(w, b"ok")
            except OSError as e:
                os.write(w, errno.errorcode.get(e.errno, "?").encode())
            except ValueError:  # what Python makes of setrlimit's EPERM
                os.write(w, b"EPERM")
            finally:
                os._exit(0)
        os.close(w)
        text = os.read(r, 100).decode()
        os.close(r)
        os.waitpid(pid, 0)
        return text
    return run


def linked_out():
    os.link("/etc/passwd", os.path.expanduser("~/linked"))


def made_suid():
    path = os.path.expanduser("~/suid")
    with open(path, "w") as f:
        f.write("#!/bin/sh\n")
    os.chmod(path, 0o4755)
    flags = os.statvfs(os.path.expanduser("~")).f_flag
    return "nosuid" if flags & os.ST_NOSUID else "suid counts"


def sockets_of_others():
    """Names of sockets of the file system and of the abstract space that this slot can see."""
    found = []
    for line in open("/proc/net/unix").read().splitlines()[1:]:
        parts = line.split()
        if len(parts) > 7:
            found.append(parts[7])
    return sorted(set(found))


def found_files():
    """Sockets, and what is named like a secret, wherever this slot can look; not what packages and the browser brought."""
    command = ["find", "/", "(", "-path", "/proc", "-o", "-path", "/sys", "-o", "-path", "/usr", "-o", "-path", "/var/lib/dpkg", "-o", "-path", "/home/agent/.config", ")", "-prune", "-o", "-type", "s", "-printf", "socket %p\n",
               "-o", "(", "-iname", "*credential*", "-o", "-iname", "*secret*", "-o", "-iname", "*token*", ")", "-printf", "secret %p\n"]
    return sorted(subprocess.run(command, capture_output=True, text=True).stdout.splitlines())


def mknod_block():
    os.mknod(os.path.expanduser("~/disk"), stat.S_IFBLK | 0o600, os.makedev(8, 0))


def name_lookup():
    socket.getaddrinfo("exfiltrate.example.com", 80)


def core_limit():
    return resource.getrlimit(resource.RLIMIT_CORE)[1]


def main():
    OUT["uid"] = os.getuid()
    OUT["status"] = status()
    OUT["groups"] = os.getgroups()
    OUT["env"] = sorted(k for k in os.environ)
    OUT["fds"] = sorted(int(f) for f in os.listdir("/proc/self/fd"))[:10]
    OUT["processes"] = len([p for p in os.listdir("/proc") if p.isdigit()])
    OUT["home"] = os.listdir("/home")
    OUT["dev"] = sorted(os.listdir("/dev"))
    OUT["interfaces"] = [line.split(":")[0].strip() for line in open("/proc/net/dev").read().splitlines()[2:]]
    OUT["sockets"] = sockets_of_others()
    OUT["files"] = found_files()
    OUT["terminals"] = [os.isatty(n) for n in range(3)]
    attempt("own terminal", lambda: os.close(os.open("/dev/tty", os.O_RDWR)))
    OUT["core"] = core_limit()
    OUT["uid_map"] = open("/proc/self/uid_map").read().split()

    # Calls, by their number on x86-64 (man 2 syscalls).
    numbers = {"io_uring_setup": 425, "bpf": 321, "keyctl": 250, "add_key": 248, "request_key": 249, "perf_event_open": 298, "userfaultfd": 323,
               "mount": 165, "umount2": 166, "pivot_root": 155, "setns": 308, "clock_settime": 227, "settimeofday": 164, "adjtimex": 159,
               "kexec_load": 246, "init_module": 175, "finit_module": 313, "delete_module": 176, "reboot": 169, "swapon": 167, "syslog": 103,
               "name_to_handle_at": 303, "open_by_handle_at": 304, "process_vm_readv": 310, "process_vm_writev": 311, "personality": 135,
               "quotactl": 179, "acct": 163, "fsopen": 430, "fsmount": 432, "open_tree": 428, "move_mount": 429, "mount_setattr": 442,
               "pidfd_getfd": 438, "kcmp": 312, "iopl": 172, "ioperm": 173, "fanotify_init": 300, "vhangup": 153, "move_pages": 279,
               "migrate_pages": 256, "mbind": 237, "set_mempolicy": 238}
    for name, number in numbers.items():
        attempt("call " + name, call(number, 0, 0, 0, 0, 0, 0))
    attempt("unshare user", in_child(call(272, 0x10000000)))
    attempt("clone user", in_child(call(56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)))
    attempt("clone3", call(435, 0, 0))
    attempt("chroot", in_child(call(161, ctypes.c_char_p(b"/tmp"))))
    attempt("ptrace process 1", call(101, 16, 1, 0, 0))
    for name, family in {"vsock": 40, "packet": 17, "alg": 38, "bluetooth": 31, "can": 29, "rds": 21, "tipc": 30, "key": 15, "xdp": 44}.items():
        attempt("family " + name, open_socket(family, socket.SOCK_RAW if family == 17 else socket.SOCK_SEQPACKET if family == 38 else socket.SOCK_STREAM))
    attempt("netlink route", open_socket(16, socket.SOCK_RAW, 0))
    attempt("netlink netfilter", open_socket(16, socket.SOCK_RAW, 12))
    attempt("netlink xfrm", open_socket(16, socket.SOCK_RAW, 6))
    attempt("raw ip", open_socket(socket.AF_INET, socket.SOCK_RAW, 1))
    attempt("raw ip6", open_socket(socket.AF_INET6, socket.SOCK_RAW, 58))
    attempt("TIOCSTI", terminal(0x5412, b"x"))
    attempt("TIOCLINUX", terminal(0x541C, b"\x02"))

    # Ways out over the network.
    for name, address in {"metadata": ("169.254.169.254", 80), "lan": ("10.0.0.1", 80), "lan2": ("192.168.0.1", 80), "internet": ("192.0.2.1", 443),
                          "postgres": ("127.0.0.1", 5432), "gateway": ("127.0.0.1", 8765)}.items():
        attempt("connect " + name, connect(address))
    attempt("connect metadata6", connect(("fd00:ec2::254", 80), socket.AF_INET6))
    attempt("udp dns", connect(("192.0.2.53", 53), kind=socket.SOCK_DGRAM))
    attempt("name lookup", name_lookup)
    attempt("host X abstract", connect("\0/tmp/.X11-unix/X0", socket.AF_UNIX))
    attempt("dbus", connect("/run/dbus/system_bus_socket", socket.AF_UNIX))

    # The kernel and the host.
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/kernel/modprobe", "/proc/sys/vm/overcommit_memory", "/proc/1/oom_score_adj",
                 "/usr/x", "/etc/x", "/bin/x", "/lib/x", "/dev/x", "/run/slot/guest", "/proc/self/uid_map", "/proc/self/setgroups"):
        attempt("write " + path, write(path, "1"))
    for path in ("/proc/kcore", "/proc/1/mem", "/proc/1/environ", "/proc/1/maps", "/proc/1/root/etc/passwd", "/proc/kmsg", "/dev/mem", "/dev/kvm", "/dev/fuse",
                 "/dev/sda", "/dev/vda", "/etc/shadow", "/root/x", "/proc/1/fd/3", "/sys/kernel/vmcoreinfo", "/sys/fs/cgroup/cgroup.procs"):
        attempt("read " + path, read(path))
    attempt("list /proc/1/fd", lambda: str(os.listdir("/proc/1/fd")))
    attempt("list /sys", lambda: str(len(os.listdir("/sys"))))
    attempt("kallsyms", lambda: "zeros" if all(line.startswith("0" * 16) for line in open("/proc/kallsyms").read(2000).splitlines()[:-1]) else "addresses")
    attempt("mknod", mknod_block)
    attempt("hard link out", linked_out)
    attempt("set-uid", made_suid)
    attempt("setuid 0", in_child(lambda: os.setuid(0)))
    attempt("setgroups", in_child(lambda: os.setgroups([0])))
    attempt("sethostname", in_child(lambda: socket.sethostname("x")))
    attempt("nice", in_child(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)))
    attempt("realtime", in_child(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))))
    attempt("more processes", in_child(lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1 << 20, 1 << 20))))
    attempt("more files", in_child(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))))
    attempt("oom score", write("/proc/self/oom_score_adj", "-1"))

    # Process 1 cannot be ended or stopped from inside.
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGABRT):
        try:
            os.kill(1, number)
        except OSError:
            pass
    OUT["process 1"] = open("/proc/1/stat").read().rsplit(")", 1)[1].split()[0]
    print(json.dumps(OUT))


main()
