"""The agent loop against a model that misbehaves, a worker that dies at named points, and files of all kinds."""
import base64
import json
import os
import struct
import time
import zlib

import pytest

from conftest import BUILD, assert_gap_free, wait_until
from test_first_light import final_answer, results, text_of, tools_of


def by_type(events, kind):
    return [e for e in events if e["event_type"] == kind]


def said(berth, session):
    """The newest words of the agent, None before it said any."""
    events = berth.events(session)
    return final_answer(events) if any(e.get("role") == "assistant" for e in events) else None


def statuses(events):
    return [e["to"] for e in by_type(events, "status")]


@pytest.fixture(scope="module")
def busy_berth():
    """Few attempts and short waits, so that a model that never recovers is given up quickly."""
    from conftest import Berth
    b = Berth(settings={"workerd": {"retries": "2", "model_stall": "1s", "busy_wait": "0s"}})
    try:
        yield b.start()
    finally:
        b.close()


@pytest.mark.parametrize("fault", [
    {"status": 429, "times": 2, "headers": {"retry-after-ms": "30"}},
    {"status": 529, "times": 1},
    {"status": 500, "times": 1, "headers": {"retry-after-ms": "10"}},
    {"status": 400, "times": 1, "headers": {"x-should-retry": "true", "retry-after-ms": "10"}},
    {"cut": 0, "times": 1},
    {"cut": 3, "times": 1},
    {"stall": 5, "times": 1},
    {"raw": {"text": "data: {nonsense\n\n"}, "times": 1},
    {"raw": {"text": "hello"}, "times": 1},
    {"raw": {"text": "data: " + "x" * 1000000, "repeat": 100}, "times": 1},
    {"raw": {"text": 'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n'}, "times": 1},
    {"raw": {"text": 'data: {"type":"content_block_start","index":99999,"content_block":{"type":"text"}}\n\n'}, "times": 1},
], ids=lambda f: "-".join(f"{k}" + (f"={v}" if isinstance(v, int) else "") for k, v in f.items() if k != "times"))
def test_a_model_that_recovers(busy_berth, fault):
    """F22: the call is made again; nothing of the failed attempt stays."""
    berth = busy_berth
    session = berth.create([{"thinking": "one", "text": "first", "tools": [["bash", {"command": "echo ran"}]], **fault}, {"text": "answer"}])["session_id"]
    berth.wait_status(session, "idle", seconds=30)
    events = berth.events(session)
    assert_gap_free(events)
    assert tools_of(events) == ["bash"] and [text_of(e) for e in by_type(events, "post_tool")] == ["ran"]
    assert final_answer(events) == "answer" and len(by_type(events, "usage")) == 2
    assert not by_type(events, "error")


@pytest.mark.parametrize("fault,code,requests", [
    ({"status": 529, "times": 99, "headers": {"retry-after-ms": "20"}}, "overloaded_error", 3),
    ({"status": 400, "times": 99}, "invalid_request_error", 1),
    ({"status": 500, "times": 99, "headers": {"x-should-retry": "false"}}, "api_error", 1),
    ({"cut": 2}, "stream_cut", 3),
], ids=["busy", "refused", "told-not-to", "cut"])
def test_a_model_that_does_not(busy_berth, fault, code, requests):
    """F22: bounded attempts, then failed with the reason; a later message tries again."""
    berth = busy_berth
    berth.model_requests()
    session = berth.create([{"text": "never", **fault}])["session_id"]
    berth.wait_status(session, "failed", seconds=30)
    assert len(berth.model_requests()) == requests
    events = berth.events(session)
    assert_gap_free(events)
    assert by_type(events, "error")[-1]["code"] == code
    assert berth.session(session)["error"]["code"] == code
    berth.call("POST", f"/sessions/{session}/messages", 202, json={"content": 'SCRIPT: [{"text": "better now"}]'})
    wait_until(lambda: said(berth, session) == "better now", 20, "the answer after the failure")


def test_a_busy_model_is_seen(busy_berth):
    """A long wait shows as waiting with the reason, then it goes on."""
    berth = busy_berth
    session = berth.create([{"text": "patience", "status": 429, "times": 1, "headers": {"retry-after": "1"}}])["session_id"]
    berth.wait_status(session, "idle", seconds=20)
    events = berth.events(session)
    assert statuses(events) == ["starting", "running", "waiting", "running", "idle"]
    assert "model busy" in by_type(events, "status")[2]["reason"] and "1 s" in by_type(events, "status")[2]["reason"]


