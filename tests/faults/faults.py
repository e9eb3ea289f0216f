"""The faults of the plan (F1 ... F24), each a function of a Run; see README.md here for the table."""
import json
import signal
import socket
import subprocess
import threading
import time

import psycopg

from harness import Client, Run, Viewer, wait_until

WORKER_POINTS = ("worker.before_intent", "worker.after_intent", "worker.after_effect", "worker.before_result", "worker.after_result",
                 "worker.lease_renewal", "slot.create", "slot.destroy")
COORDINATOR_POINTS = ("hub.before_commit", "hub.after_commit", "hub.before_publish", "hub.before_ack", "hub.after_ack", "lease.before_assign",
                      "lease.before_renew")


def f1(run, count):
    """kill -9 of gatewayd: up in 1 s, viewers whole after 2 s more."""
    for _ in range(count):
        run.pause(0.2, 1.0)
        run.kill("gatewayd")
        run.recover("F1", 3)


def f2(run, count):
    """kill -9 of coordinatord: sessions go on in 2 s."""
    for _ in range(count):
        run.pause(0.2, 1.0)
        run.kill("coordinatord")
        run.recover("F2", 3)


def f3(run, count):
    """kill -9 of a worker in a step: its session goes on elsewhere, or there again, in 15 s."""
    for _ in range(count):
        run.pause(0.2, 1.0)
        run.kill(f"worker{run.random.randint(1, run.berth.stack.workers)}")
        run.recover("F3", 15)


def f5(run, count, points=WORKER_POINTS + COORDINATOR_POINTS):
    """Every named crash point. The process is started with the point armed, dies there, and comes back without."""
    for point in points:
        for n in range(count):
            name = "coordinatord" if point in COORDINATOR_POINTS else f"worker{n % run.berth.stack.workers + 1}"
            once = point in ("slot.destroy", "slot.create", "lease.before_assign")
            crash_at(run, name, f"{point}:{1 if once else run.random.randint(1, 3)}", point)


def crash_at(run, name, value, point):
    service = run.berth.stack.services[name]
    run.hold(name)
    service.env["BERTH_CRASH_AT"] = value
    # An orderly end: slot.destroy is reached on the way, and the armed process finds work to do.
    run.kill(name)
    service.process.wait()
    run.berth.stack.start(service)
    armed = service.process
    if point == "lease.before_assign":
        run.kill("worker1")
    if point == "slot.destroy":
        wait_until(lambda: armed.poll() is not None or (run.moving(service.started) and run.greeted(name)), 60, "the armed worker works")
        armed.send_signal(signal.SIGTERM)
    wait_until(lambda: armed.poll() is not None, 60, lambda: f"{name} reached {value}\n{run.berth.logs(20)}")
    if armed.returncode not in (137, -9):
        run.violations.append(f"F5 {point}: {name} ended with {armed.returncode}, not at the point")
    service.env.pop("BERTH_CRASH_AT")
    run.let_go(name)
    run.recover(f"F5 {point}", 15)


def f6(run, count):
    """All daemons at once."""
    for _ in range(count):
        run.pause()
        run.kill("gatewayd", "coordinatord", "docserverd", *(n for n in run.berth.stack.services if n.startswith("worker")))
        run.recover("F6", 15)


def f7(run, count):
    """SIGSTOP of each daemon, shorter and longer than a lease; a woken worker is fenced."""
    lengths = (1, 12) if count <= 2 else (1, 5, 20, 60)
    for n in range(count):
        length = lengths[n % len(lengths)]
        for name in ("gatewayd", "coordinatord", "docserverd", "worker1"):
            for c in [run.client, *run.clients]:
                c.excused = name == "gatewayd"
            run.signal(name, signal.SIGSTOP)
            stopped = time.monotonic()
            run.client.once("GET", "/sessions?limit=5")
            if name == "docserverd":
                run.client.once("DELETE", f"/documents/01a1f96d-{n:04d}-7e2d-a375-e43dc9324ca0")
            time.sleep(max(0, stopped + length - time.monotonic()))
            run.signal(name, signal.SIGCONT)
            run.recover(f"F7 {name} {length} s", 15)
    for c in [run.client, *run.clients]:
        c.excused = False


