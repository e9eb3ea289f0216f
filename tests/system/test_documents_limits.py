"""Documents: quotas of tenants, edits of the content, conditions of requests."""
import base64
import concurrent.futures
import email.utils
import hashlib
import random
import time

import pytest

from conftest import wait_until
from documents import SWEEP, Documents, docs, own, shared  # noqa: F401  (fixtures)


# ---- many at once ----


def test_those_that_come_at_once_are_judged_one_by_one(docs):
    """They go to the database together; one that it refuses does not take the others with it, and nobody gets another's row."""
    bomb = '{"n":[' + ",".join(["1e300"] * 1000) + "]}"

    def put(n):
        metadata = bomb if n % 7 == 3 else '{"n":%d,"text":"é\\u0007\\"%d"}' % (n, n)
        reply = docs.http.post(docs.url("/documents"), files={"file": (f"file {n}.txt", b"%d" % n * 50, "text/plain")}, data={"tags": f"t{n},all", "metadata": metadata}, timeout=30)
        return n, reply
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(put, range(120)))
    for n, reply in replies:
        if n % 7 == 3:
            assert reply.status_code == 413, reply.text
            continue
        assert reply.status_code == 201, reply.text
        doc = reply.json()
        assert (doc["filename"], doc["tags"], doc["metadata"]) == (f"file {n}.txt", [f"t{n}", "all"], {"n": n, "text": f'é\x07"{n}'})
        assert doc["checksum"] == hashlib.sha256(b"%d" % n * 50).hexdigest() and doc["version"] == 1 and doc["text_status"] == "queued"
        assert docs.call("GET", f"/documents/{doc['id']}", 200).content == b"%d" % n * 50
    assert len({r.json()["id"] for _, r in replies if r.status_code == 201}) == sum(n % 7 != 3 for n in range(120))
    assert usage(docs) == really(docs)
    docs.assert_consistent()


# ---- quotas ----


@pytest.fixture(scope="module")
def limited():
    d = Documents(docserverd={**SWEEP["docserverd"], "tenant_bytes_max": "10K", "tenant_documents_max": "20"})
    try:
        yield d.start()
    finally:
        d.close()


def usage(d):
    return tuple(map(int, d.sql("SELECT coalesce(sum(bytes), 0), coalesce(sum(documents), 0) FROM docs.usage").split("|")))


def really(d):
    return tuple(map(int, d.sql(
        "SELECT (SELECT coalesce(sum(size_bytes), 0) FROM docs.document_version) + (SELECT coalesce(sum(size_bytes), 0) FROM docs.volume), "
        "(SELECT count(*) FROM docs.document)").split("|")))


def test_bytes(limited):
    limited.clear()
    doc = limited.put(b"x" * 6000).json()
    refused = limited.put(b"y" * 6000, expect=507).json()["error"]
    assert refused["code"] == "quota_exceeded" and "quota" in refused["message"]
    assert usage(limited) == really(limited) == (6000, 1)
    # Versions count, too; what is refused changes nothing.
    content = f"/documents/{doc['id']}/content"
    limited.call("PUT", content, 507, data=b"z" * 6000)
    limited.call("PUT", content, 200, data=b"z" * 4240)
    limited.call("PATCH", content, 507, json={"offset": 0, "new": "a"})
    assert limited.call("GET", f"/documents/{doc['id']}", 200).content == b"z" * 4240
    assert usage(limited) == really(limited) == (10240, 1)
    refused = limited.call("POST", "/upload", 507, files=[("files[]", ("a", b"1"))])
    assert refused.json()["error"]["code"] == "quota_exceeded"
    limited.call("DELETE", f"/documents/{doc['id']}", 204)
    assert usage(limited) == really(limited) == (0, 0)
    volume = limited.call("POST", "/upload", 202, files=[("files[]", ("a", b"1" * 10000))]).json()["volume_name"]
    limited.put(b"y" * 300, expect=507)
    limited.sql(f"DELETE FROM docs.volume WHERE name = '{volume}'")
    limited.put(b"y" * 300)
    assert usage(limited) == really(limited) == (300, 1)
    limited.assert_consistent()


