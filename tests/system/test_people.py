"""Tokens, users, tenants: made, narrowed, revoked; limits of rate; the audit log with its chain."""
import asyncio
import json
import os
import subprocess
import time

import pytest
import requests
import websockets

from conftest import BUILD, Berth, wait_until
from tenants import make_token


@pytest.fixture(scope="module")
def admin(berth):
    return berth


def bearer(berth, token, method, path, **kwargs):
    return requests.request(method, berth.url(path), headers={"Authorization": f"Bearer {token}"}, timeout=15, **kwargs)


def audit(berth, **query):
    return berth.call("GET", "/audit", 200, params=query).json()["audit"]


def row_of(berth, request_id):
    rows = []

    def look():
        rows[:] = audit(berth, request_id=request_id)
        return rows
    wait_until(look, 15, "the act's row in the audit log")
    assert len(rows) == 1, rows
    return rows[0]


def test_a_token_from_birth_to_revocation(berth):
    made = berth.call("POST", "/tokens", 201, json={"name": "ci", "role": "operator"})
    token, token_id = made.json()["token"], made.json()["token_id"]
    assert token.startswith("bt_") and len(token) == 46
    assert row_of(berth, made.headers["X-Request-Id"])["action"] == "POST /tokens"
    assert bearer(berth, token, "GET", "/me").json() == {"tenant": "default", "name": "ci", "role": "operator", "scoped": False, "installation": False,
                                                        "token_id": token_id}
    assert bearer(berth, token, "GET", "/tokens").status_code == 403
    listed = {t["token_id"]: t for t in berth.call("GET", "/tokens", 200, params={"limit": 1000}).json()["tokens"]}
    assert listed[token_id]["name"] == "ci" and "token" not in listed[token_id] and token not in json.dumps(listed)
    wait_until(lambda: {t["token_id"]: t for t in berth.call("GET", "/tokens", 200, params={"limit": 1000}).json()["tokens"]}[token_id]["last_used_at"],
               40, "the last use of the token")
    berth.call("DELETE", f"/tokens/{token_id}", 204)
    wait_until(lambda: bearer(berth, token, "GET", "/me").status_code == 401, 5, "the revoked token to be refused")
    berth.call("DELETE", f"/tokens/{token_id}", 404)
    stored = berth.sql("SELECT string_agg(a::text, '') FROM core.auth_token a")
    assert token not in stored and token[3:20] not in stored


def test_revoking_ends_streams_within_5_seconds(berth):
    async def run(bus):
        made = berth.call("POST", "/tokens", 201, json={"name": "watcher", "role": "viewer"}).json()
        session = berth.call("POST", "/sessions", 201, json={"kind": "external"}).json()["session_id"]
        head = {"Authorization": f"Bearer {made['token']}"}
        ws = await websockets.connect(berth.url("/ws").replace("http", "ws"), extra_headers=head)
        await ws.recv()
        stream = requests.get(berth.url(f"/sessions/{session}/stream"), headers={**head, "Accept": "text/event-stream"}, stream=True, timeout=15)
        if bus:
            berth.call("DELETE", f"/tokens/{made['token_id']}", 204)
        else:  # as if the notice on the bus had been lost
            berth.sql(f"UPDATE core.auth_token SET revoked_at = now() WHERE token_id = '{made['token_id']}'")
        began = time.monotonic()
        with pytest.raises(websockets.ConnectionClosed):
            while True:
                await asyncio.wait_for(ws.recv(), 10)
        assert ws.close_code == 1008
        for _ in stream.iter_content(4096):
            pass
        return time.monotonic() - began
    for bus in (True, False):
        assert asyncio.run(run(bus)) < 5.5  # 5 s and the test's own slack