def postgres(run, number, down):
    service = run.berth.stack.services["postgres"]
    run.hold("postgres")
    service.process.send_signal(number)
    service.process.wait()
    time.sleep(down)
    # After kill -9 its children let go of the shared memory when they notice; until then it does not start.
    deadline = time.monotonic() + 30
    while True:
        run.berth.stack.start(service)
        try:
            service.process.wait(0.7)
        except subprocess.TimeoutExpired:
            break
        assert time.monotonic() < deadline, "PostgreSQL does not start"
    wait_until(lambda: answers(run), 30, "PostgreSQL answers")
    run.let_go("postgres")


def answers(run):
    try:
        return run.berth.sql("SELECT 1") == "1"
    except subprocess.CalledProcessError:
        return False


def f8(run, count):
    """PostgreSQL: restart, away for a while, kill -9, one backend ended, no connection left."""
    stop = 5 if count == 1 else 30
    for _ in range(count):
        run.pause()
        postgres(run, signal.SIGINT, 0)
        run.recover("F8 restart", 5)
        postgres(run, signal.SIGINT, stop)
        run.recover("F8 stop", 5)
        postgres(run, signal.SIGKILL, 0)
        run.recover("F8 kill -9", 5)
        since = time.monotonic()
        run.berth.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'berth_coordinatord'")
        run.recover("F8 backends", 3, since)
        all_connections(run)


def all_connections(run):
    """Every connection is taken, and then the daemons lose theirs: they wait until some are free."""
    password = run.berth.stack.secret("postgres").read_text().strip()
    taken = []
    run.berth.sql("ALTER SYSTEM SET superuser_reserved_connections = 3")
    try:
        for _ in range(70):
            taken.append(psycopg.connect(host=str(run.berth.stack.run_dir), user="postgres", password=password, dbname="berth", autocommit=True))
    except psycopg.OperationalError:
        pass
    taken[0].execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'berth_%'")
    try:
        for _ in range(70):
            taken.append(psycopg.connect(host=str(run.berth.stack.run_dir), user="postgres", password=password, dbname="berth"))
    except psycopg.OperationalError:
        pass
    time.sleep(1.5)
    for c in taken:
        c.close()
    run.recover("F8 connections", 3)


def f9(run, count):
    """Ten times the store faults that are always there, and nothing else; they must really have happened."""
    for _ in range(count):
        run.pause()
        run.recover("F9", 5)
    detail = {}
    for _ in range(100):  # a coordinator says its figures once a second, one that has just begun not yet
        detail = next(d for d in run.client.until("GET", "/status")["daemons"] if d["name"] == "coordinatord").get("detail") or {}
        if "commits" in detail:
            break
        run.pause()
    run.injected = {name: detail[name] for name in ("commits", "commit_retries", "commit_replies_lost")}
    if not (detail["commit_retries"] > 0 and detail["commit_replies_lost"] > 0):
        run.violations.append(f"F9: no store fault was injected: {run.injected}")


def f13(run, count):
    """Between daemons and PostgreSQL: cut, refused for a while, silent for longer than a statement may take, and each second time
    half-open or silent for longer than any keepalive."""
    for n in range(count):
        run.pause()
        run.proxy.cut()
        run.recover("F13 cut", 3)
        run.proxy.refusing = True
        run.proxy.cut()
        time.sleep(2)
        run.proxy.refusing = False
        run.recover("F13 refused", 3)
        silence(run, 4)
        run.recover("F13 silent", 15)
        if n % 2 == 0:
            run.proxy.forget()
            run.recover("F13 half-open", 15)
        else:
            silence(run, 25)
            run.recover("F13 long silence", 15)


def silence(run, seconds):
    """Nothing passes; callers are answered all the while."""
    run.proxy.silent = True
    end = time.monotonic() + seconds
    while True:
        run.client.once("GET", "/sessions?limit=5")
        run.client.once("POST", "/sessions/none-such/messages", json={"content": "x"})
        if time.monotonic() > end:
            break
        time.sleep(min(1, max(0, end - time.monotonic())))
    run.proxy.silent = False


def slow_viewer(run, session):
    """A WebSocket of its own that reads one byte a second, or nothing; returns the socket. A store fault may refuse it at first."""
    for _ in range(20):
        s = slow_viewer_once(run, session)
        if s.recv(12) == b"HTTP/1.1 101":
            return s
        s.close()
    raise AssertionError("no stream for a slow viewer in 20 tries")


