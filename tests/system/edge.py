"""Part of a Berth for tests of the network edge: PostgreSQL, coordinatord and gatewayd; no slots."""
import base64
import hashlib
import json
import os
import pathlib
import shutil
import socket
import tempfile
import time

import stack
from conftest import BUILD, free_port, wait_until

HERE = pathlib.Path(__file__).resolve().parent


class Edge(stack.Stack):
    """url, unix (the path of a Unix socket listener) and tokens of each role."""

    def __init__(self, settings=None):
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="berth-e-", dir=os.environ.get("BERTH_TEST_TMP", "/tmp")))
        self.top.chmod(0o755)
        programs = self.top / "bin"
        programs.mkdir(mode=0o755)
        for name in ("coordinatord", "gatewayd"):
            shutil.copy2(BUILD / name / name, programs / name)
        self.web = self.top / "web"
        self.web.mkdir(mode=0o755)
        (self.web / "index.html").write_text("<!doctype html><title>page</title>" + "x" * 3000)
        (self.web / "app-3F2A9C1B.js").write_text("console.log(1)\n" * 50000)
        (self.web / "app-3F2A9C1B.js.gz").write_bytes(b"not really zipped")
        (self.top / "secret.txt").write_text("outside")
        (self.web / "link.txt").symlink_to("../secret.txt")
        values = {"head_timeout": "1s", "body_timeout": "1s", "idle_timeout": "2s", "ping_interval": "500ms", **(settings or {})}
        super().__init__(self.top / "s", programs, port=free_port(), docs_port=free_port(), workers=0,
                         web_dir=str(self.web), demo_dir=str(self.web), settings={"gatewayd": values})

    def start_edge(self):
        self.prepare()
        self.init_database()
        self.start(self.postgres_service())
        self.setup_database()
        for service in self.daemon_services():
            if service.name in ("coordinatord", "gatewayd"):
                self.start(service)
        wait_until(lambda: (self.state / "secrets" / "admin-token").exists() and self.answers(), 60, lambda: self.logs())
        self.viewer, self.user = self.make_token("viewer"), self.make_token("operator")
        return self

    def answers(self):
        try:
            return json.loads(self.request("GET", "/ready")[2])["coordinator"]
        except OSError:
            return False

    def make_token(self, role, tenant="default"):
        token = "bt_" + base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
        digest = hashlib.sha256(token.encode()).hexdigest()
        self.sql(f"INSERT INTO core.auth_token (token_hash, name, role, tenant) VALUES ('{digest}', '{role}', '{role}', '{tenant}')")
        return token

    def sql(self, text):
        return self.psql("-c", text, database="berth").strip()

    def logs(self):
        return "\n".join(f"--- {n}\n{self.log_tail(n, 30)}" for n in ("coordinatord", "gatewayd"))

    def close(self):
        self.stop_all()
        text = (self.state / "log" / "gatewayd.log").read_text(errors="replace")
        shutil.rmtree(self.top, ignore_errors=True)
        for mark in ("ERROR: AddressSanitizer", "runtime error:", "LeakSanitizer: detected", "Assertion"):
            assert mark not in text, text[text.index(mark):][:4000]

    # --- raw requests -------------------------------------------------------------------------------

    def connect(self, timeout=5):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def exchange(self, data, timeout=5):
        """Sends bytes and reads until the server closes."""
        with self.connect(timeout) as s:
            s.sendall(data)
            return read_all(s)

    def request(self, method, path, token=None, headers=(), body=b"", raw_path=False):
        """(status, headers, body) of one request on a connection of its own."""
        lines = [f"{method} {path} HTTP/1.1", "Host: berth", "Connection: close", *headers]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return parse_response(self.exchange("\r\n".join(lines).encode() + b"\r\n\r\n" + body))


def read_all(s, seconds=10):
    out, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            part = s.recv(65536)
        except ConnectionResetError:
            break
        if not part:
            break
        out += part
    return out


def parse_response(data):
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.1"):
        raise AssertionError(f"not a response: {data[:200]!r}")
    return int(parts[1]), {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])}, body


def responses(data):
    """All responses of a connection, split by their Content-Length."""
    found = []
    while data:
        status, headers, rest = parse_response(data)
        n = int(headers.get("content-length", 0)) if status not in (100, 101, 204, 304) else 0
        found.append((status, headers, rest[:n]))
        data = rest[n:]
    return found
