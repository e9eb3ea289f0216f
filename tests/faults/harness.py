"""A Berth under load with faults put into it: sessions that work, viewers that watch, a supervisor, and the oracle."""
import datetime
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "system"), str(ROOT / "tests" / "fakes"), str(ROOT / "tests" / "faults")]

import stack  # noqa: E402
from conftest import BUILD, Berth, wait_until  # noqa: E402
from fault_proxy import FaultProxy  # noqa: E402
from oracle import Client, Journal, judge  # noqa: E402
from streams import SessionStream  # noqa: E402

STORE_FAULTS = "error=0.01,timeout=0.01,lost=0.01"
DAEMONS = ("gatewayd", "coordinatord", "docserverd")
TURNS = 12          # of the agent, for one message


def built_with_faults():
    return b"BERTH_LEDGER" in (BUILD / "workerd" / "workerd").read_bytes()


class Viewer(SessionStream):
    def __init__(self, run, session_id, kind):
        self.run_journal = run.journal
        self.intents, self.said = {}, []
        self.began = 0           # when the newest step that is through was stored as begun, by the clock of the hub
        super().__init__(run.berth, session_id, kind)

    def take(self, update):
        before = len(self.updates)
        super().take(update)
        if len(self.updates) > before:
            self.run_journal.received(self.session_id, update)
            self.take_step(update)
            if update["event_type"] == "message" and update.get("role") == "assistant":
                self.said.append(json.dumps(update["content"]))

    def take_step(self, update):
        """The result of a step whose intent was stored after the fault was asked for after it: that is work that goes on. What
        was under way when the fault came, and what only tells of the fault, is none."""
        if update["event_type"] == "pre_tool":
            self.intents[update["tool_call_id"]] = datetime.datetime.fromisoformat(update["timestamp"]).timestamp()
        elif update["event_type"] == "post_tool" and not update.get("error"):
            self.began = max(self.began, self.intents.get(update["tool_call_id"], 0))