def test_users_carry_their_tokens(berth):
    berth.call("POST", "/users", 201, json={"name": "ann@example.org", "role": "operator"})
    berth.call("POST", "/users", 409, json={"name": "ann@example.org"})
    berth.call("POST", "/tokens", 404, json={"name": "x", "user_name": "nobody"})
    made = berth.call("POST", "/tokens", 201, json={"name": "laptop", "role": "admin", "user_name": "ann@example.org"}).json()
    me = bearer(berth, made["token"], "GET", "/me").json()
    assert me["role"] == "operator" and me["name"] == "ann@example.org", "never more than the user"
    berth.call("PATCH", "/users/ann@example.org", 200, json={"role": "viewer"})
    wait_until(lambda: bearer(berth, made["token"], "GET", "/me").json().get("role") == "viewer", 5, "the user's new role")
    berth.call("PATCH", "/users/ann@example.org", 200, json={"disabled": True})
    wait_until(lambda: bearer(berth, made["token"], "GET", "/me").status_code == 401, 5, "a disabled user's token")
    berth.call("PATCH", "/users/ann@example.org", 200, json={"disabled": False})
    wait_until(lambda: bearer(berth, made["token"], "GET", "/me").status_code == 200, 5, "the user again")
    berth.call("DELETE", "/users/ann@example.org", 204)
    berth.call("DELETE", "/users/ann@example.org", 404)
    wait_until(lambda: bearer(berth, made["token"], "GET", "/me").status_code == 401, 5, "a deleted user's token")
    assert "ann@example.org" not in {u["name"] for u in berth.call("GET", "/users", 200).json()["users"]}


def test_tenants(berth):
    assert berth.call("POST", "/tenants", 201, json={"name": "acme", "limits": {"slots": 3}}).json()["limits"] == {"slots": 3}
    berth.call("POST", "/tenants", 409, json={"name": "acme"})
    made = berth.call("POST", "/tokens", 201, json={"name": "boss", "role": "admin", "tenant": "acme"}).json()
    boss = made["token"]
    assert bearer(berth, boss, "GET", "/me").json()["installation"] is False
    # An admin of a tenant manages its people, and neither other tenants nor the installation.
    assert bearer(berth, boss, "POST", "/users", json={"name": "bob"}).status_code == 201
    assert [t["name"] for t in bearer(berth, boss, "GET", "/tokens").json()["tokens"]] == ["boss"]
    for method, path, body in (("GET", "/tenants", None), ("POST", "/tenants", {"name": "more"}), ("POST", "/tokens", {"name": "x", "tenant": "default"}),
                               ("GET", "/tokens?tenant=default", None), ("DELETE", "/tenants/default", None), ("GET", "/audit?tenant=default", None),
                               ("GET", "/audit?tenant=*", None), ("GET", "/audit/verify", None), ("POST", "/workers/1/drain", None)):
        assert bearer(berth, boss, method, path, json=body).status_code == 403, path
    assert {r["tenant"] for r in bearer(berth, boss, "GET", "/audit").json()["audit"]} == {"acme"}
    assert berth.call("PATCH", "/tenants/acme", 200, json={"limits": {"slots": None, "sessions_live": 1}}).json()["limits"] == {"sessions_live": 1}
    berth.call("DELETE", "/tenants/acme", 204)
    wait_until(lambda: bearer(berth, boss, "GET", "/me").status_code == 401, 5, "a disabled tenant's token")
    berth.call("PATCH", "/tenants/acme", 200, json={"disabled": False})
    wait_until(lambda: bearer(berth, boss, "GET", "/me").status_code == 200, 5, "the tenant again")


def test_nobody_locks_everybody_out(berth):
    mine = berth.call("GET", "/me", 200).json()["token_id"]
    berth.sql(f"UPDATE core.auth_token SET revoked_at = now() WHERE tenant = 'default' AND role = 'admin' AND token_id <> '{mine}' AND revoked_at IS NULL")
    assert "last" in berth.call("DELETE", f"/tokens/{mine}", 409).json()["error"]["message"]
    berth.call("DELETE", "/tenants/default", 409)
    berth.call("GET", "/me", 200)


