"""A Berth whose daemons reach PostgreSQL through pgbouncer."""
import shutil

import psycopg
import pytest

from conftest import Berth
import stack

ROLES = ("coordinatord", "docserverd", "gatewayd")
needs_pooler = pytest.mark.skipif(not shutil.which("pgbouncer"), reason="pgbouncer is not installed")


class PooledBerth(Berth):
    """size: connections to PostgreSQL for each role. direct=False: the coordinator is not told how to go past the pooler."""

    def __init__(self, mode="transaction", size=3, direct=True, **options):
        super().__init__(**options)
        self.mode, self.size, self.direct = mode, size, direct

    def password(self, role):
        return self.stack.secret(f"db-{role}").read_text().strip()

    def write_pooler(self):
        folder = self.stack.folder("pgbouncer", mode=0o755)
        (folder / "users").write_text("".join(f'"berth_{r}" "{self.password(r)}"\n' for r in ROLES))
        (folder / "ini").write_text(f"[databases]\nberth = host={self.stack.run_dir} dbname=berth\n"
                                    f"shared = host={self.stack.run_dir} dbname=berth pool_mode=transaction pool_size=1\n"
                                    f"[pgbouncer]\nlisten_addr =\nlisten_port = 6432\nunix_socket_dir = {folder}\nauth_type = plain\nauth_file = {folder}/users\n"
                                    f"pool_mode = {self.mode}\nmax_client_conn = 200\ndefault_pool_size = {self.size}\n")
        account = self.stack.account("berth")
        if account:
            shutil.chown(folder, account)
        return stack.Service("pgbouncer", [shutil.which("pgbouncer"), str(folder / "ini")], account)

    def start(self, seconds=60):
        s = self.stack
        s.prepare()
        s.init_database()
        s.start(s.postgres_service())
        s.setup_database()
        s.start(self.write_pooler())
        for role in ROLES:
            s.extra.setdefault(role, {})["database"] = f"host={s.state / 'pgbouncer'} port=6432 dbname=berth user=berth_{role}"
        if self.direct:
            s.extra["coordinatord"]["database_direct"] = s.database_settings("coordinatord")["database"]
        for service in s.daemon_services():
            s.start(service)
        if self.direct:
            self.wait_ready(seconds)
            self.http.headers["Authorization"] = f"Bearer {s.token}"
        return self

    def through(self, role="gatewayd", database="berth"):
        """A client of the pooler, as this daemon is one."""
        return psycopg.connect(host=str(self.stack.state / "pgbouncer"), port=6432, user=f"berth_{role}", password=self.password(role), dbname=database,
                               prepare_threshold=None)


@pytest.fixture
def own_pooled(request):
    """A factory, as own_berth."""
    made = []

    def make(**options):
        made.append(PooledBerth(**options))
        return made[-1].start()
    yield make
    for b in made:
        b.close(failed=getattr(request.node, "failed", False))


@pytest.fixture(scope="module")
def pooled():
    """Transactions are pooled, three connections a role: each is shared by several of the daemon's."""
    berth = PooledBerth(workers=1, job_workers=1, settings={"coordinatord": {"database_connections": "8"}})
    try:
        yield berth.start()
    finally:
        berth.close()
