"""coordinatord by its sockets: Python plays gateways and workers, PostgreSQL and the daemon are real."""
import hashlib
import json
import os
import pathlib
import queue
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid

import pytest

import coordinator_rig as rig
from coordinator_rig import Refused, wait_until

BUILD = pathlib.Path(os.environ.get("BERTH_BUILD", rig.ROOT / "build"))


@pytest.fixture(scope="module")
def cluster():
    c = rig.Cluster()
    yield c
    c.close()


@pytest.fixture(scope="module")
def program():
    """A copy, so that a rebuild meanwhile does not change what is tested."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-bin-"))
    yield pathlib.Path(shutil.copy2(BUILD / "coordinatord" / "coordinatord", folder))
    shutil.rmtree(folder)


@pytest.fixture
def make(cluster, program):
    made = []
    cluster.reset()

    def one(start=True, **settings):
        c = rig.Coordinator(cluster, program, **settings)
        made.append(c)
        return c.start() if start else c
    yield one
    for c in made:
        c.close()
    check_store(cluster)


@pytest.fixture
def c(make):
    return make()


@pytest.fixture
def faults(program):
    if b"BERTH_CRASH_AT" not in program.read_bytes():
        pytest.skip("built without -Dfaults=true")


def check_store(cluster):
    """I2 for whatever the test did: gap-free seqs, rows that agree with their JSON, sessions that agree with their events."""
    assert cluster.sql("SELECT session_id FROM core.event GROUP BY 1 HAVING max(seq) <> count(*) OR min(seq) <> 1") == []
    assert cluster.sql("SELECT id FROM core.event WHERE (json::json ->> 'id')::bigint <> id OR (json::json ->> 'seq')::bigint <> seq") == []
    assert cluster.sql("SELECT s.session_id FROM core.session s WHERE s.last_seq <> (SELECT count(*) FROM core.event e WHERE e.session_id = s.session_id)") == []
    assert cluster.sql("SELECT 1 FROM core.hub WHERE cursor < (SELECT COALESCE(max(id), 0) FROM core.event)") == []


def events(cluster, session_id):
    return [json.loads(r[0]) for r in cluster.sql("SELECT json FROM core.event WHERE session_id = %s ORDER BY seq", args=(session_id,))]


def kinds(cluster, session_id):
    return [e["event_type"] + (":" + e["to"] if e["event_type"] == "status" else "") for e in events(cluster, session_id)]


def session(cluster, session_id):
    rows = cluster.sql("SELECT core.session_json(s) FROM core.session s WHERE session_id = %s", args=(session_id,))
    return json.loads(rows[0][0]) if rows else None


def wait_status(cluster, session_id, *wanted, seconds=10):
    return wait_until(lambda: (s := session(cluster, session_id))["status"] in wanted and s, seconds,
                      lambda: f"{wanted}: {session(cluster, session_id)} {kinds(cluster, session_id)}")


def message(text, role="assistant"):
    return "message", {"role": role, "content": [{"type": "text", "text": text}], "message_id": uuid.uuid4().hex}


# --- the ordinary way ---------------------------------------------------------------------------


def test_create_run_idle_message_stop(c, cluster):
    gw, bus = c.gateway(), c.bus().synced()
    s = gw.create("hello", session_name="first", agent_name="a", metadata='{"k": 1}', width=800, height=600)
    assert s["status"] == "queued" and s["session_name"] == "first" and s["metadata"] == {"k": 1} and s["last_seq"] == 2
    assert s["stream_url"] == f"/sessions/{s['session_id']}/stream" and s["vnc_url"] is None and s["error"] is None
    sid = s["session_id"]
    w = c.worker()
    a = w.take()
    assert (a["session_id"], a["epoch"], a["last_seq"], a["width"]) == (sid, 1, 3, 800)
    page = w.call("history_get", session_id=sid, epoch=1, after_seq=0, limit=200)
    assert [json.loads(e)["event_type"] for e in page["events"]] == ["session_start", "message", "status"] and not page["more"]
    picture = b"\x89PNG" + os.urandom(5000)
    digest = hashlib.sha256(picture).hexdigest()
    assert w.append(to_state="running")["last_seq"] == 4
    r = w.append(("thinking", {"content": "hm"}), message("hi"), to_state="idle", reason="done", if_last_message_seq=2,
                 attachments=[{"digest": digest, "media_type": "image/png", "data": picture}],
                 usage={"input_tokens": 10, "output_tokens": 5, "cache_read_tokens": 0, "cache_write_tokens": 0, "cost_microusd": 1500, "turns": 1})
    assert r == {"first_seq": 5, "last_seq": 7, "replayed": False}
    got = w.call("attachment_get", session_id=sid, epoch=1, digest=digest)
    assert got["data"] == picture
    s = session(cluster, sid)
    assert s["status"] == "idle" and s["worker_id"] == "w1" and s["usage"]["cost_usd"] == 0.0015 and s["usage"]["turns"] == 1
    wait_until(lambda: session(cluster, sid)["slot"]["width"] == 800)
    posted = gw.post(sid, "again")
    assert posted["seq"] == 8 and w.notified.get(timeout=5)["seq"] == 8
    assert session(cluster, sid)["status"] == "running"
    with pytest.raises(Refused) as e:
        w.append(message("late"), to_state="idle", if_last_message_seq=2)
    assert e.value.code == "conflict"
    start = time.monotonic()
    gw.stop(sid)
    assert time.monotonic() - start < 1
    assert w.cancelled.get(timeout=1)["reason"] == "stop"
    s = session(cluster, sid)
    assert s["status"] == "stopped" and s["worker_id"] is None and s["slot"]["state"] is None
    with pytest.raises(Refused) as e:
        gw.stop(sid)
    assert e.value.code == "conflict"
    assert kinds(cluster, sid) == ["session_start", "message", "status:starting", "status:running", "thinking", "message", "status:idle",
                                   "message", "status:running", "status:stopped", "session_stop"]
    bus.wait(lambda n, b: n == "bus_event" and b["event_type"] == "session_stop")
    bus.wait(lambda n, b: n == "bus_session_updated" and json.loads(b["json"])["status"] == "stopped")
    published = [b for n, b in bus.seen if n == "bus_event"]
    assert [b["seq"] for b in published] == list(range(1, 12))
    assert [json.loads(b["json"]) for b in published] == events(cluster, sid)


def test_message_to_a_stopped_session_runs_it_again(c, cluster):
    gw, w = c.gateway(), c.worker()
    sid = gw.create("one")["session_id"]
    w.take()
    w.append(to_state="running")
    gw.stop(sid)
    wait_until(lambda: w.session is None)
    gw.post(sid, "two")
    a = w.take()
    assert a["session_id"] == sid and a["epoch"] == 3
    assert session(cluster, sid)["status"] == "starting"


def test_desktop_session_without_message_gets_a_slot(c, cluster):
    gw, w = c.gateway(), c.worker()
    s = gw.create(kind="desktop")
    assert s["vnc_url"] == f"/sessions/{s['session_id']}/vnc"
    w.take()
    w.append(to_state="idle", reason="no message yet", if_last_message_seq=0)
    assert session(cluster, s["session_id"])["status"] == "idle"


def test_finished_and_failed_let_the_worker_go(c, cluster):
    gw, w = c.gateway(), c.worker()
    for state, code in (("finished", None), ("failed", "model_refused")):
        sid = gw.create("x")["session_id"]
        w.take()
        w.append(to_state="running")
        items = [("error", {"code": code, "message": "no"})] if code else []
        w.append(*items, to_state=state, reason="so it is")
        s = session(cluster, sid)
        assert s["status"] == state and s["worker_id"] is None
        assert s["error"] == ({"code": code, "message": "no"} if code else None)
        wait_until(lambda: w.session is None)
        assert kinds(cluster, sid)[-2:] == [f"status:{state}", "session_stop"]


def test_external_sessions_are_never_scheduled(c, cluster):
    gw, w = c.gateway(), c.worker()
    s = gw.create("x", kind="external", session_id="my.agent-1")
    assert s["session_id"] == "my.agent-1" and s["status"] == "running" and s["slot"] is None
    with pytest.raises(Refused) as e:
        gw.create(kind="external", session_id="my.agent-1")
    assert e.value.code == "conflict"
    with pytest.raises(Refused) as e:
        gw.create(kind="headless", session_id="other")
    assert e.value.code == "bad_request"
    gw.stop("my.agent-1")
    gw.post("my.agent-1")
    assert session(cluster, "my.agent-1")["status"] == "running"
    with pytest.raises(queue.Empty):
        w.take(timeout=0.3)


def test_patch_merges(c, cluster):
    gw, bus = c.gateway(), c.bus().synced()
    sid = gw.create(metadata='{"a": 1, "b": {"c": 2}}')["session_id"]
    r = gw.call("session_patch", tenant="default", session_id=sid, session_name="new", metadata='{"a": null, "d": "ü"}')
    s = json.loads(r["session_json"])
    assert s["session_name"] == "new" and s["metadata"] == {"b": {"c": 2}, "d": "ü"} and s["last_seq"] == 1
    bus.wait(lambda n, b: n == "bus_session_updated" and json.loads(b["json"])["session_name"] == "new")
    for more in ({"session_id": "nope"}, {"session_id": sid, "tenant": "other"}):
        with pytest.raises(Refused) as e:
            gw.call("session_patch", **{"tenant": "default", **more})
        assert e.value.code == "not_found"
    with pytest.raises(Refused) as e:
        gw.call("session_patch", tenant="default", session_id=sid, metadata="[1]")
    assert e.value.code == "bad_request"


def test_delete_removes_everything(c, cluster):
    gw, w, bus = c.gateway(), c.worker(), c.bus().synced()
    sid = gw.create("x", idempotency_key="k")["session_id"]
    w.take()
    w.append(to_state="running")
    data = os.urandom(100)
    w.append(*[message(str(i)) for i in range(64)],
             attachments=[{"digest": hashlib.sha256(data).hexdigest(), "media_type": "image/png", "data": data}])
    gw.delete(sid)
    assert w.cancelled.get(timeout=1)["reason"] == "delete"
    assert session(cluster, sid) is None
    bus.wait(lambda n, b: n == "bus_session_deleted" and b["session_id"] == sid)
    wait_until(lambda: cluster.sql("SELECT (SELECT count(*) FROM core.event) + (SELECT count(*) FROM core.attachment) + "
                                   "(SELECT count(*) FROM core.purge) + (SELECT count(*) FROM core.idempotency)") == [(0,)])
    with pytest.raises(Refused) as e:
        gw.delete(sid)
    assert e.value.code == "not_found"
    with pytest.raises(Refused) as e:
        w.append(message("x"), session=sid, epoch=1)
    assert e.value.code == "stale_epoch"


def test_idempotency_key(c, cluster):
    gw = c.gateway()
    first = gw.create("x", idempotency_key="k1", request_digest="d1")
    r = gw.call("session_create", tenant="default", kind="headless", idempotency_key="k1", request_digest="d1")
    assert r["replayed"] and json.loads(r["session_json"])["session_id"] == first["session_id"]
    with pytest.raises(Refused) as e:
        gw.create("y", idempotency_key="k1", request_digest="d2")
    assert e.value.code == "conflict"
    a = gw.post(first["session_id"], "m", idempotency_key="k1")
    b = gw.post(first["session_id"], "m", idempotency_key="k1")
    assert a["message_id"] == b["message_id"] and a["seq"] == b["seq"] and b["replayed"] and not a["replayed"]
    many = [gw.begin("session_create", tenant="default", kind="headless", idempotency_key="k9", request_digest="d") for _ in range(20)]
    ids = set()
    for m in many:
        try:
            ids.add(json.loads(gw.finish(m)["session_json"])["session_id"])
        except Refused as e:
            assert e.code == "conflict"
    assert len(ids) == 1 and cluster.sql("SELECT count(*) FROM core.session") == [(2,)]


def test_bad_appends_are_refused_whole(c, cluster):
    gw, w = c.gateway(), c.worker()
    sid = gw.create("x")["session_id"]
    w.take()
    w.append(to_state="running")
    before = kinds(cluster, sid)
    good = {"event_type": "log", "body": '{"level":"info"}'}
    bad = [dict(items=[]), dict(idem="a\x1fb"), dict(idem=""), dict(items=[good, {"event_type": "log", "body": "[]"}]),
           dict(items=[good, {"event_type": "log", "body": '{"seq": 1}'}]), dict(items=[good, {"event_type": "log", "body": '{"a": 1'}]),
           dict(to_state="queued"), dict(to_state="stopped"), dict(attachments=[{"digest": "0" * 64, "media_type": "x", "data": b"1"}])]
    for change in bad:
        with pytest.raises(Refused) as e:
            w.call("event_append", **{"session_id": sid, "epoch": 1, "idem": "i", "items": [good], **change})
        assert e.value.code == "bad_request", change
    for change, code in ((dict(epoch=2), "stale_epoch"), (dict(epoch=0), "stale_epoch"), (dict(session_id="x"), "stale_epoch")):
        with pytest.raises(Refused) as e:
            w.call("event_append", **{"session_id": sid, "epoch": 1, "idem": "i", "items": [good], **change})
        assert e.value.code == code
    other = c.worker("w2")
    with pytest.raises(Refused) as e:
        other.append(("log", {"a": 1}), session=sid, epoch=1)
    assert e.value.code == "stale_epoch"
    assert kinds(cluster, sid) == before
    w.call("event_append", session_id=sid, epoch=1, idem="pretty", items=[{"event_type": "log", "body": '{\n "a":\t"x\\ny"\n}'}])
    text = cluster.sql("SELECT json FROM core.event WHERE idem = 'pretty'")[0][0]
    assert "\n" not in text and json.loads(text)["a"] == "x\ny"


def test_append_is_idempotent_also_after_a_restart(c, cluster):
    gw, w = c.gateway(), c.worker()
    sid = gw.create("x")["session_id"]
    w.take()
    first = w.append(message("one"), to_state="running", idem="i1")
    again = w.append(message("one"), to_state="running", idem="i1")
    assert again == {**first, "replayed": True}
    c.kill()
    c.start()
    wait_until(lambda: w.ups == 2 and w.keep and session(cluster, sid)["worker_id"] == "w1")
    wait_until(lambda: _try(lambda: w.append(message("one"), to_state="running", idem="i1")) == {**first, "replayed": True})
    assert w.append(message("two"), idem="i2")["first_seq"] == first["last_seq"] + 1


def _try(f):
    try:
        return f()
    except (Refused, queue.Empty) as e:
        return e


# --- queue and slots ----------------------------------------------------------------------------


def test_first_come_first_served_and_eviction_of_idle(c, cluster):
    gw, w = c.gateway(), c.worker()
    ids = [gw.create(str(i))["session_id"] for i in range(4)]
    for sid in ids:
        a = w.take()
        assert a["session_id"] == sid
        w.append(to_state="running")
        w.append(message("done"), to_state="idle", if_last_message_seq=2)
    assert [w.cancelled.get(timeout=1)["reason"] for _ in range(3)] == ["idle"] * 3
    for sid in ids:
        s = session(cluster, sid)
        assert s["status"] == "idle" and s["worker_id"] == ("w1" if sid == ids[3] else None)
    assert cluster.sql("SELECT count(*) FROM core.event WHERE event_type = 'session_stop'") == [(0,)]


def test_running_sessions_are_not_evicted(c, cluster):
    gw, w = c.gateway(), c.worker()
    first = gw.create("1")["session_id"]
    w.take()
    w.append(to_state="running")
    second = gw.create("2")["session_id"]
    with pytest.raises(queue.Empty):
        w.take(timeout=1)
    assert session(cluster, second)["status"] == "queued" and session(cluster, first)["status"] == "running"
    gw.stop(first)
    assert w.take()["session_id"] == second


def test_kinds_are_respected(c):
    gw = c.gateway()
    vm = gw.create("x", kind="vm")["session_id"]
    desk = gw.create("x", kind="desktop")["session_id"]
    w = c.worker("w1", kinds=["desktop"], kind="desktop")
    assert w.take()["session_id"] == desk
    v = c.worker("w2", kinds=["vm"], kind="vm")
    assert v.take()["session_id"] == vm


def test_refusing_worker_gets_a_pause_and_the_session_another(c, cluster):
    gw = c.gateway()
    bad = c.worker("bad", refuse="slot is broken")
    sid = gw.create("x")["session_id"]
    wait_until(lambda: "status:queued" in kinds(cluster, sid))
    good = c.worker("good")
    assert good.take()["session_id"] == sid
    reasons = [e.get("reason", "") for e in events(cluster, sid)]
    assert any("slot is broken" in r for r in reasons)
    assert bad.session is None


def test_losses_are_limited(make, cluster):
    c = make(losses_max=2)
    gw = c.gateway()
    c.worker("bad", refuse="no")
    sid = gw.create("x")["session_id"]
    s = wait_status(cluster, sid, "failed")
    assert s["error"]["code"] == "worker_lost" and kinds(cluster, sid)[-1] == "session_stop"
    gw.post(sid)
    assert session(cluster, sid)["status"] in ("queued", "starting")


def test_queue_limit(make):
    gw = make(sessions_queued_max=3).gateway()
    ids = [gw.create("x")["session_id"] for _ in range(3)]
    with pytest.raises(Refused) as e:
        gw.create("x")
    assert e.value.code == "rate_limited"
    gw.post(ids[0])
    gw.stop(ids[0])
    gw.create("x")
    with pytest.raises(Refused) as e:
        gw.post(ids[0])
    assert e.value.code == "rate_limited"


def test_drain(c, cluster):
    gw, w = c.gateway(), c.worker()
    gw.call("worker_drain", worker_id="w1")
    wait_until(lambda: cluster.sql("SELECT draining FROM core.worker") == [(True,)])
    gw.create("x")
    with pytest.raises(queue.Empty):
        w.take(timeout=0.5)
    with pytest.raises(Refused) as e:
        gw.call("worker_drain", worker_id="nope")
    assert e.value.code == "not_found"


def test_worker_rows(c, cluster):
    gw, w = c.gateway(), c.worker("w7", kinds=["headless"])
    sid = gw.create("x")["session_id"]
    w.take()
    row = ("w7", True, "busy", ["headless"], sid, "/run/w7.sock")
    wait_until(lambda: cluster.sql("SELECT worker_id, online, state, kinds, session_id, endpoint FROM core.worker") == [row])
    w.close()
    wait_until(lambda: cluster.sql("SELECT online FROM core.worker") == [(False,)], 15)


# --- leases and fencing -------------------------------------------------------------------------


def test_silent_worker_loses_its_session_and_is_fenced(c, cluster):
    gw, w1 = c.gateway(), c.worker("w1")
    sid = gw.create("x")["session_id"]
    w1.take()
    w1.append(to_state="running")
    w1.mute, w1.obey = True, False
    start = time.monotonic()
    w2 = c.worker("w2")
    a = w2.take(timeout=15)
    assert 1 < time.monotonic() - start < 5
    assert a["session_id"] == sid and a["epoch"] == 3
    with pytest.raises(Refused) as e:
        w1.append(message("ghost"), session=sid, epoch=1)
    assert e.value.code == "stale_epoch"
    assert w1.cancelled.get(timeout=2)["reason"] == "fenced"
    assert w1.heartbeat()["keep"] is False
    assert w2.append(to_state="running")["first_seq"] == a["last_seq"] + 1
    assert "worker lost" in [e.get("reason") for e in events(cluster, sid)]
    w1.obey = True
    w1.drop()
    w1.mute = False
    gw.create("y")
    assert w1.take()


def test_restarted_worker_requeues_at_once(c, cluster):
    gw, w1 = c.gateway(), c.worker("w1")
    sid = gw.create("x")["session_id"]
    w1.take()
    w1.append(to_state="running")
    w1.mute = True
    w1.close()
    start = time.monotonic()
    again = c.worker("w1")
    assert again.take()["session_id"] == sid
    assert time.monotonic() - start < 1.5


def test_idle_session_only_loses_its_slot(c, cluster):
    gw, w1 = c.gateway(), c.worker("w1")
    sid = gw.create("x")["session_id"]
    w1.take()
    w1.append(message("done"), to_state="idle", if_last_message_seq=2)
    w1.close()
    wait_until(lambda: session(cluster, sid)["worker_id"] is None)
    assert session(cluster, sid)["status"] == "idle"
    w2 = c.worker("w2")
    gw.post(sid)
    assert w2.take()["session_id"] == sid


def test_two_workers_with_one_id(c, cluster):
    gw, w1 = c.gateway(), c.worker("w1")
    sid = gw.create("x")["session_id"]
    w1.take()
    w1.obey = False
    twin = c.worker("w1")
    a = twin.take()
    assert a["session_id"] == sid and a["epoch"] == 3
    for attempt in (lambda: w1.append(message("x"), session=sid, epoch=1), lambda: w1.heartbeat()):
        with pytest.raises((Refused, queue.Empty)):
            attempt()
    assert twin.append(to_state="running")


def test_worker_that_forgot_its_session(c, cluster):
    gw, w1 = c.gateway(), c.worker("w1")
    sid = gw.create("x")["session_id"]
    w1.take()
    wait_until(lambda: w1.heartbeat()["keep"])
    w1.drop()
    a = w1.take()
    assert a["session_id"] == sid and a["epoch"] == 3


def test_stop_of_a_dead_worker_answers_at_once(c, cluster):
    gw, w1 = c.gateway(), c.worker("w1")
    sid = gw.create("x")["session_id"]
    w1.take()
    w1.append(to_state="running")
    w1.mute, w1.obey = True, False
    w1.closing = True
    start = time.monotonic()
    gw.stop(sid)
    assert time.monotonic() - start < 1 and session(cluster, sid)["status"] == "stopped"


def test_stop_fences_what_the_worker_still_says(c, cluster):
    """F23: whatever the worker had on its way, nothing comes after session_stop."""
    gw = c.gateway()
    workers = [c.worker(f"w{i}") for i in range(2)]
    for round in range(20):
        sid = gw.create("x")["session_id"]
        w = wait_until(lambda: next((w for w in workers if w.session == sid), None))
        epoch = w.epoch
        w.append(to_state="running")
        flying = [w.begin("event_append", session_id=sid, epoch=epoch, idem=f"{round}.{i}", items=[{"event_type": "log", "body": '{"a":1}'}])
                  for i in range(30)]
        time.sleep(random.random() * 0.01)
        gw.stop(sid)
        for f in flying:
            _try(lambda f=f: w.finish(f))
        assert kinds(cluster, sid)[-1] == "session_stop"
        assert kinds(cluster, sid).count("session_stop") == 1


def test_stop_while_the_assignment_is_on_its_way(c, cluster):
    gw, w = c.gateway(), c.worker()
    for _ in range(30):
        sid = gw.create("x")["session_id"]
        time.sleep(random.random() * 0.01)
        gw.stop(sid)
        assert session(cluster, sid)["status"] == "stopped"
        wait_until(lambda: w.session is None, 1, "the worker lets go")
    gw.create("last")
    assert wait_until(lambda: w.session)


# --- restarts and faults ------------------------------------------------------------------------


def test_restart_keeps_leases(c, cluster):
    gw, w = c.gateway(), c.worker()
    sid = gw.create("x")["session_id"]
    w.take()
    w.append(to_state="running")
    for _ in range(3):
        ups = w.ups
        c.kill()
        c.start()
        wait_until(lambda: w.ups > ups and w.keep and _try(w.heartbeat) and w.session == sid)
        assert wait_until(lambda: not isinstance(r := _try(lambda: w.append(message("go on"))), Exception) and r)
    assert session(cluster, sid)["status"] == "running"
    assert "status:queued" not in kinds(cluster, sid)


def test_lost_notice_of_a_message_heals(c, cluster):
    gw, w = c.gateway(), c.worker()
    sid = gw.create("x")["session_id"]
    w.take()
    w.append(message("done"), to_state="idle", if_last_message_seq=2)
    seq = gw.post(sid)["seq"]
    assert w.notified.get(timeout=5)["seq"] == seq
    assert w.heartbeat()["last_message_seq"] == seq
    c.kill()
    c.start()
    assert w.notified.get(timeout=10) == {"session_id": sid, "epoch": 1, "seq": seq, "session_state": "running"}


def test_history_comes_in_pages(c, cluster):
    """By count and by size: everything once, in order, also an event that is larger than a page."""
    gw, w = c.gateway(), c.worker()
    sid = gw.create("x")["session_id"]
    w.take()
    for size in (10, 3_000_000, 3_000_000, 4_190_000, 1):
        w.append(("log", {"text": "x" * size}), to_state="running")
    for _ in range(5):
        w.append(*[("log", {"text": "y"})] * 50)
    seqs, pages, more = [], 0, True
    while more:
        page = w.call("history_get", session_id=sid, epoch=1, after_seq=seqs[-1] if seqs else 0, limit=200)
        seqs += [json.loads(e)["seq"] for e in page["events"]]
        more, pages = page["more"], pages + 1
    assert seqs == [e["seq"] for e in events(cluster, sid)] and pages >= 4
    with pytest.raises(Refused) as e:
        w.call("history_get", session_id=sid, epoch=1, after_seq=0, limit=201)
    assert e.value.code == "bad_request"


def test_one_refused_append_does_not_hold_up_others(c, cluster):
    """Content that only the database refuses: the hub reads the sessions again and goes on with the rest."""
    gw, w1, w2 = c.gateway(), c.worker("w1"), c.worker("w2")
    gw.create("x"), gw.create("y")
    wait_until(lambda: w1.session and w2.session)
    cluster.sql("ALTER TABLE core.event ADD CONSTRAINT no_poison CHECK (json NOT LIKE '%%poison%%')")
    flying = [(i, w, w.begin("event_append", session_id=w.session, epoch=w.epoch, idem=f"i{i}",
                             items=[{"event_type": "log", "body": json.dumps({"n": i, "text": "poison" if i == 20 else "good"})}]))
              for i in range(60) for w in (w1, w2) if i != 20 or w is w1]
    for i, w, f in flying:
        if i == 20:
            with pytest.raises(Refused) as e:
                w.finish(f)
            assert e.value.code == "internal"
        else:
            w.finish(f)
    numbers = [e["n"] for e in events(cluster, w1.session) if e["event_type"] == "log"]
    assert numbers == [i for i in range(60) if i != 20]


def test_restart_requeues_what_its_worker_lost(c, cluster):
    gw, w = c.gateway(), c.worker()
    sid = gw.create("x")["session_id"]
    w.take()
    w.append(to_state="running")
    c.kill()
    w.close()
    c.start()
    w2 = c.worker("w2")
    assert w2.take(timeout=6)["session_id"] == sid


def test_kill_at_random_loses_nothing(c, cluster):
    """F2: acknowledged appends are there, in order, once; unacknowledged ones are repeated with the same idem."""
    gw, w = c.gateway(), c.worker()
    sid = gw.create("x")["session_id"]
    w.take()
    w.append(to_state="running")
    done, acked = threading.Event(), {}

    def work():
        n = 0
        while not done.is_set():
            r = _try(lambda: w.append(("log", {"n": n}), idem=f"n{n}", session=sid, epoch=1, timeout=0.5))
            if isinstance(r, dict):
                acked[n] = r["first_seq"]
                n += 1
            elif isinstance(r, Refused) and r.code == "stale_epoch":
                return
    t = threading.Thread(target=work)
    t.start()
    for _ in range(8):
        time.sleep(random.uniform(0.2, 0.6))
        c.kill()
        c.start()
    before = len(acked)
    wait_until(lambda: len(acked) > before + 50)
    done.set()
    t.join()
    stored = {e["n"]: e["seq"] for e in events(cluster, sid) if e["event_type"] == "log"}
    assert {n: stored[n] for n in acked} == acked and len(stored) in (len(acked), len(acked) + 1)
    assert list(stored.values()) == sorted(stored.values())


def test_database_away(c, cluster):
    """F8, I9: clients hear 503 within 2 s; an append waits and is stored when the database is back."""
    gw, w = c.gateway(), c.worker()
    sid = gw.create("x")["session_id"]
    w.take()
    w.append(to_state="running")
    cluster.halt()
    flying = [w.begin("event_append", session_id=sid, epoch=1, idem=f"i{i}", items=[{"event_type": "log", "body": '{"a":1}'}]) for i in range(50)]
    for _ in range(3):
        start = time.monotonic()
        with pytest.raises(Refused) as e:
            gw.create("y")
        assert e.value.code == "unavailable" and time.monotonic() - start < 2
    time.sleep(2.5)
    cluster.start()
    seqs = [w.finish(f, 15)["first_seq"] for f in flying]
    assert seqs == list(range(seqs[0], seqs[0] + 50))
    wait_until(lambda: isinstance(_try(lambda: gw.create("y")), dict))
    assert session(cluster, sid)["status"] == "running", kinds(cluster, sid)


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_database_restarts_under_load(c, cluster, number):
    gw, w = c.gateway(), c.worker()
    sid = gw.create("x")["session_id"]
    w.take()
    w.append(to_state="running")
    flying = []
    for round in range(4):
        for i in range(200):
            flying.append(w.begin("event_append", session_id=sid, epoch=1, idem=f"{round}.{i}", items=[{"event_type": "log", "body": '{"a":1}'}]))
        time.sleep(random.random() * 0.03)
        cluster.halt(number)
        cluster.start()
    seqs = [w.finish(f, 20)["first_seq"] for f in flying]
    assert seqs == list(range(seqs[0], seqs[0] + 800))


def test_backends_are_killed_under_load(c, cluster):
    gw, w = c.gateway(), c.worker()
    sid = gw.create("x")["session_id"]
    w.take()
    w.append(to_state="running")
    flying = []
    with cluster.connect() as db:
        for round in range(30):
            for i in range(50):
                flying.append(w.begin("event_append", session_id=sid, epoch=1, idem=f"{round}.{i}", items=[{"event_type": "log", "body": '{"a":1}'}]))
            time.sleep(random.random() * 0.01)
            db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'coordinatord hub'")
    seqs = [w.finish(f, 20)["first_seq"] for f in flying]
    assert seqs == list(range(seqs[0], seqs[0] + 1500))


def test_stop_during_an_outage_is_not_taken_back(c, cluster):
    gw, w = c.gateway(), c.worker()
    sid = gw.create("x")["session_id"]
    w.take()
    w.append(to_state="running")
    with cluster.connect() as db:
        db.autocommit = False
        db.execute("LOCK TABLE core.hub IN ACCESS EXCLUSIVE MODE")
        start = time.monotonic()
        with pytest.raises(Refused) as e:
            gw.stop(sid)
        assert e.value.code == "unavailable" and time.monotonic() - start < 2
        assert w.cancelled.get(timeout=1)
    wait_status(cluster, sid, "stopped")
    time.sleep(0.5)
    assert session(cluster, sid)["status"] == "stopped"


def test_paused_daemon(c, cluster):
    """F7: shorter than the lease nothing happens; longer, the session may move but is never held twice."""
    gw, w1, w2 = c.gateway(), c.worker("w1"), c.worker("w2")
    sid = gw.create("x")["session_id"]
    w = wait_until(lambda: next((w for w in (w1, w2) if w.session == sid), None))
    w.append(to_state="running")
    for seconds in (1, 3):
        c.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        c.process.send_signal(signal.SIGCONT)
        wait_until(lambda: isinstance(_try(gw.create), dict))
        holder = wait_until(lambda: (s := session(cluster, sid))["worker_id"] and s["worker_id"])
        wait_until(lambda: [x.name for x in (w1, w2) if x.session == sid] == [session(cluster, sid)["worker_id"]], 10, holder)


def test_standby_takes_over(make, cluster):
    """F24: two coordinators on one database: one is active, the other waits; the loser of the lock is fenced."""
    c1 = make()
    c2 = make(start=False)
    c2.start(wait=False)
    wait_until(lambda: "another coordinator is active" in c2.log() or "waiting" in c2.log())
    time.sleep(1)
    assert "-> active" not in c2.log()
    gw = c1.gateway()
    sid = gw.create("x")["session_id"]
    start = time.monotonic()
    c1.kill()
    wait_until(lambda: "-> active" in c2.log(), 10, c2.log)
    assert time.monotonic() - start < 3
    assert c2.worker().take()["session_id"] == sid
    assert cluster.sql("SELECT term FROM core.hub") == [(2,)]


def test_old_coordinator_is_fenced_by_its_term(make, cluster):
    c1 = make()
    gw = c1.gateway()
    gw.create("x")
    cluster.sql("UPDATE core.hub SET term = term + 1")
    with pytest.raises((Refused, queue.Empty)):
        gw.call("session_create", 3, tenant="default", kind="headless", request_digest="d")
    assert c1.process.wait(10) != 0
    assert cluster.sql("SELECT count(*) FROM core.session") == [(1,)]
    c1.process = None


def test_newer_database_is_refused(make, cluster, program):
    c1 = make()
    c1.kill(signal.SIGTERM)
    c1.process = None
    cluster.sql("INSERT INTO core.migration (number, name) VALUES (999, 'from_the_future')")
    c2 = make(start=False)
    c2.start(wait=False)
    assert c2.process.wait(10) != 0 and "from_the_future" in c2.log()
    c2.process = None


def test_admin_token(make, cluster):
    c1 = make()
    path = c1.folder / "token"
    token = path.read_text().strip()
    assert token.startswith("bt_") and len(token) == 46 and path.stat().st_mode & 0o777 == 0o600
    assert cluster.sql("SELECT token_hash, role FROM core.auth_token") == [(hashlib.sha256(token.encode()).hexdigest(), "admin")]
    path.unlink()
    c1.kill(signal.SIGTERM)
    c1.start()
    assert not path.exists()


CRASH_POINTS = ["hub.before_commit", "hub.after_commit", "hub.before_publish", "hub.before_ack", "hub.after_ack", "lease.before_assign", "lease.before_renew"]


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_crash_points(faults, make, cluster, point):
    """F5: a kill at each named point; the session goes on, an acknowledged append is there, a repeated one is there once."""
    c = make(start=False)
    for nth in (1, 3, 6):
        c.start(env={"BERTH_CRASH_AT": f"{point}:{nth}"})
        gw, w = c.gateway(), c.worker(f"w{nth}")
        key, sid, n = uuid.uuid4().hex, None, 0
        deadline = time.monotonic() + 20
        while n < 5:
            assert time.monotonic() < deadline, c.log()
            if c.process.poll() is not None:
                c.start()
            if sid is None:
                r = _try(lambda: gw.call("session_create", 1, tenant="default", kind="headless", request_digest="d", idempotency_key=key))
                sid = json.loads(r["session_json"])["session_id"] if isinstance(r, dict) else None
            elif w.session == sid:
                r = _try(lambda: w.append(("log", {"n": n}), to_state="running", idem=f"n{n}", timeout=1))
                n += isinstance(r, dict)
            else:
                time.sleep(0.01)
        logs = [e["n"] for e in events(cluster, sid) if e["event_type"] == "log"]
        assert logs == [0, 1, 2, 3, 4]
        while session(cluster, sid)["status"] != "stopped":  # the point may be reached only now
            if c.process.poll() is not None:
                c.start()
            _try(lambda: gw.stop(sid, 1))
        if c.process.poll() is None:
            c.kill(signal.SIGTERM)
        gw.close()
        w.close()
    c.process = None


def test_store_faults(faults, make, cluster):
    """F9: batches fail before, time out, or succeed and lose their answer; nothing is lost or doubled."""
    c = make(start=False)
    c.start(env={"BERTH_FAULT_STORE": "error=0.05,timeout=0.05,lost=0.05,seed=7"})
    gw, w = c.gateway(), c.worker()
    sid = wait_until(lambda: (r := _try(lambda: gw.create("x"))) and isinstance(r, dict) and r["session_id"])
    w.take()
    wait_until(lambda: isinstance(_try(lambda: w.append(to_state="running", idem="run")), dict))
    for n in range(300):
        wait_until(lambda: isinstance(_try(lambda: w.append(("log", {"n": n}), idem=f"n{n}")), dict))
    assert [e["n"] for e in events(cluster, sid) if e["event_type"] == "log"] == list(range(300))


# --- many at once -------------------------------------------------------------------------------


def test_many_sessions_at_once_are_independent(c, cluster):
    """A9: random interleavings of many sessions; each sees only its own events, all seqs are gap-free."""
    gw = c.gateway()
    workers = [c.worker(f"w{i}") for i in range(8)]
    ids = [gw.create(f"s{i}")["session_id"] for i in range(8)]
    wait_until(lambda: all(w.session for w in workers))
    flying = []
    for i in range(2000):
        w = random.choice(workers)
        flying.append((w, w.begin("event_append", session_id=w.session, epoch=w.epoch, idem=f"i{i}",
                                  items=[{"event_type": "log", "body": json.dumps({"of": w.session, "n": i, "k": k})} for k in range(random.randint(1, 4))])))
    for w, f in flying:
        w.finish(f, 20)
    for sid in ids:
        mine = [e for e in events(cluster, sid) if e["event_type"] == "log"]
        assert all(e["of"] == sid for e in mine)
        assert [(e["n"], e["k"]) for e in mine] == sorted((e["n"], e["k"]) for e in mine)


def test_live_events_reach_the_bus_only_from_the_holder(c, cluster):
    gw, w, bus = c.gateway(), c.worker(), c.bus().synced()
    sid = gw.create("x")["session_id"]
    w.take()
    w.send("event_live", session_id=sid, epoch=9, json='{"type":"delta","text":"stale"}')
    w.send("event_live", session_id=sid, epoch=1, json="not json")
    w.send("event_live", session_id=sid, epoch=1, json='{"type":"delta","text":"good"}')
    assert bus.wait(lambda n, b: n == "bus_live")["json"] == '{"type":"delta","text":"good"}'
    assert cluster.sql("SELECT count(*) FROM core.event WHERE json LIKE '%%delta%%'") == [(0,)]


def test_check_config(program):
    run = subprocess.run([program, "--check-config", "--set", "database=x", "--set", "no_such=1"], capture_output=True, text=True)
    assert run.returncode == 78 and "no_such" in run.stderr