def test_wrong_tools_and_arguments(berth):
    """What the model gets wrong is answered as an error and the run goes on."""
    calls = [["fly", {"to": "the moon"}], ["bash", {}], ["bash", {"command": 5}], ["str_replace_based_edit_tool", {"command": "view", "path": "relative"}],
             ["computer", {"action": "screenshot"}], ["document_put", {"path": "/nowhere"}], ["document_put", {"path": "/etc/hostname", "tags": ["bad tag"]}]]
    session = berth.create([{"tools": calls}, {"text": "I see"}])["session_id"]
    berth.wait_status(session, "idle")
    events = berth.events(session)
    answers = by_type(events, "post_tool")
    assert len(answers) == len(calls) and all(a["error"] for a in answers)
    assert final_answer(events) == "I see"
    request = berth.model_requests()[-1]["body"]
    results_sent = [b for m in request["messages"] if m["role"] == "user" for b in m["content"] if b["type"] == "tool_result"]
    assert all(b["is_error"] is True and isinstance(b["content"], str) and b["content"] for b in results_sent)


def test_two_hundred_calls_in_a_turn(berth):
    session = berth.create([{"tools": [["bash", {"command": f"echo {i}"}] for i in range(200)]}, {"text": "many"}])["session_id"]
    berth.wait_status(session, "idle", seconds=60)
    events = berth.events(session)
    assert_gap_free(events)
    assert [text_of(e) for e in by_type(events, "post_tool")] == [str(i) for i in range(200)]


