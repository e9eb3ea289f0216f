"""Property 8, monitoring and logging: every operation leaves a line in the log, a count and, where it is an act, a row in the audit log;
every error says what it is about. Generated from a fixed seed; what is expected is known from the operation alone, never from the answer."""
import json
import random
import re
import urllib.parse
import uuid
from collections import Counter

import pytest
import requests

from conftest import Berth, wait_until
from tenants import Tenant, make_token
from test_tenant_isolation import OPERATIONS, PUBLIC, filled, send
from test_metrics import parse, total

CASES = 150
LINE = re.compile(r"^\S+Z gatewayd (debug|info|warning) \[PEER=127\.0\.0\.1 TENANT=(\S+) REQUEST=(\S+)(?: SESSION=\S+)?\] ([A-Z]+) (.*) by (\S+): (\d{3}) in \d+\.\d{3} ms$")


@pytest.fixture(scope="module")
def stack():
    berth = Berth(workers=1, settings={name: {"log_level": "debug"} for name in ("gatewayd", "coordinatord", "docserverd", "workerd")})
    try:
        yield berth.start()
    finally:
        berth.close()


class World:
    """What there is, and operations on it: (method, pattern, path, status, keyword arguments)."""

    def __init__(self, rng, berth):
        self.rng, self.berth = rng, berth
        self.sessions, self.agents, self.documents = [], [], []
        self.viewer = make_token(berth, "viewer", "default", "onlooker")

    def session(self):
        if not self.sessions or self.rng.random() < 0.2:
            self.sessions.append(self.berth.call("POST", "/sessions", 201, json={"kind": "external"}).json()["session_id"])
        return self.rng.choice(self.sessions)

    def document(self):
        if not self.documents:
            self.documents.append(self.berth.call("POST", "/documents", 201, files={"file": ("p.txt", b"p")}).json()["id"])
        return self.documents[0]

    def operation(self, number):
        rng, unknown, name = self.rng, str(uuid.UUID(int=self.rng.getrandbits(128))), f"p8-{number}"
        session = self.session()
        match number % 20:
            case 0: return "POST", "/sessions", "/sessions", 201, {"json": {"kind": "external", "session_name": name}}
            case 1: return "GET", "/sessions/{id}", f"/sessions/{session}", 200, {}
            case 2: return "PATCH", "/sessions/{id}/metadata", f"/sessions/{session}/metadata", 200, {"json": {"session_name": name}}
            case 3: return "GET", "/sessions/{id}", f"/sessions/{unknown}", 404, {}
            case 4: return "POST", "/sessions", "/sessions", 400, {"json": {"kind": "balloon"}}
            case 5: return "POST", "/agents", "/agents", 201, {"json": {"name": name, "system_prompt": "x"}}
            case 6: return "GET", "/agents/{name}", f"/agents/{name}", 404, {}
            case 7: return "POST", "/tokens", "/tokens", 201, {"json": {"name": name, "role": "viewer"}}
            case 8: return "PUT", "/sessions/{id}", f"/sessions/{session}", 405, {"json": {}}
            case 9: return "POST", "/documents", "/documents", 201, {"files": {"file": (f"{name}.txt", bytes(rng.randrange(1, 999)))}}
            case 10: return "GET", "/documents/{id}/metadata", f"/documents/{self.document()}/metadata", 200, {}
            case 11: return "DELETE", "/documents/{id}", f"/documents/{unknown}", 404, {}
            case 12: return "GET", "/sessions", "/sessions", 400, {"params": {"limit": "many"}}
            case 13: return "GET", "/status", "/status", 401, {"headers": {"Authorization": "Bearer bt_" + "x" * 43}}
            case 14: return "POST", "/sessions", "/sessions", 403, {"json": {"kind": "external"}, "headers": {"Authorization": f"Bearer {self.viewer}"}}
            case 15: return "POST", "/events", "/events", 201, {"json": [{"session_id": session, "event_type": "log", "level": "info", "message": name}]}
            case 16: return "DELETE", "/sessions/{id}", f"/sessions/{self.sessions.pop(self.sessions.index(session))}", 204, {}
            case 17: return "GET", "none", f"/api/v9/{name}\u00e9%20x", 404, {}
            case 18: return "POST", "/agents", "/agents", 400, {"data": "{", "headers": {"Content-Type": "application/json"}}
            case _: return "GET", "/workers", "/workers", 200, {}


def is_act(method, pattern, status):
    return method != "GET" and pattern not in ("/events", "none") and (status < 300 or status in (401, 403))


def check_error(reply, method, path):
    error = reply.json()["error"]
    assert re.fullmatch("[a-z_]+", error["code"]) and 10 < len(error["message"]) < 512 and re.match("[A-Za-z/]", error["message"]), (method, path, error)
    if error.get("field"):
        assert error["field"] in json.dumps(reply.json())


def settled(berth):
    """The figures once the coordinator's are as new as the newest event."""
    def look():
        series = parse(berth.call("GET", "/metrics", 200).text)
        return series.get("berth_coordinator_cursor") == series["berth_gateway_cursor"] and series
    return wait_until(look, 30, "the coordinator's figures")


