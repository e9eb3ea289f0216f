"""testing.md 3.1 from inside real slots: every attempt of slot_attacker.py, and what must come of it."""
import base64
import json
import pathlib

import pytest

ATTACKER = pathlib.Path(__file__).with_name("slot_attacker.py")
CANARY = "CANARY-9f2c1e77"
EPERM_CALLS = ("io_uring_setup bpf keyctl add_key request_key perf_event_open userfaultfd mount umount2 pivot_root setns clock_settime settimeofday adjtimex "
               "kexec_load init_module finit_module delete_module reboot swapon syslog name_to_handle_at open_by_handle_at process_vm_readv process_vm_writev "
               "personality quotactl acct fsopen fsmount open_tree move_mount mount_setattr pidfd_getfd kcmp iopl ioperm fanotify_init vhangup move_pages "
               "migrate_pages mbind set_mempolicy").split()
NO_FAMILY = "vsock packet alg bluetooth can rds tipc key xdp".split()
PLAIN = {"PATH", "HOME", "LANG", "LC_CTYPE", "PWD", "OLDPWD", "SHLVL", "_", "DISPLAY", "TERM", "PAGER", "GIT_PAGER", "PS1", "SSL_CERT_FILE",
         "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "NODE_USE_ENV_PROXY"}
NOTHING_THERE = {"ENETUNREACH", "ECONNREFUSED", "EHOSTUNREACH", "EADDRNOTAVAIL"}


@pytest.fixture(scope="module", params=["headless", "desktop"])
def attacked(request):
    """(berth, kind, session, results) of one attacker in one slot; the model's key is a canary."""
    from conftest import Berth
    b = Berth(workers=1, kind=request.param, api_key=CANARY)
    try:
        b.start()
        code = base64.b64encode(ATTACKER.read_bytes()).decode()
        command = f"echo {code} | base64 -d >/tmp/attacker.py; cd /tmp; exec </dev/null; python3 /tmp/attacker.py"
        s = b.create([{"tools": [["bash", {"command": command}]]}, {"text": "done"}], kind=request.param)
        b.wait_status(s["session_id"], "idle", seconds=60)
        end = next(e for e in b.events(s["session_id"]) if e["event_type"] == "post_tool")
        assert not end.get("error"), end
        text = "".join(p.get("text", "") for p in end["tool_output"])
        yield b, request.param, s["session_id"], json.loads(text[text.index('{"uid"'):])
    finally:
        b.close()


def test_identity(attacked):
    b, kind, session, r = attacked
    none = "0" * 16
    assert r["uid"] == 1000
    assert r["status"] == {"CapEff": none, "CapPrm": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2"}
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
    wrong = {n: r["call " + n] for n in EPERM_CALLS if r["call " + n] != "EPERM"}
    assert not wrong
    assert r["ptrace process 1"] == "EPERM"


def test_namespaces(attacked):
    b, kind, session, r = attacked
    if kind == "desktop":  # browsers build their sandboxes of them
        assert r["unshare user"] == "ok"
        return
    assert r["unshare user"] == r["clone user"] == r["chroot"] == "EPERM"
    assert r["clone3"] == "ENOSYS"


def test_sockets(attacked):
    b, kind, session, r = attacked
    wrong = {n: r["family " + n] for n in NO_FAMILY if r["family " + n] != "EAFNOSUPPORT"}
    assert not wrong
    assert r["netlink route"] == ("ok" if kind == "desktop" else "EAFNOSUPPORT")
    assert r["netlink netfilter"] in ("EPROTONOSUPPORT", "EAFNOSUPPORT") and r["netlink xfrm"] in ("EPROTONOSUPPORT", "EAFNOSUPPORT")
    assert r["raw ip"] == r["raw ip6"] == "EPERM"
    assert r["TIOCSTI"] == r["TIOCLINUX"] == "EPERM"


def test_network(attacked):
    b, kind, session, r = attacked
    assert r["interfaces"] == ["lo"]
    wrong = {k: v for k, v in r.items() if k.startswith("connect ") and v not in NOTHING_THERE}
    assert not wrong
    assert r["udp dns"] in NOTHING_THERE and r["name lookup"] != "ok"
    assert r["host X abstract"] == "ECONNREFUSED" and r["dbus"] == "ENOENT"
    foreign = [s for s in r["sockets"] if "berth" in s or "dbus" in s or "systemd" in s]
    assert not foreign


def test_view(attacked):
    b, kind, session, r = attacked
    assert r["home"] == ["agent"]
    assert r["processes"] < (30 if kind == "desktop" else 8)
    assert set(r["fds"]) <= {0, 1, 2, 3}, "the listing itself is 3"
    strange = [n for n in r["env"] if n not in PLAIN and not n.lower().endswith("_proxy")]
    assert not strange
    assert not [d for d in r["dev"] if d not in ("console", "core", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
                                                 "urandom", "zero")], r["dev"]


def test_kernel_and_host(attacked):
    b, kind, session, r = attacked
    # Process 1's own files look like root's: it cannot be looked into.
    wrong = {k: v for k, v in r.items() if k.startswith("write ") and v not in ("EROFS", "EACCES", "EPERM", "ENOENT", "ETXTBSY")}
    assert not wrong
    for name in ("/proc/kcore", "/proc/1/mem", "/proc/1/environ", "/proc/1/maps", "/proc/1/root/etc/passwd", "/proc/kmsg", "/proc/1/fd/3", "/etc/shadow"):
        assert r["read " + name] in ("EACCES", "EPERM", "ENOENT", "EIO"), (name, r["read " + name])
    for name in ("/dev/mem", "/dev/kvm", "/dev/fuse", "/dev/sda", "/dev/vda", "/sys/kernel/vmcoreinfo", "/sys/fs/cgroup/cgroup.procs"):
        assert r["read " + name] == "ENOENT", (name, r["read " + name])
    assert r["list /proc/1/fd"] == "EACCES"
    assert r["kallsyms"] in ("zeros", "EPERM", "EACCES", "ENOENT")


def test_rights(attacked):
    b, kind, session, r = attacked
    assert r["mknod"] == "EPERM" and r["hard link out"] in ("EXDEV", "EPERM") and r["set-uid"] == "nosuid"
    for name in ("setuid 0", "setgroups", "sethostname", "realtime", "more processes", "more files"):
        assert r[name] in ("EPERM", "EINVAL"), (name, r[name])
    assert r["nice"] in ("EACCES", "EPERM") and r["oom score"] in ("EACCES", "EPERM", "EINVAL")


def test_no_secret(attacked):
    """The canary that the worker holds as its key is in nothing the slot can read; nor in log, configuration or event."""
    b, kind, session, r = attacked
    command = f"grep -rIl --exclude-dir=self {CANARY} /etc /home /run /tmp /var/tmp /dev/shm /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | grep -v /proc/self; env | grep -c {CANARY}"
    halves = command.replace(CANARY, CANARY[:7] + "''" + CANARY[7:])  # the command itself is not to be found
    b.call("POST", f"/sessions/{session}/messages", 202, json={"content": "SCRIPT: " + json.dumps([{"tools": [["bash", {"command": halves}]]}, {"text": "x"}])})
    from conftest import wait_until
    wait_until(lambda: len([e for e in b.events(session) if e["event_type"] == "post_tool"]) == 2, 30, "the search")
    end = [e for e in b.events(session) if e["event_type"] == "post_tool"][-1]
    text = (end.get("error") or "") + "".join(p.get("text", "") for p in end.get("tool_output") or [])
    assert text.split("\n")[0].strip() == "0", text
    for log in (b.folder / "s" / "log").glob("*.log"):
        assert CANARY not in log.read_text(errors="replace"), log.name
