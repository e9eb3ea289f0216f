"""Packages of execute_code: installed inside the slot, through the egress proxy, as far as the session's network policy goes."""
import base64
import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile

import pytest

from conftest import wait_until
from test_first_light import text_of
from test_tools import results

ADDRESS = "127.77.0.3"  # plays a public address: named in egress_private


def wheel():
    """greet 1.0 for pip."""
    files = {"greet.py": "def hello():\n    return 'hello from a wheel'\n", "greet-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n",
             "greet-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    lines = [f"{n},sha256={base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b'=').decode()},{len(t)}" for n, t in files.items()]
    files["greet-1.0.dist-info/RECORD"] = "\n".join([*lines, "greet-1.0.dist-info/RECORD,,"]) + "\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, text in files.items():
            z.writestr(name, text)
    return out.getvalue()


def tarball():
    """greet 1.0.0 for npm."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as t:
        for name, text in {"package/package.json": json.dumps({"name": "greet", "version": "1.0.0", "main": "index.js"}),
                           "package/index.js": "exports.hello = () => 'hello from a tarball';\n"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            t.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


class Registry(http.server.BaseHTTPRequestHandler):
    """FAKE package registry: one package each for pip (PEP 503) and npm."""
    protocol_version = "HTTP/1.1"
    wheel, tarball, asked = wheel(), tarball(), []

    def log_message(self, *args):
        pass

    def do_GET(self):
        type(self).asked.append(self.path)
        base = f"http://registry.test:{self.server.server_address[1]}"
        status, kind, data = 404, "text/plain", b"not here"
        if self.path in ("/simple/", "/npm/"):
            status, data = 200, b"a registry"
        elif self.path == "/simple/greet/":
            status, kind, data = 200, "text/html", b'<a href="/files/greet-1.0-py3-none-any.whl">greet-1.0-py3-none-any.whl</a>'
        elif self.path.startswith("/files/greet-1.0-py3"):
            status, kind, data = 200, "application/zip", self.wheel
        elif self.path == "/npm/greet":
            sha = base64.b64encode(hashlib.sha512(self.tarball).digest()).decode()
            version = {"name": "greet", "version": "1.0.0", "main": "index.js", "dist": {"tarball": f"{base}/files/greet-1.0.0.tgz", "integrity": f"sha512-{sha}"}}
            status, kind, data = 200, "application/json", json.dumps({"name": "greet", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}).encode()
        elif self.path == "/files/greet-1.0.0.tgz":
            status, kind, data = 200, "application/octet-stream", self.tarball
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_HEAD = do_GET


@pytest.fixture(scope="module")
def shop():
    from conftest import Berth
    server = http.server.ThreadingHTTPServer((ADDRESS, 0), Registry)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    b = Berth(workers=1, settings={"workerd": {"egress_hosts": f"registry.test={ADDRESS}", "egress_private": ADDRESS}})
    b.registry = f"registry.test:{server.server_address[1]}"
    try:
        yield b.start()
    finally:
        b.close()
        server.shutdown()


def settings(shop):
    """The slot's installers are pointed at the fake: there is no internet where tests run."""
    return ["bash", {"command": f"mkdir -p ~/.config/pip; printf '[global]\\nindex-url = http://{shop.registry}/simple/\\ntrusted-host = {shop.registry}\\n' > ~/.config/pip/pip.conf; "
                                f"echo 'registry=http://{shop.registry}/npm/' > ~/.npmrc"}]


PYTHON = ["execute_code", {"language": "python", "code": "import greet; print(greet.hello())", "packages": ["greet==1.0"]}]
NODE = ["execute_code", {"language": "javascript", "code": "import greet from 'greet'; console.log(greet.hello())", "packages": ["greet"]}]


def play(shop, *turns, **body):
    session = shop.create([*turns, {"text": "done"}], **body)["session_id"]
    assert shop.wait_status(session, "idle", "failed", "waiting", seconds=120)["status"] == "idle"
    return session, results(shop, session)


def test_packages_of_an_allowed_registry(shop):
    Registry.asked.clear()
    _, got = play(shop, {"tools": [settings(shop), PYTHON, NODE, ["execute_code", {"language": "typescript", "code": "const n: number = 42; console.log(n)"}],
                                   ["execute_code", {"language": "python", "code": "print(1)", "packages": ["missing-one"]}]]},
                  network={"mode": "allow", "allow": [shop.registry]})
    assert "hello from a wheel" in text_of(got[1]), got[1]
    assert "hello from a tarball" in text_of(got[2]), got[2]
    assert "42" in text_of(got[3]), got[3]
    assert "could not install the packages, the code was not run" in got[4]["error"] and "missing-one" in got[4]["error"]
    assert any(p.endswith(".whl") for p in Registry.asked) and "/files/greet-1.0.0.tgz" in Registry.asked


@pytest.mark.parametrize("network,reason", [({"mode": "none"}, "network_off"), ({"mode": "allow", "allow": ["other.test"]}, "not_listed")], ids=lambda v: v if isinstance(v, str) else "")
def test_a_policy_that_does_not_allow_it(shop, network, reason):
    Registry.asked.clear()
    session, got = play(shop, {"tools": [settings(shop), PYTHON, NODE]}, network=network)
    for e in got[1:]:
        assert "packages cannot be installed: the session's network policy" in e["error"] and reason in e["error"] and "hello" not in e["error"], e
    assert not Registry.asked, "not one request left the slot"
    if reason == "not_listed":  # a person is asked, and may allow it for the next time
        asked = wait_until(lambda: [e for e in shop.events(session) if e["event_type"] == "approval_requested"], 30)
        assert asked[0]["kind"] == "network" and "registry.test" in json.dumps(asked[0])
