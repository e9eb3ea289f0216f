"""F18 and what a session may leave behind: hogs, bombs and fillers harm only their own step, and the next session finds nothing."""
import json
import os
import pathlib
import pwd
import subprocess
import tempfile
import time

import pytest

from conftest import BUILD, Berth, wait_until

MIB = 1 << 20
SMALL = {"slot_memory": "300M", "slot_home_bytes": "64M", "slot_home_files": "2000", "slot_tmp_bytes": "32M", "slot_processes": "200", "slot_cpu_percent": "60"}


def play(b, commands, session=None, seconds=300, **body):
    """Runs the commands one after the other in one session; (session id, their post_tool events)."""
    turns = [{"tools": [["bash", {"command": c}]]} for c in commands] + [{"text": "done"}]
    before = 0
    if session:
        before = len([e for e in b.events(session) if e["event_type"] == "post_tool"])
        b.call("POST", f"/sessions/{session}/messages", 202, json={"content": "SCRIPT: " + json.dumps(turns)})
    else:
        session = b.create(turns, **body)["session_id"]
    wait_until(lambda: len([e for e in b.events(session) if e["event_type"] == "post_tool"]) >= before + len(commands), seconds,
               lambda: f"{session}: {b.session(session)}\n{b.logs()}")
    b.wait_status(session, "idle")
    return session, [e for e in b.events(session) if e["event_type"] == "post_tool"][before:]


def said(event):
    return (event.get("error") or "") + "".join(p.get("text", "") for p in event.get("tool_output") or [])


@pytest.fixture(scope="module", params=["cgroup", "own", "desktop"])
def small(request):
    """One small headless slot; limited by control groups, or without any (rlimits and the worker's own watch). And a desktop in a group."""
    kind = "desktop" if request.param == "desktop" else "headless"
    b = Berth(workers=1, kind=kind, settings={"workerd": {**SMALL, "slot_cgroups": "no" if request.param == "own" else "yes"}})
    try:
        b.start()
        b.one, _ = play(b, ["echo begin"], kind=kind)  # all go on in this session: what one does must not end it
        yield b, request.param
    finally:
        b.close()


def limits(b):
    return b.call("GET", "/workers", 200).json()["workers"][0]["limits"]


def test_proofs(small):
    """What a canary found at the start is told, and is true for all but what this host cannot do."""
    b, by = small
    told = limits(b)
    for name in ("memory", "processes", "disk", "files", "open_files", "network"):
        assert told[name]["proven"], (name, told)
    if by == "own":
        assert told["memory"]["by"] == "watchdog" and told["processes"]["by"] == "rlimit" and told["cpu"] == {"by": "none", "proven": False, "max": 60}
    elif told["memory"]["by"] != "cgroup":
        pytest.skip("no control groups can be had on this host")
    else:
        assert told["cpu"]["proven"]


HOG = {"cgroup": "python3 -c 'x = bytearray(900 << 20); import time; time.sleep(20)'"}
HOG["own"], HOG["desktop"], HOG["vm"] = HOG["cgroup"], HOG["cgroup"], "python3 -c 'x = []\nwhile True: x.append(bytearray(b\"x\" * (16 << 20)))'"
MANY = {"cgroup": 80, "own": 80, "desktop": 80, "vm": 400}  # MiB; eight of them


def test_memory_hog(small):
    b, by = small
    _, (hog, after) = play(b, [HOG[by], "echo alive"], b.one)
    assert "Killed" in said(hog) or "137" in said(hog)
    assert ("more than 300 MiB of memory" if by != "vm" else " MiB of memory (files") in said(hog)
    assert said(after).strip() == "alive"


def test_memory_hog_of_many(small):
    """Many small ones together are as one large."""
    b, by = small
    one = f"python3 -c 'x = bytearray(b\"x\" * ({MANY[by]} << 20)); import time; time.sleep(2)'"
    _, (hog, after) = play(b, [f"for i in 1 2 3 4 5 6 7 8; do {one} & done; wait; false", "echo alive"], b.one)
    assert " MiB of memory" in said(hog), said(hog)
    assert said(after).strip() == "alive"


