"""Slots of the kind vm through the whole product. Needs an image of machines (BERTH_VM_IMAGE, built by images/build vm) and
QEMU; without, this file is left out. tests/slow/vm builds the image and runs it. BERTH_VM_TEMPLATES keeps the template between runs,
in a folder that the accounts of workers may write; without KVM making it takes some minutes."""
import json
import os
import pathlib
import re
import shutil
import time

import pytest

from conftest import Berth, aimock, free_port, wait_until
from test_demo import DEMO, test_demo_session  # noqa: F401
from test_hostile_slot import test_a_screen_made_giant, test_output_that_would_fool  # noqa: F401
from test_page import run_walks
from test_slot_attacks import (CANARY, attack, run, test_calls, test_identity, test_kernel_and_host, test_namespaces, test_network, test_no_secret,  # noqa: F401
                               test_rights, test_sockets, test_the_proxy_refuses_every_form, test_view, test_write_out)
from test_slot_limits import (LEAVE, LOOK, _status, host_uids, mounts, no_more, play, processes_of, said, test_disk_and_inodes, test_fork_bomb,  # noqa: F401
                              test_memory_hog, test_memory_hog_of_many, test_other_bombs)
from test_slot_limits import census as census_of
from test_takeover import control, drives
from viewer import Viewer

IMAGE = os.environ.get("BERTH_VM_IMAGE", "")
pytestmark = [pytest.mark.skipif(not IMAGE or not shutil.which("qemu-system-x86_64"), reason="BERTH_VM_IMAGE is not set, or there is no QEMU"),
              pytest.mark.timeout(1800)]
SLOW = 300  # seconds for what takes a second on a machine with KVM and nothing else to do
# A terminal on the screen that writes what is typed into a file, and whether it has the keyboard.
TERMINAL = "rm -f typed; (setsid xterm -T typing -geometry 100x20+60+60 -e sh -c 'cat >typed' >/dev/null 2>&1 </dev/null &)"
IN_FRONT = "id=$(xwininfo -name typing 2>/dev/null | grep -o '0x[0-9a-f]*' | head -1); [ -n \"$id\" ] && xprop -root _NET_ACTIVE_WINDOW | grep -q \"$id\""


@pytest.fixture(scope="module")
def machines():
    b = Berth(workers=1, kind="vm", vm_image=IMAGE, api_key=CANARY)
    try:
        b.start(1500)  # ready means that there is a slot
        warm(b)
        yield b
    finally:
        b.close()


def worker(b):
    return b.call("GET", "/workers", 200).json()["workers"][0]


def warm(b, seconds=SLOW):
    """A machine is there, ready; a session that goes on from test to test gives it up."""
    held, b.held = getattr(b, "held", None), None
    if held:
        b.call("POST", f"/sessions/{held}/stop", 200)
    wait_until(lambda: worker(b)["online"] and worker(b)["state"] == "warm", seconds, lambda: f"a warm machine: {worker(b)}\n{b.logs()}")


def more(b, session, *tools):
    """These tool calls in the session; their results. None may fail."""
    before = len([e for e in b.events(session) if e["event_type"] == "post_tool"])
    b.call("POST", f"/sessions/{session}/messages", 202, json={"content": "SCRIPT: " + json.dumps([{"tools": [list(t)]} for t in tools] + [{"text": "done"}])})
    ends = lambda: [e for e in b.events(session) if e["event_type"] == "post_tool"][before:]  # noqa: E731
    wait_until(lambda: len(ends()) >= len(tools), SLOW, lambda: f"{b.session(session)}\n{b.logs()}")
    b.wait_status(session, "idle", seconds=SLOW)
    assert not [e["error"] for e in ends() if e["error"]], ends()
    return [said(e) for e in ends()]


@pytest.fixture
def session(machines):
    """An idle session in a machine."""
    warm(machines)
    s = machines.create([{"text": "ready"}], kind="vm")["session_id"]
    machines.wait_status(s, "idle", seconds=SLOW)
    yield s
    machines.call("POST", f"/sessions/{s}/stop")


def test_announced(machines):
    """The worker says that it makes them, and by what they run."""
    w = worker(machines)
    assert "vm" in w["kinds"] and w["kind"] == "vm" and w["slot"]["kind"] == "vm"
    by = w["limits"]["machine"]
    assert by["proven"] and by["by"] in ("kvm", "emulation") and bool(by.get("why")) == (by["by"] == "emulation"), by


