"""Events by month, retention, readers whose position is gone (410), and the upgrade of an existing database."""
import json
import subprocess
import time

import pytest
import requests
import websocket

from conftest import ROOT, assert_gap_free, wait_until


def post(berth, session, count, start=False):
    events = ([{"session_id": session, "event_type": "session_start"}] if start else []) + [{"session_id": session, "event_type": "log", "message": f"m{i}"} for i in range(count)]
    for at in range(0, len(events), 100):
        berth.call("POST", "/events", 201, json=events[at:at + 100])


def stream(berth, path):
    return websocket.create_connection(berth.url(path).replace("http", "ws"), timeout=10, header=[f"Authorization: {berth.http.headers['Authorization']}"])


def gone(reply, oldest):
    assert reply.status_code == 410 and reply.json()["error"]["code"] == "gone", (reply.status_code, reply.text)
    assert reply.json()["error"]["oldest_available"] == oldest


def test_retention_is_never_silent(own_berth):
    berth = own_berth(workers=1, settings={"coordinatord": {"events_keep": "4s"}})
    post(berth, "old", 250, start=True)
    first = berth.events("old")
    assert_gap_free(first)
    behind = stream(berth, "/ws?after=0") if first[0]["id"] == 1 else None
    wait_until(lambda: berth.sql("SELECT count(*) FROM core.event WHERE session_id = 'old'") == "0", 30, "the events to expire")
    post(berth, "old", 3)
    berth.call("POST", "/events", 201, json={"session_id": "new", "event_type": "session_start"})
    last = berth.session("old")["last_seq"]
    expired = int(berth.sql("SELECT id FROM core.event_expired"))
    assert last == 254 and expired >= first[-1]["id"]
    for path in ("/events/old?after_seq=0", "/events/old?after_seq=250", "/events/old?cursor=7&limit=5"):
        gone(berth.call("GET", path), 252)
    assert [e["seq"] for e in berth.call("GET", "/events/old?after_seq=251", 200).json()["events"]] == [252, 253, 254]
    assert [e["seq"] for e in berth.call("GET", "/events/old", 200).json()["events"]] == [252, 253, 254], "without a position it begins with what there is"
    gone(berth.call("GET", "/events?after=0"), expired + 1)
    gone(berth.call("GET", f"/events?after={expired - 1}"), expired + 1)
    berth.call("GET", f"/events?after={expired}", 200)
    # Streams.
    sse = {"Accept": "text/event-stream"}
    gone(berth.call("GET", "/sessions/old/stream?after_seq=10", headers=sse), 252)
    gone(berth.call("GET", "/sessions/old/stream", headers={**sse, "Last-Event-ID": "10"}), 252)
    for path in ("/sessions/old/stream?after_seq=10", "/ws?after=0"):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            stream(berth, path)
        assert refused.value.status_code == 410
    ws = stream(berth, "/sessions/old/stream")
    assert [json.loads(ws.recv())["seq"] for _ in range(3)] == [252, 253, 254]
    ws.close()
    if behind:
        behind.close()
    error = berth.call("POST", "/sessions/old/fork", json={"after_seq": 5})
    assert error.status_code == 409  # of an agent elsewhere


def test_stream_that_falls_behind_retention_is_told(own_berth):
    """A reader of the past that stops reading while its next events expire gets `gone`, not a hole."""
    berth = own_berth(workers=1, settings={"coordinatord": {"events_keep": "14s"}})
    post(berth, "s", 1, start=True)
    # 19 MB: more than queue and socket buffers hold, so the stream waits with its reading.
    for i in range(40):
        berth.call("POST", "/events", 201, json=[{"session_id": "s", "event_type": "log", "message": "x" * 60000, "data": i} for _ in range(8)])
    streams = [stream(berth, path) for path in ("/sessions/s/stream", "/ws?after=1")]
    for ws in streams:
        assert json.loads(ws.recv())["type"] in ("status", "init")
    wait_until(lambda: berth.sql("SELECT count(*) FROM core.event WHERE session_id = 's'") == "0", 60, "the events to expire")
    for ws in streams:
        seen, last = 1, json.loads(ws.recv())
        while last["type"] in ("log", "event", "status"):
            assert last.get("event", last)["seq"] == seen + 1
            seen, last = seen + 1, json.loads(ws.recv())
        assert last["type"] == "gone" and last["oldest_available"] >= 323, last
        ws.shutdown()


