"""The demo as a newcomer sees it: aimock as the model, a real desktop slot with a browser, real documents."""
import csv
import hashlib
import json
import os
import pathlib
import struct
import subprocess
import sys

import pytest

from conftest import ROOT, aimock, assert_gap_free, free_port, wait_until

DEMO = ROOT / "examples" / "demo"


@pytest.fixture
def demo_berth(own_berth):
    port = free_port()
    command = aimock(DEMO / "fixtures.json", port, "-l", "2", "-c", "40")
    return own_berth(workers=2, kind="desktop", model_url=f"http://127.0.0.1:{port}", model_command=command, demo=True, demo_dir=str(DEMO),
                     settings={"workerd": {"idle_release": "2s"}})


def test_demo_session(demo_berth):
    berth = demo_berth
    (berth.stack.state / "berth.env").write_text(f"BERTH_URL={berth.stack.url}\nBERTH_TOKEN={berth.stack.token}\n")
    assert berth.call("GET", "/status", 200).json()["demo"] is True
    subprocess.run([sys.executable, str(ROOT / "scripts" / "demo.py"), "start", "--state", str(berth.stack.state)], check=True)
    session = (berth.stack.state / "demo-session").read_text()
    wait_until(lambda: berth.session(session)["status"] in ("running", "idle", "failed"), 60)
    picture = berth.call("GET", f"/sessions/{session}/screenshot")
    if berth.session(session)["status"] == "running":
        assert picture.status_code == 200 and picture.content[:8] == b"\x89PNG\r\n\x1a\n"
    done = berth.wait_status(session, "idle", "failed", "waiting", seconds=600)
    assert done["status"] == "idle", done
    events = berth.events(session)
    assert_gap_free(events)
    tools = [(e["tool_name"], e["tool_input"].get("action") or e["tool_input"].get("command", "")[:8]) for e in events if e["event_type"] == "pre_tool"]
    assert [t for t, _ in tools].count("computer") == 9 and [t for t, _ in tools].count("document_put") == 2
    assert all(e["error"] is None for e in events if e["event_type"] == "post_tool"), [e for e in events if e["event_type"] == "post_tool" and e["error"]]
    answer = [e for e in events if e["event_type"] == "message" and e["role"] == "assistant"][-1]
    assert "Bergmann GmbH owes the most: 4753.00 EUR" in answer["content"][-1]["text"]
    # The script ran on the uploaded data: its output is what the CSV says.
    owed = {}
    for row in csv.DictReader(open(DEMO / "files" / "orders.csv")):
        if row["state"] == "open":
            owed[row["customer"]] = owed.get(row["customer"], 0) + float(row["total_eur"])
    table = "".join(f"| {name} | {total:.2f} |\n" for name, total in sorted(owed.items(), key=lambda x: -x[1]))
    documents = {d["filename"]: d for d in berth.call("GET", "/documents?tags=demo", 200).json()["documents"]}
    report = berth.call("GET", f"/documents/{documents['report.md']['id']}", 200).content
    assert report.decode() == ("# Open orders\n\nBergmann GmbH owes the most: 4753.00 EUR, 42 % of all that is open.\n\n| Customer | Open (EUR) |\n| --- | ---: |\n"
                               + table + f"\nTotal: {sum(owed.values()):.2f} EUR of 64 orders.\n")
    chart = berth.call("GET", f"/documents/{documents['open-orders.png']['id']}", 200).content
    assert chart[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", chart[16:24]) == (880, 495)
    for name, data in (("report.md", report), ("open-orders.png", chart)):
        assert documents[name]["checksum"] == hashlib.sha256(data).hexdigest() and documents[name]["size_bytes"] == len(data)
    assert set(documents["report.md"]["tags"]) == {"demo", "report"}
    # The desktop really changed: the screenshots of opening, scrolling, sorting and filtering all differ.
    shots = [e for e in events if e["event_type"] == "screenshot"]
    # A machine without KVM may show later what was done.
    assert len({s["url"] for s in shots}) >= (4 if done["kind"] == "vm" else 7)
    data = berth.call("GET", shots[-1]["url"], 200).content
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (shots[-1]["width"], shots[-1]["height"])
    # The slot is gone after the end.
    wait_until(lambda: berth.session(session)["worker_id"] is None, 20, "the slot to be given back")
    keep = os.environ.get("BERTH_DEMO_SHOTS")
    if keep:
        for i, shot in enumerate(shots):
            pathlib.Path(keep, f"{i:02d}.png").write_bytes(berth.call("GET", shot["url"], 200).content)


def test_other_messages_are_answered_as_a_script(demo_berth):
    session = demo_berth.create(message="What can you do?", kind="headless")["session_id"]
    demo_berth.wait_status(session, "idle")
    assert "I am a script, not a model" in json.dumps(demo_berth.events(session))
