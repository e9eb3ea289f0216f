"""The line of first light through every real part: sessions that run tools in real slots, stop, crash, resume."""
import json
import random
import signal
import threading
import time

import pytest

from conftest import assert_gap_free, wait_until
from streams import SessionStream


def tools_of(events):
    return [e["tool_name"] for e in events if e["event_type"] == "pre_tool"]


def final_answer(events):
    last = [e for e in events if e["event_type"] == "message" and e["role"] == "assistant"][-1]
    return "".join(b["text"] for b in last["content"] if b["type"] == "text")


def results(events):
    return {e["tool_call_id"]: e for e in events if e["event_type"] == "post_tool"}


def text_of(event):
    return "".join(b.get("text", "") for b in event["tool_output"])


def test_a_run_with_tools(berth):
    """Message, model, bash and edit tools in a real slot, answer; every event stored, streamed, in order."""
    session = berth.create([
        {"thinking": "let me see", "text": "I will look.", "tools": [["bash", {"command": "echo one; pwd; id -un"}]]},
        {"tools": [["str_replace_based_edit_tool", {"command": "create", "path": "/home/agent/notes.txt", "file_text": "alpha\nbeta\n"}],
                   ["bash", {"command": "cat notes.txt"}]]},
        {"text": "All done."}])
    ws, sse = SessionStream(berth, session["session_id"]), SessionStream(berth, session["session_id"], "sse")
    berth.wait_status(session["session_id"], "idle")
    events = berth.events(session["session_id"])
    assert_gap_free(events)
    assert events[0]["event_type"] == "session_start"
    assert tools_of(events) == ["bash", "str_replace_based_edit_tool", "bash"]
    assert final_answer(events) == "All done."
    outputs = [text_of(e) for e in events if e["event_type"] == "post_tool"]
    assert outputs[0].splitlines()[:2] == ["one", "/home/agent"]
    assert outputs[2] == "alpha\nbeta"
    assert any(e["event_type"] == "thinking" and e["content"] == "let me see" for e in events)
    # Each intent stands before its result, each result before the next model turn.
    for i, e in enumerate(events):
        if e["event_type"] == "post_tool":
            assert any(p["event_type"] == "pre_tool" and p["tool_call_id"] == e["tool_call_id"] for p in events[:i])
    wait_until(lambda: len(ws.updates) >= len(events) and len(sse.updates) >= len(events), 10)
    ws.stop()
    sse.stop()
    ws.assert_whole(events)
    sse.assert_whole(events)
    assert any(d["type"] == "delta" and d["kind"] == "text" for d in ws.deltas + sse.deltas)
    after = berth.session(session["session_id"])
    assert after["usage"]["turns"] == 3 and after["usage"]["input_tokens"] == 300 and after["last_seq"] == len(events)
    berth.call("DELETE", f"/sessions/{session['session_id']}", 204)
    berth.call("GET", f"/sessions/{session['session_id']}", 404)
    berth.call("GET", f"/events/{session['session_id']}", 404)


