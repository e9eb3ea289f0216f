"""coordinatord under restarts, outages and crashes, and with many sessions at once."""
import hashlib
import json
import queue
import random
import signal
import subprocess
import threading
import time
import uuid

import pytest

from coordinator_rig import Refused, wait_until
from coordinator_fixtures import attempt, c, cluster, events, faults, kinds, make, message, program, session, wait_status  # noqa: F401


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
        wait_until(lambda: w.ups > ups and w.keep and attempt(w.heartbeat) and w.session == sid)
        assert wait_until(lambda: not isinstance(r := attempt(lambda: w.append(message("go on"))), Exception) and r)
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
    assert w.notified.get(timeout=10).items() >= {"session_id": sid, "epoch": 1, "seq": seq, "session_state": "running"}.items()


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
            r = attempt(lambda: w.append(("log", {"n": n}), idem=f"n{n}", session=sid, epoch=1, timeout=0.5))
            if isinstance(r, dict):
                acked[n] = r["first_seq"]
                n += 1
            elif isinstance(r, Refused) and r.code == "stale_epoch":
                return
    t = threading.Thread(target=work)
    t.start()
    for _ in range(8):
        upto = len(acked) + random.randint(1, 60)
        wait_until(lambda: len(acked) >= upto, 20, c.log)  # it works again, and is killed in the midst of it
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
    # Longer than the hub waits between two attempts: it has tried and failed more than once.
    wait_until(lambda: c.log().count(" attempt ") >= 3, 20, c.log)
    cluster.start()
    seqs = [w.finish(f, 15)["first_seq"] for f in flying]
    assert seqs == list(range(seqs[0], seqs[0] + 50))
    wait_until(lambda: isinstance(attempt(lambda: gw.create("y")), dict))
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
    gw.create("y")  # through the hub, after all that waited there
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
        wait_until(lambda: isinstance(attempt(gw.create), dict))
        holder = wait_until(lambda: (s := session(cluster, sid))["worker_id"] and s["worker_id"])
        wait_until(lambda: [x.name for x in (w1, w2) if x.session == sid] == [session(cluster, sid)["worker_id"]], 10, holder)


def test_standby_takes_over(make, cluster):
    """F24: two coordinators on one database: one is active, the other waits; the loser of the lock is fenced."""
    c1 = make()
    c2 = make(start=False)
    c2.start(wait=False)
    # It has asked for the lock more than once.
    wait_until(lambda: c2.log().count("another coordinator is active") >= 3, 20, c2.log)
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
                r = attempt(lambda: gw.call("session_create", 1, tenant="default", kind="headless", request_digest="d", idempotency_key=key))
                sid = json.loads(r["session_json"])["session_id"] if isinstance(r, dict) else None
            elif w.session == sid:
                r = attempt(lambda: w.append(("log", {"n": n}), to_state="running", idem=f"n{n}", timeout=1))
                n += isinstance(r, dict)
            else:
                time.sleep(0.01)
        logs = [e["n"] for e in events(cluster, sid) if e["event_type"] == "log"]
        assert logs == [0, 1, 2, 3, 4]
        while session(cluster, sid)["status"] != "stopped":  # the point may be reached only now
            if c.process.poll() is not None:
                c.start()
            attempt(lambda: gw.stop(sid, 1))
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
    sid = wait_until(lambda: (r := attempt(lambda: gw.create("x"))) and isinstance(r, dict) and r["session_id"])
    w.take()
    wait_until(lambda: isinstance(attempt(lambda: w.append(to_state="running", idem="run")), dict))
    for n in range(300):
        wait_until(lambda: isinstance(attempt(lambda: w.append(("log", {"n": n}), idem=f"n{n}")), dict))
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
    for wrong, said in (("heartbeat=9s", "at most a third"), ("pool_warm=room:3", "is not KIND:NUMBER")):
        run = subprocess.run([program, "--check-config", "--set", "database=x", "--set", wrong], capture_output=True, text=True)
        assert run.returncode == 78 and said in run.stderr, (wrong, run)
