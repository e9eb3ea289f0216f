"""OpenTelemetry traces: what a collector is sent, decoded by the protocol's own message types (tests/peers/otlp)."""
import json
import os
import re
import subprocess

import pytest
import requests

from conftest import ROOT, Berth, free_port, wait_until
from test_metrics import read, total

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
INTERNAL, SERVER, CLIENT = 1, 2, 3


class Collector:
    def __init__(self):
        self.port = free_port()
        self.process = None
        self.run()

    def run(self):
        self.process = subprocess.Popen([os.environ.get("BERTH_NODE", "node"), str(ROOT / "tests/peers/otlp/receiver.mjs"), str(self.port)],
                                        stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def get(self, path):
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=10).json()

    def mode(self, **how):
        requests.post(f"http://127.0.0.1:{self.port}/mode", json={"times": 0, **how}, timeout=10)

    def of(self, trace):
        return [s for s in self.get("/spans") if s["trace"] == trace]

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def collector():
    one = Collector()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def traced(collector):
    secret = {"otlp_endpoint": f"http://127.0.0.1:{collector.port}/"}
    berth = Berth(workers=1, settings={d: {**secret} for d in ("gatewayd", "coordinatord", "docserverd")} | {
        "workerd": {**secret, "model_traceparent": "yes"}})
    try:
        yield berth.start()
    finally:
        berth.close()
    assert collector.get("/problems") == []


def trace_of(n):
    return f"{n:032x}"


def post(berth, path, trace, flags="01", **kw):
    reply = berth.http.post(berth.url(path), headers={"traceparent": f"00-{trace}-{SPAN}-{flags}"}, timeout=20, **kw)
    assert reply.ok, reply.text
    return reply.json()


def start(berth, trace, turns, **kw):
    return post(berth, "/sessions", trace, json={"kind": "headless", "message": "SCRIPT: " + json.dumps(turns), **kw})["session_id"]


def complete(collector, trace, *names):
    """All spans of the trace as soon as those are there and every parent is known."""
    def check():
        spans = collector.of(trace)
        known = {s["span"] for s in spans} | {SPAN, None}
        return {s["name"] for s in spans} >= set(names) and all(s["parent"] in known for s in spans) and spans
    return wait_until(check, 30, lambda: f"{names}: {[(s['name'], s['parent']) for s in collector.of(trace)]} {collector.get('/problems')}")


def named(spans, name):
    return [s for s in spans if s["name"] == name]


def above(spans, span):
    """Names from the span up to the client's own."""
    by = {s["span"]: s for s in spans}
    out = []
    while span:
        out.append(span["name"])
        span = by.get(span["parent"])
    return out


