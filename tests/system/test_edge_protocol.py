"""The 301 protocol cases of the well-known WebSocket suite, made again by class, and a storm of handshakes.

Each case is frames, cut into pieces as it asks, and what must come of them: so many messages heard (the server answers each,
as none is a request it knows) with these pongs, or the close code. Messages over 64 KiB are refused here (1009), also where
the suite, which tests servers that echo, would have them back."""
import struct
import threading
from collections import Counter

import pytest

from conftest import wait_until
from edge_fixtures import alive, edge  # noqa: F401
from edge_websocket import descriptors, frame, open_ws

CONTINUED, TEXT, BINARY, CLOSE, PING, PONG, FIN = 0, 1, 2, 8, 9, 10, 0x80
LONG = 65536  # the longest message
GREETING = "Hello-µ@ßöäüàá-UTF-8!!".encode()
KOSME = "κόσμε".replace("ό", "\u1f79").encode()


class Case:
    def __init__(self, number, pieces, heard=0, pongs=(), close=None):
        self.number, self.pieces, self.heard, self.pongs, self.close = number, pieces, heard, list(pongs), close


def text(payload, fin=FIN):
    return frame(fin | TEXT, payload)


def bytewise(data):
    return [data[i:i + 1] for i in range(len(data))]


def chopped(data, n):
    return [data[i:i + n] for i in range(0, len(data), n)]


def fragments(payload, size, opcode=TEXT):
    parts = chopped(payload, size) or [b""]
    return b"".join(frame((opcode if i == 0 else CONTINUED) | (FIN if i == len(parts) - 1 else 0), p) for i, p in enumerate(parts))


def framing():
    """1: sizes of text and binary."""
    for group, opcode in ((1, TEXT), (2, BINARY)):
        for i, n in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1):
            yield Case(f"1.{group}.{i}", [frame(FIN | opcode, b"*" * n)], 1)
        yield Case(f"1.{group}.8", chopped(frame(FIN | opcode, b"*" * 65536), 997), 1)


