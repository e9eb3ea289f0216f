"""What the egress proxy talks to in tests: FAKES of the outside world (a name server, origins) and its worker's end."""
import datetime
import http.server
import json
import os
import pathlib
import socket
import socketserver
import ssl
import struct
import subprocess
import threading

import wire
from conftest import BUILD, wait_until


class FakeDns:
    """FAKE name server: answers what a test put into `names`: name -> list of addresses, or of lists (one per question)."""

    def __init__(self):
        self.names, self.asked, self.silent = {}, [], False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    @staticmethod
    def _name(text):
        return b"".join(bytes([len(p)]) + p.encode() for p in text.split(".")) + b"\0"

    def _records(self, name, kind):
        """Answers of type A or AAAA, behind CNAMEs."""
        out, seen = [], 0
        while name in self.names and seen < 8:
            entry = self.names[name]
            if isinstance(entry, str):  # CNAME
                out.append(self._name(name) + struct.pack(">HHIH", 5, 1, 0, len(self._name(entry))) + self._name(entry))
                name, seen = entry, seen + 1
                continue
            if entry and isinstance(entry[0], list):
                entry = entry.pop(0) if len(entry) > 1 and kind == 1 else entry[0]
            for a in entry:
                family = socket.AF_INET6 if ":" in a else socket.AF_INET
                if (kind == 28) == (family == socket.AF_INET6):
                    data = socket.inet_pton(family, a)
                    out.append(self._name(name) + struct.pack(">HHIH", kind, 1, 0, len(data)) + data)
            return out
        return out

    def _serve(self):
        while True:
            data, peer = self.socket.recvfrom(2048)
            labels, at = [], 12
            while data[at]:
                labels.append(data[at + 1:at + 1 + data[at]].decode())
                at += 1 + data[at]
            name, kind = ".".join(labels).lower(), struct.unpack(">H", data[at + 1:at + 3])[0]
            self.asked.append((name, kind))
            if self.silent:
                continue
            records = self._records(name, kind) if kind in (1, 28) else []
            code = 0 if name in self.names else 3
            head = data[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records), 0, 0)
            self.socket.sendto(head + data[12:at + 5] + b"".join(records), peer)


class Origin(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """FAKE origin: answers GET and POST with what it saw, over HTTP or TLS."""
    daemon_threads, allow_reuse_address = True, True

    def __init__(self, address="127.0.0.1", port=0, tls=None):
        super().__init__((address, port), _Answer)
        self.seen = []
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            out = b""
            while n := int(self.rfile.readline().split(b";")[0], 16):
                out += self.rfile.read(n)
                self.rfile.readline()
            self.rfile.readline()
            return out
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self):
        body = self._body()
        self.server.seen.append({"method": self.command, "path": self.path, "headers": dict(self.headers), "body": body})
        size = int(self.path.rsplit("bytes=", 1)[1]) if "bytes=" in self.path else None
        data = b"x" * size if size is not None else json.dumps({"host": self.headers["Host"], "path": self.path, "got": len(body)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_PUT = do_GET


def make_certificates(folder, *names):
    """An authority and a certificate for these names: (ca, certificate, key)."""
    folder = pathlib.Path(folder)
    run = lambda *a: subprocess.run(["openssl", *a], cwd=folder, check=True, capture_output=True)
    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=Test authority")
    run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "host.key", "-out", "host.csr", "-subj", "/CN=test")
    (folder / "ext").write_text("subjectAltName=" + ",".join(f"DNS:{n}" for n in names))
    run("x509", "-req", "-in", "host.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "host.pem", "-days", "30", "-extfile", "ext")
    return folder / "ca.pem", folder / "host.pem", folder / "host.key"


class Proxy:
    """berth-egress as its worker runs it, with a listener on loopback."""

    def __init__(self, network=None, *options, tenant="default", agent=None):
        program = next(p for p in (BUILD / "workerd").rglob("berth-egress") if p.is_file())
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(256)
        self.port = self.listener.getsockname()[1]
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(30)
        self.log = open(os.path.join(os.environ.get("BERTH_TEST_TMP", "/tmp"), f"egress-{os.getpid()}-{self.port}.log"), "w+b")
        self.process = subprocess.Popen(
            [str(program), "--control", str(theirs.fileno()), "--listener", str(self.listener.fileno()), *map(str, options)],
            pass_fds=(theirs.fileno(), self.listener.fileno()), stderr=self.log,
            # Its system call filter refuses what the leak checker needs; unit tests look for leaks.
            env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1"})
        theirs.close()
        self.setup(network or {"mode": "none"}, tenant, agent)

    def setup(self, network, tenant="default", agent=None):
        body = {"network": json.dumps(network), "tenant": tenant}
        if agent:
            body["agent_name"] = agent
        self.control.send(wire.pack("egress_setup", body))

    def verdict(self):
        return wire.unpack(self.control.recv(65536)).body

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port))
        s.settimeout(30)
        return s

    def raw(self, data, more=b""):
        """Everything the proxy answers to these bytes."""
        with self.connect() as s:
            s.sendall(data)
            out = b""
            while part := s.recv(65536):
                out += part
                if more and b"\r\n\r\n" in out:
                    s.sendall(more)
                    more = b""
            return out

    def curl(self, url, *options, body=None):
        r = subprocess.run(["curl", "-sS", "-m", "30", "-x", f"http://127.0.0.1:{self.port}", "-w", "\n%{http_code} %{http_connect}",
                            *(["--data-binary", "@-"] if body else []), *options, url], input=body, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
        body, _, codes = r.stdout.rpartition("\n")
        return r.returncode, codes.split(), body, r.stderr

    def close(self):
        self.control.close()
        code = self.process.wait(30)
        self.log.seek(0)
        text = self.log.read().decode(errors="replace")
        self.log.close()
        os.unlink(self.log.name)
        assert code == 0 and "AddressSanitizer" not in text and "runtime error" not in text, text
        return text
