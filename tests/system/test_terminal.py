"""The terminal of a slot: a shell for whoever has the controls, by WebSocket; bounded, refused and ended as it must be."""
import fcntl
import hashlib
import json
import os
import pathlib
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest
import websocket

from conftest import BUILD, Berth, wait_until
from tenants import make_token


class Shell:
    """A client of /sessions/{id}/terminal."""

    def __init__(self, berth, session, viewer="shell", token=None, query="cols=80&rows=24", **options):
        url = berth.url(f"/sessions/{session}/terminal?viewer={viewer}&{query}").replace("http", "ws")
        auth = f"Bearer {token}" if token else berth.http.headers["Authorization"]
        self.ws = websocket.create_connection(url, timeout=20, header=[f"Authorization: {auth}"], **options)
        self.seen, self.held, self.closed = bytearray(), False, None

    def read(self, seconds=20):
        """One frame; False when none came or the end did."""
        if self.closed is not None:
            return False
        self.ws.settimeout(seconds)
        try:
            opcode, data = self.ws.recv_data()
        except websocket.WebSocketTimeoutException:
            return False
        except (websocket.WebSocketConnectionClosedException, ConnectionError):
            opcode, data = websocket.ABNF.OPCODE_CLOSE, b"\x03\xee"
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            self.closed = int.from_bytes(data[:2], "big")
            return False
        if opcode == websocket.ABNF.OPCODE_TEXT:
            m = json.loads(data)
            assert m["type"] == "control"
            self.held = m["held"]
        else:
            self.seen += data
        return True

    def until(self, check, seconds=30, what="the terminal"):
        deadline = time.monotonic() + seconds
        while not check():
            self.read(0.2)
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}; seen {bytes(self.seen[-500:])!r}, closed {self.closed}"

    def type(self, text):
        self.ws.send_binary(text.encode() if isinstance(text, str) else text)

    def expect(self, text):
        """Reads until it was said; forgets what came before and it."""
        text = text.encode()
        self.until(lambda: text in self.seen, what=text)
        del self.seen[:self.seen.index(text) + len(text)]

    def do(self, command):
        """Types a line; what it prints."""
        self.type(f"{command}; echo end-$((6*7))\r")
        self.until(lambda: b"end-42" in self.seen, what=command)
        said = bytes(self.seen[:self.seen.index(b"end-42")])
        self.seen.clear()
        return said.decode(errors="replace")

    def resize(self, cols, rows):
        self.ws.send(json.dumps({"type": "resize", "cols": cols, "rows": rows}))

    def end(self, seconds=20):
        self.until(lambda: self.closed is not None, seconds, "the end")
        return self.closed

    def close(self):
        self.ws.shutdown()


@pytest.fixture(scope="module")
def place():
    b = Berth(workers=2, settings={"coordinatord": {"control_ttl": "120s"}})
    try:
        yield b.start()
    finally:
        b.close()


@pytest.fixture
def session(place):
    s = place.create([{"text": "ready"}])["session_id"]
    place.wait_status(s, "idle", seconds=60)
    yield s
    place.call("DELETE", f"/sessions/{s}")


def control(berth, session, expect=200, **body):
    return berth.call("POST", f"/sessions/{session}/control", expect, json=body).json()


def driving(berth, session, **options):
    """A shell whose viewer has the controls."""
    shell = Shell(berth, session, **options)
    control(berth, session, take=True, viewer="shell", force=True)
    shell.until(lambda: shell.held, what="the word that it may type")
    shell.expect("$ ")
    return shell


def refused(berth, session, **options):
    with pytest.raises(websocket.WebSocketBadStatusException) as e:
        Shell(berth, session, **options)
    return e.value.status_code


