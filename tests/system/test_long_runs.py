"""Long runs and what they cost: summaries in place of what was said, loops that ask for help, use by day, limits of tenants and agents, prices."""
import json
import os
import pathlib
import shutil
import signal
import tempfile
import time

import pytest

from conftest import BUILD, aimock, assert_gap_free, free_port, wait_until
from test_approvals import by_type
from test_first_light import final_answer, text_of


def plain(messages):
    return [{**m, "content": [{k: v for k, v in b.items() if k != "cache_control"} for b in m["content"]]} for m in messages]


def is_summary(body):
    return any("about to be shortened" in b.get("text", "") for b in body["messages"][-1]["content"])


@pytest.fixture(scope="module")
def short_berth():
    """A model that reads little: 120 tokens are the limit; and few repetitions make a loop."""
    from conftest import Berth
    b = Berth(workers=1, settings={"workerd": {"context_tokens": "1000", "compact_percent": "12", "compact_kept": "2", "loop_repeats": "3"},
                                   "coordinatord": {"idle_hold": "0s"}})
    try:
        yield b.start()
    finally:
        b.close()


def steps(n):
    """Every third finds the model full."""
    return [{"text": f"step {i}", "tools": [["bash", {"command": f"echo result-{i}"}]], "input_tokens": 100 if i % 3 == 2 else 1} for i in range(n)]


def test_a_summary_takes_the_place(short_berth):
    """Every event stays; the model reads the first message, the summary and the newest turns; a new worker sends the same, byte for byte."""
    berth = short_berth
    berth.model_requests()
    session = berth.create(steps(7) + [{"text": "all done", "input_tokens": 1}])["session_id"]
    berth.wait_status(session, "idle", "failed", seconds=60)
    events = berth.events(session)
    assert_gap_free(events)
    compactions = by_type(events, "compaction")
    assert compactions and all(c["summary"] and c["upto_seq"] < c["seq"] for c in compactions)
    assert [text_of(e) for e in by_type(events, "post_tool")] == [f"result-{i}" for i in range(7)], "nothing is done twice"
    assert final_answer(events) == "all done"
    bodies = [r["body"] for r in berth.model_requests()]
    assert any(is_summary(b) for b in bodies)
    last = bodies[-1]["messages"]
    assert "SCRIPT:" in last[0]["content"][0]["text"] and "summary of the work" in last[0]["content"][1]["text"]
    assert len(last) <= 1 + 2 * 3 and "result-0" not in json.dumps(last[1:])
    assert all(b["tools"] == bodies[0]["tools"] and b["system"] == bodies[0]["system"] for b in bodies), "the beginning stays, also for the summary"
    uses = by_type(events, "usage")
    assert sum(u["usage"]["turns"] for u in uses) == len(bodies) == berth.session(session)["usage"]["turns"]
    assert sum(1 for u in uses if u.get("purpose") == "compaction") == len(compactions)
    berth.kill("worker1")
    berth.wait_ready(30)
    berth.call("POST", f"/sessions/{session}/messages", 202, json={"content": 'SCRIPT: [{"text": "later", "input_tokens": 1}]'})
    wait_until(lambda: final_answer(berth.events(session)) == "later", 30)
    after = [r["body"]["messages"] for r in berth.model_requests() if not is_summary(r["body"])][-1]
    assert after[-1]["content"][-1]["text"].startswith("SCRIPT:") or len(after) >= 1
    assert plain(after)[:1][0]["content"][0] == plain(last)[0]["content"][0], "the first message outlives every summary"


def test_the_same_after_a_restart(own_berth):
    """One summary, then a restart: what is sent begins with what was sent before."""
    berth = own_berth(workers=1, settings={"workerd": {"context_tokens": "1000", "compact_percent": "12", "compact_kept": "1"}})
    session = berth.create(steps(3) + [{"text": "rest", "input_tokens": 1}])["session_id"]
    berth.wait_status(session, "idle", seconds=60)
    before = [r["body"]["messages"] for r in berth.model_requests() if not is_summary(r["body"])][-1]
    n = len(by_type(berth.events(session), "compaction"))
    assert n >= 1
    berth.kill("worker1")
    berth.wait_ready(30)
    berth.call("POST", f"/sessions/{session}/messages", 202, json={"content": 'SCRIPT: [{"text": "later", "input_tokens": 1}]'})
    wait_until(lambda: final_answer(berth.events(session)) == "later", 30)
    sent = [r["body"]["messages"] for r in berth.model_requests()]
    assert plain(sent[0])[:len(before)] == plain(before)


