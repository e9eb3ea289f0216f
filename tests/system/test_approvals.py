"""Approvals: asked for, decided, bound to what was asked; what holds for a session; what a restart leaves; who waits loses its slot to others."""
import hashlib
import json

import pytest

from conftest import BUILD, assert_gap_free, wait_until
from test_first_light import final_answer, text_of


def by_type(events, kind):
    return [e for e in events if e["event_type"] == kind]


@pytest.fixture
def agent(berth):
    """Makes agents and takes them away again."""
    made = []

    def make(name, on=berth, **body):
        on.call("POST", "/agents", 201, json={"name": name, "model": "demo", **body})
        made.append((on, name))
        return name
    yield make
    for on, name in made:
        if on is berth:
            on.call("DELETE", f"/agents/{name}", 204)


def pending(berth, session, seconds=20):
    """The one approval that the session waits for."""
    wait_until(lambda: berth.session(session)["pending_approvals"] == 1, seconds, lambda: f"an approval\n{berth.logs()}")
    found = berth.call("GET", f"/approvals?session_id={session}", 200).json()["approvals"]
    assert len(found) == 1 and found[0]["status"] == "pending"
    return found[0]


def decide(berth, approval, decision, expect=200, **more):
    return berth.call("POST", f"/sessions/{approval['session_id']}/approvals/{approval['approval_id']}", expect, json={"decision": decision, **more})


