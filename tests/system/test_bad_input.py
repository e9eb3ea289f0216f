"""Nonsense on every route: a 4xx with a sentence, never a 5xx, nothing half-stored (property 3)."""
import json
import random
import re

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from conftest import ROOT

DESCRIPTION = json.loads((ROOT / "gatewayd" / "openapi.json").read_text())
TABLES = ("core.session", "core.event", "core.attachment", "core.idempotency", "docs.document")

scalars = st.one_of(st.none(), st.booleans(), st.integers(-2 ** 70, 2 ** 70), st.floats(allow_nan=False, allow_infinity=False),
                    st.text(max_size=40), st.sampled_from(["", "x" * 5000, "../../etc/passwd", "\u202eabc", "é", "\U0001f600", "' OR 1=1 --", "%00", "\x01"]))
values = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)), max_leaves=12)


def counts(berth):
    return [berth.sql(f"SELECT count(*) FROM {t}") for t in TABLES]


def check(reply):
    assert 400 <= reply.status_code < 500, f"{reply.request.method} {reply.request.url} {str(reply.request.body)[:300]}: {reply.status_code} {reply.text[:300]}"
    error = reply.json()["error"]
    assert error["code"] and len(error["message"]) > 8


def json_routes():
    for path, item in DESCRIPTION["paths"].items():
        for method, operation in item.items():
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if schema:
                yield method.upper(), path, schema


def resolve(schema):
    return DESCRIPTION["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


@pytest.fixture(scope="module")
def session(berth):
    session = berth.create(kind="external")["session_id"]
    yield session
    berth.call("DELETE", f"/sessions/{session}")


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_property_3_error_handling_for_invalid_inputs(berth, session, data):
    """A valid body with one field of a wrong type or value, or an unknown field, on any JSON route."""
    method, path, schema = data.draw(st.sampled_from(list(json_routes())))
    schema = schema.get("anyOf", [schema])[0]  # a list of them is judged one by one
    properties = resolve(schema)["properties"]
    body = {}
    if data.draw(st.booleans()):
        body["no_such_field"] = data.draw(values)
    else:
        name = data.draw(st.sampled_from(sorted(properties)))
        wrong = {"string": st.one_of(st.integers(), st.lists(st.text(max_size=3), max_size=2), st.booleans(), st.just({})),
                 "object": st.one_of(st.integers(), st.text(max_size=5), st.lists(st.none(), max_size=2)),
                 "array": st.one_of(st.integers(), st.text(max_size=5), st.just({"a": 1})),
                 "integer": st.one_of(st.text(max_size=5), st.just({}), st.just([]), st.just(0.5), st.just(-1))}
        kind = resolve(properties[name]).get("type")
        body[name] = data.draw(wrong.get(str(kind), st.one_of(st.integers(), st.booleans(), st.just({}), st.just([]))))
        if name == "description" and body[name] is None:
            return
    before = counts(berth)
    check(berth.call(method, path.replace("{id}", session), json=body))
    assert counts(berth) == before


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=values)
def test_any_json_never_breaks_anything(berth, session, body):
    """Any JSON at all on the creating routes: accepted or refused, never a 5xx but what it says is missing here."""
    for method, path, _ in json_routes():
        reply = berth.call(method, path.replace("{id}", session), json=body)
        nobody = reply.status_code == 503 and "No worker makes videos" in reply.text  # said after the body was looked at
        assert reply.status_code < 500 or nobody, f"{method} {path}: {reply.status_code} {reply.text[:300]}"
        if reply.status_code == 201 and path == "/sessions":
            berth.call("DELETE", f"/sessions/{reply.json()['session_id']}", 204)


