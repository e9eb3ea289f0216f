"""Every route of documents and uploads with at least 200 generated requests: an answer that the API's description names, never a 5xx,
errors in their one shape, and nothing half-stored. Stored HTML, SVG and the like never run in a real Chromium."""
import hashlib
import io
import json
import os
import struct
import threading
import zipfile
import zlib
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, seed, settings, strategies as st

from conftest import ROOT, wait_until
from documents import Documents, SWEEP, field, multipart

WHOLE = json.loads((ROOT / "gatewayd" / "openapi.json").read_text())
DESCRIPTION, SCHEMAS = WHOLE["paths"], WHOLE["components"]["schemas"]
ROUTES = sorted((m.upper(), p) for p, item in DESCRIPTION.items() if p.startswith(("/documents", "/upload", "/log", "/stream", "/download"))
                for m in item if m in ("get", "post", "put", "patch", "delete"))
CASES = 200
LIMIT = 64 * 1024
# What any route may answer beside what it names: a head or line that is too long, a body the form of which is not HTTP.
ANY = {"400", "413", "414", "415", "431"}
# No worker serves jobs here: what needs a model says so.
NEEDS_MODEL = {("POST", "/documents/ask"), ("GET", "/documents/search"), ("POST", "/documents/search"), ("POST", "/documents/{id}/text")}

NAMES = ["a/b", "../x", "..", ".", "a\0b", "a\nb", "a\r\nX-Y: 1", "x" * 255, "x" * 256, "é" * 128, "\u202egnp.exe", "a\u2066b", "", " ", "con", "a\\b", "\ufeff", "name;x=1",
         'q"uote', "%2e%2e%2f", "/etc/passwd", "\x7f", "~", "-rf", "a" * 4096]
TYPES = ["text/plain", "text/html", "image/svg+xml", "image/png", "application/pdf", "application/json", "nonsense", "text/plain; charset=\"", "a/b" * 60, "", "text/html\x01", "multipart/form-data"]
HOSTILE = [b"", b"\0" * 100, b"<html><script>alert(1)</script>", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", b"%PDF-1.7\n%%EOF", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n<script>",
           b"x" * LIMIT, b"x" * (LIMIT + 1), b"\xff\xfe<\0h\0", b"--XX--\r\n", b"GIF89a/*", b"#!/bin/sh\nexit 0\n"]
scalars = st.one_of(st.none(), st.booleans(), st.integers(-2 ** 70, 2 ** 70), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20), st.sampled_from(NAMES + ["x" * 5000]))
values = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)), max_leaves=6)
names = st.one_of(st.sampled_from(NAMES), st.text(max_size=30))
data = st.one_of(st.sampled_from(HOSTILE), st.binary(max_size=300))
words = st.one_of(st.text(max_size=30), st.sampled_from(["a,b", ",", "a-b", "-a", "x" * 65, ",".join(f"t{i}" for i in range(60)), "\0", "ü", "' OR 1=1 --", "%", "_", "\\"]))
numbers = st.one_of(st.integers(-5, 1200).map(str), st.sampled_from(["", "1e3", "0x10", "9" * 30, "-0", " 1", "1 ", "NaN", "null"]), st.text(max_size=6))
KNOWN = {"tags": ["a", "b", "c-d"], "filename": "x.txt", "description": "d", "metadata": {"a": 1}, "query": "hello", "q": "hello", "question": "who?", "limit": 5, "offset": 0,
         "ids": [], "add": ["a"], "remove": ["b"], "kind": "related", "document_id": "", "session_id": "", "level": "info", "message": "m", "data": {}, "old": "hello",
         "new": "x", "length": 0, "all": False, "mode": "text", "per_document": 1, "passages": 2}


@pytest.fixture(scope="module")
def api():
    d = Documents(docserverd={**SWEEP["docserverd"], "upload_max": str(LIMIT)}, gatewayd={"upload_max": str(4 * LIMIT)})
    try:
        d.start()
        d.targets = [d.put(b"hello contract", f"t{i}.txt", tags="a,b").json()["id"] for i in range(3)]
        def started():
            reply = d.http.post(d.url("/upload"), files=[("files[]", ("a", b"1"))], timeout=30)
            return reply.status_code == 202 and reply.json()  # until the coordinator is reached
        reply = wait_until(started, 30, d.logs)
        d.session, d.volume = reply["session_id"], reply["volume_name"]
        yield d
    finally:
        d.close()


def ids(api):
    return st.one_of(st.sampled_from(api.targets), st.sampled_from(["00000000-0000-7000-8000-000000000000", "x", "..", "%00", "a" * 300, "tags", "search", "é", "1;2", "null"]), st.text(min_size=1, max_size=12))


def query(draw, api, operation):
    found = {}
    for p in operation.get("parameters", []):
        if p["in"] == "query" and p["name"] != "token" and draw(st.integers(0, 2)) == 0:
            name = p["name"]
            found[name] = draw(numbers if name in ("limit", "offset", "version", "after_seq", "per_document") else st.sampled_from([api.session, "x"]) if name == "session_id" else words)
    if draw(st.integers(0, 9)) == 0:
        found[draw(st.text(min_size=1, max_size=8))] = draw(words)
    return found


