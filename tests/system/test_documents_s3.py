"""Documents whose bytes are in an S3-compatible store, an independent one: s3rver. It checks the signatures."""
import concurrent.futures
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import zipfile

import pytest

from conftest import BUILD, ROOT, free_port, wait_until
from documents import Documents

MIB = 1 << 20
PEER = ROOT / "tests" / "peers" / "s3"


class Store:
    """s3rver with one bucket."""

    def __init__(self):
        if not (PEER / "node_modules" / "s3rver").exists():
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=PEER, check=True, stdout=subprocess.DEVNULL)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-s3-", dir=os.environ.get("BERTH_TEST_TMP", "/tmp")))
        self.port = free_port()
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [os.environ.get("BERTH_NODE", "node"), str(PEER / "node_modules" / "s3rver" / "bin" / "s3rver.js"), "-d", str(self.folder / "data"),
             "-a", "127.0.0.1", "-p", str(self.port), "--configure-bucket", "berth"],
            stdout=open(self.folder / "log", "a"), stderr=subprocess.STDOUT, cwd=self.folder)
        def answers():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0
        wait_until(answers, 30, "s3rver answers")

    def stop(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, checksum):
        return self.folder / "data" / "berth" / f"berth/{checksum}._S3rver_object"

    def names(self):
        return {p.name.split(".")[0] for p in (self.folder / "data" / "berth" / "berth").glob("*._S3rver_object")}

    def log(self):
        return (self.folder / "log").read_text(errors="replace")


class Narrow:
    """A link to the store that passes `rate` bytes a second towards the daemon, or cuts after so many bytes."""

    def __init__(self, target):
        self.target, self.rate, self.cut_after = target, None, None
        self.asked = []  # request lines
        self.heads = []  # and what follows them
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            threading.Thread(target=self.copy, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self.copy, args=(server, client, True), daemon=True).start()

    def copy(self, a, b, down):
        passed = 0
        try:
            while data := a.recv(65536):
                b.sendall(data)
                passed += len(data)
                if not down:
                    self.heads += re.findall(rb"(?:GET|PUT|POST|HEAD|DELETE) /[^\r]+\r\n(?:[^\r]+\r\n)+\r\n", data)
                    self.asked += re.findall(rb"(?:^|\n)((?:GET|PUT|POST|HEAD|DELETE) /\S+)", data)
                if down and self.rate:
                    time.sleep(len(data) / self.rate)
                if not down and self.cut_after and passed > self.cut_after:
                    break
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


@pytest.fixture(scope="module")
def store():
    s = Store()
    yield s
    s.close()


@pytest.fixture(scope="module")
def link(store):
    n = Narrow(store.port)
    yield n
    n.close()


@pytest.fixture(scope="module")
def secret():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-k-", dir=os.environ.get("BERTH_TEST_TMP", "/tmp")))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def settings_for(link, secret, **more):
    path = secret / "key"
    path.write_text("S3RVER\n")
    path.chmod(0o600)
    if os.geteuid() == 0:
        import stack
        stack.ensure_accounts(0)
        shutil.chown(path, "berth", "berth")
    return {"blob_store": "s3", "s3_endpoint": f"http://127.0.0.1:{link.port}", "s3_bucket": "berth", "s3_prefix": "berth/",
            "s3_access_key": "S3RVER", "s3_secret_key": path, "s3_part_size": "5M", "orphan_age": "0", "sweep_interval": "100ms", **more}


@pytest.fixture(scope="module")
def shared(link, secret):
    d = Documents(docserverd=settings_for(link, secret))
    try:
        yield d.start()
    finally:
        d.close()


def forget(d):
    """Takes everything out of the cache."""
    for p in d.blobs.glob("??/??/*"):
        p.unlink(missing_ok=True)


def random_bytes(n, seed=1):
    return hashlib.shake_128(str((n, seed)).encode()).digest(n)


def sha(data):
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 12 * MIB])
def test_sizes_and_parts(shared, store, size):
    data = random_bytes(size)
    doc = shared.put(data, f"{size}.bin").json()
    assert doc["checksum"] == sha(data) and doc["size_bytes"] == size
    assert store.path(sha(data)).read_bytes() == data
    for cold in (False, True):
        if cold:
            forget(shared)
        assert shared.call("GET", f"/documents/{doc['id']}", 200).content == data
    shared.call("DELETE", f"/documents/{doc['id']}", 204)
    wait_until(lambda: not store.path(sha(data)).exists(), 30, "the object goes with its document")


