#!/usr/bin/env python3
"""A whole Berth on this machine without systemd: configuration, private PostgreSQL, daemons, supervision.

Used by scripts/up (as a program) and by the system tests (as a module), so both start the same thing.

    stack.py run  --state DIR ...   write configuration, start everything, restart what dies, stop on SIGTERM
    stack.py stop --state DIR       stop a running stack and wait until no process is left
    stack.py alive --state DIR      exit 0 when one runs from there
"""
import argparse
import base64
import ctypes
import dataclasses
import grp
import hashlib
import json
import os
import pathlib
import pwd
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import cgroups  # noqa: E402

ROLES = ("coordinatord", "docserverd", "gatewayd")
SUBIDS_FIRST, SUBIDS = 1879048192, 65536  # of worker N: from FIRST + N * 65536; a range nobody else hands out
SOCKET_PATH_MAX = 107  # sun_path of unix(7), less the final NUL


class Problem(Exception):
    """Something a person has to mend; the text says what to do."""


@dataclasses.dataclass
class Service:
    name: str
    argv: list
    user: str | None = None      # account to run as; None = the caller's own
    env: dict = dataclasses.field(default_factory=dict)
    stop_signal: int = signal.SIGTERM
    process: subprocess.Popen | None = None
    started: float = 0.0
    restarts: int = 0
    wanted: bool = True
    not_before: float = 0.0


def pg_bin():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    if not found:
        raise Problem("PostgreSQL's server is not installed; run `apt-get install postgresql`")
    return found[-1].parent


JOBS_FIRST = 65  # workers that serve jobs have numbers of their own, above those of the pool


def numbers(workers, jobs=0):
    return [*range(1, workers + 1), *range(JOBS_FIRST, JOBS_FIRST + jobs)]


def ensure_accounts(workers, jobs=0):
    """As root, daemons run under accounts of their own; nothing of Berth runs as root."""
    if os.geteuid() != 0:
        return
    for name in ["berth"] + [f"berth-worker{i}" for i in numbers(workers, jobs)]:
        try:
            pwd.getpwnam(name)
        except KeyError:
            group = ["--user-group"] if name == "berth" else ["--gid", "berth"]
            subprocess.run(["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent",
                            "--shell", "/usr/sbin/nologin", *group, name], check=True)


def ensure_subids(workers, jobs=0):
    """Slots run under ids of their own: each worker's account gets a range in /etc/subuid and /etc/subgid."""
    if os.geteuid() != 0:
        return
    for path in (pathlib.Path("/etc/subuid"), pathlib.Path("/etc/subgid")):
        have = path.read_text().splitlines() if path.exists() else []
        names = {line.split(":")[0] for line in have}
        more = [f"berth-worker{i}:{SUBIDS_FIRST + i * SUBIDS}:{SUBIDS}" for i in numbers(workers, jobs) if f"berth-worker{i}" not in names]
        if more:
            with open(path, "a") as f:
                f.write("".join(line + "\n" for line in more))


def keep_priority(pid):
    """With sched_autogroup a raised priority counts only inside its session, and each service has one: as a whole it is raised as
    this process is."""
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if nice < 0:
        try:
            pathlib.Path(f"/proc/{pid}/autogroup").write_text(str(nice))
        except OSError:
            pass  # no such thing in this kernel, or it has ended already


