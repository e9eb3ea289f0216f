"""A person takes over a desktop: lease, input, the agent's hold, secrets, clipboard, size, several viewers."""
import hashlib
import time

import pytest
import requests

from conftest import Berth, assert_gap_free, wait_until
from viewer import Closed, Viewer

TTL = 8  # seconds of a takeover that nobody renews
XTERM = "setsid xterm -geometry 120x40+0+0 -e sh -c 'cat > typed.txt' > /dev/null 2>&1 < /dev/null & sleep 0.7; echo up"


@pytest.fixture(scope="module")
def desktop():
    b = Berth(kind="desktop", workers=1, settings={"coordinatord": {"control_ttl": f"{TTL}s"}})
    try:
        yield b.start()
    finally:
        b.close()


@pytest.fixture
def session(desktop):
    """An idle session whose desktop shows a terminal that writes what is typed into a file."""
    s = desktop.create([{"tools": [["bash", {"command": XTERM}]]}, {"text": "ready"}], kind="desktop")["session_id"]
    desktop.wait_status(s, "idle", seconds=60)
    yield s
    desktop.call("DELETE", f"/sessions/{s}", 204)


def control(berth, session, expect=200, token=None, **body):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return berth.call("POST", f"/sessions/{session}/control", expect, json=body, headers=headers).json()


def control_events(berth, session):
    return [e for e in berth.events(session) if e["event_type"] == "control"]


def actions(berth, session):
    return [e["action"] for e in control_events(berth, session)]


def typed(berth, session):
    """What the terminal has written, by the agent's own shell."""
    before = len(berth.events(session))
    berth.call("POST", f"/sessions/{session}/messages", 202,
               json={"content": 'SCRIPT: [{"tools": [["bash", {"command": "cat typed.txt"}]]}, {"text": "read"}]'})
    wait_until(lambda: [e for e in berth.events(session)[before:] if e["event_type"] == "post_tool"], 30, "the shell")
    berth.wait_status(session, "idle")
    return "".join(b.get("text", "") for e in berth.events(session)[before:] if e["event_type"] == "post_tool" for b in e["tool_output"])


def new_token(berth, role="user"):
    name = f"t{time.monotonic_ns()}"
    berth.sql(f"INSERT INTO core.auth_token (token_hash, name, role, tenant) VALUES ('{hashlib.sha256(name.encode()).hexdigest()}', "
              f"'{name}', '{role}', (SELECT tenant FROM core.auth_token ORDER BY created_at LIMIT 1))")
    return name


def drives(viewer):
    """Whether what this viewer types reaches the desktop: the pixels change."""
    viewer.settle(0.3)
    before = viewer.picture()
    viewer.type("x")
    try:
        viewer.follow(lambda: viewer.picture() != before, 1.5)
    except AssertionError:
        return False
    return True


def test_take_type_give_back(desktop, session):
    """Three viewers at once; only the one that took over drives; all see the same; what was done is in the events."""
    viewers = [Viewer(desktop, session, f"tab{i}") for i in range(3)]
    for v in viewers:
        v.settle(0.3)
    assert not drives(viewers[0])
    reply = control(desktop, session, take=True, viewer="tab1")
    assert reply["lease_ms"] == TTL * 1000 and reply["session"]["slot"]["controller"] == "person"
    held = desktop.session(session)["slot"]["control"]
    assert held["viewer"] == "tab1" and held["person"] and held["secret"] is False and "token" not in str(held)
    wait_until(lambda: drives(viewers[1]), 5, "the holder to drive")
    control(desktop, session, take=True, viewer="tab1")  # renewed
    assert not drives(viewers[0]) and not drives(viewers[2])
    control(desktop, session, take=True, viewer="tab1")
    viewers[1].type(" Hello there\n")
    viewers[1].click(30, 30)
    for v in viewers:
        v.settle(0.5)
    assert viewers[0].picture() == viewers[1].picture() == viewers[2].picture()
    control(desktop, session, release=True)
    assert desktop.session(session)["slot"]["controller"] == "agent"
    wait_until(lambda: not drives(viewers[1]), 5, "the viewer to be view-only again")
    assert typed(desktop, session).strip().endswith("x Hello there")
    wait_until(lambda: "input" in actions(desktop, session), 10, "the summary of the input")
    done = control_events(desktop, session)
    assert [e["action"] for e in done if e["action"] != "input"] == ["taken", "released"]
    assert sum(e["keys"] for e in done if e["action"] == "input") >= 14
    assert sum(e["clicks"] for e in done if e["action"] == "input") == 1
    assert "Hello" not in str(done)
    assert_gap_free(desktop.events(session))
    for v in viewers:
        v.close()