BAD_BODIES = [b"", b"{", b"[1", b"nonsense", b'{"a":1}{"b":2}', b'{"content":"x"} trailing', b'{"content":"\xff\xfe"}', b'{"content":"\\ud800"}', b'{"content":"a\\u0000b"}',
              b'{"content":NaN}', b'{"content":1e999}', b'{"content":"a","content":"b"}', b"\xef\xbb\xbf{}x", b'{"content":' + b"[" * 10000 + b"]" * 10000 + b"}",
              b'{"content":' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"}", b"null", b"true", b"17", b'"text"', b"[]"]


@pytest.mark.parametrize("body", BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_bodies_that_are_not_json(berth, session, body):
    before = counts(berth)
    for path in (f"/sessions/{session}/messages", "/sessions"):
        if path == "/sessions" and body in (b"",):
            continue  # a session needs no body
        check(berth.call("POST", path, data=body, headers={"Content-Type": "application/json"}))
    assert counts(berth) == before


def test_ten_megabytes(berth, session):
    before = counts(berth)
    for path in ("/sessions", f"/sessions/{session}/messages"):
        reply = berth.call("POST", path, data=json.dumps({"message": "x" * 10_000_000}), headers={"Content-Type": "application/json"})
        assert reply.status_code == 413, reply.text[:200]
    assert counts(berth) == before


def test_unknown_ids_and_methods(berth):
    # Dot segments are taken out by the client itself; test_edge.py sends them raw.
    for name in ("nope", "0" * 64, "0" * 5000, "a%2fb", "%00", "'; DROP TABLE core.session; --", "é", "1 OR 1=1"):
        for path, item in DESCRIPTION["paths"].items():
            if "{" not in path:
                continue
            for method in item:
                if path.endswith(("/vnc", "/terminal")):
                    continue
                schema = item[method].get("requestBody", {}).get("content", {}).get("application/json")
                reply = berth.call(method.upper(), re.sub(r"\{[^}]+\}", lambda _: name, path), json={"content": "x"} if schema and "messages" in path else {} if schema else None)
                check(reply)
    for method, path in (("PUT", "/sessions"), ("DELETE", "/documents"), ("POST", "/ready"), ("PATCH", "/workers")):
        assert berth.call(method, path).status_code in (404, 405)


QUERIES = ["limit=0", "limit=-1", "limit=1001", "limit=9223372036854775808", "limit=abc", "limit=", "limit=1e3", "limit=0x10", "cursor=abc", "cursor=%00", "cursor=" + "A" * 3000,
           "status=gone", "sort=up", "kind=boat", "unknown=1", "q=" + "x" * 300, "cursor=AAAA"]


@pytest.mark.parametrize("query", QUERIES)
def test_list_parameters(berth, query):
    check(berth.call("GET", f"/sessions?{query}"))


@pytest.mark.parametrize("query", ["after_seq=-1", "after_seq=18446744073709551616", "after_seq=999999", "after_seq=abc", "after_seq=", "after_seq=1;DROP", "deltas=maybe"])
def test_resume_positions(berth, session, query):
    check(berth.call("GET", f"/sessions/{session}/stream?{query}", headers={"Accept": "text/event-stream"}))


@pytest.mark.parametrize("value", ["-1", "99999999", "abc", "1.5", "18446744073709551616", "x" * 4000])
def test_last_event_id(berth, session, value):
    check(berth.call("GET", f"/sessions/{session}/stream", headers={"Accept": "text/event-stream", "Last-Event-ID": value}))


def test_no_token_no_answer(berth):
    rng = random.Random(1)
    for path, item in DESCRIPTION["paths"].items():
        for method, operation in item.items():
            if operation.get("security") == []:
                continue
            for header in ("", "Bearer", "Bearer x", "Basic YTpi", "Bearer bt_" + "".join(rng.choices("abcdefghij", k=43))):
                reply = berth.call(method.upper(), re.sub(r"\{[^}]+\}", "x", path), headers={"Authorization": header})
                # 429: too many failed logins from this address; the next one may be judged again.
                assert reply.status_code in (401, 429), f"{method} {path} {header}: {reply.status_code} {reply.text[:200]}"
