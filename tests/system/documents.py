"""The part of Berth that documents need, for tests: PostgreSQL, coordinatord (for tokens), docserverd, gatewayd; and forms."""
import hashlib
import http.client
import os
import pathlib
import shutil
import socket
import tempfile
import uuid

import pytest
import requests

from conftest import BUILD, PROGRAMS, free_port, wait_until
import stack


class Documents:
    """Running daemons and the calls tests make."""

    def __init__(self, **options):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-d-", dir=os.environ.get("BERTH_TEST_TMP", "/tmp")))
        self.folder.chmod(0o755)
        programs = self.folder / "bin"
        programs.mkdir(mode=0o755)
        for name in ("coordinatord", "docserverd", "gatewayd"):
            shutil.copy2(BUILD / PROGRAMS[name], programs / name)
            (programs / name).chmod(0o755)
        self.stack = stack.Stack(self.folder / "s", programs, port=free_port(), docs_port=free_port(), workers=0, settings=options)
        self.blobs = self.folder / "s" / "blobs"
        self.http = requests.Session()

    def start(self):
        self.stack.start_all()
        wait_until(lambda: (self.stack.state / "secrets" / "admin-token").exists(), 60, lambda: f"token\n{self.logs()}")
        self.http.headers["Authorization"] = f"Bearer {self.stack.token}"
        self.wait_ready()
        return self

    def wait_ready(self):
        def check():
            try:
                # Documents can be read and written: both links to docserverd and the database are up.
                reply = self.http.post(self.url("/documents"), files={"file": ("", b"")}, timeout=5)
                probe = self.http.delete(self.url(f"/documents/{uuid.uuid4()}"), timeout=5)
                return reply.status_code == 400 and probe.status_code == 404 and self.list().status_code == 200
            except requests.ConnectionError:
                return False
        wait_until(check, 60, lambda: f"ready\n{self.logs()}")

    def close(self):
        self.stack.stop_all()
        logs = self.logs(400)
        shutil.rmtree(self.folder, ignore_errors=True)
        for mark in ("ERROR: AddressSanitizer", "runtime error:", "LeakSanitizer: detected", "Assertion"):
            assert mark not in logs, logs[logs.index(mark):][:6000]

    def logs(self, lines=25):
        return "\n".join(f"--- {p.name}\n" + "".join(p.read_text(errors="replace").splitlines(True)[-lines:])
                         for p in sorted((self.folder / "s" / "log").glob("*d.log")))

    def url(self, path, docs_port=False):
        return f"http://127.0.0.1:{self.stack.docs_port if docs_port else self.stack.port}{path}"

    def pid(self, name):
        return self.stack.services[name].process.pid

    def kill(self, name, restart=True):
        service = self.stack.services[name]
        service.process.kill()
        service.process.wait()
        if restart:
            self.stack.start(service)

    def sql(self, text):
        return self.stack.psql("-c", text, database="berth").strip()

    def call(self, method, path, expect, **kwargs):
        kwargs.setdefault("timeout", 30)
        reply = self.http.request(method, self.url(path), **kwargs)
        assert reply.status_code == expect, f"{method} {path}: {reply.status_code} {reply.text[:500]}\n{self.logs()}"
        return reply

    def put(self, data=b"hello", filename="hello.txt", content_type="text/plain", expect=201, headers=None, **fields):
        return self.call("POST", "/documents", expect, files={"file": (filename, data, content_type)}, data=fields, headers=headers)

    def list(self, **query):
        return self.http.get(self.url("/documents"), params=query, timeout=30)

    def names(self, **query):
        reply = self.list(**query)
        assert reply.status_code == 200, reply.text
        return [d["filename"] for d in reply.json()["documents"]]

    def clear(self):
        while True:
            page = self.list(limit=1000).json()["documents"]
            if not page:
                return
            for d in page:
                self.call("DELETE", f"/documents/{d['id']}", 204)

    def files(self):
        """Names in the blob store: published ones and leftovers."""
        found = {p.name for p in self.blobs.glob("??/??/*")}
        return found, [p.name for p in (self.blobs / "tmp").iterdir()]

    def assert_consistent(self):
        """Every document whole, every blob somebody's. Sweeps run all the time in these tests."""
        for d in self.list(limit=1000).json()["documents"]:
            data = self.call("GET", f"/documents/{d['id']}", 200).content
            assert len(data) == d["size_bytes"] and hashlib.sha256(data).hexdigest() == d["checksum"], d
        def swept():
            rows = set(self.sql("SELECT DISTINCT checksum FROM docs.document_version").split())
            return self.files() == (rows, [])
        wait_until(swept, 20, lambda: f"no orphan: {self.files()} {self.logs()}")

    def open_files(self):
        """Uploads that docserverd holds open: files without a name."""
        count = 0
        for fd in pathlib.Path(f"/proc/{self.pid('docserverd')}/fd").iterdir():
            try:
                count += str(self.blobs) in os.readlink(fd) and "(deleted)" in os.readlink(fd)
            except FileNotFoundError:
                pass
        return count

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.stack.port), timeout=30)
        return s

    def raw(self, head, body=b"", chunked=False):
        """A request by hand; the answer's status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.stack.port, timeout=30)
        connection.putrequest("POST", "/documents", skip_accept_encoding=True)
        connection.putheader("Authorization", self.http.headers["Authorization"])
        connection.putheader(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))))
        for name, value in head.items():
            connection.putheader(name, value)
        try:
            connection.endheaders([body] if chunked else body, encode_chunked=chunked)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before the body was read: the answer is there
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, data


SWEEP = {"docserverd": {"orphan_age": "0", "sweep_interval": "50ms"}}


@pytest.fixture(scope="module")
def shared():
    d = Documents(**SWEEP, gatewayd={"upload_max": "1G"})
    try:
        yield d.start()
    finally:
        d.close()


@pytest.fixture
def docs(shared):
    shared.clear()
    return shared


@pytest.fixture
def own():
    made = []

    def make(**options):
        made.append(Documents(**options))
        return made[-1].start()
    yield make
    for d in made:
        d.close()


def multipart(parts, boundary="XX"):
    """parts: (head lines, data)."""
    b = boundary.encode()
    body = b"".join(b"--" + b + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return body + b"--" + b + b"--\r\n"


def field(name, data, filename=None, content_type=None):
    head = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        head += f'; filename="{filename}"'
    if content_type is not None:
        head += f"\r\nContent-Type: {content_type}"
    return head.encode(), data if isinstance(data, bytes) else data.encode()


FORM = {"Content-Type": "multipart/form-data; boundary=XX"}
