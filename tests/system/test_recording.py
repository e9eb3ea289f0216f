"""Recordings: pieces with time and seq, that decode to what a viewer saw; nothing in secret entry; gone with the session."""
import gzip
import struct

import pytest

from conftest import Berth, wait_until
from viewer import Viewer

XTERM = "setsid xterm -geometry 120x40+0+0 -e sh -c 'cat > typed.txt' > /dev/null 2>&1 < /dev/null & sleep 0.7; echo up"


@pytest.fixture(scope="module")
def desktop():
    b = Berth(kind="desktop", workers=1, settings={"workerd": {"recording_piece": "1s"}})
    try:
        yield b.start()
    finally:
        b.close()


def decode(data):
    """A piece as [(ms, seq, frame bytes RGB)], and its header. Strict: anything odd fails."""
    raw = gzip.decompress(data)
    magic, width, height, started = struct.unpack("<8sIIQ", raw[:24])
    assert magic == b"BREC\1\0\0\0"
    frame, frames, at = bytearray(width * height * 3), [], 24
    while at < len(raw):
        if raw[at:at + 1] == b"R":
            x, y, w, h = struct.unpack_from("<HHHH", raw, at + 1)
            assert w and h and x + w <= width and y + h <= height
            at += 9
            for row in range(h):
                to = ((y + row) * width + x) * 3
                frame[to:to + w * 3] = raw[at:at + w * 3]
                at += w * 3
        else:
            assert raw[at:at + 1] == b"F"
            ms, seq = struct.unpack_from("<IQ", raw, at + 1)
            frames.append((ms, seq, bytes(frame)))
            at += 13
    return (width, height, started), frames


def index(berth, session):
    return berth.call("GET", f"/sessions/{session}/recording", 200).json()


def pieces(berth, session):
    return [decode(berth.call("GET", p["url"], 200).content) for p in index(berth, session)["pieces"]]


def test_recorded_and_gone(desktop):
    s = desktop.create([{"tools": [["bash", {"command": XTERM}]]}, {"text": "ready"}], kind="desktop")["session_id"]
    assert index(desktop, s)["pieces"] == [] or index(desktop, s)["size_bytes"] > 0
    desktop.wait_status(s, "idle", seconds=60)
    v = Viewer(desktop, s)
    desktop.call("POST", f"/sessions/{s}/control", 200, json={"take": True})
    v.settle(0.5)
    v.type("recorded text\n")
    v.settle(0.5)
    seen = bytes(v.pixels)
    want = bytes(b for i in range(0, len(seen), 4) for b in (seen[i + 2], seen[i + 1], seen[i]))
    wait_until(lambda: any(frame == want for _, frames in pieces(desktop, s) for _, _, frame in frames), 20, "the picture in the recording")
    found = index(desktop, s)
    assert found["size_bytes"] == sum(p["size_bytes"] for p in found["pieces"]) and found["dropped"] is False
    starts = [p["started_at"] for p in found["pieces"]]
    assert starts == sorted(starts) and all(p["started_at"] <= p["ended_at"] for p in found["pieces"])
    last = desktop.events(s)[-1]["seq"]
    for p, ((width, height, _), frames) in zip(found["pieces"], pieces(desktop, s)):
        assert (width, height) == (p["width"], p["height"]) == (1280, 800)
        assert p["frames"] == len(frames) and p["first_seq"] == frames[0][1] and p["last_seq"] == frames[-1][1] <= last
        assert [f[0] for f in frames] == sorted(f[0] for f in frames)
    # Secret entry: nothing of it is recorded, the recording goes on after it.
    desktop.call("POST", f"/sessions/{s}/control", 200, json={"secret": True})
    n = len(index(desktop, s)["pieces"])
    v.type("hunter2hunter2\n")
    v.settle(1)
    seen = bytes(v.pixels)
    secret = bytes(b for i in range(0, len(seen), 4) for b in (seen[i + 2], seen[i + 1], seen[i]))
    v.type("clear\n" * 45)
    v.settle(1)
    desktop.call("POST", f"/sessions/{s}/control", 200, json={"release": True})
    wait_until(lambda: len(index(desktop, s)["pieces"]) > n, 20, "the recording to go on")
    assert all(frame != secret for _, frames in pieces(desktop, s) for _, _, frame in frames)
    # After the end, from the store; another tenant's or wrong ids are not found.
    desktop.call("POST", f"/sessions/{s}/stop", 200)
    assert pieces(desktop, s)
    one = index(desktop, s)["pieces"][0]
    desktop.call("GET", f"/sessions/{s}/recording/nothing", 404)
    desktop.call("GET", f"/sessions/none/recording/{one['id']}", 404)
    desktop.call("GET", "/sessions/none/recording", 404)
    desktop.call("DELETE", "/sessions/none/recording", 404)
    desktop.call("DELETE", f"/sessions/{s}/recording", 204)
    assert index(desktop, s)["pieces"] == []
    v.close()
    desktop.call("DELETE", f"/sessions/{s}", 204)


def test_killed_worker_and_store(desktop):
    """docserverd is away for a while: the pieces wait. The worker dies: what it had sent stays, and goes with the session."""
    s = desktop.create([{"tools": [["bash", {"command": "setsid xterm -e sh -c 'while :; do date +%N; sleep 0.3; done' > /dev/null 2>&1 < /dev/null & sleep 1; echo up"}]]}, {"text": "ready"}],
                       kind="desktop")["session_id"]
    desktop.wait_status(s, "idle", seconds=60)
    wait_until(lambda: len(index(desktop, s)["pieces"]) >= 1, 20, "the first piece")
    desktop.kill("docserverd")
    before = len(index(desktop, s)["pieces"])
    wait_until(lambda: len(index(desktop, s)["pieces"]) > before, 30, "pieces after the store's end")
    desktop.kill("worker1")
    kept = index(desktop, s)["pieces"]
    assert len(kept) > before and len(pieces(desktop, s)) >= len(kept)
    desktop.call("DELETE", f"/sessions/{s}", 204)
    assert desktop.sql(f"SELECT count(*) FROM docs.recording_piece WHERE session_id = '{s}'") in ("0", "")
    desktop.wait_ready(30)
