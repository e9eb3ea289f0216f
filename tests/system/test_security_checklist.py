"""The security checklist, row by row: what an outsider may try against the gateway, what host and units must be.

The list is in tests/README.md; that its tests are there is checked here. Rows that nothing showed have their test here.
"""
import json
import os
import pathlib
import re
import stat
import subprocess
import time

import pytest

from conftest import BUILD, ROOT
from edge import responses
from edge_fixtures import KEY, edge, own_edge  # noqa: F401
from edge_websocket import frame, open_ws
from test_edge import BAD_HEADS
from test_edge_websocket import GOOD, HANDSHAKES, REFUSED

README = (ROOT / "tests" / "README.md").read_text()
# Cells such as "`edge`: bad_head, big_bodies; `people`: tickets; `bench/flood`: how long".
ROWS = {m[1]: re.findall(r"`(\w+)`: ([\w, ]+)", m[2]) for m in re.finditer(r"^\| ([^|]+) \| (`.*) \|$", README[README.index("| what an outsider tries"):], re.M)}


def test_the_list_is_whole():
    assert len(ROWS) >= 22 and all(ROWS.values()), ROWS


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_its_tests(row):
    for file, functions in ROWS[row]:
        for name in functions.split(", "):
            assert re.search(rf"^def test_{name}\(", (ROOT / "tests" / "system" / f"test_{file}.py").read_text(), re.M), (file, name)


def test_the_lists_are_long():
    """At least 120 raw requests; the protocol cases by class: handshakes, good and refused frames, each of them also cut and joined."""
    source = (ROOT / "tests" / "system" / "test_edge.py").read_text()
    chunks = len(re.findall(r'b"', source[source.index("parametrize(\"chunks\""):source.index("def test_broken_chunks")]))
    raw = len(BAD_HEADS) + len(MORE_HEADS) + len(HANDSHAKES) + chunks
    assert raw >= 120, raw
    assert len(GOOD) + len(REFUSED) >= 45, (len(GOOD), len(REFUSED))


# ---- raw requests beyond those of test_edge ----

