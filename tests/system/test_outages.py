"""Defined behaviour when a part is away: a standby coordinator takes over; without the database every route says 503 at once."""
import dataclasses
import json
import os
import pathlib
import signal
import threading
import time

import pytest
import requests

from conftest import ROOT, assert_gap_free, wait_until
from streams import SessionStream

STEPS = [{"tools": [["bash", {"command": f"echo step {i} >> ledger; sleep 0.2; wc -l < ledger"}]]} for i in range(10)] + [{"text": "counted"}]
OPENAPI = json.loads((ROOT / "gatewayd" / "openapi.json").read_text())


def text_of(event):
    return "".join(b.get("text", "") for b in event["tool_output"])


def post_one(berth, session, i):
    return requests.post(berth.url("/events"), headers=berth.http.headers, json={"session_id": session, "event_type": "log", "message": str(i), "id": str(i)}, timeout=10)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP], ids=["kill-9", "orderly", "frozen"])
def test_standby_coordinator_takes_over(own_berth, number):
    """Within 5 s of the first one's end; no event lost, no session restarted; the first one comes back as standby. One that only
    stands still keeps its lock and its sockets: they are taken from it, and when it wakes up it ends itself."""
    berth = own_berth(workers=2)
    first = berth.stack.services["coordinatord"]
    second = dataclasses.replace(first, name="coordinatord2", process=None)
    berth.stack.start(second)
    log = pathlib.Path(berth.stack.state / "log" / "coordinatord2.log")
    wait_until(lambda: "another coordinator is active" in log.read_text() or "standby" in log.read_text(), 10)
    session = berth.create(STEPS)["session_id"]
    stream = SessionStream(berth, session)
    wait_until(lambda: len(stream.updates) > 8, 30)
    berth.call("POST", "/events", 201, json={"session_id": "watch", "event_type": "session_start"})
    accepted, stop, longest = [], threading.Event(), [0.0]

    def journal():
        i, since = 0, time.monotonic()
        while not stop.is_set():
            try:
                ok = post_one(berth, "watch", i).status_code == 201
            except requests.RequestException:
                ok = False
            if ok:
                longest[0] = max(longest[0], time.monotonic() - since)
                accepted.append(i)
                i, since = i + 1, time.monotonic()
            else:
                stop.wait(0.02)
    thread = threading.Thread(target=journal)
    thread.start()
    wait_until(lambda: len(accepted) > 5, 10)
    holder = berth.session(session)["worker_id"]
    berth.stack.services.pop("coordinatord")  # nobody starts it again
    first.process.send_signal(number)
    if number != signal.SIGSTOP:
        first.process.wait()
    count = len(accepted)
    killed = time.monotonic()
    try:
        wait_until(lambda: len(accepted) > count + 5, 20, lambda: f"the standby to serve\n{log.read_text()}\n{berth.logs()}")
    except AssertionError:
        first.process.kill()
        raise
    print(f"took over after {time.monotonic() - killed:.2f} s, longest gap of the writer {longest[0]:.2f} s")
    if longest[0] >= 5:
        first.process.kill()
    assert longest[0] < 5, f"{log.read_text()}\n{berth.logs()}"
    if number == signal.SIGSTOP:
        wait_until(lambda: len(stream.updates) > len(berth.events(session)) - 2, 20, "the streams go on")
        count, sockets = len(accepted), [p for p in berth.stack.run_dir.iterdir() if p.suffix == ".sock"]
        first.process.send_signal(signal.SIGCONT)
        assert first.process.wait(20) != 0, "the one that woke up ends itself"
        wait_until(lambda: len(accepted) > count + 5, 20, "the new one goes on")
        assert all(p.exists() for p in sockets), "and leaves the sockets of the new one alone"
    berth.stack.start(first)  # back again: it waits
    berth.wait_status(session, "idle", seconds=60)
    stop.set()
    thread.join()
    events = berth.events(session)
    assert_gap_free(events)
    assert [text_of(e) for e in events if e["event_type"] == "post_tool"] == [str(i + 1) for i in range(10)]
    assert not [e for e in events if e["event_type"] == "status" and e["to"] == "queued"], "the session was restarted"
    assert berth.session(session)["worker_id"] == holder
    watched = berth.events("watch")
    assert_gap_free(watched)
    assert [e["message"] for e in watched if e["event_type"] == "log"] == [str(i) for i in accepted]
    wait_until(lambda: len(stream.updates) >= len(events), 10)
    stream.stop()
    stream.assert_whole(events)
    assert berth.sql("SELECT term FROM core.hub") == "2"


