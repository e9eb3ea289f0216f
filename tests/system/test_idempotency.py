"""Idempotency-Key: on every POST that makes or acts, the same again is answered as the first time and happens once; another body is a conflict.
Where openapi.json says x-idempotent instead, the same again changes nothing."""
import json
import uuid

import pytest

from conftest import ROOT, wait_until

ROUTES = ("sessions", "fork", "messages", "events", "log", "documents", "upload", "agents", "users", "tenants", "stop", "pause", "resume", "interrupt")
REPLAYED_AS_NOW = ("sessions", "fork", "pause", "resume", "interrupt", "agents", "users", "tenants")  # the object as it is by now


def requests_for(berth, kind, name):
    """(path, one body, another body, how to count what it made); bodies None: the route has none."""
    external = lambda: berth.create(kind="external", session_name=name)["session_id"]
    idle = lambda: berth.create([{"text": "x"}], session_name=name)["session_id"]
    count = lambda sql: (lambda: int(berth.sql(sql)))
    match kind:
        case "sessions":
            return "/sessions", {"json": {"kind": "external", "session_name": name}}, {"json": {"kind": "external"}}, count(f"SELECT count(*) FROM core.session WHERE session_name = '{name}'")
        case "fork":
            s = idle()
            berth.wait_status(s, "idle")
            return f"/sessions/{s}/fork", {"json": {"after_seq": 1}}, {"json": {"after_seq": 2}}, count(f"SELECT count(*) FROM core.session WHERE parent_session_id = '{s}'")
        case "messages":
            s = external()
            return f"/sessions/{s}/messages", {"json": {"content": "a"}}, {"json": {"content": "b"}}, count(f"SELECT count(*) FROM core.event WHERE session_id = '{s}' AND event_type = 'message'")
        case "events":
            s = external()
            e = {"session_id": s, "event_type": "log", "message": "a"}
            return "/events", {"json": e}, {"json": {**e, "message": "b"}}, count(f"SELECT count(*) FROM core.event WHERE session_id = '{s}' AND event_type = 'log'")
        case "log":
            s = external()
            e = {"session_id": s, "level": "info", "message": "a"}
            return "/log", {"json": e}, {"json": {**e, "message": "b"}}, count(f"SELECT count(*) FROM core.event WHERE session_id = '{s}' AND event_type = 'log'")
        case "documents":
            return "/documents", {"files": {"file": (f"{name}.txt", b"a")}}, {"files": {"file": (f"{name}.txt", b"b")}}, count(f"SELECT count(*) FROM docs.document WHERE filename = '{name}.txt'")
        case "upload":
            return "/upload", {"files": {"files[]": (f"{name}.txt", b"a")}}, {"files": {"files[]": (f"{name}.txt", b"b")}}, None
        case "agents":
            return "/agents", {"json": {"name": name, "system_prompt": "a"}}, {"json": {"name": name, "system_prompt": "b"}}, count(f"SELECT count(*) FROM core.agent_version WHERE name = '{name}'")
        case "users":
            return "/users", {"json": {"name": name, "role": "viewer"}}, {"json": {"name": name, "role": "admin"}}, count(f"SELECT count(*) FROM core.app_user WHERE name = '{name}'")
        case "tenants":
            return "/tenants", {"json": {"name": name}}, {"json": {"name": f"{name}-b"}}, count(f"SELECT count(*) FROM core.tenant WHERE tenant LIKE '{name}%'")
        case _:
            s = berth.create([{"text": "slow", "delay": 30}], session_name=name)["session_id"]
            berth.wait_status(s, "running")
            if kind == "resume":
                berth.call("POST", f"/sessions/{s}/pause", 200)
            return f"/sessions/{s}/{kind}", {}, None, count(f"SELECT count(*) FROM core.event WHERE session_id = '{s}' AND event_type = 'status'")


