"""Warm slots per kind: targets of the pool are met from a cold start, after slots were taken, after a reload, and when a worker dies."""
import signal
import subprocess

from test_berthctl import ctl

from conftest import wait_until


def slots(b):
    """Online workers without a session: worker_id -> (kind, state)."""
    return {w["worker_id"]: (w["slot"]["kind"], w["state"]) for w in b.call("GET", "/workers", 200).json()["workers"] if w["online"] and not w["session_id"]}


def warm(b, kind):
    return sorted(w for w, slot in slots(b).items() if slot == (kind, "warm"))


def targets(b):
    return {t["kind"]: t for t in b.call("GET", "/status", 200).json()["warm"]}


def wait_targets(b, what, supervised=True, **wanted):
    """Until at least that many slots of each kind are warm, and the status says the same."""
    def check():
        if supervised:
            b.stack.check()
        told = targets(b)
        return all(len(warm(b, k)) >= n and told.get(k, {}).get("ready") == n and told[k]["why"] is None for k, n in wanted.items())
    wait_until(check, 90, lambda: f"{what}: {wanted}, is {slots(b)}, {targets(b)}\n{b.logs()}")


def set_warm(b, text):
    """Writes the setting and has it read again."""
    path = b.stack.state / "etc" / "coordinatord.conf"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("pool_warm")]
    path.write_text("\n".join([*lines, f"pool_warm = {text}", ""]))
    b.stack.services["coordinatord"].process.send_signal(signal.SIGHUP)


def test_targets(own_berth):
    b = own_berth(workers=4, kind="headless", settings={"coordinatord": {"pool_warm": "desktop:1, headless:2"}, "workerd": {"idle_release": "1h"}})
    image = b.stack.image_dir.rstrip("/").rsplit("/", 1)[1]
    wait_targets(b, "from a cold start", desktop=1, headless=2)
    log = b.stack.state / "log" / "coordinatord.log"
    assert log.read_text().count("is to keep a slot of the kind") == 1, "nobody changes who need not"
    told = targets(b)["desktop"]
    assert told == {"kind": "desktop", "image": None, "target": 1, "ready": 1, "making": 0, "why": None}
    assert "slots kept ready:" in (said := ctl(b, "status").stdout) and "desktop" in said.split("slots kept ready:")[1], said
    metrics = b.call("GET", "/metrics", 200).text
    assert 'berth_warm_target{kind="headless",image=""} 2' in metrics and 'berth_warm_ready{kind="desktop",image=""} 1' in metrics

    # The warm desktop is given, and another worker makes one in its place.
    had = warm(b, "desktop")
    session = b.create([{"text": "ok"}], kind="desktop")["session_id"]
    assert b.wait_status(session, "idle", seconds=60)["worker_id"] in had
    wait_targets(b, "a taken slot is replaced", desktop=1, headless=2)
    b.call("POST", f"/sessions/{session}/stop", 200)
    wait_until(lambda: len(warm(b, "desktop")) + len(warm(b, "headless")) == 4, 60, lambda: f"all four are back: {slots(b)}")

    # Another wish, by reload. What makes no sense changes nothing and is said in the log.
    set_warm(b, f"headless:1, desktop@{image}:3")
    wait_targets(b, "after a reload", desktop=3, headless=1)
    assert targets(b)["desktop"]["image"] == image
    set_warm(b, "room:3")
    wait_until(lambda: 'pool_warm: "room:3" is not' in log.read_text(), 20, "the log says what is wrong")
    assert len(warm(b, "desktop")) == 3

    # More than there are workers for: the status says so.
    set_warm(b, "headless:2, desktop:3, vm:1")
    def lacks():
        told = targets(b)
        return "no worker makes slots of this kind" in (told.get("vm", {}).get("why") or "") and "start more workers" in (told["headless"]["why"] or "")
    wait_until(lacks, 30, lambda: f"the status says what is missing: {targets(b)}")
    assert len(warm(b, "desktop")) == 3 and len(warm(b, "headless")) == 1  # and nothing is moved to and fro for it

    # The only worker that keeps a kind dies; of those that keep most of another, one takes its place.
    set_warm(b, "headless:1, desktop:3")
    died = warm(b, "headless")[0]
    b.kill(f"worker{died}", restart=False)
    b.stack.services.pop(f"worker{died}")
    wait_targets(b, "a dead worker's share is taken over", headless=1)
    wait_until(lambda: len(warm(b, "desktop")) == 2, 60, lambda: f"the others go on: {slots(b)}")
    assert died not in warm(b, "headless")

    # Without targets each worker goes back to its own kind.
    set_warm(b, "")
    wait_until(lambda: len(warm(b, "headless")) == 3 and b.call("GET", "/status", 200).json()["warm"] == [], 60, lambda: f"own kinds: {slots(b)}")


def test_a_burst_starts_workers_for_its_kind(own_berth):
    b = own_berth(workers=1, workers_max=4, kind="headless",
                  settings={"coordinatord": {"pool_warm": "headless:1, desktop:1", "pool_spare": 0, "pool_idle": "2s", "idle_hold": "1h"}, "workerd": {"idle_release": "1h"}})
    wait_targets(b, "the pool grows to its targets", desktop=1, headless=1)
    sessions = [b.create([{"text": "ok"}], kind="desktop")["session_id"] for _ in range(2)]
    for s in sessions:
        b.wait_status(s, "idle", seconds=60)
    wait_targets(b, "two workers more", desktop=1, headless=1)
    assert len([w for w in b.call("GET", "/workers", 200).json()["workers"] if w["online"]]) == 4
    for s in sessions:
        b.call("POST", f"/sessions/{s}/stop", 200)

    def shrunk():
        b.stack.check()
        return len(slots(b)) == 2
    wait_until(shrunk, 60, lambda: f"the pool shrinks to its targets: {slots(b)}\n{b.logs()}")
    wait_targets(b, "and keeps them", desktop=1, headless=1)


def test_a_wrong_setting_at_the_start(berth, tmp_path):
    path = tmp_path / "wrong.conf"
    path.write_text((berth.stack.state / "etc" / "coordinatord.conf").read_text() + "\npool_warm = desktop\n")
    ended = subprocess.run([str(berth.stack.bin / "coordinatord"), "--config", str(path)], capture_output=True, text=True, timeout=30)
    assert ended.returncode == 78, ended
    assert 'pool_warm: "desktop" is not KIND:NUMBER' in ended.stderr + ended.stdout