def test_ranges_are_fetched_alone(shared, store):
    data = random_bytes(9 * MIB, 2)
    doc = shared.put(data).json()
    forget(shared)
    url = f"/documents/{doc['id']}"
    for first, last in ((0, 1), (7 * MIB, 7 * MIB + 99), (9 * MIB - 1, 9 * MIB + 50)):
        reply = shared.call("GET", url, 206, headers={"Range": f"bytes={first}-{last}"})
        assert reply.content == data[first:last + 1]
        assert reply.headers["Content-Range"] == f"bytes {first}-{min(last, len(data) - 1)}/{len(data)}"
    assert not list(shared.blobs.glob("??/??/*")), "a range does not bring the whole"
    assert shared.call("GET", url, 416, headers={"Range": f"bytes={9 * MIB}-"}).json()["error"]["code"] == "range_not_satisfiable"
    # What is not a plain range is served from the whole.
    assert shared.call("GET", url, 206, headers={"Range": "bytes=-5"}).content == data[-5:]
    forget(shared)
    assert shared.call("GET", url, 200, headers={"Range": "bytes=0-1,5-6"}).content == data
    forget(shared)
    assert shared.call("GET", url, 200, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).content == data
    forget(shared)
    assert shared.call("GET", url, 304, headers={"Range": "bytes=0-1", "If-None-Match": f'"{doc["checksum"]}"'}).content == b""


JUDGE = """
const aws4 = require("aws4");
const heads = JSON.parse(require("fs").readFileSync(0, "utf8"));
for (const head of heads) {
  const lines = head.trimEnd().split("\\r\\n"), [method, path] = lines[0].split(" ");
  const h = Object.fromEntries(lines.slice(1).map((l) => [l.slice(0, l.indexOf(":")).toLowerCase(), l.slice(l.indexOf(":") + 1).trim()]));
  const headers = { Host: h.host, "X-Amz-Date": h["x-amz-date"], "X-Amz-Content-Sha256": h["x-amz-content-sha256"] };
  const signed = aws4.sign({ service: "s3", region: "us-east-1", method, path, headers }, { accessKeyId: "S3RVER", secretAccessKey: "S3RVER" });
  const want = /Signature=([0-9a-f]+)/.exec(signed.headers.Authorization)[1], got = /Signature=([0-9a-f]+)/.exec(h.authorization)[1];
  if (want !== got) { console.log("differs:", lines[0], signed.headers.Authorization, h.authorization); process.exit(1); }
}
console.log(heads.length);
"""


def test_signatures(shared, link):
    """s3rver knows the account and not how to compute signatures of version 4: another implementation judges them."""
    link.heads.clear()
    doc = shared.put(random_bytes(11 * MIB, 9)).json()
    forget(shared)
    shared.call("GET", f"/documents/{doc['id']}", 200)
    shared.call("DELETE", f"/documents/{doc['id']}", 204)
    wait_until(lambda: any(h.startswith(b"DELETE") for h in link.heads), 30, "the object is removed")
    wait_until(lambda: any(b"list-type=2" in h for h in link.heads), 30, "a walk")
    heads = [h.decode() for h in list(link.heads)]
    assert {h.split()[0] for h in heads} == {"GET", "PUT", "POST", "HEAD", "DELETE"}
    judged = subprocess.run([os.environ.get("BERTH_NODE", "node"), "-e", JUDGE], cwd=PEER, input=json.dumps(heads), text=True, capture_output=True)
    assert judged.returncode == 0 and int(judged.stdout) == len(heads), judged.stdout + judged.stderr


def test_slow_store(shared, link):
    """Longer than a gateway waits for anything: the answer comes, and many askers share one transfer."""
    data = random_bytes(6 * MIB, 3)
    doc = shared.put(data).json()
    forget(shared)
    link.asked.clear()
    link.rate = 2 * MIB
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for reply in pool.map(lambda _: shared.call("GET", f"/documents/{doc['id']}", 200), range(8)):
                assert reply.content == data
    finally:
        link.rate = None
    assert link.asked.count(f"GET /berth/berth/{doc['checksum']}".encode()) == 2, "two parts, once"


def test_upload_cut_on_the_way(shared, link, store):
    """Tried again: a connection that breaks in the middle of a part costs nothing."""
    data = random_bytes(11 * MIB, 4)
    link.cut_after = 3 * MIB
    refused = shared.put(data, expect=503)
    assert refused.headers["Retry-After"] and "object store" in refused.json()["error"]["message"]
    link.cut_after = None
    assert sha(data) not in store.names()
    doc = shared.put(data).json()
    assert store.path(sha(data)).read_bytes() == data and doc["size_bytes"] == len(data)


def test_store_gone_and_back(shared, store):
    kept = shared.put(b"kept").json()
    cold = shared.put(b"cold bytes").json()
    forget(shared)
    assert shared.call("GET", f"/documents/{kept['id']}", 200).content == b"kept"
    before = shared.list().json()["total"]
    store.stop()
    try:
        started = time.monotonic()
        refused = shared.put(b"new bytes", expect=503)
        assert refused.headers["Retry-After"] and "object store" in refused.json()["error"]["message"]
        missed = shared.call("GET", f"/documents/{cold['id']}", 503)
        assert missed.headers["Retry-After"] and "object store" in missed.json()["error"]["message"]
        assert time.monotonic() - started < 8
        assert shared.call("GET", f"/documents/{kept['id']}", 200).content == b"kept", "what is in the cache is served"
        assert shared.list().json()["total"] == before, "what was refused is not there"
        shared.call("PATCH", f"/documents/{cold['id']}", 200, json={"tags": ["still"]})
        shared.kill("docserverd")
        shared.wait_ready()  # starts without the store
    finally:
        store.start()
    assert shared.call("GET", f"/documents/{cold['id']}", 200).content == b"cold bytes"
    again = shared.put(b"new bytes").json()
    assert store.path(again["checksum"]).read_bytes() == b"new bytes"


