"""The network edge's streams, displays and limits."""
import http.client
import json
import os
import re
import signal
import socket
import struct
import threading
import time

import pytest
import wire

from conftest import wait_until
from edge import parse_response, read_all
from edge_fixtures import KEY, alive, edge, own_edge  # noqa: F401
from edge_websocket import Raw, descriptors, frame, open_ws, upgrade


# ---- streams ------------------------------------------------------------------------------------------

def make_session(edge):
    return json.loads(edge.request("POST", "/sessions", edge.user, ["Content-Type: application/json"], b'{"kind":"external"}')[2])["session_id"]


def test_sse_and_websocket_of_a_session(edge):
    session = make_session(edge)
    ws = open_ws(edge, f"/sessions/{session}/stream")
    assert ws.message()["seq"] == 1
    with edge.connect() as s:
        s.sendall(f"GET /sessions/{session}/stream HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nAuthorization: Bearer {edge.viewer}\r\n\r\n".encode())
        data = b""
        while b"\n\n" not in data.partition(b"\r\n\r\n")[2]:
            data += s.recv(4096)
        status, headers, body = parse_response(data)
        assert status == 200 and headers["content-type"].startswith("text/event-stream") and headers["connection"] == "close"
        assert body.startswith(b"id: 1\nevent: ")
    ws.s.close()


def test_filters_are_the_servers(edge):
    """A /ws that names sessions is sent what concerns those only; "*" takes all again."""
    mine, other = make_session(edge), make_session(edge)
    ws = open_ws(edge)
    ws.message("init")

    def say(session, text):
        body = json.dumps({"session_id": session, "event_type": "log", "message": text}).encode()
        assert edge.request("POST", "/events", edge.user, ["Content-Type: application/json"], body)[0] == 201

    def subscribe(sessions):
        ws.send(frame(0x81, json.dumps({"type": "subscribe", "sessions": sessions}).encode()))
        ws.send(frame(0x81, b'{"type":"ping"}'))
        ws.message("pong")

    def until(text):
        seen = []
        while not seen or seen[-1].get("message") != text:
            m = ws.message("event")["event"]
            if m["session_id"] in (mine, other) and m["event_type"] == "log":
                seen.append(m)
        return [(m["session_id"], m["message"]) for m in seen]
    subscribe([mine])
    say(other, "not wanted")
    say(mine, "wanted")
    assert until("wanted") == [(mine, "wanted")]
    subscribe("*")
    say(other, "wanted now")
    say(mine, "last")
    assert until("last") == [(other, "wanted now"), (mine, "last")]
    ws.s.close()


def test_vnc_needs_a_slot(edge):
    session = make_session(edge)
    assert upgrade(edge, f"/sessions/{session}/vnc")[0].split()[1] == b"409"
    assert upgrade(edge, "/sessions/none/vnc")[0].split()[1] == b"404"
    assert edge.request("GET", f"/sessions/{session}/vnc", edge.user)[0] == 426
    assert edge.request("GET", f"/sessions/{session}/screenshot", edge.user)[0] == 404
    assert edge.request("GET", f"/sessions/{session}/screenshot?width=0", edge.user)[0] == 400


