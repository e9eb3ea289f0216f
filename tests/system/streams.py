"""Clients of Berth's streams for the tests: each keeps what it received, so that resume can be judged."""
import json
import threading

import requests
import websocket


class SessionStream:
    """Follows /sessions/{id}/stream by WebSocket or SSE in a thread; reconnects from the last seq it has seen, as a
    page would, until stopped. `updates` holds every numbered update in the order received, over all connections."""

    def __init__(self, berth, session_id, kind="ws", after=0):
        self.berth, self.session_id, self.kind, self.after = berth, session_id, kind, after
        self.updates, self.deltas, self.connections = [], [], 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopping.is_set():
            try:
                (self.follow_ws if self.kind == "ws" else self.follow_sse)()
            except (OSError, requests.RequestException, websocket.WebSocketException, ValueError):
                pass
            self.stopping.wait(0.1)

    def take(self, update):
        if "seq" in update and update["type"] != "lagged":
            self.updates.append(update)
            self.after = update["seq"]
        else:
            self.deltas.append(update)

    def follow_ws(self):
        url = self.berth.url(f"/sessions/{self.session_id}/stream?after_seq={self.after}").replace("http", "ws")
        ws = websocket.create_connection(url, timeout=5, header=[f"Authorization: {self.berth.http.headers['Authorization']}"])
        self.connections += 1
        try:
            ws.settimeout(0.2)
            while not self.stopping.is_set():
                try:
                    text = ws.recv()
                except websocket.WebSocketTimeoutException:
                    continue
                if not text:
                    return
                self.take(json.loads(text))
        finally:
            ws.shutdown()

    def follow_sse(self):
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.after)}
        with requests.get(self.berth.url(f"/sessions/{self.session_id}/stream"), stream=True, timeout=15,
                          headers={**self.berth.http.headers, **headers}) as reply:
            reply.raise_for_status()
            self.connections += 1
            event = {}
            for line in reply.iter_lines(chunk_size=1, decode_unicode=True):
                if self.stopping.is_set():
                    return
                if line == "" and "data" in event:
                    update = json.loads(event["data"])
                    assert "seq" not in update or event.get("id") == str(update["seq"]), event
                    self.take(update)
                    event = {}
                elif line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    event[name] = value

    def stop(self):
        self.stopping.set()
        self.thread.join(20)

    def assert_whole(self, events):
        """Exactly the stored events, each once, in order."""
        assert [u["seq"] for u in self.updates] == [e["seq"] for e in events]
        for update, event in zip(self.updates, events):
            assert {k: v for k, v in update.items() if k != "type"} == event
