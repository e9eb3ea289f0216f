"""Berth behind pgbouncer: transactions of all of a daemon's connections, in any order, on few connections of PostgreSQL."""
import signal
import threading

import pytest

from conftest import assert_gap_free, wait_until
from pooler import needs_pooler, own_pooled, pooled  # noqa: F401
from streams import SessionStream
from tenants import Tenant
from test_outages import test_standby_coordinator_takes_over as takes_over

pytestmark = needs_pooler


def steps(n):
    return [{"tools": [["bash", {"command": f"echo {i} >> ledger; sleep 0.1; wc -l < ledger"}]]} for i in range(n)] + [{"text": "counted"}]


def said(events):
    return ["".join(b.get("text", "") for b in e["tool_output"]).strip() for e in events if e["event_type"] == "post_tool"]


def test_sessions_events_and_documents(pooled):  # noqa: F811
    session = pooled.create(steps(5))["session_id"]
    stream = SessionStream(pooled, session)
    put = pooled.call("POST", "/documents", 201, files={"file": ("note.txt", b"the quick brown zebra", "text/plain")}).json()["id"]
    pooled.wait_status(session, "idle", "finished", seconds=60)
    events = pooled.events(session)
    assert_gap_free(events)
    assert said(events) == [str(i + 1) for i in range(5)]
    wait_until(lambda: len(stream.updates) >= len(events), 20)
    stream.stop()
    stream.assert_whole(events)
    assert pooled.call("GET", f"/documents/{put}", 200).content == b"the quick brown zebra"
    wait_until(lambda: [d for d in pooled.call("GET", "/documents/search?q=zebra", 200).json()["results"] if d["id"] == put], 60, pooled.logs)


def test_connections_are_shared_and_nothing_stays_on_them(pooled):  # noqa: F811
    """Sixteen calls at a time through the three connections of a role: none of them is prepared for, or set up by, anybody."""
    failed = []

    def work():
        for _ in range(10):
            failed.extend(r.status_code for r in (pooled.call("GET", "/sessions"), pooled.call("GET", "/documents")) if r.status_code != 200)
    threads = [threading.Thread(target=work) for _ in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed
    for role in ("gatewayd", "docserverd", "coordinatord"):
        backends = int(pooled.sql(f"SELECT count(*) FROM pg_stat_activity WHERE usename = 'berth_{role}' AND application_name NOT LIKE '%lock'"))
        assert 1 <= backends <= 3, (role, backends)
        with pooled.through(role) as client:
            for _ in range(12):
                with client.transaction():
                    assert client.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()[0] == 0
                    assert client.execute("SELECT current_setting('berth.tenant', true)").fetchone()[0] in (None, "")
                    assert client.execute("SELECT current_user").fetchone()[0] == f"berth_{role}"
                    assert client.execute("SHOW statement_timeout").fetchone()[0] == "0"


def test_timeouts_are_set_for_each_transaction(pooled):  # noqa: F811
    """A table stays locked for 4 s: who wants to read it is told so by PostgreSQL before."""
    log = pooled.stack.state / "log" / "postgres.log"
    locker = threading.Thread(target=pooled.sql, args=("BEGIN; LOCK TABLE docs.document; SELECT pg_sleep(4); COMMIT",))
    locker.start()
    try:
        wait_until(lambda: pooled.call("GET", "/documents").status_code != 200, 20, pooled.logs)
        wait_until(lambda: "canceling statement due to" in log.read_text(), 20, pooled.logs)
    finally:
        locker.join()
    wait_until(lambda: pooled.call("GET", "/documents").status_code == 200, 20, pooled.logs)


def test_tenants_in_turn_on_the_same_connections(pooled):  # noqa: F811
    tenants = [Tenant(pooled, name).furnish() for name in ("acme", "bolt")]
    strange, seen, stop = [], {t.name: 0 for t in tenants}, threading.Event()

    def look(mine, other):
        while not stop.is_set():
            for path in ("/sessions", "/documents", "/documents/tags", "/agents", f"/events/{mine.session}", f"/documents/search?q={mine.mark}"):
                reply = mine.call("GET", path)
                if reply.status_code != 200 or other.mark in reply.text:
                    strange.append((mine.name, path, reply.status_code, reply.text[:300]))
                elif mine.mark in reply.text:
                    seen[mine.name] += 1
            if mine.call("GET", f"/sessions/{other.session}").status_code != 404 or mine.call("GET", f"/documents/{other.document}").status_code != 404:
                strange.append((mine.name, "of the other"))
    threads = [threading.Thread(target=look, args=(tenants[i % 2], tenants[1 - i % 2])) for i in range(6)]
    for t in threads:
        t.start()
    try:
        wait_until(lambda: strange or min(seen.values()) > 150, 60, lambda: str(seen))
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not strange, strange[:3]


def test_a_tenant_set_for_a_transaction_ends_with_it(pooled):  # noqa: F811
    """Two clients share one server connection: what one set, by set_config(..., true) as the daemons do, is not there for the next."""
    pooled.create([{"text": "ok"}])
    with pooled.through(database="shared") as one, pooled.through(database="shared") as two:
        pids = set()
        for _ in range(20):
            with one.transaction():
                one.execute("SELECT set_config('berth.tenant', 'default', true)")
                assert one.execute("SELECT count(*) FROM core.session").fetchone()[0] > 0
                pids.add(one.execute("SELECT pg_backend_pid()").fetchone()[0])
            with two.transaction():
                pids.add(two.execute("SELECT pg_backend_pid()").fetchone()[0])
                assert two.execute("SELECT count(*) FROM core.session").fetchone()[0] == 0
        assert len(pids) == 1, "they did share it"


def test_killed_connections_and_a_killed_pooler_heal(own_pooled):  # noqa: F811
    """While a session runs: each connection of PostgreSQL is ended, also that of the lock, then the pooler dies. Each step happens once."""
    pooled = own_pooled(workers=1)
    session = pooled.create(steps(25))["session_id"]
    wait_until(lambda: len(said(pooled.events(session))) >= 2, 60, pooled.logs)
    pooled.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'berth_%'")
    count = len(said(pooled.events(session)))
    wait_until(lambda: len(said(pooled.events(session))) > count + 1, 60, pooled.logs)
    pooled.kill("pgbouncer")
    pooled.wait_ready()
    pooled.wait_status(session, "idle", "finished", seconds=90)
    events = pooled.events(session)
    assert_gap_free(events)
    assert said(events) == [str(i + 1) for i in range(25)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["kill-9", "frozen"])
def test_a_standby_takes_over(own_pooled, number):  # noqa: F811
    """The lock goes past the pooler; a coordinator that slept is fenced by its term, whose changes go through it."""
    takes_over(own_pooled, number)


def test_a_coordinator_that_cannot_go_past_the_pooler_says_so(own_pooled):  # noqa: F811
    """Its lock would be of whoever the connection is next: it takes none, writes what to set, and serves nobody."""
    berth = own_pooled(workers=0, direct=False)
    log = berth.stack.state / "log" / "coordinatord.log"
    wait_until(lambda: "set database_direct" in log.read_text(), 30, berth.logs)
    assert "-> active" not in log.read_text()
    wait_until(lambda: berth.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0", 20, "the others' migrations to end")


def test_a_pooler_of_sessions(own_pooled):  # noqa: F811
    berth = own_pooled(workers=1, mode="session", size=30)
    session = berth.create(steps(2))["session_id"]
    berth.wait_status(session, "idle", "finished", seconds=60)
    assert said(berth.events(session)) == ["1", "2"]
