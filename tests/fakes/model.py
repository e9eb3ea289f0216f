#!/usr/bin/env python3
"""FAKE of the outside world: an Anthropic Messages API that plays the script it finds in the user's message.

The newest thing the user said, when it starts with "SCRIPT:", holds a JSON list of turns; the turn played is the number of
assistant messages after it. A turn is {"text"?, "thinking"?, "tools"?: [[name, input], ...], "delay"?: seconds
before the first byte, "gap"?: seconds between chunks, "status"?: HTTP error, "headers"?: {}, "times"?: how often
the fault is given before the turn is played, "input_tokens"?: what it is said to have read, "cut"?: chunks after which the connection is closed, "stall"?: true, "raw"?: {"text", "repeat"?}}.
Without a script it answers "ok". Every request body is kept: GET /requests gives and forgets them.
"""
import argparse
import http.server
import json
import os
import re
import socketserver
import sys
import threading
import time


def last_text(message):
    """The newest thing a person said in a user message; None when it holds only tool results."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    texts = [b["text"] for b in content or [] if b.get("type") == "text" and not b["text"].startswith("[What follows is a summary")]
    return texts[-1] if texts else None


def find_turn(messages):
    for at in range(len(messages) - 1, -1, -1):
        text = last_text(messages[at]) if messages[at]["role"] == "user" else None
        if text is None:
            continue
        if "about to be shortened" in text:
            return len(messages), {"text": "a summary"}, ""
        if "SCRIPT:" not in text:
            break
        turns, _ = json.JSONDecoder().raw_decode(text.rsplit("SCRIPT:", 1)[1].lstrip())
        number = sum(1 for m in messages[at + 1:] if m["role"] == "assistant")
        if "[What follows is a summary" in json.dumps(messages[at]):  # turns are gone; the calls that are left say which were played
            played = [int(b["id"].split("_")[1]) for m in messages[at + 1:] if m["role"] == "assistant" for b in m["content"] if b.get("type") == "tool_use"]
            number = max(played, default=-1) + 1
        return number, (turns[number] if number < len(turns) else {"text": "done"}), text
    return 0, {"text": "ok"}, ""


def capture(data):
    """BERTH_CAPTURE names a file that gets every request body as a line, pictures shortened: tests/peers/anthropic-types judges them."""
    path = os.environ.get("BERTH_CAPTURE")
    if not path or (os.path.exists(path) and os.path.getsize(path) > 64 * 2 ** 20):
        return
    line = re.sub(rb'"data":"[A-Za-z0-9+/=]{200,}"', b'"data":"iVBORw0KGgo="', data) + b"\n"
    with open(path, "ab", buffering=0) as f:  # one write: several processes write to it
        f.write(line)


class Fake:
    def __init__(self):
        self.lock = threading.Lock()
        self.requests = []
        self.failures = {}
        self.key = None  # when set, the only one that is taken


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement
    fake = None

    def log_message(self, *args):
        pass

    def reply_json(self, status, body, headers=None):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        with self.fake.lock:
            requests, self.fake.requests = self.fake.requests, []
        self.reply_json(200, requests)

    def do_POST(self):
        data = self.rfile.read(int(self.headers["content-length"]))
        capture(data)
        body = json.loads(data)
        with self.fake.lock:
            self.fake.requests.append({"at": time.time(), "path": self.path, "headers": dict(self.headers), "body": body})
            del self.fake.requests[:-200]
        if self.fake.key is not None and self.headers.get("x-api-key") != self.fake.key:
            self.reply_json(401, {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}})
            return
        number, turn, script = find_turn(body["messages"])
        time.sleep(turn.get("delay", 0))
        turn = self.with_fault(turn, (script, number))
        if turn.get("status"):
            kind = {429: "rate_limit_error", 529: "overloaded_error", 400: "invalid_request_error"}.get(turn["status"], "api_error")
            self.reply_json(turn["status"], {"type": "error", "error": {"type": kind, "message": f"fake {turn['status']}"}}, turn.get("headers"))
            return
        if turn.get("raw"):
            self.send_raw(turn["raw"])
            return
        if turn.get("stall"):
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            time.sleep(turn["stall"] if not isinstance(turn["stall"], bool) else 600)
            return
        self.stream(turn, number, body)

    def with_fault(self, turn, key):
        """The turn without its faults once they were given often enough: an error once, others always, unless it says `times`."""
        if not any(turn.get(f) is not None for f in ("status", "cut", "stall", "raw")):
            return turn
        with self.fake.lock:
            count = self.fake.failures[key] = self.fake.failures.get(key, 0) + 1
        if count <= turn.get("times", 1 if turn.get("status") else 10 ** 9):
            return turn
        return {k: v for k, v in turn.items() if k not in ("status", "cut", "stall", "raw")}

    def send_raw(self, raw):
        """{"text": what is sent instead of a stream, "repeat": how often}"""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for _ in range(raw.get("repeat", 1)):
                self.wfile.write(raw["text"].encode())
        except (ConnectionError, BrokenPipeError):
            pass

    def stream(self, turn, number, body):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        sent = 0

        def event(name, **data):
            nonlocal sent
            if turn.get("cut") is not None and sent >= turn["cut"]:
                self.close_connection = True
                raise ConnectionAbortedError
            sent += 1
            text = f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()
            self.wfile.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")
            self.wfile.flush()
            time.sleep(turn.get("gap", 0))

        try:
            event("message_start", message={"id": f"msg_fake_{number}", "type": "message", "role": "assistant", "content": [], "model": body["model"],
                                            "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": turn.get("input_tokens", 100), "output_tokens": 1}})
            blocks = []
            if turn.get("thinking"):
                blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, [{"type": "thinking_delta", "thinking": turn["thinking"]},
                                                                                     {"type": "signature_delta", "signature": "c2ln"}]))
            if turn.get("text"):
                words = turn["text"].split(" ")
                blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": w if i == 0 else " " + w} for i, w in enumerate(words)]))
            for i, (name, arguments) in enumerate(turn.get("tools", [])):
                text = json.dumps(arguments)
                half = len(text) // 2
                call = f"toolu_{number:03d}_{abs(hash(json.dumps([body['messages'][0], len(body['messages']), number, i]))) % 10 ** 12:012d}"
                blocks.append(({"type": "tool_use", "id": call, "name": name, "input": {}},
                               [{"type": "input_json_delta", "partial_json": text[:half]}, {"type": "input_json_delta", "partial_json": text[half:]}]))
            for i, (block, deltas) in enumerate(blocks):
                event("content_block_start", index=i, content_block=block)
                for delta in deltas:
                    event("content_block_delta", index=i, delta=delta)
                event("content_block_stop", index=i)
            event("message_delta", delta={"stop_reason": "tool_use" if turn.get("tools") else "end_turn", "stop_sequence": None},
                  usage={"output_tokens": 20})
            event("message_stop")
            self.wfile.write(b"0\r\n\r\n")
        except (ConnectionError, BrokenPipeError):
            self.close_connection = True


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Callers that are killed in mid-call are part of the tests."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve(port=0):
    handler = type("BoundHandler", (Handler,), {"fake": Fake()})
    server = Server(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    server = serve(parser.parse_args().port)
    print(server.server_address[1], flush=True)
    sys.stdin.read()