def test_scopes_narrow(berth):
    def make(*scopes, role="admin"):
        return berth.call("POST", "/tokens", 201, json={"name": "scoped", "role": role, "scopes": list(scopes)}).json()["token"]
    reader, writer, admin = make("sessions:read"), make("documents:write", "sessions:read"), make("system:write")
    for token, method, path, status in (
            (reader, "GET", "/sessions", 200), (reader, "GET", "/documents", 403), (reader, "POST", "/sessions", 403), (reader, "GET", "/tokens", 403),
            (reader, "POST", "/tickets", 201), (writer, "GET", "/documents", 200), (writer, "DELETE", "/documents/00000000-0000-0000-0000-000000000000", 404),
            (writer, "POST", "/agents", 403), (admin, "GET", "/tokens", 200), (admin, "GET", "/sessions", 403), (admin, "GET", "/tenants", 403)):
        assert bearer(berth, token, method, path).status_code == status, (method, path)
    # A narrow token gives no wider one.
    for body in ({"name": "wide"}, {"name": "wide", "scopes": ["sessions:write"]}, {"name": "wide", "scopes": ["system:write", "agents:read"]}):
        assert bearer(berth, admin, "POST", "/tokens", json=body).status_code == 400
    assert bearer(berth, admin, "POST", "/tokens", json={"name": "same", "scopes": ["system:read"]}).status_code == 201


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "a b"}, {"name": "-x"}, {"name": "x" * 65}, {"name": "x", "role": "root"}, {"name": "x", "role": "user"},
                                  {"name": "x", "scopes": ["all"]}, {"name": "x", "scopes": "sessions:read"}, {"name": "x", "scopes": [1]},
                                  {"name": "x", "scopes": ["sessions:read"] * 17}, {"name": "x", "expires_at": "soon soon soon"}, {"name": "x", "expires_at": "2001-01-01T00:00:00Z"},
                                  {"name": "x", "more": 1}, {"name": "x\u0000y"}, {"name": "a'; DROP TABLE core.auth_token; --"}])
def test_bad_tokens_are_refused(berth, body):
    assert berth.call("POST", "/tokens", 400, json=body).json()["error"]["message"]


def test_an_expired_token_is_none(berth):
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    made = berth.call("POST", "/tokens", 201, json={"name": "short", "expires_at": soon}).json()
    assert made["expires_at"]
    wait_until(lambda: bearer(berth, made["token"], "GET", "/me").status_code == 401, 12, "the token to expire")


def test_tickets(berth):
    session = berth.call("POST", "/sessions", 201, json={"kind": "external"}).json()["session_id"]
    path = f"/sessions/{session}/attachments/{'0' * 64}"

    def use(ticket, where=path):
        return requests.get(berth.url(where), params={"token": ticket}, timeout=15).status_code

    def ticket(**body):
        return berth.call("POST", "/tickets", 201, json=body).json()["ticket"]
    one = ticket()
    assert use(one) == 404 and use(one) == 401, "one use"
    bound = ticket(path=path)
    assert use(bound, f"/sessions/{session}/attachments/{'1' * 64}") == 401 and use(bound) == 401, "used up by the wrong place"
    assert use(ticket(path=path)) == 404
    assert use("tk_" + "A" * 43) == 401 and use("") == 401
    made = berth.call("POST", "/tokens", 201, json={"name": "t", "role": "viewer"}).json()
    of_revoked = bearer(berth, made["token"], "POST", "/tickets").json()["ticket"]
    berth.call("DELETE", f"/tokens/{made['token_id']}", 204)
    wait_until(lambda: bearer(berth, made["token"], "GET", "/me").status_code == 401, 5, "revoked")
    assert use(of_revoked) == 401, "a ticket is worth what its token is"
    berth.call("POST", "/tickets", 400, json={"path": 1})


def test_berthctl(berth):
    def ctl(*args, code=0):
        out = subprocess.run([str(BUILD / "berthctl" / "berthctl"), *args], capture_output=True, text=True, timeout=30,
                             env={"PATH": os.environ["PATH"], "BERTH_URL": berth.stack.url, "BERTH_TOKEN": berth.stack.token, "LANG": "C.UTF-8"})
        assert out.returncode == code, (args, out)
        return out.stdout + (out.stderr if code else "")
    ctl("tenants", "create", "ctl")
    ctl("tenants", "limit", "ctl", "slots", "2")
    assert " 2 " in next(line for line in ctl("tenants").splitlines() if line.startswith("ctl")) + " "
    ctl("users", "create", "eve", "viewer")
    ctl("users", "role", "eve", "operator")
    secret = ctl("tokens", "create", "script", "viewer", "sessions:read", "user=eve").strip()
    assert bearer(berth, secret, "GET", "/sessions").status_code == 200 and bearer(berth, secret, "GET", "/documents").status_code == 403
    token_id = next(line.split()[0] for line in ctl("tokens", "list").splitlines() if " script " in line)
    ctl("tokens", "revoke", token_id)
    ctl("users", "disable", "eve")
    ctl("users", "delete", "eve")
    assert "POST /tokens" in ctl("audit") and "POST /tokens" in ctl("audit", "admin")
    assert "the chain is whole" in ctl("audit", "verify")
    for args in (("tokens", "create"), ("tokens", "x"), ("users", "role", "x"), ("tenants", "limit", "ctl", "slots", "many"), ("audit", "a", "b")):
        assert "usage" in ctl(*args, code=2)
    assert "no user" in ctl("users", "delete", "nobody", code=1)