class Stack:
    def __init__(self, state, bin_dir, *, port=8765, docs_port=8766, workers=2, web_dir="", demo_dir="", image_dir="",
                 kind="desktop", model_url="", api_key="", model="", demo=False, model_command=None, prices="", settings=None, env=None,
                 job_workers=0, workers_max=0, vm_image=""):
        self.state = pathlib.Path(state).resolve()
        self.bin = pathlib.Path(bin_dir).resolve()
        self.port, self.docs_port, self.workers = port, docs_port, workers
        self.workers_max = max(workers, workers_max)    # coordinatord may ask for that many
        self.starter = None                             # the socket over which it does
        self.web_dir, self.demo_dir, self.image_dir, self.kind = web_dir, demo_dir, image_dir, kind
        self.model_url, self.api_key, self.model, self.demo = model_url, api_key, model, demo
        self.job_workers = job_workers          # workers that read documents, run hooks and ask models for them
        self.prices = prices                    # price table of models, a JSON file
        self.model_command = model_command      # argv of a model server to run beside the daemons
        self.extra = settings or {}             # {"workerd": {"idle_release": "2s"}, ...}
        self.vm_image = str(vm_image)           # of slots of the kind vm; "" = there are none
        self.env = env or {}                    # added to every daemon's environment
        self.root = os.geteuid() == 0
        self.services = {}
        self.cgroups = None                     # groups made for the workers of this stack

    # --- folders, accounts, secrets -----------------------------------------------------------------

    @property
    def run_dir(self):
        return self.state / "run"

    def account(self, name):
        return name if self.root else None

    def own(self, path, user, mode, group="berth"):
        os.chmod(path, mode)
        if self.root:
            os.chown(path, pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid)

    def folder(self, name, user="berth", mode=0o700):
        path = self.state / name
        path.mkdir(parents=True, exist_ok=True)
        self.own(path, user, mode)
        return path

    def secret(self, name, value=None, user="berth"):
        """A file in secrets/ that keeps its first value; made at random when none is given."""
        path = self.state / "secrets" / name
        if value is not None or not path.exists():
            text = value if value is not None else base64.urlsafe_b64encode(secrets.token_bytes(24)).decode()
            temporary = path.with_suffix(".new")
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
                f.write(text + "\n")
            self.own(temporary, user, 0o600)
            temporary.rename(path)
        return path

    def prepare(self):
        if len(str(self.run_dir / "worker99" / "fd.sock")) > SOCKET_PATH_MAX or len(str(self.run_dir / ".s.PGSQL.5432")) > SOCKET_PATH_MAX:
            raise Problem(f"the state folder's path is too long for Unix sockets: {self.state}; give a shorter --state")
        ensure_accounts(self.workers_max, self.job_workers)
        ensure_subids(self.workers_max, self.job_workers)
        self.state.mkdir(parents=True, exist_ok=True)
        os.chmod(self.state, 0o755)
        self.folder("run", mode=0o750)
        self.folder("log", mode=0o755)
        self.folder("etc", mode=0o755)
        self.folder("secrets", mode=0o711)   # each file inside is 0600 of the one account that reads it
        self.folder("postgres")
        self.folder("blobs")
        self.folder("templates", mode=0o2770)   # the group's: workers of slots of the kind vm share it
        for i in range(self.workers_max):
            self.folder(f"worker{i + 1}", user=f"berth-worker{i + 1}")
            self.folder(f"run/{i + 1}", user=f"berth-worker{i + 1}", mode=0o750)
            self.folder(f"run/worker{i + 1}", user=f"berth-worker{i + 1}", mode=0o750)  # only it makes its socket there
        for i in range(self.job_workers):
            self.folder(f"jobs{i + 1}", user=f"berth-worker{JOBS_FIRST + i}")

    # --- PostgreSQL ---------------------------------------------------------------------------------

    def as_user(self, user, argv, **kwargs):
        if self.root:
            kwargs.update(user=user, group="berth", extra_groups=[])
        return subprocess.run([str(a) for a in argv], check=True, **kwargs)

    def init_database(self):
        """initdb, once. The cluster has no TCP listener; its socket is in run/, passwords rule over it."""
        data = self.state / "postgres" / "data"
        if (data / "PG_VERSION").exists():
            have = (data / "PG_VERSION").read_text().strip()
            want = pg_bin().parent.name
            if have != want:
                raise Problem(f"the database in {data} is of PostgreSQL {have}, installed is {want}; "
                              f"install postgresql-{have} or move the folder away to begin anew")
        else:
            password = self.secret("postgres")
            try:
                self.as_user("berth", [pg_bin() / "initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", password,
                                       "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"],
                             stdout=open(self.state / "log" / "initdb.log", "w"), stderr=subprocess.STDOUT, cwd="/")
            except subprocess.CalledProcessError:
                raise Problem(f"initdb failed; see {self.state / 'log' / 'initdb.log'}") from None
            with open(data / "postgresql.auto.conf", "a") as f:
                f.write(f"listen_addresses = ''\nunix_socket_directories = '{self.run_dir}'\nunix_socket_permissions = 0770\n"
                        "max_connections = 60\nshared_buffers = 128MB\nlog_line_prefix = '%m [%p] %q%u@%d '\n"
                        + "".join(f"{k} = {v}\n" for k, v in self.extra.get("postgres", {}).items()))

    def postgres_service(self):
        return Service("postgres", [str(pg_bin() / "postgres"), "-D", str(self.state / "postgres" / "data")],
                       self.account("berth"), stop_signal=signal.SIGINT)

    def psql(self, *args, database="postgres", text=None):
        env = dict(os.environ, PGPASSWORD=self.secret("postgres").read_text().strip())
        return subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(self.run_dir), "-U", "postgres", "-d", database,
                               "-At", *args], env=env, check=True, capture_output=True, text=True, input=text).stdout

    def setup_database(self):
        """Roles, schemas and passwords; safe to run again."""
        deadline = time.monotonic() + 60
        while True:
            try:
                exists = self.psql("-c", "SELECT 1 FROM pg_database WHERE datname = 'berth'").strip()
                break
            except subprocess.CalledProcessError as e:
                if time.monotonic() > deadline:
                    raise Problem(f"PostgreSQL does not answer: {e.stderr.strip()}; see {self.state / 'log' / 'postgres.log'}") from None
                time.sleep(0.05)
        if not exists:
            self.psql("-c", "CREATE DATABASE berth")
        variables = []
        for role in ROLES:
            password = self.secret(f"db-{role}").read_text().strip()
            variables += ["-v", f"pw_{role}={password}"]
            # libpq's passfile: host:port:database:user:password
            self.secret(f"pgpass-{role}", f"*:*:*:berth_{role}:{password}")
        self.psql(*variables, "-f", str(HERE / "database.sql"), database="berth")

    # --- daemons ------------------------------------------------------------------------------------

    def database_settings(self, role):
        return {"database": f"host={self.run_dir} dbname=berth user=berth_{role}",
                "database_passfile": str(self.state / "secrets" / f"pgpass-{role}")}

    def daemon(self, name, program, values, user="berth"):
        values = {**values, **self.extra.get(program, {}), **self.extra.get(name, {})}
        path = self.state / "etc" / f"{name}.conf"
        path.write_text("# written by scripts/stack.py at each start\n" + "".join(f"{k} = {v}\n" for k, v in values.items()))
        self.own(path, user, 0o644)
        return Service(name, [str(self.bin / program), "--config", str(path)], self.account(user), env=dict(self.env))

    def daemon_services(self):
        run = self.run_dir
        documents = {"documents_socket": run / "docs.sock", "documents_descriptor_socket": run / "docs-fd.sock"}
        services = [
            self.daemon("coordinatord", "coordinatord", {
                **self.database_settings("coordinatord"), "gateway_socket": run / "gateway.sock", "worker_socket": run / "worker.sock",
                "bus_socket": run / "bus.sock", "admin_token_file": self.state / "secrets" / "admin-token",
                **({"pool_starter": run / "starter.sock", "pool_min": self.workers, "pool_max": self.workers_max} if self.workers_max > self.workers else {})}),
            self.daemon("docserverd", "docserverd", {
                **self.database_settings("docserverd"), "socket": run / "docs.sock", "descriptor_socket": run / "docs-fd.sock",
                "blob_dir": self.state / "blobs"}),
            self.daemon("gatewayd", "gatewayd", {
                **self.database_settings("gatewayd"), "listen": f"127.0.0.1:{self.port}", "documents_listen": f"127.0.0.1:{self.docs_port}",
                "coordinator_socket": run / "gateway.sock", "bus_socket": run / os.environ.get("BERTH_TEST_BUS", "bus.sock"), **documents,
                **({"web_dir": self.web_dir} if self.web_dir else {}), **({"demo_dir": self.demo_dir} if self.demo_dir else {}),
                "demo": "yes" if self.demo else "no"}),
        ]
        return services + [self.worker_service(i) for i in numbers(self.workers, self.job_workers)]

    def worker_service(self, i):
        run, jobs = self.run_dir, i >= JOBS_FIRST
        name = f"jobs{i - JOBS_FIRST + 1}" if jobs else f"worker{i}"
        account = f"berth-worker{i}"
        values = {"worker_id": name if jobs else str(i), "coordinator_socket": run / "worker.sock",
                  "documents_socket": run / "docs.sock", "documents_descriptor_socket": run / "docs-fd.sock",
                  "descriptor_socket": run / name / "fd.sock", "state_dir": self.state / name, "image_dir": self.image_dir,
                  "guest_helper": self.bin / "berth-guest", "decoder_helper": self.bin / "berth-decoder",
                  "egress_helper": self.bin / "berth-egress",
                  **({"kind": "headless", "serves": "jobs"} if jobs else {"kind": self.kind})}
        if self.vm_image and not jobs:
            values.update({"kinds": "desktop,headless,vm", "vm_image": self.vm_image, "vm_preload": self.bin / "berth-vm-ram.so",
                           "vm_templates": os.environ.get("BERTH_VM_TEMPLATES") or self.state / "templates"})
        if self.prices:
            values["prices"] = self.prices
        if self.model_url:
            values["anthropic_url"] = self.model_url
        if self.model:
            values["model"] = self.model
        if self.api_key:
            values["anthropic_key_file"] = self.secret(f"anthropic-key-{i}", self.api_key, account)
        return self.daemon(name, "workerd", values, account)

    # --- the pool -----------------------------------------------------------------------------------

    def open_starter(self):
        """coordinatord asks here for workers: datagrams "start N" and "stop N"."""
        if self.workers_max == self.workers:
            return
        path = self.run_dir / "starter.sock"
        path.unlink(missing_ok=True)
        self.starter = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.starter.bind(str(path))
        self.own(path, "berth", 0o600)

    def serve_starter(self):
        while self.starter:
            try:
                text = self.starter.recv(64).decode(errors="replace")
            except BlockingIOError:
                return
            asked = re.fullmatch(r"(start|stop) (\d{1,4})", text)
            if not asked or not 1 <= int(asked[2]) <= self.workers_max:
                continue
            service = self.services.get(f"worker{asked[2]}")
            running = service and service.process.poll() is None
            if asked[1] == "start" and not (service and service.wanted):
                if running:  # it was told to stop and has not ended yet: asked again later
                    continue
                self.start(self.worker_service(int(asked[2])))
            elif asked[1] == "stop" and running:
                service.wanted = False
                service.process.send_signal(service.stop_signal)

    # --- processes ----------------------------------------------------------------------------------

    def start(self, service):
        log = open(self.state / "log" / f"{service.name}.log", "ab")
        who = {"user": service.user, "group": "berth", "extra_groups": []} if service.user else {}
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **service.env}
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "https_proxy", "no_proxy", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                env.setdefault(name, os.environ[name])
        argv = service.argv
        if self.root and re.fullmatch(r"(worker|jobs)\d+", service.name):
            if self.cgroups is None:
                self.cgroups = cgroups.open_base(hashlib.sha256(str(self.state).encode()).hexdigest()[:12])
            account = pwd.getpwnam(service.user)
            argv = cgroups.enter_command(cgroups.give(self.cgroups, service.name, account.pw_uid, account.pw_gid), argv)
        service.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd="/",
                                           start_new_session=True, umask=0o007, **who)
        service.started = time.monotonic()
        keep_priority(service.process.pid)
        log.close()
        self.services[service.name] = service

    def wait_port(self, port, name, seconds=30):
        """Until something listens there: the first session must not meet a model that is still starting."""
        deadline = time.monotonic() + seconds
        while True:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if self.services[name].process.poll() is not None or time.monotonic() > deadline:
                raise Problem(f"the {name} does not start; last lines of {self.state}/log/{name}.log:\n{self.log_tail(name)}")
            time.sleep(0.05)

    def stop_service(self, service, wait=10):
        service.wanted = False
        if service.process and service.process.poll() is None:
            service.process.send_signal(service.stop_signal)
            try:
                service.process.wait(wait)
            except subprocess.TimeoutExpired:
                service.process.kill()
                service.process.wait()

    def start_all(self, say=lambda text: None):
        self.prepare()
        say("database")
        self.init_database()
        self.start(self.postgres_service())
        self.setup_database()
        say("daemons")
        self.open_starter()
        if self.model_command:
            self.start(Service("demo-model", self.model_command, self.account("berth"), env={"AIMOCK_STRICT_TURN_INDEX": "1"}))
            self.wait_port(int(self.model_command[self.model_command.index("-p") + 1]), "demo-model")
        for service in self.daemon_services():
            self.start(service)

    def check(self):
        """Starts again what has died: at once when it ran for a while, with a growing pause when it keeps dying."""
        died = []
        self.serve_starter()
        for service in list(self.services.values()):
            if not service.wanted or service.process.poll() is None:
                continue
            now = time.monotonic()
            if service.not_before == 0:
                died.append((service.name, service.process.returncode))
                service.restarts = 0 if now - service.started > 10 else service.restarts + 1
                service.not_before = now + min(0.2 * 2 ** service.restarts, 5)
            if now >= service.not_before:
                service.not_before = 0
                self.start(service)
        return died

    def stop_all(self):
        if self.starter:
            self.starter.close()
            self.starter = None
        order = sorted(self.services.values(), key=lambda s: (s.name == "postgres", not s.name.startswith("worker")))
        for group in ([s for s in order if s.name.startswith("worker")], [s for s in order if not s.name.startswith("worker") and s.name != "postgres"],
                      [s for s in order if s.name == "postgres"]):
            for service in group:
                service.wanted = False
                if service.process and service.process.poll() is None:
                    service.process.send_signal(service.stop_signal)
            for service in group:
                self.stop_service(service)
        if self.cgroups:
            cgroups.close_base(self.cgroups)
        self.cgroups = None

    # --- what people ask --------------------------------------------------------------------------

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self):
        return (self.state / "secrets" / "admin-token").read_text().strip()

    def ready(self):
        """None when ready, else what is missing."""
        try:
            with urllib.request.urlopen(self.url + "/ready", timeout=2) as reply:
                return None if reply.status == 200 and (self.state / "secrets" / "admin-token").exists() else "no token yet"
        except urllib.error.HTTPError as e:
            return e.read().decode(errors="replace")[:200]
        except (OSError, urllib.error.URLError) as e:
            return str(e)

    def log_tail(self, name, lines=12):
        try:
            return "".join((self.state / "log" / f"{name}.log").read_text(errors="replace").splitlines(True)[-lines:])
        except OSError:
            return ""