def resident(pid):
    return int(next(x for x in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS")).split()[1]) * 1024


def in_slot(berth, name):
    """How many processes of that name run in slots."""
    count = 0
    for worker in ("worker1", "worker2"):
        for pid in berth.slot_processes(worker):
            try:
                count += pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == name
            except OSError:
                pass
    return count


def room(berth, session):
    """Another terminal; those that just ended count until their programs are gone."""
    found = []

    def opened():
        try:
            found.append(Shell(berth, session))
        except websocket.WebSocketBadStatusException as e:
            assert e.status_code == 409, e
        return found
    wait_until(opened, 20, "room for one more terminal")
    return found[0]


def test_a_shell(place, session):
    s = driving(place, session, query="cols=101&rows=37")
    assert "/dev/pts/" in s.do("tty") and "37 101" in s.do("stty size")
    s.resize(132, 50)
    wait_until(lambda: "50 132" in s.do("stty size"), 10, "the new size")
    assert "xterm-256color agent" in s.do("echo $TERM $(basename $HOME)")
    s.type("sleep 1000\r")
    wait_until(lambda: in_slot(place, "sleep") == 1, 20, "the program to run")
    s.type("\x03")
    assert "status 130" in s.do("echo status $?")
    # The agent's files and the person's are the same.
    s.do("echo by hand > note.txt")
    assert place.call("GET", f"/sessions/{session}/files/note.txt", 200).text == "by hand\n"
    # Its own end is the connection's.
    s.type("exit\r")
    assert s.end() == 1001
    for bad in ("cols=0&rows=24", "cols=80&rows=501", "cols=x", "colour=1"):
        assert refused(place, session, query=bad) == 400
    for text in ("hello", '{"type":"resize","cols":0,"rows":5}', '{"type":"resize"}', '{"type":"resize","cols":80}', '{"type":"quit","cols":80,"rows":24}'):
        other = room(place, session)
        other.ws.send(text)
        assert other.end() == 1008


def test_much_output_to_a_slow_reader(place, session):
    """10 MB: nobody's memory grows with it, nothing is lost, and Ctrl-C ends what never ends."""
    s = driving(place, session)
    s.do("stty -onlcr; PS1=")
    before = {n: resident(place.pid(n)) for n in ("gatewayd", "worker1", "worker2")}
    s.type("head -c 10000000 /dev/zero | tr '\\0' x; echo end-$((6*7))\r")
    wait_until(lambda: in_slot(place, "head") == 1, 20, "the program to run")
    time_up = time.monotonic() + 2
    while time.monotonic() < time_up:  # nobody reads: it waits, however long
        assert in_slot(place, "head") == 1
    grown = {n: resident(place.pid(n)) - b for n, b in before.items()}
    assert max(grown.values()) < 16 << 20, grown
    s.until(lambda: b"end-42" in s.seen, 120, "all of it")
    assert s.seen.count(b"x") >= 10000000
    s.seen.clear()
    # A client that cannot draw as fast says so itself.
    s.ws.send('{"type":"pause"}')
    s.type("echo after-$((6*7)); head -c 10000000 /dev/zero | tr '\\0' z\r")
    wait_until(lambda: in_slot(place, "head") == 1, 20, "the program to run")
    while s.read(1):
        pass
    assert len(s.seen) < 3 << 20
    s.ws.send('{"type":"continue"}')
    s.until(lambda: s.seen.count(b"z") >= 10000000, 120, "the rest")
    s.seen.clear()
    s.type("yes\r")
    s.expect("y\ny\ny\n")
    s.type("\x03")
    s.seen.clear()
    assert "ended 130" in s.do("echo ended $?")


def test_much_input(place, session):
    """What is pasted arrives whole; what nobody reads stops the client, not the daemons."""
    s = driving(place, session)
    s.do("stty raw -echo; PS1=")
    data = bytes(range(32, 127)) * 10000
    s.type("head -c 950000 | sha256sum; echo end-$((6*7))\r")
    wait_until(lambda: in_slot(place, "head") == 1, 20, "the program to run")
    for at in range(0, len(data), 65536):
        s.type(data[at:at + 65536])
    s.expect(hashlib.sha256(data).hexdigest())


def test_who_may(place, session):
    s = driving(place, session)
    # Another viewer of the same token sees its own shell and cannot type.
    other = Shell(place, session, viewer="other")
    other.expect("$ ")
    other.type("touch ~/stolen\r")
    assert "No such file" in s.do("ls ~/stolen")
    # The rule follows the lease: given back, taken by the other.
    control(place, session, take=True, viewer="other", force=True)
    s.until(lambda: not s.held, what="the loss of control")
    other.until(lambda: other.held, what="control")
    s.type("touch ~/late\r")
    assert "No such file" in other.do("ls ~/late ~/stolen")
    # At most four.
    more = [Shell(place, session, viewer=f"v{i}") for i in range(2)]
    assert refused(place, session) == 409
    more[0].close()
    wait_until(lambda: place.call("GET", "/metrics", 200).text.count("\nberth_terminals 3\n"), 10, "its place to be free")
    more[0] = Shell(place, session)
    for x in (s, other, *more):
        x.close()
    # Roles, tenants, scopes, no token, a page of another site.
    assert refused(place, session, token=make_token(place, "viewer", "default")) == 403
    assert refused(place, session, token=make_token(place, "operator", "elsewhere")) == 404
    scoped = place.call("POST", "/tokens", 201, json={"name": "reads", "role": "operator", "scopes": ["sessions:read"]}).json()["token"]
    assert refused(place, session, token=scoped) == 403
    assert refused(place, session, token="bt_" + "x" * 43) == 401
    assert refused(place, session, origin="https://evil.example") == 403
    assert place.call("GET", f"/sessions/{session}/terminal", 426).headers["Upgrade"] == "websocket"
    assert refused(place, "nope") == 404
    external = place.create(kind="external")["session_id"]
    assert refused(place, external) == 409


def test_what_is_recorded(place, session):
    """An audit row at the opening; control events that count, and hold nothing of what was typed."""
    s = driving(place, session)
    rows = wait_until(lambda: [r for r in place.call("GET", "/audit", 200).json()["audit"] if r["target"] == f"/sessions/{session}/terminal"], 10, "the row of the audit log")
    assert rows[0]["action"] == "GET /sessions/{id}/terminal" and rows[0]["result"] == "ok" and rows[0]["actor"] == "admin"
    s.do("echo canary-plain")

    def typed():
        return [e for e in place.events(session) if e["event_type"] == "control" and e["action"] == "input"]
    wait_until(lambda: sum(e.get("typed_lines", 0) for e in typed()) == 1, 20, "the count of what was typed")
    assert 20 < sum(e["typed_bytes"] for e in typed()) < 60
    control(place, session, secret=True, viewer="shell")
    wait_until(lambda: place.session(session)["slot"]["control"]["secret"], 10, "secret entry")
    before = len(typed())
    s.do("echo canary-secret")
    late = wait_until(lambda: typed()[before:], 20, "the event of secret entry")
    assert all(e["secret"] and "typed_bytes" not in e for e in late)
    control(place, session, secret=False, viewer="shell")
    s.close()
    assert "canary" not in json.dumps(place.events(session))
    assert "canary" not in place.sql("SELECT string_agg(json::text, '') FROM core.event") and "canary" not in place.logs(100000)


def test_hostile_output(place, session):
    """Escapes and bytes of all kinds pass untouched, frames stay whole, the daemons stay up."""
    s = driving(place, session)
    s.do("stty -onlcr; PS1=")
    s.type("head -c 300000 /dev/urandom > noise; for i in $(seq 2000); do printf '\\033]0;%s\\007\\033[999999999;1H\\033P\\033[c\\033[6n\\xff\\xc0\\x80' $i; done > escapes; "
           f"cat escapes noise > all; sha256sum all; echo end-$((6*7))\r")
    s.expect("end-42")
    want = place.call("GET", f"/sessions/{session}/files/all", 200).content
    s.type("printf start-%s $((6*7)); cat all; printf end-%s $((6*7))\r")
    s.expect("start-42")
    s.until(lambda: len(s.seen) >= len(want), what="all of it")
    assert hashlib.sha256(bytes(s.seen[:len(want)])).digest() == hashlib.sha256(want).digest()
    s.close()
    place.call("GET", "/status", 200)


def test_ends(place):
    """The session's end, the loss of the client, the gateway's death: no terminal stays, no process of one."""
    session = place.create([{"text": "ready"}])["session_id"]
    place.wait_status(session, "idle", seconds=60)
    s = driving(place, session)
    s.type("trap '' HUP; (trap '' HUP; sleep 1001) & sleep 1002\r")
    wait_until(lambda: in_slot(place, "sleep") == 2, 20, "programs to run")
    s.ws.sock.close()  # without a word
    wait_until(lambda: in_slot(place, "sleep") == 0, 20, "the programs to end")
    s = driving(place, session)
    s.type("trap '' HUP; sleep 1003\r")
    wait_until(lambda: in_slot(place, "sleep") == 1, 20, "a program to run")
    place.kill("gatewayd", signal.SIGKILL)
    wait_until(lambda: in_slot(place, "sleep") == 0 and in_slot(place, "bash") == 0, 20, "the programs to end")
    assert s.end() == 1006
    place.wait_ready()
    s = driving(place, session)
    assert "here" in s.do("echo here")
    place.call("POST", f"/sessions/{session}/stop", 200)
    assert s.end() == 1001
    wait_until(lambda: refused(place, session) == 409, 20, "no terminal any more")
    assert place.call("GET", "/metrics", 200).text.count("\nberth_terminals 0\n")
    place.call("DELETE", f"/sessions/{session}", 204)


class Tty:
    """berthctl terminal on a pty of the test's own."""

    def __init__(self, berth, *args, rows=31, cols=97):
        self.seen, self.fd = bytearray(), None
        env = {"PATH": os.environ["PATH"], "HOME": str(berth.folder), "BERTH_URL": berth.stack.url, "BERTH_TOKEN": berth.stack.token, "TERM": "xterm-256color"}
        env |= {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        ours, theirs = pty.openpty()
        self.size(rows, cols, ours)
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen([BUILD / "berthctl" / "berthctl", "terminal", *args], stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.fd, self.theirs = ours, theirs

    def size(self, rows, cols, fd=None):
        fcntl.ioctl(self.fd if fd is None else fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, text):
        os.write(self.fd, text.encode())

    def until(self, text):
        def check():
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 65536)
            return text.encode() in self.seen
        wait_until(check, 40, lambda: f"{text} in {bytes(self.seen[-600:])!r}")
        del self.seen[:self.seen.index(text.encode()) + len(text)]

    def end(self):
        """Its status; and the terminal is as it was found."""
        def check():
            if select.select([self.fd], [], [], 0.05)[0]:
                self.seen += os.read(self.fd, 65536)
            return self.process.poll() is not None
        wait_until(check, 40, lambda: f"the end; seen {bytes(self.seen[-600:])!r}")
        assert termios.tcgetattr(self.theirs) == self.before
        os.close(self.theirs)
        os.close(self.fd)
        return self.process.returncode


def test_from_the_command_line(place, session):
    t = Tty(place, session)
    t.until("Ctrl-] leaves")
    t.until("$ ")
    t.type("stty size; tty\r")
    t.until("31 97")
    t.until("/dev/pts/")
    assert place.session(session)["slot"]["controller"] != "agent", "the controls are its"
    t.size(40, 120)
    t.process.send_signal(signal.SIGWINCH)
    t.type("sleep 0.5; stty size\r")
    t.until("40 120")
    t.type("sleep 1000\r")
    wait_until(lambda: in_slot(place, "sleep") == 1, 20, "the program to run")
    t.type("\x03")
    t.type("echo status $?\r")
    t.until("status 130")
    t.type("seq 200000 | tail -1\r")
    t.until("200000")
    t.type("\x1d")
    assert t.end() == 0 and place.session(session)["slot"]["controller"] == "agent"
    wait_until(lambda: in_slot(place, "sleep") == 0, 20, "nothing to be left")
    # The shell's own end is its end, too; who has the controls keeps them.
    t = Tty(place, session)
    t.until("$ ")
    t.type("exit\r")
    assert t.end() == 0
    t = Tty(place, "nothing")
    assert t.end() == 1 and b"berthctl: " in t.seen