def log_lines(berth):
    found = {}
    for line in (berth.folder / "s" / "log" / "gatewayd.log").read_text().splitlines():
        match = LINE.match(line)
        if match:
            assert match[3] not in found, line
            found[match[3]] = match
    return found


def test_property_8_monitoring_and_logging(stack):
    world = World(random.Random(8), stack)
    done, counts = [], Counter()
    plan = []
    for number in range(CASES):
        plan.append(world.operation(number))
    before = parse(stack.call("GET", "/metrics", 200).text)
    for method, pattern, path, status, kwargs in plan:
        headers = {**stack.http.headers, **kwargs.pop("headers", {})}
        reply = requests.request(method, stack.url(path), headers=headers, timeout=15, **kwargs)
        assert reply.status_code == status, (method, path, reply.status_code, reply.text)
        if status >= 400:
            check_error(reply, method, path)
        done.append((reply.headers["X-Request-Id"], method, pattern, path, status))
        counts[("none" if status in (404, 405) and pattern == "none" or status == 405 else pattern, "none" if pattern == "none" or status == 405 else method, status)] += 1
    assert len({d[0] for d in done}) == CASES

    after = parse(stack.call("GET", "/metrics", 200).text)
    for (pattern, method, status), n in counts.items():
        labels = {"route": pattern, "method": method, "status": str(status)}
        assert total(after, "berth_http_requests_total", **labels) - total(before, "berth_http_requests_total", **labels) == n, labels
        if pattern != "none":
            labels.pop("status")
            timed = sum(k for (p, m, _), k in counts.items() if (p, m) == (pattern, method))
            assert total(after, "berth_http_request_duration_seconds_count", **labels) - total(
                before, "berth_http_request_duration_seconds_count", **labels) == timed

    lines = log_lines(stack)
    for request, method, pattern, path, status in done:
        line = lines[request]
        assert (line[4], int(line[7])) == (method, status), line[0]
        assert line[1] == ("info" if method != "GET" and pattern != "/events" and status != 405 else "debug"), line[0]
        assert line[6] == ("nobody" if status in (401, 405) or pattern == "none" else "onlooker" if status == 403 else "admin"), line[0]

    acts = {d[0]: d for d in done if is_act(d[1], d[2], d[4])}
    refused = {d[0]: d for d in done if d[4] in (401, 403)}
    wanted = {**acts, **refused}
    names = "', '".join(wanted)
    wait_until(lambda: int(stack.sql(f"SELECT count(*) FROM core.audit WHERE request_id IN ('{names}')")) >= len(wanted), 30, "the rows of the audit log")
    rows = [r.split("|") for r in stack.sql(f"COPY (SELECT request_id || '|' || action || '|' || result FROM core.audit) TO STDOUT").splitlines()]
    mine = Counter(r[0] for r in rows if r[0] in {d[0] for d in done})
    assert set(mine) == set(wanted) and set(mine.values()) == {1}, set(wanted) ^ set(mine)
    for request, action, result in rows:
        if request in wanted:
            _, method, pattern, _, status = wanted[request]
            assert action == f"{method} {pattern}" and result == {401: "unauthorized", 403: "forbidden"}.get(status, "ok"), (action, result)
    assert stack.call("GET", "/audit/verify", 200).json()["ok"] is True


def test_what_sessions_do_is_logged_and_counted(stack):
    """Every change of a session's state and of a slot is one line with its reason, and one count."""
    before = settled(stack)
    ids = []
    for turns in ([{"text": "a"}], [{"tools": [["bash", {"command": "true"}]]}, {"text": "b"}], [{"status": 400, "text": "no"}]):
        ids.append(stack.create(turns)["session_id"])
        stack.wait_status(ids[-1], "idle", "finished", "failed", seconds=60)
    stack.call("POST", f"/sessions/{ids[0]}/stop", 200)
    log = "".join(line for line in (stack.folder / "s" / "log" / "coordinatord.log").read_text().splitlines(True) if any(i in line for i in ids))
    changes = Counter(re.findall(r"session \S+: (?:new, |\w+ -> )(\w+)", log))
    assert changes["queued"] == 3 and changes["running"] >= 3 and changes["stopped"] == 1, log
    assert len(re.findall(r"session \S+: \w+ -> \w+ \([^)]+", log)) == sum(changes.values()) - 3

    def counted():
        now = parse(stack.call("GET", "/metrics", 200).text)
        grown = {k: v - before.get(k, 0) for k, v in now.items()}
        return all(total(grown, "berth_session_transitions_total", to=to) >= n for to, n in changes.items()) and grown
    grown = wait_until(counted, 30, "the changes in the figures")
    for to, n in changes.items():
        assert total(grown, "berth_session_transitions_total", to=to) == n, to
    assert total(grown, "berth_model_requests_total", result="refused") >= 1
    failed = [s for s in ids if stack.session(s)["status"] == "failed"]
    for session in failed:
        error = stack.session(session)["error"]
        assert error["code"] and error["message"]
    worker = (stack.folder / "s" / "log" / "worker1.log").read_text()
    assert all(i in worker for i in ids)


