"""Fixtures of the system tests: real PostgreSQL, real daemons, real slots; only the model is a fake.

The environment says what to test: BERTH_BUILD (a meson build folder), BERTH_IMAGE (a slot image folder),
BERTH_WEB (web/dist). scripts/test sets them."""
import atexit
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "fakes"), str(ROOT / "tests" / "system")]

import model as fake_model  # noqa: E402
import stack  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BERTH_BUILD", ROOT / "build"))
IMAGE = os.environ.get("BERTH_IMAGE", "")
PROGRAMS = {"coordinatord": "coordinatord/coordinatord", "docserverd": "docserverd/docserverd",
            "gatewayd": "gatewayd/gatewayd", "workerd": "workerd/workerd"}


def wait_until(check, seconds=20, what="condition"):
    """The value of check() as soon as it is true; fails with `what` after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.02)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def in_session(sid):
    """Processes of a session (setsid), by its id."""
    found = []
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int((p / "stat").read_text().rsplit(")", 1)[1].split()[3]) == sid:
                found.append(int(p.name))
        except OSError:
            pass
    return found


def copy_programs(folder):
    """Daemons run under accounts that may not read the checkout: they get a copy."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, place in PROGRAMS.items():
        shutil.copy2(BUILD / place, folder / name)
    for name in ("berth-guest", "berth-decoder", "berth-egress", "berth-vm-ram.so"):
        for path in (BUILD / "workerd").rglob(name):
            if path.is_file():
                shutil.copy2(path, folder / name)
    for path in folder.iterdir():
        path.chmod(0o755)
    folder.chmod(0o755)


def aimock(fixtures, port, *options):
    """The command that runs aimock on a port, from a copy that the account of the daemons can read."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-aimock-", dir=os.environ.get("BERTH_TEST_TMP", "/tmp")))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(ROOT / "examples" / "demo" / "node_modules" / "@copilotkit" / "aimock", folder / "aimock")
    shutil.copy(fixtures, folder / "fixtures.json")
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    return [os.environ.get("BERTH_NODE", "node"), str(folder / "aimock" / "dist" / "cli.js"), "-p", str(port), "-f", str(folder / "fixtures.json"), *options]


class Berth:
    """A running Berth with a fake model, and the calls tests make."""

    def __init__(self, **options):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-t-", dir=os.environ.get("BERTH_TEST_TMP", "/tmp")))
        self.folder.chmod(0o755)
        copy_programs(self.folder / "bin")
        self.model = None
        if "model_url" not in options:
            self.model = fake_model.serve()
            options["model_url"] = f"http://127.0.0.1:{self.model.server_address[1]}"
        options.setdefault("kind", "headless")
        options.setdefault("model", "demo")
        options.setdefault("settings", {}).setdefault("workerd", {}).setdefault("idle_release", "60s")
        if options.get("demo_dir"):
            shutil.copytree(options["demo_dir"], self.folder / "demo", ignore=shutil.ignore_patterns("node_modules"))
            options["demo_dir"] = str(self.folder / "demo")
        web = os.environ.get("BERTH_WEB", "")
        if web:
            shutil.copytree(web, self.folder / "web")
            options.setdefault("web_dir", str(self.folder / "web"))
        options.setdefault("image_dir", IMAGE)
        self.stack = stack.Stack(self.folder / "s", self.folder / "bin", port=free_port(), docs_port=free_port(), **options)
        self.http = requests.Session()
        self.supervising = True

    def start(self, seconds=60):
        self.stack.start_all()
        self.wait_ready(seconds)
        self.http.headers["Authorization"] = f"Bearer {self.stack.token}"
        return self

    def wait_ready(self, seconds=60):
        def check():
            self.stack.check()
            return self.stack.ready() is None
        wait_until(check, seconds, lambda: f"ready: {self.stack.ready()}\n{self.logs()}")

    def stop(self):
        self.stack.stop_all()
        if self.model:
            self.model.shutdown()
            self.model.server_close()

    def close(self, failed=False):
        self.stop()
        problems = self.sanitizer_reports()
        if failed and os.environ.get("BERTH_KEEP"):
            print(f"kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
        assert not problems, problems

    def sanitizer_reports(self):
        found = []
        for log in (self.folder / "s" / "log").glob("*.log"):
            text = log.read_text(errors="replace")
            for mark in ("ERROR: AddressSanitizer", "runtime error:", "LeakSanitizer: detected", "Assertion"):
                if mark in text:
                    at = text.index(mark)
                    found.append(f"{log.name}: {text[at:at + 3000]}")
        return "\n".join(found)

    def logs(self, lines=25):
        return "\n".join(f"--- {p.name}\n" + "".join(p.read_text(errors="replace").splitlines(True)[-lines:])
                         for p in sorted((self.folder / "s" / "log").glob("*.log")) if p.name != "initdb.log")

    # --- processes

    def pid(self, name):
        return self.stack.services[name].process.pid

    def kill(self, name, number=signal.SIGKILL, restart=True):
        service = self.stack.services[name]
        service.process.send_signal(number)
        if number == signal.SIGKILL:
            service.process.wait()
            if name == "postgres":  # its children notice by themselves; until then its memory is taken
                wait_until(lambda: not in_session(service.process.pid), 20, "the database's processes to end")
            if restart:
                self.stack.start(service)

    # --- the API

    def url(self, path):
        return self.stack.url + path

    def call(self, method, path, expect=None, **kwargs):
        kwargs.setdefault("timeout", 15)
        reply = self.http.request(method, self.url(path), **kwargs)
        if expect is not None:
            assert reply.status_code == expect, f"{method} {path}: {reply.status_code} {reply.text[:500]}\n{self.logs()}"
        return reply

    def create(self, turns=None, **body):
        if turns is not None:
            body["message"] = "SCRIPT: " + json.dumps(turns)
        body.setdefault("kind", "headless")
        return self.call("POST", "/sessions", 201, json=body).json()

    def session(self, session_id):
        return self.call("GET", f"/sessions/{session_id}", 200).json()

    def wait_status(self, session_id, *wanted, seconds=30):
        last = {}

        def check():
            last.update(self.session(session_id))
            return last["status"] in wanted
        wait_until(check, seconds, lambda: f"session {session_id} {wanted}, is {last.get('status')} {last.get('error')}\n{self.logs()}")
        return dict(last)

    def events(self, session_id, after=0):
        out = []
        while True:
            page = self.call("GET", f"/events/{session_id}?after_seq={after}&limit=500", 200).json()["events"]
            if not page:
                return out
            out += page
            after = page[-1]["seq"]

    def model_requests(self):
        return requests.get(f"http://127.0.0.1:{self.model.server_address[1]}/requests", timeout=5).json()

    def sql(self, text):
        return self.stack.psql("-c", text, database="berth").strip()

    def slot_processes(self, worker):
        """Processes that run under the worker's daemon: its slot. Host census by parentage."""
        parents = {}
        for p in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                parents[int(p.name)] = int((p / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                pass
        root, found, grown = self.pid(worker), set(), True
        while grown:
            more = {pid for pid, parent in parents.items() if (parent == root or parent in found) and pid not in found}
            grown = bool(more)
            found |= more
        return found


def assert_gap_free(events):
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1)), [e["seq"] for e in events]
    ids = [e["id"] for e in events]
    assert ids == sorted(set(ids))


