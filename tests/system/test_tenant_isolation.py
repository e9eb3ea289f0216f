"""Every route of openapi.json with another tenant's ids, and every route with every role: generated, so a new route is in by itself."""
import asyncio
import json
import re

import pytest
import requests
import websockets

from conftest import ROOT
from tenants import Tenant, make_token

PATHS = json.loads((ROOT / "gatewayd" / "openapi.json").read_text())["paths"]
OPERATIONS = [(method, path, spec) for path, item in PATHS.items() for method, spec in item.items()]
PUBLIC = {"/health", "/ready", "/openapi.json"}
# Answers about the asker's own tenant whatever name is given, or about the installation; shown elsewhere to hold nothing foreign.
HOST = {"/workers/{id}/drain", "/tenants/{name}"}
READING_POSTS = {"/tickets", "/documents/search", "/documents/ask"}
STREAMS = {"/ws", "/sessions/{id}/stream", "/sessions/{id}/vnc", "/sessions/{id}/terminal", "/stream"}


@pytest.fixture(scope="module")
def two(berth):
    both = Tenant(berth, "iso-a").furnish(), Tenant(berth, "iso-b").furnish()
    for one in both:  # who may manage people, a person, and that one's token
        one.admin = make_token(berth, "admin", one.name)
        asks = {"headers": {"Authorization": f"Bearer {one.admin}"}}
        one.user = f"person-{one.mark}"
        one.call("POST", "/users", 201, json={"name": one.user, "role": "operator"}, **asks)
        one.token_id = one.call("POST", "/tokens", 201, json={"name": one.mark, "role": "viewer", "user_name": one.user}, **asks).json()["token_id"]
    return both


def ids_of(owner, path, name):
    """What may stand in the path: the owner's ids, of the right kind first."""
    if path.startswith("/documents"):
        return owner.document
    if path.startswith("/users"):
        return owner.user
    if path.startswith("/tokens"):
        return owner.token_id
    if "volume" in name:
        return owner.volume
    if path.startswith("/agents"):
        return owner.agent
    if name == "digest":
        return "0" * 64
    if name in ("approval_id", "version", "n", "v", "number"):
        return "1"
    if name == "path":
        return "x"
    return owner.session


def filled(owner, path):
    return re.sub(r"\{([a-z_]+)\}", lambda m: ids_of(owner, path, m.group(1)), path)


def body_of(spec, root=json.loads((ROOT / "gatewayd" / "openapi.json").read_text())):
    """The least body that the schema allows."""
    def resolve(s):
        while "$ref" in s:
            at = root
            for part in s["$ref"].lstrip("#/").split("/"):
                at = at[part]
            s = at
        return s

    def value(s):
        s = resolve(s)
        for many in ("oneOf", "anyOf"):
            if many in s:
                return value(s[many][0])
        if "enum" in s:
            return s["enum"][0]
        if "const" in s:
            return s["const"]
        kind = s.get("type", "object")
        kind = kind[0] if isinstance(kind, list) else kind
        return {"string": "x", "integer": s.get("minimum", 1), "number": 1, "boolean": True, "array": [], "null": None}.get(
            kind, {k: value(v) for k, v in s.get("properties", {}).items() if k in s.get("required", [])})
    content = resolve(spec.get("requestBody", {})).get("content", {})
    return value(content["application/json"]["schema"]) if "application/json" in content else None


def send(berth, token, method, path, spec, **kwargs):
    content = spec.get("requestBody", {}).get("content", {})
    body = body_of(spec)
    if "multipart/form-data" in content:
        kwargs["files"] = {"file": ("x.txt", b"x")}
    elif body is not None:
        kwargs["json"] = body
    elif content:
        kwargs["data"] = b"x"
        kwargs.setdefault("headers", {})["Content-Type"] = next(iter(content))
    headers = {"Authorization": f"Bearer {token}", **kwargs.pop("headers", {})}
    return requests.request(method.upper(), berth.url(path), headers=headers, timeout=20, **kwargs)


def test_the_list_is_whole():
    assert len(OPERATIONS) > 60
    kinds = {p.split("/")[1] for _, p, _ in OPERATIONS}
    assert {"sessions", "documents", "agents", "events", "download", "tokens", "audit"} <= kinds


WITH_IDS = [(m, p, s) for m, p, s in OPERATIONS if "{" in p and p not in HOST]


