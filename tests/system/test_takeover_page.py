"""noVNC in a real Chromium takes over a desktop in a real slot, types, sees the pixels change; then replays it."""
from test_page import run_walks
from test_takeover import XTERM


def test_takeover_and_replay_on_the_page(own_berth):
    berth = own_berth(workers=1, job_workers=1, kind="desktop", settings={"workerd": {"recording_piece": "2s", "idle_release": "10min"}})
    turns = [{"tools": [["bash", {"command": XTERM}]]}, {"tools": [["computer", {"action": "screenshot"}]]}, {"text": "Over to you."}]
    s = berth.create(turns, kind="desktop", session_name="A form to fill in")["session_id"]
    berth.wait_status(s, "idle", seconds=60)
    run_walks({"BERTH_URL": berth.stack.url, "BERTH_TOKEN": berth.stack.token, "BERTH_SESSION": s}, "takeover.test.mjs")
