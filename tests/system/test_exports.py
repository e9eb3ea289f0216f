"""Videos of recordings: made by a job in a slot, whole and true to the picture, once each, whatever dies; called off; bounded."""
import gzip
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys

import pytest
from test_berthctl import ctl
from test_recording import index, pieces

from conftest import BUILD, ROOT, Berth, wait_until

FILM = ROOT / "docserverd" / "film" / "film.py"
# Something that moves for some seconds, then stands still.
MOVES = "setsid xterm -geometry 120x40+0+0 -e sh -c 'for i in $(seq 12); do seq $i 1000 | head -35; sleep 0.3; done; sleep 600' > /dev/null 2>&1 < /dev/null & sleep 5; echo up"


def recorded(env=None, **settings):
    """A Berth with a worker for jobs, and the id of a session whose desktop was recorded."""
    b = Berth(kind="desktop", workers=1, job_workers=1, env=env or {}, settings={"workerd": {"recording_piece": "1s"}, "docserverd": settings})
    try:
        b.start()
        s = b.create([{"tools": [["bash", {"command": MOVES}]]}, {"text": "ready"}], kind="desktop", session_name="Tour of the shop")["session_id"]
        b.wait_status(s, "idle", seconds=60)
        wait_until(lambda: len(index(b, s)["pieces"]) >= 3, 30, "a recording")
        b.call("POST", f"/sessions/{s}/stop", 200)
        yield b, s
    finally:
        b.close()


@pytest.fixture(scope="module")
def rig():
    yield from recorded()


@pytest.fixture
def hasty():
    yield from recorded(export_time="10s")


def begin(b, s, expect=202, **body):
    return b.call("POST", f"/sessions/{s}/recording/export", expect, json=body).json()


def show(b, e):
    return b.call("GET", f"/sessions/{e['session_id']}/recording/exports/{e['export_id']}", 200).json()


def await_export(b, e, *wanted, seconds=180):
    last = {}

    def check():
        last.update(show(b, e))
        return last["status"] in wanted
    wait_until(check, seconds, lambda: f"export {wanted}: {last}\n{b.logs()}")
    return dict(last)


def probe(path):
    return json.loads(subprocess.run(["ffprobe", "-v", "error", "-of", "json", "-count_frames", "-show_streams", "-show_format", str(path)],
                                     check=True, capture_output=True, timeout=60).stdout)