@pytest.mark.parametrize("method,path,spec", WITH_IDS, ids=[f"{m} {p}" for m, p, _ in WITH_IDS])
def test_another_tenants_ids_do_not_exist(berth, two, method, path, spec):
    """The same answer as for an id that nobody has, and nothing of the other in it."""
    a, b = two
    headers = {"Accept": "text/event-stream"} if path.endswith("/stream") else {}
    token = b.admin if path in ADMIN else b.token
    foreign = send(berth, token, method, filled(a, path), spec, headers=dict(headers))
    text = foreign.text
    if foreign.status_code in (400, 415, 426):
        # Refused before the id was looked at (the body we made up, no WebSocket): the unknown id must be refused the same way.
        unknown = send(berth, token, method, filled(Nobody, path), spec, headers=dict(headers))
        assert unknown.status_code == foreign.status_code and re.sub(r"[0-9a-f-]{36}", "", unknown.text) == re.sub(r"[0-9a-f-]{36}", "", text)
    else:
        assert foreign.status_code == 404, (foreign.status_code, text[:300])
    for asked in (a.user, a.token_id, a.agent, a.session, a.document, a.volume):  # our own words may come back
        text = text.replace(asked, "")
    assert a.mark not in text and "iso-a" not in text
    # And it did nothing.
    assert a.call("GET", f"/sessions/{a.session}", 200).json()["session_name"] == a.mark
    assert a.call("GET", f"/documents/{a.document}/metadata", 200).json()["filename"] == f"{a.mark}.txt"
    assert a.call("GET", f"/agents/{a.agent}", 200).json()["status"] == "active"
    of_a = {"headers": {"Authorization": f"Bearer {a.admin}"}}
    assert [u["role"] for u in a.call("GET", "/users", 200, **of_a).json()["users"] if u["name"] == a.user] == ["operator"]
    assert a.token_id in [t["token_id"] for t in a.call("GET", "/tokens", 200, **of_a).json()["tokens"] if not t.get("revoked_at")]


class Nobody:
    session, document, agent, volume = "nobody", "00000000-0000-7000-8000-000000000000", "nobody", "dataset-volume-nobody"
    user, token_id = "nobody", "00000000-0000-7000-8000-000000000000"


LISTS = [(m, p, s) for m, p, s in OPERATIONS if m == "get" and "{" not in p and p not in PUBLIC | STREAMS | {"/audit/verify"}]


@pytest.mark.parametrize("method,path,spec", LISTS, ids=[p for _, p, _ in LISTS])
@pytest.mark.parametrize("role", ["operator", "admin"])
def test_lists_hold_nothing_of_others(berth, two, method, path, spec, role):
    a, b = two
    token = b.token if role == "operator" else make_token(berth, "admin", "iso-b")
    query = {"q": a.mark} if path in ("/documents",) else {"session_id": a.session} if path in ("/log",) else {}
    for params in ({}, query):
        reply = requests.get(berth.url(path), headers={"Authorization": f"Bearer {token}"}, params=params, timeout=20)
        for foreign in (a.mark, a.session, a.document, a.volume, a.upload_session, "iso-a"):
            # What we asked for ourselves may be quoted in a refusal.
            assert foreign not in reply.text.replace(str(params.get("session_id")), ""), (path, foreign)


def test_references_to_others_are_unknown(berth, two):
    """Ids in bodies and queries."""
    a, b = two
    for method, path, body in (
            ("POST", "/sessions", {"kind": "headless", "parent_session_id": a.session}),
            ("POST", f"/documents/{b.document}/relations", {"document_id": a.document, "kind": "related"}),
            ("POST", "/log", {"session_id": a.session, "level": "info", "message": "x"}),
            ("POST", "/events", {"session_id": a.session, "event_type": "log", "message": "x"})):
        reply = b.call(method, path, json=body)
        assert reply.status_code in (400, 404, 409, 422), (path, reply.status_code, reply.text)
        assert a.mark not in reply.text
    assert b.call("GET", "/stream", params={"session_id": a.session}, headers={"Accept": "text/event-stream"}).status_code == 404
    assert b.call("GET", f"/documents?q={a.mark}", 200).json()["documents"] == []
    assert b.call("GET", f"/sessions?q={a.mark}", 200).json()["sessions"] == []
    assert a.session not in b.call("GET", "/events?after=0&limit=1000", 200).text
    events = a.call("GET", f"/events/{a.session}", 200).json()["events"]
    assert [e["event_type"] for e in events].count("log") == 1, "nothing was added by the other"
    # The same name of an agent, key or volume in two tenants is two things.
    b.call("POST", "/agents", 201, json={"name": a.agent, "description": "mine"})
    assert a.call("GET", f"/agents/{a.agent}", 200).json()["description"] == a.mark
    key = {"Idempotency-Key": "the-same"}
    assert a.call("POST", "/sessions", 201, json={"kind": "external"}, headers=key).json()["session_id"] != \
        b.call("POST", "/sessions", 201, json={"kind": "external"}, headers=key).json()["session_id"]


