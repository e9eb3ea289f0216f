"""The network edge against raw sockets: heads, bodies, pipelining, deadlines, the page, tokens."""
import hashlib
import http.client
import json
import socket
import time

import pytest

from conftest import wait_until
from edge import parse_response, read_all, responses
from edge_fixtures import alive, edge  # noqa: F401
from edge_websocket import open_ws, upgrade


# ---- heads -------------------------------------------------------------------------------------------

HEAD = b"Host: berth\r\n"
BAD_HEADS = {
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "host with NUL": b"GET /health HTTP/1.1\r\nHost: a\0b\r\n\r\n",
    "host with @": b"GET /health HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "length -1": b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Content-Length: -1\r\n\r\n",
    "length 0x5": b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Content-Length: 0x5\r\n\r\n",
    "length 2^64": b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Content-Length: 18446744073709551616\r\n\r\n",
    "two lengths": b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "CL and TE": b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE xchunked": b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE with 0xa0": b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: \xa0chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"GET /health HTTP/1.1\nHost: a\n\n",
    "CR anything": b"GET /health HTTP/1.1\r\nHost: a\rX\r\n\r\n",
    "folded": b"GET /health HTTP/1.1\r\n" + HEAD + b"X: a\r\n b\r\n\r\n",
    "space before colon": b"GET /health HTTP/1.1\r\n" + HEAD + b"X : a\r\n\r\n",
    "no colon": b"GET /health HTTP/1.1\r\n" + HEAD + b"Xa\r\n\r\n",
    "0.9": b"GET /health\r\n\r\n",
    "9.9": b"GET /health HTTP/9.9\r\n" + HEAD + b"\r\n",
    "lower case": b"GET /health http/1.1\r\n" + HEAD + b"\r\n",
    "unknown method": b"BREW /health HTTP/1.1\r\n" + HEAD + b"\r\n",
    "authority form": b"CONNECT a:443 HTTP/1.1\r\n" + HEAD + b"\r\n",
    "star": b"OPTIONS * HTTP/1.1\r\n" + HEAD + b"\r\n",
    "9 KB target": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
    "64 KB header": b"GET /health HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 65536 + b"\r\n\r\n",
    "1000 headers": b"GET /health HTTP/1.1\r\n" + HEAD + b"".join(b"X%d: y\r\n" % i for i in range(1000)) + b"\r\n",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS hello": bytes.fromhex("1603010200010001fc0303") + b"\0" * 200,
    "NUL in the path": b"GET /%00 HTTP/1.1\r\n" + HEAD + b"\r\n",
    "dots": b"GET /../../etc/passwd HTTP/1.1\r\n" + HEAD + b"\r\n",
    "encoded dots": b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + HEAD + b"\r\n",
    "encoded slash": b"GET /demo/..%2fsecret.txt HTTP/1.1\r\n" + HEAD + b"\r\n",
    "overlong": b"GET /%c0%ae%c0%ae/secret.txt HTTP/1.1\r\n" + HEAD + b"\r\n",
    "bad query": b"GET /sessions?a=%zz HTTP/1.1\r\n" + HEAD + b"\r\n",
    "100 parameters": b"GET /sessions?" + b"&".join(b"a%d=b" % i for i in range(100)) + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_bad_head_is_refused_and_ends_the_connection(edge, name):
    reply = edge.exchange(BAD_HEADS[name])
    status, headers, body = parse_response(reply)
    assert 400 <= status < 500, reply
    assert headers["connection"] == "close"
    assert len(json.loads(body)["error"]["message"]) > 10


@pytest.mark.parametrize("path,status", [("/%252e%252e/secret.txt", 404), ("/link.txt", 404), ("/demo/link.txt", 404), ("/demo/", 200),
                                         ("/no/such", 404), ("/.hidden", 404), ("/web", 404)])
def test_the_page_stays_beneath_its_folder(edge, path, status):
    got, _, body = edge.request("GET", path)
    assert got == status and b"outside" not in body


def test_head_in_single_bytes_and_deadline(edge):
    with edge.connect() as s:
        for byte in b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":
            s.send(bytes([byte]))
        assert parse_response(read_all(s))[0] == 200
    begin = time.monotonic()
    with edge.connect() as s:  # one byte now and then: the deadline counts from the first
        s.sendall(b"GET /health HTTP/1.1\r\n")
        out = read_until_closed_while_dribbling(s, b"X")
    assert parse_response(out)[0] == 408 and 0.5 < time.monotonic() - begin < 3
    begin = time.monotonic()
    with edge.connect() as s:  # says nothing
        assert read_all(s) == b""
    assert 0.5 < time.monotonic() - begin < 3


def read_until_closed_while_dribbling(s, byte):
    out = b""
    s.settimeout(0.1)
    for _ in range(100):
        try:
            s.send(byte)
        except OSError:
            pass
        try:
            part = s.recv(65536)
        except TimeoutError:
            continue
        except ConnectionResetError:
            break
        if not part:
            break
        out += part
    return out


# ---- bodies and pipelining ----------------------------------------------------------------------------

def post_chunked(edge, chunks, path="/sessions"):
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {edge.user}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return edge.exchange(head.encode() + chunks)


def test_chunked_bodies(edge):
    with edge.connect() as s:
        head = f"POST /sessions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {edge.user}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        s.sendall(head.encode())
        for byte in b'9;ext=1\r\n{"kind":"\r\nA\r\nexternal"}\r\n0\r\nTrailer: x\r\n\r\n':
            s.send(bytes([byte]))
        assert parse_response(read_all(s))[0] == 201


@pytest.mark.parametrize("chunks", [b"0x2\r\n{}\r\n0\r\n\r\n", b"+2\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n", b"\r\n{}\r\n0\r\n\r\n", b"2\n{}\n0\n\n",
                                    b"2\r\n{}0\r\n\r\n", b"00000000000000002\r\n{}\r\n0\r\n\r\n", b"ffffffffffffffff\r\n{}", b"2 \r\n{}\r\n0\r\n\r\n",
                                    b"2\r\n{}\r\n0\r\nbad trailer\r\n\r\n", b"2;\x01\r\n{}\r\n0\r\n\r\n", b"2\r{}\r\n0\r\n\r\n"])
def test_broken_chunks(edge, chunks):
    before = edge.sql("SELECT count(*) FROM core.session")
    status, headers, _ = parse_response(post_chunked(edge, chunks))
    assert status == 400 and headers["connection"] == "close"
    assert edge.sql("SELECT count(*) FROM core.session") == before


def test_big_bodies(edge):
    token = f"Authorization: Bearer {edge.user}\r\nContent-Type: application/json\r\n"
    head = f"POST /sessions HTTP/1.1\r\nHost: a\r\n{token}"
    reply = edge.exchange(f"{head}Content-Length: 1073741824\r\nExpect: 100-continue\r\n\r\n".encode())
    assert parse_response(reply)[0] == 413  # before any byte of it
    status = parse_response(post_chunked(edge, b"100000\r\n" + b" " * 0x100000 + b"\r\n1\r\n \r\n0\r\n\r\n"))[0]
    assert status == 413
    body = b'{"session_name":"' + b"x" * 900000 + b'"}'
    assert edge.request("POST", "/sessions", edge.user, ["Content-Type: application/json"], body)[0] == 400
    alive(edge)


def test_dribbled_body_times_out(edge):
    with edge.connect() as s:
        s.sendall(f"POST /sessions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {edge.user}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n".encode())
        begin = time.monotonic()
        assert parse_response(read_until_closed_while_dribbling(s, b" "))[0] == 408
        assert time.monotonic() - begin < 4


def test_expect_continue(edge):
    with edge.connect() as s:
        s.sendall(f"POST /sessions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {edge.user}\r\nContent-Type: application/json\r\nContent-Length: 19\r\nExpect: 100-continue\r\n\r\n".encode())
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b'{"kind":"external"}')
        assert parse_response(read_all(s))[0] == 201


