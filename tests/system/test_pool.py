"""The pool of workers grows when sessions wait and shrinks when nobody needs it; a supervisor's workers, as scripts/up runs them."""
import time

from conftest import wait_until


def online(b):
    return sorted(w["worker_id"] for w in b.call("GET", "/workers", 200).json()["workers"] if w["online"])


def test_grows_and_shrinks(own_berth):
    b = own_berth(workers=1, workers_max=3, settings={"coordinatord": {"pool_spare": 0, "pool_idle": "2s", "idle_hold": "1h"}, "workerd": {"idle_release": "1h"}})

    def watch(check, seconds, what):
        def step():
            b.stack.check()
            return check()
        wait_until(step, seconds, what)

    assert online(b) == ["1"]
    began = time.monotonic()
    sessions = [b.create([{"tools": [["bash", {"command": "sleep 1; echo hi"}]]}, {"text": "ok"}])["session_id"] for _ in range(4)]
    watch(lambda: online(b) == ["1", "2", "3"], 60, lambda: f"three workers: {online(b)}\n{b.logs()}")
    watch(lambda: sum(b.session(s)["status"] == "idle" for s in sessions) >= 3, 60, "three sessions served at once")
    assert len({b.session(s)["worker_id"] for s in sessions if b.session(s)["status"] == "idle"}) == 3, time.monotonic() - began
    for s in sessions:
        b.call("POST", f"/sessions/{s}/stop")
    watch(lambda: online(b) == ["1"], 60, lambda: f"only worker 1: {online(b)}\n{b.logs()}")
    # A worker that was let go comes again when it is needed.
    more = [b.create([{"text": "ok"}])["session_id"] for _ in range(2)]
    watch(lambda: len(online(b)) >= 2 and all(b.session(s)["status"] == "idle" for s in more), 60, lambda: f"the pool grows again: {online(b)}\n{b.logs()}")


def test_a_supervisor_ignores_nonsense(own_berth):
    import socket
    b = own_berth(workers=1, workers_max=2)
    path = str(b.stack.run_dir / "starter.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        for text in (b"", b"start", b"start 0", b"start 3", b"start 99999", b"start 2; rm -rf /", b"\xff" * 64, b"stop 2", b"stop 1x"):
            s.sendto(text, path)
    for _ in range(12):
        b.stack.check()
    assert set(b.stack.services) >= {"worker1"} and "worker3" not in b.stack.services
    assert b.call("GET", "/health", 200)
