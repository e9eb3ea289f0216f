"""Documents under generated input and under faults: killed, stopped and missing processes, locked tables, a full disk."""
import concurrent.futures
import hashlib
import http.client
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import tempfile
import threading
import time

import pytest
import requests
from hypothesis import HealthCheck, given, settings, strategies as st

from conftest import wait_until
from documents import FORM, SWEEP, docs, field, multipart, own, shared  # noqa: F401  (fixtures)

TAG = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")


# ---- generated input ---------------------------------------------------------------------------------


def filename_ok(name):
    return 0 < len(name.encode()) <= 255 and name not in (".", "..") and name.strip(" ") and not any(
        c in "/\\" or ord(c) < 0x20 or 0x7f <= ord(c) <= 0x9f or ord(c) in (0x61c, 0x200b, 0x200e, 0x200f, 0xfeff) or 0x2028 <= ord(c) <= 0x202e
        or 0x2060 <= ord(c) <= 0x206f or 0xe0000 <= ord(c) <= 0xe007f for c in name)


characters = st.characters(blacklist_categories=("Cs",)) | st.sampled_from('/\\."%;\u202e\u200f\x7f 😀')
filenames = st.text(characters, max_size=20) | st.text("ab.é", max_size=300)
tag_lists = st.lists(st.text("aB3-", max_size=8) | st.text(characters, max_size=4) | st.text("a", min_size=60, max_size=70), max_size=8)
values = st.recursive(st.none() | st.booleans() | st.integers(-2**63, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) |
                      st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=10),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abé", max_size=3), inner, max_size=3), max_leaves=6)