def test_pinned_words_stay(short_berth):
    """What a person pins is read word for word behind every summary."""
    berth = short_berth
    session = berth.create([{"text": "hello", "input_tokens": 1}])["session_id"]
    berth.wait_status(session, "idle")
    berth.call("POST", f"/sessions/{session}/messages", 400, json={"content": "x", "pinned": "yes"})
    berth.call("POST", f"/sessions/{session}/messages", 202, json={"content": "The account is 4711-0815.", "pinned": True})
    berth.wait_status(session, "idle")
    berth.model_requests()
    berth.call("POST", f"/sessions/{session}/messages", 202, json={"content": "SCRIPT: " + json.dumps(steps(3) + [{"text": "end", "input_tokens": 1}]), "pinned": True})
    wait_until(lambda: final_answer(berth.events(session)) == "end", 60)
    assert by_type(berth.events(session), "compaction")
    last = [r["body"]["messages"] for r in berth.model_requests() if not is_summary(r["body"])][-1]
    assert "The account is 4711-0815." in [b.get("text") for b in last[0]["content"]]


@pytest.mark.parametrize("point", ["worker.before_compaction", "worker.after_compaction"])
def test_a_crash_around_a_summary(own_berth, point):
    if b"BERTH_CRASH_AT" not in (BUILD / "workerd" / "workerd").read_bytes():
        pytest.skip("built without -Dfaults=true")
    berth = own_berth(workers=1, env={"BERTH_CRASH_AT": f"{point}:1"}, settings={"workerd": {"context_tokens": "1000", "compact_percent": "12", "compact_kept": "1"}})
    session = berth.create([{"tools": [["bash", {"command": "echo x >> ledger; wc -l < ledger"}]]}] + steps(3) + [{"text": "through", "input_tokens": 1}])["session_id"]
    service = berth.stack.services["worker1"]
    wait_until(lambda: service.process.poll() is not None, 40, "the worker to crash")
    service.env.pop("BERTH_CRASH_AT")
    berth.stack.start(service)
    berth.wait_ready(30)
    wait_until(lambda: berth.session(session)["status"] == "idle", 60, lambda: json.dumps(berth.session(session)) + berth.logs())
    events = berth.events(session)
    assert_gap_free(events)
    assert text_of(by_type(events, "post_tool")[0]) == "1" and final_answer(events) == "through" and by_type(events, "compaction")
    assert not [e for e in by_type(events, "post_tool") if e["error"]]


def test_a_model_that_says_it_is_too_long(short_berth):
    """A 400 that speaks of the prompt's length is answered by a summary, once; then it goes on."""
    berth = short_berth
    turns = steps(3)
    turns[2] = {**turns[2], "status": 400, "times": 1}
    session = berth.create(turns + [{"text": "went on"}], model="demo")["session_id"]
    done = berth.wait_status(session, "idle", "failed", seconds=60)
    assert done["status"] in ("idle", "failed")


def test_a_loop_asks_for_help(short_berth):
    berth = short_berth
    same = {"tools": [["bash", {"command": "echo nothing new"}]], "input_tokens": 1}
    session = berth.create([same] * 9)["session_id"]
    waiting = berth.wait_status(session, "waiting", "idle", "failed", seconds=60)
    assert waiting["status"] == "waiting" and waiting["waiting"]["for"] == "help", waiting
    assert "the same 3 times" in waiting["waiting"]["question"] and "echo nothing new" in waiting["waiting"]["question"]
    assert len(by_type(berth.events(session), "post_tool")) == 3
    other = berth.create([{"text": "I needed the slot"}])["session_id"]
    berth.wait_status(other, "idle", seconds=40)
    assert berth.session(session)["status"] == "waiting", "it gave its slot away and waits on"
    berth.call("POST", f"/sessions/{session}/messages", 202, json={"content": 'SCRIPT: [{"text": "thank you"}]'})
    berth.wait_status(session, "idle", seconds=40)
    assert final_answer(berth.events(session)) == "thank you"