def until(b, session, check):
    """Asks in the machine until the check holds there, as seldom as it bears."""
    wait_until(lambda: "yes" in more(b, session, ("bash", {"command": f"sleep 1; if {check}; then echo yes; else echo no; fi"}))[0], SLOW, check)


def until_titled(b, session, title):
    until(b, session, f"xwininfo -root -tree | grep -qF '\"{title} - '")


def test_desktop_steps(machines, session):
    """What the demo does on a desktop: look, open a page in the browser, click, type, press, scroll, edit, read it back."""
    # It has its title when it was painted: what is done to a page before that, browsers drop.
    ready = "<script>onload = () => requestAnimationFrame(() => setTimeout(() => document.title = 'Orders', 500))</script>"
    page = ready + "<body style='height:4000px'><input id=f autofocus onkeyup='document.title=this.value' style='font-size:60px;width:100%'>"
    more(machines, session,
         ("computer", {"action": "screenshot"}),
         ("str_replace_based_edit_tool", {"command": "create", "path": "/home/agent/page.html", "file_text": page}),
         ("bash", {"command": "(browser ~/page.html >/dev/null 2>&1 &)"}))
    until_titled(machines, session, "Orders")
    more(machines, session, ("computer", {"action": "screenshot"}), ("computer", {"action": "left_click", "coordinate": [500, 140]}),
         ("computer", {"action": "type", "text": "Bergmann {#1}"}))
    until_titled(machines, session, "Bergmann {#1}")
    more(machines, session, ("computer", {"action": "key", "text": "BackSpace"}))
    until_titled(machines, session, "Bergmann {#1")
    out = more(machines, session,
               ("computer", {"action": "scroll", "coordinate": [500, 400], "scroll_direction": "down", "scroll_amount": 5}),
               ("computer", {"action": "screenshot"}),
               ("bash", {"command": "uname -s; echo kept >~/kept"}))
    assert out[2].strip() == "Linux"
    shots = [e["url"] for e in machines.events(session) if e["event_type"] == "screenshot"]
    assert len(set(shots)) >= 3
    files = f"/sessions/{session}/files/"
    assert machines.call("GET", files + "kept", 200).content == b"kept\n"
    assert machines.call("PUT", files + "sub/put", data=b"\0put" * 100000).status_code in (200, 201, 204)
    assert more(machines, session, ("bash", {"command": "wc -c <sub/put"}))[0].strip() == "400000"
    machines.call("DELETE", files + "kept", 204)
    machines.call("GET", files + "kept", 404)


def test_agent_types(machines, session):
    """Every character of the keyboard, and some of none."""
    text = "The quick {brown} fox: <\"@#$%^&*()_+|~?>\n[0123456789] `-=\\;',./\nGr\u00fc\u00dfe \u4e16\u754c \u20ac\nend\n"
    more(machines, session, ("bash", {"command": TERMINAL}))
    until(machines, session, IN_FRONT)
    more(machines, session, ("computer", {"action": "left_click", "coordinate": [300, 150]}), ("computer", {"action": "type", "text": text}))
    until(machines, session, "grep -q end typed")
    assert more(machines, session, ("bash", {"command": "cat typed"}))[0].strip() == text.strip()


def test_a_person_types(machines, session):
    """A viewer is view-only until it takes over; then what it types arrives, and what it sees changes; the size follows."""
    more(machines, session, ("bash", {"command": TERMINAL}))
    until(machines, session, IN_FRONT)
    mine, other = Viewer(machines, session, "mine"), Viewer(machines, session, "other")
    mine.settle(1)
    other.settle(1)
    other.click(300, 150)
    other.type("never ")
    control(machines, session, take=True, viewer="mine")
    mine.click(300, 150)
    wait_until(lambda: control(machines, session, take=True, viewer="mine") and drives(mine), SLOW, "the holder to drive")
    for word in (" Hello ", "from A ", "Person\n", "end\n"):
        mine.type(word)
        control(machines, session, take=True, viewer="mine")
        mine.settle(0.5)
    other.follow(lambda: other.picture() == mine.picture(), SLOW, "the same picture at both")

    def sized():  # it may take longer than the call waits
        control(machines, session, take=True, viewer="mine")
        return machines.call("PUT", f"/sessions/{session}/display", json={"width": 1024, "height": 768}, timeout=60).status_code == 200
    wait_until(sized, SLOW, "the machine to take the size")
    mine.follow(lambda: (mine.width, mine.height) == (1024, 768), SLOW, "the other size")
    control(machines, session, release=True)
    until(machines, session, "grep -q end typed")
    typed = more(machines, session, ("bash", {"command": "cat typed"}))[0].strip()
    assert re.fullmatch(r"x+ Hello from A Person\nend", typed), typed
    mine.close()
    other.close()