# What the unit's line in systemctl status says (sd_notify; the same text is in the log at debug).
SAYS = {"gatewayd": r"Listening on \S+: \d+ connections, \d+ following, \d+ requests/s$",
        "coordinatord": r"active: \d+ sessions live, \d+ queued, \d+ with a worker, \d+ events/s$",
        "docserverd": r"Keeping documents in \S+: \d+ being read, .* questions$",
        "worker1": r"slot \w+( with session \S+)?: headless, \d+ processes, \d+ MiB$"}


@pytest.mark.parametrize("name", SAYS)
def test_each_daemon_says_what_it_does(stack, name):
    path = stack.folder / "s" / "log" / f"{name}.log"
    wait_until(lambda: re.search(rf"^\S+Z \w+ debug {SAYS[name]}", path.read_text(errors="replace"), re.M), 30, "the line for systemctl status")


def test_status_tells_versions_queues_lag_and_model(stack):
    def look():
        status = stack.call("GET", "/status", 200).json()
        daemons = {d["name"]: d for d in status["daemons"]}
        return all(d["ok"] and d["version"] == status["version"] for d in daemons.values()) and status["lag_events"] == 0 and daemons
    daemons = wait_until(look, 30, "every daemon's own version, and no lag")
    assert set(daemons) == {"gatewayd", "coordinatord", "docserverd", "workerd@1"}
    assert daemons["workerd@1"]["detail"]["default_model"] == "demo" and daemons["workerd@1"]["detail"]["load"]["processes"] >= 0
    assert {"hub_waiting", "sessions_queued", "requests_waiting"} <= set(daemons["coordinatord"]["detail"])
    assert "database_waiting" in daemons["gatewayd"]["detail"] and "reading" in daemons["docserverd"]["detail"]


# POST that only reads, or that reports what happened elsewhere.
NO_ACTS = {"/events", "/log", "/tickets", "/documents/search", "/documents/ask"}


def test_every_operation_is_seen(stack):
    """Each operation of the description, with what there is and without a token: its line, its count, its row; every refusal says why."""
    owner = Tenant(stack, "default", "admin").furnish()
    plan = [(owner.token, *o) for o in sorted(OPERATIONS, key=lambda o: o[0] == "delete")] + [("bt_" + "n" * 43, *o) for o in OPERATIONS if o[1] not in PUBLIC]
    assert len(plan) >= 150 and len({p[1:3] for p in plan}) == len(OPERATIONS)
    before = parse(stack.call("GET", "/metrics", 200).text)
    done, counts = {}, Counter()
    for token, method, pattern, spec in plan:
        path = filled(owner, pattern)
        reply = send(stack, token, method, path, spec, stream=True, headers={"Accept": "text/event-stream, application/json"})
        status, request = reply.status_code, reply.headers["X-Request-Id"]
        # 429: so many failed logins are slowed down.
        assert (status in (401, 429)) == (token != owner.token) and status not in (500, 404, 405) or token == owner.token and status == 404, (method, pattern, status)
        if status >= 400:
            check_error(reply, method, path)
        reply.close()
        done[request] = (method.upper(), pattern, path, status)
        counts[pattern.replace("{path}", "{path...}"), method.upper(), status] += 1

    def told():
        lines = log_lines(stack)
        return set(done) <= set(lines) and lines
    lines = wait_until(told, 30, lambda: f"lines of {[done[d] for d in set(done) - set(log_lines(stack))]}")
    for request, (method, pattern, path, status) in done.items():
        assert (lines[request][4], int(lines[request][7])) == (method, status), lines[request][0]
        assert lines[request][5] == urllib.parse.unquote(path.partition("?")[0]), lines[request][0]
    after = parse(stack.call("GET", "/metrics", 200).text)
    for (pattern, method, status), n in counts.items():
        if pattern == "/metrics" and status == 200:
            n += 1  # the test's own, before
        labels = {"route": pattern, "method": method, "status": str(status)}
        assert total(after, "berth_http_requests_total", **labels) - total(before, "berth_http_requests_total", **labels) == n, labels
    acts = {r: f"{d[0]} {d[1]}" for r, d in done.items() if d[3] < 300 and d[0] != "GET" and d[1] not in NO_ACTS}
    assert len(acts) >= 15
    names = "', '".join(done)

    def rows():
        return [r.split("|") for r in stack.sql(f"COPY (SELECT request_id || '|' || action || '|' || result FROM core.audit WHERE request_id IN ('{names}')) TO STDOUT").splitlines()]
    wait_until(lambda: {r[0] for r in rows()} >= set(acts), 30, lambda: f"rows of {[acts[a] for a in set(acts) - {r[0] for r in rows()}]}")
    found = rows()
    assert len({r[0] for r in found}) == len(found), "one each"
    for request, action, result in found:
        method, pattern, _, status = done[request]
        assert action == f"{method} {pattern}".replace("{path}", "{path...}") and result == {401: "unauthorized", 403: "forbidden", 429: "rate_limited"}.get(status, "ok"), (action, result)
        assert request in acts or status in (401, 403, 429), (action, status)
    assert sum(r[2] == "unauthorized" for r in found) >= 10, "more of one address are counted, not written"