class Run:
    """One Berth under load. `with Run(seed=1) as run: run.kill("gatewayd"); ...; run.finish()`"""

    def __init__(self, seed, workers=2, store=STORE_FAULTS, proxy=False, env=None, load=None, settings=None):
        self.random = random.Random(seed)
        self.seed, self.recovered = seed, {}
        self.load = workers if load is None else load     # sessions that work all the time
        self.logs = bool(os.environ.get("BERTH_FAULT_LOGS"))
        env = dict(env or {})
        if store:
            env["BERTH_FAULT_STORE"] = f"{store},seed={seed}"
        # The schedule kills more workers in one turn of a session than the limit against sessions that kill theirs allows.
        settings = {"workerd": {"idle_release": "60s", "model_stall": "5s"}, "coordinatord": {"losses_max": "1000"}, **(settings or {})}
        self.berth = Berth(workers=workers, env=env, settings=settings)
        stack = self.berth.stack
        self.ledger_file = self.berth.folder / "ledger"
        self.ledger_file.touch()
        socket = self.berth.folder / "ledger.sock"
        stack.env["BERTH_LEDGER"] = str(socket)
        self.ledger = subprocess.Popen([sys.executable, str(ROOT / "tests/faults/ledger.py"), str(socket), str(self.ledger_file)],
                                       stdout=subprocess.PIPE, text=True)
        assert self.ledger.stdout.readline() == "ready\n"
        self.proxy = None
        if proxy:
            self.proxy = FaultProxy(self.berth.folder / "proxy", stack.run_dir)
            for role in ("coordinatord", "gatewayd", "docserverd"):
                stack.extra.setdefault(role, {})["database"] = f"host={self.proxy.folder} dbname=berth user=berth_{role}"
        self.journal = Journal(self.berth.folder / "journal")
        self.viewers, self.sessions, self.violations = [], [], []
        self.lock = threading.Lock()
        self.held = set()        # services that a fault holds down: the supervisor leaves them alone
        self.stopping, self.no_more = threading.Event(), threading.Event()
        self.threads, self.clients = [], []

    def __enter__(self):
        try:
            self.berth.start()
            self.client = Client(self.berth, self.journal)
            self.spawn(self.supervise)
            for i in range(self.load):
                self.spawn(self.work, i)
            if self.load:
                wait_until(lambda: len(self.sessions) == self.load and all(v.updates for v in self.viewers), 60,
                           lambda: self.berth.logs())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind, value, traceback):
        if kind:
            print(f"seed {self.seed}: {self.violations[:10]}" + ("\n" + self.berth.logs(60) if self.logs else ""), flush=True)
        self.close(failed=kind is not None)

    def spawn(self, fn, *args):
        def guarded():
            try:
                fn(*args)
            except Exception as e:  # noqa: BLE001: whatever it was, it is a finding
                if not self.stopping.is_set():
                    self.violations.append(f"I5 {type(e).__name__}: {str(e)[:800]}")
        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        self.threads.append(thread)

    # --- what goes on all the time

    def supervise(self):
        """What systemd does: a dead daemon comes back after 200 ms."""
        while not self.stopping.wait(0.02):
            for name, service in list(self.berth.stack.services.items()):
                if service.wanted and name not in self.held and service.process.poll() is not None:
                    if name in DAEMONS or name.startswith("worker") or name == "postgres":
                        if self.stopping.wait(0.2):
                            return
                        with self.lock:
                            if name not in self.held and service.process.poll() is not None:
                                self.berth.stack.start(service)

    def hold(self, name):
        """From here on the fault alone starts this service."""
        with self.lock:
            self.held.add(name)

    def let_go(self, name):
        self.held.discard(name)

    def script(self, name, turns=TURNS):
        """Turns whose every step has an effect of its own in the ledger, and a file of its own in the slot."""
        return [{"text": f"step {i}", "tools": [["bash", {"command": f"echo effect={name}.{i} >> log; sleep 0.0{self.random.randint(1, 9)}"}]]}
                for i in range(turns)] + [{"text": f"through {name}"}]

    def post(self, client, path, name, turns, **body):
        """A message with an id of its own, sent until it is acknowledged; the journal keeps that it was."""
        text = f"ack={name} SCRIPT: {json.dumps(turns)}"
        field = "content" if path.endswith("/messages") else "message"
        reply = client.until("POST", path, json={field: text, **body}, headers={"Idempotency-Key": name})
        session = reply.get("session_id") or path.split("/")[2]
        self.journal.acknowledge("message", session, f"ack={name} ")
        return session

    def work(self, number):
        client = Client(self.berth, self.journal)
        self.clients.append(client)
        rnd = random.Random(self.seed * 1000 + number)
        name = lambda: f"{rnd.getrandbits(40):010x}"
        key = name()
        session = self.post(client, "/sessions", key, self.script(key), kind="headless")
        self.viewers += [Viewer(self, session, "ws"), Viewer(self, session, "sse")]
        self.sessions.append(session)
        while not self.stopping.is_set():
            self.answered(client, session, key)
            if self.stopping.is_set() or self.no_more.is_set():
                return
            key = name()
            self.post(client, f"/sessions/{session}/messages", key, self.script(key))

    def answered(self, client, session, key, seconds=240):
        """Waits until the agent has said that it is through; that is what a user sees."""
        deadline = time.monotonic() + seconds
        watcher = next(v for v in self.viewers if v.session_id == session)
        while not self.stopping.is_set():
            if any(f"through {key}" in text for text in list(watcher.said)):
                return
            assert time.monotonic() < deadline, f"session {session} did not come through {key}: {client.until('GET', f'/sessions/{session}')}"
            time.sleep(0.05)

    # --- faults

    def pause(self, low=0.2, high=1.0):
        time.sleep(self.random.uniform(low, high))

    def pid(self, name):
        return self.berth.stack.services[name].process.pid

    def signal(self, name, number):
        try:
            os.kill(self.pid(name), number)
        except ProcessLookupError:
            pass

    def kill(self, *names):
        for name in names:
            self.signal(name, signal.SIGKILL)

    def moving(self, since, sessions=None):
        """Every session (or those named) has shown its viewers a step that was begun, stored and done after the fault."""
        return not self.behind(since, sessions)

    def behind(self, since, sessions=None):
        wall = time.time() - time.monotonic() + since
        return [v.session_id for v in self.viewers if v.began <= wall and (sessions is None or v.session_id in sessions)]

    def greeted(self, name):
        """The worker's present process is known to the coordinator."""
        age = time.monotonic() - self.berth.stack.services[name].started
        return self.berth.sql("SELECT online AND greeted_at > clock_timestamp() - interval '%f seconds' FROM core.worker WHERE worker_id = '%s'"
                              % (age, name.removeprefix("worker"))) == "t"

    def recover(self, fault, within, since=None, sessions=None):
        """Waits until all goes on; notes how long that took."""
        since = since or time.monotonic()
        wait_until(lambda: self.moving(since, sessions) or self.violations, 60,
                   lambda: f"{fault}: no progress in {self.behind(since, sessions)}")
        took = time.monotonic() - since
        self.recovered.setdefault(fault, []).append(took)
        # A machine shared with other tests may be slow once, and a step that is begun after the fault has to come through
        # before it counts: twice the column and 5 s more are never right.
        if took > 2 * within + 5:
            self.violations.append(f"{fault}: recovered after {took:.1f} s, allowed are {within} s")
        return took

    def status(self, session):
        return self.client.until("GET", f"/sessions/{session}")

    # --- the end

    def finish(self):
        """Lets the work under way come to its end, then judges. Returns the violations."""
        self.quiet()
        wait_until(lambda: all(self.berth.sql(f"SELECT status FROM core.session WHERE session_id = '{s}'") in ("idle", "finished", "failed", "stopped")
                               for s in self.sessions), 60, "I5: sessions at rest")
        for s in self.sessions:
            last = int(self.berth.sql(f"SELECT last_seq FROM core.session WHERE session_id = '{s}'"))
            wait_until(lambda: all(v.after >= last for v in self.viewers if v.session_id == s), 90,
                       lambda: f"I2: viewers of {s} at {[(v.kind, v.after) for v in self.viewers if v.session_id == s]} of {last}")
        for v in self.viewers:
            v.stopping.set()     # nothing comes any more; a thread that waits for it ends by itself
        self.violations += judge(self.berth, self.journal, self.viewers, self.ledger_file, self.sessions)
        self.violations += self.census()
        return self.violations

    def quiet(self):
        """No new messages; what was asked is answered. The supervisor goes on."""
        self.no_more.set()
        for t in self.threads[1:]:
            t.join(100)

    def census(self):
        """I4: every bubblewrap of ours belongs to a worker that lives."""
        alive = {self.pid(n) for n in self.berth.stack.services if n.startswith("worker")}

        def orphans():
            found = []
            for p in pathlib.Path("/proc").glob("[0-9]*"):
                try:
                    command = (p / "cmdline").read_bytes()
                    if b"bwrap" not in command or str(self.berth.folder).encode() not in command:
                        continue
                    parent = int((p / "stat").read_text().rsplit(")", 1)[1].split()[1])
                    while parent > 1 and parent not in alive:
                        parent = int(pathlib.Path(f"/proc/{parent}/stat").read_text().rsplit(")", 1)[1].split()[1])
                    if parent not in alive:
                        found.append(f"I4 slot process {p.name} has no worker: {command[:200]}")
                except (OSError, IndexError):
                    pass
            return found
        deadline = time.monotonic() + 10
        while orphans() and time.monotonic() < deadline:
            time.sleep(0.2)
        return orphans()

    def close(self, failed=False):
        self.stopping.set()
        for v in self.viewers:
            v.stopping.set()
        for t in self.threads[:1]:
            t.join(5)
        for name in list(self.berth.stack.services):
            self.signal(name, signal.SIGCONT)
        try:
            self.berth.close(failed=failed)
        finally:
            if self.proxy:
                self.proxy.close()
            self.ledger.kill()
            self.ledger.wait()
