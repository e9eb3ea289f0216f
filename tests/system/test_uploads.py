"""Uploads that start runs: POST /upload, the volume in the slot, the log, the ZIP; broken, hostile and interrupted uploads."""
import hashlib
import io
import json
import os
import random
import re
import socket
import threading
import time
import zipfile

import pytest
import requests

from conftest import Berth, wait_until
from documents import FORM, field, multipart

FAST = {"docserverd": {"orphan_age": "0", "sweep_interval": "100ms"}}
NOTHING = [{"text": "seen"}]


@pytest.fixture(scope="module")
def up():
    b = Berth(workers=1, settings={**FAST, "workerd": {"idle_release": "500ms"}})
    try:
        yield b.start()
    finally:
        b.close()


def script(turns):
    return "SCRIPT: " + json.dumps(turns)


def upload(berth, files, expect=202, context=script(NOTHING), name="files[]", **fields):
    """files: path -> bytes."""
    parts = [(name, (path, data)) for path, data in files.items()]
    return berth.call("POST", "/upload", expect, files=parts, data={"experiment_context": context, **fields}, timeout=60)


def form(berth, parts, expect=None, headers=FORM):
    return berth.call("POST", "/upload", expect, data=multipart(parts), headers=headers)


def unzip(berth, volume):
    data = berth.call("GET", f"/download/{volume}", 200, timeout=60).content
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        assert z.testzip() is None
        names = z.namelist()
        assert len(names) == len(set(names))
        return {n: z.read(n) for n in names}


def blobs(berth):
    store = berth.folder / "s" / "blobs"
    return {p.name for p in store.glob("??/??/*")}, [p.name for p in (store / "tmp").iterdir()]


def assert_no_rest(berth):
    """Only finished volumes, no blob without a row, no unfinished file."""
    def clean():
        rows = set(berth.sql("SELECT checksum FROM docs.volume_file UNION SELECT checksum FROM docs.document_version").split())
        return berth.sql("SELECT count(*) FROM docs.volume WHERE NOT ready") == "0" and blobs(berth) == (rows, [])
    wait_until(clean, 30, lambda: f"rest: {berth.sql('SELECT * FROM docs.volume')} {blobs(berth)}\n{berth.logs()}")


# ---- the whole flow -----------------------------------------------------------------------------------


def test_upload_run_log_download(up):
    """H1-H3: a folder goes up, the agent sees it, works, stores a result; everything comes back byte by byte."""
    files = {"top.txt": b"hello\n", "set/a/values.csv": b"a,b\n1,2\n", "set/b/blob.bin": os.urandom(700_000), "set/empty": b"", "Größe 1.txt": "ü".encode()}
    turns = [{"tools": [["bash", {"command": "cd data && find . -type f | sort && sha256sum set/b/blob.bin && mkdir -p ../results && cp set/a/values.csv ../results/out.csv"}]]},
             {"tools": [["document_put", {"path": "results/out.csv"}], ["document_put", {"path": "data/top.txt", "filename": "out.csv"}]]}, {"text": "finished"}]
    reply = upload(up, files, context=script(turns), session_name="first volume").json()
    session, volume = reply["session_id"], reply["volume_name"]
    assert reply == {"status": "processing_started", "session_id": session, "volume_name": f"dataset-volume-{session}", "file_count": 5}
    assert re.fullmatch(r"\d{14}[0-9a-f]{8}", session)
    object = up.session(session)
    assert object["kind"] == "headless" and object["session_name"] == "first volume"
    assert object["metadata"] == {"session_id": session, "volume_name": volume, "endpoint_url": up.stack.url}
    up.wait_status(session, "idle", seconds=60)
    events = up.events(session)
    outputs = [json.dumps(e["tool_output"], ensure_ascii=False) for e in events if e["event_type"] == "post_tool"]
    assert all(path in outputs[0] for path in files) and hashlib.sha256(files["set/b/blob.bin"]).hexdigest() in outputs[0], outputs
    asked = next(e for e in events if e["event_type"] == "message")["content"][0]["text"]
    assert all(word in asked for word in (session, volume, up.stack.url, "/data", "/results"))
    expected = {f"data/{path}": data for path, data in files.items()}
    expected |= {"results/out.csv": files["set/a/values.csv"], "results/2-out.csv": files["top.txt"]}
    assert unzip(up, volume) == expected
    assert not up.call("GET", "/documents?filename=values.csv", 200).json()["documents"], "a volume's files are not documents"


