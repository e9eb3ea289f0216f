"""A database that is restored from a copy has another history (F24): no reader takes a position of before for one of now."""
import json
import os
import subprocess
import threading

import pytest
import requests
import websocket

from conftest import assert_gap_free, wait_until
from test_page import run_walks

SSE = {"Accept": "text/event-stream"}


def post(berth, session, *messages, start=False):
    events = [{"session_id": session, "event_type": "session_start"}] if start else []
    events += [{"session_id": session, "event_type": "log", "message": m} for m in messages]
    return berth.call("POST", "/events", 201, json=events).json()["events"]


def pg(berth, *argv):
    env = {"PATH": os.environ["PATH"], "PGPASSWORD": berth.stack.secret("postgres").read_text().strip()}
    subprocess.run([argv[0], "-h", str(berth.stack.run_dir), "-U", "postgres", *argv[1:]], env=env, check=True, capture_output=True)


def put_back(berth, dump):
    """As berthctl restore does, with the gateway up all the while: it has readers, and remembers."""
    coordinator = berth.stack.services["coordinatord"]
    coordinator.process.kill()
    coordinator.process.wait()
    pg(berth, "dropdb", "--force", "berth")
    pg(berth, "createdb", "-O", "postgres", "berth")
    pg(berth, "pg_restore", "--clean", "--if-exists", "-d", "berth", str(dump))
    berth.stack.start(coordinator)
    berth.wait_ready()


def socket(berth, path):
    return websocket.create_connection(berth.url(path).replace("http", "ws"), timeout=30, header=[f"Authorization: {berth.http.headers['Authorization']}"])


def until(ws, kind):
    while True:
        message = json.loads(ws.recv())
        if message["type"] == kind:
            return message


def test_readers_of_a_restored_database_begin_anew(own_berth, tmp_path):
    berth = own_berth(workers=1)
    post(berth, "s", "one", "two", start=True)
    dump = tmp_path / "dump"
    pg(berth, "pg_dump", "-Fc", "-f", str(dump), "berth")
    post(berth, "s", *(f"lost {i}" for i in range(20)))
    all_of, one_of = socket(berth, "/ws"), socket(berth, "/sessions/s/stream")
    before = until(all_of, "init")
    cursor, epoch = before["cursor"], before["epoch"]
    assert berth.call("GET", "/events/s", 200).json()["epoch"] == epoch == berth.call("GET", "/events", 200).json()["epoch"]
    sse = requests.get(berth.url("/sessions/s/stream"), headers={**berth.http.headers, **SSE}, stream=True, timeout=30)

    put_back(berth, dump)
    assert until(all_of, "resync") and until(one_of, "resync")
    for ws in (all_of, one_of):
        assert ws.recv() == "", "and closed"
    ended = [line for line in sse.iter_lines() if line.startswith(b"event:")]
    assert ended[-1] == b"event: resync"

    after = until(socket(berth, "/ws"), "init")
    assert after["epoch"] != epoch and after["cursor"] < cursor
    assert [s["last_seq"] for s in after["sessions"]] == [3]
    # Beyond the newest: refused whatever the reader knows of epochs.
    for path in ("/sessions/s/stream?after_seq=23", f"/sessions/s/stream?after_seq=23&epoch={epoch}"):
        assert berth.call("GET", path, headers=SSE).status_code in (400, 410)
    # New events get seqs and ids that other events had: only the epoch tells them apart.
    again = post(berth, "s", *(f"new {i}" for i in range(30)))
    assert again[0]["seq"] == 4 and again[-1]["id"] > cursor
    assert_gap_free(berth.events("s"))
    for path in (f"/events/s?after_seq=23&epoch={epoch}", f"/events?after={cursor}&epoch={epoch}", f"/sessions/s/stream?after_seq=23&epoch={epoch}"):
        refused = berth.call("GET", path, 410, headers=SSE).json()["error"]
        assert refused["code"] == "resync" and refused["field"] == "epoch", path
    for path in (f"/ws?after={cursor}&epoch={epoch}", f"/sessions/s/stream?after_seq=23&epoch={epoch}"):
        with pytest.raises(websocket.WebSocketBadStatusException) as e:
            socket(berth, path)
        assert e.value.status_code == 410
    now = after["epoch"]
    assert len(berth.call("GET", f"/events/s?after_seq=23&epoch={now}", 200).json()["events"]) == 10
    assert until(socket(berth, f"/ws?after={after['cursor']}&epoch={now}"), "event")["event"]["seq"] == 4


