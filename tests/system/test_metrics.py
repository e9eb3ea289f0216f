"""GET /metrics: read by hand, by promtool and by a real Prometheus; who may read it; the examples' rules."""
import json
import re
import shutil
import subprocess

import pytest
import requests

from conftest import ROOT, free_port, wait_until
from tenants import make_token

EXAMPLES = ROOT / "examples"
SAMPLE = re.compile(r'^([a-z_]+)(\{([a-z_]+="(?:[^"\\]|\\.)*",?)*\})? ([0-9.e+-]+)$')
needs_prometheus = pytest.mark.skipif(not shutil.which("promtool"), reason="the package prometheus is not installed")


def parse(text):
    """Series -> value; each once, each under its own TYPE."""
    series, names = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            assert line.split()[2] not in names, line
            names.add(line.split()[2])
        elif not line.startswith("#"):
            found = SAMPLE.match(line)
            assert found, line
            assert re.sub("_(bucket|sum|count)$", "", found[1]) in names or found[1] in names, line
            key = found[1] + (found[2] or "")
            assert key not in series, line
            series[key] = float(found[4])
    return series


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture(scope="module")
def metered(port):
    from conftest import Berth
    berth = Berth(workers=1, settings={"coordinatord": {"pool_warm": "headless:1"}, "workerd": {}, "gatewayd": {"metrics_listen": f"127.0.0.1:{port}"}})
    try:
        yield berth.start()
    finally:
        berth.close()


def read(berth):
    reply = berth.call("GET", "/metrics", 200)
    assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parse(reply.text)


def total(series, name, **labels):
    return sum(v for k, v in series.items() if k.split("{")[0] == name and all(f'{a}="{b}"' in k for a, b in labels.items()))


def test_a_session_is_seen_in_every_figure(metered):
    before = read(metered)
    session = metered.create([{"tools": [["bash", {"command": "true"}]]}, {"tools": [["bash", {"restart": "no"}]]}, {"text": "done"}])["session_id"]
    metered.wait_status(session, "idle", "finished", seconds=60)
    metered.call("POST", "/documents", 201, files={"file": ("a.txt", b"x" * 1000)})
    metered.call("GET", "/nowhere", 404)

    def moved():
        now = read(metered)
        grown = {k: v - before.get(k, 0) for k, v in now.items()}
        return (total(grown, "berth_session_transitions_total", to="running") >= 1 and total(grown, "berth_tool_calls_total", tool="bash") == 2
                and total(grown, "berth_model_requests_total", provider="anthropic", result="ok") >= 3 and grown["berth_documents_bytes"] == 1000 and grown)
    grown = wait_until(moved, 30, "the session in the figures")
    assert total(grown, "berth_events_total", type="post_tool") == 2 and total(grown, "berth_events_total", type="usage") >= 3
    assert total(grown, "berth_model_tokens_total", direction="input") > 0 and total(grown, "berth_model_tokens_total", direction="output") > 0
    assert grown["berth_hub_commit_seconds_count"] > 3 and 0 < grown["berth_hub_commit_seconds_sum"] < 60
    assert total(grown, "berth_http_requests_total", route="/sessions", method="POST", status="201") == 1
    assert total(grown, "berth_http_request_duration_seconds_count", route="/sessions", method="POST") == 1
    now = read(metered)
    assert now["berth_database_up"] == now["berth_coordinator_up"] == now["berth_documents_up"] == 1
    assert total(now, "berth_slots", kind="headless") == 1 and now['berth_worker_up{worker="1"}'] == 1
    assert now['berth_slot_processes{worker="1"}'] >= 1 and now['berth_slot_memory_bytes{worker="1"}'] > 100_000
    assert now["process_resident_memory_bytes"] > 1e6 and now["process_open_fds"] > 10 and now["process_start_time_seconds"] > 1.7e9
    assert session not in metered.call("GET", "/metrics", 200).text
    assert total(now, "berth_sessions", status="idle") >= 1 and 'berth_sessions{status="finished"}' not in now


def test_ids_and_nonsense_make_no_series(metered):
    for n in range(30):
        metered.http.get(metered.url(f"/sessions/unknown-{n}"), timeout=10)
        metered.http.get(metered.url(f"/api/unknown-{n}"), timeout=10)
        metered.http.request("BREW", metered.url(f"/x{n}"), timeout=10)
    text = metered.call("GET", "/metrics", 200).text
    assert "unknown-" not in text and "BREW" not in text and len(text.splitlines()) < 2000
    series = parse(text)
    assert total(series, "berth_http_requests_total", route="/sessions/{id}", method="GET", status="404") >= 30
    assert total(series, "berth_http_requests_total", route="none") >= 60


def test_streams_count_without_a_time(metered):
    session = metered.call("POST", "/sessions", 201, json={"kind": "external"}).json()["session_id"]
    with metered.http.get(metered.url(f"/sessions/{session}/stream"), headers={"Accept": "text/event-stream"}, stream=True, timeout=10):
        series = read(metered)
        assert series["berth_stream_subscribers"] >= 1
    assert total(series, "berth_http_requests_total", route="/sessions/{id}/stream", status="200") == 1
    assert total(series, "berth_http_request_duration_seconds_count", route="/sessions/{id}/stream") == 0