def test_body_where_none_is_wanted(edge):
    status, _, body = edge.request("GET", "/sessions", edge.user, body=b"x")
    assert status == 400 and b"no body" in body


def test_pipelined_requests(edge):
    get = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /nothing.here HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    post = f"POST /tickets HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {edge.user}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    statuses = [r[0] for r in responses(edge.exchange(get * 20 + post + get + post + last))]
    assert statuses == [200] * 20 + [201, 200, 201, 404]
    # An answer that does not read the body leaves the next request in order.
    refused = b"POST /sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    assert [r[0] for r in responses(edge.exchange(refused + get + last))] == [401, 200, 404]
    # Nothing after Connection: close, nothing after a bad head.
    assert [r[0] for r in responses(edge.exchange(last + get))] == [404]
    assert [r[0] for r in responses(edge.exchange(get + b"BAD\r\n\r\n" + get))] == [200, 400]
    # A smuggled request is not one.
    assert [r[0] for r in responses(edge.exchange(b"POST /tickets HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get))] == [400]
    # Half-closed by the client after its requests: all are answered.
    with edge.connect() as s:
        s.sendall(get * 3)
        s.shutdown(socket.SHUT_WR)
        assert [r[0] for r in responses(read_all(s))] == [200] * 3


def test_keep_alive_and_idle_timeout(edge):
    c = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=10)
    for _ in range(50):
        c.request("GET", "/health")
        assert c.getresponse().read()
    begin = time.monotonic()
    assert c.sock.recv(1) == b""
    assert 1 < time.monotonic() - begin < 5
    with edge.connect() as s:  # HTTP/1.0 closes, or keeps when asked to
        s.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert parse_response(read_all(s))[1]["connection"] == "close"


def test_methods(edge):
    status, headers, body = edge.request("HEAD", "/health")
    assert status == 200 and body == b"" and int(headers["content-length"]) > 0
    status, headers, body = edge.request("PUT", "/sessions", edge.user)
    assert status == 405 and "POST" in headers["allow"] and json.loads(body)["error"]["code"] == "method_not_allowed"
    assert edge.request("POST", "/no/such", edge.user)[0] == 404


# ---- the page ------------------------------------------------------------------------------------------

def test_page(edge):
    status, headers, body = edge.request("GET", "/")
    assert status == 200 and body == (edge.web / "index.html").read_bytes()
    assert headers["content-type"].startswith("text/html") and headers["cache-control"] == "no-cache"
    assert "script-src 'self'" in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"
    assert edge.request("GET", "/", headers=[f"If-None-Match: {headers['etag']}"])[0] == 304
    assert edge.request("GET", "/some/view", headers=["Accept: text/html"])[2] == body
    status, headers, body = edge.request("GET", "/app-3F2A9C1B.js")
    assert status == 200 and "immutable" in headers["cache-control"] and len(body) == int(headers["content-length"]) == 750000
    status, headers, body = edge.request("GET", "/app-3F2A9C1B.js", headers=["Accept-Encoding: gzip, br"])
    assert headers["content-encoding"] == "gzip" and body == b"not really zipped"


def test_slow_reader_of_a_file(edge):
    with edge.connect() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.sendall(b"GET /app-3F2A9C1B.js HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        alive(edge)
        assert len(parse_response(read_all(s))[2]) == 750000


def test_documents_listener_serves_documents_only(edge):
    with socket.create_connection(("127.0.0.1", edge.docs_port), timeout=5) as s:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /sessions HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert [r[0] for r in responses(read_all(s))] == [200, 404, 404]


# ---- tokens and tickets ----------------------------------------------------------------------------------

def test_tokens(edge):
    shapes = set()
    for token in (None, "x", "bt_" + "A" * 43, edge.user + "x", "\xe4", "a" * 300):
        status, headers, body = edge.request("GET", "/sessions", token)
        shapes.add((status, body, tuple(sorted(set(headers) - {"date", "x-request-id"}))))
    assert len(shapes) == 1 and shapes.pop()[0] == 401
    assert edge.request("GET", f"/sessions?token={edge.user}")[0] == 401  # never a token in a URL
    assert edge.request("GET", "/sessions", edge.viewer)[0] == 200
    assert edge.request("POST", "/sessions", edge.viewer, ["Content-Type: application/json"], b"{}")[0] == 403


def test_ticket_is_single_use(edge):
    ticket = json.loads(edge.request("POST", "/tickets", edge.user)[2])["ticket"]
    first = upgrade(edge, f"/ws?token={ticket}", token=None)
    assert b" 101 " in first[0]
    first[1].close()
    reply, s = upgrade(edge, f"/ws?token={ticket}", token=None)
    s.close()
    assert b" 401 " in reply


def test_revoked_token_ends_its_streams(edge):
    token = edge.make_token("user")
    ws = open_ws(edge, token=token)
    edge.sql(f"UPDATE core.auth_token SET revoked_at = now() WHERE token_hash = '{hashlib.sha256(token.encode()).hexdigest()}'")
    begin = time.monotonic()
    assert ws.close_code(15) == 1008
    assert time.monotonic() - begin < 12
    wait_until(lambda: edge.request("GET", "/sessions", token)[0] == 401, 10)


def test_tokens_are_not_logged(edge):
    edge.request("GET", "/sessions?token=CANARY-ticket", "CANARY-token")
    log = (edge.state / "log" / "gatewayd.log").read_text(errors="replace")
    assert "CANARY" not in log and edge.user not in log