def process_start(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def running_supervisor(state):
    """The pid of the supervisor of this state folder, or None. A recycled pid is told by its start time."""
    try:
        pid, start = (pathlib.Path(state) / "supervisor.pid").read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if process_start(pid) == start else None


def run(args):
    state = pathlib.Path(args.state).resolve()
    if running_supervisor(state):
        raise Problem(f"Berth already runs from {state}; stop it with ./scripts/down")
    # Orphans of a killed daemon come to us and are reaped here (PR_SET_CHILD_SUBREAPER = 36).
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    key = os.environ.pop("ANTHROPIC_API_KEY", "")
    stack = Stack(state, args.bin, port=args.port, docs_port=args.docs_port, workers=args.workers, workers_max=args.workers_max, web_dir=args.web, demo_dir=args.demo_dir,
                  image_dir=args.image, vm_image=args.vm_image, prices=args.prices, model_url=os.environ.get("ANTHROPIC_BASE_URL", "") if key else f"http://127.0.0.1:{args.model_port}",
                  api_key=key, model=os.environ.get("BERTH_MODEL", "") if key else "demo", demo=not key,
                  model_command=None if key else shlex.split(args.model_command), job_workers=1)
    stop = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, frame: stop.append(n))
    state.mkdir(parents=True, exist_ok=True)
    (state / "supervisor.pid").write_text(f"{os.getpid()} {process_start(os.getpid())}\n")
    say = lambda text: print(f"   {text}", flush=True)
    try:
        stack.start_all(say)
        deadline, told = time.monotonic() + 60, False
        while not stop:
            for name, code in stack.check():
                say(f"{name} ended ({'signal ' + str(-code) if code < 0 else 'exit ' + str(code)}), starting it again; log: {state}/log/{name}.log")
            if not told:
                missing = stack.ready()
                if missing is None:
                    told = True
                    with open(os.open(state / "berth.env", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
                        f.write(f"BERTH_URL={stack.url}\nBERTH_TOKEN={stack.token}\n")
                    print(f"\n   url:   {stack.url}/#token={stack.token}\n   token: {stack.token}\n", flush=True)
                    (state / "ready").touch()
                elif time.monotonic() > deadline:
                    dead = [s.name for s in stack.services.values() if s.process.poll() is not None or s.restarts > 1]
                    name = dead[0] if dead else "gatewayd"
                    raise Problem(f"not ready after 60 s ({missing})\n   last lines of {state}/log/{name}.log:\n{stack.log_tail(name)}")
            try:  # reap what was left to us, without touching our own children
                own = {s.process.pid for s in stack.services.values() if s.process}
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if info and info.si_pid not in own:
                    os.waitpid(info.si_pid, 0)
            except ChildProcessError:
                pass
            time.sleep(0.1)
    finally:
        (state / "ready").unlink(missing_ok=True)
        say("stopping")
        stack.stop_all()
        (state / "supervisor.pid").unlink(missing_ok=True)
        (state / "berth.env").unlink(missing_ok=True)
    return 0


def stop(args):
    pid = running_supervisor(args.state)
    if not pid:
        print(f"   nothing runs from {args.state}")
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while running_supervisor(args.state) == pid:
        if time.monotonic() > deadline:
            raise Problem(f"process {pid} does not stop; look at {args.state}/log")
        time.sleep(0.05)
    print("   stopped")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("run")
    p.add_argument("--state", required=True)
    p.add_argument("--bin", required=True)
    p.add_argument("--web", default="")
    p.add_argument("--demo-dir", default="")
    p.add_argument("--image", default="")
    p.add_argument("--vm-image", default="", help="also make slots that are virtual machines")
    p.add_argument("--prices", default="")
    p.add_argument("--port", type=int, default=8765)
    p.add_argument("--docs-port", type=int, default=8766)
    p.add_argument("--model-port", type=int, default=8767)
    p.add_argument("--model-command", default="")
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--workers-max", type=int, default=4, help="up to so many are started when sessions wait")
    p.set_defaults(call=run)
    for name, call in (("stop", stop), ("alive", lambda a: 0 if running_supervisor(a.state) else 1)):
        p = commands.add_parser(name)
        p.add_argument("--state", required=True)
        p.set_defaults(call=call)
    args = parser.parse_args()
    try:
        return args.call(args)
    except Problem as e:
        print(f"stack: {e}", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