def test_slow_viewer_lags_and_others_do_not(edge):
    """A client that reads nothing is told where to resume and closed with 4008; another one misses nothing."""
    slow, fast = open_ws(edge), open_ws(edge)
    slow.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    fast.message("init")
    made, seen = [], set()

    def read():
        fast.s.settimeout(30)
        try:
            while True:
                first, payload = fast.frame()
                if first == 0x81 and (m := json.loads(payload))["type"] == "session_updated":
                    seen.add(m["session"]["session_id"])
                elif first == 0x89:
                    fast.send(frame(0x8a, payload))
        except (OSError, EOFError):
            pass
    reader = threading.Thread(target=read)
    reader.start()

    def lagged():
        text = edge.request("GET", "/metrics", edge.user)[2].decode()
        return int(re.search(r"^berth_stream_lagged_total (\d+)", text, re.M)[1])

    def alive_though_slow():
        """A pong: it lives, it only does not read. Not once it is told and closed: it has some seconds to read that, and sending
        after them would drop what it has not read."""
        if lagged() > before:
            return False
        slow.send(frame(0x8a))
        return True
    before = lagged()
    try:
        c = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=20)
        while len(made) < 120:
            body = json.dumps({"kind": "external", "metadata": {"x": "y" * 40000}})
            c.request("POST", "/sessions", body, {"Authorization": f"Bearer {edge.user}", "Content-Type": "application/json"})
            reply = c.getresponse()
            text = reply.read()
            if reply.status == 503:  # a slow disk: what a client does then
                continue
            assert reply.status == 201, text
            made.append(json.loads(text)["session_id"])
            # 25 of these fill a queue: a reader that shares its processor with all of this must not be the slow one.
            # Without the bus updates come once a second, and as many as there is room for.
            if not os.environ.get("BERTH_TEST_BUS"):
                wait_until(lambda: made[-1] in seen or not reader.is_alive(), 20, lambda: f"the fast one to see number {len(made)}")
            if not alive_though_slow():
                break
        last, code = None, None
        slow.s.settimeout(10)
        try:
            while not os.environ.get("BERTH_TEST_BUS"):  # without it, it was given only what it had room for
                first, payload = slow.frame()
                if first == 0x81:
                    last = json.loads(payload)
                elif first == 0x88:
                    code = struct.unpack(">H", payload[:2])[0]
        except (EOFError, ConnectionResetError):
            pass
        assert os.environ.get("BERTH_TEST_BUS") or last["type"] == "lagged" and isinstance(last["resume_after"], int) and code == 4008
        wait_until(lambda: seen >= set(made), 20, lambda: f"missing {[i for i, s in enumerate(made) if s not in seen]} of {len(made)}, reader alive {reader.is_alive()}\n{edge.logs()}")
    finally:
        fast.s.shutdown(socket.SHUT_RDWR)
        reader.join()
        fast.s.close()
    alive(edge)


def test_more_sessions_than_a_queue_holds(own_edge):
    """/ws begins with all sessions, however many bytes that is; events that come meanwhile are not what ends it."""
    edge = own_edge()
    edge.sql("INSERT INTO core.session (session_id, tenant, session_name, status, kind, created_at, modified_at, queued_at) "
             "SELECT 'many-' || n, 'default', repeat('n', 150), 'finished', 'external', now(), now(), now() FROM generate_series(1, 8000) n")
    lines = ["GET /ws HTTP/1.1", "Host: berth", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}",
             f"Authorization: Bearer {edge.user}"]

    def accepted():
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        s.settimeout(20)
        s.connect(("127.0.0.1", edge.port))
        s.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        ws, head = Raw(s), b""
        while not head.endswith(b"\r\n\r\n"):
            head += ws.read(1)
        if head.startswith(b"HTTP/1.1 101"):
            return s, ws
        assert head.startswith(b"HTTP/1.1 503"), head  # so many sessions on a machine with much else to do
        s.close()
    s, ws = wait_until(accepted, 60, "a stream")
    first, n = ws.read(2)
    assert (first, n) == (0x81, 127), "the first message is the one with the sessions"
    made = make_session(edge)  # while most of the message still waits here and there
    init = json.loads(ws.read(struct.unpack(">Q", ws.read(8))[0]))
    assert init["type"] == "init" and len(init["sessions"]) >= 8000
    while (m := ws.message())["type"] != "event" or m["event"]["session_id"] != made:
        assert m["type"] in ("event", "session_updated"), m
    s.close()
    alive(edge)


# ---- the display ------------------------------------------------------------------------------------------

class Worker:
    """Stands in for a worker's descriptor socket: hands out one end of a socket pair per viewer."""

    def __init__(self, edge, session):
        self.session = session
        self.path = str(edge.run_dir / f"w-{session[-8:]}.sock")
        self.displays, self.connections = [], []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o666)
        self.listener.listen(8)
        edge.sql(f"INSERT INTO core.worker VALUES ('{session}', 'i', '0', true, false, 'busy', 'desktop', '{{desktop}}', '{session}', 1, "
                 f"'{self.path}', '{{}}', '{{}}', '{{}}', now(), now())")
        edge.sql(f"UPDATE core.session SET worker_id = '{session}' WHERE session_id = '{session}'")
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(c)
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        while data := c.recv(65536):
            m = wire.unpack(data)
            if m.name == "display_open":
                ours, theirs = socket.socketpair()
                self.displays.append(ours)
                out = wire.pack("display_opened", {"width": 1024, "height": 768}, flags=wire.REPLY, correlation=m.correlation)
                socket.send_fds(c, [out], [theirs.fileno()])
                theirs.close()
            else:
                fd = os.memfd_create("picture")
                os.write(fd, b"\x89PNG-fake")
                out = wire.pack("screenshot_reply", {"width": m.body["width"], "height": 1, "size_bytes": 9}, flags=wire.REPLY, correlation=m.correlation)
                socket.send_fds(c, [out], [fd])
                os.close(fd)

    def close(self):
        self.listener.close()
        for s in self.connections + self.displays:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@pytest.fixture