@pytest.mark.parametrize("bomb", [":(){ :|:& };:; sleep 20", "python3 -c 'import os\nwhile True:\n  try: os.fork()\n  except OSError: pass'"], ids=["shell", "python"])
def test_fork_bomb(small, bomb):
    b, by = small
    if by in ("own", "desktop") and "python" in bomb:
        pytest.skip("one kind of bomb is enough there")
    _, (_, after, last) = play(b, [bomb, "echo alive", "echo alive"], b.one)
    assert said(last).strip().endswith("alive"), (said(after), said(last))
    other = b.call("GET", "/health", 200)
    assert other.elapsed.total_seconds() < 2


def test_disk_and_inodes(small):
    b, by = small
    more, where = (10, "/tmp") if by == "vm" else (1, "~")  # a machine's sizes follow from its memory
    _, (disk, inodes, tmp, shm, after) = play(b, [
        f"dd if=/dev/zero of=big bs=1M count={500 * more}; ls -s big | cut -d' ' -f1; rm big",
        f"mkdir {where}/n; cd {where}/n; python3 -c 'import itertools\nfor i in itertools.count(): open(str(i), \"w\").close()'; ls | wc -l; cd; rm -r {where}/n",
        f"dd if=/dev/zero of=/tmp/big bs=1M count={500 * more}; rm /tmp/big", f"dd if=/dev/zero of=/dev/shm/big bs=1M count={500 * more}; rm /dev/shm/big", "echo alive > x; cat x"], b.one)
    assert "No space left" in said(disk) and "No space left" in said(tmp) and "No space left" in said(shm)
    assert "No space left" in said(inodes)
    assert said(after).strip() == "alive"


def test_other_bombs(small):
    """Open files, endless output, zombies, signals to process 1."""
    b, by = small
    _, (files, log, zombies, stop, after) = play(b, [
        "python3 -c 'f=[]\nwhile True: f.append(open(\"/dev/null\"))'", "timeout 2 yes 0123456789abcdef0123456789abcdef",
        "python3 -c 'import os\nfor i in range(100):\n  if os.fork() == 0: os._exit(0)'; sleep 1; ps -eo stat | grep -c Z", "kill -STOP 1; kill -9 1; kill -TERM 1; echo still here",
        "echo alive"], b.one)
    assert "Too many open files" in said(files)
    assert len(said(log)) < 100_000 and "were not kept" in said(log)
    assert said(zombies).split()[0] == "0", said(zombies)
    assert "still here" in said(stop) and said(after).strip() == "alive"


def test_cpu_spinner(small):
    b, by = small
    if by == "own":
        pytest.skip("without control groups nothing limits the processor, and the status says so")
    _, (spin,) = play(b, ["python3 -c 'import time\nt=time.time()\nwhile time.time()-t<2: pass\nprint(time.process_time())'"], b.one)
    assert float(said(spin).split()[0]) < 1.6, said(spin)  # 60 % of 2 s, and the first period


