"""An RFB client over Berth's WebSocket for the tests: keeps the framebuffer, moves the mouse, types."""
import struct
import time

import websocket

RAW, COPY, SIZE, LAST, EXTENDED_SIZE = 0, 1, -223, -224, -308


class Closed(Exception):
    pass


class Viewer:
    """Shared; encodings Raw, CopyRect and changes of size. `pixels` is width * height words of 4 bytes."""

    def __init__(self, berth, session_id, viewer=None, token=None, connect=True):
        query = f"?viewer={viewer}" if viewer else ""
        url = berth.url(f"/sessions/{session_id}/vnc{query}").replace("http", "ws")
        auth = f"Bearer {token}" if token else berth.http.headers["Authorization"]
        self.ws = websocket.create_connection(url, timeout=20, header=[f"Authorization: {auth}"], subprotocols=["binary"])
        self.data, self.updates, self.bytes = bytearray(), 0, 0
        self.width = self.height = 0
        self.pixels = bytearray()
        if connect:
            self.handshake()

    # --- bytes

    def send(self, data):
        self.ws.send_binary(bytes(data))

    def fill(self, timeout):
        self.ws.settimeout(timeout)
        try:
            opcode, frame = self.ws.recv_data()
        except (websocket.WebSocketConnectionClosedException, ConnectionError) as e:
            raise Closed(str(e)) from None
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise Closed(frame)
        self.data += frame
        self.bytes += len(frame)

    def take(self, n, timeout=20):
        while len(self.data) < n:
            self.fill(timeout)
        head = bytes(self.data[:n])
        del self.data[:n]
        return head

    def handshake(self):
        assert self.take(12).startswith(b"RFB 003.")
        self.send(b"RFB 003.008\n")
        kinds = self.take(self.take(1)[0])
        assert 1 in kinds
        self.send(b"\x01")
        assert self.take(4) == b"\0\0\0\0"
        self.send(b"\x01")
        self.width, self.height = struct.unpack(">HH", self.take(4))
        self.take(16)
        self.take(struct.unpack(">I", self.take(4))[0])
        self.pixels = bytearray(self.width * self.height * 4)
        self.send(b"\0\0\0\0" + struct.pack(">BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0))
        wanted = [RAW, COPY, SIZE, LAST, EXTENDED_SIZE]
        self.send(struct.pack(">BxH", 2, len(wanted)) + b"".join(struct.pack(">i", e) for e in wanted))
        self.request(False)

    def request(self, incremental=True):
        self.send(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))

    # --- what the server says

    def resize(self, width, height):
        if (width, height) != (self.width, self.height):
            self.width, self.height = width, height
            self.pixels = bytearray(width * height * 4)
            return True
        return False

    def rectangle(self, timeout):
        x, y, w, h, kind = struct.unpack(">HHHHi", self.take(12, timeout))
        if kind == RAW:
            rows = self.take(w * h * 4, timeout)
            for row in range(h):
                at = ((y + row) * self.width + x) * 4
                self.pixels[at:at + w * 4] = rows[row * w * 4:(row + 1) * w * 4]
        elif kind == COPY:
            from_x, from_y = struct.unpack(">HH", self.take(4, timeout))
            rows = [bytes(self.pixels[((from_y + r) * self.width + from_x) * 4:][:w * 4]) for r in range(h)]
            for r in range(h):
                at = ((y + r) * self.width + x) * 4
                self.pixels[at:at + w * 4] = rows[r]
        elif kind == SIZE:
            return self.resize(w, h)
        else:
            raise AssertionError(f"encoding {kind}")
        return False

    def extended(self, timeout):
        """The body of ExtendedDesktopSize: the count of screens, three bytes of padding, the screens."""
        n = self.take(4, timeout)[0]
        self.take(16 * n, timeout)

    def step(self, timeout=20):
        """One message of the server; asks for the next update after one."""
        kind = self.take(1, timeout)[0]
        timeout = 20  # a message that has begun is read to its end
        if kind == 0:
            count = struct.unpack(">xH", self.take(3, timeout))[0]
            fresh = False
            for _ in range(count):
                x, y, w, h, encoding = struct.unpack(">HHHHi", bytes(self.peek(12, timeout)))
                if encoding == LAST:
                    self.take(12)
                    break
                if encoding == EXTENDED_SIZE:
                    self.take(12)
                    self.extended(timeout)
                    if y == 0:
                        fresh |= self.resize(w, h)
                else:
                    fresh |= bool(self.rectangle(timeout))
            self.updates += 1
            self.request(not fresh)
        elif kind == 2:
            pass
        elif kind == 3:
            self.take(struct.unpack(">xxxI", self.take(7, timeout))[0], timeout)
        else:
            raise AssertionError(f"message {kind}")

    def peek(self, n, timeout):
        while len(self.data) < n:
            self.fill(timeout)
        return self.data[:n]

    def follow(self, check, seconds=20, what="the picture"):
        """Reads until check() holds."""
        deadline = time.monotonic() + seconds
        while not check():
            left = deadline - time.monotonic()
            assert left > 0, f"not within {seconds} s: {what}"
            try:
                self.step(min(left, 0.5))
            except websocket.WebSocketTimeoutException:
                pass

    def settle(self, quiet=0.5, seconds=20):
        """Reads until nothing came for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self.step(quiet)
            except websocket.WebSocketTimeoutException:
                return

    def picture(self):
        """The picture without the bar at the bottom, whose clock changes by itself."""
        return bytes(self.pixels[:self.width * (self.height - 60) * 4])

    def pixel(self, x, y):
        at = (y * self.width + x) * 4
        return tuple(self.pixels[at:at + 3][::-1])

    # --- what a person does

    def key(self, keysym, down):
        self.send(struct.pack(">BBxxI", 4, down, keysym))

    def type(self, text):
        for c in text:
            keysym = {"\n": 0xFF0D}.get(c, ord(c))
            shift = c.isupper()
            if shift:
                self.key(0xFFE1, True)
            self.key(keysym, True)
            self.key(keysym, False)
            if shift:
                self.key(0xFFE1, False)

    def move(self, x, y, buttons=0):
        self.send(struct.pack(">BBHH", 5, buttons, x, y))

    def click(self, x, y, button=1):
        self.move(x, y)
        self.move(x, y, 1 << (button - 1))
        self.move(x, y)

    def close(self):
        try:
            self.ws.shutdown()
        except OSError:
            pass