def slow_viewer_once(run, session):
    s = socket.create_connection(("127.0.0.1", run.berth.stack.port))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.sendall((f"GET /sessions/{session}/stream?after_seq=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
               f"Authorization: Bearer {run.berth.stack.token}\r\n\r\n").encode())
    return s


def f16(run, count, viewers=20):
    """Viewers that do not read: they are cut at the bound, others do not notice, the gateway's memory stays."""
    for _ in range(count):
        before = memory(run.pid("gatewayd"))
        key = f"flood{run.random.getrandbits(32):x}"
        # A session that floods: 1.2 MiB of output, twice over in its events, for the slow ones to be behind.
        session = run.post(run.client, "/sessions", key, [{"text": "first", "tools": [["bash", {"command": "sleep 1"}]]}] + [
            {"tools": [["bash", {"command": f"echo effect={key}.{i}; head -c 20000 /dev/zero | tr '\\0' x"}]]} for i in range(60)] +
            [{"text": f"through {key}"}], kind="headless")
        run.sessions.append(session)
        run.viewers += [Viewer(run, session, "ws"), Viewer(run, session, "sse")]
        slow = [slow_viewer(run, session) for _ in range(viewers)]
        stop = threading.Event()

        def trickle():
            while not stop.wait(1):
                for s in slow[::2]:
                    try:
                        s.recv(1)
                    except OSError:
                        pass
        threading.Thread(target=trickle, daemon=True).start()
        run.answered(run.client, session, key)
        working = run.sessions[:run.load]
        run.recover("F16", 5, sessions=working)
        grown = memory(run.pid("gatewayd")) - before
        limit = viewers * 2.5 * 1024 + 20 * 1024
        if grown > limit:
            run.violations.append(f"I8 gatewayd grew by {grown} KiB for {viewers} slow viewers, {limit:.0f} are allowed")
        stop.set()
        for s in slow:
            s.close()


