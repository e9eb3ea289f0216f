"""coordinatord by its sockets: Python plays gateways and workers, PostgreSQL and the daemon are real."""
import hashlib
import json
import os
import queue
import random
import time

import pytest

from coordinator_rig import Refused, wait_until
from coordinator_fixtures import attempt, c, cluster, events, kinds, make, message, program, session, wait_status  # noqa: F401


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
        gw.create(kind="headless", session_id="an id")
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
    wait_until(lambda: attempt(lambda: w.append(message("one"), to_state="running", idem="i1")) == {**first, "replayed": True})
    assert w.append(message("two"), idem="i2")["first_seq"] == first["last_seq"] + 1


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
    for act in (lambda: w1.append(message("x"), session=sid, epoch=1), lambda: w1.heartbeat()):
        with pytest.raises((Refused, queue.Empty)):
            act()
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
            attempt(lambda f=f: w.finish(f))
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


def test_workers_of_an_older_version_keep_their_own(make, cluster):
    """One that does not say what it keeps is told nothing, serves what it always did, and the status says why a target is not met."""
    c = make(pool_warm="desktop:1, headless:1")
    c.gateway()
    workers = [c.worker("w1"), c.worker("w2")]

    def warm():
        rows = cluster.sql("SELECT json::json -> 'warm' FROM core.status WHERE process = 'coordinatord'")
        return {t["kind"]: t for t in rows[0][0]} if rows and rows[0][0] else {}
    wait_until(lambda: warm().get("headless", {}).get("ready") == 1 and "older version" in (warm()["desktop"]["why"] or ""), 20, warm)
    assert warm()["headless"]["why"] is None
    assert [w.heartbeat().get("keep_kind") for w in workers] == [None, None]
    # A new one takes the place: it says what it keeps, and is told.
    new = c.worker("w3", beat=60)
    told = lambda: new.call("worker_heartbeat", 3, worker_id="w3", kind="headless", state="warm", session_id=None, epoch=0, slot="{}", load="{}", keeps="headless").get("keep_kind")
    wait_until(lambda: told() == "desktop", 20, "to be told to keep a desktop")
