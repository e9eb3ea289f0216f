"""Documents over HTTP: the contract of every route, bytes, forms, who may what."""
import concurrent.futures
import hashlib
import http.client
import json
import os
import re
import socket
import time
import urllib.parse
import uuid

import pytest
import requests

from conftest import wait_until
from documents import FORM, SWEEP, docs, field, multipart, own, shared  # noqa: F401  (fixtures)

FIELDS = {"id", "filename", "content_type", "size_bytes", "created_at", "updated_at", "tags", "metadata", "url", "checksum", "text_status", "text_error", "hook_error",
          "version", "session_id"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


# ---- the contract ------------------------------------------------------------------------------------


def test_health_on_both_listeners(docs):
    for docs_port in (False, True):
        reply = requests.get(docs.url("/health", docs_port), timeout=10)
        assert reply.status_code == 200 and reply.json()["status"] == "healthy"


def test_document_object(docs):
    before = time.time()
    data = os.urandom(300_000)
    d = docs.put(data, "Übersicht 2026.bin", "application/x-thing", tags="ai, b-2,ai ,,C", metadata='{"description":"Größe","n":1.5}').json()
    assert set(d) == FIELDS
    assert d["filename"] == "Übersicht 2026.bin" and d["content_type"] == "application/x-thing"
    assert d["size_bytes"] == len(data) and d["checksum"] == hashlib.sha256(data).hexdigest()
    assert d["tags"] == ["ai", "b-2", "C"] and d["metadata"] == {"description": "Größe", "n": 1.5}
    assert d["version"] == 1 and d["url"] == f"/documents/{d['id']}" and d["created_at"] == d["updated_at"]
    assert TIME.fullmatch(d["created_at"]) and uuid.UUID(d["id"]).version == 7
    assert abs(time.mktime(time.strptime(d["created_at"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone - before) < 60
    assert docs.call("GET", f"/documents/{d['id']}/metadata", 200).json() == d
    assert docs.list().json() == {"documents": [d], "total": 1, "limit": 100, "offset": 0, "next_cursor": None}
    assert docs.call("GET", d["url"], 200).content == data


def test_same_paths_on_the_documents_port(docs):
    d = docs.http.post(docs.url("/documents", True), files={"file": ("a.txt", b"a")}, timeout=10)
    assert d.status_code == 201
    id = d.json()["id"]
    for path in (f"/documents/{id}", f"/documents/{id}/metadata", "/documents", "/documents/tags"):
        assert docs.http.get(docs.url(path, True), timeout=10).status_code == 200
    assert docs.http.patch(docs.url(f"/documents/{id}", True), json={"tags": ["x"]}, timeout=10).json()["tags"] == ["x"]
    assert docs.http.delete(docs.url(f"/documents/{id}", True), timeout=10).status_code == 204
    assert docs.http.get(docs.url("/sessions", True), timeout=10).status_code == 404


def test_listing(docs):
    made = [docs.put(f"{i}".encode(), f"{name}.txt", tags=tags, metadata=json.dumps({"description": description})).json() for i, (name, tags, description)
            in enumerate([("Report-2024", "ai,finance", "the yearly figures"), ("report-2025", "ai", "more figures"), ("notes_50%", "b-c,ai", "nothing"),
                          ("Ärger", "", ""), ("x", "finance", "figures of x")])]
    names = [d["filename"] for d in reversed(made)]     # newest first
    assert docs.names() == names
    assert docs.names(filename="REPORT") == ["report-2025.txt", "Report-2024.txt"]
    assert docs.names(filename="ärg") == ["Ärger.txt"]
    assert docs.names(filename="50%") == ["notes_50%.txt"] and docs.names(filename="_") == ["notes_50%.txt"]
    assert docs.names(filename="nowhere") == []
    assert docs.names(tags="ai") == ["notes_50%.txt", "report-2025.txt", "Report-2024.txt"]
    assert docs.names(tags="finance,ai") == ["Report-2024.txt"]
    assert docs.names(tags="AI") == [] and docs.names(tags="ai,none") == []
    assert docs.names(q="figures") == ["x.txt", "report-2025.txt", "Report-2024.txt"]
    assert docs.names(q="figures -yearly", tags="ai") == ["report-2025.txt"]
    assert docs.names(q="report") == ["report-2025.txt", "Report-2024.txt"]
    page = docs.list(limit=2, offset=1).json()
    assert [d["filename"] for d in page["documents"]] == names[1:3] and page["total"] == 5
    assert (page["limit"], page["offset"]) == (2, 1)
    assert docs.list(offset=99).json() | {"documents": []} == docs.list(offset=99).json()
    assert docs.list(offset=99).json()["total"] == 5
    got, cursor = [], None
    while True:
        page = docs.list(limit=2, **({"cursor": cursor} if cursor else {})).json()
        got += [d["filename"] for d in page["documents"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert got == names


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=9223372036854775808", "offset=-1",
                                   "offset=1.5", "offset=18446744073709551616", "nonsense=1", "tags=a%2Fb", "tags=a--b", "tags=%F0%9F%98%80",
                                   "cursor=x", "cursor=../../x", "limit=1&limit=2", "q=%ff", "filename=%00", "tags=" + "a" * 65,
                                   "tags=" + ",".join(f"t{i}" for i in range(51))])
def test_bad_queries(docs, query):
    reply = docs.call("GET", f"/documents?{query}", 400)
    assert reply.json()["error"]["code"] == "bad_request" and reply.json()["error"]["message"]


@pytest.mark.parametrize("q", ["", "'", "a & | !", "\"unclosed", ":*", "\\", "(((", "x" * 4000, "😀", "or", "-", "<->"])
def test_odd_searches_are_searches(docs, q):
    docs.call("GET", "/documents?" + urllib.parse.urlencode({"q": q, "filename": q}), 200)


def test_a_page_is_bounded_in_bytes(docs):
    text = json.dumps({"text": "x" * 60_000})
    for i in range(200):
        docs.put(b"%d" % i, f"{i}.txt", metadata=text)
    first = docs.list(limit=1000)
    assert len(first.content) < 9 << 20 and first.json()["next_cursor"] and first.json()["total"] == 200
    rest = docs.list(limit=1000, cursor=first.json()["next_cursor"]).json()
    assert len(first.json()["documents"]) + len(rest["documents"]) == 200 and rest["next_cursor"] is None


def test_tags(docs):
    assert docs.call("GET", "/documents/tags", 200).json() == {"tags": []}
    for tags in ("ai,b", "ai", "B,ai", "zz-9", "b"):
        docs.put(tags=tags)
    assert docs.call("GET", "/documents/tags", 200).json() == {"tags": [
        {"name": "ai", "count": 3}, {"name": "b", "count": 2}, {"name": "B", "count": 1}, {"name": "zz-9", "count": 1}]}


def test_patch(docs):
    d = docs.put(tags="a,b", metadata='{"description":"old","keep":[1,{"x":null}]}').json()
    path = f"/documents/{d['id']}"

    def patched(body):
        after = docs.call("PATCH", path, 200, json=body).json()
        assert set(after) == FIELDS and after["updated_at"] > patched.before["updated_at"]
        assert {k: v for k, v in after.items() if k not in ("updated_at", "tags", "metadata")} == \
            {k: v for k, v in d.items() if k not in ("updated_at", "tags", "metadata")}
        assert docs.call("GET", path + "/metadata", 200).json() == after
        patched.before = after
        return after["tags"], after["metadata"]
    patched.before = d
    keep = {"keep": [1, {"x": None}]}
    assert patched({"tags": ["c", "d", "c"]}) == (["c", "d"], {"description": "old", **keep})
    assert patched({"description": "new"}) == (["c", "d"], {"description": "new", **keep})
    assert patched({"metadata": {"description": "newer"}}) == (["c", "d"], {"description": "newer", **keep})
    assert patched({"tags": [], "description": ""}) == ([], {"description": "", **keep})
    assert patched({"metadata": {"keep": None, "more": "NULL"}, "description": None}) == ([], {"more": "NULL"})
    assert patched({"tags": ["NULL", "null"]}) == (["NULL", "null"], {"more": "NULL"})
    assert docs.call("PATCH", path, 200, json={}).json() == patched.before


BAD_PATCHES = [
    {"id": "x"}, {"checksum": "x"}, {"tags": None}, {"tags": "a,b"}, {"tags": [1]}, {"tags": [None]}, {"tags": [""]},
    {"tags": ["a b"]}, {"tags": ["a/b"]}, {"tags": ["-a"]}, {"tags": ["a-"]}, {"tags": ["a--b"]}, {"tags": ["a_b"]}, {"tags": ["é"]},
    {"tags": ["e\u0301"]}, {"tags": ["😀"]}, {"tags": ["a\n"]}, {"tags": ["a" * 65]}, {"tags": [f"t{i}" for i in range(51)]}, {"tags": ["ok"] * 10001},
    {"description": 1}, {"description": []}, {"description": "x" * 4097}, {"metadata": []}, {"metadata": "x"}, {"metadata": {"description": 1}},
    {"description": "a", "metadata": {"description": "b"}}, [], "x", 1, None]


@pytest.mark.parametrize("body", BAD_PATCHES, ids=lambda b: json.dumps(b)[:40])
def test_bad_patches_change_nothing(docs, body):
    d = docs.put(tags="a").json()
    reply = docs.call("PATCH", f"/documents/{d['id']}", 400, json=body)
    assert reply.json()["error"]["code"] == "bad_request"
    assert docs.list().json()["documents"] == [d]


def test_metadata_cannot_grow_without_end(docs):
    d = docs.put().json()
    path = f"/documents/{d['id']}"
    for i in range(10):
        reply = docs.http.patch(docs.url(path), json={"metadata": {f"k{i}": "x" * 30_000}}, timeout=10)
        if reply.status_code != 200:
            break
    assert reply.status_code == 413 and i > 1, reply.text
    # Numbers that are short to write and long to store.
    assert docs.http.patch(docs.url(path), data='{"metadata":{"n":[' + ",".join(["1e300"] * 1000) + "]}}",
                           headers={"Content-Type": "application/json"}, timeout=10).status_code == 413
    docs.put(metadata='{"n":[' + ",".join(["1e300"] * 1000) + "]}", expect=413)


def test_delete(docs):
    a, b = docs.put(b"same").json(), docs.put(b"same").json()
    for _ in range(2):
        wait_until(lambda: docs.files()[0] == {a["checksum"]}, what="one blob for both")
    docs.call("DELETE", f"/documents/{a['id']}", 204)
    docs.call("DELETE", f"/documents/{a['id']}", 404)
    for path in ("", "/metadata"):
        assert docs.call("GET", f"/documents/{a['id']}{path}", 404).json()["error"]["code"] == "not_found"
    docs.call("PATCH", f"/documents/{a['id']}", 404, json={"tags": []})
    assert docs.call("GET", f"/documents/{b['id']}", 200).content == b"same"
    docs.call("DELETE", f"/documents/{b['id']}", 204)
    wait_until(lambda: docs.files() == (set(), []), what="blob gone with its last document")


@pytest.mark.parametrize("id", ["x", "0", "00000000-0000-0000-0000-000000000000", "%F0%9F%98%80", "'; DROP TABLE docs.document; --", "a" * 3000,
                                "tags%2F..", "NULL", "-1", "1e9"])
def test_ids_that_do_not_exist(docs, id):
    path = "/documents/" + (id if "%" in id else urllib.parse.quote(id, safe=""))
    for method, suffix, body in (("GET", "", None), ("GET", "/metadata", None), ("PATCH", "", {"tags": []}), ("DELETE", "", None), ("PUT", "/content", None)):
        reply = docs.http.request(method, docs.url(path + suffix), json=body, timeout=10)
        assert reply.status_code in (400, 404), (method, reply.status_code, reply.text)


# ---- bytes -------------------------------------------------------------------------------------------


def test_conditions_and_ranges(docs):
    data = bytes(range(256)) * 40
    d = docs.put(data, "d.bin").json()
    reply = docs.call("GET", d["url"], 200)
    tag = reply.headers["ETag"]
    assert tag == f'"{d["checksum"]}"' and reply.headers["Accept-Ranges"] == "bytes"
    for header in (tag, "W/" + tag, f'"x", {tag}', "*"):
        reply = docs.call("GET", d["url"], 304, headers={"If-None-Match": header})
        assert reply.content == b"" and reply.headers["ETag"] == tag
    docs.call("GET", d["url"], 200, headers={"If-None-Match": '"x"'})
    for header, first, last in (("bytes=0-99", 0, 99), ("bytes=100-", 100, 10239), ("bytes=-10", 10230, 10239), ("bytes=10000-99999", 10000, 10239),
                                ("bytes=-99999", 0, 10239)):
        reply = docs.call("GET", d["url"], 206, headers={"Range": header})
        assert reply.content == data[first:last + 1]
        assert reply.headers["Content-Range"] == f"bytes {first}-{last}/10240" and reply.headers["Content-Length"] == str(last - first + 1)
    for header in ("bytes=10240-", "bytes=-0", "bytes=99999999999999999999-"):
        reply = docs.call("GET", d["url"], 416, headers={"Range": header})
        assert reply.headers["Content-Range"] == "bytes */10240"
    for header in ("bytes=5-4", "lines=1-2", "bytes=0-1,3-4", "bytes=x", "bytes=" + ",".join(f"{i}-{i}" for i in range(500))):
        assert docs.call("GET", d["url"], 200, headers={"Range": header}).content == data
    assert docs.call("GET", d["url"], 206, headers={"Range": "bytes=1-1", "If-Range": tag}).content == data[1:2]
    for stale in ('"old"', "W/" + tag, "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert docs.call("GET", d["url"], 200, headers={"Range": "bytes=1-1", "If-Range": stale}).content == data
    reply = docs.call("HEAD", d["url"], 200, headers={"Range": "bytes=0-1"})
    assert reply.headers["Content-Length"] == "10240" and reply.content == b""


def test_empty_document(docs):
    d = docs.put(b"", "empty.txt").json()
    assert d["size_bytes"] == 0 and d["checksum"] == hashlib.sha256(b"").hexdigest()
    assert docs.call("GET", d["url"], 200).content == b""
    docs.call("GET", d["url"], 416, headers={"Range": "bytes=0-"})


@pytest.mark.parametrize("filename,content_type,data", [
    ("page.html", "text/html", b"<script>alert(1)</script>"), ("x.svg", "image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
    ("x.png", "image/png", b"<html><script>alert(1)</script>"), ('a"b;c.txt', "text/plain", b"x"), ("日本語 %41.txt", "text/plain", b"x")])
def test_never_a_page_of_our_origin(docs, filename, content_type, data):
    d = docs.put(data, filename, content_type).json()
    assert d["filename"] == filename
    headers = docs.call("GET", d["url"], 200).headers
    assert headers["Content-Type"] == content_type and headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"] and "default-src 'none'" in headers["Content-Security-Policy"]
    disposition = headers["Content-Disposition"]
    assert disposition.startswith('attachment; filename="') and all(0x20 <= ord(c) < 0x7f for c in disposition)
    extended = re.search(r"filename\*=UTF-8''(\S+)$", disposition)
    if extended:
        assert urllib.parse.unquote(extended[1]) == filename
    else:
        assert disposition == f'attachment; filename="{filename}"'


def test_versions(docs):
    d = docs.put(b"one", tags="a").json()
    path = f"/documents/{d['id']}/content"
    two = docs.call("PUT", path, 200, data=b"two!", headers={"If-Match": f'"{d["checksum"]}"', "Content-Type": "text/markdown"}).json()
    assert (two["version"], two["size_bytes"], two["content_type"], two["tags"]) == (2, 4, "text/markdown", ["a"])
    assert two["checksum"] == hashlib.sha256(b"two!").hexdigest() and two["updated_at"] > d["updated_at"]
    docs.call("PUT", path, 412, data=b"three", headers={"If-Match": f'"{d["checksum"]}"'})
    docs.call("PUT", path, 412, data=b"three", headers={"If-Match": f'W/"{two["checksum"]}"'})
    docs.call("PUT", path, 400, data=b"three", headers={"If-Match": "three"})
    three = docs.call("PUT", path, 200, data=b"three", headers={"If-Match": "*"}).json()
    assert three["version"] == 3 and three["content_type"] == "text/markdown"
    assert docs.call("GET", d["url"], 200).content == b"three"
    docs.call("PUT", f"/documents/{uuid.uuid4()}/content", 404, data=b"x")
    docs.assert_consistent()
    assert len(docs.files()[0]) == 3       # the older versions stay
    docs.call("DELETE", f"/documents/{d['id']}", 204)
    docs.assert_consistent()


def test_of_many_replacements_of_one_version_one_wins(docs):
    d = docs.put(b"base").json()

    def replace(i):
        return docs.http.put(docs.url(f"/documents/{d['id']}/content"), data=b"%d" % i, headers={"If-Match": f'"{d["checksum"]}"'}, timeout=30).status_code
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(replace, range(8))) == [200] + [412] * 7


# ---- forms -------------------------------------------------------------------------------------------


def test_parts_in_any_order(docs):
    parts = [field("file", b"data", "a.txt", "text/plain"), field("tags", "x,y"), field("metadata", '{"description":"d"}')]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        status, body = docs.raw(FORM, multipart([parts[i] for i in order]))
        d = json.loads(body)
        assert status == 201 and (d["tags"], d["metadata"], d["size_bytes"]) == (["x", "y"], {"description": "d"}, 4)


def test_chunked_and_in_small_pieces(docs):
    data = os.urandom(5000)
    body = multipart([field("tags", "x"), field("file", data, "a.bin", "application/octet-stream")])
    for size in (1, 7, 4096):
        if size == 1:
            pieces = [body[i:i + 1] for i in range(0, 900)] + [body[900:]]
        else:
            pieces = [body[i:i + size] for i in range(0, len(body), size)]
        reply = docs.http.post(docs.url("/documents"), data=iter(pieces), headers=FORM, timeout=30)
        assert reply.status_code == 201, reply.text
        assert docs.call("GET", reply.json()["url"], 200).content == data


def test_every_split_of_the_body(docs):
    """The body arrives in two pieces, cut at every place: a write each, without Nagle."""
    data = b"\r\n--X\r\n--XX \r\n-- "
    body = multipart([field("tags", "a"), field("file", data, "a.bin")])
    head = (f"POST /documents HTTP/1.1\r\nHost: x\r\nAuthorization: {docs.http.headers['Authorization']}\r\n"
            f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n").encode()
    body = body.replace(b"--XX ", b"--Xx ")
    data = data.replace(b"--XX ", b"--Xx ")
    s = docs.connect()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for cut in range(0, len(body) + 1, 3):
        s.sendall(head + body[:cut])
        s.sendall(body[cut:])
        reply = http.client.HTTPResponse(s)
        reply.begin()
        d = json.loads(reply.read())
        assert reply.status == 201 and d["checksum"] == hashlib.sha256(data).hexdigest(), d
    s.close()


GOOD = [field("file", b"data", "a.txt", "text/plain")]
BAD_FORMS = {
    "no parts": b"--XX--\r\n", "empty": b"", "nonsense": b"hello", "no file": multipart([field("tags", "a")]),
    "file without filename": multipart([field("file", b"x")]), "empty filename": multipart([field("file", b"", "")]),
    "two files": multipart(GOOD * 2), "unknown field": multipart(GOOD + [field("other", "x")]),
    "metadata twice": multipart(GOOD + [field("metadata", "{}")] * 2), "metadata array": multipart(GOOD + [field("metadata", "[]")]),
    "metadata text": multipart(GOOD + [field("metadata", "x")]), "metadata cut": multipart(GOOD + [field("metadata", '{"a":')]),
    "metadata empty": multipart(GOOD + [field("metadata", "")]), "metadata double key": multipart(GOOD + [field("metadata", '{"a":1,"a":2}')]),
    "metadata NaN": multipart(GOOD + [field("metadata", '{"a":NaN}')]), "metadata 1e999": multipart(GOOD + [field("metadata", '{"a":1e999}')]),
    "metadata NUL": multipart(GOOD + [field("metadata", '{"a":"\\u0000"}')]), "metadata surrogate": multipart(GOOD + [field("metadata", '{"a":"\\ud800"}')]),
    "metadata deep": multipart(GOOD + [field("metadata", '{"a":' * 5000 + "1" + "}" * 5000)]),
    "metadata not UTF-8": multipart(GOOD + [field("metadata", b'{"a":"\xff"}')]), "description number": multipart(GOOD + [field("metadata", '{"description":1}')]),
    "tag with slash": multipart(GOOD + [field("tags", "a/b")]), "tag with blank": multipart(GOOD + [field("tags", "a b")]),
    "tag too long": multipart(GOOD + [field("tags", "a" * 65)]), "51 tags": multipart(GOOD + [field("tags", ",".join(f"t{i}" for i in range(51)))]),
    "tags not UTF-8": multipart(GOOD + [field("tags", b"\xff")]), "tag with NUL": multipart(GOOD + [field("tags", b"a\0b")]),
    "tag emoji": multipart([field("tags", "😀")] + GOOD), "65 parts": multipart(GOOD + [field("tags", "a")] * 65),
    "no closing boundary": multipart(GOOD)[:-6], "cut in data": multipart(GOOD)[:-12], "preamble": b"x\r\n" + multipart(GOOD), "epilogue": multipart(GOOD) + b"x",
    "bare LF": multipart(GOOD).replace(b"\r\n", b"\n"), "bad type": multipart([field("file", b"x", "a.txt", "nonsense")]),
    "long type": multipart([field("file", b"x", "a.txt", "a/" + "b" * 100)]),
    **{f"filename {name!r}": multipart([field("file", b"x", name)]) for name in (
        "/etc/passwd", "../x", "a/b", "a\\\\b", ".", "..", "a\x01", "a\x7f", "\u202egpj.exe", "a\u200fb", "a\u2066b", "a\u200bb", " ", "x" * 256,
        "é" * 128, "a\x85b")},
}


@pytest.mark.parametrize("what", BAD_FORMS)
def test_bad_forms_leave_nothing(docs, what):
    status, body = docs.raw(FORM, BAD_FORMS[what])
    error = json.loads(body)["error"]
    assert status == 400 and error["code"] == "bad_request" and len(error["message"]) > 10, (status, body)
    assert docs.list().json()["total"] == 0
    wait_until(lambda: docs.open_files() == 0 and docs.files() == (set(), []), what="nothing left")


def test_large_fields(docs):
    for name in ("metadata", "tags"):
        status, body = docs.raw(FORM, multipart(GOOD + [field(name, "x" * 70_000)]))
        assert status == 413 and json.loads(body)["error"]["field"] == name
    assert docs.list().json()["total"] == 0


@pytest.mark.parametrize("content_type,expect", [(None, 415), ("application/json", 415), ("text/plain", 415), ("multipart/mixed; boundary=XX", 415),
                                                 ("multipart/form-data", 400), ("multipart/form-data; boundary=", 400), ("multipart/form-data; boundary=\"a b \"", 400),
                                                 ("multipart/form-data; boundary=" + "x" * 71, 400), ("multipart/form-data; boundary=YY", 400)])
def test_content_type_of_the_form(docs, content_type, expect):
    status, body = docs.raw({"Content-Type": content_type} if content_type else {}, multipart(GOOD))
    assert status == expect and json.loads(body)["error"]["message"]


def test_filenames_as_clients_write_them(docs):
    for head, want in ((b'filename="\xc3\xbcber.txt"', "über.txt"), (b"filename*=UTF-8''%C3%BCber.txt", "über.txt"), (b'filename="a%22b.txt"', 'a"b.txt'),
                       (b'filename="a\\"b.txt"', 'a"b.txt'), (b"filename=plain.txt", "plain.txt"), ('filename="' .encode() + "😀".encode() * 63 + b'.x"', "😀" * 63 + ".x")):
        status, body = docs.raw(FORM, multipart([(b'Content-Disposition: form-data; name="file"; ' + head, b"x")]))
        assert status == 201 and json.loads(body)["filename"] == want, body
        # The part names no type: the name's suffix does.
        assert json.loads(body)["content_type"] == ("text/plain" if want.endswith(".txt") else "application/octet-stream")


def test_client_that_goes_away_leaves_nothing(docs):
    body = multipart([field("file", b"x" * 100_000, "a.bin")])
    for cut in (0, 50, 150, 70_000, len(body) - 5):
        s = docs.connect()
        s.sendall((f"POST /documents HTTP/1.1\r\nHost: x\r\nAuthorization: {docs.http.headers['Authorization']}\r\n"
                   f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body[:cut])
        wait_until(lambda: docs.open_files() == 1, what="upload open")
        s.close()
        wait_until(lambda: docs.open_files() == 0, what="upload dropped")
    assert docs.list().json()["total"] == 0 and docs.files() == (set(), [])


def test_limits_of_size(own):
    docs = own(docserverd={"upload_max": "1M", "uploads_open_max": "3", **SWEEP["docserverd"]}, gatewayd={"upload_max": "2M"})
    docs.put(b"x" * (1 << 20))
    for size in ((1 << 20) + 1, 3 << 20):
        docs.put(b"x" * size, expect=413)
        status, reply = docs.raw(FORM, multipart([field("file", b"x" * size, "a.bin")]), chunked=True)
        assert status == 413 and json.loads(reply)["error"]["code"] == "too_large", reply
    assert docs.list().json()["total"] == 1
    # More uploads at once than allowed are refused, not queued; they are taken when there is room again.
    body = multipart([field("file", b"x" * 1000, "a.bin")])
    head = (f"POST /documents HTTP/1.1\r\nHost: x\r\nAuthorization: {docs.http.headers['Authorization']}\r\n"
            f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n").encode()
    waiting = []
    for i in range(3):
        waiting.append(docs.connect())
        waiting[-1].sendall(head + body[:200])
        wait_until(lambda: docs.open_files() == i + 1, what="upload open")
    reply = docs.http.post(docs.url("/documents"), data=body, headers=FORM, timeout=30)
    assert reply.status_code == 503 and reply.headers["Retry-After"]
    for s in waiting:
        s.sendall(body[200:])
        answer = http.client.HTTPResponse(s)
        answer.begin()
        assert answer.status == 201
        s.close()
    docs.put()


# ---- who may what ------------------------------------------------------------------------------------


def token(docs, tenant="default", role="user"):
    value = "bt_" + uuid.uuid4().hex
    docs.sql("INSERT INTO core.auth_token (token_hash, name, role, tenant) VALUES "
             f"('{hashlib.sha256(value.encode()).hexdigest()}', 'test', '{role}', '{tenant}')")
    return {"Authorization": "Bearer " + value}


def test_tokens_and_tenants(docs):
    d = docs.put(tags="mine").json()
    calls = [("GET", d["url"], None), ("GET", d["url"] + "/metadata", None), ("PATCH", d["url"], {"tags": []}), ("DELETE", d["url"], None),
             ("PUT", d["url"] + "/content", None)]
    for method, path, body in calls + [("GET", "/documents", None), ("POST", "/documents", None), ("GET", "/documents/tags", None)]:
        assert requests.request(method, docs.url(path), json=body, timeout=10).status_code == 401, path
    viewer = token(docs, role="viewer")
    for method, path, body in calls[2:] + [("POST", "/documents", None)]:
        assert requests.request(method, docs.url(path), json=body, headers=viewer, timeout=10).status_code == 403, path
    assert requests.get(docs.url(d["url"]), headers=viewer, timeout=10).content == b"hello"
    other = token(docs, tenant="other")
    for method, path, body in calls:
        assert requests.request(method, docs.url(path), json=body, headers=other, timeout=10).status_code == 404, path
    assert requests.get(docs.url("/documents"), headers=other, timeout=10).json()["total"] == 0
    assert requests.get(docs.url("/documents/tags"), headers=other, timeout=10).json() == {"tags": []}
    assert docs.list().json()["documents"] == [d]


def test_idempotency_key(docs):
    key = {"Idempotency-Key": uuid.uuid4().hex}
    d = docs.put(b"once", tags="a", headers=key).json()
    assert docs.put(b"once", tags="a", headers=key).json() == d
    for other in ({"data": b"twice", "tags": "a"}, {"data": b"once", "tags": "b"}, {"data": b"once", "tags": "a", "filename": "other"}):
        assert docs.put(**other, headers=key, expect=422).json()["error"]["code"] == "unprocessable"
    assert docs.list().json()["total"] == 1
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        again = {"Idempotency-Key": uuid.uuid4().hex}
        made = list(pool.map(lambda _: docs.put(b"at once", headers=again).json()["id"], range(8)))
    assert len(set(made)) == 1 and docs.list().json()["total"] == 2
    docs.call("DELETE", d["url"], 204)
    docs.put(b"once", tags="a", headers=key, expect=409)
    docs.put(headers={"Idempotency-Key": "x" * 201}, expect=400)
