"""Fixtures of coordinatord's tests, and what they look up in the database."""
import json
import os
import pathlib
import queue
import shutil
import tempfile
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


def attempt(f):
    try:
        return f()
    except (Refused, queue.Empty) as e:
        return e