def test_number_and_many_at_once(limited):
    limited.clear()
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        def post(i):
            return limited.http.post(limited.url("/documents"), files={"file": (f"{i}", str(i))}, timeout=30).status_code
        statuses = list(pool.map(post, range(40)))
    assert sorted(statuses) == [201] * 20 + [507] * 20
    assert usage(limited)[1] == 20 and usage(limited) == really(limited)


def test_table_overrules_settings(limited):
    limited.clear()
    tenant = limited.put(b"x").json() and limited.sql("SELECT tenant FROM docs.document LIMIT 1")
    limited.sql(f"INSERT INTO docs.quota VALUES ('{tenant}', 0, 2)")
    limited.put(b"x" * 100_000)
    limited.put(b"x", expect=507)
    limited.sql("DELETE FROM docs.quota")


# ---- edits ----


def content(docs, doc):
    return docs.call("GET", f"/documents/{doc['id']}", 200).content


def edit(docs, doc, expect, headers=None, **body):
    return docs.call("PATCH", f"/documents/{doc['id']}/content", expect, json=body, headers=headers).json()


def test_edit_by_text(docs):
    doc = docs.put("eins zwei drei zwei ä".encode()).json()
    assert edit(docs, doc, 422, old="zwei", new="2")["error"]["message"].count("2 times") == 1
    assert "not in the document" in edit(docs, doc, 422, old="vier", new="4")["error"]["message"]
    after = edit(docs, doc, 200, old="eins zwei", new="1")
    assert after["version"] == 2 and content(docs, doc) == "1 drei zwei ä".encode() and after["checksum"] == hashlib.sha256(content(docs, doc)).hexdigest()
    assert after["filename"] == doc["filename"] and after["content_type"] == doc["content_type"]
    edit(docs, doc, 200, old="ä", new="")
    edit(docs, doc, 200, old=" ", new="--", all=True)
    assert content(docs, doc) == b"1--drei--zwei--"
    assert docs.call("GET", f"/documents/{doc['id']}?version=1", 200).content == "eins zwei drei zwei ä".encode()
    # Overlapping occurrences are found from the left.
    lap = docs.put(b"aaaaa").json()
    edit(docs, lap, 200, old="aa", new="b", all=True)
    assert content(docs, lap) == b"bba"


def test_edit_by_offset(docs):
    data = bytes(random.Random(1).randbytes(70_000))
    doc = docs.put(data).json()
    edit(docs, doc, 200, offset=100, length=50, data=base64.b64encode(b"\0\xff").decode())
    assert content(docs, doc) == (data := data[:100] + b"\0\xff" + data[150:])
    edit(docs, doc, 200, offset=len(data), new="end")
    edit(docs, doc, 200, offset=0, length=0, new="begin")
    assert content(docs, doc) == b"begin" + data + b"end"
    for offset, length in ((70_000_000, 0), (1, 2**63 - 1), (69_000, 2000)):
        assert "beyond" in edit(docs, doc, 422, offset=offset, length=length, new="")["error"]["message"]
    docs.assert_consistent()


@pytest.mark.parametrize("body", [
    {}, {"old": "x"}, {"new": "x"}, {"old": "", "new": "x"}, {"old": "x", "new": "y", "offset": 1}, {"old": "x", "data": "eA=="}, {"offset": 1},
    {"offset": -1, "new": ""}, {"offset": 1.5, "new": ""}, {"offset": "1", "new": ""}, {"offset": 2**63, "new": ""}, {"offset": 1, "new": "", "all": True},
    {"offset": 1, "data": "?"}, {"offset": 1, "data": "eA==", "new": "x"}, {"old": 1, "new": "x"}, {"old": "x", "new": None}, {"old": "x", "new": "", "length": 1},
    {"old": "x", "new": "y", "more": 1}, [], "x"])
def test_bad_edits(docs, body):
    doc = docs.put(b"xyz").json()
    assert docs.call("PATCH", f"/documents/{doc['id']}/content", 400, json=body).json()["error"]["message"]
    assert content(docs, doc) == b"xyz"