def headers(draw):
    found = {}
    for name in ("If-Match", "If-None-Match", "Range", "Idempotency-Key", "Last-Event-ID", "If-Modified-Since", "Accept", "Accept-Encoding"):
        if draw(st.integers(0, 7)) == 0:
            found[name] = draw(st.one_of(st.sampled_from(["*", '"x"', "bytes=0-1", "bytes=5-", "bytes=-3", "bytes=9-1", "bytes=0-1,3-4", "bytes=99999999999999999999-", "1", "9" * 30, "W/\"a\"", "x" * 300]),
                                         st.text("abc=-,\"0123456789", min_size=1, max_size=12)))
    return found


def properties(operation):
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    schema = SCHEMAS[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
    return sorted(schema["properties"])


def json_body(draw, api, operation):
    """Mostly like what is wanted, with something wrong; else anything."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.one_of(st.binary(max_size=60), values.map(lambda v: json.dumps(v).encode()), st.sampled_from([b"", b"{", b"[" * 5000, b'{"a":1,"a":2}', b"\xff", b"{}x", b"nul\0l"])))
    body = {}
    own = properties(operation)
    for name in draw(st.lists(st.sampled_from(own if draw(st.integers(0, 9)) else sorted(KNOWN)), max_size=len(own), unique=True)):
        good = {"ids": api.targets, "document_id": api.targets[0], "session_id": api.session}.get(name, KNOWN.get(name, "x"))
        body[name] = good if draw(st.integers(0, 3)) else draw(values)
    return json.dumps(body).encode()


def form(draw, api):
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(["file", "files[]", "files", "paths[]", "tags", "metadata", "description", "experiment_context", "kind", "session_name", "agent_name", "model"]) | st.text(max_size=8))
        if name.startswith("file"):
            head = f'Content-Disposition: form-data; name="{name}"; filename="{draw(names)}"'
            if draw(st.booleans()):
                head += f"\r\nContent-Type: {draw(st.sampled_from(TYPES))}"
            parts.append((head.encode("utf-8", "replace"), draw(data)))
        else:
            parts.append(field(name.replace('"', ""), draw(st.one_of(words, st.sampled_from(['{"a":1}', "[]", "{", "headless", "vm", "external"]))).encode("utf-8", "replace")))
    body = bytearray(multipart(parts))
    if body and draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(body) - 1))
        if draw(st.booleans()):
            del body[at:]
        else:
            body[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(body)


def ask(api, method, path, operation, draw):
    target = path
    for name in ("{id}", "{volume_name}"):
        target = target.replace(name, quote(draw(ids(api) if name == "{id}" else st.sampled_from([api.volume, "x", "dataset-volume-", "..", "dataset-volume-" + "a" * 200]) | st.text(min_size=1, max_size=9)), safe=""))
    head, body = headers(draw), None
    types = list(operation.get("requestBody", {}).get("content", {}))
    if types:
        kind = types[0]
        body = form(draw, api) if kind.startswith("multipart") else draw(data) if "octet" in kind else json_body(draw, api, operation)
        head["Content-Type"] = kind + ("; boundary=XX" if kind.startswith("multipart") else "")
        if draw(st.integers(0, 9)) == 0:
            head["Content-Type"] = draw(st.sampled_from([t for t in TYPES if t.isprintable()]))
    with api.http.request(method, api.url(target), params=query(draw, api, operation), headers=head, data=body, timeout=30, stream=True, allow_redirects=False) as reply:
        text = b"" if reply.headers.get("Content-Type", "").startswith("text/event-stream") else reply.content
        return reply, text, (method, target, head, body)


def judge(method, path, operation, reply, text, asked):
    status = str(reply.status_code)
    said = (asked, status, text[:300])
    assert reply.status_code < 500 or status == "503" and (method, path) in NEEDS_MODEL, said
    # A path that is quoted differently is another route, or none.
    assert status in operation["responses"] or status in ANY or status in ("404", "405"), said
    if reply.status_code >= 400:
        error = json.loads(text)["error"]
        assert reply.headers["Content-Type"].startswith("application/json") and set(json.loads(text)) == {"error"}, said
        assert isinstance(error["code"], str) and len(error["message"]) > 8, said
    assert "set-cookie" not in reply.headers and reply.headers.get("X-Content-Type-Options") == "nosniff", said


@pytest.mark.parametrize("method,path", ROUTES, ids=lambda v: v)
def test_generated_requests(api, method, path):
    operation = DESCRIPTION[path][method.lower()]
    seen = {}

    @seed(6)
    @settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=st.data())
    def run(case):
        reply, text, asked = ask(api, method, path, operation, case.draw)
        judge(method, path, operation, reply, text, asked)
        seen[reply.status_code] = seen.get(reply.status_code, 0) + 1
    run()
    assert sum(seen.values()) >= CASES, seen
    if method == "DELETE":
        for i, id in enumerate(api.targets):
            if api.http.get(api.url(f"/documents/{id}/metadata"), timeout=10).status_code == 404:
                api.targets[i] = api.put(b"hello contract", f"again{i}.txt", tags="a,b").json()["id"]


def test_nothing_half_stored_after_all_that(api):
    """Every document is whole, every blob somebody's, no volume is unfinished."""
    api.call("GET", "/health", 200)
    rows = api.list(limit=1000).json()["documents"]
    for d in rows[:200]:
        content = api.call("GET", f"/documents/{d['id']}", 200).content
        assert len(content) == d["size_bytes"] and hashlib.sha256(content).hexdigest() == d["checksum"]

    def swept():
        known = set(api.sql("SELECT checksum FROM docs.document_version UNION SELECT checksum FROM docs.volume_file").split())
        return api.files() == (known, []) and api.open_files() == 0
    wait_until(swept, 30, lambda: f"{api.files()} {api.open_files()} {api.logs()}")


# ---- the list of bad input, one by one ----------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in NAMES if "\0" not in n and "\r" not in n], ids=lambda n: repr(n)[:16])
def test_names(api, name):
    """A name is taken as it is, or refused; never turned into another place, and it comes back as it was."""
    body = multipart([field("file", b"named", name.replace("\\", "\\\\").replace('"', '\\"'))])
    reply = api.http.post(api.url("/documents"), data=body, headers={"Content-Type": "multipart/form-data; boundary=XX"}, timeout=30)
    assert reply.status_code in (201, 400), reply.text
    if reply.status_code == 201:
        d = reply.json()
        assert d["filename"] == name and "/" not in name and len(name.encode()) <= 255 and not any(c in name for c in "\u202e\u2066\n\x7f")
        got = api.call("GET", d["url"], 200)
        assert got.content == b"named" and "\n" not in got.headers["Content-Disposition"] and got.headers["Content-Disposition"].startswith("attachment")


def test_sizes(api):
    """0 bytes are a document; the limit is, one more is not; a terabyte is refused before it is sent."""
    for size, status in ((0, 201), (1, 201), (LIMIT + 1, 413)):
        api.put(b"x" * size, "sized.bin", expect=status)
    api.call("PUT", f"/documents/{api.targets[0]}/content", 413, data=b"x" * (LIMIT + 1), headers={"Content-Type": "application/octet-stream"})
    for path, method in (("/documents", "POST"), ("/upload", "POST"), (f"/documents/{api.targets[0]}/content", "PUT")):
        s = api.connect()
        s.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {api.http.headers['Authorization']}\r\nContent-Type: multipart/form-data; boundary=XX\r\n"
                  f"Content-Length: {1 << 40}\r\n\r\n".encode())
        answer = s.recv(65536)
        assert b" 413 " in answer.split(b"\r\n")[0], answer
        s.close()