def worker(edge):
    w = Worker(edge, make_session(edge))
    yield w
    w.close()


def open_display(edge, worker, **arguments):
    n = len(worker.displays)
    ws = open_ws(edge, f"/sessions/{worker.session}/vnc", **arguments)
    wait_until(lambda: len(worker.displays) > n, 5)
    display = worker.displays[n]
    display.settimeout(5)
    return ws, display


HELLO = b"RFB 003.008\n\x01\x00"
UPDATE = b"\x03\x01\0\0\0\0\x04\0\x03\0"
KEYS = b"\x04\x01\0\0\0\0\0\x61" + b"\x05\x01\0\x10\0\x10" + b"\x06\0\0\0\0\0\0\x03xyz"


def binary(ws, n):
    out = b""
    while len(out) < n:
        first, payload = ws.frame()
        if first == 0x82:
            out += payload
        elif first == 0x89:
            ws.send(frame(0x8a, payload))
        assert first in (0x82, 0x89), (first, payload)
    return out


def test_display_is_view_only_for_several_viewers(edge, worker):
    viewers = [open_display(edge, worker) for _ in range(3)]
    for i, (ws, display) in enumerate(viewers):
        display.sendall(b"RFB 003.008\n" + bytes([i]))
        assert binary(ws, 13) == b"RFB 003.008\n" + bytes([i])
        message = HELLO + KEYS + UPDATE + KEYS + UPDATE
        for part in (message[:5], message[5:20], message[20:]):
            ws.send(frame(0x82, part))
        want, got = b"RFB 003.008\n\x01\x01" + UPDATE * 2, b""
        while len(got) < len(want):
            got += display.recv(4096)
        assert got == want
    for ws, display in viewers[1:]:
        ws.s.close()
        while display.recv(4096):
            pass
    ws, display = viewers[0]
    display.sendall(b"still here")
    assert binary(ws, 10) == b"still here"
    display.close()
    assert ws.close_code() == 1001


def test_display_bytes_after_filter(edge, worker):
    ws, display = open_display(edge, worker, Sec_WebSocket_Protocol="chat, binary")
    message = HELLO + KEYS + UPDATE + KEYS + UPDATE
    for byte in message:
        ws.send(frame(0x82, bytes([byte])))
    want, got = b"RFB 003.008\n\x01\x01" + UPDATE * 2, b""
    while len(got) < len(want):
        got += display.recv(4096)
    assert got == want
    ws.send(frame(0x82, b"\x63"))
    assert ws.close_code() == 1008
    ws, display = open_display(edge, worker)
    ws.send(frame(0x81, b"text"))
    assert ws.close_code() == 1003


def test_display_subprotocol(edge, worker):
    head, s = upgrade(edge, f"/sessions/{worker.session}/vnc", Sec_WebSocket_Protocol="chat, binary")
    assert parse_response(head)[1]["sec-websocket-protocol"] == "binary"
    s.close()
    head, s = upgrade(edge, f"/sessions/{worker.session}/vnc")
    assert "sec-websocket-protocol" not in parse_response(head)[1]
    s.close()


