"""Independent fakes of model services against both providers: aimock speaks both, openai-mock-api is sloppy on purpose."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest
import requests

from conftest import ROOT, Berth, aimock, free_port, wait_until
from streams import SessionStream
from test_first_light import final_answer, text_of, tools_of

MOCK = ROOT / "tests" / "peers" / "mcp" / "node_modules" / "openai-mock-api"


def turn(said, response, index=None, sequence=None, **more):
    match = {"userMessage": said}
    if index is not None:
        match["turnIndex"] = index
    if sequence is not None:
        match["sequenceIndex"] = sequence
    return {"match": match, "response": response, **more}


def call(command):
    return {"type": "toolCall", "name": "bash", "id": "call_1", "arguments": json.dumps({"command": command})}


def busy(status, kind):
    return {"error": {"message": f"try later ({status})", "type": kind}, "status": status, "retryAfter": 1}


def refused(message):
    return {"error": {"message": message, "type": "invalid_request_error"}, "status": 400}


FIXTURES = [
    turn("think and act", {"reasoning": "I must look first.", "blocks": [{"type": "text", "text": "Looking."}, call("echo peer")]}, index=0),
    turn("think and act", {"blocks": [call("echo again; exit 4")]}, index=1),
    turn("think and act", {"content": "Both were run.", "usage": {"prompt_tokens": 50, "completion_tokens": 9}}, index=2),
    turn("be busy", busy(429, "rate_limit_error"), sequence=0),
    turn("be busy", busy(529, "overloaded_error"), sequence=1),
    turn("be busy", {"content": "Now there is time."}, sequence=2),
    turn("be cut", {"content": "This answer is long enough to be cut in the middle of it, word by word."}, sequence=0, truncateAfterChunks=4, latency=20),
    turn("be cut", {"content": "Whole this time."}, sequence=1),
    turn("be old", refused("tools.0: 'computer_toolset_20260801' is not supported by this model"), sequence=0),
    turn("be old", refused("tools.0: Input tag 'computer_20251124' found using 'type' does not match any of the expected tags"), sequence=1),
    turn("be old", {"content": "The oldest form it is."}, sequence=2),
    turn("be different", refused("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."), sequence=0),
    turn("be different", {"content": "By its other name."}, sequence=1),
    turn("be stubborn", refused("messages: text content blocks must be non-empty")),
]


@pytest.fixture(scope="module", params=["anthropic", "openai"])
def peer(request, tmp_path_factory):
    fixtures = tmp_path_factory.mktemp("aimock") / "fixtures.json"
    fixtures.write_text(json.dumps({"fixtures": FIXTURES}))
    port = free_port()
    b = Berth(model_command=aimock(fixtures, port, "-l", "5", "-c", "6"), model_url=f"http://127.0.0.1:{port}",
              settings={"workerd": {"openai_url": f"http://127.0.0.1:{port}", "retries": "5"}})
    b.name = f"{request.param}/demo"
    try:
        yield b.start()
    finally:
        b.close()


def test_stream_tools_and_thinking(peer):
    session = peer.create(model=peer.name)["session_id"]
    stream = SessionStream(peer, session)
    try:
        wait_until(lambda: stream.connections, 30, "the stream")
        peer.call("POST", f"/sessions/{session}/messages", 202, json={"content": "think and act"})
        wait_until(lambda: [e for e in peer.events(session) if e.get("role") == "assistant"][2:], 60, "three turns")
        done = peer.wait_status(session, "idle", "failed", seconds=60)
        live = {kind: "".join(d["text"] for d in stream.deltas if d.get("kind") == kind) for kind in ("text", "thinking", "tool_input")}
    finally:
        stream.stopping.set()
    events = peer.events(session)
    assert done["status"] == "idle", done
    assert "Both were run." in live["text"] and live["thinking"] == "I must look first."
    assert "echo peer" in live["tool_input"] and "exit 4" in live["tool_input"], live
    assert tools_of(events) == ["bash", "bash"] and final_answer(events) == "Both were run."
    got = [e for e in events if e["event_type"] == "post_tool"]
    assert text_of(got[0]) == "peer" and "again" in got[1]["error"] and got[1]["exit_code"] == 4
    assert [e["content"] for e in events if e["event_type"] == "thinking"] == ["I must look first."]


def test_429_and_529(peer):
    session = peer.create(message="be busy", model=peer.name)["session_id"]
    done = peer.wait_status(session, "idle", "failed", seconds=60)
    events = peer.events(session)
    assert done["status"] == "idle" and final_answer(events) == "Now there is time.", done
    waits = [e["reason"] for e in events if e["event_type"] == "status" and e["to"] == "waiting"]
    assert waits and "model busy" in waits[0], waits


def test_a_cut_stream(peer):
    session = peer.create(message="be cut", model=peer.name)["session_id"]
    done = peer.wait_status(session, "idle", "failed", seconds=60)
    assert done["status"] == "idle" and final_answer(peer.events(session)) == "Whole this time.", done
    assert len([e for e in peer.events(session) if e.get("role") == "assistant"]) == 1


def sent(port):
    """The bodies aimock was sent, as it keeps them."""
    return [e["body"] for e in requests.get(f"http://127.0.0.1:{port}/__aimock/journal", timeout=10).json()]


def test_a_tool_that_the_model_refuses(tmp_path):
    """aimock says a 400 that names the form of the tool, twice: each time the next older one is sent, and the last is remembered."""
    (tmp_path / "fixtures.json").write_text(json.dumps({"fixtures": FIXTURES}))
    port = free_port()
    berth = Berth(workers=1, kind="desktop", model="claude-opus-5-5", model_command=aimock(tmp_path / "fixtures.json", port), model_url=f"http://127.0.0.1:{port}",
                  settings={"workerd": {"openai_url": f"http://127.0.0.1:{port}"}})
    try:
        berth.start()
        session = berth.create(message="be old", kind="desktop")["session_id"]
        done = berth.wait_status(session, "idle", "failed", seconds=60)
        events = berth.events(session)
        assert done["status"] == "idle" and final_answer(events) == "The oldest form it is.", done
        assert not [e for e in events if e["event_type"] == "error"]
        # Its journal keeps requests in a form of its own, without the type of the tool: what was tried stands in the worker's log.
        log = (berth.stack.state / "log" / "worker1.log").read_text()
        assert "does not take computer_toolset_20260801; trying computer_20251124" in log and "does not take computer_20251124; trying computer_20250124" in log
        assert len(sent(port)) == 3
        # The same of chat completions: what a server does not know is left out or goes by its other name.
        session = berth.create(message="be different", model="openai/demo", kind="desktop")["session_id"]
        done = berth.wait_status(session, "idle", "failed", seconds=60)
        assert done["status"] == "idle" and final_answer(berth.events(session)) == "By its other name.", done
        # A 400 that names nothing of this is no reason to ask again.
        before = len(sent(port))
        session = berth.create(message="be stubborn", kind="desktop")["session_id"]
        done = berth.wait_status(session, "idle", "failed", seconds=60)
        assert done["status"] == "failed" and "must be non-empty" in done["error"]["message"] and len(sent(port)) == before + 1
    finally:
        berth.close()


CONFIG = """
apiKey: 'right-key'
port: {port}
responses:
  - id: 'tool'
    messages:
      - {{role: system, matcher: any}}
      - {{role: user, content: 'use a tool', matcher: contains}}
      - {{role: assistant, tool_calls: [{{id: call_abc, type: function, function: {{name: bash, arguments: '{{"command":"echo from the mock"}}'}}}}]}}
  - id: 'after the tool'
    messages:
      - {{role: system, matcher: any}}
      - {{role: user, content: 'use a tool', matcher: contains}}
      - {{role: assistant, matcher: any}}
      - {{role: tool, matcher: any, tool_call_id: call_abc}}
      - {{role: assistant, content: 'The mock is content.'}}
  - id: 'plain'
    messages:
      - {{role: system, matcher: any}}
      - {{role: user, content: 'just talk', matcher: contains}}
      - {{role: assistant, content: 'Hello from the mock.'}}
