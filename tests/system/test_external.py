"""POST /events: agents that run elsewhere (B1), and the hook script that reports a coding agent."""
import json
import os
import subprocess
import sys
import threading
import uuid

import pytest
import requests

from conftest import ROOT, assert_gap_free, free_port, wait_until
from streams import SessionStream


def post(berth, events, expect=201, **headers):
    return berth.call("POST", "/events", expect, json=events, headers=headers).json()


def event(session, kind, **fields):
    return {"session_id": session, "event_type": kind, **fields}


def name():
    return f"ext-{uuid.uuid4().hex[:12]}"


def test_a_session_appears_goes_on_and_ends(berth):
    session = name()
    first = post(berth, event(session, "session_start", session_name="build", agent_name="builder", model="m", project_dir="/src", metadata={"a": 1}))
    assert first["session_id"] == session and first["seq"] == 1 and first["id"] > 0
    shown = berth.session(session)
    assert (shown["kind"], shown["status"], shown["session_name"], shown["agent_name"], shown["model"], shown["project_dir"], shown["metadata"], shown["slot"]) == \
        ("external", "running", "build", "builder", "m", "/src", {"a": 1}, None)
    stream = SessionStream(berth, session)
    many = post(berth, [event(session, "message", role="user", content="go"),
                        event(session, "pre_tool", tool_name="make", tool_call_id="c1", tool_input={"deep": [1, {"x": None}]}),
                        event(session, "post_tool", tool_name="make", tool_call_id="c1", tool_output={"any": "thing"}, error=None, exit_code=2, duration_ms=5),
                        event(session, "message", role="assistant", content=[{"type": "text", "text": "done"}], timestamp="2026-01-01T00:00:00Z")])
    assert [e["seq"] for e in many["events"]] == [2, 3, 4, 5] and "stop_requested" not in many
    events = berth.events(session)
    assert_gap_free(events)
    assert [e["id"] for e in events[1:]] == [e["id"] for e in many["events"]]
    assert events[2]["tool_input"] == {"deep": [1, {"x": None}]} and events[3]["tool_output"] == {"any": "thing"} and events[3]["exit_code"] == 2
    assert events[4]["reported_at"] == "2026-01-01T00:00:00Z"
    messages = berth.call("GET", f"/sessions/{session}/messages", 200).json()["messages"]
    assert [(m["role"], m["content"]) for m in messages] == [("user", [{"type": "text", "text": "go"}]), ("tool", [{"type": "text", "text": '{"any":"thing"}'}]),
                                                            ("assistant", [{"type": "text", "text": "done"}])]
    assert all(m["message_id"] for m in messages if m["role"] != "tool")
    before = berth.session(session)["modified_at"]
    post(berth, event(session, "session_stop", reason="end"))
    after = berth.session(session)
    assert after["status"] == "finished" and after["modified_at"] > before
    assert [e["event_type"] for e in berth.events(session)][-2:] == ["status", "session_stop"]
    post(berth, event(session, "message", role="user", content="more"))
    assert berth.session(session)["status"] == "running", "it goes on"
    post(berth, event(session, "session_stop", reason="crash", error="segfault"))
    failed = berth.session(session)
    assert failed["status"] == "failed" and failed["error"]["code"] == "agent_failed"
    wait_until(lambda: len(stream.updates) >= failed["last_seq"], 10)
    stream.stop()
    stream.assert_whole(berth.events(session))
    berth.call("DELETE", f"/sessions/{session}", 204)


