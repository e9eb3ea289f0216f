"""Steering sessions: pause, resume, interrupt, fork, children, lists (A1-A6)."""
import hashlib
import json
import pathlib
import threading
import time

import pytest

from conftest import assert_gap_free, wait_until
from streams import SessionStream

HUMAN = "a human stopped it"


def tools_of(events):
    return [e["tool_input"].get("command") for e in events if e["event_type"] == "pre_tool"]


def results(events):
    return [e for e in events if e["event_type"] == "post_tool"]


def output(event):
    return "".join(b.get("text", "") for b in event["tool_output"])


def answer(events):
    said = [e for e in events if e["event_type"] == "message" and e["role"] == "assistant"]
    return "".join(b["text"] for b in said[-1]["content"] if b["type"] == "text") if said else None


def act(berth, session, what, expect=200):
    return berth.call("POST", f"/sessions/{session}/{what}", expect).json()


def script(turns):
    return {"content": "SCRIPT: " + json.dumps(turns)}


def end(berth, *sessions):
    for session in sessions:
        berth.call("DELETE", f"/sessions/{session}", 204)


def test_pause_in_a_model_call(berth):
    """The call ends at once, the slot stays, resume asks the model again."""
    session = berth.create([{"tools": [["bash", {"command": "echo kept > note"}]]}, {"text": "slow", "delay": 3},
                            ])["session_id"]
    wait_until(lambda: len(results(berth.events(session))) == 1, 20)
    holder = berth.session(session)["worker_id"]
    asked = time.monotonic()
    paused = act(berth, session, "pause")
    assert paused["status"] == "paused" and time.monotonic() - asked < 1
    assert act(berth, session, "pause")["status"] == "paused", "twice is the same"
    count = paused["last_seq"]
    time.sleep(3.5)  # the model would have answered by now: nothing may come of it
    events = berth.events(session)
    assert [e["event_type"] for e in events if e["seq"] > count] in ([], ["status"]), events[count:]
    now = berth.session(session)
    assert (now["status"], now["worker_id"]) == ("paused", holder)
    assert act(berth, session, "resume")["status"] == "running"
    berth.wait_status(session, "idle")
    events = berth.events(session)
    assert_gap_free(events)
    assert answer(events) == "slow" and len(tools_of(events)) == 1
    assert [(e["from"], e["to"]) for e in events if e["event_type"] == "status"][-3:] == [("running", "paused"), ("paused", "running"), ("running", "idle")]
    end(berth, session)


def test_a_paused_slot_stands_still(berth):
    """What runs in the slot of a paused session gets no processor time; files can be had; resumed, it goes on where it was."""
    def shells():
        found = {}
        for pid in berth.slot_processes(f"worker{berth.session(session)['worker_id']}"):
            try:
                name, rest = (pathlib.Path("/proc") / str(pid) / "stat").read_text().split("(", 1)[1].rsplit(") ", 1)
            except OSError:
                continue
            if name in ("bash", "sh"):
                found[pid] = (rest.split()[0], sum(int(n) for n in rest.split()[11:13]))
        return found
    session = berth.create([{"tools": [["bash", {"command": "echo here > note; (while :; do :; done) & echo started"}]]}, {"text": "slow", "delay": 3}])["session_id"]
    wait_until(lambda: results(berth.events(session)), 20)
    before = shells()
    assert len(before) >= 2
    act(berth, session, "pause")
    wait_until(lambda: {state for state, _ in shells().values()} == {"T"}, 20, shells)
    still = shells()
    assert berth.call("GET", f"/sessions/{session}/files/note", 200).text == "here\n"
    assert shells() == still, "not a tick"
    act(berth, session, "resume")
    wait_until(lambda: max(ticks for _, ticks in shells().values()) > max(ticks for _, ticks in still.values()), 20, shells)
    assert set(shells()) == set(before)
    berth.wait_status(session, "idle")
    end(berth, session)


def test_pause_lets_a_short_tool_finish(berth):
    session = berth.create([{"tools": [["bash", {"command": "echo one; sleep 2; echo two"}], ["bash", {"command": "echo three"}]]}, {"text": "end"}])["session_id"]
    wait_until(lambda: tools_of(berth.events(session)), 20)
    act(berth, session, "pause")
    wait_until(lambda: results(berth.events(session)), 5, "the running tool to finish")
    assert output(results(berth.events(session))[0]) == "one\ntwo"
    assert berth.session(session)["status"] == "paused"
    assert len(tools_of(berth.events(session))) == 1, "no further call begins"
    act(berth, session, "resume")
    berth.wait_status(session, "idle")
    events = berth.events(session)
    assert [output(e) for e in results(events)] == ["one\ntwo", "three"] and answer(events) == "end"
    end(berth, session)