# ---- audit ----

def test_every_act_has_one_row(berth):
    """Through coordinatord in the act's own commit, through docserverd by message: one row each, with who, what, where, when."""
    session = berth.call("POST", "/sessions", 201, json={"kind": "external", "session_name": "audited"})
    sid = session.json()["session_id"]
    doc = berth.call("POST", "/documents", 201, files={"file": ("a.txt", b"x")})
    did = doc.json()["id"]
    acts = [(session, "POST /sessions", sid), (doc, "POST /documents", "/documents"),
            (berth.call("PATCH", f"/sessions/{sid}/metadata", 200, json={"session_name": "b"}), "PATCH /sessions/{id}/metadata", sid),
            (berth.call("POST", "/agents", 201, json={"name": "audited"}), "POST /agents", None),
            (berth.call("DELETE", "/agents/audited", 204), "DELETE /agents/{name}", None),
            (berth.call("PATCH", f"/documents/{did}", 200, json={"tags": ["t"]}), "PATCH /documents/{id}", f"/documents/{did}"),
            (berth.call("DELETE", f"/documents/{did}", 204), "DELETE /documents/{id}", f"/documents/{did}"),
            (berth.call("DELETE", f"/sessions/{sid}", 204), "DELETE /sessions/{id}", sid)]
    for reply, action, target in acts:
        row = row_of(berth, reply.headers["X-Request-Id"])
        assert row["action"] == action and row["result"] == "ok" and row["actor"] == "admin" and row["address"] == "127.0.0.1", row
        assert row["tenant"] == "default" and (target is None or row["target"] == target) and row["timestamp"] and len(row["hash"]) == 64
    # Reading, and what failed, are no acts.
    for reply in (berth.call("GET", "/sessions"), berth.call("DELETE", f"/sessions/{sid}", 404), berth.call("POST", "/sessions", 400, json={"x": 1})):
        assert audit(berth, request_id=reply.headers["X-Request-Id"]) == []
    # The same Idempotency-Key again is no second act.
    key = {"Idempotency-Key": f"audit-{time.time()}"}
    first, second = (berth.call("POST", "/sessions", json={"kind": "external"}, headers=key) for _ in range(2))
    assert first.json()["session_id"] == second.json()["session_id"]
    row_of(berth, first.headers["X-Request-Id"])
    assert audit(berth, request_id=second.headers["X-Request-Id"]) == []


def test_draining_a_worker_is_recorded_with_it():
    """The act and its row are one transaction: where no row can be stored, nothing is drained."""
    berth = Berth(workers=1, kind="headless")
    try:
        berth.start()
        draining = lambda: berth.sql("SELECT draining FROM core.worker WHERE worker_id = '1'")
        berth.sql("ALTER TABLE core.audit ADD CONSTRAINT none CHECK (action NOT LIKE '%drain%') NOT VALID")
        berth.call("POST", "/workers/1/drain", 503)
        assert draining() == "f"
        berth.sql("ALTER TABLE core.audit DROP CONSTRAINT none")
        reply = berth.call("POST", "/workers/1/drain", 204)
        assert draining() == "t"
        row = row_of(berth, reply.headers["X-Request-Id"])
        assert (row["action"], row["target"], row["result"]) == ("POST /workers/{id}/drain", "1", "ok")
    finally:
        berth.close()


def test_refusals_are_recorded(berth):
    viewer = make_token(berth, "viewer", "default", "peeping")
    denied = bearer(berth, viewer, "POST", "/sessions", json={})
    wrong = bearer(berth, "bt_" + "x" * 43, "GET", "/sessions")
    assert denied.status_code == 403 and wrong.status_code == 401
    row = row_of(berth, denied.headers["X-Request-Id"])
    assert row["actor"] == "peeping" and row["result"] == "forbidden"
    row = row_of(berth, wrong.headers["X-Request-Id"])
    assert row["actor"] == "" and row["result"] == "unauthorized" and row["address"] == "127.0.0.1"