def test_a_request_is_followed_to_model_and_tools(traced, collector):
    trace = trace_of(0x1001)
    code = {"language": "python", "code": "print('x' * 10)"}
    session = start(traced, trace, [{"tools": [["bash", {"command": "echo seen > t.txt; (exit 3)"}]], "input_tokens": 70}, {"tools": [["execute_code", code]]},
                                    {"tools": [["bash", {"command": 5}]]}, {"tools": [["document_put", {"path": "t.txt"}]]}, {"text": "done"}])
    traced.wait_status(session, "idle", "finished", seconds=60)
    spans = complete(collector, trace, "POST /sessions", "session_create", "queued", "session", "turn", "chat demo", "execute_tool bash",
                     "execute_tool execute_code", "execute_tool document_put", "event_append", "document_create")
    assert {s["service"] for s in spans} == {"berth-gatewayd", "berth-coordinatord", "berth-workerd", "berth-docserverd"}
    for s in spans:
        assert 0 < int(s["end"]) - int(s["start"]) < 120e9 or s["start"] == s["end"], s
        assert s["resource"]["service.namespace"] == "berth" and s["resource"]["service.version"] and s["resource"]["service.instance.id"]
    root = named(spans, "POST /sessions")[0]
    assert root["parent"] == SPAN and root["kind"] == SERVER and root["service"] == "berth-gatewayd"
    assert root["attributes"]["http.route"] == "/sessions" and root["attributes"]["http.response.status_code"] == 201
    assert root["attributes"]["http.request.method"] == "POST" and root["attributes"]["berth.tenant"] == "default"
    bash, wrong = sorted(named(spans, "execute_tool bash"), key=lambda s: int(s["start"]))
    assert above(spans, bash) == ["execute_tool bash", "turn", "session", "session_create", "POST /sessions"]
    a = bash["attributes"]
    assert (a["code.runtime"], a["code.language"], a["code.sandbox"], a["code.validation_passed"]) == ("local", "bash", "headless", True)
    assert a["code.memory_mb"] > 0 and a["code.tokens_used"] >= 70 and a["process.exit.code"] == 3
    assert a["gen_ai.tool.name"] == "bash" and a["gen_ai.tool.call.id"] and a["session.id"] == session
    assert wrong["attributes"]["code.validation_passed"] is False and (wrong["status"], wrong["message"]) == (2, "invalid_arguments")
    assert named(spans, "execute_tool execute_code")[0]["attributes"]["code.language"] == "python"
    assert "code.language" not in named(spans, "execute_tool document_put")[0]["attributes"]
    assert above(spans, named(spans, "document_create")[0])[:3] == ["document_create", "execute_tool document_put", "turn"]
    turns, calls = named(spans, "turn"), named(spans, "chat demo")
    assert sorted(t["attributes"]["berth.turn"] for t in turns) == [1, 2, 3, 4, 5] and len(calls) == 5
    assert {c["kind"] for c in calls} == {CLIENT} and {c["parent"] for c in calls} == {t["span"] for t in turns}
    assert max(c["attributes"]["gen_ai.usage.input_tokens"] for c in calls) >= 70 and calls[0]["attributes"]["gen_ai.provider.name"] == "anthropic"
    whole = named(spans, "session")[0]
    assert whole["attributes"]["gen_ai.conversation.id"] == session and whole["kind"] == INTERNAL
    for s in [*turns, *calls, bash]:
        assert int(whole["start"]) <= int(s["start"]) + 1000 and int(s["end"]) <= int(whole["end"]) + 1000
    # No text of people, models or tools is in any of it.
    text = json.dumps(spans)
    assert "SCRIPT" not in text and "(exit 3)" not in text and "seen" not in text
    # The trace is in the journal's field and in the text of the lines.
    for daemon in ("gatewayd", "coordinatord", "worker"):
        assert f"TRACE_ID={trace}" in "".join(p.read_text() for p in (traced.folder / "s" / "log").glob(f"{daemon}*.log")), daemon


def test_a_second_message_and_a_child_have_their_place(traced, collector):
    trace, second = trace_of(0x2001), trace_of(0x2002)
    session = start(traced, trace, [{"text": "done"}])
    traced.wait_status(session, "idle", "finished")
    post(traced, f"/sessions/{session}/messages", second, json={"content": "again"})
    spans = complete(collector, second, "POST /sessions/{id}/messages", "message_post", "session", "turn", "chat demo")
    assert above(spans, named(spans, "chat demo")[0]) == ["chat demo", "turn", "session", "message_post", "POST /sessions/{id}/messages"]
    assert named(spans, "POST /sessions/{id}/messages")[0]["attributes"]["session.id"] == session
    assert len(named(complete(collector, trace, "session"), "session")) == 1
    # A session under this one belongs to the tool call that started it.
    third = trace_of(0x2003)
    started = {"message": "look after it"}
    session = start(traced, third, [{"tools": [["session_start", started]]}, {"text": "done"}])
    traced.wait_status(session, "idle", "finished", seconds=60)
    spans = complete(collector, third, "child_start", "execute_tool session_start")
    assert above(spans, named(spans, "child_start")[0])[:3] == ["child_start", "execute_tool session_start", "turn"]


def test_model_calls_are_told_when_so_set_and_their_failures_are_seen(traced, collector):
    trace = trace_of(0x3001)
    session = start(traced, trace, [{"status": 529, "times": 1, "text": "done"}])
    traced.wait_status(session, "idle", "finished")
    spans = complete(collector, trace, "session", "chat demo")
    calls = sorted(named(spans, "chat demo"), key=lambda s: int(s["start"]))
    assert [c["status"] for c in calls] == [2, 0] and calls[0]["attributes"]["http.response.status_code"] == 529 and calls[0]["attributes"]["error.type"]
    assert [c["attributes"]["berth.attempt"] for c in calls] == [1, 2] and len(named(spans, "turn")) == 1
    seen = [r["headers"]["traceparent"] for r in requests.get(f"http://127.0.0.1:{traced.model.server_address[1]}/requests", timeout=10).json() if trace in r["headers"].get("traceparent", "")]
    assert seen == [f"00-{trace}-{c['span']}-01" for c in calls]


