"""Restarts of gatewayd and coordinatord as a service manager does them: nobody is refused, no call is answered 503, no event is lost."""
import array
import json
import os
import signal
import socket
import subprocess
import threading

import pytest
import requests

from conftest import wait_until
from edge_fixtures import own_edge  # noqa: F401
from test_edge import parse_response, read_all

START = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"


class Manager:
    """The service manager's side of sd_notify and of the descriptor store, for one service."""

    def __init__(self, edge):
        self.edge, self.service = edge, edge.services["gatewayd"]
        self.path = str(edge.run_dir / "notify.sock")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o777)
        self.store, self.said = {}, []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            try:
                data, more, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(64))
            except OSError:
                return
            fds = array.array("i")
            for level, kind, bytes_ in more:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(bytes_[:len(bytes_) - len(bytes_) % fds.itemsize])
            lines = dict(line.split("=", 1) for line in data.decode().splitlines() if "=" in line)
            if lines.get("FDSTORE") == "1":
                assert len(fds) == 1
                os.set_inheritable(fds[0], False)
                self.store[lines["FDNAME"]] = fds[0]
            elif lines.get("FDSTOREREMOVE") == "1" and lines["FDNAME"] in self.store:
                os.close(self.store.pop(lines["FDNAME"]))
            self.said.append(lines)

    def start(self, *more):
        """Descriptors of the store go along as 3, 4, ... with their names."""
        argv, fds = self.service.argv, list(self.store.values())
        env = {"PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": self.path, **self.service.env}
        env |= {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        if fds:
            env |= {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(self.store)}
        self.said.clear()

        def pass_on():
            spare = [os.dup(fd) for fd in fds]  # none of them lies where another is to go
            for i, fd in enumerate(spare):
                if fd < 3 + len(spare):
                    spare[i] = os.dup2(fd, 100 + i)
            for i, fd in enumerate(spare):
                os.dup2(fd, 3 + i)
        with open(self.edge.state / "log" / "gatewayd.log", "ab") as log:
            self.service.process = subprocess.Popen(["/usr/bin/python3", "-c", START, *argv, *more], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                                                    preexec_fn=pass_on, close_fds=False, user=self.service.user or None, group="berth" if self.service.user else None,
                                                    extra_groups=[] if self.service.user else None)
        wait_until(lambda: any(s.get("READY") == "1" for s in self.said), 30, self.edge.logs)

    def end(self, number):
        self.service.process.send_signal(number)
        self.service.process.wait(15)


def connect(where):
    s = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
    s.settimeout(30)
    s.connect(where)
    return s


def ask(s):
    s.sendall(b"GET /health HTTP/1.1\r\nHost: berth\r\nConnection: close\r\n\r\n")
    with s:
        return parse_response(read_all(s))[0]


@pytest.mark.parametrize("kind", ["address", "file"])
def test_a_restarting_gateway_refuses_nobody(own_edge, kind):  # noqa: F811
    edge = own_edge()
    edge.stop_service(edge.services["gatewayd"])
    manager = Manager(edge)
    where = str(edge.run_dir / "kept.sock") if kind == "file" else ("127.0.0.1", edge.port)
    more = ["--set", f"listen={where}"] if kind == "file" else []
    manager.start(*more)
    assert set(manager.store) == {"stored-main", "stored-documents"}
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        assert ask(connect(where)) == 200
        manager.end(number)
        waiting = [connect(where) for _ in range(20)]
        for s in waiting:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: berth\r\nConnection: close\r\n\r\n")
        manager.start(*more)
        assert [parse_response(read_all(s))[0] for s in waiting] == [200] * 20
        assert not any("FDSTORE" in s for s in manager.said), "what was kept is not sent once more"
    # Another address in the settings: what was kept is given back, and that address is listened at.
    manager.end(signal.SIGTERM)
    other = str(edge.run_dir / "other.sock")
    manager.start("--set", f"listen={other}")
    assert {s["FDNAME"] for s in manager.said if s.get("FDSTOREREMOVE") == "1"} == {"stored-main"} and ask(connect(other)) == 200
    wait_until(lambda: set(manager.store) == {"stored-main", "stored-documents"}, 10, "the new one is kept")
    with pytest.raises(ConnectionRefusedError):
        connect(where)
    # One that is not listened at any more is given back, too.
    manager.end(signal.SIGTERM)
    manager.start("--set", f"listen={other}", "--set", "documents_listen=")
    assert set(manager.store) == {"stored-main"}
    with pytest.raises(ConnectionRefusedError):
        connect(("127.0.0.1", edge.docs_port))
    manager.end(signal.SIGTERM)
    manager.socket.close()


def test_without_a_manager_a_socket_file_is_removed(own_edge):  # noqa: F811
    edge = own_edge()
    gatewayd, path = edge.services["gatewayd"], str(edge.run_dir / "plain.sock")
    edge.stop_service(gatewayd)
    gatewayd.argv += ["--set", f"listen={path}"]
    edge.start(gatewayd)
    wait_until(lambda: os.path.exists(path), 20, edge.logs)
    edge.stop_service(gatewayd)
    assert not os.path.exists(path)


def test_calls_wait_for_a_coordinator_that_restarts(own_edge):  # noqa: F811
    """Four clients post without pause while coordinatord is restarted in order. The call that is under way in that very moment may be
    answered 503 (whether it happened is for its Idempotency-Key to tell); all that come while it is away wait. Each event is stored once."""
    edge = own_edge(coordinator_wait="30s", request_timeout="20s")
    token = edge.make_token("operator")
    stop, answers = threading.Event(), []

    def post(n):
        http = requests.Session()
        http.headers["Authorization"] = f"Bearer {token}"
        begun = http.post(f"http://127.0.0.1:{edge.port}/events", json={"session_id": f"restart-{n}", "event_type": "session_start"}, timeout=60)
        assert begun.status_code == 201, begun.text
        for i in range(100000):
            if stop.is_set():
                return
            body = {"session_id": f"restart-{n}", "event_type": "message", "role": "user", "content": f"{n}-{i}"}
            reply = http.post(f"http://127.0.0.1:{edge.port}/events", json=body, timeout=60)
            answers.append((reply.status_code, f"{n}-{i}", reply.text[:200]))
    clients = [threading.Thread(target=post, args=(n,)) for n in range(4)]
    for c in clients:
        c.start()
    try:
        for _ in range(3):
            before = len(answers)
            wait_until(lambda: len(answers) > before + 40, 60, edge.logs)
            service = edge.services["coordinatord"]
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(20) == 0
            edge.start(service)
        before = len(answers)
        wait_until(lambda: len(answers) > before + 40, 60, edge.logs)
    finally:
        stop.set()
        for c in clients:
            c.join()
    lost = [a for a in answers if a[0] != 201]
    assert len(lost) <= 4 * 3 and all(a[0] == 503 for a in lost), lost
    for n in range(4):
        codes = [a[0] for a in answers if a[1].startswith(f"{n}-")]
        assert not any(x == y == 503 for x, y in zip(codes, codes[1:])), codes
    for n in range(4):
        stored, after = [], 0
        while True:
            page = json.loads(edge.request("GET", f"/events/restart-{n}?after_seq={after}&limit=500", token=token)[2])["events"]
            if not page:
                break
            stored += [e["content"] if isinstance(e["content"], str) else e["content"][0]["text"] for e in page if e["event_type"] == "message"]
            after = page[-1]["seq"]
        taken = [a[1] for a in answers if a[0] == 201 and a[1].startswith(f"{n}-")]
        assert len(stored) == len(set(stored)) and set(taken) <= set(stored) and len(stored) - len(taken) <= 3  # by client: one a restart


def test_a_coordinator_that_stays_away_is_told_of(own_edge):  # noqa: F811
    edge = own_edge(coordinator_wait="300ms")
    token = edge.make_token("operator")
    edge.stop_service(edge.services["coordinatord"])
    reply = requests.post(f"http://127.0.0.1:{edge.port}/sessions", json={"kind": "external"}, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert reply.status_code == 503 and reply.headers["Retry-After"] == "1"