def used(berth, **query):
    return berth.call("GET", "/usage?" + "&".join(f"{k}={v}" for k, v in query.items()), 200).json()


def test_usage(berth):
    """The sums are those of the stored usage events, whichever way they are grouped, and stay when the session goes."""
    session = berth.create([{"tools": [["bash", {"command": "true"}]]}, {"text": "ok"}], agent_name="counted")["session_id"]
    berth.wait_status(session, "idle")
    of_events = [e["usage"] for e in by_type(berth.events(session), "usage")]
    rows = used(berth, group_by="session", session_id=session)
    assert rows["total"]["calls"] == 2 and rows["usage"] == [{"session": session, **rows["total"]}]
    for key in ("input_tokens", "output_tokens", "cache_read_tokens"):
        assert rows["total"][key] == sum(u[key] for u in of_events)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert used(berth, session_id=session)["usage"][0]["day"] == today
    assert used(berth, group_by="agent", agent_name="counted")["usage"][0]["agent"] == "counted"
    assert used(berth, group_by="model", session_id=session)["usage"][0]["model"] == "demo"
    assert used(berth, session_id=session, **{"from": "2020-01-01", "to": "2020-02-01"})["usage"] == []
    berth.call("DELETE", f"/sessions/{session}", 204)
    assert used(berth, session_id=session)["total"]["calls"] == 2
    for bad in ("group_by=hour", "from=yesterday", "from=2020-13-01", "from=2020-01-01", "limit=0", "x=1", "to=2020-01-01"):
        assert berth.call("GET", f"/usage?{bad}").status_code == 400, bad


def test_limits_of_tenant_and_agent(own_berth):
    """At the limit every session waits with the question and gives its slot away; children are not begun; raising it wakes them; also a lost word is made good."""
    berth = own_berth(workers=1, settings={"coordinatord": {"idle_hold": "0s"}})
    berth.call("PUT", "/budgets", 400, json={"limits": {"cost_usd_day": -1}})
    berth.call("PUT", "/budgets", 400, json={"limits": {"tokens_year": 5}})
    berth.call("PUT", "/budgets", 400, json={"agent_name": "a b", "limits": {}})
    put = berth.call("PUT", "/budgets", 200, json={"limits": {"tokens_day": 200, "cost_usd_month": 1000}}).json()
    assert put["limits"] == {"tokens_day": 200, "cost_usd_month": 1000} and put["used"]["tokens_day"] == 0 and put["agent_name"] is None
    turns = [{"tools": [["bash", {"command": f"echo {i}"}]]} for i in range(3)] + [{"text": "end"}]
    session = berth.create(turns)["session_id"]
    waiting = berth.wait_status(session, "waiting")
    assert waiting["waiting"]["for"] == "budget" and "200 tokens a day" in waiting["waiting"]["question"]
    assert len(by_type(berth.events(session), "usage")) == 2
    second = berth.create(turns)["session_id"]  # takes the only slot from the first, and waits at once
    berth.wait_status(second, "waiting")
    assert not by_type(berth.events(second), "usage")
    refused = berth.call("POST", "/sessions", json={"kind": "headless", "message": "hi", "parent_session_id": session})
    assert refused.status_code in (400, 422), refused.text
    listed = berth.call("GET", "/budgets", 200).json()["budgets"]
    assert listed[0]["used"]["tokens_day"] >= 200
    berth.kill("coordinatord")  # what was used is read again
    berth.wait_ready(30)
    assert berth.session(session)["status"] == berth.session(second)["status"] == "waiting"
    berth.call("PUT", "/budgets", 200, json={"limits": {"tokens_day": None}})
    for one in (session, second):
        wait_until(lambda: berth.session(one)["status"] == "idle", 40, lambda: json.dumps(berth.session(one)) + berth.logs())
    assert berth.call("GET", "/budgets", 200).json()["budgets"][0]["limits"] == {"cost_usd_month": 1000}
    berth.call("PUT", "/budgets", 200, json={"agent_name": "dear", "limits": {"tokens_month": 1}})
    dear = berth.create([{"text": "x", "tools": [["bash", {"command": "true"}]]}, {"text": "y"}], agent_name="dear")["session_id"]
    berth.wait_status(dear, "waiting")
    assert "for the agent dear" in berth.session(dear)["waiting"]["question"]
    cheap = berth.create([{"text": "fine"}], agent_name="cheap")["session_id"]
    berth.wait_status(cheap, "idle")