def last_frame(path, width, height):
    raw = subprocess.run(["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True, timeout=120).stdout
    return raw[-width * height * 3:]


def programs(b, name):
    """Those of that name in the slot for jobs."""
    found = []
    for pid in b.slot_processes("jobs1"):
        try:
            if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == name:
                found.append(pid)
        except OSError:
            pass
    return found


def hold(b, s, **body):
    """An export that stands still: its encoder is stopped."""
    e = begin(b, s, **body)
    held = []

    def check():
        for pid in programs(b, "ffmpeg"):
            try:
                os.kill(pid, signal.SIGSTOP)
                held.append(pid)
            except ProcessLookupError:
                pass
        return held
    wait_until(check, 60, lambda: f"an encoder: {show(b, e)}\n{b.logs()}")
    return e


@pytest.mark.parametrize("format, codec", [("webm", "vp9"), ("mp4", "h264")])
def test_a_video_is_what_was_seen(rig, tmp_path, format, codec):
    b, s = rig
    e = begin(b, s, format=format)
    assert e["status"] in ("queued", "running") and e["format"] == format and e["document_id"] is None and e["url"] is None
    again = begin(b, s, format=format)
    assert again["export_id"] == e["export_id"] or show(b, e)["status"] == "done", "one at a time of a format"
    seen = []

    def check():
        seen.append(show(b, e))
        return seen[-1]["status"] not in ("queued", "running")
    wait_until(check, 180, lambda: f"{seen[-1]}\n{b.logs()}")
    done = seen[-1]
    assert done["status"] == "done" and done["error"] is None and done["percent"] == 100, done
    assert [x["percent"] for x in seen] == sorted(x["percent"] for x in seen)
    document = b.call("GET", f"/documents/{done['document_id']}/metadata", 200).json()
    assert document["filename"] == f"Tour of the shop.{format}" and document["content_type"] == f"video/{format}" and document["tags"] == ["recording"]
    assert document["session_id"] == s and document["size_bytes"] == done["size_bytes"] > 1000 and document["metadata"] == {"recording_of": s}
    video = tmp_path / f"video.{format}"
    video.write_bytes(b.call("GET", done["url"], 200).content)
    found = probe(video)
    stream = found["streams"][0]
    assert (stream["codec_name"], stream["width"], stream["height"]) == (codec, 1280, 800) and len(found["streams"]) == 1
    recorded = [t / 1e6 + ms / 1e3 for (_, _, t), frames in pieces(b, s) for ms, _, _ in frames]
    length = sum(min(later - sooner, 1.0) for sooner, later in zip(recorded, recorded[1:])) + 1
    assert abs(float(found["format"]["duration"]) - length) < 0.5 and abs(int(stream["nb_read_frames"]) - length * 10) < 5
    want, got = pieces(b, s)[-1][1][-1][2], last_frame(video, 1280, 800)
    assert len(set(want)) > 1 and sum(abs(x - y) for x, y in zip(want[::97], got[::97])) / len(want[::97]) < 4
    assert [x["export_id"] for x in index(b, s)["exports"] if x["format"] == format][-1] == e["export_id"]


def test_from_the_command_line(rig, tmp_path):
    b, s = rig
    video = tmp_path / "tour.mp4"
    out = ctl(b, "recordings", "export", s, str(video)).stdout
    assert str(video.stat().st_size) in out and probe(video)["streams"][0]["codec_name"] == "h264"
    assert "done" in ctl(b, "recordings", "show", s).stdout
    assert "webm or .mp4" in ctl(b, "recordings", "export", s, "tour.avi", expect=2).stderr
    assert "nothing was recorded" not in ctl(b, "recordings", "show", s).stdout
    assert "berthctl: " in ctl(b, "recordings", "export", "nothing", str(video), expect=1).stderr


def test_called_off(rig):
    b, s = rig
    e = hold(b, s, format="mp4")
    assert show(b, e)["status"] == "running"
    place = f"/sessions/{s}/recording/exports/{e['export_id']}"
    assert b.call("DELETE", place, 200).json()["status"] == "cancelled"
    wait_until(lambda: not programs(b, "ffmpeg"), 20, "the encoder to end")
    assert show(b, e)["status"] == "cancelled" and show(b, e)["document_id"] is None
    b.call("DELETE", place, 409)
    done = await_export(b, begin(b, s, format="mp4"), "done", "failed")
    assert done["status"] == "done", f"the slot is free again: {done}"


def test_killed_in_the_middle(rig):
    """docserverd or the worker dies: it begins again, and makes one document."""
    b, s = rig
    for who in ("docserverd", "jobs1"):
        e = hold(b, s)
        b.kill(who)
        b.wait_ready()
        done = await_export(b, e, "done", "failed")
        assert done["status"] == "done", done
        assert b.sql(f"SELECT count(*) FROM docs.document WHERE id IN (SELECT document_id FROM docs.idempotency WHERE key = 'recording-export/{e['export_id']}')") == "1"
        assert b.sql(f"SELECT attempts FROM docs.recording_export WHERE id = '{e['export_id']}'") == "2"


@pytest.fixture
def dying():
    if b"BERTH_CRASH_AT" not in (BUILD / "docserverd" / "docserverd").read_bytes():
        pytest.skip("built without -Dfaults=true")
    yield from recorded(env={"BERTH_CRASH_AT": "docserver.filmed:1"})


def test_dies_between_the_video_and_its_row(dying):
    """F5: the document is there, the export does not know it yet; it is made again and finds it."""
    b, s = dying
    service, e = b.stack.services["docserverd"], begin(b, s)
    wait_until(lambda: service.process.poll() is not None, 120, b.logs)
    assert service.process.returncode == 137
    service.env.pop("BERTH_CRASH_AT")
    b.stack.start(service)
    b.wait_ready()
    done = await_export(b, e, "done", "failed")
    assert done["status"] == "done", done
    assert b.sql(f"SELECT count(*) FROM docs.document WHERE id IN (SELECT document_id FROM docs.idempotency WHERE key = 'recording-export/{e['export_id']}')") == "1"


def test_bounded(hasty):
    b, s = hasty
    slow = await_export(b, hold(b, s), "failed", "done")
    assert slow["status"] == "failed" and "export_time" in slow["error"] and not programs(b, "ffmpeg")
    assert b.sql("SELECT count(*) FROM docs.recording_export WHERE state IN ('queued', 'running')") == "0"


def test_refused(rig):
    b, s = rig
    assert begin(b, s, 400, format="avi")["error"]["field"] == "format" and begin(b, s, 400, kind="mp4")
    begin(b, "nothing", 404)
    silent = b.create(kind="headless")["session_id"]
    assert "Nothing was recorded" in begin(b, silent, 409)["error"]["message"]
    b.call("GET", f"/sessions/{s}/recording/exports/nothing", 404)
    b.call("GET", f"/sessions/{s}/recording/exports/{'x' * 200}", 404)
    b.call("DELETE", f"/sessions/{s}/recording/exports/nothing", 404)
    b.call("DELETE", f"/sessions/{silent}/recording/exports/{index(b, s)['exports'][0]['export_id']}", 404)
    viewer = b.call("POST", "/tokens", 201, json={"name": "watcher", "role": "viewer"}).json()["token"]
    assert b.call("POST", f"/sessions/{s}/recording/export", json={}, headers={"Authorization": f"Bearer {viewer}"}).status_code == 403
    # Who deletes the recording ends what is made of it.
    e = hold(b, s)
    b.call("DELETE", f"/sessions/{s}/recording", 204)
    b.call("GET", f"/sessions/{s}/recording/exports/{e['export_id']}", 404)
    wait_until(lambda: not programs(b, "ffmpeg"), 30, "its encoder to end")
    assert index(b, s)["exports"] == []


# --- what is read in the slot, by hand

def piece(width=64, height=48, body=b"", started=1_000_000):
    return gzip.compress(b"BREC\1\0\0\0" + struct.pack("<IIQ", width, height, started) + body)


def frame(x, y, w, h, ms, colour=b"\xff\x80\x00"):
    return b"R" + struct.pack("<HHHH", x, y, w, h) + colour * (w * h) + b"F" + struct.pack("<IQ", ms, 1)


GOOD = piece(body=frame(0, 0, 64, 48, 0) + frame(5, 5, 10, 10, 900, b"\0\0\xff"))
HOSTILE = {
    "nothing": [], "empty": [b""], "no gzip": [b"x" * 100], "cut": [GOOD[:-20]], "not ours": [gzip.compress(b"hello" * 100)],
    "no picture": [piece(0, 0)], "huge": [piece(1 << 31, 1 << 31)], "larger than said": [piece(66, 48, frame(0, 0, 66, 48, 0))],
    "outside": [piece(body=frame(60, 0, 10, 10, 0))], "wraps": [piece(body=b"R" + struct.pack("<HHHH", 65535, 65535, 65535, 65535))],
    "bomb": [gzip.compress(b"BREC\1\0\0\0" + struct.pack("<IIQ", 64, 48, 0) + bytes(200 << 20), 1)],
    "unknown": [piece(body=frame(0, 0, 64, 48, 0) + b"Z")],
}


def film(folder, data, *, width=64, height=48, limit=1 << 20, raw=None):
    stream = b"".join(struct.pack("<Q", len(d)) + d for d in data) if raw is None else raw
    return subprocess.run([sys.executable, "-I", str(FILM), "webm", str(width), str(height), str(limit)], cwd=folder, input=stream, capture_output=True, timeout=60)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_damaged_pieces(tmp_path):
    assert film(tmp_path, [GOOD]).returncode == 0 and probe(tmp_path / "video.webm")["streams"][0]["width"] == 64
    for name, data in HOSTILE.items():
        ran = film(tmp_path, data)
        said = ran.stderr.decode().strip()
        assert ran.returncode == 1 and "Traceback" not in said and said.splitlines()[-1] in ("the recording is damaged", "nothing is left of the recording"), (name, said)
    assert film(tmp_path, [GOOD, *(d for data in HOSTILE.values() for d in data), GOOD]).returncode == 0, "the rest of it counts"
    for raw in (b"\1", struct.pack("<Q", 100) + b"short", struct.pack("<Q", 1 << 62)):
        assert film(tmp_path, [], raw=raw).stderr.decode().strip().endswith("the recording was cut off")
    assert b"export_max" in film(tmp_path, [GOOD], limit=10).stderr
