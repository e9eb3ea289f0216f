"""Two tenants with one of everything each, and the database as the daemons' roles see it."""
import base64
import hashlib
import os
import subprocess

import requests


def make_token(berth, role, tenant, name=None):
    """A token written by hand into the table, for tests that are not about making tokens."""
    token = "bt_" + base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    digest = hashlib.sha256(token.encode()).hexdigest()
    berth.sql(f"INSERT INTO core.tenant (tenant) VALUES ('{tenant}') ON CONFLICT DO NOTHING")
    berth.sql(f"INSERT INTO core.auth_token (token_hash, name, role, tenant) VALUES ('{digest}', '{name or role}', '{role}', '{tenant}')")
    return token


class Tenant:
    """Calls with a token of its own."""
    user, token_id = "nobody", "00000000-0000-7000-8000-000000000000"

    def __init__(self, berth, name, role="operator"):
        self.berth, self.name = berth, name
        self.token = make_token(berth, role, name)
        self.http = requests.Session()
        self.http.headers["Authorization"] = f"Bearer {self.token}"

    def call(self, method, path, expect=None, **kwargs):
        reply = self.http.request(method, self.berth.url(path), timeout=20, **kwargs)
        if expect is not None:
            assert reply.status_code == expect, f"{method} {path}: {reply.status_code} {reply.text[:300]}\n{self.berth.logs()}"
        return reply

    def furnish(self):
        """One of everything that has an id."""
        mark = f"canary-{self.name}-{os.urandom(4).hex()}"
        self.mark = mark
        self.session = self.call("POST", "/sessions", 201, json={"session_name": mark, "kind": "external"}).json()["session_id"]
        self.call("POST", "/events", 201, json=[{"session_id": self.session, "event_type": "session_start"},
                                                {"session_id": self.session, "event_type": "log", "message": mark}])
        self.document = self.call("POST", "/documents", 201, files={"file": (f"{mark}.txt", mark.encode())}, data={"tags": mark}).json()["id"]
        second = self.call("POST", "/documents", 201, files={"file": (f"{mark}-2.txt", b"x")}).json()["id"]
        self.call("POST", f"/documents/{self.document}/relations", 201, json={"document_id": second, "kind": "child"})
        self.agent = mark
        self.call("POST", "/agents", 201, json={"name": mark, "description": mark})
        up = self.call("POST", "/upload", 202, files={"files[]": (f"{mark}.csv", b"a,b\n1,2\n")}, data={"experiment_context": mark}).json()
        self.volume, self.upload_session = up["volume_name"], up["session_id"]
        return self


def as_role(berth, role, sql, tenant=None):
    """What the daemon's own role is shown: rows as text."""
    env = dict(os.environ, PGPASSWORD=berth.stack.secret(f"db-{role}").read_text().strip())
    scope = f"BEGIN; SELECT set_config('berth.tenant', '{tenant}', true);" if tenant is not None else "BEGIN;"
    out = subprocess.run(["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", str(berth.stack.run_dir), "-U", f"berth_{role}", "-d", "berth",
                          "-c", scope, "-c", sql, "-c", "COMMIT"], env=env, capture_output=True, text=True, timeout=30)
    lines = out.stdout.splitlines()
    return out.returncode, lines[1:] if tenant is not None else lines, out.stderr