def test_agent_is_held(desktop, session):
    """While a person drives no tool begins; afterwards the stale action is not done and the model is told to look."""
    control(desktop, session, take=True)
    desktop.call("POST", f"/sessions/{session}/messages", 202, json={
        "content": 'SCRIPT: [{"tools": [["computer", {"action": "left_click", "coordinate": [5, 5]}]]}, {"tools": [["computer", {"action": "screenshot"}]]}, {"text": "looked"}]'})
    desktop.wait_status(session, "waiting")
    reason = [e for e in desktop.events(session) if e["event_type"] == "status"][-1]["reason"]
    assert "controls" in reason
    calls = [e for e in desktop.events(session) if e["event_type"] == "post_tool"]
    control(desktop, session, take=True)
    time.sleep(0.5)  # it would have acted by now
    assert len([e for e in desktop.events(session) if e["event_type"] == "post_tool"]) == len(calls)
    control(desktop, session, release=True)
    desktop.wait_status(session, "idle")
    results = [e for e in desktop.events(session) if e["event_type"] == "post_tool"][len(calls):]
    assert "used the desktop" in results[0]["error"] and not results[1].get("error")


def test_pause_and_interrupt_while_held(desktop, session):
    control(desktop, session, take=True)
    desktop.call("POST", f"/sessions/{session}/messages", 202, json={"content": 'SCRIPT: [{"tools": [["bash", {"command": "echo never"}]]}, {"text": "x"}]'})
    desktop.wait_status(session, "waiting")
    desktop.call("POST", f"/sessions/{session}/pause", 200)
    control(desktop, session, release=True)
    desktop.wait_status(session, "paused")
    desktop.call("POST", f"/sessions/{session}/interrupt", 200)
    desktop.wait_status(session, "idle")
    assert "never" not in str([e for e in desktop.events(session) if e["event_type"] == "post_tool"][1:])


def test_secret_entry(desktop, session):
    """No picture, no bytes for other viewers, no counts; off when the control goes."""
    mine, other = Viewer(desktop, session, "mine"), Viewer(desktop, session, "other")
    control(desktop, session, take=True, viewer="mine")
    wait_until(lambda: drives(mine), 5)
    control(desktop, session, 409, secret=True, viewer="other")
    control(desktop, session, take=True, viewer="mine")  # renewed, as the page does: a busy machine took most of the lease
    assert control(desktop, session, secret=True, viewer="mine")["session"]["slot"]["control"]["secret"] is True
    other.settle(0.3)
    seen = other.bytes
    mine.type("hunter2")
    mine.settle(0.5)
    other.settle(0.5)
    assert other.bytes == seen
    control(desktop, session, take=True, viewer="mine")
    refused = desktop.call("GET", f"/sessions/{session}/screenshot", 409).json()["error"]
    assert "secret" in refused["message"]
    control(desktop, session, release=True)
    desktop.call("GET", f"/sessions/{session}/screenshot", 200)
    other.follow(lambda: other.bytes > seen, 5, "the other viewer to see again")
    wait_until(lambda: any(e.get("secret") for e in control_events(desktop, session)), 10, "the summary")
    secret = [e for e in control_events(desktop, session) if e["action"] == "input" and e.get("secret")]
    assert all("keys" not in e for e in secret)
    assert [a for a in actions(desktop, session) if a != "input"] == ["taken", "secret_on", "released"]
    mine.close()
    other.close()


def test_who_may(desktop, session):
    """Another person is refused, needs force and the right to it; viewers never; nonsense is 400."""
    other, admin, viewer = new_token(desktop), new_token(desktop, "admin"), new_token(desktop, "viewer")
    control(desktop, session, 403, token=viewer, take=True)
    control(desktop, session, token=other, take=True)
    assert control(desktop, session, 409, take=True)["error"]["code"] == "conflict"
    third = new_token(desktop)
    control(desktop, session, 409, token=third, take=True)
    control(desktop, session, 403, token=third, take=True, force=True)
    control(desktop, session, 409, token=third, release=True)
    v = Viewer(desktop, session, token=viewer)
    assert not drives(v)
    v.close()
    control(desktop, session, token=admin, take=True, force=True)
    control(desktop, session, 409, token=other, secret=True)
    for path in ("clipboard", "display"):
        desktop.call("PUT", f"/sessions/{session}/{path}", 409, json={"text": "a"} if path == "clipboard" else {"width": 800, "height": 600},
                     headers={"Authorization": f"Bearer {other}"})
    control(desktop, session, token=admin, release=True)
    for body in ({}, {"take": True, "release": True}, {"take": "yes"}, {"take": True, "who": 1}, {"take": True, "viewer": "a b"}, {"take": False}, [], None):
        desktop.call("POST", f"/sessions/{session}/control", 400, json=body)
    control(desktop, "no-such-session", 404, take=True)
    events = control_events(desktop, session)
    assert [e["action"] for e in events] == ["taken", "taken", "released"] and events[1]["from"] == events[0]["person"]


