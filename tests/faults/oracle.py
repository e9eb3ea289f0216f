"""What judges a fault run from outside: client journals, the effect ledger, and the invariants of Berth.

I1 an acknowledged event is never lost or changed      I2 per session seq is 1..N, in the table and at each viewer
I3 no tool step has two effects                         I4 no slot without an owner
I5 every session ends its turn; none runs without lease I6 nothing of an old epoch is stored after a newer one
I9 no client waits longer than 2 s for an answer"""
import collections
import hashlib
import json
import pathlib
import threading
import time

import requests


def digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Journal:
    """One line per acknowledged request and per received update, on disk before the client goes on."""

    def __init__(self, path):
        self.file = open(path, "a", buffering=1)
        self.lock = threading.Lock()
        self.acknowledged = []   # (kind, session, value)
        self.slow = []           # calls that took too long
        self.wrong = []          # answers that no fault excuses

    def acknowledge(self, kind, session, value):
        with self.lock:
            self.acknowledged.append((kind, session, value))
            self.file.write(json.dumps(["ack", kind, session, value]) + "\n")

    def received(self, session, update):
        with self.lock:
            self.file.write(json.dumps(["event", session, update["seq"], digest(update)]) + "\n")


class Client:
    """A caller that knows what it may expect: an answer, or 503 with Retry-After, or a closed connection; within 2 s."""

    LIMIT = 2.0

    def __init__(self, berth, journal, slack=1.0):
        self.berth, self.journal, self.slack = berth, journal, slack
        self.http = requests.Session()
        self.http.headers.update(berth.http.headers)
        self.excused = False     # the gateway itself is stopped: nobody can answer

    def once(self, method, path, **kwargs):
        """The reply, or None when there was none."""
        began = time.monotonic()
        try:
            reply = self.http.request(method, self.berth.url(path), timeout=30, **kwargs)
        except requests.RequestException:
            reply = None
        took = time.monotonic() - began
        if took > self.LIMIT + self.slack and not self.excused:
            self.journal.slow.append(f"{method} {path}: {took:.1f} s, {reply.status_code if reply is not None else 'closed'}")
        if reply is not None and reply.status_code in (500, 502, 504) or \
                (reply is not None and reply.status_code == 503 and "Retry-After" not in reply.headers):
            self.journal.wrong.append(f"{method} {path}: {reply.status_code} {reply.text[:200]}")
        return reply

    def until(self, method, path, seconds=60, good=(200, 201, 202), **kwargs):
        """Repeats as a client does that was told to come again."""
        deadline = time.monotonic() + seconds
        while True:
            reply = self.once(method, path, **kwargs)
            if reply is not None and reply.status_code in good:
                return reply.json()
            assert time.monotonic() < deadline, f"{method} {path}: {reply.status_code if reply is not None else 'no answer'}, {seconds} s long"
            time.sleep(0.05)


def effects(path):
    return collections.Counter(pathlib.Path(path).read_text().split())


def judge(berth, journal, viewers, ledger, sessions):
    """The list of violations; the daemons are up and nothing is under way any more."""
    bad = [f"I9 {x}" for x in journal.slow] + [f"I9 {x}" for x in journal.wrong]
    stored = {}
    for session in sessions:
        rows = berth.sql(f"SELECT seq || ' ' || json FROM core.event WHERE session_id = '{session}' ORDER BY seq").splitlines()
        events = [json.loads(r.split(" ", 1)[1]) for r in rows]
        stored[session] = events
        if [e["seq"] for e in events] != list(range(1, len(events) + 1)):
            bad.append(f"I2 {session}: stored seqs are not 1..{len(events)}")
        if berth.sql(f"SELECT last_seq FROM core.session WHERE session_id = '{session}'") != str(len(events)):
            bad.append(f"I2 {session}: last_seq is not {len(events)}")
        epochs = [e["epoch"] for e in events if e["event_type"] in ("pre_tool", "post_tool")]
        if epochs != sorted(epochs):
            bad.append(f"I6 {session}: an older epoch wrote after a newer one: {epochs}")
        bad += judge_steps(session, events)
    for kind, session, value in journal.acknowledged:
        texts = [json.dumps(e) for e in stored.get(session, []) if e.get("role") == "user"]
        if sum(value in t for t in texts) != 1:
            bad.append(f"I1 {session}: acknowledged {kind} {value} is there {sum(value in t for t in texts)} times")
    for viewer in viewers:
        bad += judge_viewer(viewer, stored)
    bad += [f"I3 effect {name} happened {n} times" for name, n in effects(ledger).items() if n > 1]
    return bad


def judge_steps(session, events):
    bad = []
    intents = collections.Counter(e["tool_call_id"] for e in events if e["event_type"] == "pre_tool")
    results = collections.Counter(e["tool_call_id"] for e in events if e["event_type"] == "post_tool")
    bad += [f"I3 {session}: step {k} has {n} intents" for k, n in intents.items() if n > 1]
    bad += [f"I3 {session}: step {k} has {n} results" for k, n in results.items() if n > 1]
    open_steps = [k for k in intents if k not in results]
    # A stop ends the step under way without a result; the next message of the user would answer it as interrupted.
    if open_steps and not (len(open_steps) == 1 and any(e.get("to") == "stopped" for e in events[-3:])):
        bad.append(f"I3 {session}: steps {open_steps} have an intent and no result")
    return bad


def judge_viewer(viewer, stored):
    events = stored.get(viewer.session_id, [])
    seen = [u["seq"] for u in viewer.updates]
    if seen != [e["seq"] for e in events]:
        missing = sorted(set(e["seq"] for e in events) - set(seen))
        return [f"I2 {viewer.session_id}: a {viewer.kind} viewer saw {len(seen)} of {len(events)} events, missing {missing[:10]}"]
    for update, event in zip(viewer.updates, events):
        if {k: v for k, v in update.items() if k != "type"} != event:
            return [f"I1 {viewer.session_id}: seq {event['seq']} reached a viewer changed"]
    return []