def test_paths_field_and_plain_names(up):
    parts = [field("paths[]", "x/one.txt"), field("files[]", "1", filename="one.txt"), field("paths[]", "y/one.txt"), field("files[]", "2", filename="one.txt"),
             field("files", "3", filename="three.txt"), field("experiment_context", script(NOTHING))]
    reply = form(up, parts, 202).json()
    assert unzip(up, reply["volume_name"]) == {"data/x/one.txt": b"1", "data/y/one.txt": b"2", "data/three.txt": b"3"}


def test_many_small_files(up):
    """More files than may be open at once; all in one packet, too."""
    files = {f"d{i % 7}/f{i}": bytes([i % 256]) * (i % 50) for i in range(300)}
    reply = upload(up, files).json()
    assert reply["file_count"] == 300
    assert unzip(up, reply["volume_name"]) == {f"data/{p}": d for p, d in files.items()}
    up.call("POST", f"/sessions/{reply['session_id']}/stop")
    upload(up, {f"f{i}": b"" for i in range(1001)}, 413)
    assert_no_rest(up)


def test_large_file_in_bounded_memory(up):
    data = os.urandom(1 << 20) * 60
    def rss(name):
        return int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{up.pid(name)}/status").read()).group(1))
    before = {n: rss(n) for n in ("gatewayd", "docserverd")}
    reply = upload(up, {"large": data, "small": b"s"}).json()
    got = unzip(up, reply["volume_name"])
    assert hashlib.sha256(got["data/large"]).digest() == hashlib.sha256(data).digest() and got["data/small"] == b"s"
    for name, kib in before.items():
        assert rss(name) - kib < 32 * 1024, name
    up.call("POST", f"/sessions/{reply['session_id']}/stop")


# ---- the log ------------------------------------------------------------------------------------------


def entries(berth, session, wanted, after=None, **query):
    """Reads /stream until `wanted` log entries came; gives (id, data) of them."""
    headers = {**berth.http.headers, **({"Last-Event-ID": str(after)} if after is not None else {})}
    found, event = [], {}
    with requests.get(berth.url("/stream"), params={"session_id": session, **query}, headers=headers, stream=True, timeout=20) as reply:
        assert reply.status_code == 200 and reply.headers["Content-Type"].startswith("text/event-stream")
        for line in reply.iter_lines(chunk_size=1, decode_unicode=True):
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
                continue
            if event.get("event") == "log":
                found.append((int(event["id"]), json.loads(event["data"])))
            event = {}
            if len(found) == wanted:
                return found


def test_log_and_stream(up):
    reply = upload(up, {"a": b"1"}).json()
    session = reply["session_id"]
    ids = []
    def say(i):
        body = {"session_id": session, "level": "INFO" if i % 2 else "warning", "message": f"entry {i} ✓", "data": {"n": i}}
        ids.append(up.call("POST", "/log", 201, json=body if i else {"session_id": session, "message": "plain"}).json()["seq"])
    for i in range(4):
        say(i)
    first = entries(up, session, 2)
    assert [e["message"] for _, e in first] == ["plain", "entry 1 ✓"] and [i for i, _ in first] == ids[:2]
    assert first[0][1]["level"] == "info" and "data" not in first[0][1]
    assert first[1][1] | {"level": "info", "data": {"n": 1}, "type": "log", "event_type": "log", "session_id": session, "seq": ids[1]} == first[1][1]
    rest = []
    reader = threading.Thread(target=lambda: rest.extend(entries(up, session, 4, after=first[-1][0])))
    reader.start()
    for i in range(4, 6):
        say(i)
    reader.join(20)
    assert [i for i, _ in rest] == ids[2:6]
    assert [i for i, _ in entries(up, session, 1, after_seq=ids[4])] == ids[5:]
    logged = [e for e in up.events(session) if e["event_type"] == "log"]
    assert [e["seq"] for e in logged] == ids


def test_stream_tells_the_end_and_keeps_alive(up):
    reply = upload(up, {"a": b"1"}, context=script([{"text": "x"}])).json()
    up.wait_status(reply["session_id"], "idle", seconds=60)
    up.call("POST", f"/sessions/{reply['session_id']}/stop", 200)
    seen, comment = [], False
    with requests.get(up.url("/stream"), params={"session_id": reply["session_id"]}, headers=up.http.headers, stream=True, timeout=20) as stream:
        for line in stream.iter_lines(chunk_size=1, decode_unicode=True):
            if line.startswith("event: "):
                seen.append(line[7:])
            if line.startswith(":"):
                comment = True
                break
    assert comment and "status" in seen and seen.count("complete") == 1 and set(seen) <= {"log", "status", "error", "complete"}, seen