def every_route(berth, session):
    for path, item in OPENAPI["paths"].items():
        for method, operation in item.items():
            if operation.get("security") == [] or path in ("/status", "/tickets", "/ready", "/metrics", "/me"):
                continue
            body = {}
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]
                if "multipart/form-data" in content:
                    body = {"files": {"file": ("a.txt", b"x")}}
                elif path == "/events":
                    body = {"json": {"session_id": session, "event_type": "log", "message": "m"}}
                elif path.endswith("/messages"):
                    body = {"json": {"content": "hello"}}
                elif path.endswith("/content"):
                    body = {"data": b"x", "headers": {"Content-Type": "text/plain"}}
                else:
                    body = {"json": {}}
            if path == "/ws":
                body["headers"] = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
            if path.endswith("/stream"):
                body["headers"] = {"Accept": "text/event-stream"}
            yield method.upper(), path.replace("{id}", session).replace("{digest}", "0" * 64), body


def signal_all(service, number):
    """The postmaster and all its processes."""
    os.kill(service.process.pid, number)
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rsplit(")", 1)[1].split()[1]) == service.process.pid:
                os.kill(int(path.parent.name), number)
        except (OSError, IndexError):
            pass


def outage(berth, session, seconds):
    """Every route while the database is away: 503 with Retry-After, quickly; answers that need no database are fine."""
    slowest, bad = (0, ""), []
    for method, path, body in every_route(berth, session):
        began = time.monotonic()
        try:
            reply = berth.call(method, path, timeout=15, **body)
            took, code, retry = time.monotonic() - began, reply.status_code, reply.headers.get("Retry-After")
        except requests.RequestException as e:
            took, code, retry = time.monotonic() - began, repr(e), None
        slowest = max(slowest, (took, f"{method} {path}"))
        fine = (code == 503 and retry) or (isinstance(code, int) and code in (400, 404, 409, 415, 426))
        if not fine or took > seconds:
            bad.append(f"{method} {path}: {code} Retry-After {retry} after {took:.2f} s")
    print(f"slowest {slowest[1]}: {slowest[0]:.2f} s")
    return bad


def test_database_away(own_berth):
    """Stopped and frozen: 503 within 2 s on every route; the running session waits and goes on; nothing is lost."""
    berth = own_berth(workers=1)
    session = berth.create(STEPS)["session_id"]
    stream = SessionStream(berth, session)
    wait_until(lambda: len(stream.updates) > 6, 30)
    service = berth.stack.services["postgres"]
    signal_all(service, signal.SIGSTOP)
    try:
        frozen = outage(berth, session, 2.2)
    finally:
        signal_all(service, signal.SIGCONT)
    wait_until(lambda: berth.call("GET", "/sessions").status_code == 200, 20)
    service.process.send_signal(signal.SIGINT)
    service.process.wait()
    away = outage(berth, session, 2.2)
    berth.stack.start(service)
    wait_until(lambda: berth.call("GET", f"/sessions/{session}").status_code == 200, 20)
    berth.wait_status(session, "idle", "running", seconds=30)
    if berth.session(session)["status"] == "running":
        berth.wait_status(session, "idle", seconds=60)
    events = berth.events(session)
    assert_gap_free(events)
    assert [text_of(e) for e in events if e["event_type"] == "post_tool"] == [str(i + 1) for i in range(10)]
    wait_until(lambda: len(stream.updates) >= len(events), 15)
    stream.stop()
    stream.assert_whole(events)
    assert not away, away
    assert not frozen, frozen