def pings():
    """2: pings and pongs."""
    long = bytes(range(255, 130, -1))
    yield Case("2.1", [frame(FIN | PING)], pongs=[b""])
    yield Case("2.2", [frame(FIN | PING, b"Hello, world!")], pongs=[b"Hello, world!"])
    yield Case("2.3", [frame(FIN | PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")], pongs=[b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"])
    yield Case("2.4", [frame(FIN | PING, long)], pongs=[long])
    yield Case("2.5", [frame(FIN | PING, b"\xfe" * 126)], close=1002)
    yield Case("2.6", bytewise(frame(FIN | PING, long)), pongs=[long])
    yield Case("2.7", [frame(FIN | PONG)])
    yield Case("2.8", [frame(FIN | PONG, b"unsolicited pong payload")])
    yield Case("2.9", [frame(FIN | PONG, b"unsolicited"), frame(FIN | PING, b"ping payload")], pongs=[b"ping payload"])
    ten = [f"payload-{i}".encode() for i in range(10)]
    yield Case("2.10", [b"".join(frame(FIN | PING, p) for p in ten)], pongs=ten)
    yield Case("2.11", [piece for p in ten for piece in bytewise(frame(FIN | PING, p))], pongs=ten)


def reserved():
    """3: reserved bits."""
    hello, ping = text(b"Hello, world!"), frame(FIN | PING)
    yield Case("3.1", [frame(FIN | 0x10 | TEXT, b"Hello, world!")], close=1002)
    for i, cut in ((2, lambda d: [d]), (3, lambda d: [hello, d[len(hello):]]), (4, bytewise)):
        yield Case(f"3.{i}", cut(hello + frame(FIN | (i << 4 & 0x70) | TEXT, b"Hello, world!") + ping), 1, close=1002)
    yield Case("3.5", [frame(FIN | 0x50 | BINARY, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")], close=1002)
    yield Case("3.6", [frame(FIN | 0x60 | PING, b"Hello, world!")], close=1002)
    yield Case("3.7", [frame(FIN | 0x70 | CLOSE, b"")], close=1002)


def opcodes():
    """4: opcodes that are none."""
    hello, ping = text(b"Hello, world!"), frame(FIN | PING)
    for group, first in ((1, 3), (2, 11)):
        for i in range(5):
            bad = frame(FIN | (first + i), b"" if i == 0 else b"reserved")
            pieces = [bad] if i < 2 else bytewise(hello + bad + ping) if i == 4 else [hello, bad, ping]
            yield Case(f"4.{group}.{i + 1}", pieces, 0 if i < 2 else 1, close=1002)


def fragmentation():
    """5: fragments."""
    yield Case("5.1", [frame(PING, b"fragment1"), frame(FIN | CONTINUED, b"fragment2")], close=1002)
    yield Case("5.2", [frame(PONG, b"fragment1"), frame(FIN | CONTINUED, b"fragment2")], close=1002)
    one, two, ping = frame(TEXT, b"fragment1"), frame(FIN | CONTINUED, b"fragment2"), frame(FIN | PING, b"ping payload")
    ways = (lambda *f: list(f), lambda *f: [b"".join(f)], lambda *f: bytewise(b"".join(f)))
    for i, way in enumerate(ways):
        yield Case(f"5.{3 + i}", way(one, two), 1)
        yield Case(f"5.{6 + i}", way(one, ping, two), 1, [b"ping payload"])
        yield Case(f"5.{9 + i}", way(frame(FIN | CONTINUED, b"non-continuation payload"), text(b"Hello, world!")), close=1002)
        yield Case(f"5.{12 + i}", way(frame(CONTINUED, b"non-continuation payload"), text(b"Hello, world!")), close=1002)
    yield Case("5.15", [one + two + frame(CONTINUED, b"fragment3") + text(b"fragment4")], 1, close=1002)
    yield Case("5.16", [(frame(CONTINUED, b"fragment1") + frame(TEXT, b"fragment2") + two) * 2], close=1002)
    yield Case("5.17", [(frame(FIN | CONTINUED, b"fragment1") + frame(TEXT, b"fragment2") + two) * 2], close=1002)
    yield Case("5.18", [one + frame(FIN | TEXT, b"fragment2")], close=1002)
    five = [one, frame(CONTINUED, b"fragment2"), frame(FIN | PING, b"pongme 1!"), frame(CONTINUED, b"fragment3"), frame(CONTINUED, b"fragment4"),
            frame(FIN | PING, b"pongme 2!"), frame(FIN | CONTINUED, b"fragment5")]
    yield Case("5.19", five, 1, [b"pongme 1!", b"pongme 2!"])
    yield Case("5.20", [b"".join(five)], 1, [b"pongme 1!", b"pongme 2!"])


def utf8_texts():
    """(number, bytes, whether they are UTF-8), as Markus Kuhn's stress test has them."""
    for i, s in enumerate((KOSME, "Hello".encode(), GREETING, "ÀÈÌ".encode(), "\U00010000\U0010ffff".encode()), 1):
        yield f"6.5.{i}", s, True
    for n in range(1, len(KOSME) + 1):
        yield f"6.6.{n}", KOSME[:n], n in (2, 5, 7, 9, 11)

    def each(prefix, whole, *sequences):
        for i, s in enumerate(sequences, 1):
            yield f"6.{prefix}.{i}", bytes.fromhex(s), whole
    yield from each(7, True, "00", "c280", "e0a080", "f0908080")
    yield from each(8, False, "f888808080", "fc8480808080")
    yield from each(9, True, "7f", "dfbf", "efbfbf", "f48fbfbf")
    yield from each(10, False, "f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf")
    for i, (s, whole) in enumerate((("ed9fbf", True), ("ee8080", True), ("efbfbd", True), ("f48fbfbf", True), ("f4908080", False)), 1):
        yield f"6.11.{i}", bytes.fromhex(s), whole
    yield from each(12, False, "80", "bf", "80bf", "80bf80", "80bf80bf", "80bf80bf80", "80bf80bf80bf", "".join(f"{b:02x}" for b in range(0x80, 0xbf)))
    for i, (low, high) in enumerate(((0xc0, 0xe0), (0xe0, 0xf0), (0xf0, 0xf8), (0xf8, 0xfc), (0xfc, 0xfe)), 1):
        yield f"6.13.{i}", b"".join(bytes([b, 0x20]) for b in range(low, high)), False
    lonely = ("c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf")
    yield from each(14, False, *lonely)
    yield from each(15, False, "".join(lonely))
    yield from each(16, False, "fe", "ff", "fefeffff")
    yield from each(17, False, "c0af", "e080af", "f08080af", "f8808080af", "fc80808080af")
    yield from each(18, False, "c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf")
    yield from each(19, False, "c080", "e08080", "f0808080", "f880808080", "fc8080808080")
    yield from each(20, False, "eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf")
    yield from each(21, False, *(high + low for high in ("eda080", "edadbf", "edae80", "edafbf") for low in ("edb080", "edbfbf")))
    for i in range(34):
        yield f"6.22.{i + 1}", chr((i // 2 << 16) + 0xfffe + i % 2).encode(), True
    for i in range(7):
        yield f"6.23.{i + 1}", chr(0xfff9 + i).encode(), True


def utf8():
    """6: text is UTF-8, whole or in pieces; what is not ends the connection, also before the message is whole."""
    yield Case("6.1.1", [text(b"")], 1)
    yield Case("6.1.2", [frame(TEXT) + frame(CONTINUED) + frame(FIN)], 1)
    yield Case("6.1.3", [frame(TEXT) + frame(CONTINUED, b"middle frame payload") + frame(FIN)], 1)
    yield Case("6.2.1", [text(GREETING)], 1)
    yield Case("6.2.2", [frame(TEXT, GREETING[:12]) + frame(FIN, GREETING[12:])], 1)
    yield Case("6.2.3", [fragments(GREETING, 1)], 1)
    yield Case("6.2.4", [fragments(KOSME, 1)], 1)
    broken = KOSME + b"\xed\xa0\x80" + b"edited"
    yield Case("6.3.1", [text(broken)], close=1007)
    yield Case("6.3.2", [fragments(broken, 1)], close=1007)
    beyond = KOSME, b"\xf4\x90\x80\x80", b"edited"
    yield Case("6.4.1", [frame(TEXT, beyond[0]), frame(CONTINUED, beyond[1])], close=1007)  # not ended: it may not wait for the rest
    yield Case("6.4.2", [frame(TEXT, beyond[0] + beyond[1][:2]), frame(CONTINUED, beyond[1][2:])], close=1007)
    whole = text(b"".join(beyond))
    yield Case("6.4.3", [whole[:-len(beyond[2])]], close=1007)
    yield Case("6.4.4", bytewise(whole[:-len(beyond[2])]), close=1007)
    for number, payload, good in utf8_texts():
        yield Case(number, [text(payload)], 1) if good else Case(number, [text(payload)], close=1007)


def closing():
    """7: the end."""
    def end(code=1000, reason=b""):
        return frame(FIN | CLOSE, struct.pack(">H", code) + reason)
    yield Case("7.1.1", [text(b"Hello World!"), end()], 1, close=1000)
    yield Case("7.1.2", [end() + end()], close=1000)
    yield Case("7.1.3", [end() + frame(FIN | PING)], close=1000)
    yield Case("7.1.4", [end() + text(b"Hello World!")], close=1000)
    yield Case("7.1.5", [frame(TEXT, b"fragment1") + end() + frame(FIN, b"fragment2")], close=1000)
    yield Case("7.1.6", [text(b"BAsd7&jh23" * 26214), end() + frame(FIN | PING)], close=1009)
    yield Case("7.3.1", [frame(FIN | CLOSE)], close=0)
    yield Case("7.3.2", [frame(FIN | CLOSE, b"a")], close=1002)
    yield Case("7.3.3", [end()], close=1000)
    yield Case("7.3.4", [end(1000, b"Hello World!")], close=1000)
    yield Case("7.3.5", [end(1000, b"*" * 123)], close=1000)
    yield Case("7.3.6", [end(1000, b"*" * 124)], close=1002)
    yield Case("7.5.1", [end(1000, KOSME + b"\xed\xa0\x80edited")], close=1007)
    for i, code in enumerate((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999), 1):
        yield Case(f"7.7.{i}", [end(code)], close=code)
    for i, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1):
        yield Case(f"7.9.{i}", [end(code)], close=1002)
    for i, code in enumerate((5000, 65535), 1):
        yield Case(f"7.13.{i}", [end(code)], close=1002)


def limits():
    """9: large messages, in one frame, in fragments, in small writes; and many small ones."""
    for group, opcode in ((1, TEXT), (2, BINARY)):
        for i, n in enumerate((64, 256, 1 << 10, 4 << 10, 8 << 10, 16 << 10), 1):
            whole = n << 10 <= LONG
            yield Case(f"9.{group}.{i}", [frame(FIN | opcode, b"*" * (n << 10))], 1 if whole else 0, close=None if whole else 1009)
    for group, opcode in ((3, TEXT), (4, BINARY)):
        for i in range(9):
            yield Case(f"9.{group}.{i + 1}", [fragments(b"*" * (4 << 20), 64 << 2 * i, opcode)], close=1009)
    for group, opcode in ((5, TEXT), (6, BINARY)):
        for i in range(6):
            # The suite's 1 MiB is refused at its header; what is allowed shows that small writes are joined.
            yield Case(f"9.{group}.{i + 1}", chopped(frame(FIN | opcode, b"*" * LONG), 64 << i), 1)
    for group, opcode in ((7, TEXT), (8, BINARY)):
        for i, n in enumerate((0, 16, 64, 256, 1024, 4096), 1):
            yield Case(f"9.{group}.{i}", [frame(FIN | opcode, b"*" * n)] * 1000, 1000)


def other():
    """10: fragments made by a library on its own."""
    yield Case("10.1.1", [fragments(b"*" * 65536, 1300)], 1)


CLASSES = [framing, pings, reserved, opcodes, fragmentation, utf8, closing, limits, other]


def play(edge, case):  # noqa: F811
    """(messages heard, pongs, close code or None when the connection goes on)."""
    ws = open_ws(edge)
    ws.message("init")
    heard, pongs, waited = 0, [], 0

    def read(stop):
        nonlocal heard
        while not stop():
            first, payload = ws.frame()
            if first == FIN | TEXT and b'"error"' in payload[:30]:
                heard += 1
            elif first == FIN | PONG:
                pongs.append(payload)
            elif first == FIN | PING:
                ws.send(frame(FIN | PONG, payload))
            elif first == FIN | CLOSE:
                return struct.unpack(">H", payload[:2])[0] if payload else 0
        return None
    code = None
    try:
        for i, piece in enumerate(case.pieces):
            ws.send(piece)
            if case.heard == len(case.pieces) and i % 50 == 49:  # many messages: each of them is answered, and the answers are read
                waited += 50
                code = read(lambda: heard >= waited)
        if case.close is None:
            ws.send(frame(FIN | PING, b"the end"))
    except OSError:
        assert case.close is not None, case.number
    try:
        code = read(lambda: b"the end" in pongs)
        if code is not None:
            while ws.s.recv(65536):
                pass
    except ConnectionResetError:  # what it did not read of ours
        pass
    ws.s.close()
    return heard, [p for p in pongs if p != b"the end"], code


@pytest.mark.parametrize("of", CLASSES, ids=[c.__name__ for c in CLASSES])
def test_protocol_cases(edge, of):  # noqa: F811
    for case in of():
        try:
            got = play(edge, case)
        except Exception as e:
            raise AssertionError(case.number) from e
        assert got == (case.heard, case.pongs, case.close), case.number
    alive(edge)


def test_all_301_are_there():
    cases = [c.number for of in CLASSES for c in of()]
    assert Counter(int(n.split(".")[0]) for n in cases) == {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1}
    assert len(cases) == len(set(cases)) == 301


def test_a_storm_of_handshakes(edge):  # noqa: F811
    """Opened and left as fast as eight clients can; the next one is served, and nothing is left behind."""
    before = descriptors(edge)
    failed = []

    def storm():
        try:
            for _ in range(60):
                open_ws(edge).s.close()
        except Exception as e:  # told below, in the test's own thread
            failed.append(e)
    clients = [threading.Thread(target=storm) for _ in range(8)]
    for c in clients:
        c.start()
    alive(edge)
    for c in clients:
        c.join()
    assert not failed, failed
    wait_until(lambda: descriptors(edge) <= before, 20, lambda: f"{descriptors(edge)} descriptors, {before} before")