def digest(tool, arguments):
    text = json.dumps({"bound": {"tool": tool, "arguments": arguments}, "kind": "tool"}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def results(events):
    return [(text_of(e) if e["tool_output"] else None, e["error"]) for e in by_type(events, "post_tool")]


def test_allowed_once(berth, agent):
    agent("asks", approval={"bash": "ask"})
    session = berth.create([{"tools": [["bash", {"command": "echo ran; echo x > f"}]]}, {"tools": [["bash", {"command": "echo ran; echo x > f"}]]}, {"text": "done"}],
                           agent_name="asks")["session_id"]
    first = pending(berth, session)
    waiting = berth.wait_status(session, "waiting")
    assert waiting["waiting"] == {"for": "approval", "question": "May the agent run bash: echo ran; echo x > f?"}
    assert first["tool_name"] == "bash" and first["tool_input"] == {"command": "echo ran; echo x > f"} and first["kind"] == "tool"
    assert first["digest"] == digest("bash", {"command": "echo ran; echo x > f"})
    assert not by_type(berth.events(session), "pre_tool"), "nothing ran before it was allowed"
    done = decide(berth, first, "allow", note="go on").json()
    assert done["status"] == "allowed" and done["scope"] == "once" and done["decided_by"] and done["note"] == "go on"
    assert decide(berth, first, "allow").json()["status"] == "allowed", "the same again"
    decide(berth, first, "deny", 409)
    second = pending(berth, session)
    assert second["approval_id"] != first["approval_id"], "once is once, also for the same arguments"
    decide(berth, second, "allow")
    berth.wait_status(session, "idle")
    events = berth.events(session)
    assert_gap_free(events)
    assert results(events) == [("ran", None), ("ran", None)] and final_answer(events) == "done"
    asked, decided = by_type(events, "approval_requested"), by_type(events, "approval_decided")
    assert [e["approval_id"] for e in asked] == [e["approval_id"] for e in decided] == [first["approval_id"], second["approval_id"]]
    assert decided[0]["decision"] == "allow" and decided[0]["decided_by"] == done["decided_by"]
    assert asked[0]["bound"] == {"tool": "bash", "arguments": first["tool_input"]} and asked[0]["tool_call_id"] == first["tool_call_id"]


def test_denied_with_a_note(berth, agent):
    agent("asks-2", approval={"*": "ask"})
    session = berth.create([{"tools": [["bash", {"command": "rm -rf /"}], ["bash", {"command": "echo two"}]]}, {"text": "I see"}], agent_name="asks-2")["session_id"]
    decide(berth, pending(berth, session), "deny", note="never that")
    decide(berth, pending(berth, session), "allow")
    berth.wait_status(session, "idle")
    events = berth.events(session)
    assert results(events)[0][1] == "not executed: a person denied it: never that. Do not try the same in another way"
    assert results(events)[1] == ("two", None) and final_answer(events) == "I see"
    assert len(by_type(events, "pre_tool")) == 1


def test_for_the_session(berth, agent):
    """What has the same digest is not asked for again; what differs in one letter is."""
    agent("asks-3", approval={"bash": "ask"})
    same = ["bash", {"command": "echo same"}]
    session = berth.create([{"tools": [same]}, {"tools": [same]}, {"tools": [["bash", {"command": "echo  same"}]]}, {"tools": [["bash", {"command": "echo  same"}]]},
                            {"text": "end"}], agent_name="asks-3")["session_id"]
    decide(berth, pending(berth, session), "allow", scope="session")
    other = pending(berth, session)
    assert other["tool_input"] == {"command": "echo  same"}
    decide(berth, other, "deny", scope="session")
    berth.wait_status(session, "idle")
    events = berth.events(session)
    assert [r[0] for r in results(events)][:2] == ["same", "same"] and "denied" in results(events)[2][1] and "whole session" in results(events)[3][1]
    assert len(by_type(events, "approval_requested")) == 2


def test_rules(berth, agent):
    rules = {"default": "ask", "rules": [{"argument": "command", "glob": "echo *", "then": "allow"}, {"argument": "command", "regex": "^(curl|wget) ", "then": "deny"}]}
    agent("ruled", approval={"bash": rules, "str_replace_based_edit_tool": {"default": "allow", "rules": [{"argument": "command", "glob": "create", "then": "deny"}]}})
    session = berth.create([{"tools": [["bash", {"command": "echo hi"}], ["bash", {"command": "curl x"}], ["str_replace_based_edit_tool", {"command": "create", "path": "/tmp/x", "file_text": "x"}],
                                       ["str_replace_based_edit_tool", {"command": "view", "path": "/etc/hostname"}], ["bash", {"command": "id"}]]}, {"text": "end"}], agent_name="ruled")["session_id"]
    asked = pending(berth, session)
    assert asked["tool_input"] == {"command": "id"}
    decide(berth, asked, "deny")
    berth.wait_status(session, "idle")
    got = results(berth.events(session))
    assert got[0] == ("hi", None) and "not allowed to do that" in got[1][1] and "not allowed" in got[2][1] and got[3][1] is None and "denied" in got[4][1]


@pytest.mark.parametrize("approval", [{"bash": "maybe"}, {"b c": "ask"}, {"bash": {"default": "ask"}}, {"bash": {"default": "ask", "rules": [{"argument": "x", "then": "ask"}]}},
                                      {"bash": {"default": "ask", "rules": [{"argument": "x", "regex": "(", "then": "ask"}]}}, {"bash": 5}, {"bash": None},
                                      {"bash": {"default": "ask", "rules": [{"argument": "x", "regex": "(a)\\1", "then": "ask"}]}},
                                      {"bash": {"default": "ask", "rules": [{"argument": "x", "glob": "a", "regex": "a", "then": "ask"}]}}], ids=str)
def test_bad_policies(berth, approval):
    error = berth.call("POST", "/agents", 400, json={"name": "bad", "approval": approval}).json()["error"]
    assert error["field"] == "approval", error


def test_a_message_instead(berth, agent):
    """Who speaks instead of deciding withdraws the question; the agent hears both."""
    agent("asks-4", approval={"bash": "ask"})
    session = berth.create([{"tools": [["bash", {"command": "echo no"}]]}], agent_name="asks-4")["session_id"]
    asked = pending(berth, session)
    berth.call("POST", f"/sessions/{session}/messages", 202, json={"content": 'SCRIPT: [{"text": "as you say"}]'})
    berth.wait_status(session, "idle")
    events = berth.events(session)
    assert results(events) == [(None, "not executed: answered with a message")] and final_answer(events) == "as you say"
    assert by_type(events, "approval_decided")[0]["status"] == "cancelled"
    decide(berth, asked, "allow", 409)


def test_stop_and_interrupt_cancel(berth, agent):
    agent("asks-5", approval={"bash": "ask"})
    for act, status in (("stop", "stopped"), ("interrupt", "idle")):
        session = berth.create([{"tools": [["bash", {"command": "echo no"}]]}], agent_name="asks-5")["session_id"]
        asked = pending(berth, session)
        berth.call("POST", f"/sessions/{session}/{act}", 200)
        berth.wait_status(session, status)
        assert berth.call("GET", f"/sessions/{session}/approvals", 200).json()["approvals"][0]["status"] == "cancelled"
        decide(berth, asked, "allow", 409)
        assert not by_type(berth.events(session), "pre_tool")
        berth.call("DELETE", f"/sessions/{session}", 204)
        berth.call("GET", f"/sessions/{session}/approvals", 404)
        assert berth.call("GET", f"/approvals?session_id={session}&status=all", 200).json()["approvals"] == []


def test_bad_requests(berth, agent):
    agent("asks-6", approval={"bash": "ask"})
    session = berth.create([{"tools": [["bash", {"command": "echo no"}]]}], agent_name="asks-6")["session_id"]
    asked = pending(berth, session)
    for body in ({}, {"decision": "yes"}, {"decision": "allow", "scope": "for ever"}, {"decision": "allow", "note": 5}, {"decision": "allow", "x": 1}):
        berth.call("POST", f"/sessions/{session}/approvals/{asked['approval_id']}", 400, json=body)
    for path in (f"/sessions/{session}/approvals/00000000-0000-4000-8000-000000000000", f"/sessions/nobody/approvals/{asked['approval_id']}",
                 f"/sessions/{session}/approvals/%00", f"/sessions/{session}/approvals/'or''='"):
        reply = berth.call("POST", path, json={"decision": "allow"})
        assert reply.status_code in (400, 404), (path, reply.status_code)
    berth.call("GET", "/approvals?status=odd", 400)
    berth.call("GET", "/approvals?limit=0", 400)
    assert berth.session(session)["pending_approvals"] == 1
    berth.call("POST", f"/sessions/{session}/stop", 200)


def test_from_the_command_line(berth, agent):
    from test_berthctl import ctl
    agent("asks-7", approval={"bash": "ask"})
    session = berth.create([{"tools": [["bash", {"command": "echo a"}], ["bash", {"command": "echo b"}]]}, {"text": "end"}], agent_name="asks-7")["session_id"]
    first = pending(berth, session)["approval_id"]
    assert first in ctl(berth, "approvals").stdout and "bash: echo a" in ctl(berth, "approvals", "list").stdout
    assert json.loads(ctl(berth, "--json", "approvals", "show", first).stdout)["approval_id"] == first
    assert ctl(berth, "approvals", "allow", first).stdout == "allowed\n"
    second = wait_until(lambda: [a for a in berth.call("GET", f"/approvals?session_id={session}", 200).json()["approvals"] if a["approval_id"] != first], 20)[0]["approval_id"]
    assert ctl(berth, "approvals", "deny", second, "session", "no b").stdout == "denied\n"
    berth.wait_status(session, "idle")
    assert "no b" in results(berth.events(session))[1][1]
    ctl(berth, "approvals", "allow", "nothing", expect=1)
    ctl(berth, "approvals", "allow", expect=2)
    ctl(berth, "approvals", "allow", first, "session", "a", "b", expect=2)
    assert "in all:" in ctl(berth, "usage", "model").stdout


def test_too_late(own_berth, agent):
    berth = own_berth(workers=1, settings={"coordinatord": {"approval_timeout": "1s"}})
    agent("late", berth, approval={"bash": "ask"})
    session = berth.create([{"tools": [["bash", {"command": "echo no"}]]}, {"text": "went on"}], agent_name="late")["session_id"]
    berth.wait_status(session, "idle")
    events = berth.events(session)
    assert results(events) == [(None, "not executed: nobody decided in time whether it may")] and final_answer(events) == "went on"
    assert by_type(events, "approval_decided")[0]["status"] == "expired"


def test_survives_restarts_and_gives_its_slot_away(own_berth, agent):
    """Every daemon dies while it waits; then another session takes its slot; then it is allowed and runs, once."""
    berth = own_berth(workers=1, settings={"coordinatord": {"idle_hold": "0s"}})
    agent("patient", berth, approval={"bash": {"default": "ask", "rules": [{"argument": "command", "glob": "true*", "then": "allow"}]}})
    session = berth.create([{"tools": [["bash", {"command": "echo ran"}]]}, {"text": "after all"}], agent_name="patient")["session_id"]
    asked = pending(berth, session)
    for name in ("worker1", "coordinatord", "gatewayd", "docserverd"):
        berth.kill(name)
        berth.wait_ready(30)
        assert pending(berth, session)["approval_id"] == asked["approval_id"], name
        assert berth.session(session)["status"] == "waiting", (name, berth.logs())
    other = berth.create([{"tools": [["bash", {"command": "echo mine"}]]}, {"text": "other"}])["session_id"]
    berth.wait_status(other, "idle")
    assert berth.session(session)["status"] == "waiting" and berth.session(session)["worker_id"] is None
    decide(berth, asked, "allow")
    wait_until(lambda: berth.session(session)["status"] == "idle", 30, lambda: berth.logs())
    events = berth.events(session)
    assert_gap_free(events)
    assert results(events) == [("ran", None)] and final_answer(events) == "after all"
    assert len(by_type(events, "approval_requested")) == 1 and len(by_type(events, "pre_tool")) == 1


POINTS = ["worker.before_ask", "worker.after_ask", "worker.after_decision"]


@pytest.mark.parametrize("point", POINTS)
def test_crash_points(own_berth, agent, point):
    """F5: the worker dies around the question and the answer; asked once, run once."""
    if b"BERTH_CRASH_AT" not in (BUILD / "workerd" / "workerd").read_bytes():
        pytest.skip("built without -Dfaults=true")
    berth = own_berth(workers=1, env={"BERTH_CRASH_AT": f"{point}:1"})
    agent("crashes", berth, approval={"bash": "ask"})
    session = berth.create([{"tools": [["bash", {"command": "echo x >> ledger; wc -l < ledger"}]]}, {"text": "through"}], agent_name="crashes")["session_id"]
    service = berth.stack.services["worker1"]
    if point == "worker.after_decision":
        decide(berth, pending(berth, session), "allow")
    wait_until(lambda: service.process.poll() is not None, 30, "the worker to crash")
    service.env.pop("BERTH_CRASH_AT")
    berth.stack.start(service)
    berth.wait_ready(20)
    if point != "worker.after_decision":
        decide(berth, pending(berth, session, 30), "allow")
    wait_until(lambda: berth.session(session)["status"] == "idle", 40, lambda: json.dumps(berth.session(session)) + berth.logs())
    events = berth.events(session)
    assert_gap_free(events)
    assert results(events) == [("1", None)] and len(by_type(events, "pre_tool")) == 1 and final_answer(events) == "through"
    assert len(by_type(events, "approval_requested")) == len(by_type(events, "approval_decided")) == 1