def test_pause_kills_a_long_tool(berth):
    session = berth.create([{"tools": [["bash", {"command": "sleep 60"}]]}, {"text": "end"}])["session_id"]
    wait_until(lambda: tools_of(berth.events(session)), 20)
    act(berth, session, "pause")
    asked = time.monotonic()
    wait_until(lambda: results(berth.events(session)), 10, "the tool to be killed")
    assert 4 < time.monotonic() - asked < 7
    assert "pause" in results(berth.events(session))[0]["error"]
    act(berth, session, "resume")
    berth.wait_status(session, "idle")
    assert len(tools_of(berth.events(session))) == 1
    end(berth, session)


def test_message_to_a_paused_session_goes_on(berth):
    session = berth.create([{"text": "never", "delay": 5}])["session_id"]
    berth.wait_status(session, "running")
    act(berth, session, "pause")
    berth.call("POST", f"/sessions/{session}/messages", 202, json=script([{"text": "new words"}]))
    berth.wait_status(session, "idle")
    assert answer(berth.events(session)) == "new words"
    end(berth, session)


def test_paused_slot_goes_to_others(own_berth):
    """A paused session gives its slot to the queue after idle_hold; resumed, it goes on in another one."""
    berth = own_berth(workers=1, settings={"coordinatord": {"idle_hold": "300ms"}})
    first = berth.create([{"tools": [["bash", {"command": "echo one"}]]}, {"text": "slow", "delay": 3}])["session_id"]
    wait_until(lambda: results(berth.events(first)), 20)
    act(berth, first, "pause")
    second = berth.create([{"text": "second"}])["session_id"]
    berth.wait_status(second, "idle")
    assert berth.session(first)["status"] == "paused" and berth.session(first)["worker_id"] is None
    assert act(berth, first, "resume")["status"] == "queued"
    berth.wait_status(first, "idle")
    assert answer(berth.events(first)) == "slow" and len(tools_of(berth.events(first))) == 1


@pytest.mark.parametrize("turns", [[{"text": "slow", "delay": 20}], [{"tools": [["bash", {"command": "sleep 60"}], ["bash", {"command": "echo never"}]]}, {"text": "x"}]],
                         ids=["model-call", "tool"])
def test_interrupt(berth, turns):
    """What runs ends at once, open calls are answered so, and the session waits for the next message, with its slot."""
    session = berth.create([{"tools": [["bash", {"command": "echo before > f"}]]}] + turns)["session_id"]
    wait_until(lambda: len(results(berth.events(session))) == 1, 20)
    if "tools" in turns[0]:
        wait_until(lambda: len(tools_of(berth.events(session))) == 2, 20)
    asked = time.monotonic()
    assert act(berth, session, "interrupt")["status"] == "idle" and time.monotonic() - asked < 1
    if "tools" in turns[0]:
        wait_until(lambda: len(results(berth.events(session))) == 3, 3, lambda: berth.events(session))
        assert [e["error"] for e in results(berth.events(session))] == [None, HUMAN, HUMAN]
    assert act(berth, session, "interrupt")["status"] == "idle"
    berth.model_requests()
    berth.call("POST", f"/sessions/{session}/messages", 202, json=script([{"tools": [["bash", {"command": "cat f"}]]}, {"text": "again"}]))
    wait_until(lambda: answer(berth.events(session)) == "again", 20)
    berth.wait_status(session, "idle")
    events = berth.events(session)
    assert_gap_free(events)
    assert output(results(events)[-1]) == "before", "the slot was kept"
    if "tools" in turns[0]:
        sent = json.dumps(berth.model_requests()[0]["body"]["messages"])
        assert HUMAN in sent and "interrupted the work" in sent
    end(berth, session)