@pytest.fixture
def demo_berth(tmp_path):
    """The demo, with its session in a machine."""
    folder = tmp_path / "demo"
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("node_modules"))
    scenario = json.loads((folder / "scenario.json").read_text())
    (folder / "scenario.json").write_text(json.dumps({**scenario, "kind": "vm"}))
    port = free_port()
    b = Berth(workers=1, kind="vm", vm_image=IMAGE, model_url=f"http://127.0.0.1:{port}", model_command=aimock(DEMO / "fixtures.json", port, "-l", "2", "-c", "40"), demo=True,
              demo_dir=str(folder), settings={"workerd": {"idle_release": "2s"}})
    try:
        yield b.start(1500)
    finally:
        b.close()


def test_from_the_page(machines):
    """noVNC in a real Chromium: a session in a machine is started, seen, driven and typed into on the page."""
    warm(machines)
    run_walks({"BERTH_URL": machines.stack.url, "BERTH_TOKEN": machines.stack.token, "BERTH_MACHINES": "yes"}, "machine.test.mjs")


def ticks(pids):
    """Processor time of these processes."""
    total = 0
    for pid in pids:
        try:
            total += sum(int(n) for n in (pathlib.Path("/proc") / str(pid) / "stat").read_text().rsplit(") ", 1)[1].split()[11:13])
        except OSError:
            pass
    return total


def qemu(b):
    found = [pid for pid in b.slot_processes("worker1") if re.search(r"^Name:\tqemu", _status(pid), re.M)]
    assert found
    return found


def test_pause_keeps_memory(machines):
    """A paused machine gets no processor time; resumed, its programs go on and the shell remembers."""
    warm(machines)
    s = machines.create([{"tools": [["bash", {"command": "kept=in-memory; (while :; do :; done) & echo started"}]]}, {"text": "slow", "delay": 30},
                         ], kind="vm")["session_id"]
    wait_until(lambda: [e for e in machines.events(s) if e["event_type"] == "post_tool"], SLOW, "the loop")
    machines.call("POST", f"/sessions/{s}/pause", 200)

    def still():
        a = ticks(qemu(machines))
        time.sleep(1)
        return ticks(qemu(machines)) - a <= 3
    wait_until(still, 60, "the machine to stand still")
    running = ticks(qemu(machines))
    machines.call("POST", f"/sessions/{s}/resume", 200)
    wait_until(lambda: ticks(qemu(machines)) > running + 50, 60, "the machine to go on")
    machines.wait_status(s, "idle", seconds=SLOW)
    assert more(machines, s, ("bash", {"command": "kill %1; echo $kept"}))[0].split()[-1] == "in-memory"
    machines.call("POST", f"/sessions/{s}/stop", 200)


# What is tried in slots of the other kinds is tried here: the same tests, with these fixtures.

@pytest.fixture(scope="module")
def attacked(machines):
    """What slot_attacker.py found in a machine."""
    warm(machines)
    found = attack(machines, "vm")
    machines.held = found[0]
    return (machines, "vm", *found)


@pytest.fixture
def any_kind(machines):
    warm(machines)
    return machines, "vm"


@pytest.fixture
def with_display(any_kind):
    return any_kind


@pytest.fixture(scope="module")
def small(machines):
    """A session that goes on whatever its steps do."""
    warm(machines)
    machines.one, _ = play(machines, ["echo begin"], seconds=SLOW, kind="vm")
    machines.held = machines.one
    return machines, "vm"