def png(width, height, gray):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes([gray]) * width for _ in range(height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_files_in_and_out(berth):
    """A document is placed into the slot; what the agent stores comes back byte for byte, tagged."""
    data = os.urandom(300000)
    document = berth.call("POST", "/documents", 201, files={"file": ("in.bin", data)}).json()
    session = berth.create([
        {"tools": [["bash", {"command": "sha256sum data/in.bin | cut -c1-64; rev < /dev/null; cp data/in.bin out.bin"}]]},
        {"tools": [["document_put", {"path": "out.bin", "filename": "result.bin", "tags": ["loop-test", "chart"], "description": "what came out"}]]},
        {"text": "stored"}], files=[{"document_id": document["id"], "path": "data/in.bin"}])["session_id"]
    berth.wait_status(session, "idle")
    events = berth.events(session)
    answers = by_type(events, "post_tool")
    assert text_of(answers[0]) == document["checksum"], answers
    assert not answers[1]["error"], answers[1]
    found = berth.call("GET", "/documents?tags=loop-test", 200).json()["documents"]
    assert [d["filename"] for d in found] == ["result.bin"] and found[0]["metadata"]["description"] == "what came out"
    assert sorted(found[0]["tags"]) == ["chart", "loop-test"]
    assert berth.call("GET", f"/documents/{found[0]['id']}", 200).content == data
    assert found[0]["id"] in text_of(answers[1])


def test_a_missing_file_fails_the_session(berth):
    session = berth.create([{"text": "never"}], files=[{"document_id": "01900000-0000-7000-8000-000000000000", "path": "x"}])["session_id"]
    berth.wait_status(session, "failed")
    assert berth.session(session)["error"]["code"] == "file_not_placed"


def test_message_while_running(berth):
    """A message to a running session is taken in at the next turn, behind the results."""
    session = berth.create([{"tools": [["bash", {"command": "sleep 1; echo slept"}]]}, {"text": "unheard"}])["session_id"]
    wait_until(lambda: tools_of(berth.events(session)), 10)
    berth.call("POST", f"/sessions/{session}/messages", 202, json={"content": 'SCRIPT: [{"text": "heard you"}]'})
    wait_until(lambda: any(b.get("text") == "heard you" for e in by_type(berth.events(session), "message") for b in e["content"]), 20)
    berth.wait_status(session, "idle")
    request = berth.model_requests()[-1]["body"]["messages"]
    assert [b["type"] for b in request[-1]["content"]] == ["tool_result", "text"]


def test_history_is_the_same_after_a_restart(own_berth):
    """A resumed session sends the conversation the first worker had sent, byte for byte, and more."""
    berth = own_berth(workers=1, kind="headless")
    picture = base64.b64encode(png(8, 8, 200)).decode()
    content = [{"type": "text", "text": 'SCRIPT: [{"thinking": "t", "text": "a b", "tools": [["bash", {"command": "echo \\"x\\ty\\"; printf \\"h\\\\303\\\\244\\""}]]}, {"text": "end"}]'},
               {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": picture}}]
    session = berth.create(message=content)["session_id"]
    berth.wait_status(session, "idle")
    before = berth.model_requests()[-1]["body"]
    berth.kill("worker1")
    berth.wait_ready(20)
    berth.call("POST", f"/sessions/{session}/messages", 202, json={"content": 'SCRIPT: [{"text": "later"}]'})
    wait_until(lambda: said(berth, session) == "later", 20)
    after = berth.model_requests()[-1]["body"]

    def plain(messages):
        return [{**m, "content": [{k: v for k, v in b.items() if k != "cache_control"} for b in m["content"]]} for m in messages]
    assert plain(after["messages"])[:len(before["messages"])] == plain(before["messages"])
    assert before["messages"][0]["content"][1]["source"]["data"] == picture
    assert after["system"] == before["system"] and after["tools"] == before["tools"]


POINTS = ["worker.before_intent", "worker.after_intent", "worker.after_effect", "worker.before_result", "worker.after_result", "worker.lease_renewal"]


def built_with_faults():
    return b"BERTH_CRASH_AT" in (BUILD / "workerd" / "workerd").read_bytes()


@pytest.mark.parametrize("point", POINTS)
def test_crash_points(own_berth, point):
    """F5: the worker dies exactly there; every intent has one result, no effect happens twice, the session ends well."""
    if not built_with_faults():
        pytest.skip("built without -Dfaults=true")
    berth = own_berth(workers=1, settings={"workerd": {"idle_release": "60s"}}, env={"BERTH_CRASH_AT": f"{point}:2"})
    steps = [{"tools": [["bash", {"command": f"echo {i} > f{i}; sleep 0.3"}], ["document_put", {"path": f"f{i}", "filename": f"step{i}"}]]} for i in range(4)]
    session = berth.create(steps + [{"text": "through"}])["session_id"]
    service = berth.stack.services["worker1"]
    if point == "worker.lease_renewal":
        berth.wait_status(session, "idle", "running", seconds=30)
    wait_until(lambda: service.process.poll() is not None, 30, "the worker to crash")
    assert service.process.returncode == 137
    service.env.pop("BERTH_CRASH_AT")
    berth.stack.start(service)
    berth.wait_ready(20)
    wait_until(lambda: said(berth, session) == "through" and berth.session(session)["status"] == "idle", 40,
               lambda: json.dumps(berth.session(session)) + berth.logs())
    events = berth.events(session)
    assert_gap_free(events)
    intents = [e["tool_call_id"] for e in by_type(events, "pre_tool")]
    answers = [e["tool_call_id"] for e in by_type(events, "post_tool")]
    assert len(intents) == len(set(intents)) and len(answers) == len(set(answers)) and set(intents) <= set(answers)
    names = [d["filename"] for d in berth.call("GET", "/documents?filename=step", 200).json()["documents"]]
    assert len(names) == len(set(names)), names
    interrupted = [e for e in by_type(events, "post_tool") if e["error"] and "interrupted" in e["error"]]
    assert len(interrupted) <= 2, interrupted
    if point in ("worker.after_effect", "worker.before_result"):
        assert interrupted and results(events)[interrupted[0]["tool_call_id"]]["error"].startswith("interrupted, effect unknown")


def test_sigterm_hands_the_session_back(own_berth):
    """An orderly stop of a worker: the session goes on elsewhere at once, not when the lease ends."""
    berth = own_berth(workers=2)
    session = berth.create([{"tools": [["bash", {"command": "sleep 20"}]]}, {"text": "went on"}])["session_id"]
    wait_until(lambda: tools_of(berth.events(session)), 20)
    holder = berth.session(session)["worker_id"]
    service = berth.stack.services[f"worker{holder}"]
    asked = time.monotonic()
    service.process.terminate()
    wait_until(lambda: said(berth, session) == "went on", 8, "the session to go on elsewhere")
    assert time.monotonic() - asked < 8
    wait_until(lambda: service.process.poll() is not None, 5)
    berth.stack.check()


def test_worker_without_coordinator_gives_up(own_berth):
    """R3: no renewal for the length of the lease: the slot is killed, although nobody could say so."""
    berth = own_berth(workers=1)
    session = berth.create([{"tools": [["bash", {"command": "sleep 120"}]]}, {"text": "x"}])["session_id"]
    wait_until(lambda: tools_of(berth.events(session)), 20)
    slot = wait_until(lambda: {p for p in berth.slot_processes("worker1") if "sleep" in open(f"/proc/{p}/cmdline").read()}, 5)
    berth.kill("coordinatord", restart=False)
    killed = time.monotonic()
    wait_until(lambda: not (slot & berth.slot_processes("worker1")), 12, "the worker to kill its slot")
    assert time.monotonic() - killed > 5
    berth.stack.start(berth.stack.services["coordinatord"])
    berth.wait_ready(20)
    berth.call("POST", f"/sessions/{session}/stop")


def test_budget_of_turns(berth):
    """A7 in small: at the limit the session waits and asks."""
    steps = [{"tools": [["bash", {"command": f"echo {i}"}]]} for i in range(5)]
    reply = berth.call("POST", "/sessions", json={"kind": "headless", "message": "SCRIPT: " + json.dumps(steps), "budget": {"turns": 2}})
    if reply.status_code != 201:
        pytest.skip(f"budgets are not taken yet: {reply.text[:200]}")
    session = reply.json()["session_id"]
    berth.wait_status(session, "waiting")
    events = berth.events(session)
    assert len(by_type(events, "usage")) == 2 and "budget of 2 turns" in by_type(events, "status")[-1]["reason"]
    berth.call("POST", f"/sessions/{session}/stop", 200)


class RefusingModel:
    """FAKE: refuses two forms of the computer tool, then clicks by name as the oldest form does."""

    def __init__(self):
        import http.server
        import threading
        self.seen = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                form = next(t["type"] for t in body["tools"] if t["type"].startswith("computer"))
                outer.seen.append((form, dict(self.headers)))
                if form != "computer_20250124":
                    data = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": f"tools.0: '{form}' is not supported by this model"}}).encode()
                    self.send_response(400)
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                    return
                events = [{"type": "message_start", "message": {"model": body["model"], "usage": {"input_tokens": 1}}},
                          {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "agreed"}},
                          {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}, {"type": "message_stop"}]
                data = "".join(f"data: {json.dumps(e)}\r\n\r\n" for e in events).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def unmarked(value):
    """Without the marks of the prompt cache, which move; as text, in the order it was sent."""
    if isinstance(value, dict):
        return {k: unmarked(v) for k, v in value.items() if k != "cache_control"}
    return [unmarked(v) for v in value] if isinstance(value, list) else value


def test_requests_are_the_same_up_to_the_breakpoint(berth):
    """What is cached of one request stands at the beginning of the next: prompt, tools and every turn, byte for byte."""
    berth.model_requests()
    session = berth.create([{"text": "é\u2028\"quoted\"", "tools": [["bash", {"command": "echo 'ä\t\\'; echo err >&2; exit 3"}], ["bash", {"command": "seq 3"}]]},
                            {"tools": [["str_replace_based_edit_tool", {"command": "create", "path": "/tmp/x", "file_text": "1\n"}], ["nonsense", {"deep": [1, 1.5, None, True]}]]},
                            {"tools": [["execute_code", {"language": "python", "code": "print(1)"}]]}, {"text": "first"}])["session_id"]
    berth.wait_status(session, "idle")
    berth.call("POST", f"/sessions/{session}/messages", 202, json={"content": 'SCRIPT: [{"tools": [["bash", {"command": "echo more"}]]}, {"text": "second"}]'})
    wait_until(lambda: final_answer(berth.events(session)) == "second", 30)
    bodies = [r["body"] for r in berth.model_requests()]
    assert len(bodies) == 6
    for before, after in zip(bodies, bodies[1:]):
        marks = [i for i, m in enumerate(before["messages"]) if any("cache_control" in b for b in m["content"])]
        assert marks and marks[-1] == len(before["messages"]) - 1, "the newest turn is a breakpoint"
        assert json.dumps(before["system"]) == json.dumps(after["system"]) and json.dumps(before["tools"]) == json.dumps(after["tools"])
        assert json.dumps(unmarked(before["messages"])) == json.dumps(unmarked(after["messages"][:len(before["messages"])]))
        assert sum(json.dumps(after).count(k) for k in ('"cache_control"',)) <= 4


def test_a_model_that_refuses_the_tool(own_berth):
    """The next older form is tried and remembered; the key is sent and stands in no log."""
    model = RefusingModel()
    berth = own_berth(workers=1, kind="desktop", model_url=model.url, model="claude-opus-5-5", api_key="sk-canary-0815")
    for _ in range(2):
        session = berth.create(message="hello", kind="desktop")["session_id"]
        berth.wait_status(session, "idle", seconds=30)
        assert final_answer(berth.events(session)) == "agreed" and not by_type(berth.events(session), "error")
        berth.call("DELETE", f"/sessions/{session}", 204)
    model.server.shutdown()
    assert [form for form, _ in model.seen] == ["computer_toolset_20260801", "computer_20251124", "computer_20250124", "computer_20250124"]
    assert [h.get("anthropic-beta") for _, h in model.seen] == [None, "computer-use-2025-11-24", "computer-use-2025-01-24", "computer-use-2025-01-24"]
    assert all(h["x-api-key"] == "sk-canary-0815" for _, h in model.seen)
    for log in (berth.folder / "s" / "log").glob("*.log"):
        assert "sk-canary" not in log.read_text(errors="replace"), log
