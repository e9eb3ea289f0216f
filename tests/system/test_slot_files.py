"""Files of a slot over HTTP: beneath its home only, whatever the slot has put there."""
import json
import os
import socket

import pytest

from conftest import wait_until

PREPARE = "mkdir -p d; echo hi > d/f; ln -s /etc/passwd out; ln -s d/f in; mkfifo p; ln -s /etc dout; ln -s ../../.. up; ln -s loop loop; printf 'x' > 'odd \"name\".html'"


@pytest.fixture(scope="module")
def held(berth):
    s = berth.create([{"tools": [["bash", {"command": PREPARE}]]}, {"text": "ok"}])
    berth.wait_status(s["session_id"], "idle")
    yield berth, f"/sessions/{s['session_id']}/files/"
    berth.call("POST", f"/sessions/{s['session_id']}/stop")


def test_read(held):
    b, at = held
    listing = b.call("GET", at, 200).json()
    kinds = {e["name"]: e["kind"] for e in listing["entries"]}
    assert kinds["d"] == "folder" and kinds["out"] == kinds["in"] == "link" and kinds["p"] == "other" and not listing["truncated"]
    assert b.call("GET", at + "d", 200).json()["entries"][0] == {**b.call("GET", at + "d", 200).json()["entries"][0], "name": "f", "kind": "file", "size_bytes": 3}
    reply = b.call("GET", at + "d/f", 200)
    assert reply.content == b"hi\n" and reply.headers["Content-Disposition"].startswith("attachment") and reply.headers["X-Content-Type-Options"] == "nosniff"
    assert b.call("GET", at + "in", 200).content == b"hi\n"
    assert b.call("GET", at + "d/f", 206, headers={"Range": "bytes=1-1"}).content == b"i"
    b.call("GET", at + "d/f", 416, headers={"Range": "bytes=9-"})
    assert b.call("HEAD", at + "d/f", 200).headers["Content-Length"] == "3"
    html = b.call("GET", at + "odd%20%22name%22.html", 200)
    assert "sandbox" in html.headers["Content-Security-Policy"]


def test_nothing_leads_out(held):
    b, at = held
    for path in ("out", "dout/passwd", "up/etc/passwd", "loop", "d/../../../etc/passwd", "%2e%2e/x", "d/f/x"):
        assert b.call("GET", at + path).status_code in (400, 404), path
        assert b.call("PUT", at + path + "/x", data=b"x").status_code in (400, 404, 409), path
    assert b.call("GET", at + "p").status_code == 422
    for path in ("/etc/passwd", "a\0b", "x" * 5000):
        assert b.call("GET", at + requests_quote(path)).status_code in (400, 404, 414, 422, 431), path[:20]


def requests_quote(path):
    import urllib.parse
    return urllib.parse.quote(path, safe="")


def test_write(held):
    b, at = held
    assert b.call("PUT", at + "new/deep/x.txt", 200, data=b"hello").json() == {"path": "new/deep/x.txt", "size_bytes": 5}
    assert b.call("GET", at + "new/deep/x.txt", 200).text == "hello"
    b.call("PUT", at + "new/deep/x.txt", 200, data=b"")
    assert b.call("GET", at + "new/deep/x.txt", 200).content == b""
    b.call("PUT", at + "out", 200, data=b"mine")  # the link is replaced, not followed
    assert b.call("GET", at + "out", 200).content == b"mine"
    b.call("PUT", at + "d", 409, data=b"x")
    b.call("PUT", at, 400, data=b"x")
    big = os.urandom(8 << 20)
    b.call("PUT", at + "big", 200, data=(big[i:i + 65536] for i in range(0, len(big), 65536)), timeout=60)
    assert b.call("GET", at + "big", 200, timeout=60).content == big


def test_delete(held):
    b, at = held
    b.call("PUT", at + "gone/x", 200, data=b"x")
    assert b.call("DELETE", at + "gone").status_code == 409, "not empty"
    b.call("DELETE", at + "gone/x", 204)
    b.call("DELETE", at + "gone", 204)
    b.call("DELETE", at + "gone", 404)
    b.call("DELETE", at + "dout", 204)  # the link, not what it names


def test_roles_and_states(held):
    b, at = held
    viewer = b.call("POST", "/tokens", json={"name": "looker", "role": "viewer"})
    if viewer.status_code == 201:
        headers = {"Authorization": f"Bearer {viewer.json()['token']}"}
        b.call("GET", at, 200, headers=headers)
        b.call("PUT", at + "v", 403, headers=headers, data=b"x")
        b.call("DELETE", at + "d/f", 403, headers=headers)
    b.call("GET", "/sessions/nosuch/files/x", 404)
    never = b.create(kind="external")["session_id"]  # has no slot, ever
    assert "holds no slot" in b.call("GET", f"/sessions/{never}/files/", 409).json()["error"]["message"]
    # A session gets a slot also without a message, so that people can use it; one that was stopped has none.
    s = b.create()["session_id"]
    wait_until(lambda: b.call("GET", f"/sessions/{s}/files/").status_code == 200, 30, "a session without a message to have a slot")
    b.call("POST", f"/sessions/{s}/stop", 200)
    b.call("GET", f"/sessions/{s}/files/", 409)


def test_a_broken_upload_leaves_nothing(held):
    """The client goes away in the middle; twenty times, more than there are places."""
    b, at = held
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", b.stack.port)) as s:
            s.sendall((f"PUT {at}half HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {b.stack.token}\r\nContent-Length: 100000\r\n\r\n" + "x" * 500).encode())
    wait_until(lambda: b.call("PUT", at + "whole", data=b"x").status_code == 200, 20, "places to be free again")
    wait_until(lambda: b.call("GET", at + "half").status_code == 404, 20, "no half file")
    assert not [e for e in b.call("GET", at, 200).json()["entries"] if e["name"].startswith(".part")]


def test_what_was_written_is_the_agents(held):
    b, at = held
    session = at.split("/")[2]
    b.call("PUT", at + "note.txt", 200, data=b"for you")
    b.call("POST", f"/sessions/{session}/messages", 202, json={"content": "SCRIPT: " + json.dumps([{"tools": [["bash", {"command": "cat note.txt; rm note.txt"}]]}, {"text": "x"}])})
    wait_until(lambda: any("for you" in json.dumps(e.get("tool_output") or "") for e in b.events(session) if e["event_type"] == "post_tool"), 30, "the agent to read it")