def test_same_name_twice_at_once_and_wrong_checksum(api):
    made = []
    threads = [threading.Thread(target=lambda i=i: made.append(api.http.post(api.url("/documents"), files={"file": ("twin.txt", b"%d" % i)}, timeout=30).json()["id"])) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(made)) == 8
    before = api.call("GET", f"/documents/{made[0]}", 200).content
    api.call("PUT", f"/documents/{made[0]}/content", 412, data=b"other", headers={"If-Match": '"' + "0" * 64 + '"', "Content-Type": "application/octet-stream"})
    assert api.call("GET", f"/documents/{made[0]}", 200).content == before


def bomb():
    """16 MiB of zeros in 16 KiB, said to be more, and a spreadsheet; and an archive with links."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = squeeze.compress(b"\0" * (16 << 20)) + squeeze.flush()
    head = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0, 0, len(packed), 0xFFFFFFFF, 5, 0) + b"xl/ws"
    links = io.BytesIO()
    with zipfile.ZipFile(links, "w") as z:
        for name, target in (("link", "/etc/passwd"), ("../../up", "x"), ("/abs", "y")):
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            z.writestr(info, target)
    return [(head + packed, "bomb.xlsx"), (links.getvalue(), "links.zip")]


def test_archives_are_bytes(api):
    """What is in an archive is no business of these routes: stored, and given back as it came; in a volume, too."""
    for content, name in bomb():
        assert len(content) < LIMIT
        d = api.put(content, name, "application/zip").json()
        assert api.call("GET", d["url"], 200).content == content
        volume = api.call("POST", "/upload", 202, files=[("files[]", (name, content))]).json()["volume_name"]
        with zipfile.ZipFile(io.BytesIO(api.call("GET", f"/download/{volume}", 200).content)) as z:
            assert z.namelist() == [f"data/{name}"] and z.read(f"data/{name}") == content


@pytest.mark.skipif(not os.environ.get("BERTH_WEB"), reason="BERTH_WEB names no built page")
def test_stored_pages_never_run_in_our_origin(own_berth):
    """HTML, SVG, XML, with honest and dishonest types: opened, framed, embedded in a real Chromium of our origin."""
    from test_page import run_walks
    b = own_berth(workers=1)
    run_walks({"BERTH_URL": b.stack.url, "BERTH_TOKEN": b.stack.token}, "stored.test.mjs")
