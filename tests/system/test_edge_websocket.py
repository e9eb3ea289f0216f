"""The network edge's WebSocket against raw sockets: handshakes, frames, any bytes at all."""
import json
import socket
import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from conftest import wait_until
from edge import parse_response, read_all, responses
from edge_fixtures import ACCEPT, KEY, alive, edge  # noqa: F401
from edge_websocket import Raw, descriptors, frame, open_ws, upgrade
from test_edge import BAD_HEADS


# ---- WebSocket handshake -----------------------------------------------------------------------------


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


TEXT = json.dumps({"type": "ping"}).encode()
GOOD = {
    "text": frame(0x81, TEXT),
    "text, 16-bit length": frame(0x81, TEXT[:-1] + b" " * 200 + b"}"),
    "text of some pieces": frame(0x81, TEXT[:-1] + b" " * 60000 + b"}"),
    "fragments of some pieces": frame(0x01, TEXT[:-1] + b" " * 9000) + frame(0x80, b" " * 9000 + b"}"),
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