def test_edits_and_conditions(docs):
    doc = docs.put(b"one").json()
    edit(docs, doc, 412, {"If-Match": '"' + "0" * 64 + '"'}, old="one", new="two")
    edit(docs, doc, 400, {"If-Match": "nonsense"}, old="one", new="two")
    edit(docs, doc, 200, {"If-Match": f'"{doc["checksum"]}"'}, old="one", new="two")
    docs.call("PATCH", "/documents/01900000-0000-7000-8000-000000000000/content", 404, json={"old": "a", "new": "b"})
    docs.call("PATCH", "/documents/nonsense/content", 404, json={"old": "a", "new": "b"})
    # Of many at once each is applied to what it has seen, or refused: no edit is lost.
    log = docs.put(b"").json()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        def add(i):
            r = docs.http.patch(docs.url(f"/documents/{log['id']}/content"), json={"offset": 0, "length": 0, "new": f"{i};"}, timeout=30)
            return r.status_code
        statuses = list(pool.map(add, range(40)))
    assert set(statuses) <= {200, 412} and statuses.count(200) >= 1
    kept = content(docs, log).decode().split(";")[:-1]
    assert sorted(kept, key=int) == [str(i) for i, s in enumerate(statuses) if s == 200]
    large = docs.put(b"x" * (17 << 20)).json()
    assert "16 MiB" in edit(docs, large, 413, offset=0, new="y")["error"]["message"]


# ---- conditions ----


def test_dates(docs):
    doc = docs.put(b"0123456789").json()
    url = f"/documents/{doc['id']}"
    first = docs.call("GET", url, 200)
    date = first.headers["Last-Modified"]
    stamp = email.utils.parsedate_to_datetime(date).timestamp()
    earlier, later = (email.utils.formatdate(stamp + d, usegmt=True) for d in (-1, 1))
    for since, status in ((date, 304), (later, 304), (earlier, 200), ("nonsense", 200)):
        reply = docs.call("GET", url, status, headers={"If-Modified-Since": since})
        assert reply.headers["ETag"] == first.headers["ETag"] and (status == 200 or not reply.content)
        docs.call("HEAD", url, status, headers={"If-Modified-Since": since})
    docs.call("GET", url, 412, headers={"If-Unmodified-Since": earlier})
    docs.call("GET", url, 200, headers={"If-Unmodified-Since": date})
    docs.call("GET", url, 412, headers={"If-Match": '"x"'})
    docs.call("GET", url, 200, headers={"If-None-Match": '"x"', "If-Modified-Since": date})
    wait_until(lambda: time.time() > stamp + 2, 10, "the date is a strong one")
    ranged = {"Range": "bytes=2-3"}
    assert docs.call("GET", url, 206, headers={**ranged, "If-Range": date}).content == b"23"
    assert docs.call("GET", url, 200, headers={**ranged, "If-Range": earlier}).content == b"0123456789"
    docs.call("PUT", f"{url}/content", 200, data=b"abcdefghij")
    assert docs.call("GET", url, 200, headers={**ranged, "If-Range": date}).content == b"abcdefghij"
    assert docs.call("GET", url, 200, headers={"If-Modified-Since": date}).content == b"abcdefghij"


# ---- rows that are remembered for a moment ----


def test_reads_after_changes(own):  # noqa: F811
    """Without sweeps rows are remembered; who was told of a change sees it."""
    d = own()
    doc = d.put(b"first", "a.txt").json()
    url = f"/documents/{doc['id']}"
    for i in range(3):
        for _ in range(3):
            assert d.call("GET", url, 200).content == (b"first" if i == 0 else b"%d" % (i - 1))
        d.call("PUT", f"{url}/content", 200, data=b"%d" % i)
        assert d.call("GET", url, 200).content == b"%d" % i
    d.call("GET", url, 200)
    d.call("PATCH", url, 200, json={"filename": "b.txt"})
    assert "b.txt" in d.call("GET", url, 200).headers["Content-Disposition"]
    d.call("GET", url, 200)
    d.call("GET", url, 200)
    d.call("DELETE", url, 204)
    d.call("GET", url, 404)