LEAVE = r"""
echo marker-home > ~/left; echo marker > /tmp/left; echo marker > /var/tmp/left; echo marker > /dev/shm/left; echo m > /run/left 2>/dev/null
python3 - <<'X'
import ctypes, os, socket, time
libc = ctypes.CDLL(None)
assert libc.shmget(0x42, 4096, 0o1666) >= 0 and libc.msgget(0x42, 0o1666) >= 0 and libc.semget(0x42, 1, 0o1666) >= 0
for depth in range(2):
    if os.fork(): os._exit(0) if depth else os.wait()
    else: os.setsid() if depth == 0 else None
X
cat > /tmp/marker-daemon.py <<'X'
import os, socket, time
s = socket.socket(socket.AF_UNIX); s.bind("\0marker-abstract"); s.listen()
t = socket.socket(); t.bind(("127.0.0.1", 4242)); t.listen()
while True: time.sleep(1)
X
(setsid nohup python3 /tmp/marker-daemon.py >/dev/null 2>&1 &) ; (setsid bash -c 'trap "" TERM HUP INT; exec -a marker-sleep sleep 1000' >/dev/null 2>&1 &)
if [ -n "$DISPLAY" ] && command -v xprop >/dev/null && xprop -root >/dev/null 2>&1; then
  xprop -root -f MARKER 8s -set MARKER marker; echo marker-clip | xclip -selection clipboard -i; (setsid xterm -T marker-window >/dev/null 2>&1 &)
  for i in $(seq 100); do xwininfo -root -tree | grep -q marker-window && break; sleep 0.1; done
fi
kill -STOP 1; sleep 0.5; pgrep -af marker | grep -v pgrep; grep -c marker-abstract /proc/net/unix; awk '{print $2}' /proc/net/tcp | grep -ci ':1092'
"""
LOOK = r"""
cat ~/left /tmp/left /var/tmp/left /dev/shm/left /run/left 2>/dev/null
find / -xdev -newer /proc/1/cmdline -name '*left*' 2>/dev/null; find /home /tmp /var/tmp /run /dev/shm -name '*marker*' 2>/dev/null
pgrep -af marke[r]; grep marker-abstract /proc/net/unix; awk '{print $2}' /proc/net/tcp | grep -i ':1092'
python3 -c '
import ctypes
libc = ctypes.CDLL(None)
print([n for n, f in (("shm", lambda: libc.shmget(0x42, 0, 0)), ("msg", lambda: libc.msgget(0x42, 0)), ("sem", lambda: libc.semget(0x42, 0, 0))) if f() >= 0] or "")'
if [ -n "$DISPLAY" ] && xprop -root >/dev/null 2>&1; then
  xprop -root MARKER | grep -v 'no such atom\|not found'; timeout 5 xclip -selection clipboard -o 2>/dev/null | grep marker; xwininfo -root -tree | grep marker
fi
echo "looked: $(ls -A ~ | wc -l) $(date +%s)" | cut -d' ' -f1
"""


def processes_of(uids):
    """Living ones on the host, whoever their parent is."""
    alive = []
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        text = _status(p.name)
        if "State:\tZ" not in text and int(text.split("\nUid:\t")[1].split()[0]) in uids:
            alive.append(p.name)
    return alive


def host_uids(b):
    found = set()
    for pid in b.slot_processes("worker1"):
        try:
            found.add(int((pathlib.Path("/proc") / str(pid) / "status").read_text().split("\nUid:\t")[1].split()[0]))
        except (OSError, IndexError):
            pass
    return {u for u in found if u >= 1 << 16}


@pytest.mark.parametrize("kind", ["headless", "desktop"])
def test_nothing_is_left_for_the_next(kind):
    b = Berth(workers=1, kind=kind)
    try:
        b.start()
        first, (left,) = play(b, [LEAVE], kind=kind)
        text = said(left)
        assert "marker-daemon" in text and "marker-sleep" in text, text  # they were there
        if kind == "desktop":
            assert "xterm" in text, text
        before = host_uids(b)
        b.call("POST", f"/sessions/{first}/stop", 200)
        if limits(b)["identity"]["by"] != "own uid":
            wait_until(lambda: not processes_of(before), 10, lambda: f"the session's processes to end: {processes_of(before)}")
        second, (look,) = play(b, [LOOK], kind=kind)
        assert said(look).split() == ["looked:"], said(look)
        assert b.session(second)["worker_id"] == "1"
        after = host_uids(b)
        if limits(b)["identity"]["by"] != "own uid":
            assert before and after and not before & after, "each session is somebody else on the host"
    finally:
        b.close()


def census(b):
    """What of this stack's slots the host holds: descriptors of the worker, mounts, processes, folders, control groups."""
    worker = b.pid("worker1")
    return {"descriptors": len(os.listdir(f"/proc/{worker}/fd")), "mounts": sum(str(b.folder) in line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()),
            "processes": len(b.slot_processes("worker1")), "folders": sorted(p.name for p in (b.folder / "s" / "worker1" / "1").iterdir()),
            "groups": sum(1 for base in b.stack.cgroups or [] for _ in base.rglob("slot-*") if _.is_dir())}


def no_more(now, begin):
    """Kept connections come and go, two at most; everything else is as it was."""
    return now["descriptors"] <= begin["descriptors"] + 2 and {**now, "descriptors": 0} == {**begin, "descriptors": 0}