def same_json(a, b):
    """Equal as JSON: 1e20 may come back as an integer of 21 digits, which is the same number."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_json, a, b))
    if isinstance(a, float) and not isinstance(b, bool):
        return isinstance(b, (int, float)) and a == float(b)
    return type(a) is type(b) and a == b


LIVELY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@LIVELY
@given(filename=filenames, tags=tag_lists, metadata=st.dictionaries(st.text("abc", max_size=3), values, max_size=3), data=st.binary(max_size=200))
def test_generated_documents(shared, filename, tags, metadata, data):
    quoted = filename.replace("\\", "\\\\").replace('"', '\\"')
    body = multipart([field("metadata", json.dumps(metadata)), field("tags", ",".join(tags)), field("file", data, quoted)], "A-boundary")
    good = filename_ok(filename) and "%22" not in filename
    seen = list(dict.fromkeys(t for t in (p.strip(" \t") for p in ",".join(tags).split(",")) if t))
    good = good and len(seen) <= 50 and all(TAG.fullmatch(t) and len(t) <= 64 for t in seen) and b"--A-boundary" not in data
    status, reply = shared.raw({"Content-Type": "multipart/form-data; boundary=A-boundary"}, body)
    assert status == (201 if good else 400), (status, reply, filename, tags)
    if good:
        d = json.loads(reply)
        assert d["filename"] == filename and d["tags"] == seen
        assert same_json(metadata, d["metadata"])
        assert d["checksum"] == hashlib.sha256(data).hexdigest()
        shared.call("DELETE", d["url"], 204)


@LIVELY
@given(seed=st.integers(0, 2**32), cuts=st.integers(1, 12))
def test_mutated_forms_never_break(shared, seed, cuts):
    rng = random.Random(seed)
    body = bytearray(multipart([field("tags", "a,b"), field("file", rng.randbytes(60), "a.bin", "text/plain"), field("metadata", '{"a":1}')]))
    for _ in range(cuts):
        at = rng.randrange(len(body))
        body[at:at + rng.choice((0, 0, 1, 5))] = rng.choice((b"\r", b"\n", b"\0", b"--XX", b"\r\n", b'"', b";", b"\xff", bytes([rng.randrange(256)])))
    status, reply = shared.raw(FORM, bytes(body))
    assert status in (201, 400, 413), (status, reply, bytes(body))
    if status == 201:
        shared.call("DELETE", json.loads(reply)["url"], 204)


@LIVELY
@given(body=values | st.fixed_dictionaries({}, optional={"tags": values, "description": values, "metadata": values, "filename": values}))
def test_generated_patches(shared, body):
    if not hasattr(shared, "target") or shared.http.get(shared.url(shared.target["url"] + "/metadata"), timeout=10).status_code == 404:
        shared.target = shared.put(b"target", "target.txt").json()
    reply = shared.http.patch(shared.url(shared.target["url"]), json=body, timeout=10)
    assert reply.status_code in (200, 400, 413), (reply.status_code, reply.text, body)
    if reply.status_code == 200:
        assert isinstance(body, dict) and set(body) <= {"tags", "description", "metadata", "filename"}
        if "tags" in body:
            assert reply.json()["tags"] == list(dict.fromkeys(body["tags"]))
    else:
        assert reply.json()["error"]["message"]


# ---- faults ------------------------------------------------------------------------------------------


def test_same_bytes_made_and_deleted_at_once(docs):
    """The blob of a new document is never swept away by the deletion of the last one before."""
    stop = time.monotonic() + 6
    kept = []

    def work(seed):
        rng = random.Random(seed)
        while time.monotonic() < stop:
            d = docs.put(b"the same %d" % rng.randrange(3), f"{seed}.txt").json()
            if rng.random() < 0.1:
                kept.append(d)
            else:
                docs.call("DELETE", d["url"], 204)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert kept and docs.list().json()["total"] == len(kept)
    docs.assert_consistent()


def test_kill_in_mid_upload(own):
    """docserverd dies while the body is on its way: 503, and nothing is left or seen."""
    docs = own(**SWEEP)
    whole = docs.put(b"whole").json()
    body = multipart([field("file", os.urandom(400_000), "a.bin")])
    for i in range(10):
        s = docs.connect()
        s.sendall((f"POST /documents HTTP/1.1\r\nHost: x\r\nAuthorization: {docs.http.headers['Authorization']}\r\n"
                   f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body[:(i + 1) * 35_000])
        wait_until(lambda: docs.open_files() == 1, what="upload open")
        docs.kill("docserverd")
        docs.wait_ready()
        s.sendall(body[(i + 1) * 35_000:])
        reply = http.client.HTTPResponse(s)
        reply.begin()
        assert reply.status == 503 and reply.headers["Retry-After"], reply.read()
        s.close()
        assert docs.list().json()["documents"] == [whole]
    docs.assert_consistent()


def test_kill_at_random_moments(own):
    """Twenty kills while documents are being made: each is there whole, once, or not at all; a retry with its key makes it so."""
    docs = own(**SWEEP)
    done = {}
    stop = threading.Event()

    def upload(worker):
        rng = random.Random(worker)
        i = 0
        while not stop.is_set():
            i += 1
            data = rng.randbytes(rng.choice((10, 5_000, 3_000_000)))
            name = f"{worker}-{i}.bin"
            key = {"Idempotency-Key": name, "Authorization": docs.http.headers["Authorization"]}
            while name not in done:
                try:
                    reply = requests.post(docs.url("/documents"), files={"file": (name, data)}, headers=key, timeout=30)
                except requests.ConnectionError:
                    continue
                assert reply.status_code in (201, 503), reply.text
                if reply.status_code == 201:
                    assert reply.json()["checksum"] == hashlib.sha256(data).hexdigest()
                    done[name] = reply.json()
                else:
                    stop.wait(0.02)
                    if stop.is_set() and time.monotonic() > end:
                        return
    end = time.monotonic() + 120
    rng = random.Random(1)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(upload, n) for n in range(4)]
        try:
            for _ in range(20):
                count = len(done)
                wait_until(lambda: len(done) > count, 60, lambda: f"progress\n{docs.logs()}")
                time.sleep(rng.random() * 0.1)      # the moment of the kill is what varies
                docs.kill("docserverd")
            docs.wait_ready()
        except BaseException:
            end = 0     # nobody waits for uploads that never come through
            raise
        finally:
            stop.set()
        for w in workers:
            w.result()
    seen, cursor = {}, None
    while True:
        page = docs.list(limit=1000, **({"cursor": cursor} if cursor else {})).json()
        for d in page["documents"]:
            assert d["filename"] not in seen, "made twice"
            seen[d["filename"]] = d
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert {n: seen.get(n) for n in done} == done
    docs.assert_consistent()


def test_gateway_dies_in_mid_upload(own):
    docs = own(**SWEEP)
    body = multipart([field("file", os.urandom(100_000), "a.bin")])
    s = docs.connect()
    s.sendall((f"POST /documents HTTP/1.1\r\nHost: x\r\nAuthorization: {docs.http.headers['Authorization']}\r\n"
               f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body[:50_000])
    wait_until(lambda: docs.open_files() == 1, what="upload open")
    docs.kill("gatewayd")
    wait_until(lambda: docs.open_files() == 0, what="upload dropped with its connection")
    docs.wait_ready()
    assert docs.list().json()["total"] == 0 and docs.files() == (set(), [])


def test_database_away(own):
    docs = own(**SWEEP)
    d = docs.put(b"before").json()
    postgres = docs.stack.services["postgres"]
    docs.stack.stop_service(postgres)
    for method, path in (("GET", d["url"]), ("GET", "/documents"), ("DELETE", d["url"])):
        reply = docs.http.request(method, docs.url(path), timeout=30)
        assert reply.status_code == 503 and reply.headers["Retry-After"], (method, reply.status_code, reply.text)
    docs.put(b"during", expect=503)
    docs.stack.start(docs.stack.postgres_service())
    docs.wait_ready()
    docs.put(b"after")
    assert docs.call("GET", d["url"], 200).content == b"before"
    wait_until(lambda: docs.open_files() == 0, what="no upload left")
    docs.assert_consistent()


def test_locked_tables(own):
    """Somebody locks the tables for longer than we wait: 503 in good time, and all is well after."""
    docs = own(**SWEEP)
    d = docs.put(b"before").json()
    released = threading.Event()

    def lock():
        docs.sql("BEGIN; LOCK TABLE docs.document IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(8); COMMIT")
        released.set()
    locker = threading.Thread(target=lock)
    locker.start()
    wait_until(lambda: docs.sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'docs.document'::regclass AND granted") == "1")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(docs.http.request, method, docs.url(path), timeout=30, **kwargs) for method, path, kwargs in (
            ("GET", d["url"], {}), ("GET", "/documents", {}), ("DELETE", d["url"], {}), ("POST", "/documents", {"files": {"file": ("a.txt", b"a")}}))]
        assert [c.result().status_code for c in calls] == [503] * 4
    assert not released.is_set()
    locker.join()
    assert docs.list().json()["documents"] == [d] and docs.call("GET", d["url"], 200).content == b"before"
    docs.put(b"after")
    docs.assert_consistent()


def test_docserverd_stands_still(own):
    """A docserverd that does not answer costs those who need it a 503, others nothing; then it goes on."""
    docs = own(**SWEEP, gatewayd={"request_timeout": "2s"})
    d = docs.put(b"before").json()
    os.kill(docs.pid("docserverd"), signal.SIGSTOP)
    try:
        for _ in range(2):
            assert docs.list().json()["documents"] == [d]
            for method, path in (("GET", d["url"]), ("PATCH", d["url"])):
                start = time.monotonic()
                reply = docs.http.request(method, docs.url(path), json={"tags": ["x"]} if method == "PATCH" else None, timeout=30)
                assert reply.status_code == 503 and time.monotonic() - start < 5, reply.text
    finally:
        os.kill(docs.pid("docserverd"), signal.SIGCONT)
    docs.wait_ready()
    assert docs.call("GET", d["url"], 200).content == b"before"
    docs.assert_consistent()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_disk_full(own):
    small = pathlib.Path(tempfile.mkdtemp(prefix="berth-small-", dir=os.environ.get("BERTH_TEST_TMP", "/tmp")))
    small.chmod(0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0777", "tmpfs", str(small)], check=True)
    try:
        docs = own(docserverd={**SWEEP["docserverd"], "blob_dir": small / "blobs"})
        docs.blobs = small / "blobs"
        first = docs.put(os.urandom(3 << 20)).json()
        status, body = docs.raw(FORM, multipart([field("file", os.urandom(7 << 20), "big.bin")]))
        assert status == 503 and "no room" in json.loads(body)["error"]["message"], body
        assert docs.list().json()["documents"] == [first]
        docs.call("GET", first["url"], 200)
        wait_until(lambda: docs.open_files() == 0, what="upload dropped")
        docs.put(b"small", expect=201)
        docs.call("DELETE", first["url"], 204)
        wait_until(lambda: first["checksum"] not in docs.files()[0], what="room again")
        docs.put(os.urandom(6 << 20))
        docs.assert_consistent()
        docs.stack.stop_all()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
        small.rmdir()


def test_large_document(docs):
    """256 MB through every process: bytes identical, memory of none grows with it."""
    block = os.urandom(1 << 20)
    count = 256
    digest = hashlib.sha256()
    for _ in range(count):
        digest.update(block)
    start = b"".join((b"--XX\r\n", field("file", b"", "big.bin")[0], b"\r\n\r\n"))

    def body():
        yield start
        for _ in range(count):
            yield block
        yield b"\r\n--XX--\r\n"

    def rss(name):
        return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{docs.pid(name)}/status").read_text())[1])
    before = {name: rss(name) for name in ("gatewayd", "docserverd")}
    d = docs.http.post(docs.url("/documents"), data=body(), headers=FORM, timeout=120).json()
    assert d["size_bytes"] == count << 20 and d["checksum"] == digest.hexdigest()
    got = hashlib.sha256()
    with docs.http.get(docs.url(d["url"]), stream=True, timeout=120) as reply:
        for piece in reply.iter_content(1 << 20):
            got.update(piece)
    assert got.hexdigest() == digest.hexdigest()
    for name, kib in before.items():
        assert rss(name) < kib + 16_384, name
    docs.call("DELETE", d["url"], 204)
