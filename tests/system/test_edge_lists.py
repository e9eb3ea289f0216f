"""Lists of the network edge: pages held to bytes, cursors that are none."""
import base64
import json

from conftest import wait_until
from edge_fixtures import alive, edge  # noqa: F401

JSON = ["Content-Type: application/json"]


def make_session(edge):
    def ask():  # the coordinator may still be starting
        status, _, body = edge.request("POST", "/sessions", edge.user, JSON, b'{"kind":"external"}')
        assert status in (201, 503), body
        return status == 201 and json.loads(body)["session_id"]
    return wait_until(ask, 20, edge.logs)


def test_pages_are_held_to_bytes(edge):
    """Twelve messages of almost a megabyte are two pages, whatever the limit says; none is lost between them."""
    session = make_session(edge)
    for i in range(12):
        body = json.dumps({"session_id": session, "event_type": "message", "role": "user", "content": f"{i}" + "x" * 900000}).encode()
        assert edge.request("POST", "/events", edge.user, JSON, body)[0] == 201
    seen, cursor, pages = [], "0", 0
    while cursor:
        status, _, body = edge.request("GET", f"/sessions/{session}/messages?limit=1000&cursor={cursor}", edge.user)
        assert status == 200 and len(body) < 10 << 20
        page = json.loads(body)
        seen += [m["content"][0]["text"].split("x")[0] for m in page["messages"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert seen == [str(i) for i in range(12)] and pages == 2


def test_cursor_of_another_list(edge):
    """A cursor is opaque; one that does not fit the order asked for is the client's mistake, not the database's."""
    make_session(edge)
    by_name = json.loads(edge.request("GET", "/sessions?sort=name&limit=1", edge.user)[2])["next_cursor"]
    for cursor in (by_name, base64.urlsafe_b64encode(b"yesterday noon\0id").decode().rstrip("=")):
        status, _, body = edge.request("GET", f"/sessions?cursor={cursor}", edge.user)
        assert status == 400 and json.loads(body)["error"]["code"] == "bad_request", body
    alive(edge)