def test_who_does_not_want_it_kept_is_not_recorded(traced, collector):
    trace = trace_of(0x4001)
    session = start(traced, trace, [{"text": "done"}])
    quiet = trace_of(0x4002)
    other = post(traced, "/sessions", quiet, "00", json={"kind": "external"})["session_id"]
    for bad in (f"00-{TRACE.upper()}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", "x", f"00-{'0' * 32}-{SPAN}-01"):
        assert traced.http.get(traced.url(f"/sessions/{other}"), headers={"traceparent": bad}, timeout=10).status_code == 200
    assert requests.get(traced.url(f"/sessions/{other}"), headers={"traceparent": f"00-{trace_of(0x4003)}-{SPAN}-01"}, timeout=10).status_code == 401
    complete(collector, trace, "session")

    def own():
        return [s for s in collector.get("/spans") if s["name"] == "GET /sessions/{id}" and s["attributes"].get("session.id") == other]
    spans = wait_until(lambda: len(own()) == 4 and own(), 20, lambda: own())
    assert len({s["trace"] for s in spans}) == 4 and all(s["parent"] is None and s["trace"] not in (TRACE, TRACE.upper()) for s in spans)
    assert collector.of(quiet) == [] and collector.of(trace_of(0x4003)) == []
    assert not any(re.search("GET /(health|ready|metrics)", s["name"]) for s in collector.get("/spans"))
    traced.wait_status(session, "idle", "finished")


def test_a_collector_that_fails_costs_spans_and_nothing_else(traced, collector):
    """503 is tried again and nothing is lost; 400 is not tried again; one that never answers fills the queue, which is bounded."""
    collector.mode(status=503, times=2, retry_after=0)
    trace = trace_of(0x5001)
    for _ in range(3):
        post(traced, "/sessions", trace, json={"kind": "external"})
    wait_until(lambda: len(named(collector.of(trace), "POST /sessions")) == 3, 30, "what a 503 delayed")
    before = read(traced)
    collector.mode(status=400, times=1)
    post(traced, "/sessions", trace_of(0x5002), json={"kind": "external"})
    wait_until(lambda: sum(v for k, v in read(traced).items() if k.startswith("berth_trace_spans_total{") and 'result="dropped"' in k)
               > sum(v for k, v in before.items() if k.startswith("berth_trace_spans_total{") and 'result="dropped"' in k), 30, "the dropped batch in the figures")
    collector.mode(reject=1)
    post(traced, "/sessions", trace_of(0x5003), json={"kind": "external"})
    wait_until(lambda: total(read(traced), "berth_trace_spans_total", process="gatewayd", result="rejected") >= 1, 30, "the rejected span in the figures")
    collector.mode()
    assert total(read(traced), "berth_trace_spans_total", process="gatewayd", result="sent") > 5
    assert total(read(traced), "berth_trace_spans_total", process="workerd", worker="1", result="sent") > 5
    wait_until(lambda: total(read(traced), "berth_trace_spans_total", process="coordinatord", result="sent") > 3, 30, "the coordinator's figures")
    wait_until(lambda: total(read(traced), "berth_trace_spans_total", process="docserverd", result="sent") > 0, 30, "the document store's figures")


def test_a_stopped_collector_and_a_full_queue(tmp_path):
    collector = Collector()
    berth = Berth(workers=1, settings={"gatewayd": {"otlp_endpoint": f"http://127.0.0.1:{collector.port}", "otlp_queue": "64"}})
    try:
        berth.start()
        collector.mode(hang=True)
        for _ in range(200):
            berth.call("GET", "/sessions", 200)

        def dropped():
            return total(read(berth), "berth_trace_spans_total", process="gatewayd", result="dropped") > 50 or berth.call("GET", "/sessions", 200) is None
        wait_until(dropped, 30, "the queue to be full")
        # An orderly end sends what is there, once the collector answers again.
        collector.stop()
        collector.run()
        berth.call("GET", "/sessions", 200)
        berth.stack.stop_service(berth.stack.services["gatewayd"])
        wait_until(lambda: len(collector.get("/spans")) > 0, 20, "what the end of the gateway sent")
        assert collector.get("/problems") == []
    finally:
        berth.close()
        collector.stop()


def test_settings_that_cannot_be(tmp_path):
    from conftest import BUILD, PROGRAMS
    program = BUILD / PROGRAMS["coordinatord"]
    done = subprocess.run([program, "--print-config"], capture_output=True, text=True, timeout=20)
    assert "otlp_endpoint" in done.stdout and "otlp_sample" in done.stdout
    for setting in ("otlp_sample=101", "otlp_queue=1", "otlp_header=/nowhere"):
        done = subprocess.run([program, "--check-config", "--set", "database=x", "--set", setting], capture_output=True, text=True, timeout=20)
        assert done.returncode == 78 and setting.split("=")[0] in done.stderr, done.stderr