def test_display_backpressure(edge, worker):
    """A viewer that does not read stops its own display's reading, loses no byte, and no other viewer waits."""
    slow, slow_display = open_display(edge, worker)
    fast, fast_display = open_display(edge, worker)
    slow.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    block = bytes(range(256)) * 256
    slow_display.setblocking(False)
    sent = 0
    idle = time.monotonic()
    while time.monotonic() - idle < 0.5 and sent < 64 << 20:
        try:
            n = slow_display.send(block[sent % 256:])
            sent += n
            idle = time.monotonic()
        except BlockingIOError:
            fast_display.sendall(b"x")
            assert binary(fast, 1) == b"x"
        slow.send(frame(0x8a))
    assert sent < 24 << 20
    assert binary(slow, sent) == (block * (sent // 65536 + 1))[:sent]


def test_screenshot_of_a_slot(edge, worker):
    status, headers, body = edge.request("GET", f"/sessions/{worker.session}/screenshot?width=640", edge.viewer)
    assert (status, headers["content-type"], body) == (200, "image/png", b"\x89PNG-fake")


# ---- limits ---------------------------------------------------------------------------------------------

def test_silent_connections_give_way(own_edge):
    edge = own_edge(connections_per_address="20", head_timeout="60s", idle_timeout="60s")
    silent = [edge.connect() for _ in range(100)]
    begin = time.monotonic()
    alive(edge)
    assert time.monotonic() - begin < 0.5
    for s in silent:
        s.close()
    streams = []
    for _ in range(20):  # those at work do not give way
        streams.append(open_ws(edge))
    status, headers, body = parse_response(edge.exchange(b""))
    assert status == 503 and headers["retry-after"] == "1" and json.loads(body)["error"]["code"] == "unavailable"
    streams.pop().s.close()
    wait_until(lambda: edge.answers(), 5)
    for ws in streams:
        ws.s.close()


def test_many_connections_and_descriptors(own_edge):
    edge = own_edge(connections_per_address="2000", connections_max="300")
    held = [edge.connect() for _ in range(600)]
    alive(edge)
    assert descriptors(edge) < 400
    for s in held:
        s.close()
    wait_until(lambda: descriptors(edge) < 60, 5)


def test_unix_socket_and_restart(own_edge):
    edge = own_edge()
    path = str(edge.run_dir / "edge.sock")
    gatewayd = edge.services["gatewayd"]
    edge.stop_service(gatewayd)
    assert gatewayd.process.returncode == 0
    gatewayd.argv += ["--set", f"listen={path}"]
    for number in (signal.SIGKILL, signal.SIGTERM):  # a leftover socket file is no obstacle
        edge.start(gatewayd)

        def ask():
            with socket.socket(socket.AF_UNIX) as s:
                try:
                    s.connect(path)
                except OSError:
                    return False
                s.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                return parse_response(read_all(s))[0] == 200
        wait_until(ask, 10, edge.logs)
        gatewayd.process.send_signal(number)
        gatewayd.process.wait(10)
    assert not os.path.exists(path)


def test_stop_tells_the_streams(own_edge):
    edge = own_edge()
    ws = open_ws(edge)
    ws.message("init")
    edge.services["gatewayd"].process.send_signal(signal.SIGTERM)
    assert ws.close_code() == 1012
    assert edge.services["gatewayd"].process.wait(5) == 0


def test_public_listener_needs_a_setting(own_edge):
    edge = own_edge()
    gatewayd = edge.services["gatewayd"]
    edge.stop_service(gatewayd)
    edge.start(type(gatewayd)(**{**gatewayd.__dict__, "argv": gatewayd.argv + ["--set", "listen=0.0.0.0:0"], "process": None}))
    assert edge.services["gatewayd"].process.wait(10) != 0
    assert "listen_public" in edge.log_tail("gatewayd")


def test_database_down_means_503(own_edge):
    edge = own_edge()
    assert edge.request("GET", "/sessions", edge.user)[0] == 200
    edge.stop_service(edge.services["postgres"])
    begin = time.monotonic()
    status, headers, _ = edge.request("GET", "/sessions", "bt_" + "B" * 43)
    assert status == 503 and headers["retry-after"] == "1" and time.monotonic() - begin < 8
    alive(edge)


def test_idle_memory_of_websockets(own_edge):
    edge = own_edge(connections_per_address="2000", ping_interval="60s")

    def rss():
        text = open(f"/proc/{edge.services['gatewayd'].process.pid}/status").read()
        return int(text.split("VmRSS:")[1].split()[0]) * 1024
    warm = [open_ws(edge) for _ in range(50)]
    before = rss()
    clients = [open_ws(edge) for _ in range(400)]
    per_client = (rss() - before) / len(clients)
    print(f"idle WebSocket client: {per_client:.0f} bytes")
    if b"__asan_init" not in (edge.bin / "gatewayd").read_bytes():
        assert per_client <= 4096
    for ws in warm + clients:
        ws.s.close()