@pytest.mark.parametrize("kind", ROUTES)
def test_the_same_again_happens_once(berth, kind):
    name = f"i-{uuid.uuid4().hex[:12]}"
    path, body, other, made = requests_for(berth, kind, name)
    key = {"Idempotency-Key": f"key-{name}"}
    first = berth.call("POST", path, headers=key, **body)
    assert first.status_code in (200, 201, 202), first.text
    was = made and made()
    again = berth.call("POST", path, headers=key, **body)
    assert again.status_code == first.status_code, again.text
    ignore = ("modified_at", "usage", "slot", "worker_id", "status", "last_seq")
    strip = lambda r: {k: v for k, v in r.json().items() if kind not in REPLAYED_AS_NOW or k not in ignore}
    assert strip(again) == strip(first)
    if made:
        assert made() == was
    if other:
        refused = berth.call("POST", path, headers=key, **other)
        assert refused.status_code in (409, 422) and refused.json()["error"]["code"] in ("conflict", "unprocessable"), refused.text
        assert not made or made() == was
    bad = berth.call("POST", path, headers={"Idempotency-Key": "k" * 201}, **body)
    assert bad.status_code == 400 and bad.json()["error"]["field"] == "Idempotency-Key", bad.text
    for s in berth.call("GET", f"/sessions?q={name}", 200).json()["sessions"]:
        berth.call("DELETE", f"/sessions/{s['session_id']}", 204)


KEYED = {"/sessions/{id}/stop", "/sessions/{id}/pause", "/sessions/{id}/resume", "/sessions/{id}/interrupt", "/sessions/{id}/fork", "/sessions/{id}/messages",
         *(f"/{name}" for name in ("sessions", "events", "log", "documents", "upload", "agents", "users", "tenants"))}
UNKEPT = {"/tickets", "/models/test", "/documents/search", "/documents/ask"}  # nothing is stored that could be there twice
ELSEWHERE = {"/sessions/{id}/recording/export"}  # test_exports: one at a time


def repeatable(berth, path):
    """(url, body, what must be the same afterwards) of an act that may be repeated without a key."""
    def document():
        name = f"r-{uuid.uuid4().hex[:12]}.txt"
        return berth.call("POST", "/documents", 201, files={"file": (name, b"words")}).json()["id"]

    def running(**body):
        s = berth.create(**body)["session_id"]
        berth.wait_status(s, "idle")
        return s
    match path:
        case "/sessions/{id}/control":
            s = running(turns=[{"text": "x"}])
            return f"/sessions/{s}/control", {"take": True, "viewer": "v1"}, lambda: [e["seq"] for e in berth.events(s) if e["event_type"] == "control"]
        case "/workers/{id}/drain":
            return "/workers/1/drain", None, lambda: next(w["draining"] for w in berth.call("GET", "/workers", 200).json()["workers"] if w["worker_id"] == "1")
        case "/documents/tags/edit":
            d = document()
            return "/documents/tags/edit", {"ids": [d], "add": ["a"], "remove": ["b"]}, lambda: berth.call("GET", f"/documents/{d}/metadata", 200).json()["tags"]
        case "/documents/{id}/text":
            d = document()
            return f"/documents/{d}/text", None, lambda: berth.sql(f"SELECT count(*) FROM docs.document_text WHERE document_id = '{d}'")
        case "/documents/{id}/relations":
            d = document()
            return f"/documents/{d}/relations", {"document_id": document(), "kind": "child"}, lambda: berth.call("GET", f"/documents/{d}/relations", 200).json()
        case "/sessions/{id}/approvals/{approval_id}":
            berth.call("POST", "/agents", 201, json={"name": "repeats", "model": "demo", "approval": {"bash": "ask"}})
            s = berth.create([{"tools": [["bash", {"command": "true"}]]}, {"text": "x"}], agent_name="repeats")["session_id"]
            wait_until(lambda: berth.session(s)["pending_approvals"] == 1, 30, "an approval")
            a = berth.call("GET", f"/approvals?session_id={s}", 200).json()["approvals"][0]["approval_id"]
            return f"/sessions/{s}/approvals/{a}", {"decision": "allow"}, lambda: [e["seq"] for e in berth.events(s) if e["event_type"] == "approval_decided"]
    pytest.fail(f"openapi.json says x-idempotent of {path}: try it here")


