"""testing.md 3.1 from inside real slots: every attempt of slot_attacker.py, and what must come of it."""
import base64
import json
import pathlib
import shlex

import pytest

from conftest import Berth, wait_until
from test_egress import HOSTS

ATTACKER = pathlib.Path(__file__).with_name("slot_attacker.py")
CANARY = "CANARY-9f2c1e77"
EPERM_CALLS = ("io_uring_setup bpf keyctl add_key request_key perf_event_open userfaultfd mount umount2 pivot_root setns clock_settime settimeofday adjtimex "
               "kexec_load init_module finit_module delete_module reboot swapon syslog name_to_handle_at open_by_handle_at process_vm_readv process_vm_writev "
               "personality quotactl acct fsopen fsmount open_tree move_mount mount_setattr pidfd_getfd kcmp iopl ioperm fanotify_init vhangup move_pages "
               "migrate_pages mbind set_mempolicy").split()
# What a kernel allows everybody, with nothing to do; in a machine it is its own.
OWN_KERNEL = {"personality", "kcmp", "move_pages", "migrate_pages", "mbind", "set_mempolicy", "adjtimex", "process_vm_readv", "process_vm_writev", "iopl"}
NO_FAMILY = "vsock packet alg bluetooth can rds tipc key xdp".split()
PLAIN = {"PATH", "HOME", "LANG", "LC_CTYPE", "PWD", "OLDPWD", "SHLVL", "_", "DISPLAY", "TERM", "PAGER", "GIT_PAGER", "PS1", "SSL_CERT_FILE",
         "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "NODE_USE_ENV_PROXY"}
RESOLVED = {"shop.test.evil.test", "evil-shop.test", "SHOP.TEST.", "xn--shp-sna.test"}  # names like any other, for a name server to judge
# Asks the proxy for each host in both ways; prints the answers' codes.
FORMS = """
import json, os, socket, sys, urllib.parse
door = urllib.parse.urlsplit(os.environ["http_proxy"])
codes = []
for host in json.loads(sys.argv[1]):
    for line in ("CONNECT %s:443 HTTP/1.1", "GET http://%s:80/ HTTP/1.1"):
        with socket.create_connection((door.hostname, door.port), 60) as s:
            s.sendall((line % host).encode() + b"\\r\\n\\r\\n")
            answer = s.makefile("rb").readline().split()
        codes.append((host, line.split()[0], int(answer[1]) if len(answer) > 1 else 0))
print(json.dumps(codes))
"""
NOTHING_THERE = {"ENETUNREACH", "ECONNREFUSED", "EHOSTUNREACH", "EADDRNOTAVAIL"}


@pytest.fixture(scope="module", params=["headless", "desktop"])
def attacked(request):
    """(berth, kind, session, results) of one attacker in one slot; the model's key is a canary."""
    b = Berth(workers=1, kind=request.param, api_key=CANARY)
    try:
        b.start()
        yield (b, request.param, *attack(b, request.param))
    finally:
        b.close()


def attack(b, kind):
    """slot_attacker.py in a new session; (session id, what it found)."""
    code = base64.b64encode(ATTACKER.read_bytes()).decode()
    session = b.create([{"text": "ready"}], kind=kind, network={"mode": "open"})["session_id"]
    text = run(b, session, f"echo {code} | base64 -d >/tmp/attacker.py; cd /tmp; exec </dev/null; python3 /tmp/attacker.py")
    return session, json.loads(text[text.index('{"uid"'):])


def run(b, session, command):
    """What one more command of the session says. A machine without KVM is slow."""
    ends = lambda: [e for e in b.events(session) if e["event_type"] == "post_tool"]  # noqa: E731
    b.wait_status(session, "idle", seconds=300)
    before = len(ends())
    b.call("POST", f"/sessions/{session}/messages", 202, json={"content": "SCRIPT: " + json.dumps([{"tools": [["bash", {"command": command}]]}, {"text": "x"}])})
    wait_until(lambda: len(ends()) > before, 300, lambda: f"{command[:200]}: {b.session(session)}\n{b.logs()}")
    return (ends()[-1].get("error") or "") + "".join(p.get("text", "") for p in ends()[-1].get("tool_output") or [])


def test_identity(attacked):
    b, kind, session, r = attacked
    none = "0" * 16
    assert r["uid"] == 1000
    # A machine has a kernel of its own in place of the filter: what it gives away is the machine's. The filter is QEMU's (test_vm.py).
    assert r["status"] == {"CapEff": none, "CapPrm": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "0" if kind == "vm" else "2"}
    assert r["process 1"] in "SR", "process 1 lives and is not stopped"
    assert r["core"] == 0


def test_host_identity(attacked):
    """On the host the slot is neither the worker nor anybody else of Berth."""
    b, kind, session, r = attacked
    worker = int((pathlib.Path("/proc") / str(b.pid("worker1")) / "status").read_text().split("\nUid:\t")[1].split()[0])
    uids = set()
    for pid in b.slot_processes("worker1"):
        try:
            uids.add(int((pathlib.Path("/proc") / str(pid) / "status").read_text().split("\nUid:\t")[1].split()[0]))
        except OSError:
            pass
    limits = b.call("GET", "/workers", 200).json()["workers"][0]["limits"]
    if limits["identity"]["by"] == "own uid":
        pytest.skip(f"no ids of their own on this host: {limits['identity'].get('why')}")
    slots = {u for u in uids if u >= 1 << 16}
    # What reads a desktop's display is somebody else again.
    assert len(slots) == (2 if kind == "desktop" else 1) and worker not in slots, (uids, worker)


def test_calls(attacked):
    b, kind, session, r = attacked
    if kind == "vm":
        wrong = {n: r["call " + n] for n in EPERM_CALLS if n not in OWN_KERNEL and r["call " + n] == "ok"}
    else:
        wrong = {n: r["call " + n] for n in EPERM_CALLS if r["call " + n] != "EPERM"}
    assert not wrong
    assert r["ptrace process 1"] == "EPERM"


def test_namespaces(attacked):
    b, kind, session, r = attacked
    if kind != "headless":  # browsers build their sandboxes of them
        assert r["unshare user"] == "ok"
        return
    assert r["unshare user"] == r["clone user"] == r["chroot"] == "EPERM"
    assert r["clone3"] == "ENOSYS"


def test_sockets(attacked):
    b, kind, session, r = attacked
    # In a machine a family leads to its own kernel; the two that would lead out have nothing behind them.
    wrong = {n: r["family " + n] for n in NO_FAMILY if r["family " + n] != "EAFNOSUPPORT"}
    assert not {n: why for n, why in wrong.items() if kind != "vm" or n in ("vsock", "packet")} or kind == "vm" and wrong.get("packet") == "EPERM" and "vsock" not in wrong, wrong
    assert r["netlink route"] == ("EAFNOSUPPORT" if kind == "headless" else "ok")
    assert r["netlink netfilter"] in ("EPROTONOSUPPORT", "EAFNOSUPPORT") and r["netlink xfrm"] in ("EPROTONOSUPPORT", "EAFNOSUPPORT")
    assert r["raw ip"] == r["raw ip6"] == "EPERM"
    assert r["TIOCSTI"] == "EPERM" and r["TIOCLINUX"] == ("ENOTTY" if kind == "vm" else "EPERM")
    assert not any(r["terminals"]) and r["own terminal"] in ("ENXIO", "EACCES", "ENOENT"), (r["terminals"], r["own terminal"])


def test_network(attacked):
    b, kind, session, r = attacked
    assert r["interfaces"] == (["lo", "eth0"] if kind == "vm" else ["lo"])
    # The network that QEMU plays takes what is sent to other hosts and answers nothing.
    nothing = NOTHING_THERE | ({"timed out", "TimeoutError", "ETIMEDOUT", "EAGAIN"} if kind == "vm" else set())
    wrong = {k: v for k, v in r.items() if k.startswith("connect ") and v not in nothing}
    assert not wrong
    assert (r["udp dns"] in NOTHING_THERE or kind == "vm") and r["name lookup"] != "ok"
    assert r["host X abstract"] == "ECONNREFUSED" and r["dbus"] == "ENOENT"
    foreign = [s for s in r["sockets"] if "berth" in s or "dbus" in s or "systemd" in s]
    assert not foreign
    # Of sockets in the file system only those of its own display and programs; nothing is named like a secret.
    strange = [f for f in r["files"] if not f.startswith(("socket /tmp/.X11-unix/", "socket /tmp/", "socket /home/agent/"))]
    assert not strange


def test_the_proxy_refuses_every_form(attacked):
    """testing.md 2, egress, asked for from inside, with a policy that allows all public hosts: refused, and each decision noted once."""
    b, kind, session, r = attacked
    hosts = [h for h in HOSTS if h not in RESOLVED]
    noted = lambda: [line for line in (b.stack.state / "log" / "worker1.log").read_text(errors="replace").splitlines() if " refused" in line]  # noqa: E731
    before = len(noted())
    code = base64.b64encode(FORMS.encode()).decode()
    text = run(b, session, f"echo {code} | base64 -d >/tmp/forms.py; python3 /tmp/forms.py {shlex.quote(json.dumps(hosts))}")
    codes = json.loads(text)
    assert len(codes) == 2 * len(hosts) and not [c for c in codes if c[2] not in (400, 403)], text
    wait_until(lambda: len(noted()) == before + len(codes), 30, lambda: f"{len(codes)} decisions: {noted()[before:]}")
    denied = [e for e in b.events(session) if e["event_type"] == "network_denied"]
    assert {"169.254.169.254", "127.0.0.1", "10.0.0.1"} <= {e["host"] for e in denied if e["reason"] == "special_address"}
    assert len({(e["host"], e["port"], e["reason"]) for e in denied}) == len(denied)


def test_write_out(attacked):
    """Links that lead out, fetched and written by people over HTTP: nothing that is not beneath the slot's home."""
    b, kind, session, r = attacked
    assert run(b, session, "cd; ln -s /etc/passwd out; ln -s / root; ln -s /proc/1/environ one; ln -s ../../../../etc/passwd up; mkdir d; ln -s /usr d/usr; echo made").strip() == "made"
    at = f"/sessions/{session}/files/"
    for path in ("out", "root/etc/passwd", "one", "up", "d/usr/bin/env", "d/../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "%2fetc%2fpasswd"):
        reply = b.call("GET", at + path, timeout=60)
        assert reply.status_code in (400, 404) and "root:" not in reply.text, (path, reply.status_code)
        assert b.call("PUT", at + path + "/x", data=b"x", timeout=60).status_code in (400, 404, 409), path


def test_view(attacked):
    b, kind, session, r = attacked
    assert r["home"] == ["agent"]
    assert r["processes"] < (30 if kind == "desktop" else 8)
    assert set(r["fds"]) <= {0, 1, 2, 3}, "the listing itself is 3"
    strange = [n for n in r["env"] if n not in PLAIN and not n.lower().endswith("_proxy")]
    assert not strange
    assert kind == "vm" or not [d for d in r["dev"] if d not in ("console", "core", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
                                                 "urandom", "zero")], r["dev"]


def test_kernel_and_host(attacked):
    b, kind, session, r = attacked
    # Process 1's own files look like root's: it cannot be looked into.
    wrong = {k: v for k, v in r.items() if k.startswith("write ") and v not in ("EROFS", "EACCES", "EPERM", "ENOENT", "ETXTBSY")}
    assert not wrong
    for name in ("/proc/kcore", "/proc/1/mem", "/proc/1/environ", "/proc/1/maps", "/proc/1/root/etc/passwd", "/proc/kmsg", "/proc/1/fd/3", "/etc/shadow"):
        assert r["read " + name] in ("EACCES", "EPERM", "ENOENT", "EIO"), (name, r["read " + name])
    for name in ("/dev/mem", "/dev/kvm", "/dev/fuse", "/dev/sda", "/dev/vda", "/sys/fs/cgroup/cgroup.procs", *([] if kind == "vm" else ["/sys/kernel/vmcoreinfo"])):
        assert r["read " + name] in ("ENOENT", "EACCES", "EPERM")[:3 if kind == "vm" else 1], (name, r["read " + name])
    assert r["list /proc/1/fd"] == "EACCES"
    assert r["kallsyms"] in ("zeros", "EPERM", "EACCES", "ENOENT")


def test_rights(attacked):
    b, kind, session, r = attacked
    assert r["mknod"] == "EPERM" and r["hard link out"] in ("EXDEV", "EPERM") and (r["set-uid"] == "nosuid" or kind == "vm" and r["status"]["NoNewPrivs"] == "1")
    for name in ("setuid 0", "setgroups", "sethostname", "realtime", "more processes", "more files"):
        assert r[name] in ("EPERM", "EINVAL"), (name, r[name])
    assert r["nice"] in ("EACCES", "EPERM") and r["oom score"] in ("EACCES", "EPERM", "EINVAL")


def test_no_secret(attacked):
    """The canary that the worker holds as its key is in nothing the slot can read; nor in log, configuration or event."""
    b, kind, session, r = attacked
    command = f"grep -rIl --exclude-dir=self {CANARY} /etc /home /run /tmp /var/tmp /dev/shm /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | grep -v /proc/self; env | grep -c {CANARY}"
    halves = command.replace(CANARY, CANARY[:7] + "''" + CANARY[7:])  # the command itself is not to be found
    text = run(b, session, halves)
    assert text.split("\n")[0].strip() == "0", text
    for log in (b.folder / "s" / "log").glob("*.log"):
        assert CANARY not in log.read_text(errors="replace"), log.name