H = b"Host: berth\r\n"
MORE_HEADS = {
    **{f"control {i:02x} in a name": b"GET /health HTTP/1.1\r\n" + H + b"a" + bytes([i]) + b"b: c\r\n\r\n" for i in (0, 1, 9, 11, 12, 14, 31, 32, 127, 128, 255)},
    **{f"control {i:02x} in a value": b"GET /health HTTP/1.1\r\n" + H + b"a: b" + bytes([i]) + b"c\r\n\r\n" for i in (0, 1, 8, 11, 12, 14, 31, 127)},
    **{f"control {i:02x} in the target": b"GET /hea" + bytes([i]) + b"lth HTTP/1.1\r\n" + H + b"\r\n" for i in (0, 1, 9, 11, 12, 31, 127, 128, 255)},
    **{f"length {v}": b"POST /tickets HTTP/1.1\r\n" + H + b"Content-Length: " + v.encode() + b"\r\n\r\n{}"
       for v in ("+2", "0x2", "2_0", "2 2", "2,3", "2;2", "1e1", "２", "99999999999999999999", "18446744073709551616", "9223372036854775808", "-0", "-1", "+5", "010", "00", "5, 5", "5_0", "2.0", "")},
    **{f"coding {v}": b"POST /tickets HTTP/1.1\r\n" + H + b"Transfer-Encoding: " + v + b"\r\n\r\n0\r\n\r\n"
       for v in (b"xchunked", b",chunked,", b"chunked, chunked", b"gzip, chunked", b"chunked\x0b", b"\x85chunked", b"chunked\xa0", b"\xffchunked", b"identity", b"chunked;q=1", b"")},
    **{f"version {v}": b"GET /health " + v + b"\r\n" + H + b"\r\n" for v in (b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"HTTP/1.32", b"http/1.1", b"HTTP/1", b"HTTP/1.", b"HTTP/1.1 x", b"XTTP/1.1", b"")},
    **{f"host {v}": b"GET /health HTTP/1.1\r\nHost: " + v + b"\r\n\r\n" for v in (b"a b", b"a@b", b"a/b", b"a?b", b"a#b", b"a\\b", b"[::1", b"a:b", b"a:99999", b"\xc3\xa9")},
    **{f"target {v}": b"GET " + v + b" HTTP/1.1\r\n" + H + b"\r\n" for v in (b"health", b"*", b"", b"//", b"/%", b"/%0", b"/%zz", b"/%00", b"/%c0%af", b"/%ff", b"/a//b", b"/./a", b"/a/..", b"/%2e%2e/a", b"berth:80", b"/a b")},
    "two hosts": b"GET /health HTTP/1.1\r\n" + H + H + b"\r\n",
    "two lengths that agree": b"POST /tickets HTTP/1.1\r\n" + H + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "two codings in two lines": b"POST /tickets HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding in 1.0": b"POST /tickets HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding, then length": b"POST /tickets HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "no name": b"GET /health HTTP/1.1\r\n" + H + b": a\r\n\r\n",
    "tab before colon": b"GET /health HTTP/1.1\r\n" + H + b"a\t: b\r\n\r\n",
    "folded by a tab": b"GET /health HTTP/1.1\r\n" + H + b"a: b\r\n\tc\r\n\r\n",
    "folded before the first": b"GET /health HTTP/1.1\r\n " + H + b"\r\n",
    "absolute form of another host": b"GET http://evil.example/health HTTP/1.1\r\n" + H + b"\r\n",
    "absolute form of another scheme": b"GET ftp://berth/health HTTP/1.1\r\n" + H + b"\r\n",
    "absolute form with a user": b"GET http://a@berth/health HTTP/1.1\r\n" + H + b"\r\n",
    "authority form": b"CONNECT berth:80 HTTP/1.1\r\n" + H + b"\r\n",
    "method in lower case": b"get /health HTTP/1.1\r\n" + H + b"\r\n",
    "no method": b" /health HTTP/1.1\r\n" + H + b"\r\n",
    "tab in the request line": b"GET\t/health HTTP/1.1\r\n" + H + b"\r\n",
    "two spaces in the request line": b"GET  /health HTTP/1.1\r\n" + H + b"\r\n",
    "another expectation": b"POST /tickets HTTP/1.1\r\n" + H + b"Expect: 200-ok\r\nContent-Length: 2\r\n\r\n{}",
    "101 headers": b"GET /health HTTP/1.1\r\n" + H + b"a: b\r\n" * 100 + b"\r\n",
    "target of 8 KB and one": b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n" + H + b"\r\n",
    "backslash": b"GET /..\\..\\etc\\passwd HTTP/1.1\r\n" + H + b"\r\n",
    "overlong dots": b"GET /%e0%80%ae%e0%80%ae/x HTTP/1.1\r\n" + H + b"\r\n",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two lengths": b"POST /tickets HTTP/1.1\r\n" + H + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and coding": b"POST /tickets HTTP/1.1\r\n" + H + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded": b"GET /health HTTP/1.1\r\n" + H + b"a: b\r\n c\r\n\r\n",
    "bare lines": b"GET /health HTTP/1.1\n" + H + b"\n",
}


# 400 but for these; a good path that is not there is test_edge.py's.
OTHER_STATUS = {"authority form": 405, "target of 8 KB and one": 414, "another expectation": 417, "101 headers": 431}


@pytest.mark.parametrize("name", MORE_HEADS)
def test_more_raw_requests(edge, name):  # noqa: F811
    """Refused as the list says, then the end of the connection: what follows is never taken for a request."""
    answers = responses(edge.exchange(MORE_HEADS[name] + b"GET /health HTTP/1.1\r\n" + H + b"\r\n"))
    assert [a[0] for a in answers] == [OTHER_STATUS.get(name, 400)], answers
    _, headers, body = answers[0]
    assert headers["connection"] == "close" and len(json.loads(body)["error"]["message"]) > 10


def test_an_absolute_target_is_taken_by_its_host(edge):  # noqa: F811
    """As every server must: it names this host, the path is the rest; a head with a hundred headers is still one."""
    close = b"Connection: close\r\n"
    for target in (b"http://berth/health", b"http://BERTH/health", b"https://berth/health"):
        assert responses(edge.exchange(b"GET " + target + b" HTTP/1.1\r\n" + H + close + b"\r\n"))[0][0] == 200, target
    assert responses(edge.exchange(b"GET /health HTTP/1.1\r\n" + H + close + b"a: b\r\n" * 98 + b"\r\n"))[0][0] == 200