def memory(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


PHASES = {
    "model": [{"text": "slow", "delay": 30}],
    "tool": [{"tools": [["bash", {"command": "echo effect={key}.0; sleep 30"}]]}],
    "steps": [{"tools": [["bash", {"command": "echo effect={key}.{i}; sleep 0.05"}]]} for _ in range(50)],
}


def f23(run, count):
    """Stop pressed while the session waits for a slot, calls the model, runs a tool, is between steps, is being recovered."""
    for n in range(count):
        for phase in ("queue", "model", "tool", "steps", "recovery"):
            stop_in(run, phase)


def stop_in(run, phase):
    key = f"stop{run.random.getrandbits(32):x}"
    turns = json.loads(json.dumps(PHASES.get(phase, PHASES["tool"])).replace("{key}", key))
    for i, t in enumerate(turns):
        for tool in t.get("tools", []):
            tool[1]["command"] = tool[1]["command"].replace("{i}", str(i))
    session = run.post(run.client, "/sessions", key, turns, kind="headless")
    run.sessions.append(session)
    viewer = Viewer(run, session, "ws")
    run.viewers.append(viewer)
    if phase != "queue":
        wanted = "pre_tool" if phase in ("tool", "steps", "recovery") else None
        wait_until(lambda: any(u["event_type"] == wanted for u in viewer.updates) if wanted else run.status(session)["status"] == "running", 40,
                   lambda: f"{phase} reached: {run.status(session)}")
    if phase == "recovery":
        holder = run.status(session)["worker_id"]
        run.kill(f"worker{holder}")
    pressed = time.monotonic()
    run.client.until("POST", f"/sessions/{session}/stop", good=(200, 202, 409))
    wait_until(lambda: run.status(session)["status"] == "stopped", 20, lambda: f"stopped in {phase}: {run.status(session)}")
    took = time.monotonic() - pressed
    run.recovered.setdefault(f"F23 {phase}", []).append(took)
    if took > 5:
        run.violations.append(f"F23 {phase}: stopped after {took:.1f} s, allowed are 5 s")
    last = run.status(session)["last_seq"]
    time.sleep(0.5)
    if run.status(session)["last_seq"] != last:
        run.violations.append(f"F23 {phase}: events after the end of {session}")


def f24(run, count):
    """A second coordinator waits and takes over; a second worker of the same id never leads to two holders."""
    for _ in range(count):
        run.pause()
        first = run.berth.stack.services["coordinatord"]
        log = open(run.berth.stack.state / "log" / "coordinatord-2.log", "ab")
        second = subprocess.Popen(first.argv, stdout=log, stderr=log, env={"PATH": "/usr/bin:/bin", **first.env}, cwd="/", umask=0o007,
                                  **({"user": first.user, "group": "berth", "extra_groups": []} if first.user else {}))
        time.sleep(1)
        term = int(run.berth.sql("SELECT term FROM core.hub"))
        run.hold("coordinatord")
        run.kill("coordinatord")
        killed = time.monotonic()
        # What was on its way to the viewers does not count as taken over: the new term does.
        while int(run.berth.sql("SELECT term FROM core.hub")) <= term and time.monotonic() < killed + 7:
            time.sleep(0.02)
        run.recover("F24 takeover", 7, killed)
        if int(run.berth.sql("SELECT term FROM core.hub")) <= term or second.poll() is not None:
            run.violations.append("F24: the second coordinator did not take over")
        second.terminate()
        second.wait(20)
        run.let_go("coordinatord")
        run.recover("F24 back", 7)
        worker = run.berth.stack.services["worker1"]
        twin = subprocess.Popen(worker.argv, stdout=log, stderr=log, env={"PATH": "/usr/bin:/bin", **worker.env}, cwd="/", umask=0o007,
                                **({"user": worker.user, "group": "berth", "extra_groups": []} if worker.user else {}))
        time.sleep(3)
        twin.kill()
        twin.wait()
        run.recover("F24 twin", 15)
        log.close()


BUS = ("dup", "reorder", "corrupt")


def f15(run, count):
    """The bus drops everything (the Run begins so): what is stored reaches every viewer by the poll. Then every hint comes twice, late,
    broken; then nobody can connect to it any more."""
    for _ in range(count):
        time.sleep(3)
        run.recover("F15 drop", 3)
    service = run.berth.stack.services["coordinatord"]
    for fault in BUS:
        service.env["BERTH_FAULT"] = f"bus={fault}"
        run.kill("coordinatord")
        for _ in range(count):
            run.pause()
            run.recover(f"F15 {fault}", 3)
    service.env.pop("BERTH_FAULT")
    run.kill("coordinatord")
    run.recover("F15 healed", 3)
    (run.berth.stack.run_dir / "bus.sock").unlink()
    run.kill("gatewayd")  # its subscription comes too late: there is nobody to subscribe to
    run.recover("F15 socket deleted", 3)


# name: (function, CI count, nightly count, options of the Run)
FAULTS = {
    "F1": (f1, 10, 50, {}), "F2": (f2, 10, 50, {}), "F3": (f3, 10, 50, {}), "F5": (f5, 3, 10, {}), "F6": (f6, 2, 20, {}),
    "F7": (f7, 2, 10, {}), "F8": (f8, 1, 20, {}), "F9": (f9, 3, 30, {"store": "error=0.1,timeout=0.1,lost=0.1"}), "F13": (f13, 2, 10, {"proxy": True}),
    "F15": (f15, 2, 10, {"env": {"BERTH_FAULT": "bus=drop"}}), "F16": (f16, 1, 5, {"workers": 3, "load": 2}), "F23": (f23, 5, 50, {"load": 0}), "F24": (f24, 1, 5, {}),
}


def percentile(values, percent):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * percent / 100))]


def told(kind, times):
    return f"{kind}: {len(times)} times, recovered in p50 {percentile(times, 50):.2f} s, p99 {percentile(times, 99):.2f} s"


def perform(name, seed=1, nightly=False, count=None):
    """One fault in a Berth of its own. Returns (violations, recovery times by kind)."""
    function, ci, night, options = FAULTS[name]
    if nightly:
        options = {"store": "error=0.1,timeout=0.1,lost=0.1", **options}
    with Run(seed, **options) as run:
        function(run, count or (night if nightly else ci))
        run.finish()
        for kind, times in run.recovered.items():
            print(told(kind, times), flush=True)
        if run.violations:
            print(f"seed {seed}: {len(run.violations)} violations\n" + "\n".join(run.violations[:40]) +
                  ("\n" + run.berth.logs(60) if run.logs else ""), flush=True)
        return run.violations, run.recovered


__all__ = ["FAULTS", "perform", "Client"]