def test_the_chain_shows_every_change(berth):
    def verify():
        after, total = 0, 0
        while True:
            step = berth.call("GET", "/audit/verify", 200, params={"after": after}).json()
            total += step["checked"]
            if step["done"]:
                return step["ok"], step["bad_seq"], step["why"], total
            after = step["last_seq"]
    for i in range(3):
        berth.call("POST", "/users", 201, json={"name": f"chain{i}"})
        berth.call("DELETE", f"/users/chain{i}", 204)
    ok, _, _, total = verify()
    assert ok and total >= 6
    low, high = (int(x) for x in berth.sql("SELECT max(seq) - 3, max(seq) FROM core.audit").split("|"))
    for change in (f"UPDATE core.audit SET actor = 'x' WHERE seq = {low}", f"DELETE FROM core.audit WHERE seq = {low}"):
        with pytest.raises(Exception):
            berth.sql(change)  # even for the superuser, unless the trigger is switched off
    for change, undo, seq, why in (
            (f"UPDATE core.audit SET actor = 'forged' WHERE seq = {low}", f"UPDATE core.audit SET actor = 'admin' WHERE seq = {low}", low, "changed"),
            (f"CREATE TABLE public.kept AS SELECT * FROM core.audit WHERE seq = {low}; DELETE FROM core.audit WHERE seq = {low}",
             "INSERT INTO core.audit SELECT * FROM public.kept; DROP TABLE public.kept", low, "missing"),
            (f"CREATE TABLE public.kept AS SELECT * FROM core.audit WHERE seq = {high}; DELETE FROM core.audit WHERE seq = {high}",
             "INSERT INTO core.audit SELECT * FROM public.kept; DROP TABLE public.kept", high, "newest")):
        switch = "SET session_replication_role = replica;"
        berth.sql(switch + change)
        ok, bad, text, _ = verify()
        berth.sql(switch + undo)
        assert not ok and bad == seq and why in text, (change, bad, text)
    assert verify()[0]


def test_days_are_dropped_and_the_chain_goes_on(berth):
    """Day 89, 90 and 91 of 90: by the function that upkeep calls each hour with audit_keep."""
    parts = "SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'core.audit'::regclass"
    today = berth.sql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM_DD')")
    assert f"audit_{today}" in berth.sql(parts)
    names = {}
    for days in (89, 90, 91):
        berth.sql(f"SET ROLE berth_coordinatord; SELECT core.audit_partition_add((now() AT TIME ZONE 'UTC')::date - {days})")
        names[days] = berth.sql(f"SELECT 'audit_' || to_char((now() AT TIME ZONE 'UTC')::date - {days}, 'YYYY_MM_DD')")
    expire = "SELECT core.audit_expire((now() AT TIME ZONE 'UTC' - 90 * 86400 * interval '1 second')::date)"
    assert berth.sql(expire) == "t" and berth.sql(expire) == "f"
    left = berth.sql(parts)
    assert names[91] not in left and names[90] in left and names[89] in left
    # The oldest rows go with their day: what follows still verifies.
    berth.sql("SELECT core.audit_expire((now() AT TIME ZONE 'UTC')::date + 1)")
    berth.sql("SELECT core.audit_expire((now() AT TIME ZONE 'UTC')::date + 1)")
    berth.sql(f"SET ROLE berth_coordinatord; SELECT core.audit_expire((now() AT TIME ZONE 'UTC')::date + 1); SELECT core.audit_partition_add((now() AT TIME ZONE 'UTC')::date)")
    berth.call("POST", "/users", 201, json={"name": "after"})
    berth.call("DELETE", "/users/after", 204)
    step = berth.call("GET", "/audit/verify", 200).json()
    assert step["ok"] and step["done"] and step["checked"] >= 2, step


def test_the_log_survives_its_writer(own_berth):
    """Rows of docserverd's acts wait while coordinatord is away; each is there once."""
    berth = own_berth(workers=1)
    berth.kill("coordinatord", restart=False)
    ids = []
    for i in range(5):
        reply = berth.call("POST", "/documents", files={"file": (f"{i}.txt", b"x")})
        assert reply.status_code == 201, reply.text
        ids.append(reply.headers["X-Request-Id"])
    berth.stack.start(berth.stack.services["coordinatord"])
    berth.wait_ready()
    for request_id in ids:
        row_of(berth, request_id)
    step = berth.call("GET", "/audit/verify", 200).json()
    assert step["ok"] and step["done"]


