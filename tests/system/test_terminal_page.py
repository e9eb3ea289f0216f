"""The page's terminal in a real Chromium: commands typed in real slots, with and without a desktop, and their output seen."""
from test_page import run_walks


def test_terminal_on_the_page(own_berth):
    berth = own_berth(workers=2, kind="desktop", settings={"workerd": {"kinds": "desktop,headless", "idle_release": "10min"}})
    made = {}
    for kind in ("desktop", "headless"):
        made[kind] = berth.create([{"text": "Over to you."}], kind=kind, session_name=f"A {kind} to look into")["session_id"]
        berth.wait_status(made[kind], "idle", seconds=60)
    run_walks({"BERTH_URL": berth.stack.url, "BERTH_TOKEN": berth.stack.token, "BERTH_SESSION": made["desktop"], "BERTH_HEADLESS": made["headless"]}, "terminal.test.mjs")
