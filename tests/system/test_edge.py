"""The network edge against raw sockets: heads, bodies, pipelining, deadlines, limits, WebSocket, tokens, the page."""
import base64
import hashlib
import http.client
import json
import os
import signal
import socket
import struct
import threading
import time

import pytest
import wire
from hypothesis import HealthCheck, given, settings, strategies as st

from conftest import wait_until
from edge import Edge, parse_response, read_all, responses

KEY = base64.b64encode(b"0123456789abcdef").decode()
ACCEPT = base64.b64encode(hashlib.sha1((KEY + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()


@pytest.fixture(scope="module")
def edge():
    e = Edge()
    try:
        yield e.start_edge()
    finally:
        e.close()


@pytest.fixture
def own_edge():
    made = []

    def make(**settings):
        e = Edge(settings)
        made.append(e)
        return e.start_edge()
    yield make
    for e in made:
        e.close()


def alive(edge):
    assert edge.request("GET", "/health")[0] == 200


# ---- heads -------------------------------------------------------------------------------------------

HEAD = b"Host: berth\r\n"
BAD_HEADS = {
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "host with NUL": b"GET /health HTTP/1.1\r\nHost: a\0b\r\n\r\n",
    "host with @": b"GET /health HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "length -1": b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Content-Length: -1\r\n\r\n",
    "length 0x5": b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Content-Length: 0x5\r\n\r\n",
    "length 2^64": b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Content-Length: 18446744073709551616\r\n\r\n",
    "two lengths": b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "CL and TE": b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE xchunked": b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE with 0xa0": b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: \xa0chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"GET /health HTTP/1.1\nHost: a\n\n",
    "CR anything": b"GET /health HTTP/1.1\r\nHost: a\rX\r\n\r\n",
    "folded": b"GET /health HTTP/1.1\r\n" + HEAD + b"X: a\r\n b\r\n\r\n",
    "space before colon": b"GET /health HTTP/1.1\r\n" + HEAD + b"X : a\r\n\r\n",
    "no colon": b"GET /health HTTP/1.1\r\n" + HEAD + b"Xa\r\n\r\n",
    "0.9": b"GET /health\r\n\r\n",
    "9.9": b"GET /health HTTP/9.9\r\n" + HEAD + b"\r\n",
    "lower case": b"GET /health http/1.1\r\n" + HEAD + b"\r\n",
    "unknown method": b"BREW /health HTTP/1.1\r\n" + HEAD + b"\r\n",
    "authority form": b"CONNECT a:443 HTTP/1.1\r\n" + HEAD + b"\r\n",
    "star": b"OPTIONS * HTTP/1.1\r\n" + HEAD + b"\r\n",
    "9 KB target": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
    "64 KB header": b"GET /health HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 65536 + b"\r\n\r\n",
    "1000 headers": b"GET /health HTTP/1.1\r\n" + HEAD + b"".join(b"X%d: y\r\n" % i for i in range(1000)) + b"\r\n",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS hello": bytes.fromhex("1603010200010001fc0303") + b"\0" * 200,
    "NUL in the path": b"GET /%00 HTTP/1.1\r\n" + HEAD + b"\r\n",
    "dots": b"GET /../../etc/passwd HTTP/1.1\r\n" + HEAD + b"\r\n",
    "encoded dots": b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + HEAD + b"\r\n",
    "encoded slash": b"GET /demo/..%2fsecret.txt HTTP/1.1\r\n" + HEAD + b"\r\n",
    "overlong": b"GET /%c0%ae%c0%ae/secret.txt HTTP/1.1\r\n" + HEAD + b"\r\n",
    "bad query": b"GET /sessions?a=%zz HTTP/1.1\r\n" + HEAD + b"\r\n",
    "100 parameters": b"GET /sessions?" + b"&".join(b"a%d=b" % i for i in range(100)) + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_bad_head_is_refused_and_ends_the_connection(edge, name):
    reply = edge.exchange(BAD_HEADS[name])
    status, headers, body = parse_response(reply)
    assert 400 <= status < 500, reply
    assert headers["connection"] == "close"
    assert len(json.loads(body)["error"]["message"]) > 10


@pytest.mark.parametrize("path,status", [("/%252e%252e/secret.txt", 404), ("/link.txt", 404), ("/demo/link.txt", 404), ("/demo/", 200),
                                         ("/no/such", 404), ("/.hidden", 404), ("/web", 404)])
def test_the_page_stays_beneath_its_folder(edge, path, status):
    got, _, body = edge.request("GET", path)
    assert got == status and b"outside" not in body


def test_head_in_single_bytes_and_deadline(edge):
    with edge.connect() as s:
        for byte in b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":
            s.send(bytes([byte]))
        assert parse_response(read_all(s))[0] == 200
    begin = time.monotonic()
    with edge.connect() as s:  # one byte now and then: the deadline counts from the first
        s.sendall(b"GET /health HTTP/1.1\r\n")
        out = read_until_closed_while_dribbling(s, b"X")
    assert parse_response(out)[0] == 408 and 0.5 < time.monotonic() - begin < 3
    begin = time.monotonic()
    with edge.connect() as s:  # says nothing
        assert read_all(s) == b""
    assert 0.5 < time.monotonic() - begin < 3


def read_until_closed_while_dribbling(s, byte):
    out = b""
    s.settimeout(0.1)
    for _ in range(100):
        try:
            s.send(byte)
        except OSError:
            pass
        try:
            part = s.recv(65536)
        except TimeoutError:
            continue
        except ConnectionResetError:
            break
        if not part:
            break
        out += part
    return out


# ---- bodies and pipelining ----------------------------------------------------------------------------

def post_chunked(edge, chunks, path="/sessions"):
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {edge.user}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return edge.exchange(head.encode() + chunks)


def test_chunked_bodies(edge):
    with edge.connect() as s:
        head = f"POST /sessions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {edge.user}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        s.sendall(head.encode())
        for byte in b'9;ext=1\r\n{"kind":"\r\nA\r\nexternal"}\r\n0\r\nTrailer: x\r\n\r\n':
            s.send(bytes([byte]))
        assert parse_response(read_all(s))[0] == 201


@pytest.mark.parametrize("chunks", [b"0x2\r\n{}\r\n0\r\n\r\n", b"+2\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n", b"\r\n{}\r\n0\r\n\r\n", b"2\n{}\n0\n\n",
                                    b"2\r\n{}0\r\n\r\n", b"00000000000000002\r\n{}\r\n0\r\n\r\n", b"ffffffffffffffff\r\n{}", b"2 \r\n{}\r\n0\r\n\r\n",
                                    b"2\r\n{}\r\n0\r\nbad trailer\r\n\r\n", b"2;\x01\r\n{}\r\n0\r\n\r\n", b"2\r{}\r\n0\r\n\r\n"])
def test_broken_chunks(edge, chunks):
    before = edge.sql("SELECT count(*) FROM core.session")
    status, headers, _ = parse_response(post_chunked(edge, chunks))
    assert status == 400 and headers["connection"] == "close"
    assert edge.sql("SELECT count(*) FROM core.session") == before


def test_big_bodies(edge):
    token = f"Authorization: Bearer {edge.user}\r\nContent-Type: application/json\r\n"
    head = f"POST /sessions HTTP/1.1\r\nHost: a\r\n{token}"
    reply = edge.exchange(f"{head}Content-Length: 1073741824\r\nExpect: 100-continue\r\n\r\n".encode())
    assert parse_response(reply)[0] == 413  # before any byte of it
    status = parse_response(post_chunked(edge, b"100000\r\n" + b" " * 0x100000 + b"\r\n1\r\n \r\n0\r\n\r\n"))[0]
    assert status == 413
    body = b'{"session_name":"' + b"x" * 900000 + b'"}'
    assert edge.request("POST", "/sessions", edge.user, ["Content-Type: application/json"], body)[0] == 400
    alive(edge)


def test_dribbled_body_times_out(edge):
    with edge.connect() as s:
        s.sendall(f"POST /sessions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {edge.user}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n".encode())
        begin = time.monotonic()
        assert parse_response(read_until_closed_while_dribbling(s, b" "))[0] == 408
        assert time.monotonic() - begin < 4


def test_expect_continue(edge):
    with edge.connect() as s:
        s.sendall(f"POST /sessions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {edge.user}\r\nContent-Type: application/json\r\nContent-Length: 19\r\nExpect: 100-continue\r\n\r\n".encode())
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b'{"kind":"external"}')
        assert parse_response(read_all(s))[0] == 201


def test_body_where_none_is_wanted(edge):
    status, _, body = edge.request("GET", "/sessions", edge.user, body=b"x")
    assert status == 400 and b"no body" in body


def test_pipelined_requests(edge):
    get = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /nothing.here HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    post = f"POST /tickets HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {edge.user}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    statuses = [r[0] for r in responses(edge.exchange(get * 20 + post + get + post + last))]
    assert statuses == [200] * 20 + [201, 200, 201, 404]
    # An answer that does not read the body leaves the next request in order.
    refused = b"POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    assert [r[0] for r in responses(edge.exchange(refused + get + last))] == [401, 200, 404]
    # Nothing after Connection: close, nothing after a bad head.
    assert [r[0] for r in responses(edge.exchange(last + get))] == [404]
    assert [r[0] for r in responses(edge.exchange(get + b"BAD\r\n\r\n" + get))] == [200, 400]
    # A smuggled request is not one.
    assert [r[0] for r in responses(edge.exchange(b"POST /tickets HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get))] == [400]
    # Half-closed by the client after its requests: all are answered.
    with edge.connect() as s:
        s.sendall(get * 3)
        s.shutdown(socket.SHUT_WR)
        assert [r[0] for r in responses(read_all(s))] == [200] * 3


def test_keep_alive_and_idle_timeout(edge):
    c = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=10)
    for _ in range(50):
        c.request("GET", "/health")
        assert c.getresponse().read()
    begin = time.monotonic()
    assert c.sock.recv(1) == b""
    assert 1 < time.monotonic() - begin < 5
    with edge.connect() as s:  # HTTP/1.0 closes, or keeps when asked to
        s.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert parse_response(read_all(s))[1]["connection"] == "close"


def test_methods(edge):
    status, headers, body = edge.request("HEAD", "/health")
    assert status == 200 and body == b"" and int(headers["content-length"]) > 0
    status, headers, body = edge.request("PUT", "/sessions", edge.user)
    assert status == 405 and "POST" in headers["allow"] and json.loads(body)["error"]["code"] == "method_not_allowed"
    assert edge.request("POST", "/no/such", edge.user)[0] == 404


# ---- the page ------------------------------------------------------------------------------------------

def test_page(edge):
    status, headers, body = edge.request("GET", "/")
    assert status == 200 and body == (edge.web / "index.html").read_bytes()
    assert headers["content-type"].startswith("text/html") and headers["cache-control"] == "no-cache"
    assert "script-src 'self'" in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"
    assert edge.request("GET", "/", headers=[f"If-None-Match: {headers['etag']}"])[0] == 304
    assert edge.request("GET", "/some/view", headers=["Accept: text/html"])[2] == body
    status, headers, body = edge.request("GET", "/app-3F2A9C1B.js")
    assert status == 200 and "immutable" in headers["cache-control"] and len(body) == int(headers["content-length"]) == 750000
    status, headers, body = edge.request("GET", "/app-3F2A9C1B.js", headers=["Accept-Encoding: gzip, br"])
    assert headers["content-encoding"] == "gzip" and body == b"not really zipped"


def test_slow_reader_of_a_file(edge):
    with edge.connect() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.sendall(b"GET /app-3F2A9C1B.js HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        alive(edge)
        assert len(parse_response(read_all(s))[2]) == 750000


def test_documents_listener_serves_documents_only(edge):
    with socket.create_connection(("127.0.0.1", edge.docs_port), timeout=5) as s:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /sessions HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert [r[0] for r in responses(read_all(s))] == [200, 404, 404]


# ---- tokens and tickets ----------------------------------------------------------------------------------

def test_tokens(edge):
    shapes = set()
    for token in (None, "x", "bt_" + "A" * 43, edge.user + "x", "\xe4", "a" * 300):
        status, headers, body = edge.request("GET", "/sessions", token)
        shapes.add((status, body, tuple(sorted(set(headers) - {"date", "x-request-id"}))))
    assert len(shapes) == 1 and shapes.pop()[0] == 401
    assert edge.request("GET", f"/sessions?token={edge.user}")[0] == 401  # never a token in a URL
    assert edge.request("GET", "/sessions", edge.viewer)[0] == 200
    assert edge.request("POST", "/sessions", edge.viewer, ["Content-Type: application/json"], b"{}")[0] == 403


def test_ticket_is_single_use(edge):
    ticket = json.loads(edge.request("POST", "/tickets", edge.user)[2])["ticket"]
    first = upgrade(edge, f"/ws?token={ticket}", token=None)
    assert b" 101 " in first[0]
    first[1].close()
    reply, s = upgrade(edge, f"/ws?token={ticket}", token=None)
    s.close()
    assert b" 401 " in reply


def test_revoked_token_ends_its_streams(edge):
    token = edge.make_token("user")
    ws = open_ws(edge, token=token)
    edge.sql(f"UPDATE core.auth_token SET revoked_at = now() WHERE token_hash = '{hashlib.sha256(token.encode()).hexdigest()}'")
    begin = time.monotonic()
    assert ws.close_code(15) == 1008
    assert time.monotonic() - begin < 12
    wait_until(lambda: edge.request("GET", "/sessions", token)[0] == 401, 10)


def test_tokens_are_not_logged(edge):
    edge.request("GET", "/sessions?token=CANARY-ticket", "CANARY-token")
    log = (edge.state / "log" / "gatewayd.log").read_text(errors="replace")
    assert "CANARY" not in log and edge.user not in log


# ---- WebSocket handshake -----------------------------------------------------------------------------

def upgrade(edge, path="/ws", token="user", drop=(), extra=(), method="GET", version="HTTP/1.1", **replace):
    fields = {"Host": "berth", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": KEY}
    fields.update({k.replace("_", "-"): v for k, v in replace.items()})
    if token:
        fields["Authorization"] = f"Bearer {getattr(edge, token, token)}"
    lines = [f"{method} {path} {version}"] + [f"{k}: {v}" for k, v in fields.items() if k not in drop] + list(extra)
    s = edge.connect()
    s.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        part = s.recv(1)
        if not part:
            break
        head += part
    return head, s


HANDSHAKES = {  # arguments of upgrade(), wanted status
    "good": ({}, 101),
    "lower-case tokens": ({"Upgrade": "WebSocket", "Connection": "keep-alive, upgrade"}, 101),
    "own origin": ({"Origin": "http://berth"}, 101),
    "extension offers are declined": ({"Sec_WebSocket_Extensions": "permessage-deflate; server_max_window_bits=99999999999"}, 101),
    "no key": ({"drop": ["Sec-WebSocket-Key"]}, 400),
    "short key": ({"Sec_WebSocket_Key": "AAAA"}, 400),
    "long key": ({"Sec_WebSocket_Key": "A" * 44}, 400),
    "key not base64": ({"Sec_WebSocket_Key": "!" * 22 + "=="}, 400),
    "two keys": ({"extra": [f"Sec-WebSocket-Key: {KEY}"]}, 400),
    "version 12": ({"Sec_WebSocket_Version": "12"}, 426),
    "version 14": ({"Sec_WebSocket_Version": "14"}, 426),
    "no version": ({"drop": ["Sec-WebSocket-Version"]}, 426),
    "two protocols": ({"Upgrade": "websocket, h2c"}, 400),
    "no upgrade": ({"drop": ["Upgrade"]}, 426),
    "no connection token": ({"drop": ["Connection"]}, 426),
    "h2c": ({"Upgrade": "h2c"}, 426),
    "HTTP/1.0": ({"version": "HTTP/1.0"}, 426),
    "POST": ({"method": "POST"}, 405),
    "body": ({"extra": ["Content-Length: 5"]}, 400),
    "foreign origin": ({"Origin": "https://evil.example"}, 403),
    "null origin": ({"Origin": "null"}, 403),
    "origin with our name within": ({"Origin": "http://berth.evil.example"}, 403),
    "origin of another port": ({"Origin": "http://berth:81"}, 403),
    "no token": ({"token": None}, 401),
    "wrong token": ({"token": "bt_wrong"}, 401),
    "token in the query": ({"token": None, "path": "/ws?token=bt_wrong"}, 401),
    "subprotocol list of 10,000": ({"Sec_WebSocket_Protocol": ",".join(f"p{i}" for i in range(10000))}, 431),
    "subprotocols we do not know": ({"Sec_WebSocket_Protocol": "chat, binaryx"}, 101),
    "not a stream": ({"path": "/sessions"}, 200),
}


@pytest.mark.parametrize("name", HANDSHAKES)
def test_handshake(edge, name):
    arguments, want = HANDSHAKES[name]
    head, s = upgrade(edge, **arguments)
    s.close()
    status, headers, _ = parse_response(head)
    assert status == want, head
    if want == 101:
        assert headers["sec-websocket-accept"] == ACCEPT
        assert "sec-websocket-extensions" not in headers and "sec-websocket-protocol" not in headers
    alive(edge)


# ---- WebSocket frames ----------------------------------------------------------------------------------

def frame(first, payload=b"", mask=b"\x11\x22\x33\x44", form=0):
    n = len(payload)
    bit = 0x80 if mask is not None else 0
    if form == 8 or n > 65535:
        length = bytes([bit | 127]) + struct.pack(">Q", n)
    elif form == 2 or n > 125:
        length = bytes([bit | 126]) + struct.pack(">H", n)
    else:
        length = bytes([bit | n])
    if mask is not None:
        payload = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
    return bytes([first]) + length + (mask or b"") + payload


class Raw:
    """A WebSocket client that may say anything."""

    def __init__(self, s):
        self.s, self.buffer = s, b""

    def send(self, data):
        self.s.sendall(data)

    def read(self, n):
        while len(self.buffer) < n:
            part = self.s.recv(65536)
            if not part:
                raise EOFError
            self.buffer += part
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def frame(self):
        first, n = self.read(2)
        assert not n & 0x80
        if n == 126:
            n = struct.unpack(">H", self.read(2))[0]
        elif n == 127:
            n = struct.unpack(">Q", self.read(8))[0]
        return first, self.read(n)

    def message(self, kind=None):
        """The next text message, or the next of this type; pings are left unanswered."""
        while True:
            first, payload = self.frame()
            if first == 0x81 and (kind is None or json.loads(payload)["type"] == kind):
                return json.loads(payload)

    def close_code(self, seconds=5):
        """The code of the server's close frame, 0 without one, None without an end."""
        self.s.settimeout(seconds)
        code, until = None, time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                first, payload = self.frame()
                if first == 0x89:  # answer pings, so that only what is tested ends us
                    self.send(frame(0x8a, payload))
                if first == 0x88:
                    code = struct.unpack(">H", payload[:2])[0] if payload else 0
        except TimeoutError:
            return code
        except (EOFError, ConnectionResetError, BrokenPipeError):
            pass
        finally:
            self.s.close()
        return 0 if code is None else code


def open_ws(edge, path="/ws", **arguments):
    head, s = upgrade(edge, path, **arguments)
    assert b" 101 " in head.split(b"\r\n")[0], head
    return Raw(s)


TEXT = json.dumps({"type": "ping"}).encode()
GOOD = {
    "text": frame(0x81, TEXT),
    "text, 16-bit length": frame(0x81, TEXT[:-1] + b" " * 200 + b"}"),
    "fragments": frame(0x01, TEXT[:3]) + frame(0x00, TEXT[3:9]) + frame(0x80, TEXT[9:]),
    "empty fragments": frame(0x01) + frame(0x00) * 100 + frame(0x80, TEXT),
    "ping between fragments": frame(0x01, TEXT[:3]) + frame(0x89, b"x") + frame(0x80, TEXT[3:]),
    "unasked pong": frame(0x8a, b"hello") + frame(0x81, TEXT),
    "another mask": frame(0x81, TEXT, b"\0\0\0\0"),
}
REFUSED = {  # frames, wanted close codes
    "unmasked": (frame(0x81, TEXT, None), 1002),
    "unmasked ping": (frame(0x89, b"", None), 1002),
    "RSV1": (frame(0xc1, TEXT), 1002),
    "RSV2": (frame(0xa1, TEXT), 1002),
    "RSV3": (frame(0x91, TEXT), 1002),
    **{f"opcode {i}": (frame(0x80 | i, b"x"), 1002) for i in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "ping of 126": (frame(0x89, b"x" * 126), 1002),
    "fragmented ping": (frame(0x09), 1002),
    "fragmented close": (frame(0x08), 1002),
    "continuation first": (frame(0x80, b"x"), 1002),
    "text within fragments": (frame(0x01, b"{") + frame(0x81, TEXT), 1002),
    "length in 16 bits": (frame(0x81, b"x", form=2), 1002),
    "length in 64 bits": (frame(0x81, b"x" * 200, form=8), 1002),
    "top bit": (b"\x81\xff\x80" + b"\0" * 11, 1002),
    "2^62": (b"\x81\xff\x40" + b"\0" * 11, 1009),
    "message over 64 KiB": (frame(0x82, b"x" * 65537), 1009),
    "fragments over 64 KiB": (frame(0x02, b"x" * 40000) + frame(0x80, b"x" * 40000), 1009),
    "endless fragments": (frame(0x01) + frame(0x00) * 5000, 1008),
    "bad UTF-8": (frame(0x81, b"\xc3\x28"), 1007),
    "overlong UTF-8": (frame(0x81, b"\xc0\xaf"), 1007),
    "surrogate": (frame(0x81, b"\xed\xa0\x80"), 1007),
    "cut UTF-8": (frame(0x81, b"{\xc3"), 1007),
    "bad UTF-8 in the second fragment": (frame(0x01, b"{\xc3") + frame(0x80, b"\x28"), 1007),
    "close 0": (frame(0x88, b"\0\0"), 1002),
    **{f"close {c}": (frame(0x88, struct.pack(">H", c)), 1002) for c in (999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)},
    "close of one byte": (frame(0x88, b"\x03"), 1002),
    "close reason not UTF-8": (frame(0x88, b"\x03\xe8\xff"), 1007),
    "close": (frame(0x88, b"\x03\xe8"), 1000),
    "close with reason": (frame(0x88, b"\x0f\xa0bye"), 4000),
    "close without code": (frame(0x88), 0),
    "data after close": (frame(0x88, b"\x03\xe8") + frame(0x81, TEXT) * 10, 1000),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_frames(edge, name):
    ws = open_ws(edge)
    ws.message("init")
    ws.send(GOOD[name])
    assert ws.message("pong") == {"type": "pong"}
    ws.send(frame(0x88, b"\x03\xe8"))
    assert ws.close_code() == 1000


@pytest.mark.parametrize("name", REFUSED)
def test_refused_frames(edge, name):
    data, want = REFUSED[name]
    ws = open_ws(edge)
    ws.message("init")
    try:
        ws.send(data)
    except OSError:
        pass
    assert ws.close_code() == want
    alive(edge)


def descriptors(edge):
    return len(os.listdir(f"/proc/{edge.services['gatewayd'].process.pid}/fd"))


def test_no_descriptor_is_left_behind(edge):
    before = descriptors(edge)
    for data in list(GOOD.values()) + [v[0] for v in REFUSED.values()]:
        ws = open_ws(edge)
        try:
            ws.send(data)
        except OSError:
            pass
        ws.s.close()
    wait_until(lambda: descriptors(edge) <= before, 10, lambda: f"{descriptors(edge)} descriptors, {before} before")


def test_frames_byte_by_byte(edge):
    ws = open_ws(edge)
    ws.message("init")
    for byte in GOOD["ping between fragments"] + frame(0x81, TEXT):
        ws.send(bytes([byte]))
    assert ws.message("pong") and ws.message("pong")
    ws.send(frame(0x81, b"{\xc3")[:-1])
    ws.send(frame(0x81, b"{\xc3")[-1:])
    assert ws.close_code() == 1007


def test_frames_with_the_handshake(edge):
    lines = ["GET /ws HTTP/1.1", "Host: berth", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}",
             f"Authorization: Bearer {edge.user}"]
    s = edge.connect()
    s.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + frame(0x89, b"early") + frame(0x81, TEXT))
    ws = Raw(s)
    while ws.read(1) != b"\r" or ws.read(3) != b"\n\r\n":
        pass
    seen = []
    while len(seen) < 3:
        first, payload = ws.frame()
        if first != 0x89:
            seen.append((first, payload[:13]))
    assert (0x8a, b"early") in seen and (0x81, b'{"type":"pong') in seen
    s.close()


def test_every_ping_has_its_pong(edge):
    ws = open_ws(edge)
    ws.message("init")
    ws.send(b"".join(frame(0x89, str(i).encode()) for i in range(200)))
    seen = []
    while len(seen) < 200:
        first, payload = ws.frame()
        if first == 0x8a:
            seen.append(int(payload))
    assert seen == list(range(200))
    ws.s.close()


def test_client_that_never_answers_pings_is_ended(edge):
    ws = open_ws(edge)
    begin = time.monotonic()
    pings = 0
    ws.s.settimeout(10)
    with pytest.raises((EOFError, ConnectionResetError)):
        while True:
            pings += ws.frame()[0] == 0x89
    assert pings >= 1 and time.monotonic() - begin < 6


def test_ping_flood_without_reading(edge):
    ws = open_ws(edge)
    ws.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    flood = frame(0x89, b"x" * 125) * 500
    try:
        for _ in range(400):
            ws.send(flood)
    except OSError:
        pass
    ws.s.close()
    alive(edge)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_property_any_bytes_after_the_handshake(edge, data):
    """Valid and broken frames, cut anywhere: the client is answered or ended, the daemon lives."""
    pieces = data.draw(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(list(GOOD.values())[:2] + [v[0] for v in REFUSED.values() if len(v[0]) < 1000])),
                                min_size=1, max_size=6))
    ws = open_ws(edge)
    blob = b"".join(pieces)
    cut = data.draw(st.integers(0, len(blob)))
    try:
        ws.send(blob[:cut])
        ws.send(blob[cut:])
        ws.s.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    assert ws.close_code(5) is not None


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_property_any_bytes_as_requests(edge, data):
    """Mutated requests: every answer is a whole HTTP response, none is a 5xx, the connection ends."""
    seed = data.draw(st.sampled_from(list(BAD_HEADS.values()) + [
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", b"POST /tickets HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        f"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n".encode()]))[:3000]
    blob = bytearray(seed)
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(blob)))
        blob[at:at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    with edge.connect() as s:
        try:
            s.sendall(bytes(blob))
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        for status, _, _ in responses(read_all(s)):
            assert 100 <= status < 500


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
            slow.send(frame(0x8a))  # a pong: it lives, it only does not read
        last, code = None, None
        slow.s.settimeout(10)
        try:
            while True:
                first, payload = slow.frame()
                if first == 0x81:
                    last = json.loads(payload)
                elif first == 0x88:
                    code = struct.unpack(">H", payload[:2])[0]
        except (EOFError, ConnectionResetError):
            pass
        assert last["type"] == "lagged" and isinstance(last["resume_after"], int) and code == 4008
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
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    s.settimeout(20)
    s.connect(("127.0.0.1", edge.port))
    lines = ["GET /ws HTTP/1.1", "Host: berth", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}",
             f"Authorization: Bearer {edge.user}"]
    s.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
    ws = Raw(s)
    while ws.read(1) != b"\r" or ws.read(3) != b"\n\r\n":
        pass
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
