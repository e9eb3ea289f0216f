"""The page in a real Chromium: walks against a fake gateway and against a real Berth that plays the demo."""
import os
import pathlib
import subprocess
import threading
import time

from conftest import ROOT, aimock, free_port, wait_until
from test_demo import DEMO


def run_walks(berth_env, *files):
    node = os.environ.get("BERTH_NODE", "node")
    artefacts = os.environ.get("BERTH_ARTEFACTS", str(ROOT / "artefacts"))
    result = subprocess.run([node, "--test", *[str(ROOT / "tests" / "web" / f) for f in files]], cwd=ROOT / "web", text=True, capture_output=True,
                            env={**os.environ, "ARTEFACTS": artefacts, **berth_env}, timeout=900)
    print(result.stdout[-6000:], result.stderr[-2000:])
    assert result.returncode == 0
    assert "# fail 0" in result.stdout or "fail 0" in result.stdout


def test_modules_and_walks_on_the_fake():
    run_walks({}, "modules.test.mjs", "page.test.mjs", "documents.test.mjs")


def test_control_agents_timeline_keys_models_on_the_fake():
    run_walks({}, "control.test.mjs", "agents.test.mjs", "timeline.test.mjs", "keys.test.mjs", "code.test.mjs", "model.test.mjs", "faults.test.mjs")


def test_walks_on_a_real_berth(own_berth):
    port = free_port()
    command = aimock(DEMO / "fixtures.json", port, "-l", "8", "-c", "20")
    berth = own_berth(workers=2, job_workers=1, kind="desktop", model_url=f"http://127.0.0.1:{port}", model_command=command, demo=True, demo_dir=str(DEMO))
    gone = threading.Event()

    def supervise():
        pid_file = berth.stack.state / "gatewayd.pid"
        while not gone.is_set():
            berth.stack.check()
            pid_file.write_text(str(berth.pid("gatewayd")))
            time.sleep(0.05)
    thread = threading.Thread(target=supervise, daemon=True)
    thread.start()
    try:
        run_walks({"BERTH_URL": berth.stack.url, "BERTH_TOKEN": berth.stack.token,
                   "BERTH_GATEWAY_KILL": f"kill -9 $(cat {pathlib.Path(berth.stack.state) / 'gatewayd.pid'})"}, "system.test.mjs")
    finally:
        gone.set()
        thread.join()


def test_agents_approvals_files_models_on_a_real_berth(own_berth):
    key = "sk-of-the-walks"
    berth = own_berth(workers=2, job_workers=1, api_key=key)
    berth.model.RequestHandlerClass.fake.key = key
    run_walks({"BERTH_URL": berth.stack.url, "BERTH_TOKEN": berth.stack.token, "BERTH_MODEL_KEY": key}, "real.test.mjs")


def test_settings_and_stored_scripts_on_a_real_berth(berth):
    run_walks({"BERTH_URL": berth.stack.url, "BERTH_TOKEN": berth.stack.token}, "settings.test.mjs", "scripts.test.mjs")


def test_cards_survive_the_worker(own_berth):
    berth = own_berth(workers=1)
    gone, pid_file = threading.Event(), berth.folder / "worker.pid"

    def supervise():
        while not gone.is_set():
            berth.stack.check()
            pid_file.with_suffix(".new").write_text(str(berth.pid("worker1")))
            pid_file.with_suffix(".new").rename(pid_file)
            time.sleep(0.05)
    thread = threading.Thread(target=supervise, daemon=True)
    thread.start()
    try:
        wait_until(pid_file.exists, 10)
        run_walks({"BERTH_URL": berth.stack.url, "BERTH_TOKEN": berth.stack.token, "BERTH_WORKER_PID": str(pid_file)}, "waiting.test.mjs")
    finally:
        gone.set()
        thread.join()