@pytest.mark.parametrize("body", [
    {}, [], {"session_id": "S"}, {"message": "m"}, {"session_id": "S", "message": ""}, {"session_id": "S", "message": 5}, {"session_id": 5, "message": "m"},
    {"session_id": "S", "message": "m", "level": ""}, {"session_id": "S", "message": "m", "level": "in fo"}, {"session_id": "S", "message": "m", "level": 1},
    {"session_id": "S", "message": "m", "level": "x" * 33}, {"session_id": "S", "message": "m", "data": 5}, {"session_id": "S", "message": "m", "data": []},
    {"session_id": "S", "message": "m", "more": 1}, {"session_id": "S", "message": "x" * 70000}, {"session_id": "x" * 65, "message": "m"},
], ids=lambda b: json.dumps(b)[:40])
def test_bad_log(up, body):
    assert up.call("POST", "/log", json=body).status_code == 400


def test_unknown_sessions_and_volumes(up):
    for id in ("none", "2026112014434300000000", "a b", "../x", "x" * 64):
        up.call("POST", "/log", 404, json={"session_id": id, "message": "m"})
        up.call("GET", "/stream", 404, params={"session_id": id})
    up.call("GET", "/stream", 400)
    up.call("GET", "/stream", 400, params={"session_id": "none", "x": "1"})
    up.call("GET", "/stream", 400, params={"session_id": "none", "after_seq": "-1"})
    up.call("GET", "/stream", 400, params={"session_id": "none"}, headers={"Last-Event-ID": "abc"})
    for name in ("none", "dataset-volume-", "dataset-volume-none", "dataset-volume-%2e%2e", "x" * 300, "dataset-volume-" + "a" * 100):
        up.call("GET", f"/download/{name}", 404)
    for method, path in (("POST", "/upload"), ("POST", "/log"), ("GET", "/stream?session_id=x"), ("GET", "/download/x")):
        assert requests.request(method, up.url(path), timeout=10).status_code == 401


# ---- the same again -----------------------------------------------------------------------------------


def lose_answer(berth, path, body, headers):
    """The request arrives; nobody reads what it is answered."""
    s = socket.create_connection(("127.0.0.1", berth.stack.port), timeout=30)
    head = {"Host": "x", "Authorization": berth.http.headers["Authorization"], "Content-Length": str(len(body)), **headers}
    s.sendall(f"POST {path} HTTP/1.1\r\n{''.join(f'{k}: {v}' + chr(13) + chr(10) for k, v in head.items())}\r\n".encode() + body)
    return s


def test_idempotency_key_of_uploads(up):
    """An upload whose answer was lost starts one run, whatever the boundary of the form; other files are a conflict."""
    def body(boundary, *more):
        return multipart([field("files[]", "one", filename="d/a"), field("files[]", "two", filename="b"), field("experiment_context", script(NOTHING)), *more], boundary)
    def send(boundary, *more, expect=202, key="upload-1"):
        return up.call("POST", "/upload", expect, data=body(boundary, *more), headers={"Content-Type": f"multipart/form-data; boundary={boundary}", "Idempotency-Key": key}).json()
    before = int(up.sql("SELECT count(*) FROM core.session"))
    lost = lose_answer(up, "/upload", body("XX"), {**FORM, "Idempotency-Key": "upload-1"})
    wait_until(lambda: int(up.sql("SELECT count(*) FROM core.session")) == before + 1, 30, up.logs)
    lost.close()
    first = send("another-boundary")
    assert send("XX") == first and int(up.sql("SELECT count(*) FROM core.session")) == before + 1
    assert unzip(up, first["volume_name"]) == {"data/d/a": b"one", "data/b": b"two"} and first["file_count"] == 2
    assert first["volume_name"] == f"dataset-volume-{first['session_id']}"
    assert "Idempotency-Key" in send("XX", field("files[]", "three", filename="c"), expect=409)["error"]["message"]
    up.kill("coordinatord")
    wait_until(lambda: up.call("GET", "/sessions").status_code == 200 and up.call("POST", "/log", json={"session_id": first["session_id"], "message": "up"}).status_code == 201, 30, up.logs)
    assert send("XX") == first
    other = send("XX", key="upload-2")
    assert other["session_id"] != first["session_id"]
    up.call("POST", "/upload", 400, data=body("XX"), headers={**FORM, "Idempotency-Key": "a b"})
    for id in (first["session_id"], other["session_id"]):
        up.call("POST", f"/sessions/{id}/stop")
    assert_no_rest(up)


