"""Volumes in the slot: /data read-only, /results kept by themselves, runs kept apart; what is killed loses nothing that was kept."""
import json
import os

import pytest

from conftest import Berth, wait_until
from test_uploads import FAST, NOTHING, script, unzip, upload


@pytest.fixture(scope="module")
def up():
    b = Berth(workers=2, settings={**FAST, "workerd": {"idle_release": "60s", "results_file_bytes": "1M", "results_files": "20"}})
    try:
        yield b.start()
    finally:
        b.close()


@pytest.fixture(autouse=True)
def free_slots(request):
    """Nobody waits for an idle session to give its slot back."""
    yield
    if "up" in request.fixturenames:
        b = request.getfixturevalue("up")
        for s in b.call("GET", "/sessions").json()["sessions"]:
            if s["status"] not in ("stopped", "failed", "completed"):
                b.call("POST", f"/sessions/{s['session_id']}/stop")


def bash(*commands):
    return [{"tools": [["bash", {"command": c}]]} for c in commands] + [{"text": "done"}]


def outputs(berth, session):
    return [e["tool_output"] if isinstance(e["tool_output"], str) else json.dumps(e["tool_output"]) for e in berth.events(session) if e["event_type"] == "post_tool"]


def run(berth, files, turns):
    reply = upload(berth, files, context=script(turns)).json()
    berth.wait_status(reply["session_id"], "idle", seconds=60)
    return reply["session_id"], reply["volume_name"]


def say(berth, session, turns):
    seen = len(outputs(berth, session))
    berth.call("POST", f"/sessions/{session}/messages", json={"content": script(turns)})
    wait_until(lambda: len(outputs(berth, session)) >= seen + len(turns) - 1 and berth.session(session)["status"] == "idle", 60, lambda: berth.logs())


def results(berth, volume):
    return {n.removeprefix("results/"): d for n, d in unzip(berth, volume).items() if n.startswith("results/")}


READ_ONLY = """
cd /data && cat in.txt sub/deep.txt
for try in 'echo x > /data/new' 'echo x >> /data/in.txt' 'rm /data/in.txt' 'mv /data/in.txt /data/b' 'mkdir /data/d' 'chmod 777 /data /data/in.txt' 'touch /data/in.txt' \
           'ln -s / /data/l' 'echo x > ~/data/new' 'truncate -s 0 /data/in.txt' 'mount -o remount,rw /data' 'unshare -Urm mount -o remount,bind,rw /data' \
           'ls /proc/1/fd/' 'echo x > /proc/1/cwd/data/in.txt' 'echo x > /proc/1/fd/9/in.txt' 'echo x > /proc/1/root/data/in.txt'; do
        if bash -c "$try" 2>/dev/null; then echo "WORKED: $try"; fi
done
cat /data/in.txt; ls -A /data; grep -c ' /data ' /proc/self/mounts; touch /results/mine && echo may write results; ls -ld ~/data ~/results
"""


def test_data_is_read_only(up):
    """Nothing a program does changes what was uploaded: not by path, mount, namespace or process 1."""
    session, volume = run(up, {"in.txt": b"given\n", "sub/deep.txt": b"deep\n"}, bash(READ_ONLY))
    said = outputs(up, session)[0]
    assert "WORKED" not in said, said
    assert "given" in said and "deep" in said and "may write results" in said and "/home/agent/data -> /data" in said and "/home/agent/results -> /results" in said, said
    assert unzip(up, volume) == {"data/in.txt": b"given\n", "data/sub/deep.txt": b"deep\n", "results/mine": b""}


def test_results_are_kept_by_themselves(up):
    """Folders stay, a second run adds and changes, the same bytes twice are one version, what is stored by hand is not there twice."""
    session, volume = run(up, {"a": b"1"}, bash("mkdir -p /results/x/y && echo one >/results/x/y/f.txt && echo two >/results/top && ln -s /etc/passwd /results/link && mkfifo /results/pipe"))
    assert results(up, volume) == {"x/y/f.txt": b"one\n", "top": b"two\n"}
    listed = up.call("GET", "/documents", params={"tags": "result"}).json()["documents"]
    mine = {d["metadata"]["result_path"]: d for d in listed if d["session_id"] == session}
    assert set(mine) == {"x/y/f.txt", "top"} and mine["x/y/f.txt"]["filename"] == "f.txt" and mine["top"]["version"] == 1
    say(up, session, bash("echo changed >/results/top && echo new >~/results/new && touch /results/x/y/f.txt"))
    assert results(up, volume) == {"x/y/f.txt": b"one\n", "top": b"changed\n", "new": b"new\n"}
    after = {d["metadata"]["result_path"]: d for d in up.call("GET", "/documents", params={"tags": "result"}).json()["documents"] if d["session_id"] == session}
    assert after["top"]["id"] == mine["top"]["id"] and after["top"]["version"] == 2 and after["x/y/f.txt"]["version"] == 1
    say(up, session, [{"tools": [["bash", {"command": "echo by hand >/results/hand"}]]}, {"tools": [["document_put", {"path": "/results/hand", "tags": ["chosen"]}]]}, {"text": "ok"}])
    assert results(up, volume)["hand"] == b"by hand\n" and len(results(up, volume)) == 4
    chosen = [d for d in up.call("GET", "/documents", params={"tags": "chosen"}).json()["documents"] if d["session_id"] == session]
    assert len(chosen) == 1 and up.sql(f"SELECT count(*) FROM docs.document WHERE session_id = '{session}'") == "4"


