"""What gateways remember of documents: never a byte of what was changed or deleted, whichever gateway answered the change."""
import dataclasses
import hashlib
import threading

import pytest
import requests

from conftest import free_port, wait_until
from documents import Documents


@pytest.fixture(scope="module")
def two():
    """A stack with a second gateway: (documents, ask a gateway by number)."""
    d = Documents(docserverd={"sweep_interval": "1h"}, gatewayd={"requests_per_second": 0, "expensive_per_second": 0})
    try:
        d.start()
        port = free_port()
        text = (d.stack.state / "etc" / "gatewayd.conf").read_text()
        config = d.stack.state / "etc" / "gatewayd2.conf"
        config.write_text(text.replace(f":{d.stack.port}\n", f":{port}\n").replace(f":{d.stack.docs_port}\n", f":{free_port()}\n"))
        d.stack.own(config, "berth", 0o644)
        first = d.stack.services["gatewayd"]
        d.stack.start(dataclasses.replace(first, name="gatewayd2", argv=[first.argv[0], "--config", str(config)], process=None))

        def ask(gateway, method, path, **kwargs):
            return d.http.request(method, f"http://127.0.0.1:{(d.stack.port, port)[gateway]}{path}", timeout=30, **kwargs)

        def up():
            try:
                return ask(1, "GET", "/documents").status_code == 200
            except requests.ConnectionError:
                return False
        wait_until(up, 60, lambda: f"the second gateway\n{d.logs()}")
        d.ask = ask
        yield d
    finally:
        d.close()


def warm(d, path, text):
    """Both gateways remember the document: docserverd stands still, and they answer."""
    pid = d.stack.services["docserverd"].process

    def remembered():
        for gateway in (0, 1):
            assert d.ask(gateway, "GET", path).text == text
        pid.send_signal(19)
        try:
            return all(d.http.get(d.ask(g, "GET", "/health").url.replace("/health", path), timeout=0.3).text == text for g in (0, 1))
        except requests.Timeout:
            return False
        finally:
            pid.send_signal(18)
    wait_until(remembered, 30, lambda: f"both answer without docserverd\n{d.logs()}")


def test_what_is_remembered_is_answered_without_docserverd(two):
    doc = two.put(b"remembered", "a.txt").json()
    warm(two, doc["url"], "remembered")


@pytest.mark.parametrize("gateway", [0, 1])
def test_a_deleted_document_is_gone_on_every_gateway(two, gateway):
    for i in range(10):
        doc = two.put(f"to go {i}".encode(), "a.txt").json()
        warm(two, doc["url"], f"to go {i}")
        assert two.ask(gateway, "DELETE", doc["url"]).status_code == 204
        assert [two.ask(g, "GET", doc["url"]).status_code for g in (gateway, 1 - gateway)] == [404, 404]


def test_children_go_with_their_parent(two):
    parent, child = (two.put(name.encode(), name).json() for name in ("parent", "child"))
    two.call("POST", f"/documents/{child['id']}/relations", 201, json={"kind": "parent", "document_id": parent["id"]})
    warm(two, child["url"], "child")
    assert two.ask(0, "DELETE", parent["url"]).status_code == 204
    assert [two.ask(g, "GET", child["url"]).status_code for g in (0, 1)] == [404, 404]


def test_new_versions_and_names_are_seen_at_once(two):
    doc = two.put(b"version 0", "a.txt").json()
    for i in range(1, 8):
        warm(two, doc["url"], f"version {i - 1}")
        etag = two.ask(1, "GET", doc["url"]).headers["ETag"]
        assert two.ask(i % 2, "PUT", f"{doc['url']}/content", data=f"version {i}".encode()).status_code == 200
        for g in (0, 1):
            reply = two.ask(g, "GET", doc["url"], headers={"If-None-Match": etag})
            assert reply.status_code == 200 and reply.text == f"version {i}"
        assert two.ask(0, "PATCH", doc["url"], json={"filename": f"name-{i}"}).status_code == 200
        assert all(f"name-{i}" in two.ask(g, "GET", doc["url"]).headers["Content-Disposition"] for g in (0, 1))


def test_conditions_and_ranges_of_what_is_remembered(two):
    data = bytes(range(256)) * 100
    doc = two.put(data, "a.bin", "application/octet-stream").json()
    etag = f'"{hashlib.sha256(data).hexdigest()}"'
    expect = [({}, 200, data), ({"If-None-Match": etag}, 304, b""), ({"If-Match": '"other"'}, 412, None), ({"Range": "bytes=5-9"}, 206, data[5:10]),
              ({"Range": "bytes=-3"}, 206, data[-3:]), ({"Range": "bytes=99999-"}, 416, None), ({"Range": "bytes=5-9", "If-Range": '"old"'}, 200, data)]
    for _ in range(2):  # read, then remembered
        for headers, status, body in expect:
            reply = two.ask(0, "GET", doc["url"], headers=headers)
            assert reply.status_code == status and (body is None or reply.content == body), headers
            assert reply.headers.get("ETag", etag) == etag
        head = two.ask(0, "HEAD", doc["url"])
        assert head.headers["Content-Length"] == str(len(data)) and head.content == b""
    large = two.put(bytes(70_000), "large.bin").json()  # its bytes are not kept, what it is called is
    for _ in range(3):
        reply = two.ask(0, "GET", large["url"])
        assert len(reply.content) == 70_000
        assert two.ask(0, "GET", large["url"], headers={"If-None-Match": reply.headers["ETag"]}).status_code == 304


def test_of_another_tenant_nothing_is_remembered(two):
    doc = two.put(b"mine", "a.txt").json()
    warm(two, doc["url"], "mine")
    two.call("POST", "/tenants", 201, json={"name": "others"})
    token = two.call("POST", "/tokens", 201, json={"name": "other", "role": "operator", "tenant": "others"}).json()["token"]
    warm(two, doc["url"], "mine")
    assert requests.get(two.url(doc["url"]), headers={"Authorization": f"Bearer {token}"}, timeout=10).status_code == 404


def test_readers_never_see_what_was_before_an_answered_change(two):
    """Four readers on both gateways; every read that begins after the answer of version i shows version i or later."""
    doc = two.put(b"0", "count.txt").json()
    answered, wrong, stop = [0], [], threading.Event()

    def read(gateway):
        while not stop.is_set():
            least = answered[0]
            reply = two.ask(gateway, "GET", doc["url"])
            if reply.status_code == 200 and int(reply.text) < least:
                wrong.append((least, reply.text))
    readers = [threading.Thread(target=read, args=(i % 2,)) for i in range(4)]
    for t in readers:
        t.start()
    try:
        for i in range(1, 150):
            assert two.ask(i // 3 % 2, "PUT", f"{doc['url']}/content", data=str(i).encode()).status_code == 200
            answered[0] = i
    finally:
        stop.set()
        for t in readers:
            t.join()
    assert wrong == []


def test_a_new_docserverd_begins_anew(two):
    doc = two.put(b"old", "a.txt").json()
    for i in range(3):
        warm(two, doc["url"], ("old", "new 0", "new 1")[i])
        two.kill("docserverd")
        two.wait_ready()
        wait_until(lambda: two.ask(1, "PUT", f"{doc['url']}/content", data=f"new {i}".encode()).status_code == 200, 30, "replaced")
        assert {two.ask(g, "GET", doc["url"]).text for g in (0, 1)} == {f"new {i}"}