def test_partitions(own_berth):
    """This month and the next two are there; a month that is over is dropped whole; a clock far off has a place, too."""
    berth = own_berth(workers=1)
    post(berth, "s", 5, start=True)
    names = berth.sql("SELECT string_agg(name, ' ' ORDER BY upper_at) FROM core.event_partition").split()
    assert names[0] == "event_before" and len(names) == 3
    berth.sql("SELECT core.event_partition_add(now() + interval '7 months')")
    assert berth.sql("SELECT core.event_partition_add(now() + interval '7 months')") == "f"
    old = "SELECT id + 1000, 'x', seq, tenant, event_type, now() + interval '7 months', json, idem, span FROM core.event WHERE session_id = 's'"
    berth.sql(f"INSERT INTO core.event {old}")
    berth.sql("INSERT INTO core.event SELECT id + 2000, 'y', seq, tenant, event_type, '2099-01-01', json, idem, span FROM core.event WHERE session_id = 's'")
    assert berth.sql("SELECT count(*) FROM core.event_other") == "6"
    assert berth.sql("SELECT core.event_partition_add('2099-01-15')") == "f", "rows of that month are elsewhere already"
    assert berth.sql("SELECT core.event_expire(now() + interval '9 months', 100)") == "1"
    assert berth.sql("SELECT count(*) FROM core.event WHERE session_id = 's'") == "0"
    for _ in range(3):
        berth.sql("SELECT core.event_expire(now() + interval '9 months', 100)")
    assert berth.sql("SELECT string_agg(name, ' ') FROM core.event_partition") == ""
    assert berth.sql("SELECT count(*) FROM core.event") == "6"
    assert berth.sql("SELECT core.event_expire('2100-01-01', 4)") == "4"
    assert berth.sql("SELECT core.event_expire('2100-01-01', 4)") == "2"
    assert berth.sql("SELECT core.event_expire('2100-01-01', 4)") == "0"
    assert berth.sql("SELECT id FROM core.event_expired") == berth.sql("SELECT 2000 + 6")


def test_a_database_of_the_first_release_is_upgraded(postgres):
    """Migration 0002 on data that 0001 holds: everything is readable, numbers go on."""
    password = postgres.secret("db-coordinatord").read_text().strip()

    def psql(text):
        return subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", str(postgres.run_dir), "-U", "berth_coordinatord", "berth"], input=text, text=True,
                              check=True, capture_output=True, env={"PGPASSWORD": password, "PATH": "/usr/bin:/bin"}).stdout.strip()
    psql((ROOT / "coordinatord/sql/0001_core.sql").read_text())
    psql("CREATE TABLE core.migration (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());"
         "INSERT INTO core.migration VALUES (1, 'core')")
    psql("INSERT INTO core.session (session_id, tenant, status, kind, created_at, modified_at, queued_at, last_seq) "
         "VALUES ('before', 'default', 'running', 'external', now(), now(), now(), 500);"
         "INSERT INTO core.event SELECT n, 'before', n, 'default', 'log', now() - (500 - n) * interval '1 day', "
         "'{\"id\":' || n || ',\"session_id\":\"before\",\"seq\":' || n || ',\"event_type\":\"log\",\"message\":\"old\"}', NULL, NULL FROM generate_series(1, 500) n;"
         "UPDATE core.hub SET cursor = 500")
    began = time.monotonic()
    services = {s.name: s for s in postgres.daemon_services()}
    for name in ("coordinatord", "gatewayd"):
        postgres.start(services[name])
    token = postgres.state / "secrets" / "admin-token"
    wait_until(lambda: token.exists() and token.stat().st_size > 10, 20, lambda: postgres.log_tail("coordinatord"))
    headers = {"Authorization": f"Bearer {postgres.token}"}

    def up():
        try:
            return requests.get(postgres.url + "/ready", timeout=5).json()["coordinator"] and requests.get(postgres.url + "/sessions/before", headers=headers, timeout=5).ok
        except requests.RequestException:
            return False
    wait_until(up, 20)
    print(f"up after {time.monotonic() - began:.1f} s")
    reply = requests.post(postgres.url + "/events", headers=headers, timeout=10, json={"session_id": "before", "event_type": "log", "message": "new"})
    assert reply.status_code == 201 and reply.json() == {"id": 501, "session_id": "before", "seq": 501}, reply.text
    seen, after = [], 0
    while page := requests.get(postgres.url + f"/events/before?after_seq={after}&limit=200", headers=headers, timeout=10).json()["events"]:
        seen += page
        after = page[-1]["seq"]
    assert_gap_free(seen)
    assert len(seen) == 501
    assert psql("SELECT max(number) FROM core.migration") == str(len(list((ROOT / "coordinatord" / "sql").glob("*.sql"))))
    for name in ("gatewayd", "coordinatord"):
        postgres.stop_service(postgres.services[name])