def test_who_may_read(metered, port):
    def ask(token, base=metered.url("/metrics")):
        return requests.get(base, headers={"Authorization": f"Bearer {token}"} if token else {}, timeout=10)
    assert ask(None).status_code == 401
    assert ask(make_token(metered, "viewer", "default")).status_code == 200
    assert ask(make_token(metered, "admin", "elsewhere")).status_code == 403
    for scope, status in (("system:read", 200), ("sessions:read", 403)):
        token = metered.call("POST", "/tokens", 201, json={"name": scope.replace(":", "-"), "role": "viewer", "scopes": [scope]}).json()["token"]
        assert ask(token).status_code == status
    own = f"http://127.0.0.1:{port}"
    assert "berth_sessions{" in ask(None, own + "/metrics").text
    assert requests.get(own + "/sessions", timeout=10).status_code == 404 and requests.post(own + "/metrics", timeout=10).status_code == 405


def test_the_dashboard_shows_every_metric_and_no_other(metered):
    """By name: those of the page and those that the sources know (some appear with what they count)."""
    known = set(re.findall(r"^# TYPE (\S+)", metered.call("GET", "/metrics", 200).text, re.M))
    for path in (ROOT / "gatewayd").glob("*metrics.c"):
        known |= set(re.findall(r'"((?:berth|process)_[a-z_]+)["{]', path.read_text()))
    known = {n for n in known if not re.search("_(bucket|sum|count)$", n)}
    panels = json.loads((EXAMPLES / "dashboard.json").read_text())["panels"]
    shown = set(re.findall(r"\b(?:berth|process)_[a-z_]+\b", " ".join(t["expr"] for p in panels for t in p.get("targets", []))))
    shown = {re.sub("_(bucket|sum|count)$", "", n) for n in shown}
    assert shown == known, (shown ^ known)
    assert len({p["id"] for p in panels}) == len({json.dumps(p["gridPos"]) for p in panels}) == len(panels)


@needs_prometheus
def test_promtool_finds_nothing_to_say(metered):
    checked = subprocess.run(["promtool", "check", "metrics"], input=metered.call("GET", "/metrics", 200).text, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0 and not checked.stderr, checked.stderr
    for command in (["rules", "alerts.yml"], ["config", "--syntax-only", "prometheus.yml"]):
        checked = subprocess.run(["promtool", "check", *command], cwd=EXAMPLES, capture_output=True, text=True, timeout=60)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_prometheus
def test_a_real_prometheus_scrapes_it(metered, port, tmp_path):
    """By a token and without one; the rules and the panels of the dashboard ask for metrics that there are."""
    (tmp_path / "token").write_text(metered.stack.token)
    own = free_port()
    config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(EXAMPLES / "alerts.yml")], "scrape_configs": [
        {"job_name": "berth", "authorization": {"credentials_file": str(tmp_path / "token")}, "static_configs": [{"targets": [metered.url("/")[7:-1]]}]},
        {"job_name": "loopback", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
                                    f"--web.listen-address=127.0.0.1:{own}"], stdout=log, stderr=log)

    def query(text):
        reply = requests.get(f"http://127.0.0.1:{own}/api/v1/query", params={"query": text}, timeout=10).json()
        assert reply["status"] == "success", (text, reply)
        return reply["data"]["result"]

    def scraped():
        try:
            return len([r for r in query("count_over_time(up[1h])") if int(r["value"][1]) >= 3]) == 2
        except requests.RequestException:  # it is starting
            assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
    try:
        wait_until(scraped, 60, "three scrapes of both targets")
        assert [r["value"][1] for r in query("up")] == ["1", "1"]
        assert query('berth_slots{job="berth",kind="headless"}') and query("rate(berth_hub_commit_seconds_count[1m])")
        rules = requests.get(f"http://127.0.0.1:{own}/api/v1/rules", timeout=10).json()["data"]["groups"][0]["rules"]
        assert len(rules) >= 10 and all(r["health"] == "ok" for r in rules), rules
        firing = [r["name"] for r in rules if r["state"] == "firing"]
        assert firing == [], firing
        there = {r["metric"]["__name__"] for r in query('{job="berth"}')}
        asked = " ".join(t["expr"] for p in json.loads((EXAMPLES / "dashboard.json").read_text())["panels"] for t in p.get("targets", []))
        asked += " " + " ".join(r["query"] for r in rules)
        wanted = set(re.findall(r"\b(?:berth|process)_[a-z_]+\b", asked))
        assert len(wanted) >= 20 and wanted <= there, wanted - there
        for panel in json.loads((EXAMPLES / "dashboard.json").read_text())["panels"]:
            for target in panel.get("targets", []):
                query(target["expr"].replace("$__rate_interval", "1m"))
    finally:
        process.terminate()
        process.wait(20)


def test_without_the_database_the_gateway_still_answers(metered, port):
    def page():
        return parse(requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text)
    metered.kill("postgres", restart=False)
    series = wait_until(lambda: (s := page())["berth_database_up"] == 0 and s, 30, "berth_database_up 0")
    assert "process_open_fds" in series and 'berth_sessions{status="idle"}' not in series
    metered.stack.start(metered.stack.postgres_service())
    wait_until(lambda: (s := page())["berth_database_up"] == 1 and "berth_hub_waiting" in s, 60, "the figures again")


def test_without_the_coordinator_the_page_says_so(metered):
    metered.kill("coordinatord", restart=False)
    wait_until(lambda: read(metered)["berth_coordinator_up"] == 0, 30, "berth_coordinator_up 0")
    wait_until(lambda: "berth_hub_waiting" not in read(metered), 30, "its old figures to go")
    metered.stack.start(metered.stack.services["coordinatord"])
    wait_until(lambda: (s := read(metered))["berth_coordinator_up"] == 1 and "berth_hub_waiting" in s, 60, "the figures of the new one")