def test_killed_in_the_middle_of_sending(shared, store, link):
    """kill -9 while parts are on their way: no document, no object after the sweep; the next try works."""
    data = random_bytes(14 * MIB, 5)
    link.rate = 400  # answers crawl
    link.asked.clear()
    before = shared.list().json()["total"]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        upload = pool.submit(lambda: shared.http.post(shared.url("/documents"), files={"file": ("x", data)}, timeout=60).status_code)
        wait_until(lambda: any(b"partNumber=1" in line for line in link.asked), 30, "a part was sent")
        shared.kill("docserverd")
        link.rate = None
        assert upload.result() == 503
    shared.wait_ready()
    assert shared.list().json()["total"] == before and sha(data) not in store.names()
    doc = shared.put(data).json()
    assert store.path(sha(data)).read_bytes() == data and doc["checksum"] == sha(data)


def test_dies_between_two_parts(shared, store):
    """F5: a part is in the store and nothing else says so; no document, no object, and the next try works."""
    if b"BERTH_CRASH_AT" not in (BUILD / "docserverd" / "docserverd").read_bytes():
        pytest.skip("built without -Dfaults=true")
    data, service = random_bytes(14 * MIB, 6), shared.stack.services["docserverd"]
    before = shared.list().json()["total"]
    service.env["BERTH_CRASH_AT"] = "docs.after_part:2"
    shared.kill("docserverd")
    shared.wait_ready()
    armed = service.process
    assert shared.http.post(shared.url("/documents"), files={"file": ("x", data)}, timeout=60).status_code == 503
    assert armed.wait(30) == 137
    service.env.pop("BERTH_CRASH_AT")
    shared.stack.start(service)
    shared.wait_ready()
    assert shared.list().json()["total"] == before and sha(data) not in store.names()
    again = lambda: shared.http.post(shared.url("/documents"), files={"file": ("x", data)}, timeout=60)
    wait_until(lambda: again().status_code == 201, 90, shared.logs)
    assert store.path(sha(data)).read_bytes() == data


def test_volume_from_a_cold_store(shared):
    files = {f"f{i}.bin": random_bytes(1 + i * 700_000, 6) for i in range(4)}
    sent = shared.call("POST", "/upload", 202, files=[("files[]", (f"a/{n}", d)) for n, d in files.items()])
    forget(shared)
    zipped = zipfile.ZipFile(io.BytesIO(shared.call("GET", f"/download/{sent.json()['volume_name']}", 200).content))
    assert {n: zipped.read(f"data/a/{n}") for n in files} == files


def test_damaged_object(shared, store):
    doc = shared.put(b"as it was stored").json()
    forget(shared)
    store.path(doc["checksum"]).write_bytes(b"as it is not any")
    failed = shared.call("GET", f"/documents/{doc['id']}", 500)
    assert b"as it is not" not in failed.content
    assert not list(shared.blobs.glob(f"??/??/{doc['checksum']}"))
    store.path(doc["checksum"]).write_bytes(b"as it was stored")
    assert shared.call("GET", f"/documents/{doc['id']}", 200).content == b"as it was stored"


def test_consistent_after_all(shared, store):
    """Everything above, once more: every document whole from the store, every object somebody's."""
    forget(shared)
    for d in shared.list(limit=1000).json()["documents"]:
        assert sha(shared.call("GET", f"/documents/{d['id']}", 200).content) == d["checksum"]
    wanted = set(shared.sql("SELECT checksum FROM docs.document_version UNION SELECT checksum FROM docs.volume_file").split())
    wait_until(lambda: store.names() == wanted, 30, lambda: f"{store.names() ^ wanted}")


def test_cache_keeps_to_its_size_and_wrong_account(link, secret, store):
    d = Documents(docserverd=settings_for(link, secret, blob_cache_max="3M", s3_prefix="other/"))
    try:
        d.start()
        docs = [d.put(random_bytes(MIB, i)).json() for i in range(8)]
        wait_until(lambda: sum(p.stat().st_size for p in d.blobs.glob("??/??/*")) <= 3 * MIB, 30, "room was made")
        for i, doc in enumerate(docs):
            assert d.call("GET", f"/documents/{doc['id']}", 200).content == random_bytes(MIB, i)
        conf = d.stack.state / "etc" / "docserverd.conf"
        conf.write_text(conf.read_text().replace("s3_access_key = S3RVER", "s3_access_key = WRONG"))
        d.kill("docserverd")
        d.wait_ready()
        assert "object store" in d.put(b"x" * 7, expect=503).json()["error"]["message"]
        wait_until(lambda: "status 403" in d.logs(400), 30, "the log says why")
    finally:
        d.close()