def test_the_epoch_stays_when_nothing_was_restored(own_berth):
    """Restarts of everything, the database too, are the same history: readers go on where they were."""
    berth = own_berth(workers=1)
    post(berth, "s", "one", start=True)
    epoch = berth.call("GET", "/events", 200).json()["epoch"]
    ws = socket(berth, "/ws")
    until(ws, "init")
    for name in ("coordinatord", "postgres", "coordinatord"):
        berth.kill(name)
        berth.wait_ready()
    wait_until(lambda: berth.call("POST", "/events", json={"session_id": "s", "event_type": "log", "message": "two"}).status_code == 201, 20)
    assert until(ws, "event")["event"]["message"] == "two"
    assert berth.call("GET", "/events", 200).json()["epoch"] == epoch


def test_a_running_session_of_a_restored_database(own_berth, tmp_path):
    """What a worker holds is of a history that is gone: it is fenced, and the session goes on from what the database has."""
    berth = own_berth(workers=1)
    session = berth.create([{"tools": [["bash", {"command": f"echo {i}"}]], "delay": 0.2} for i in range(8)] + [{"text": "end"}])["session_id"]
    wait_until(lambda: berth.session(session)["last_seq"] > 8, 30)
    dump = tmp_path / "dump"
    pg(berth, "pg_dump", "-Fc", "-f", str(dump), "berth")
    kept = berth.events(session)
    berth.wait_status(session, "idle", seconds=60)
    later = berth.session(session)["last_seq"]
    put_back(berth, dump)
    berth.wait_status(session, "idle", seconds=60)
    events = berth.events(session)
    assert_gap_free(events)
    assert [e["id"] for e in events[:len(kept) - 1]] == [e["id"] for e in kept[:-1]] and len(events) >= later - 1
    done = [e["tool_call_id"] for e in events if e["event_type"] == "post_tool"]
    assert len(done) == len(set(done))


def swap(berth, other):
    """Another database takes the place of berth's, faster than the gateway notices that the coordinator is away."""
    coordinator = berth.stack.services["coordinatord"]
    coordinator.process.kill()
    coordinator.process.wait()
    berth.stack.psql("-c", "ALTER DATABASE berth ALLOW_CONNECTIONS false",
                     "-c", "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'berth'",
                     "-c", "ALTER DATABASE berth RENAME TO berth_before", "-c", f"ALTER DATABASE {other} RENAME TO berth")
    berth.stack.start(coordinator)


def test_nothing_of_another_history_is_shown(own_berth, tmp_path):
    """New events come by the bus before the gateway has asked the database again: no reader sees one of them as if it followed what it has."""
    berth = own_berth(workers=1)
    post(berth, "s", "one", "two", start=True)
    dump = tmp_path / "dump"
    pg(berth, "pg_dump", "-Fc", "-f", str(dump), "berth")
    pg(berth, "createdb", "-O", "postgres", "other")
    pg(berth, "pg_restore", "-d", "other", str(dump))
    post(berth, "s", "lost")
    readers = {path: socket(berth, path) for path in ("/ws", "/sessions/s/stream?after_seq=0")}
    until(readers["/ws"], "init")
    assert until(readers["/sessions/s/stream?after_seq=0"], "log")["message"] == "one"
    swap(berth, "other")
    new = [{"session_id": "s", "event_type": "log", "message": f"new {i}"} for i in range(30)]
    wait_until(lambda: berth.call("POST", "/events", json=new).status_code == 201, 30, lambda: f"new events\n{berth.logs()}")
    for path, ws in readers.items():
        shown = []
        while (message := json.loads(ws.recv()))["type"] != "resync":
            shown.append(message.get("event", message).get("message", ""))
        assert not [m for m in shown if m.startswith("new")], (path, shown)
    assert [e["message"] for e in berth.events("s")[3:]] == [e["message"] for e in new]


def test_an_open_page_begins_anew(own_berth, tmp_path):
    """In a real browser: after retention, and while the database is put back under it."""
    berth = own_berth(workers=1)
    say = lambda session, *texts: berth.call("POST", "/events", 201, json=[
        {"session_id": session, "event_type": "message", "role": "user", "content": text} for text in texts])
    post(berth, "old", start=True)
    say("old", "expired words", "kept words")
    berth.sql("DELETE FROM core.event WHERE session_id = 'old' AND seq <= 2")
    post(berth, "s", start=True)
    say("s", "first words")
    dump, mark = tmp_path / "dump", tmp_path / "mark"
    pg(berth, "pg_dump", "-Fc", "-f", str(dump), "berth")
    say("s", *(f"lost words {i}" for i in range(8)))

    def restore():
        wait_until(mark.exists, 150)
        put_back(berth, dump)
        say("s", *(f"new words {i}" for i in range(12)))
        mark.unlink()
    thread = threading.Thread(target=restore)
    thread.start()
    try:
        run_walks({"BERTH_URL": berth.stack.url, "BERTH_TOKEN": berth.stack.token, "BERTH_MARK": str(mark)}, "history.test.mjs")
    finally:
        thread.join()