def test_interrupt_while_queued(own_berth):
    berth = own_berth(workers=1)
    first = berth.create([{"text": "slow", "delay": 60}])["session_id"]
    berth.wait_status(first, "running")
    second = berth.create([{"text": "never"}])["session_id"]
    assert berth.session(second)["status"] == "queued"
    assert act(berth, second, "interrupt")["status"] == "idle"
    third = berth.create([{"text": "later"}])["session_id"]
    assert act(berth, third, "pause")["status"] == "paused"
    act(berth, first, "interrupt")
    assert act(berth, third, "resume")["status"] == "queued"
    berth.wait_status(third, "idle", seconds=40)
    assert berth.session(second)["status"] == "idle" and answer(berth.events(second)) is None


def test_control_of_ended_and_unknown(berth):
    session = berth.create([{"text": "x"}])["session_id"]
    berth.wait_status(session, "idle")
    assert act(berth, session, "resume")["status"] == "idle"
    berth.call("POST", f"/sessions/{session}/stop", 200)
    for what in ("pause", "resume", "interrupt"):
        assert act(berth, session, what, 409)["error"]["code"] == "conflict"
        act(berth, "00000000-0000-7000-8000-000000000000", what, 404)
        act(berth, "a%20b", what, 404)
    end(berth, session)


