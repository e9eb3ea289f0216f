"""Tools of the agent through the whole product: documents, code, questions to a person, reports, child sessions."""
import json

import pytest

from conftest import wait_until
from streams import SessionStream
from test_first_light import final_answer, text_of


def results(berth, session):
    return [e for e in berth.events(session) if e["event_type"] == "post_tool"]


def upload(berth, name, text, tags="", description=""):
    return berth.call("POST", "/documents", 201, files={"file": (name, text.encode(), "text/plain")},
                      data={"tags": tags, "metadata": json.dumps({"description": description})}).json()["id"]


def run(berth, *turns, seconds=40, **body):
    session = berth.create([*turns, {"text": "done"}], **body)["session_id"]
    assert berth.wait_status(session, "idle", "failed", "waiting", seconds=seconds)["status"] == "idle"
    return session, results(berth, session)


def test_documents(berth):
    one = upload(berth, "harvest-report.txt", "The apple harvest of 2031 was 412 tonnes.", "harvest,farm", "yields of the farm")
    upload(berth, "other.txt", "nothing of note", "farm")
    session, found = run(
        berth,
        {"tools": [["document_list", {"tags": ["farm"]}], ["document_list", {"tags": ["farm", "harvest"]}], ["document_list", {"filename": "HARVEST-rep"}],
                   ["document_list", {"tags": ["no such tag"]}], ["document_list", {"tags": ["nobody-has-this"]}], ["document_list", {"limit": 0}]]},
        {"tools": [["document_get", {"id": one}], ["document_get", {"id": one, "path": "in/copy.txt"}], ["bash", {"command": "cat harvest-report.txt in/copy.txt | wc -c"}],
                   ["document_get", {"id": "00000000-0000-7000-8000-000000000000"}], ["document_get", {"id": "x"}], ["document_get", {"id": one, "path": "dir/"}]]})
    texts = [text_of(e) for e in found]
    assert "harvest-report.txt" in texts[0] and "other.txt" in texts[0]
    assert one in texts[1] and "other.txt" not in texts[1] and "yields of the farm" in texts[1]
    assert one in texts[2]
    assert "tags" in found[3]["error"]
    assert texts[4] == "No document matches."
    assert "limit must be" in found[5]["error"]
    assert "412 tonnes" in texts[6] and "Written to harvest-report.txt" in texts[6]
    assert "in/copy.txt" in texts[7] and texts[8] == "82"
    assert "no such document" in found[9]["error"]
    assert "id must be" in found[10]["error"] and "path must name a file" in found[11]["error"]


def test_document_search(own_berth):
    berth = own_berth(workers=1, job_workers=1)
    upload(berth, "orchard.txt", "Pears ripen in September. The quokka was seen near the pond.", "orchard")

    def found():
        _, got = run(berth, {"tools": [["document_search", {"query": "quokka"}]]})
        return got[0]["error"] is None and "orchard.txt" in text_of(got[0]) and "near the pond" in text_of(got[0])
    wait_until(found, 60, "the text of a document to be found")
    _, got = run(berth, {"tools": [["document_search", {"query": "zyzzyva"}], ["document_search", {"query": ""}], ["document_search", {"query": "a", "tags": ["not-there"]}]]})
    assert "Nothing matches" in text_of(got[0]) and "query must" in got[1]["error"] and "Nothing matches" in text_of(got[2])