def pytest_addoption(parser):
    parser.addoption("--nightly", action="store_true", help="the counts of a night instead of those of a merge (100 cycles of each kind of slot; testssl.sh)")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        item.failed = True
        for value in item.funcargs.values():
            if isinstance(value, Berth):
                report.sections.append(("daemon logs", value.logs()))


def pytest_terminal_summary(terminalreporter):
    """What fault runs measured (record_property), also of those that passed and of other processes of xdist."""
    lines = [text for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])
             for name, text in getattr(report, "user_properties", []) if name == "recovered"]
    if lines:
        terminalreporter.section("recovery")
        terminalreporter.write_line("\n".join(lines))


@pytest.fixture(scope="session")
def berth():
    """One Berth with two headless slots, shared by the tests that leave it in order."""
    b = Berth()
    try:
        yield b.start()
    finally:
        b.close()


@pytest.fixture
def own_berth(request):
    """A factory of Berths of the test's own, for tests that kill things: own_berth(workers=2, kind="desktop", ...)."""
    made = []

    def make(**options):
        b = Berth(**options)
        made.append(b)
        return b.start()
    yield make
    for b in made:
        b.close(failed=getattr(request.node, "failed", False))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """Only the database: a Stack whose PostgreSQL runs, for tests of a single daemon."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-pg-", dir=os.environ.get("BERTH_TEST_TMP", "/tmp")))
    folder.chmod(0o755)
    copy_programs(folder / "bin")
    s = stack.Stack(folder / "s", folder / "bin", port=free_port(), docs_port=free_port(), image_dir=IMAGE)
    s.prepare()
    s.init_database()
    s.start(s.postgres_service())
    s.setup_database()
    yield s
    s.stop_all()
    shutil.rmtree(folder, ignore_errors=True)


def pytest_sessionstart(session):
    if not (BUILD / "coordinatord" / "coordinatord").exists():
        pytest.exit(f"no build in {BUILD}; run ./scripts/test, or set BERTH_BUILD", 2)
    stack.ensure_accounts(4)