def test_streams_are_filtered_by_the_server(berth, two):
    """/ws of one tenant while the other works: init, events, updates and deletions, also when the session is named."""
    a, b = two

    async def run():
        ws = await websockets.connect(berth.url("/ws?after=0").replace("http", "ws"), extra_headers={"Authorization": f"Bearer {b.token}"}, max_size=None)
        await ws.send(json.dumps({"type": "subscribe", "sessions": [a.session], "deltas": True}))
        await ws.send(json.dumps({"type": "subscribe", "sessions": "*", "deltas": True}))
        loop = asyncio.get_running_loop()

        def work(who):
            made = who.call("POST", "/sessions", 201, json={"kind": "external", "session_name": who.mark + "-live"}).json()["session_id"]
            who.call("POST", "/events", 201, json=[{"session_id": made, "event_type": "session_start"}, {"session_id": made, "event_type": "log", "message": who.mark}])
            who.call("DELETE", f"/sessions/{made}", 204)
            return made
        foreign = await loop.run_in_executor(None, work, a)
        own = await loop.run_in_executor(None, work, b)
        seen = []
        while not any("session_deleted" in m and own in m for m in seen):
            seen.append(await asyncio.wait_for(ws.recv(), 20))
        await ws.close()
        return "".join(seen), foreign, own
    text, foreign, own = asyncio.run(run())
    assert own in text and foreign not in text and a.mark not in text and a.session not in text
    for path in (f"/sessions/{a.session}/stream", f"/sessions/{a.session}/vnc", f"/sessions/{a.session}/terminal"):
        async def refused(path=path):
            with pytest.raises(websockets.InvalidStatusCode) as e:
                await websockets.connect(berth.url(path).replace("http", "ws"), extra_headers={"Authorization": f"Bearer {b.token}"})
            return e.value.status_code
        assert asyncio.run(refused()) == 404
    ticket = b.call("POST", "/tickets", 201).json()["ticket"]
    assert requests.get(berth.url(f"/sessions/{a.session}/stream"), params={"token": ticket}, headers={"Accept": "text/event-stream"}, timeout=10).status_code == 404


# ---- roles ----

ADMIN = {"/tokens", "/tokens/{id}", "/users", "/users/{name}", "/tenants", "/tenants/{name}", "/audit", "/audit/verify", "/workers/{id}/drain"}


def least_role(method, path):
    if path in PUBLIC:
        return 0
    if path == "/metrics":
        return 3  # the installation's figures: for tokens of the tenant default
    if path in ADMIN or (path == "/budgets" and method != "get"):
        return 3
    if path == "/sessions/{id}/clipboard":
        return 2  # what the one who drives may take out of the desktop
    return 2 if method != "get" and path not in READING_POSTS else 1


@pytest.fixture(scope="module")
def tokens(berth, two):
    return {"none": None, "viewer": make_token(berth, "viewer", "iso-b"), "operator": make_token(berth, "operator", "iso-b"),
            "admin": make_token(berth, "admin", "default")}


@pytest.mark.parametrize("method,path,spec", OPERATIONS, ids=[f"{m} {p}" for m, p, _ in OPERATIONS])
def test_every_route_with_every_role(berth, two, tokens, method, path, spec):
    """No token: 401. Too little: 403, before anything is looked up. Enough: anything but these."""
    need = least_role(method, path)
    for rank, (role, token) in enumerate(tokens.items()):
        if rank >= need and (role != "none" or path in STREAMS):
            if rank > need or path in STREAMS or method != "get":
                continue  # that they may is shown everywhere else; here each GET once with its least role
        headers = {"Accept": "text/event-stream"}
        reply = requests.request(method.upper(), berth.url(filled(Nobody, path)), timeout=20, headers={**headers, **({"Authorization": f"Bearer {token}"} if token else {})},
                                 stream=True)
        reply.close()
        if role == "none":
            assert (reply.status_code == 401) == (need > 0), (role, reply.status_code)
        elif rank < need:
            assert reply.status_code == 403, (role, reply.status_code, reply.text[:200])
        else:
            assert reply.status_code not in (401, 403), (role, reply.status_code)