def test_it_runs_out(desktop, session):
    v = Viewer(desktop, session)
    control(desktop, session, take=True)
    wait_until(lambda: drives(v), 5)
    wait_until(lambda: desktop.session(session)["slot"]["controller"] == "agent", TTL + 5, "the lease to run out")
    assert actions(desktop, session)[-1] in ("expired", "input") and "expired" in actions(desktop, session)
    wait_until(lambda: not drives(v), 5)
    v.close()


def test_clipboard_and_size(desktop, session):
    """UTF-8 both ways for the holder; a size within limits, and the model's picture follows."""
    desktop.call("GET", f"/sessions/{session}/clipboard", 409)
    control(desktop, session, take=True)
    text = "Grüße, 世界 🙂\n\"quoted\"\tend"
    desktop.call("PUT", f"/sessions/{session}/clipboard", 204, json={"text": text})
    assert desktop.call("GET", f"/sessions/{session}/clipboard", 200).json() == {"text": text}
    desktop.call("PUT", f"/sessions/{session}/clipboard", 204, json={"text": ""})
    for bad in ({"text": "a" * 32769}, {"text": 5}, {}, {"text": "a", "b": 1}):
        assert desktop.call("PUT", f"/sessions/{session}/clipboard", json=bad).status_code in (400, 413)
    v = Viewer(desktop, session)
    control(desktop, session, take=True)
    assert desktop.call("PUT", f"/sessions/{session}/display", 200, json={"width": 1000, "height": 700}).json() == {"width": 1000, "height": 700}
    v.follow(lambda: (v.width, v.height) == (1000, 700), 10, "the viewer to see the new size")
    wait_until(lambda: (desktop.session(session)["slot"]["width"], desktop.session(session)["slot"]["height"]) == (1000, 700), 10)
    for bad in ({"width": 10, "height": 700}, {"width": 100000, "height": 700}, {"width": 1000}):
        desktop.call("PUT", f"/sessions/{session}/display", 400, json=bad)
    picture = desktop.call("GET", f"/sessions/{session}/screenshot", 200).content
    assert int.from_bytes(picture[16:20], "big") == 1000 and int.from_bytes(picture[20:24], "big") == 700
    control(desktop, session, release=True)
    v.close()


def test_it_survives_daemons(desktop, session):
    """gatewayd and coordinatord are killed: the lease stays with its holder."""
    control(desktop, session, take=True)
    desktop.kill("gatewayd")
    desktop.wait_ready(20)
    v = Viewer(desktop, session)
    control(desktop, session, take=True)
    wait_until(lambda: drives(v), 5, "the holder to drive again")
    desktop.kill("coordinatord")
    desktop.wait_ready(20)
    assert desktop.session(session)["slot"]["controller"] == "person"
    wait_until(lambda: desktop.call("POST", f"/sessions/{session}/control", json={"take": True}).status_code == 200, 15, "the worker to be there again")
    assert drives(v)
    control(desktop, session, release=True)
    assert actions(desktop, session).count("taken") == 1
    v.close()


def test_hostile_viewers(desktop, session):
    """What breaks the rules ends that viewer only; flooding is bounded."""
    good = Viewer(desktop, session)
    for bad in (b"\x01\0\0\0", b"\x02\0\xff\xff", b"\x06\0\0\0\xff\xff\xff\xff", b"\xfe" * 64, b"\x06\0\0\0\xff\xff\xff\xfc"):
        v = Viewer(desktop, session)
        v.send(bad)
        with pytest.raises(Closed):
            while True:
                v.step(10)
        v.close()
    for _ in range(12):  # ends before it has said anything: the others are not shut out
        Viewer(desktop, session, connect=False).close()
    flood = Viewer(desktop, session)
    for _ in range(50):
        flood.send((b"\x05\x01\0\x10\0\x10" + b"\x04\x01\0\0\0\0\0\x61") * 2000)
    assert not drives(good)
    flood.close()
    # One that asks for everything and reads nothing.
    deaf = Viewer(desktop, session)
    for _ in range(2000):
        deaf.request(False)
    start = time.monotonic()
    desktop.call("GET", f"/sessions/{session}/screenshot", 200)
    good.request(False)
    good.settle(0.3)
    assert time.monotonic() - start < 5
    deaf.close()
    good.close()


def test_viewers_end_with_the_session(desktop):
    s = desktop.create([{"text": "ready"}], kind="desktop")["session_id"]
    desktop.wait_status(s, "idle", seconds=60)
    v = Viewer(desktop, s)
    control(desktop, s, take=True)
    desktop.call("POST", f"/sessions/{s}/stop", 200)
    with pytest.raises(Closed):
        while True:
            v.step(10)
    assert desktop.session(s)["slot"]["control"] is None
    assert control(desktop, s, 409, take=True)["error"]["code"] == "conflict"
    assert "ended" in actions(desktop, s)
    desktop.call("DELETE", f"/sessions/{s}", 204)
    requests.get(desktop.url("/health"), timeout=5).raise_for_status()