# ---- limits ----

def test_requests_are_limited_by_rate(own_berth):
    berth = own_berth(workers=1, settings={"gatewayd": {"requests_per_second": 20, "requests_burst": 40, "expensive_per_second": 2, "expensive_burst": 4,
                                                        "failures_per_second": 1, "failures_burst": 5, "trusted_proxies": "127.0.0.0/8"}})
    one, other = make_token(berth, "operator", "default", "one"), make_token(berth, "operator", "default", "other")
    first = bearer(berth, one, "GET", "/me")
    assert first.headers["RateLimit-Limit"] == "40" and int(first.headers["RateLimit-Remaining"]) < 40 and int(first.headers["RateLimit-Reset"]) >= 1
    codes = [bearer(berth, one, "GET", "/me") for _ in range(80)]
    limited = [r for r in codes if r.status_code == 429]
    assert limited and 35 <= len(codes) - len(limited) <= 75
    assert int(limited[0].headers["Retry-After"]) >= 1 and limited[0].json()["error"]["code"] == "rate_limited" and limited[0].headers["RateLimit-Remaining"] == "0"
    assert bearer(berth, other, "GET", "/me").status_code == 200, "others are not held up"
    wait_until(lambda: bearer(berth, one, "GET", "/me").status_code == 200, 10, "the rate to come back")
    made = [bearer(berth, other, "POST", "/sessions", json={"kind": "external"}).status_code for _ in range(8)]
    assert 4 <= made.count(201) <= 7 and made.count(429) == 8 - made.count(201)
    # Login guesses, by the client's address, which a trusted proxy tells.
    def guess(address):
        return requests.get(berth.url("/me"), headers={"Authorization": "Bearer bt_" + "y" * 43, "X-Forwarded-For": f"6.6.6.6, {address}"}, timeout=10)
    wait_until(lambda: guess("203.0.113.9").status_code == 429, 20, "guesses to be refused")
    assert guess("203.0.113.10").status_code == 401, "another address"
    good = requests.get(berth.url("/me"), headers={"Authorization": f"Bearer {other}", "X-Forwarded-For": "203.0.113.11"}, timeout=10)
    assert good.status_code == 200
    wait_until(lambda: audit(berth, address="203.0.113.9"), 15, "the guesses in the audit log")


def test_a_tenant_has_its_share(own_berth):
    """One tenant's many sessions do not hold up the other's one; its limits hold and say what to do."""
    berth = own_berth(workers=2)
    many, few = make_token(berth, "operator", "many"), make_token(berth, "operator", "few")
    berth.call("PATCH", "/tenants/many", 200, json={"limits": {"slots": 1, "sessions_live": 3}})
    slow = "SCRIPT: " + json.dumps([{"tools": [["bash", {"command": "sleep 600"}]]}])

    def start(token):
        return bearer(berth, token, "POST", "/sessions", json={"kind": "headless", "message": slow})
    made = [start(many) for _ in range(4)]
    assert [r.status_code for r in made] == [201, 201, 201, 429]
    assert "3 live sessions" in made[3].json()["error"]["message"] and made[3].headers["Retry-After"]

    def states(token):
        return sorted(s["status"] for s in bearer(berth, token, "GET", "/sessions").json()["sessions"])
    wait_until(lambda: states(many) == ["queued", "queued", "running"], 30, lambda: f"one slot for many: {states(many)}")
    one = start(few)
    assert one.status_code == 201
    wait_until(lambda: states(few) == ["running"], 30, "the other tenant's session to run")
    # Without the limit of slots, the next free slot goes to who holds fewer.
    berth.call("PATCH", "/tenants/many", 200, json={"limits": {"slots": None, "sessions_live": None}})
    waiting = start(few).json()["session_id"]
    running = next(s["session_id"] for s in bearer(berth, few, "GET", "/sessions").json()["sessions"] if s["status"] == "running")
    bearer(berth, few, "POST", f"/sessions/{running}/stop")
    wait_until(lambda: bearer(berth, few, "GET", f"/sessions/{waiting}").json()["status"] == "running", 30, "the tenant without a slot to get the free one")
    assert states(many) == ["queued", "queued", "running"]
