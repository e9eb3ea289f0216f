"""Lists of the network edge: pages held to bytes, cursors that are none, streams of large events."""
import base64
import json
import socket

from conftest import wait_until
from edge_fixtures import alive, edge  # noqa: F401

JSON = ["Content-Type: application/json"]


def make_session(edge):
    def ask():  # the coordinator may still be starting
        status, _, body = edge.request("POST", "/sessions", edge.user, JSON, b'{"kind":"external"}')
        assert status in (201, 503), body
        return status == 201 and json.loads(body)["session_id"]
    return wait_until(ask, 20, edge.logs)


def say_much(edge, session, count=12):
    for i in range(count):
        body = json.dumps({"session_id": session, "event_type": "message", "role": "user", "content": f"{i}" + "x" * 900000}).encode()
        assert edge.request("POST", "/events", edge.user, JSON, body)[0] == 201


def test_pages_are_held_to_bytes(edge):
    """Twelve messages of almost a megabyte are two pages, whatever the limit says; none is lost between them."""
    session = make_session(edge)
    say_much(edge, session)
    seen, cursor, pages = [], "0", 0
    while cursor:
        status, _, body = edge.request("GET", f"/sessions/{session}/messages?limit=1000&cursor={cursor}", edge.user)
        assert status == 200 and len(body) < 10 << 20
        page = json.loads(body)
        seen += [m["content"][0]["text"].split("x")[0] for m in page["messages"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert seen == [str(i) for i in range(12)] and pages == 2


def test_lists_of_sessions_are_held_to_bytes(edge):
    """However large their metadata: pages of 8 MiB, none lost between them, in every order."""
    ids = set()
    for i in range(145):
        body = json.dumps({"kind": "external", "agent_name": "bulky", "session_name": f"b{i % 7}", "metadata": {"x": "y" * 60000}}).encode()
        status, _, reply = edge.request("POST", "/sessions", edge.user, JSON, body)
        assert status == 201, reply
        ids.add(json.loads(reply)["session_id"])
    for sort in ("created_at", "modified_at", "name"):
        seen, cursor, pages = [], "", 0
        while cursor is not None:
            status, _, body = edge.request("GET", f"/sessions?agent_name=bulky&limit=1000&sort={sort}" + (f"&cursor={cursor}" if cursor else ""), edge.user)
            assert status == 200 and len(body) < 9 << 20, (status, len(body))
            page = json.loads(body)
            seen += [s["session_id"] for s in page["sessions"]]
            cursor, pages = page["next_cursor"], pages + 1
        assert len(seen) == len(ids) and set(seen) == ids and pages == 2, (sort, len(seen), pages)


def test_a_filter_that_names_nothing_is_a_mistake(edge):
    session = make_session(edge)
    for path, field in (("/sessions?status=", "status"), ("/sessions?status=,", "status"), (f"/events/{session}?types=", "types"), ("/events?types=,", "types")):
        status, _, body = edge.request("GET", path, edge.user)
        assert status == 400 and json.loads(body)["error"]["field"] == field, path


def test_acts_without_a_body_take_an_empty_object_and_nothing_else(edge):
    session = make_session(edge)
    for act in ("stop", "pause", "resume", "interrupt"):
        status, _, body = edge.request("POST", f"/sessions/{session}/{act}", edge.user, JSON, b'{"why":"so"}')
        assert status == 400 and json.loads(body)["error"]["field"] == "why", body
    assert edge.request("POST", f"/sessions/{session}/stop", edge.user, JSON, b"{}")[0] == 200


def test_cursor_of_another_list(edge):
    """A cursor is opaque; one that does not fit the order asked for is the client's mistake, not the database's."""
    make_session(edge)
    by_name = json.loads(edge.request("GET", "/sessions?sort=name&limit=1", edge.user)[2])["next_cursor"]
    by_time = json.loads(edge.request("GET", "/sessions?sort=modified_at&limit=1", edge.user)[2])["next_cursor"]
    bad = base64.urlsafe_b64encode(b"created_at:yesterday noon\0id").decode().rstrip("=")
    for query in (f"cursor={by_name}", f"cursor={by_time}", f"sort=name&cursor={by_time}", f"cursor={bad}"):
        status, _, body = edge.request("GET", f"/sessions?{query}", edge.user)
        assert status == 400 and json.loads(body)["error"]["code"] == "bad_request", body
    alive(edge)


def test_stream_of_large_events(edge):
    """A reader with a small window gets each of them on one connection: it reads, so it is not too slow."""
    session = make_session(edge)
    say_much(edge, session)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    s.settimeout(20)
    s.connect(("127.0.0.1", edge.port))
    s.sendall(f"GET /sessions/{session}/stream HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nAuthorization: Bearer {edge.viewer}\r\n\r\n".encode())
    text = s.makefile("rb")
    ids = []
    while len(ids) < 13:
        line = text.readline()
        assert line, f"ended after {ids}"
        if line.startswith(b"id: "):
            ids.append(int(line[4:]))
        assert not line.startswith(b"event: lagged"), ids
    assert ids == list(range(1, 14))
    s.close()
    alive(edge)