def test_conversation_goes_on(berth):
    """A4: a message to an idle session makes it run again, with its history."""
    session = berth.create([{"text": "First."}])
    berth.wait_status(session["session_id"], "idle")
    reply = berth.call("POST", f"/sessions/{session['session_id']}/messages", 202,
                       json={"content": 'SCRIPT: [{"tools": [["bash", {"command": "echo again"}]]}, {"text": "Second."}]'}).json()
    assert reply["session_id"] == session["session_id"] and reply["message_id"] and reply["seq"] > 0
    wait_until(lambda: final_answer(berth.events(session["session_id"])) == "Second.", 20)
    berth.wait_status(session["session_id"], "idle")
    messages = berth.call("GET", f"/sessions/{session['session_id']}/messages", 200).json()["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "tool", "assistant"]
    assert [m["seq"] for m in messages] == sorted(m["seq"] for m in messages)
    berth.call("DELETE", f"/sessions/{session['session_id']}", 204)


@pytest.mark.parametrize("turns,running", [
    ([{"text": "slow answer", "delay": 60}], None),
    ([{"tools": [["bash", {"command": "sleep 60 & sleep 60"}]]}, {"text": "never"}], "bash"),
], ids=["model-call", "sleep-60"])
def test_stop_is_at_once(own_berth, turns, running):
    """A5: stopped within 1 s, no process of the slot left after 2 s, during a model call and during a tool."""
    berth = own_berth(workers=1)
    before = wait_until(lambda: berth.slot_processes("worker1"), 20, "a warm slot")
    session = berth.create(turns)["session_id"]
    if running:
        wait_until(lambda: tools_of(berth.events(session)) == [running], 20, "the tool to start")
        wait_until(lambda: any("sleep" in open(f"/proc/{p}/cmdline").read() for p in berth.slot_processes("worker1")), 10)
    else:
        berth.wait_status(session, "running")
        wait_until(berth.model_requests, 10, "the model call")
    slot = berth.slot_processes("worker1")
    asked = time.monotonic()
    reply = berth.call("POST", f"/sessions/{session}/stop", 200).json()
    assert time.monotonic() - asked < 1, "stop took too long"
    assert reply == {"success": True, "session_id": session, "message": "Session stopped successfully"}
    assert berth.session(session)["status"] == "stopped"
    wait_until(lambda: not (slot & berth.slot_processes("worker1")), 2, "the slot's processes to be gone")
    assert before
    events = berth.events(session)
    assert_gap_free(events)
    assert events[-1]["event_type"] == "session_stop"
    berth.call("POST", f"/sessions/{session}/stop", 409)
    berth.call("POST", "/sessions/00000000-0000-7000-8000-000000000000/stop", 404)
    # A stopped session runs again when it is spoken to.
    berth.call("POST", f"/sessions/{session}/messages", 202, json={"content": 'SCRIPT: [{"text": "hello"}]'})
    berth.wait_status(session, "idle")


def test_slot_is_gone_after_the_end(own_berth):
    """An idle session gives its slot back after idle_release; the next one finds nothing of it."""
    berth = own_berth(workers=1, settings={"workerd": {"idle_release": "200ms"}})
    first = berth.create([{"tools": [["bash", {"command": "echo secret > left.txt; (sleep 300 &) ; echo made"}]]}, {"text": "x"}])["session_id"]
    berth.wait_status(first, "idle")
    wait_until(lambda: berth.session(first)["worker_id"] is None, 10, "the slot to be given back")
    second = berth.create([{"tools": [["bash", {"command": "ls -A ~ | grep left; pgrep -a sleep; echo looked"}]]}, {"text": "y"}])["session_id"]
    berth.wait_status(second, "idle")
    assert [text_of(e) for e in berth.events(second) if e["event_type"] == "post_tool"] == ["looked"]


def test_two_sessions_at_once_are_independent(berth):
    """A9 by 100 random interleavings: two sessions write, read and list in their slots; neither sees the other."""
    rng = random.Random(9)
    scripts, expected = [], []
    for number in range(2):
        turns, want = [], []
        for step in range(50):
            name = f"f{rng.randrange(5)}"
            value = f"{number}-{step}-{rng.randrange(10 ** 6)}"
            turns.append({"tools": [["bash", {"command": f"echo {value} > {name}; sleep 0.{rng.randrange(3)}; cat {name}; ls f* | wc -l"}]],
                          "delay": rng.random() * 0.02})
            want.append((name, value))
        scripts.append(turns + [{"text": f"finished {number}"}])
        expected.append(want)
    sessions = [berth.create(s)["session_id"] for s in scripts]
    streams = [SessionStream(berth, s, kind) for s, kind in zip(sessions, ("ws", "sse"))]
    for number, session in enumerate(sessions):
        berth.wait_status(session, "idle", seconds=120)
        events = berth.events(session)
        assert_gap_free(events)
        assert all(e["session_id"] == session for e in events)
        seen = set()
        outputs = [text_of(e).split("\n") for e in events if e["event_type"] == "post_tool"]
        for (name, value), output in zip(expected[number], outputs, strict=True):
            seen.add(name)
            assert output == [value, str(len(seen))]
        assert final_answer(events) == f"finished {number}"
        wait_until(lambda: len(streams[number].updates) >= len(events), 10)
        streams[number].stop()
        streams[number].assert_whole(events)
    assert len({e["id"] for s in sessions for e in berth.events(s)}) == sum(len(berth.events(s)) for s in sessions)
    both = [berth.events(s) for s in sessions]
    assert both[0][0]["id"] < both[1][-1]["id"] and both[1][0]["id"] < both[0][-1]["id"], "they did not overlap"
    for session in sessions:
        berth.call("DELETE", f"/sessions/{session}", 204)


STEPS = [{"tools": [["bash", {"command": f"echo step {i} >> ledger; sleep 0.2; wc -l < ledger"}]]} for i in range(12)] + [{"text": "counted"}]


@pytest.mark.parametrize("victim", ["gatewayd", "coordinatord", "docserverd"])
def test_kill_9_in_mid_session(own_berth, victim):
    """The others stay, the daemon comes back, viewers resume without a lost or doubled event, no step runs twice."""
    berth = own_berth(workers=2)
    others = {name: berth.pid(name) for name in berth.stack.services if name != victim}
    session = berth.create(STEPS)["session_id"]
    ws, sse = SessionStream(berth, session), SessionStream(berth, session, "sse")
    wait_until(lambda: len(ws.updates) > 8 and len(sse.updates) > 8, 30, "the first steps")
    berth.kill(victim)
    berth.wait_ready(15)
    berth.wait_status(session, "idle", seconds=60)
    events = berth.events(session)
    assert_gap_free(events)
    assert [text_of(e) for e in events if e["event_type"] == "post_tool"] == [str(i + 1) for i in range(12)]
    assert final_answer(events) == "counted"
    wait_until(lambda: len(ws.updates) >= len(events) and len(sse.updates) >= len(events), 10, lambda: (len(ws.updates), len(sse.updates), len(events)))
    ws.stop()
    sse.stop()
    ws.assert_whole(events)
    sse.assert_whole(events)
    if victim == "gatewayd":
        assert ws.connections > 1 and sse.connections > 1
    assert {name: berth.pid(name) for name in others} == others


def test_kill_9_of_the_worker(own_berth):
    """C8: the session goes on in another slot within 15 s; the interrupted call is answered as unknown, not run again."""
    berth = own_berth(workers=2)
    session = berth.create([
        {"tools": [["bash", {"command": "echo before"}]]},
        {"tools": [["bash", {"command": "echo started; sleep 30; echo never"}]]},
        {"tools": [["bash", {"command": "echo after"}]]},
        {"text": "went on"}])["session_id"]
    stream = SessionStream(berth, session)
    wait_until(lambda: len(tools_of(berth.events(session))) == 2, 20, "the second tool")
    holder = berth.session(session)["worker_id"]
    slot = berth.slot_processes(f"worker{holder}")
    berth.kill(f"worker{holder}", restart=False)
    killed = time.monotonic()
    wait_until(lambda: len(tools_of(berth.events(session))) == 3, 15, "the session to go on in another slot")
    took = time.monotonic() - killed
    assert berth.session(session)["worker_id"] != holder
    berth.wait_status(session, "idle")
    events = berth.events(session)
    assert_gap_free(events)
    second = [e for e in events if e["event_type"] == "pre_tool"][1]
    answer = results(events)[second["tool_call_id"]]
    assert "interrupted" in json.dumps(answer) and "unknown" in json.dumps(answer) and answer["error"]
    assert [e["tool_input"].get("command", "")[:12] for e in events if e["event_type"] == "pre_tool"].count("echo started") == 1
    assert final_answer(events) == "went on"
    # Nothing of the dead worker's slot lives on.
    import pathlib
    wait_until(lambda: not [p for p in slot if pathlib.Path(f"/proc/{p}").exists()], 10, "the dead worker's slot to be gone")
    berth.stack.check()
    wait_until(lambda: len(stream.updates) >= len(events), 10)
    stream.stop()
    stream.assert_whole(events)
    print(f"went on in another slot after {took:.1f} s")


def test_everything_killed_at_once(own_berth):
    """F6: all daemons killed in mid-session; after their return the session reaches its end, nothing twice."""
    berth = own_berth(workers=2)
    session = berth.create(STEPS)["session_id"]
    wait_until(lambda: len(tools_of(berth.events(session))) >= 3, 20)
    names = ["worker1", "worker2", "gatewayd", "coordinatord", "docserverd"]
    for name in names:
        berth.kill(name, restart=False)
    for name in names:
        berth.stack.start(berth.stack.services[name])
    berth.wait_ready(20)
    berth.wait_status(session, "idle", seconds=60)
    events = berth.events(session)
    assert_gap_free(events)
    commands = [e["tool_input"]["command"] for e in events if e["event_type"] == "pre_tool"]
    assert len(commands) == len(set(commands)) == 12
    assert set(results(events)) == {e["tool_call_id"] for e in events if e["event_type"] == "pre_tool"}


def test_frozen_worker_is_fenced(own_berth):
    """F7: a worker stopped beyond its lease wakes up, finds itself fenced, and kills its slot; the session ran elsewhere."""
    berth = own_berth(workers=2)
    session = berth.create(STEPS)["session_id"]
    wait_until(lambda: len(tools_of(berth.events(session))) >= 2, 20)
    holder = berth.session(session)["worker_id"]
    berth.kill(f"worker{holder}", signal.SIGSTOP)
    try:
        wait_until(lambda: berth.session(session)["worker_id"] not in (holder, None), 20, "the session to move")
    finally:
        berth.kill(f"worker{holder}", signal.SIGCONT)
    berth.wait_status(session, "idle", seconds=60)
    events = berth.events(session)
    assert_gap_free(events)
    commands = [e["tool_input"]["command"] for e in events if e["event_type"] == "pre_tool"]
    assert len(commands) == len(set(commands))
    workers = {w["worker_id"]: w for w in berth.call("GET", "/workers", 200).json()["workers"]}
    wait_until(lambda: {w["worker_id"]: w for w in berth.call("GET", "/workers", 200).json()["workers"]}[holder]["state"] == "warm", 15,
               f"the woken worker to offer a clean slot: {workers}")


def test_the_websocket_of_all_sessions(berth):
    """B2: init, event, session_updated, session_deleted, in the order things happened; resume by cursor."""
    import websocket
    url = berth.url("/ws").replace("http", "ws")
    header = [f"Authorization: {berth.http.headers['Authorization']}"]
    ws = websocket.create_connection(url, timeout=15, header=header)
    init = json.loads(ws.recv())
    assert init["type"] == "init" and isinstance(init["sessions"], list)
    session = berth.create([{"text": "hi"}])["session_id"]
    got = []
    while not (got and got[-1]["type"] == "session_updated" and got[-1]["session"]["session_id"] == session and got[-1]["session"]["status"] == "idle"):
        got.append(json.loads(ws.recv()))
    berth.call("DELETE", f"/sessions/{session}", 204)
    while got[-1]["type"] != "session_deleted" or got[-1]["session_id"] != session:
        got.append(json.loads(ws.recv()))
    mine = [g["event"] for g in got if g["type"] == "event" and g["event"]["session_id"] == session]
    assert [e["seq"] for e in mine] == list(range(1, len(mine) + 1))
    ws.close()
    other = berth.create([{"text": "hi"}])["session_id"]
    berth.wait_status(other, "idle")
    ws = websocket.create_connection(f"{url}?after={mine[-1]['id']}", timeout=15, header=header)
    assert json.loads(ws.recv())["type"] == "init"
    missed = []
    while len(missed) < len(berth.events(other)):
        update = json.loads(ws.recv())
        if update["type"] == "event" and update["event"]["session_id"] == other:
            missed.append(update["event"])
    assert missed == berth.events(other)
    ws.close()
    berth.call("DELETE", f"/sessions/{other}", 204)


def test_many_sessions_wait_their_turn(berth):
    """More sessions than slots: they queue and all end; none is lost."""
    sessions = [berth.create([{"tools": [["bash", {"command": f"echo {i}"}]]}, {"text": str(i)}], session_name=f"many {i}")["session_id"] for i in range(8)]
    for i, session in enumerate(sessions):
        berth.wait_status(session, "idle", seconds=60)
        assert final_answer(berth.events(session)) == str(i)
    listed = berth.call("GET", "/sessions?q=many&limit=5", 200).json()
    assert len(listed["sessions"]) == 5 and listed["next_cursor"]
    rest = berth.call("GET", f"/sessions?q=many&limit=5&cursor={listed['next_cursor']}", 200).json()
    assert {s["session_id"] for s in listed["sessions"] + rest["sessions"]} == set(sessions)
    threads = [threading.Thread(target=berth.call, args=("DELETE", f"/sessions/{s}")) for s in sessions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