RANGES = ["bytes=" + ",".join(["0-"] * 1000), "bytes=" + ",".join(f"{i}-{i}" for i in range(1000)), "bytes=0-0,-1", "bytes=-0", "bytes=5-2", "bytes=18446744073709551616-",
          "bytes=0-18446744073709551615", "bytes=-18446744073709551616", "bytes=a-b", "bytes=", "bytes", "lines=0-5", "bytes=0x0-0x5", "bytes=+0-5", "bytes=--5", "bytes= 0-5 ", "bytes=750000-"]


@pytest.mark.parametrize("value", RANGES, ids=[v[:30] for v in RANGES])
def test_range_storms(edge, value):  # noqa: F811
    """One part at most, or the whole, or 416: never many parts of it."""
    status, headers, body = edge.request("GET", "/app-3F2A9C1B.js", headers=[f"Range: {value}"])
    assert status in (200, 206, 416) and "multipart" not in headers["content-type"], (status, headers)
    assert len(body) == int(headers["content-length"]) <= 750000


@pytest.mark.parametrize("value", RANGES, ids=[v[:30] for v in RANGES])
def test_range_storms_on_documents(berth, value):
    content = bytes(range(256)) * 40
    made = berth.call("POST", "/documents", 201, files={"file": ("r.bin", content)}).json()
    reply = berth.http.get(berth.url(made["url"]), headers={"Range": value.strip()}, timeout=20)
    assert reply.status_code in (200, 206, 416), reply.status_code
    if reply.status_code == 200:
        assert reply.content == content
    elif reply.status_code == 206:
        first, last, size = map(int, re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", reply.headers["Content-Range"]).groups())
        assert size == len(content) and reply.content == content[first:last + 1]
    berth.call("DELETE", made["url"], 204)


# ---- rows of the outsider ----

def memory_of(pid):
    """All that a process has written to, but for a sanitizer's own gigabytes."""
    found = []
    with open(f"/proc/{pid}/mem", "rb") as memory, open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            first, last = (int(x, 16) for x in line.split()[0].split("-"))
            if "rw" not in line.split()[1] or last - first > 1 << 28:
                continue
            try:
                memory.seek(first)
                found.append(memory.read(last - first))
            except (OSError, ValueError):
                pass
    return b"".join(found)


def test_every_bad_token_looks_the_same(own_edge):  # noqa: F811
    edge = own_edge(failures_per_second=0)
    kinds = {"none": [], "short": ["Authorization: Bearer x"], "unknown": ["Authorization: Bearer bt_" + "A" * 43], "empty": ["Authorization: Bearer "],
             "basic": ["Authorization: Basic eDp5"], "long": ["Authorization: Bearer " + "x" * 4000], "sql": ["Authorization: Bearer ' OR 1=1 --"]}
    seen = set()
    for round_ in range(30):
        for kind, headers in kinds.items():
            headers = [h.replace("A" * 43, os.urandom(22).hex()[:43]) for h in headers]
            status, head, body = edge.request("GET", "/sessions", headers=headers)
            seen.add((status, body, head["www-authenticate"], tuple(sorted(set(head) - {"date"}))))
    assert len(seen) == 1 and next(iter(seen))[0] == 401


def test_no_token_stays_in_memory(own_edge):  # noqa: F811
    """What `strings` would find in a core, if there were one (LimitCORE=0): nothing of tokens, also while streams of theirs are open."""
    edge = own_edge()
    held = [open_ws(edge, token=edge.user)]
    held[0].message("init")
    session = json.loads(edge.request("POST", "/sessions", token=edge.user, headers=["Content-Type: application/json"], body=b'{"kind": "external"}')[2])["session_id"]
    stream = edge.connect()
    stream.sendall(f"GET /sessions/{session}/stream HTTP/1.1\r\nHost: berth\r\nAuthorization: Bearer {edge.user}\r\nAccept: text/event-stream\r\n\r\n".encode())
    assert b"200" in stream.recv(100)
    for _ in range(10):
        assert edge.request("GET", "/sessions", token=edge.user)[0] == 200
        assert edge.request("POST", "/tickets", token=edge.user)[0] == 201
        assert edge.request("GET", "/audit", token=edge.viewer)[0] == 403
        assert edge.request("POST", "/sessions", token=edge.user, body=b"{")[0] in (400, 415)
    for name in ("gatewayd", "coordinatord"):
        memory = memory_of(edge.services[name].process.pid)
        assert b"Content-Type" in memory or name != "gatewayd", "it was read at all"
        for token in (edge.user, edge.viewer):
            at = memory.find(token[10:].encode())
            assert at < 0, (name, memory[at - 100:at + 60])
    stream.close()


def test_no_secret_is_written_anywhere(own_edge):  # noqa: F811
    """Canaries through every way a secret may come in by mistake, then searched for in logs, the database, process lists, answers."""
    edge = own_edge()
    canary = "bt_CANARY" + os.urandom(17).hex()
    answers = b""
    for path, headers in (("/sessions", [f"Authorization: Bearer {canary}"]), (f"/sessions?token={canary}", []), (f"/ws?token={canary}", []), (f"/{canary}", []),
                          ("/sessions", [f"Authorization: {canary}"]), ("/sessions", [f"Authorization: Bearer {canary} x"]), ("/health", [f"Referer: https://x/?token={canary}"]),
                          ("/sessions", [f"Cookie: token={canary}"]), (f"/sessions/{canary}/stream?token={canary}", ["Accept: text/event-stream"])):
        status, head, body = edge.request("GET", path, headers=headers)
        answers += body + json.dumps(head).encode()
    ticket = json.loads(edge.request("POST", "/tickets", token=edge.user)[2])["ticket"]
    edge.request("GET", f"/sessions/x/stream?token={ticket}", headers=["Accept: text/event-stream"])
    time_limit = time.monotonic() + 15
    while edge.sql("SELECT count(*) FROM core.audit WHERE result = 'unauthorized'") == "0":
        assert time.monotonic() < time_limit
    assert canary.encode() not in answers
    secrets = [canary, ticket, edge.user, edge.viewer, (edge.state / "secrets" / "admin-token").read_text().strip()]
    texts = {p.name: p.read_text(errors="replace") for p in (edge.state / "log").glob("*.log")}
    texts["database"] = subprocess.run(["pg_dump", "-h", str(edge.run_dir), "-U", "postgres", "berth"], capture_output=True, text=True,
                                       env={**os.environ, "PGPASSWORD": edge.secret("postgres").read_text().strip()}).stdout
    assert "core.auth_token" in texts["database"]
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            texts[f"process {p.name}"] = (p / "cmdline").read_text(errors="replace")
        except OSError:
            pass
    for secret in secrets:
        # A path may hold anything; the one that we asked for is in the row that says so, and nowhere else.
        found = [name for name, text in texts.items() if secret in (text.replace(f"/{canary}", "").replace(f"/sessions/{canary}/stream", "") if name == "database" else text)]
        assert not found, (secret[:12], found)


def test_twenty_viewers_with_one_ticket(edge):  # noqa: F811
    ticket = json.loads(edge.request("POST", "/tickets", token=edge.user)[2])["ticket"]
    answers = [edge.request("GET", f"/sessions/nobody/stream?token={ticket}", headers=["Accept: text/event-stream"])[0] for _ in range(20)]
    assert sorted(answers) == [401] * 19 + [404]
    assert edge.request("GET", f"/sessions?token={ticket}")[0] == 401, "no ticket where a token is wanted"
    # At the same moment, for a display: each connection has sent its whole handshake but for the last byte.
    ticket = json.loads(edge.request("POST", "/tickets", token=edge.user)[2])["ticket"]
    viewers = [edge.connect(timeout=20) for _ in range(20)]
    for s in viewers:
        s.sendall(f"GET /sessions/nobody/vnc?token={ticket} HTTP/1.1\r\nHost: berth\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r".encode())
    for s in viewers:
        s.sendall(b"\n")
    answers = sorted(int(s.recv(100).split()[1]) for s in viewers)
    for s in viewers:
        s.close()
    assert answers.count(401) == 19 and answers[19] in (404, 409), answers  # it is taken once, for a display that is not there


def test_http2_is_no_way_in(edge):  # noqa: F811
    preface = edge.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    assert preface.startswith((b"HTTP/1.1 400", b"HTTP/1.1 505")) and b"Connection: close" in preface
    for upgrade in (b"h2c", b"websocket, h2c", b"h2c, websocket", b"TLS/1.0"):
        answer = edge.exchange(b"GET /health HTTP/1.1\r\n" + H + b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: " + upgrade + b"\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
        assert not answer.startswith(b"HTTP/1.1 101"), answer[:100]


def test_big_messages_and_subscriptions(edge):  # noqa: F811
    ws = open_ws(edge)
    ws.message("init")
    ws.send(frame(0x81, json.dumps({"type": "subscribe", "sessions": [f"s{i}" for i in range(5000)]}).encode()))
    said = ws.message("error")
    assert "at most 1000" in said["error"]["message"], said
    # A message of 100 MB, announced and begun: refused at its head.
    ws.send(b"\x81\xff" + (100 << 20).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 70000)
    assert ws.close_code() == 1009
    assert edge.request("GET", "/health")[0] == 200
    rss = int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{edge.services['gatewayd'].process.pid}/status").read_text())[1])
    assert rss < 600 * 1024, "KiB, with the sanitizers"


def test_stored_pages_are_not_pages(berth):
    page = b"<script>document.title='owned'</script><img src=x onerror=alert(1)>"
    for name, kind in (("a.html", "text/html"), ("a.svg", "image/svg+xml"), ("a.xhtml", "application/xhtml+xml"), ("a.js", "text/javascript"), ("a.txt", "text/plain")):
        made = berth.call("POST", "/documents", 201, files={"file": (name, page, kind)}).json()
        got = berth.call("GET", made["url"], 200)
        assert got.headers["Content-Disposition"].startswith("attachment") or got.headers["Content-Type"].startswith("text/plain"), name
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in got.headers.get("Content-Security-Policy", "sandbox")
        berth.call("DELETE", made["url"], 204)
    front = berth.call("GET", "/")
    if front.status_code == 200:
        policy = front.headers["Content-Security-Policy"]
        script = next(d for d in policy.split(";") if d.strip().startswith(("script-src", "default-src")))
        assert "unsafe-inline" not in script and "*" not in script.split(), policy


def test_only_the_gateway_listens(berth):
    """Among all processes of the stack: two ports of gatewayd, on loopback; every other socket is a file that strangers may not open."""
    pids = {name: s.process.pid for name, s in berth.stack.services.items()}
    inodes = {}
    for name, pid in pids.items():
        for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(fd)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes[target[8:-1]] = name
    listening = []
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.append((inodes[fields[9]], fields[1]))
    assert {name for name, _ in listening} == {"gatewayd"} and len(listening) == 2, listening
    assert all(address.startswith("0100007F:") for _, address in listening)
    for path in berth.stack.run_dir.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISSOCK(mode):
            strangers = mode & 0o007
            folder = berth.stack.run_dir.stat().st_mode & 0o007
            assert not strangers or not folder, (path, oct(mode))


# ---- rows of host and units ----

def test_units_hold_no_secret():
    units = {p.name: p.read_text() for p in (ROOT / "systemd").glob("*.service*")}
    daemons = {n: t for n, t in units.items() if re.match(r"berth-(gatewayd|coordinatord|docserverd|workerd@)\.service", n)}
    assert len(daemons) == 4
    for name, text in units.items():
        assert not re.search(r"(?im)^Environment=.*(key|token|secret|password)", text), name
    for name, text in daemons.items():
        assert re.search(r"(?m)^LimitCORE=0", text), name
    assert re.search(r"(?m)^(Load|Import|Set)?Credential", "\n".join(daemons.values())) or "LoadCredential" in "\n".join(daemons.values())


@pytest.mark.parametrize("program", ["gatewayd/gatewayd", "coordinatord/coordinatord", "docserverd/docserverd", "workerd/workerd", "berthctl/berthctl", "workerd/berth-idmap",
                                     "workerd/egress/berth-egress", "workerd/decoder/berth-decoder", "workerd/guest/berth-guest"])
def test_programs_are_hardened(program):
    """What checksec looks for; the one inside slots is static, and still at a random address."""
    path = str(BUILD / program)
    head = subprocess.run(["readelf", "-hldW", path], capture_output=True, text=True, check=True).stdout
    assert re.search(r"Type:\s+DYN", head) and "PIE" in head, "position independent"
    assert "GNU_RELRO" in head and re.search(r"BIND_NOW|FLAGS_1.*NOW", head), "relocations are read-only"
    stack = next(line for line in head.splitlines() if "GNU_STACK" in line)
    assert "RWE" not in stack
    symbols = subprocess.run(["readelf", "-sW", path], capture_output=True, text=True, check=True).stdout
    assert "__stack_chk_fail" in symbols
    options = (ROOT / "meson.build").read_text()
    assert "_FORTIFY_SOURCE" in options and "stack-clash-protection" in options