def test_execute_code(berth):
    _, got = run(
        berth,
        {"tools": [["execute_code", {"language": "python", "code": "import sys\nprint(sum(map(int, sys.stdin)))\nprint('warned', file=sys.stderr)", "input": "1\n2\n39\n"}],
                   ["execute_code", {"language": "bash", "code": "echo $((6*7)); exit 3"}],
                   ["execute_code", {"language": "python", "code": "while True: pass", "timeout_s": 1}],
                   ["execute_code", {"language": "python", "code": "print('x' * 500000)"}],
                   ["execute_code", {"language": "python", "code": "import not_there"}],
                   ["execute_code", {"language": "python", "code": "print(1)", "packages": ["--index-url=http://evil"]}],
                   ["execute_code", {"language": "python", "code": "print(1)", "packages": ["requests"]}],
                   ["execute_code", {"language": "bash", "code": "true", "packages": ["x"]}],
                   ["execute_code", {"language": "cobol", "code": "x"}],
                   ["execute_code", {"language": "python", "code": "print(1)", "timeout_s": 100000}],
                   ["execute_code", {"language": "python", "code": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"}],
                   ["execute_code", {"language": "bash", "code": "pwd; ls"}]]}, seconds=60)
    assert text_of(got[0]).startswith("[stdout]\n42\n[stderr]\nwarned\n[exit code 0; ") and got[0]["exit_code"] == 0
    assert "42" in got[1]["error"] and "[exit code 3; " in got[1]["error"] and got[1]["exit_code"] == 3
    assert "did not end within 1 s" in got[2]["error"]
    assert "are not shown" in text_of(got[3]) and len(text_of(got[3])) < 16500 and "500001 bytes" in text_of(got[3])
    assert "ModuleNotFoundError" in got[4]["error"]
    assert "names of the registry" in got[5]["error"]
    assert "packages cannot be installed" in got[6]["error"] and "network policy" in got[6]["error"]
    assert "takes no packages" in got[7]["error"] and "language must be" in got[8]["error"] and "timeout_s must be" in got[9]["error"]
    assert "signal 11" in got[10]["error"]
    assert "/home/agent/runs/" in text_of(got[11]) and "main.sh" in text_of(got[11])


def test_a_question_and_its_answer(berth):
    session = berth.create([{"tools": [["bash", {"command": "touch before"}], ["ask_human", {"question": "Which colour?", "choices": ["red", "green"]}], ["bash", {"command": "ls before"}]]},
                            {"text": "painted"}])["session_id"]
    waiting = berth.wait_status(session, "waiting", "failed", "idle")
    assert waiting["question"]["question"] == "Which colour?" and waiting["question"]["choices"] == ["red", "green"] and waiting["question"]["tool_call_id"]
    assert waiting["waiting"]["for"] == "answer"
    berth.model_requests()
    berth.call("POST", f"/sessions/{session}/messages", 202, json={"content": "green, please"})
    done = berth.wait_status(session, "idle", "failed")
    assert done["status"] == "idle" and done["question"] is None
    got = results(berth, session)
    assert [e["tool_name"] for e in got] == ["bash", "ask_human", "bash"] and text_of(got[1]) == "green, please" and text_of(got[2]) == "before"
    turns = berth.model_requests()[-1]["body"]["messages"]
    assert json.dumps(turns).count("green, please") == 1, "the answer stands as the call's result, not a second time"
    assert turns[-1]["role"] == "user" and turns[-1]["content"][1]["content"][0]["text"] == "green, please"


def test_a_question_that_nobody_answers_and_bad_ones(berth):
    session = berth.create([{"tools": [["ask_human", {"question": "Anyone?", "timeout": 1}], ["ask_human", {}], ["ask_human", {"question": "x", "choices": "y"}],
                                   ["ask_human", {"question": "x", "timeout": -1}], ["ask_human", {"question": "é" * 5000}]]}, {"text": "done"}])["session_id"]
    assert berth.wait_status(session, "idle", "failed")["status"] == "idle"
    got = results(berth, session)
    assert "Nobody answered in time" in text_of(got[0]) and got[0]["error"] is None and got[0]["duration_ms"] >= 900
    assert "question is missing" in got[1]["error"] and "choices must" in got[2]["error"] and "timeout must" in got[3]["error"] and "8000 bytes" in got[4]["error"]


def test_the_time_of_a_question_ends_without_a_worker(own_berth):
    """Its slot was given away while it waits: the coordinator keeps the time, and the agent goes on without an answer."""
    berth = own_berth(workers=1, settings={"coordinatord": {"idle_hold": "0s"}})
    session = berth.create([{"tools": [["ask_human", {"question": "Anyone?", "timeout": 8}]]}, {"text": "went on"}])["session_id"]
    berth.wait_status(session, "waiting")
    other = berth.create([{"text": "mine"}])["session_id"]
    berth.wait_status(other, "idle", seconds=60)
    wait_until(lambda: berth.session(session)["status"] == "idle", 60, lambda: json.dumps(berth.session(session)) + berth.logs())
    events = berth.events(session)
    assert "Nobody answered in time" in text_of(results(berth, session)[0]) and final_answer(events) == "went on"
    states = [(e["from"], e["to"], e["reason"]) for e in events if e["event_type"] == "status"]
    assert ("waiting", "queued", "nobody answered in time") in states, states


SCHEMA = {"type": "object", "required": ["total", "kind"], "additionalProperties": False,
          "properties": {"total": {"type": "number", "minimum": 0}, "kind": {"type": "string", "enum": ["apple", "pear"]}}}


@pytest.fixture
def reporter(berth):
    berth.call("POST", "/agents", 201, json={"name": "reporter", "output_schema": SCHEMA, "slot": {"kind": "headless"}})
    yield "reporter"
    berth.call("DELETE", "/agents/reporter", 204)


def test_a_report_that_must_fit(berth, reporter):
    berth.model_requests()
    session = berth.create([{"tools": [["done", {"summary": "first try", "output": {"total": -1, "kind": "apple"}}]]},
                            {"tools": [["done", {"summary": "no output"}]]},
                            {"tools": [["done", {"summary": "Counted.", "output": {"total": 412, "kind": "pear"}, "documents": []}], ["bash", {"command": "touch after"}]]},
                            {"text": "never said"}], agent_name=reporter)["session_id"]
    done = berth.wait_status(session, "idle", "failed")
    assert done["report"] == {"summary": "Counted.", "output": {"total": 412, "kind": "pear"}, "documents": []}
    got = results(berth, session)
    assert "output.total must be at least 0" in got[0]["error"] and "output is missing" in got[1]["error"]
    assert got[2]["error"] is None and "the report ended the turn" in got[3]["error"]
    assert final_answer(berth.events(session)) != "never said"
    reports = [e for e in berth.events(session) if e["event_type"] == "report"]
    assert len(reports) == 1 and reports[0]["report"]["summary"] == "Counted."
    requests = berth.model_requests()
    assert len(requests) == 3
    tool = [t for t in requests[0]["body"]["tools"] if t["name"] == "done"][0]
    assert tool["input_schema"]["properties"]["output"] == SCHEMA and "output" in tool["input_schema"]["required"]
    berth.call("POST", f"/sessions/{session}/messages", 202, json={"content": "SCRIPT: " + json.dumps([{"text": "and on"}])})
    wait_until(lambda: final_answer(berth.events(session)) == "and on", 30, "the session to go on after its report")


def test_no_report_without_need(berth):
    berth.model_requests()
    _, got = run(berth, {"tools": [["done", {"summary": "x"}]]})
    assert "There is no tool named done" in got[0]["error"]
    assert "done" not in [t.get("name") for t in berth.model_requests()[0]["body"]["tools"]]


def child_script(*turns):
    return "SCRIPT: " + json.dumps(list(turns))


def parent(berth, turns, **body):
    """A session whose script holds scripts of others: the fake reads the last SCRIPT: it sees, so theirs are written another way."""
    return berth.create(message="SCRIPT: " + json.dumps(turns).replace("SCRIPT:", "SCRIPT\\u003a"), **body)["session_id"]


def test_a_child_session(berth):
    task = child_script({"tools": [["bash", {"command": "echo from below"}]]}, {"tools": [["done", {"summary": "Found it.", "output": {"n": 7}}]]})
    above = parent(berth, [{"tools": [["session_start", {"message": task, "title": "look below", "budget": {"turns": 5}}]]}, {"text": "thanks"}],
                          budget={"turns": 40, "tokens": 100000})
    done = berth.wait_status(above, "idle", "failed", seconds=60)
    assert done["status"] == "idle" and done["parent_session_id"] is None
    got = results(berth, above)[0]
    assert "Report: Found it." in text_of(got) and '"n":7' in text_of(got), got
    child = berth.session(got["child_session_id"])
    assert child["parent_session_id"] == above and child["session_name"] == "look below" and child["budget"] == {"turns": 5, "tokens": child["budget"]["tokens"]}
    assert child["budget"]["tokens"] < 100000 and child["status"] == "idle"
    assert got["usage_below"]["turns"] == child["usage"]["turns"] == 2


def test_children_later_and_bad_ones(berth):
    above = parent(berth, [{"tools": [["session_start", {"message": child_script({"text": "quick"}), "wait": False}], ["session_start", {"message": ""}],
                                      ["session_start", {"message": "x", "budget": {"turns": 0}}], ["session_start", {"message": "x", "files": [{"document_id": "a", "path": "/etc/x"}]}],
                                      ["session_wait", {"session_id": "nope"}], ["session_wait", {"session_id": "00000000-0000-7000-8000-000000000000"}]]},
                           {"text": "ok"}])
    berth.wait_status(above, "idle", "failed", seconds=60)
    got = results(berth, above)
    child = got[0]["child_session_id"]
    assert child in text_of(got[0])
    for result, part in zip(got[1:], ("message must", "budget.turns", "files must", "session_id must", "there is no session")):
        assert part in result["error"], result
    berth.wait_status(child, "idle", "failed", seconds=60)
    berth.call("POST", f"/sessions/{above}/messages", 202, json={"content": child_script({"tools": [["session_wait", {"session_id": child, "timeout_s": 0}]]}, {"text": "ok"})})
    wait_until(lambda: len(results(berth, above)) == 7, 60, "the child's result")
    assert "Its answer: quick" in text_of(results(berth, above)[6])


def test_the_childs_use_counts_above(berth):
    task = child_script({"tools": [["bash", {"command": "true"}]]}, {"tools": [["bash", {"command": "true"}]]}, {"text": "used three"})
    above = parent(berth, [{"tools": [["session_start", {"message": task}]]}, {"text": "too much"}], budget={"turns": 4})
    waiting = berth.wait_status(above, "waiting", "idle", "failed", seconds=60)
    assert waiting["status"] == "waiting" and "budget of 4 turns" in waiting["waiting"]["question"], waiting
    berth.call("POST", f"/sessions/{above}/stop", 200)


def test_the_end_of_a_parent_ends_its_child(own_berth):
    b = own_berth(workers=2)
    above = parent(b, [{"tools": [["session_start", {"message": child_script({"tools": [["bash", {"command": "sleep 300"}]]})}]]}])

    def child():
        found = [s for s in b.call("GET", "/sessions", 200).json()["sessions"] if s["parent_session_id"] == above]
        return found[0] if found and found[0]["status"] == "running" else None
    below = wait_until(child, 60, "the child to run")["session_id"]
    # Both slots wait now: a grandchild would wait for ever, so it is refused at once.
    b.call("POST", f"/sessions/{above}/stop", 200)
    assert b.wait_status(below, "stopped", seconds=30)["status"] == "stopped"
    assert "the session above it ended" in str(b.events(below))


def test_no_slot_for_a_child(own_berth):
    b = own_berth(workers=1)
    session = b.create([{"tools": [["session_start", {"message": "hi"}]]}, {"text": "by myself"}])["session_id"]
    assert b.wait_status(session, "idle", "failed", seconds=40)["status"] == "idle"
    assert "every slot is held" in results(b, session)[0]["error"]


@pytest.mark.parametrize("victim", ["worker1", "coordinatord"])
def test_questions_and_children_survive(own_berth, victim):
    b = own_berth(workers=2, settings={"coordinatord": {"lease_ttl": "4s", "heartbeat": "1s"}})
    asks = b.create([{"tools": [["ask_human", {"question": "still there?"}]]}, {"text": "good"}])["session_id"]
    b.wait_status(asks, "waiting", seconds=40)
    b.kill(victim)
    if victim == "worker1":
        b.kill("worker2")
    b.wait_ready()
    wait_until(lambda: b.session(asks)["status"] in ("waiting", "queued", "starting", "running"), 40, "the session to be there")
    b.call("POST", f"/sessions/{asks}/messages", 202, json={"content": "yes"})
    assert b.wait_status(asks, "idle", "failed", seconds=60)["status"] == "idle"
    got = results(b, asks)
    assert len(got) == 1 and text_of(got[0]) == "yes"
    assert final_answer(b.events(asks)) == "good"
    # A child that is started, and a crash while the parent waits: one child, one result.
    task = child_script({"tools": [["bash", {"command": "sleep 6"}]]}, {"text": "slept"})
    above = parent(b, [{"tools": [["session_start", {"message": task}]]}, {"text": "fine"}])
    wait_until(lambda: [s for s in b.call("GET", "/sessions", 200).json()["sessions"] if s["parent_session_id"] == above and s["status"] == "running"], 60, "the child to run")
    b.kill("worker" + b.session(above)["worker_id"] if victim == "worker1" else victim)
    assert b.wait_status(above, "idle", "failed", seconds=90)["status"] == "idle"
    assert len([s for s in b.call("GET", "/sessions", 200).json()["sessions"] if s["parent_session_id"] == above]) == 1
    assert "Its answer: slept" in text_of(results(b, above)[0])


def test_live_arguments_and_output(berth):
    """A viewer sees the arguments of a call while the model writes them, and what a program prints while it runs."""
    session = berth.create([{"gap": 0.05, "tools": [["execute_code", {"language": "bash", "code": "echo first; while [ ! -e /home/agent/go ]; do sleep 0.05; done; echo second"}]]},
                            {"text": "done"}])["session_id"]
    stream = SessionStream(berth, session)
    try:
        def said(kind):
            return "".join(d["text"] for d in stream.deltas if d.get("kind") == kind)
        wait_until(lambda: "first" in said("tool_output"), 40, lambda: f"the first line, before the program ends: {stream.deltas[-5:]}")
        assert "second" not in said("tool_output") and not results(berth, session)
        written = [d for d in stream.deltas if d.get("kind") == "tool_input"]
        assert len(written) >= 2 and json.loads("".join(d["text"] for d in written))["language"] == "bash"
    finally:
        stream.stopping.set()
    berth.call("POST", f"/sessions/{session}/stop", 200)