def test_every_act_has_a_key_or_needs_none(own_berth):
    """A new route cannot be forgotten: it takes the key and is tried above, or says why it needs none and is tried here."""
    posts = {path: item["post"] for path, item in json.loads((ROOT / "gatewayd" / "openapi.json").read_text())["paths"].items() if "post" in item}
    keyed = {path for path, op in posts.items() if any(p.get("name") == "Idempotency-Key" for p in op.get("parameters", []))}
    free = {path for path, op in posts.items() if "x-idempotent" in op}
    assert keyed | free == set(posts) and not keyed & free
    assert keyed == KEYED | {"/tokens"}
    berth = own_berth(workers=2)
    for path in sorted(free - UNKEPT - ELSEWHERE):
        url, body, state = repeatable(berth, path)
        # Also with a key that was used for something else: where it means nothing, it changes nothing.
        first = berth.call("POST", url, json=body, headers={"Idempotency-Key": "any"})
        was = state()
        again = berth.call("POST", url, json=body, headers={"Idempotency-Key": "any"})
        assert first.status_code == again.status_code < 300, (path, first.text, again.text)
        ids = lambda r: {k: v for k, v in (r.json() if r.content else {}).items() if k.endswith("_id") or k in ("id", "decision", "kind")}
        assert ids(first) == ids(again) and state() == was, (path, first.text, again.text)


def test_an_act_that_was_overtaken_is_not_repeated(berth):
    """A stop whose answer was lost, then a message by somebody else: the repeated stop is answered and stops nothing."""
    session = berth.create([{"text": "a"}])["session_id"]
    berth.wait_status(session, "idle")
    key = {"Idempotency-Key": f"stop-{session}"}
    first = berth.call("POST", f"/sessions/{session}/stop", 200, headers=key).json()
    berth.call("POST", f"/sessions/{session}/messages", 202, json={"content": "SCRIPT: " + json.dumps([{"text": "b"}])})
    berth.wait_status(session, "idle")
    assert berth.call("POST", f"/sessions/{session}/stop", 200, headers=key).json() == first
    assert berth.session(session)["status"] == "idle"
    berth.call("DELETE", f"/sessions/{session}", 204)


def test_a_token_is_made_once(berth):
    """Its secret is told once; the second answer cannot tell it, so it says so, and there is one token."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    key = {"Idempotency-Key": name}
    berth.call("POST", "/tokens", 201, json={"name": name, "role": "viewer"}, headers=key)
    for body in ({"name": name, "role": "viewer"}, {"name": name, "role": "admin"}):
        assert berth.call("POST", "/tokens", 409, json=body, headers=key).json()["error"]["code"] == "conflict"
    assert berth.sql(f"SELECT count(*) FROM core.auth_token WHERE name = '{name}'") == "1"


def test_keys_outlive_restarts(own_berth):
    """Also that of the whole Berth; each is kept for the tenant and the route it was used with."""
    berth = own_berth(workers=1)
    body, key = {"json": {"kind": "external"}}, {"Idempotency-Key": "once"}
    session = berth.call("POST", "/sessions", 201, headers=key, **body).json()["session_id"]
    agent = berth.call("POST", "/agents", 201, headers=key, json={"name": "once"}).json()
    berth.call("POST", f"/sessions/{session}/stop", 200, headers=key)
    for name in ("gatewayd", "postgres", "coordinatord"):
        berth.kill(name)
    berth.wait_ready()
    wait_until(lambda: berth.call("GET", "/sessions").status_code == 200, 20)
    assert berth.call("POST", "/sessions", 201, headers=key, **body).json()["session_id"] == session
    assert berth.call("POST", "/agents", 201, headers=key, json={"name": "once"}).json() == agent
    berth.call("POST", f"/sessions/{session}/stop", 200, headers=key)
    berth.call("POST", "/sessions", 409, headers=key, json={})
