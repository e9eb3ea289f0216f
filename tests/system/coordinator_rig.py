"""coordinatord alone, for its tests: a private PostgreSQL, the real daemon, and Python peers on its sockets."""
import glob
import json
import os
import pathlib
import pwd
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid

import psycopg
import zmq

import wire

ROOT = pathlib.Path(__file__).resolve().parents[2]


def wait_until(check, seconds=10, what="condition"):
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.01)


class Cluster:
    """A PostgreSQL of our own on a Unix socket; the folder goes with it."""

    def __init__(self, fsync=False):
        self.fsync = fsync
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-c-", dir=os.environ.get("BERTH_TEST_TMP", "/tmp")))
        self.folder.chmod(0o755)
        self.bin = pathlib.Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
        self.user = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        (self.folder / "pg").mkdir()
        os.chown(self.folder / "pg", self.user.pw_uid, self.user.pw_gid)
        self.run("initdb", "-D", str(self.folder / "pg/data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self.process = None
        self.start()
        self.sql("CREATE DATABASE berth", "postgres")
        psql = [str(self.bin / "psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder / "pg"), "-U", "postgres", "-d", "berth"]
        for name in ("coordinatord", "docserverd", "gatewayd"):
            psql += ["-v", f"pw_{name}=x"]
        subprocess.run(psql + ["-f", str(ROOT / "scripts/database.sql")], check=True, capture_output=True)

    def as_user(self):
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}

    def run(self, program, *args):
        subprocess.run([str(self.bin / program), *args], check=True, capture_output=True, cwd="/", **self.as_user())

    def start(self):
        log = open(self.folder / "pg.log", "ab")
        self.process = subprocess.Popen(
            [str(self.bin / "postgres"), "-D", str(self.folder / "pg/data"), "-k", str(self.folder / "pg"), "-c", "listen_addresses=",
             "-c", f"fsync={'on' if self.fsync else 'off'}", "-c", "max_connections=40", "-c", "shared_buffers=32MB"],
            stdout=log, stderr=log, cwd="/", **self.as_user())
        log.close()
        wait_until(self.answers, 30, "PostgreSQL up")

    def answers(self):
        try:
            return self.sql("SELECT 1", "postgres")
        except psycopg.OperationalError:
            return False

    def halt(self, number=signal.SIGINT):
        """SIGINT: fast shutdown; SIGQUIT: at once, without a checkpoint."""
        self.process.send_signal(number)
        self.process.wait()

    def connect(self, database="berth", user="postgres"):
        return psycopg.connect(host=str(self.folder / "pg"), dbname=database, user=user, autocommit=True)

    def sql(self, text, database="berth", args=None):
        with self.connect(database) as c:
            cursor = c.execute(text, args)
            return cursor.fetchall() if cursor.description else []

    def conninfo(self):
        return f"host={self.folder / 'pg'} dbname=berth user=berth_coordinatord"

    def reset(self):
        self.sql("DROP SCHEMA core CASCADE")
        self.sql("CREATE SCHEMA core AUTHORIZATION berth_coordinatord")
        self.sql("GRANT USAGE ON SCHEMA core TO berth_gatewayd")

    def close(self):
        self.halt(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)


class Coordinator:
    """The daemon, with short leases. start() and kill() may be called again and again."""

    def __init__(self, cluster, program, **settings):
        self.cluster, self.program = cluster, program
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="c-", dir=cluster.folder))
        self.settings = {
            "database": cluster.conninfo(), "gateway_socket": self.folder / "gw", "worker_socket": self.folder / "wk",
            "bus_socket": self.folder / "bus", "admin_token_file": self.folder / "token", "lease_ttl": "2s", "heartbeat": "300ms",
            "idle_hold": "300ms", **settings}
        self.process = None
        self.zmq = zmq.Context()
        self.peers = []

    def start(self, wait=True, env=None):
        log = open(self.folder / "log", "ab")
        at = log.tell()
        args = [str(self.program)]
        for name, value in self.settings.items():
            args += ["--set", f"{name}={value}"]
        self.process = subprocess.Popen(args, stdout=log, stderr=log, env={**os.environ, **(env or {})})
        log.close()
        if wait:
            wait_until(lambda: "-> active" in self.log()[at:], 20, self.log)
        return self

    def log(self):
        return (self.folder / "log").read_text()

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        return self.process.wait(timeout=20)

    def gateway(self):
        return Link(self, "gw", "gatewayd")

    def worker(self, name="w1", **more):
        return Worker(self, name, **more)

    def bus(self):
        return Bus(self)

    def close(self):
        code = 0
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            code = self.kill(signal.SIGTERM)
        for peer in self.peers:
            peer.close()
        self.zmq.destroy(linger=0)
        text = self.log()
        for mark in ("ERROR: AddressSanitizer", "runtime error:", "LeakSanitizer", "is not allowed"):
            assert mark not in text, text[text.index(mark):][:4000]
        assert code == 0, text[-3000:]


class Refused(Exception):
    def __init__(self, body):
        super().__init__(body)
        self.code, self.text = body["code"], body["message"]


class Link:
    """One DEALER with a thread that owns it: greets, answers pings, matches replies; `handle` answers requests."""

    def __init__(self, coordinator, socket, process):
        self.instance, self.process = str(uuid.uuid4()), process
        self.socket = coordinator.zmq.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.reconnect_ivl, self.socket.reconnect_ivl_max = 10, 100
        self.socket.connect(f"ipc://{coordinator.folder / socket}")
        self.out, self.pending, self.peer, self.closing = queue.Queue(), {}, None, False
        self.ups = 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        coordinator.peers.append(self)
        self.thread.start()
        wait_until(lambda: self.peer, 10, f"{process}: greeting answered")

    def _ping(self):
        self.socket.send(wire.pack("ping", {"process": self.process, "instance": self.instance}))

    def _run(self):
        self._ping()
        pinged = time.monotonic()
        while not self.closing:
            while not self.out.empty():
                self.socket.send(self.out.get())
            if time.monotonic() - pinged > 0.3:
                self._ping()
                pinged = time.monotonic()
            if self.socket.poll(2):
                self._receive(wire.unpack(self.socket.recv()))
        self.socket.close()

    def _receive(self, m):
        if m.name == "ping":
            self.socket.send(wire.pack("pong", {"process": self.process, "instance": self.instance}))
        elif m.name == "link_reset":
            self._ping()
        elif m.name == "pong":
            if m.body["instance"] != self.peer:
                self.peer = m.body["instance"]
                self.ups += 1
                self.on_up()
        elif m.flags & wire.REPLY:
            waiting = self.pending.pop(m.correlation, None)
            if waiting:
                waiting.put(m)
        else:
            reply = self.handle(m.name, m.body)
            if m.flags & wire.REQUEST:
                name, body = reply or ("ok_reply", {})
                self.out.put(wire.pack(name, body, wire.REPLY, m.correlation))

    def on_up(self):
        pass

    def handle(self, name, body):
        return None

    def begin(self, name, **msg):
        if name == "session_create":
            msg.setdefault("kind_default", False)
        waiting, correlation = queue.Queue(), uuid.uuid4().bytes
        self.pending[correlation] = waiting
        self.out.put(wire.pack(name, msg, wire.REQUEST, correlation))
        return waiting

    def finish(self, waiting, timeout=10):
        m = waiting.get(timeout=timeout)
        if m.name == "error_reply":
            raise Refused(m.body)
        return m.body

    def call(self, name, timeout=10, **msg):
        return self.finish(self.begin(name, **msg), timeout)

    def send(self, name, **msg):
        self.out.put(wire.pack(name, msg))

    def close(self):
        self.closing = True
        self.thread.join(5)

    # what tests of sessions say all the time

    def create(self, text=None, kind="headless", **more):
        if text is not None:
            more["message"] = json.dumps([{"type": "text", "text": text}])
        more.setdefault("request_digest", "d")
        return json.loads(self.call("session_create", tenant="default", kind=kind, **{"kind_default": False, **more})["session_json"])

    def post(self, session_id, text="more", **more):
        return self.call("message_post", tenant="default", session_id=session_id, request_digest="d",
                         content=json.dumps([{"type": "text", "text": text}]), **more)

    def stop(self, session_id, timeout=10):
        return self.call("session_stop", timeout, tenant="default", session_id=session_id)

    def delete(self, session_id):
        return self.call("session_delete", tenant="default", session_id=session_id)


class Worker(Link):
    """A worker without a slot: takes a session, does what the test says."""

    def __init__(self, coordinator, name, kinds=("headless", "desktop"), kind="headless", beat=0.2, refuse=None):
        self.name, self.kinds, self.kind, self.beat, self.refuse = name, list(kinds), kind, beat, refuse
        self.session = self.epoch = None
        self.state = "warm"
        self.assigned, self.cancelled, self.notified = queue.Queue(), queue.Queue(), queue.Queue()
        self.keep, self.mute, self.obey = None, False, True
        self.beats = None
        super().__init__(coordinator, "wk", "workerd")
        self.hello()
        self.beats = threading.Thread(target=self._beats, daemon=True)
        self.beats.start()

    def hello(self):
        welcome = self.call("worker_hello", worker_id=self.name, instance=self.instance, version="1", kind=self.kind, kinds=self.kinds,
                            state=self.state, endpoint=f"/run/{self.name}.sock", session_id=self.session, epoch=self.epoch or 0, limits="{}")
        self.keep = welcome["keep"]
        if not self.keep:
            self.drop()
        return welcome

    def on_up(self):
        if self.beats:
            threading.Thread(target=self.hello, daemon=True).start()

    def drop(self):
        self.session = self.epoch = None
        self.state = "warm"

    def heartbeat(self):
        return self.call("worker_heartbeat", 3, worker_id=self.name, kind=self.kind, state=self.state, session_id=self.session,
                         epoch=self.epoch or 0, slot=json.dumps({"width": 800, "height": 600, "state": self.state}), load="{}")

    def _beats(self):
        while not self.closing:
            if not self.mute:
                held = self.session
                try:
                    reply = self.heartbeat()
                    if not reply["keep"] and held and held == self.session and self.obey:
                        self.drop()
                except (Refused, queue.Empty):
                    pass
            time.sleep(self.beat)

    def handle(self, name, body):
        if name == "session_assign":
            if self.refuse:
                return "error_reply", {"code": "unavailable", "message": self.refuse}
            self.session, self.epoch, self.state = body["session_id"], body["epoch"], "busy"
            self.assigned.put(body)
        elif name == "session_cancel":
            self.cancelled.put(body)
            if self.obey and body["session_id"] == self.session:
                self.send_released()
        elif name == "message_notify":
            self.notified.put(body)
        return None

    def send_released(self):
        session, epoch = self.session, self.epoch
        self.drop()
        self.begin("worker_released", worker_id=self.name, session_id=session, epoch=epoch)

    def append(self, *items, to_state=None, reason=None, idem=None, attachments=(), epoch=None, session=None, timeout=10, **more):
        return self.call("event_append", timeout, session_id=session or self.session, epoch=self.epoch if epoch is None else epoch,
                         idem=idem or uuid.uuid4().hex, items=[{"event_type": t, "body": json.dumps(b)} for t, b in items],
                         attachments=list(attachments), to_state=to_state, reason=reason, **more)

    def take(self, timeout=10):
        return self.assigned.get(timeout=timeout)


class Bus:
    """Everything that is published, in order."""

    def __init__(self, coordinator):
        self.socket = coordinator.zmq.socket(zmq.SUB)
        self.socket.linger = 0
        self.socket.subscribe(b"")
        self.socket.connect(f"ipc://{coordinator.folder / 'bus'}")
        self.seen = []
        coordinator.peers.append(self)

    def read(self):
        while self.socket.poll(0):
            m = wire.unpack(self.socket.recv())
            self.seen.append((m.name, m.body))
        return self.seen

    def wait(self, check, seconds=10):
        return wait_until(lambda: next((b for n, b in self.read() if check(n, b)), None), seconds,
                          lambda: f"bus: {[(n, b.get('event_type'), b.get('seq')) for n, b in self.seen][-20:]}")

    def synced(self):
        self.wait(lambda n, b: n == "bus_tick")
        return self

    def close(self):
        self.socket.close()
