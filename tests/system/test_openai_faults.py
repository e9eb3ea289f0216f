"""F22 for chat completions: a server that is busy, cuts, stalls, talks nonsense or without end; then it recovers, or the session fails with a reason."""
import http.server
import json
import socketserver
import threading
import time

import pytest

from conftest import assert_gap_free
from test_approvals import by_type
from test_first_light import final_answer, text_of

CALL = {"choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "bash", "arguments": "{\"command\": \"echo ran\"}"}}]},
                     "finish_reason": "tool_calls"}]}
WORDS = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "answer"}, "finish_reason": "stop"}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 3}}


def stream(*chunks):
    return "".join(f"data: {json.dumps({'id': 'c', 'object': 'chat.completion.chunk', 'model': 'm', **c})}\n\n" for c in chunks) + "data: [DONE]\n\n"


class Server(http.server.BaseHTTPRequestHandler):
    """FAKE: gives the fault that the newest message names, so often; then one call of bash, then words."""
    protocol_version = "HTTP/1.1"
    given, calls = {}, 0

    def log_message(self, *args):
        pass

    def send(self, status, text, headers=(), repeat=1, close=True):
        self.send_response(status)
        self.send_header("content-type", "text/event-stream" if status == 200 else "application/json")
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for _ in range(repeat):
                self.wfile.write(text.encode())
        except (ConnectionError, BrokenPipeError):
            pass

    def do_POST(self):
        cls = type(self)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        cls.calls += 1
        text = next(m["content"] for m in body["messages"] if m["role"] == "user")
        text = text if isinstance(text, str) else "".join(b.get("text", "") for b in text)
        fault = json.loads(text.split("FAULT:", 1)[1])
        given = cls.given[text] = cls.given.get(text, 0) + 1
        if given <= fault.get("times", 1):
            return self.fault(fault)
        return self.send(200, stream(WORDS if any(m["role"] == "tool" for m in body["messages"]) else CALL, USAGE))

    def fault(self, f):
        if "status" in f:
            return self.send(f["status"], json.dumps({"error": {"message": "fake", "type": "server_error", "code": None}}), f.get("headers", {}).items())
        if "cut" in f:
            return self.send(200, stream(CALL)[:f["cut"]])
        if "stall" in f:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            time.sleep(f["stall"])
            self.close_connection = True
            return None
        return self.send(200, f["raw"], repeat=f.get("repeat", 1))


class Threads(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


@pytest.fixture(scope="module")
def faulty_berth():
    from conftest import Berth
    server = Threads(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    b = Berth(model="openai/m", settings={"workerd": {"openai_url": f"http://127.0.0.1:{server.server_address[1]}", "retries": "2", "model_stall": "1s", "busy_wait": "0s"}})
    try:
        yield b.start()
    finally:
        b.close()
        server.shutdown()


@pytest.mark.parametrize("fault", [
    {"status": 429, "times": 2, "headers": {"retry-after-ms": "30"}}, {"status": 500}, {"status": 529}, {"status": 503, "headers": {"retry-after": "0"}}, {"cut": 10}, {"cut": 120}, {"stall": 4},
    {"raw": "data: {nonsense\n\n"}, {"raw": "hello"}, {"raw": "data: " + "x" * 1000000, "repeat": 100}, {"raw": 'data: {"error":{"message":"busy","type":"server_error"}}\n\n'},
    {"raw": 'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"bash","arguments":"{\\"com'},
], ids=lambda f: "-".join(f"{k}={str(v)[:12]}" for k, v in f.items() if k != "headers"))
def test_recovers(faulty_berth, fault):
    berth = faulty_berth
    session = berth.create(message=f"FAULT:{json.dumps(fault)}")["session_id"]
    done = berth.wait_status(session, "idle", "failed", seconds=40)
    events = berth.events(session)
    assert done["status"] == "idle", (done["error"], [e.get("reason") for e in by_type(events, "status")])
    assert_gap_free(events)
    assert [text_of(e) for e in by_type(events, "post_tool")] == ["ran"] and final_answer(events) == "answer"
    assert len(by_type(events, "usage")) == 2 and not by_type(events, "error")


@pytest.mark.parametrize("fault,calls", [({"status": 500, "times": 99}, 3), ({"status": 400, "times": 99}, None), ({"cut": 30, "times": 99}, 3), ({"raw": "", "times": 99}, 3), ({"stall": 3, "times": 99}, 3)], ids=str)
def test_gives_up(faulty_berth, fault, calls):
    berth = faulty_berth
    words = f"FAULT:{json.dumps(fault)}"
    session = berth.create(message=words)["session_id"]
    done = berth.wait_status(session, "failed", seconds=60)
    assert done["error"]["code"] and done["error"]["message"]
    assert calls is None or Server.given[words] == calls
    assert not by_type(berth.events(session), "pre_tool")