def test_idempotency_key_of_log_entries(up):
    session = upload(up, {"a": b"1"}).json()["session_id"]
    entry = {"session_id": session, "message": "once", "data": {"n": 1}}
    body = json.dumps(entry).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": "log-1"}
    def logged():
        return [e for e in up.events(session) if e["event_type"] == "log"]
    lost = lose_answer(up, "/log", body, headers)
    wait_until(logged, 30, up.logs)
    lost.close()
    again = up.call("POST", "/log", 201, data=body, headers=headers).json()
    assert again["seq"] == logged()[0]["seq"] and len(logged()) == 1
    assert up.call("POST", "/log", 201, data=body, headers=headers).json() == again
    up.call("POST", "/log", 409, data=json.dumps({**entry, "message": "other"}).encode(), headers=headers)
    up.call("POST", "/log", 400, data=body, headers={**headers, "Idempotency-Key": "x" * 201})
    assert up.call("POST", "/log", 201, data=body, headers={**headers, "Idempotency-Key": "log-2"}).json()["seq"] > again["seq"]
    assert len(logged()) == 2
    up.call("POST", f"/sessions/{session}/stop")


# ---- bad input ----------------------------------------------------------------------------------------

BAD_PATHS = ["", "/", "/etc/passwd", "..", "../x", "a/../b", "a/..", "./a", "a/./b", ".", "a//b", "a/", "//", "a\\b", "..\\x", "C:\\x", "\x01", "a\x7fb", "a\tb", "a\u202eb",
             "\u200b", "x" * 256, "a/" + "x" * 256, "/".join("d" * 17), "/".join(["x" * 100] * 6), " ", "a/ /b", "\ufeffa", "a\u2028b", "\u0085"]


@pytest.mark.parametrize("path", BAD_PATHS, ids=lambda p: repr(p)[:24])
def test_bad_paths(up, path):
    """By the field paths[], where nothing is in the way of odd characters."""
    reply = form(up, [field("paths[]", path), field("files[]", "x", filename="a")])
    assert reply.status_code in (400, 413) and reply.json()["error"]["message"], reply.text


def test_bad_forms(up):
    ok = field("files[]", "x", filename="a")
    long = "x" * 70000
    for parts in ([], [field("files[]", "x")], [field("file", "x", filename="a")], [ok, ok], [ok, field("files[]", "y", filename="a/b")],
                  [field("files[]", "y", filename="a/b"), ok], [ok, field("unknown", "x")], [ok, field("paths[]", "b")], [field("paths[]", "b"), field("paths[]", "c"), ok],
                  [ok, field("experiment_context", b"\xff\xfe")], [ok, field("experiment_context", b"a\0b")], [ok, field("kind", "external")], [ok, field("kind", "x")],
                  [ok, field("agent_name", "a b")], [ok, field("session_name", "x" * 201)], [ok, field("experiment_context", long)], [field("experiment_context", "x")],
                  [ok, field("experiment_context", "x"), field("experiment_context", "y")], [field("files[]", "x", filename="a", content_type="nonsense")],
                  [field("files[]", "", filename="")]):
        reply = form(up, parts)
        assert reply.status_code in (400, 413), (parts, reply.status_code, reply.text)
        assert reply.json()["error"]["message"]
    up.call("POST", "/upload", 415, json={})
    up.call("POST", "/upload", 400, data=b"", headers={"Content-Type": "multipart/form-data"})
    up.call("POST", "/upload", 400, data=multipart([ok]), headers=FORM, params={"x": "1"})
    assert_no_rest(up)