def test_the_same_id_is_stored_once(berth):
    session = name()
    post(berth, event(session, "session_start", id="s"))
    first = post(berth, [event(session, "log", message=f"m{i}", id=f"e{i}") for i in range(100)])
    assert post(berth, [event(session, "log", message=f"m{i}", id=f"e{i}") for i in range(100)]) == first, "also those that memory has forgotten"
    mixed = post(berth, [event(session, "log", message="x", id="e5"), event(session, "log", message="new", id="new"), event(session, "log", message="x", id="e99")])
    assert [e["seq"] for e in mixed["events"]] == [first["events"][5]["seq"], 102, first["events"][99]["seq"]]
    assert len(berth.events(session)) == 102
    post(berth, [event(session, "log", message="x", id="twice"), event(session, "log", message="y", id="twice")], 409)
    key = {"Idempotency-Key": f"k-{session}"}
    one = post(berth, [event(session, "log", message="x"), event(session, "log", message="y")], **key)
    assert post(berth, [event(session, "log", message="x"), event(session, "log", message="y")], **key) == one
    post(berth, [event(session, "log", message="other")], 409, **key)
    other = name()
    post(berth, [event(other, "session_start", id="s")])
    assert len(berth.events(session)) == 104
    for s in (session, other):
        berth.call("DELETE", f"/sessions/{s}", 204)