"""


@pytest.fixture(scope="module")
def mock(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openai-mock")
    port = free_port()
    (folder / "config.yaml").write_text(CONFIG.format(port=port))
    if not MOCK.exists():
        pytest.skip("npm ci in tests/peers/mcp first")
    script = MOCK / json.loads((MOCK / "package.json").read_text())["bin"]["openai-mock-api"]
    log = open(folder / "log", "w")
    process = subprocess.Popen([os.environ.get("BERTH_NODE", "node"), str(script), "--config", str(folder / "config.yaml"), "--port", str(port)], stdout=log, stderr=log)
    keys = {}
    for name in ("right-key", "wrong-key"):
        path = pathlib.Path(f"/tmp/berth-peer-{os.getpid()}-{name}")
        path.write_text(name)
        path.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(path, "berth-worker1", "berth")
        keys[name] = path
    b = {}

    def start(key):
        if key not in b:
            b[key] = Berth(settings={"workerd": {"openai_url": f"http://127.0.0.1:{port}", "openai_key_file": str(keys[key]), "retries": "1"}}, workers=1).start()
        return b[key]

    def answers():
        try:
            return requests.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200
        except requests.ConnectionError:
            return process.poll() is not None
    wait_until(answers, 60, lambda: (folder / "log").read_text())
    yield start
    for one in b.values():
        one.close()
    process.kill()
    process.wait()
    for path in keys.values():
        path.unlink()


def test_the_sloppy_mock(mock):
    berth = mock("right-key")
    session = berth.create(message="just talk", model="openai/gpt-4")["session_id"]
    done = berth.wait_status(session, "idle", "failed", seconds=60)
    assert done["status"] == "idle" and final_answer(berth.events(session)) == "Hello from the mock.", done
    session = berth.create(message="use a tool", model="openai/gpt-4")["session_id"]
    done = berth.wait_status(session, "idle", "failed", seconds=60)
    events = berth.events(session)
    assert done["status"] == "idle", done
    assert "from the mock" in text_of([e for e in events if e["event_type"] == "post_tool"][0]) and final_answer(events) == "The mock is content."


def test_what_the_mock_refuses_fails_at_once(mock):
    """openai-mock-api can say one 400 only, in its own words; it names no parameter, so nothing is stepped down from and nothing asked again."""
    berth = mock("right-key")
    session = berth.create(message="nothing it knows", model="openai/gpt-4")["session_id"]
    done = berth.wait_status(session, "idle", "failed", seconds=60)
    assert done["status"] == "failed" and "No matching response" in done["error"]["message"], done


def test_a_wrong_key_fails_at_once(mock):
    berth = mock("wrong-key")
    session = berth.create(message="just talk", model="openai/gpt-4")["session_id"]
    done = berth.wait_status(session, "idle", "failed", seconds=60)
    assert done["status"] == "failed" and done["error"]["message"], done