def test_mutated_forms(up):
    """A good form, damaged in 120 ways: an answer each time, never a 5xx, and nothing of a refused one stays."""
    rng = random.Random(6)
    good = multipart([field("paths[]", "d/a"), field("files[]", "A" * 300, filename="a"), field("files[]", os.urandom(500), filename="b"), field("experiment_context", script(NOTHING))])
    started = 0
    for i in range(120):
        body = bytearray(good)
        kind = i % 4
        at = rng.randrange(len(body))
        if kind == 0:
            del body[at:]
        elif kind == 1:
            body[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del body[at:at + rng.randrange(1, 40)]
        else:
            body[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 40)))
        reply = up.call("POST", "/upload", data=bytes(body), headers=FORM)
        assert reply.status_code in (202, 400, 413), (i, reply.status_code, reply.text)
        if reply.status_code == 202:
            started += 1
            up.call("DELETE", f"/sessions/{reply.json()['session_id']}")
    assert started < 80
    assert_no_rest(up)


def begin(berth, body, length):
    s = socket.create_connection(("127.0.0.1", berth.stack.port), timeout=30)
    s.sendall(f"POST /upload HTTP/1.1\r\nHost: x\r\nAuthorization: {berth.http.headers['Authorization']}\r\nContent-Length: {length}\r\n"
              "Content-Type: multipart/form-data; boundary=XX\r\n\r\n".encode() + body)
    return s


def test_cut_uploads_leave_nothing(up):
    body = multipart([field("files[]", "A" * 200, filename="a"), field("files[]", os.urandom(200_000), filename="d/b"), field("experiment_context", "x")])
    sessions = up.sql("SELECT count(*) FROM core.session")
    for cut in (0, 10, 200, 500, 100_000, len(body) - 1):
        begin(up, body[:cut], len(body)).close()
    assert_no_rest(up)
    assert up.sql("SELECT count(*) FROM core.session") == sessions
    assert up.call("GET", "/health", 200)


# ---- faults -------------------------------------------------------------------------------------------


def test_kill_docserverd_in_mid_upload(own_berth):
    """F4: acknowledged = whole; not acknowledged = no volume to be seen and no orphan."""
    b = own_berth(workers=1, settings={"docserverd": {**FAST["docserverd"], "upload_lifetime": "2s"}})
    body = multipart([field("files[]", bytes([i]) * 30_000, filename=f"f{i}") for i in range(20)] + [field("experiment_context", "x")])
    acknowledged, refused = [], 0
    for round in range(5):
        s = begin(b, body[:len(body) * (round + 1) // 6], len(body))
        wait_until(lambda: round == 0 or int(b.sql("SELECT coalesce(sum(file_count), 0) FROM docs.volume WHERE NOT ready")) > 0, 20, "files arrive")
        b.kill("docserverd")
        try:
            s.sendall(body[len(body) * (round + 1) // 6:])
            answer = s.recv(65536).decode(errors="replace")
        except OSError:
            answer = ""
        s.close()
        if " 202 " in answer.split("\r\n")[0]:
            acknowledged.append(json.loads(answer.split("\r\n\r\n", 1)[1])["volume_name"])
        else:
            refused += 1
        wait_until(lambda: b.call("DELETE", "/documents/00000000-0000-7000-8000-000000000000").status_code == 404, 30, "docserverd is back")
    assert refused + len(acknowledged) == 5
    whole = upload(b, {"again": b"yes"}).json()["volume_name"]
    assert unzip(b, whole) == {"data/again": b"yes"}
    for name in acknowledged:
        assert len(unzip(b, name)) == 20
    assert_no_rest(b)
    assert int(b.sql("SELECT count(*) FROM docs.volume")) == 1 + len(acknowledged)


def test_limits_and_retention(own_berth):
    b = own_berth(workers=1, settings={"docserverd": {**FAST["docserverd"], "volume_max": "100K", "volume_files_max": "3", "volumes_keep": "3s"}})
    reply = upload(b, {"a": b"x" * 60_000, "b": b"y" * 60_000}, 413).json()
    assert "larger than is allowed" in reply["error"]["message"]
    upload(b, {f"f{i}": b"x" for i in range(4)}, 413)
    name = upload(b, {"a": b"keep me"}).json()["volume_name"]
    assert unzip(b, name) == {"data/a": b"keep me"}
    wait_until(lambda: b.call("GET", f"/download/{name}").status_code == 404, 20, "retention")
    assert_no_rest(b)
    assert blobs(b) == (set(), [])


# ---- the page -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.environ.get("BERTH_WEB"), reason="BERTH_WEB names no built page")
def test_the_upload_page(up):
    from test_page import run_walks
    run_walks({"BERTH_URL": up.stack.url, "BERTH_TOKEN": up.stack.token, "UPLOAD_CONTEXT": script(NOTHING)}, "upload.test.mjs")