@pytest.mark.parametrize("kind,cycles", [("headless", 6), ("desktop", 2)])
def test_cycles_leave_nothing(request, kind, cycles):
    b = Berth(workers=1, kind=kind)
    cycles = 100 if request.config.getoption("--nightly") else cycles
    try:
        b.start()
        worker = lambda: b.call("GET", "/workers", 200).json()["workers"][0]["state"] == "warm"  # noqa: E731

        def cycle():
            session, _ = play(b, ["echo x > y"], kind=kind)
            b.call("POST", f"/sessions/{session}/stop", 200)
            wait_until(worker, 30, "a warm slot")
        cycle()
        begin = census(b)
        for _ in range(cycles):
            cycle()
        wait_until(lambda: no_more(census(b), begin), 10, lambda: f"{begin} and after {cycles} cycles {census(b)}")
    finally:
        b.close()


def mounts():
    """The host's, but for images that tests beside this one have mounted."""
    return [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if "berth-image-" not in line]


@pytest.mark.parametrize("kind", ["headless", "desktop"])
def test_a_killed_worker_leaves_nothing(kind):
    """kill -9 of the worker while a hostile slot runs: 10 s later no process, mount, socket, group or folder of it is there."""
    b = Berth(workers=1, kind=kind)
    try:
        b.start()
        play(b, [LEAVE], kind=kind)
        pids, uids = b.slot_processes("worker1"), host_uids(b)
        before = mounts()
        b.kill("worker1", restart=False)

        wait_until(lambda: not processes_of(uids) and not [p for p in pids if "State:\tZ" not in _status(p)], 10, "its slot's processes to end")
        assert mounts() == before
        groups = [g for base in b.stack.cgroups or [] for g in base.rglob("slot-*/cgroup.procs")]
        wait_until(lambda: not [g for g in groups if g.read_text().strip()], 10, "its groups to be empty")  # whoever adopts the dead has yet to bury them
        b.stack.start(b.stack.services["worker1"])
        wait_until(lambda: [w for w in b.call("GET", "/workers", 200).json()["workers"] if w["online"] and w["state"] == "warm"], 30, "the worker again")
        assert sorted(p.name for p in (b.folder / "s" / "worker1").iterdir()) == ["1"]
        assert len(b.slot_processes("worker1")) <= (3 if kind == "headless" else 15), [_status(p).split()[1] for p in b.slot_processes("worker1")]
    finally:
        b.close()


def _status(pid):
    try:
        return (pathlib.Path("/proc") / str(pid) / "status").read_text()
    except OSError:
        return "State:\tZ"


@pytest.mark.skipif(os.geteuid() != 0, reason="berth-idmap runs as root")
def test_pinned_identity():
    """As the unit does it: a namespace pinned by berth-idmap gives slots their ids, without newuidmap."""
    program = next(BUILD.rglob("berth-idmap"))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-id-", dir=os.environ.get("BERTH_TEST_TMP", "/tmp")))
    os.chown(folder, pwd.getpwnam("berth-worker1").pw_uid, 0)
    folder.chmod(0o755)
    pin = folder / "userns"
    for bad in ([], ["x"], [str(pin), "0"], [str(pin), "5000"], [str(pin), "1x"], [str(pin), "1", "2"]):
        assert subprocess.run([program, *bad], capture_output=True).returncode == 64
    assert subprocess.run([program, "/root/x", "1"], capture_output=True).returncode == 1, "root's folders are not a worker's"
    try:
        for _ in range(2):  # again over an old one, as after a crash
            subprocess.run([program, str(pin), "7"], check=True)
        b = Berth(workers=1, settings={"workerd": {"slot_userns": str(pin)}})
        try:
            b.start()
            assert limits(b)["identity"] == {"by": "idmap", "proven": True}
            first = 1879048192 + 7 * 65536
            uids = host_uids(b)
            assert uids and all(first < u < first + 65536 for u in uids)
            _, (echo,) = play(b, ["touch a; stat -c %U a; id -un"])
            assert said(echo).split() == ["agent", "agent"]
        finally:
            b.close()
    finally:
        subprocess.run(["umount", "-l", str(pin)], check=False)
        pin.unlink(missing_ok=True)
        folder.rmdir()