def test_attacker_direct(machines, session):
    """Nothing of the network that QEMU plays answers but the proxy; the kernel's command line has nothing of the host."""
    text = run(machines, session, "for u in http://169.254.169.254/ http://10.0.0.1/ http://10.0.2.2:22/ http://10.0.2.2:5432/ http://10.0.2.3/ http://127.0.0.1:8765/; do "
                                   "curl -s -m 5 --noproxy '*' $u && echo reached; done; getent hosts exfiltrate.example.com; tr -d '\\0' </proc/cmdline; echo; echo end")
    assert "reached" not in text and text.splitlines()[0].startswith("console=ttyS0") and CANARY not in text, text


def test_host_side(machines, session):
    """On the host the machine is one process of another user, with no privilege, two filters and no network of the host."""
    (pid,) = qemu(machines)
    status = _status(pid)
    assert re.search(r"^CapEff:\t0{16}$", status, re.M) and re.search(r"^NoNewPrivs:\t1$", status, re.M) and re.search(r"^Seccomp:\t2$", status, re.M)
    assert int(re.search(r"^Seccomp_filters:\t(\d+)$", status, re.M)[1]) >= 2
    ours = _status(machines.pid("worker1"))
    if worker(machines)["limits"]["identity"]["by"] != "own uid":
        assert re.search(r"^Uid:\t(\d+)", status, re.M)[1] != re.search(r"^Uid:\t(\d+)", ours, re.M)[1]
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink(f"/proc/{machines.pid('worker1')}/ns/net")
    writable = [fd for fd in os.listdir(f"/proc/{pid}/fd") if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/")
                and int(re.search(r"flags:\s+(\d+)", pathlib.Path(f"/proc/{pid}/fdinfo/{fd}").read_text())[1], 8) & 3
                and not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/dev/")]
    assert not writable, [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in writable]


def test_nothing_is_left_for_the_next(machines):
    warm(machines)
    first, (left,) = play(machines, [LEAVE], seconds=SLOW, kind="vm")
    assert "marker-daemon" in said(left) and "marker-sleep" in said(left) and "xterm" in said(left), said(left)
    before = host_uids(machines)
    machines.call("POST", f"/sessions/{first}/stop", 200)
    if worker(machines)["limits"]["identity"]["by"] != "own uid":
        wait_until(lambda: not processes_of(before), 10, lambda: f"the machine to end: {processes_of(before)}")
    warm(machines)
    second, (look,) = play(machines, [LOOK], seconds=SLOW, kind="vm")
    assert said(look).split() == ["looked:"], said(look)
    after = host_uids(machines)
    if worker(machines)["limits"]["identity"]["by"] != "own uid":
        assert before and after and not before & after, "each machine is somebody else on the host"
    machines.call("POST", f"/sessions/{second}/stop", 200)


def test_cycles_leave_nothing(machines, request):
    def cycle():
        warm(machines)
        s, _ = play(machines, ["echo x >y"], seconds=SLOW, kind="vm")
        machines.call("POST", f"/sessions/{s}/stop", 200)
        warm(machines)
    cycle()
    begin = census_of(machines)
    for _ in range(20 if request.config.getoption("--nightly") else 2):
        cycle()
    wait_until(lambda: no_more(census_of(machines), begin), 10, lambda: f"{begin} and after {census_of(machines)}")


def test_a_killed_worker_leaves_nothing(machines):
    """kill -9 of the worker while a session is in its machine: 10 s later no process, mount or group of it is there; the next starts from the template."""
    warm(machines)
    play(machines, ["(while :; do :; done) & echo spinning"], seconds=SLOW, kind="vm")
    pids, before = machines.slot_processes("worker1"), mounts()
    assert qemu(machines)
    machines.kill("worker1", restart=False)
    wait_until(lambda: not [p for p in pids if "State:\tZ" not in _status(p)], 10, "its machine to end")
    assert mounts() == before
    groups = [g for base in machines.stack.cgroups or [] for g in base.rglob("slot-*/cgroup.procs")]
    wait_until(lambda: not [g for g in groups if g.read_text().strip()], 10, "its groups to be empty")
    machines.stack.start(machines.stack.services["worker1"])
    warm(machines)
    assert sorted(p.name for p in (machines.folder / "s" / "worker1").iterdir()) == ["1"]
