"""A WebSocket client of raw bytes for the tests of the edge: handshake and frames as a test wants them."""
import json
import os
import struct
import time
from edge_fixtures import KEY


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
        payload = (int.from_bytes(payload, "big") ^ int.from_bytes((mask * (n // 4 + 1))[:n], "big")).to_bytes(n, "big")
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


def descriptors(edge):
    return len(os.listdir(f"/proc/{edge.services['gatewayd'].process.pid}/fd"))