def test_fork(berth):
    """A new session with the same history, which goes on by itself; the first is not touched."""
    session = berth.create([{"thinking": "hm", "tools": [["bash", {"command": "echo one"}]]}, {"text": "first answer"}], metadata={"k": [1]}, budget={"turns": 50})
    session = session["session_id"]
    berth.wait_status(session, "idle")
    data = b"\x89PNG fake"
    digest = hashlib.sha256(data).hexdigest()
    berth.sql(f"INSERT INTO core.attachment (session_id, digest, media_type, data) VALUES ('{session}', '{digest}', 'image/png', '\\x{data.hex()}')")
    events = berth.events(session)
    cut = next(e["seq"] for e in events if e["event_type"] == "post_tool")
    reply = berth.call("POST", f"/sessions/{session}/fork", 201, json={"after_seq": cut}, headers={"Idempotency-Key": f"fork-{session}"}).json()
    again = berth.call("POST", f"/sessions/{session}/fork", 201, json={"after_seq": cut}, headers={"Idempotency-Key": f"fork-{session}"}).json()
    fork = reply["session_id"]
    assert again["session_id"] == fork != session
    assert (reply["status"], reply["parent_session_id"], reply["metadata"], reply["budget"]) == ("idle", session, {"k": [1]}, {"turns": 50})
    copies = berth.events(fork)
    assert_gap_free(copies)
    strip = lambda e: {k: v for k, v in e.items() if k not in ("id", "session_id")}
    assert [strip(e) for e in copies[:cut]] == [strip(e) for e in events[:cut]]
    assert copies[cut]["event_type"] == "session_start" and copies[cut]["forked_from"] == session and len(copies) == cut + 1
    assert berth.call("GET", f"/sessions/{fork}/attachments/{digest}", 200).content == data
    stream = SessionStream(berth, fork)
    berth.model_requests()
    berth.call("POST", f"/sessions/{fork}/messages", 202, json=script([{"text": "forked answer"}]))
    wait_until(lambda: answer(berth.events(fork)) == "forked answer", 20)
    berth.wait_status(fork, "idle")
    sent = berth.model_requests()[0]["body"]["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "user"] and "toolu_" in json.dumps(sent)
    assert berth.session(fork)["usage"]["turns"] == 1
    assert berth.events(session) == events
    wait_until(lambda: len(stream.updates) >= len(berth.events(fork)), 10)
    stream.stop()
    stream.assert_whole(berth.events(fork))
    for body, status in (({"after_seq": 10 ** 9}, 400), ({"after_seq": -1}, 400), ({"after_seq": "1"}, 400), ({"other": 1}, 400)):
        assert berth.call("POST", f"/sessions/{session}/fork", status, json=body).json()["error"]["code"] == "bad_request"
    empty = berth.call("POST", f"/sessions/{session}/fork", 201, json={"after_seq": 0, "session_name": "empty"}).json()
    assert empty["session_name"] == "empty" and [e["event_type"] for e in berth.events(empty["session_id"])] == ["session_start"]
    end(berth, session)
    assert berth.call("GET", f"/sessions/{fork}/attachments/{digest}", 200).content == data, "the fork owns its copy"
    end(berth, fork, empty["session_id"])
    wait_until(lambda: berth.sql(f"SELECT count(*) FROM core.attachment WHERE digest = '{digest}'") == "0", 40, "the attachments to be purged")


def test_fork_in_the_middle_of_a_turn(berth):
    """After any event: the fork's first request has an answer to every call, and none that was not asked; nothing runs again."""
    first = berth.create([{"thinking": "hm", "text": "I look", "tools": [["bash", {"command": "echo one >> f; cat f"}], ["bash", {"command": "echo two >> f; cat f"}]]}, {"text": "done"}])["session_id"]
    berth.wait_status(first, "idle")
    events = berth.events(first)
    firsts = {e["event_type"]: e for e in reversed(events)}  # the first of each kind, and every call and result
    for event in [e for e in events if e["event_type"] in ("pre_tool", "post_tool") or firsts[e["event_type"]] is e]:
        fork = berth.call("POST", f"/sessions/{first}/fork", 201, json={"after_seq": event["seq"], "session_name": f"after {event['event_type']}"}).json()["session_id"]
        berth.model_requests()
        berth.call("POST", f"/sessions/{fork}/messages", 202, json=script([{"text": f"from {event['seq']}"}]))
        assert berth.wait_status(fork, "idle", "failed")["status"] == "idle", event
        sent = [r["body"]["messages"] for r in berth.model_requests() if f"from {event['seq']}" in json.dumps(r["body"])][0]
        assert [m["role"] for m in sent] == ["user", "assistant"] * (len(sent) // 2) + ["user"] * (len(sent) % 2), (event, sent)
        blocks = lambda role, kind: [b for m in sent if m["role"] == role for b in (m["content"] if isinstance(m["content"], list) else []) if b["type"] == kind]
        asked, answered = [b["id"] for b in blocks("assistant", "tool_use")], [b["tool_use_id"] for b in blocks("user", "tool_result")]
        assert asked == answered and len(set(asked)) == len(asked), event
        copies = berth.events(fork)
        assert_gap_free(copies)
        assert answer(copies) == f"from {event['seq']}"
        assert [e["tool_call_id"] for e in copies if e["event_type"] == "pre_tool"] == [e["tool_call_id"] for e in events[:event["seq"]] if e["event_type"] == "pre_tool"], "nothing runs again"
        end(berth, fork)
    assert {"message", "pre_tool", "post_tool", "usage", "status"} <= set(firsts)
    end(berth, first)


def test_a_fork_goes_its_own_way(berth):
    """Stopped, ended or deleted: what becomes of the first session is nothing to a fork at work, and a fork is no child in the sums."""
    first = berth.create([{"text": "one"}])["session_id"]
    berth.wait_status(first, "idle")
    fork = berth.call("POST", f"/sessions/{first}/fork", 201, json={}).json()["session_id"]
    berth.call("POST", f"/sessions/{fork}/messages", 202, json=script([{"tools": [["bash", {"command": f"sleep 0.3; echo {i}"}]]} for i in range(6)] + [{"text": "fork is through"}]))
    berth.wait_status(fork, "running")
    berth.call("POST", f"/sessions/{first}/stop", 200)
    wait_until(lambda: len(results(berth.events(fork))) >= 2, 20, lambda: berth.session(fork))
    end(berth, first)
    assert berth.wait_status(fork, "idle", "stopped")["status"] == "idle"
    events = berth.events(fork)
    assert_gap_free(events)
    assert answer(events) == "fork is through" and len(results(events)) == 6
    assert berth.sql(f"SELECT core.session_below('{first}')") == "{0,0,0,0,0,0}"
    end(berth, fork)


def test_children(berth):
    """parent_session_id, the limit of depth, the filter."""
    top = berth.create(kind="external")["session_id"]
    chain = [top]
    for _ in range(3):
        chain.append(berth.create(kind="external", parent_session_id=chain[-1])["session_id"])
    error = berth.call("POST", "/sessions", 422, json={"kind": "external", "parent_session_id": chain[-1]}).json()["error"]
    assert "deep" in error["message"]
    berth.call("POST", "/sessions", 404, json={"kind": "external", "parent_session_id": "nobody"})
    second = berth.create(kind="external", parent_session_id=top)
    assert second["parent_session_id"] == top
    listed = berth.call("GET", f"/sessions?parent={top}", 200).json()["sessions"]
    assert [s["session_id"] for s in listed] == [second["session_id"], chain[1]]
    berth.call("GET", "/sessions?parent=a%20b", 400)
    end(berth, second["session_id"], *chain)


def test_lists_page_through_everything(berth):
    """Every sort and filter, page by page of any size: each session once, in order."""
    agent = f"lister-{time.monotonic_ns()}"
    made = [berth.create(kind="external", agent_name=agent, session_name=f"n{i % 4}") for i in range(13)]
    ids = [m["session_id"] for m in made]
    for i in (3, 7):
        berth.call("POST", f"/sessions/{ids[i]}/stop", 200)
    berth.call("PATCH", f"/sessions/{ids[5]}/metadata", 200, json={"metadata": {"a": 1}})
    berth.call("POST", f"/sessions/{ids[2]}/messages", 202, json={"content": "hello"})
    keys = {"created_at": lambda s: s["created_at"], "modified_at": lambda s: s["modified_at"], "name": lambda s: s["session_name"]}
    for sort, key in keys.items():
        for limit in (1, 2, 5, 13, 100):
            seen, cursor = [], None
            while True:
                page = berth.call("GET", f"/sessions?agent_name={agent}&sort={sort}&limit={limit}" + (f"&cursor={cursor}" if cursor else ""), 200).json()
                seen += page["sessions"]
                cursor = page["next_cursor"]
                if not cursor:
                    break
            assert sorted(s["session_id"] for s in seen) == sorted(ids)
            assert [key(s) for s in seen] == sorted((key(s) for s in seen), reverse=sort != "name")
    by_modified = [s["session_id"] for s in berth.call("GET", f"/sessions?agent_name={agent}&sort=modified_at", 200).json()["sessions"]]
    assert by_modified[:4] == [ids[2], ids[5], ids[7], ids[3]], "modified_at moves on every activity"
    stopped = berth.call("GET", f"/sessions?agent_name={agent}&status=stopped,failed", 200).json()["sessions"]
    assert {s["session_id"] for s in stopped} == {ids[3], ids[7]}
    assert berth.call("GET", f"/sessions?agent_name={agent}&kind=headless", 200).json()["sessions"] == []
    assert len(berth.call("GET", f"/sessions?agent_name={agent}&q=n1", 200).json()["sessions"]) == 3
    end(berth, *ids)


def test_pause_and_resume_many_times(berth):
    """Paused and resumed at random moments a run still does everything once, in order."""
    session = berth.create([{"tools": [["bash", {"command": f"echo {i} >> ledger; wc -l < ledger"}]], "delay": 0.02} for i in range(12)] + [{"text": "end"}])["session_id"]
    stop = threading.Event()

    def poke():
        while not stop.wait(0.07):
            berth.call("POST", f"/sessions/{session}/pause")
            stop.wait(0.03)
            berth.call("POST", f"/sessions/{session}/resume")
    thread = threading.Thread(target=poke)
    thread.start()
    wait_until(lambda: answer(berth.events(session)) == "end", 60, lambda: berth.session(session))
    stop.set()
    thread.join()
    act(berth, session, "resume")
    berth.wait_status(session, "idle")
    events = berth.events(session)
    assert_gap_free(events)
    assert [output(e) for e in results(events)] == [str(i + 1) for i in range(12)]
    end(berth, session)


def test_a_kind_that_nobody_makes(berth):
    """It is refused with what there is, not left to wait for a worker that does not come."""
    made = berth.call("GET", "/workers", 200).json()["workers"][0]["kinds"]
    if "vm" in made:
        pytest.skip("there are machines here")
    refused = berth.call("POST", "/sessions", 422, json={"kind": "vm"}).json()["error"]
    assert "vm" in refused["message"] and "limits.machine" in refused["message"] and all(kind in refused["message"] for kind in made), refused


def test_an_image_by_name(berth):
    """A session that asks for an image gets a worker that has it, or is told which there are."""
    have = berth.call("GET", "/workers", 200).json()["workers"][0]["slot"]["image"]
    refused = berth.call("POST", "/sessions", 422, json={"kind": "headless", "slot": {"image": "nothing-1"}}).json()["error"]
    assert "nothing-1" in refused["message"] and have in refused["message"], refused
    s = berth.create([{"text": "here"}], slot={"image": have})
    assert berth.wait_status(s["session_id"], "idle", seconds=60)["slot"]["image"] == have