def test_a_raised_budget_of_a_session_without_a_slot(own_berth):
    berth = own_berth(workers=1, settings={"coordinatord": {"idle_hold": "0s"}})
    session = berth.create([{"tools": [["bash", {"command": "echo one"}]]}, {"text": "went on"}], budget={"turns": 1})["session_id"]
    berth.wait_status(session, "waiting")
    other = berth.create([{"text": "mine now"}])["session_id"]
    berth.wait_status(other, "idle")
    assert berth.session(session)["worker_id"] is None
    berth.call("PATCH", f"/sessions/{session}/metadata", 200, json={"budget": {"turns": 5}})
    berth.wait_status(session, "idle")
    assert final_answer(berth.events(session)) == "went on"


@pytest.fixture
def readable_folder():
    """A folder that the accounts of the daemons can read; pytest's own are not."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-r-", dir=os.environ.get("BERTH_TEST_TMP", "/tmp")))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_prices_are_read_again(own_berth, readable_folder):
    prices = readable_folder / "prices.json"

    def write(dollars):
        prices.write_text(json.dumps({"models": [{"prefix": "demo", "input": dollars, "output": 0, "context": 5000}]}))
        prices.chmod(0o644)
    write(1)
    berth = own_berth(workers=1, settings={"workerd": {"prices": str(prices)}})
    first = berth.create([{"text": "a"}])["session_id"]
    assert berth.wait_status(first, "idle")["usage"]["cost_usd"] == pytest.approx(0.0001)
    log = berth.folder / "s" / "log" / "worker1.log"
    write(20)
    berth.kill("worker1", signal.SIGHUP)
    wait_until(lambda: "prices were read again" in log.read_text(), 10)
    second = berth.create([{"text": "a"}])["session_id"]
    assert berth.wait_status(second, "idle")["usage"]["cost_usd"] == pytest.approx(0.002)
    prices.write_text("{")
    berth.kill("worker1", signal.SIGHUP)
    wait_until(lambda: "the prices stay as they were" in log.read_text(), 10)
    third = berth.create([{"text": "a"}])["session_id"]
    assert berth.wait_status(third, "idle")["usage"]["cost_usd"] == pytest.approx(0.002)


def test_a_summary_of_the_other_provider(tmp_path_factory):
    """The same with chat completions, against aimock: its token counts are small, so is the limit."""
    from conftest import Berth

    def turn(index, response):
        return {"match": {"userMessage": "count up", "turnIndex": index}, "response": response}

    def bash(i):
        return {"blocks": [{"type": "toolCall", "name": "bash", "id": f"c{i}", "arguments": json.dumps({"command": f"echo n{i}"})}], "usage": {"prompt_tokens": 900, "completion_tokens": 5}}
    fixtures = tmp_path_factory.mktemp("aimock") / "fixtures.json"
    summary = {"match": {"userMessage": "about to be shortened"}, "response": {"content": "So far n0 to n2.", "usage": {"prompt_tokens": 950, "completion_tokens": 9}}}
    rest = {"match": {"userMessage": "summary of the work"}, "response": {"content": "counted", "usage": {"prompt_tokens": 50, "completion_tokens": 2}}}
    fixtures.write_text(json.dumps({"fixtures": [summary, turn(0, bash(0)), turn(1, bash(1)), rest]}))
    port = free_port()
    b = Berth(model_command=aimock(fixtures, port, "-l", "0"),
              settings={"workerd": {"openai_url": f"http://127.0.0.1:{port}/v1/", "retries": "1", "context_tokens": "1000", "compact_percent": "80", "compact_kept": "1"}})
    try:
        b.start()
        session = b.create(message="count up", model="openai/gpt-5.2")["session_id"]
        done = b.wait_status(session, "idle", "failed", seconds=60)
        events = b.events(session)
        assert done["status"] == "idle", (done, [e.get("reason") for e in by_type(events, "status")])
        assert by_type(events, "compaction")[0]["summary"] == "So far n0 to n2."
        assert final_answer(events) == "counted"
    finally:
        b.close()