def test_the_same_id_from_many_at_once(berth):
    """However posts with the same ids overlap: each is stored once, each answer names the stored one."""
    session = name()
    post(berth, event(session, "session_start"))
    answers, lock = {}, threading.Lock()

    def send(seed):
        for i in range(15):
            while True:
                reply = requests.post(berth.url("/events"), headers=berth.http.headers, timeout=15,
                                      json=[event(session, "log", message=f"{k}", id=f"{k}") for k in range(i, i + 3)])
                if reply.status_code == 201:
                    break
                assert reply.status_code == 409, reply.text
            with lock:
                for k, e in zip(range(i, i + 3), reply.json()["events"]):
                    answers.setdefault(k, set()).add((e["id"], e["seq"]))
    threads = [threading.Thread(target=send, args=(n,)) for n in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(len(a) == 1 for a in answers.values()), answers
    events = berth.events(session)
    assert_gap_free(events)
    assert sorted(e["message"] for e in events[1:]) == sorted(str(k) for k in range(17))
    berth.call("DELETE", f"/sessions/{session}", 204)


def test_stop_request_is_delivered(berth):
    """Kept, and told with each post until the agent ends; a new start begins anew."""
    session = name()
    post(berth, event(session, "session_start"))
    assert berth.call("POST", f"/sessions/{session}/stop", 200).json()["success"] is True
    assert berth.session(session)["status"] == "stopped"
    reply = post(berth, event(session, "pre_tool", tool_name="x", tool_input=1))
    assert reply["stop_requested"] is True
    assert post(berth, [event(session, "log", message="x")])["stop_requested"] is True
    assert berth.session(session)["status"] == "stopped", "what it still says does not make it run"
    berth.kill("coordinatord")
    wait_until(lambda: berth.call("GET", "/ready").status_code == 200, 20)
    assert post(berth, event(session, "log", message="after a restart"))["stop_requested"] is True
    assert "stop_requested" not in post(berth, event(session, "session_stop", reason="asked to"))
    assert berth.session(session)["status"] == "stopped"
    assert "stop_requested" not in post(berth, event(session, "session_start"))
    assert berth.session(session)["status"] == "running"
    berth.call("DELETE", f"/sessions/{session}", 204)


BAD = [({}, "session_id"), ({"session_id": "x"}, "event_type"), (event("x", "boat"), "event_type"), (event("x", "status"), "event_type"), (event("x", "screenshot"), "event_type"),
       (event("a b", "log", message="m"), "session_id"), (event("x", "pre_tool"), "tool_name"), (event("x", "message", content="c"), "role"),
       (event("x", "message", role="user"), "content"), (event("x", "message", role="boss", content="c"), "role"), (event("x", "message", role="user", content=[1]), "content"),
       (event("x", "log"), "message"), (event("x", "log", message="m", wrong=1), "wrong"), (event("x", "post_tool", tool_name="t", exit_code="1"), "exit_code"),
       (event("x", "session_start", metadata=[]), "metadata"), (event("x", "session_start", agent_name="a b"), "agent_name"), (event("x", "log", message="m", id=""), "id")]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_events_name_their_field(berth, number):
    body, field = BAD[number]
    assert post(berth, body, 400)["error"]["field"] == field
    good = event(name(), "session_start")
    assert post(berth, [good, body], 400)["error"]["field"] == f"events[1].{field}"
    berth.call("GET", f"/sessions/{good['session_id']}", 404)


def test_bad_posts(berth):
    for body in ([], [1], [None], [event("x", "log", message="m")] * 101):
        assert post(berth, body, 400)["error"]["code"] == "bad_request"
    session = name()
    assert "session_start" in post(berth, event(session, "log", message="m"), 404)["error"]["message"]
    post(berth, [event(session, "session_start"), event(name(), "log", message="m")], 404)
    berth.call("GET", f"/sessions/{session}", 404)
    own = berth.create()["session_id"]
    post(berth, event(own, "log", message="m"), 409)
    berth.call("DELETE", f"/sessions/{own}", 204)


# --- the hook script

def hook(berth, state, session, event_name, url=None, **fields):
    env = {"PATH": os.environ["PATH"], "BERTH_URL": url or berth.stack.url, "BERTH_TOKEN": berth.stack.token, "BERTH_HOOK_STATE": str(state), "BERTH_SESSION_NAME": "hooked"}
    return subprocess.run([sys.executable, ROOT / "examples/hooks/berth-hook"], input=json.dumps({"hook_event_name": event_name, "session_id": session, "cwd": "/src", **fields}),
                          env=env, text=True, capture_output=True, timeout=30)


def test_hooks_report_a_session(berth, tmp_path):
    session = name()
    steps = [("SessionStart", {"source": "startup"}), ("UserPromptSubmit", {"prompt": "fix it"}),
             ("PreToolUse", {"tool_name": "Bash", "tool_input": {"command": "ls"}, "tool_use_id": "t1"}),
             ("PostToolUse", {"tool_name": "Bash", "tool_input": {"command": "ls"}, "tool_response": {"stdout": "a\n"}, "tool_use_id": "t1"}),
             ("Notification", {"message": "waiting"}), ("Stop", {"last_assistant_message": "fixed"}), ("SessionEnd", {"reason": "exit"})]
    for event_name, fields in steps:
        done = hook(berth, tmp_path, session, event_name, **fields)
        assert (done.returncode, done.stderr) == (0, ""), done
    events = berth.events(session)
    assert [e["event_type"] for e in events] == ["session_start", "message", "pre_tool", "post_tool", "log", "message", "status", "session_stop"]
    assert events[2]["tool_input"] == {"command": "ls"} and events[3]["tool_output"] == {"stdout": "a\n"} and events[3]["tool_call_id"] == "t1"
    shown = berth.session(session)
    assert (shown["status"], shown["session_name"], shown["project_dir"]) == ("finished", "hooked", "/src")
    berth.call("DELETE", f"/sessions/{session}", 204)


def test_hooks_wait_out_an_outage_and_deliver_a_stop(berth, tmp_path):
    session = name()
    away = f"http://127.0.0.1:{free_port()}"
    for event_name, fields in [("UserPromptSubmit", {"prompt": "one"}), ("PreToolUse", {"tool_name": "Edit", "tool_input": {"path": "f"}})]:
        assert hook(berth, tmp_path, session, event_name, url=away, **fields).returncode == 0, "the agent is not held up"
    assert hook(berth, tmp_path, session, "PostToolUse", tool_name="Edit", tool_response="ok").returncode == 0
    assert [e["event_type"] for e in berth.events(session)] == ["session_start", "message", "pre_tool", "post_tool"]
    berth.call("POST", f"/sessions/{session}/stop", 200)
    refused = hook(berth, tmp_path, session, "PreToolUse", tool_name="Edit", tool_input={})
    assert refused.returncode == 2 and "stop" in refused.stderr
    assert hook(berth, tmp_path, session, "SessionEnd", reason="stopped").returncode == 0
    assert berth.session(session)["status"] == "stopped"
    broken = subprocess.run([sys.executable, ROOT / "examples/hooks/berth-hook"], input="not json", text=True, capture_output=True, env={"PATH": os.environ["PATH"]}, timeout=30)
    assert broken.returncode == 0
    berth.call("DELETE", f"/sessions/{session}", 204)