def test_what_is_too_much_is_said(up):
    """Too large, too many, names that are no names: the rest is kept and an event says what is not."""
    session, volume = run(up, {"a": b"1"}, bash("cd /results && head -c 1500000 /dev/zero >large && printf x >$'bad\\nname' && printf x >$'rtl\\u202e' && echo fine >fine"))
    assert results(up, volume) == {"fine": b"fine\n"}
    logs = [e for e in up.events(session) if e["event_type"] == "log"]
    assert len(logs) == 1 and logs[0]["level"] == "warning" and "3 files of /results were not kept" in logs[0]["message"], logs
    session, volume = run(up, {"a": b"1"}, bash("cd /results && for i in $(seq 30); do echo $i >f$i; done"))
    assert len(results(up, volume)) == 20
    assert any("10 files of /results were not kept" in e["message"] for e in up.events(session) if e["event_type"] == "log")


def test_two_runs_see_nothing_of_each_other(up):
    """Both slots at work at once."""
    first, v1 = run(up, {"secret-a": b"AAA"}, bash("echo A >/results/a; echo left >/tmp/left; ls /data /results"))
    second, v2 = run(up, {"secret-b": b"BBB"}, bash("ls -A /data /results /tmp; cat /data/secret-a /results/a; grep -r AAA /data /results 2>&1; echo B >/results/b"))
    assert {up.session(s)["status"] for s in (first, second)} == {"idle"}
    said = outputs(up, second)[0]
    assert "secret-b" in said and "AAA" not in said and "left" not in said.replace("cannot", ""), said
    assert results(up, v1) == {"a": b"A\n"} and results(up, v2) == {"b": b"B\n"}
    for session in (first, second):
        up.call("POST", f"/sessions/{session}/stop", 200)
    third, v3 = run(up, {"c": b"C"}, bash("ls -A /data /results"))
    assert "secret" not in outputs(up, third)[0] and results(up, v3) == {}
    up.call("POST", f"/sessions/{third}/stop", 200)


def test_a_session_without_a_volume_keeps_nothing(up):
    id = up.create(bash("echo x >/results/x; echo y >/data/y; ls -ld ~/data; true"))["session_id"]
    up.wait_status(id, "idle", seconds=60)
    assert "Read-only file system" in outputs(up, id)[0] and "No such file" in outputs(up, id)[0]
    assert up.sql(f"SELECT count(*) FROM docs.document WHERE session_id = '{id}'") == "0"
    up.call("POST", f"/sessions/{id}/stop", 200)


def test_stop_in_mid_run_keeps_what_is_there(up):
    reply = upload(up, {"a": b"1"}, context=script(bash("echo early >/results/early", "sleep 300"))).json()
    session = reply["session_id"]
    wait_until(lambda: len(outputs(up, session)) == 1, 60, up.logs)
    up.call("POST", f"/sessions/{session}/stop", 200)
    wait_until(lambda: results(up, reply["volume_name"]) == {"early": b"early\n"}, 30, up.logs)
    again, _ = run(up, {"b": b"2"}, NOTHING)
    up.call("POST", f"/sessions/{again}/stop", 200)


def test_killed_worker_loses_nothing_that_was_kept(own_berth):
    """kill -9 in mid-run: what a run before has kept stays; the run goes on in a new slot, and what it makes again is the same document."""
    b = own_berth(workers=1, settings={**FAST})
    session, volume = run(b, {"in": b"data"}, bash("echo first >/results/first"))
    assert results(b, volume) == {"first": b"first\n"}
    b.call("POST", f"/sessions/{session}/messages", json={"content": script(bash("echo half >/results/half; sleep 2; echo end", "cat /data/in; ls ~/data; echo first >/results/first; echo second >/results/second"))})
    wait_until(lambda: sum(e["event_type"] == "pre_tool" for e in b.events(session)) == 2, 30, b.logs)
    b.kill("worker1")
    assert results(b, volume) == {"first": b"first\n"}
    wait_until(lambda: b.session(session)["status"] == "idle" and "second" in results(b, volume), 90, b.logs)
    assert results(b, volume) == {"first": b"first\n", "second": b"second\n"}
    assert b.sql("SELECT count(*), max(version) FROM docs.document").split("|") == ["2", "1"]
    assert "data" in outputs(b, session)[-1]


def test_the_volume_goes_with_its_session(up):
    session, volume = run(up, {"in": b"data"}, bash("true"))
    up.call("GET", f"/download/{volume}", 200)
    up.call("DELETE", f"/sessions/{session}", 204)
    up.call("GET", f"/download/{volume}", 404)
    assert up.sql(f"SELECT count(*) FROM docs.volume WHERE name = '{volume}'") == "0"
