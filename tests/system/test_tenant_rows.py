"""Row-level security: what the roles of gatewayd and docserverd are shown when a statement forgets its WHERE."""
import pytest

from tenants import Tenant, as_role

# Tables that hold nothing of a tenant, or are not a reader's business; all else must have a rule.
GLOBAL = {"core.hub", "core.status", "core.event_expired", "core.migration", "core.worker", "core.audit_head", "docs.migration", "docs.status"}


@pytest.fixture(scope="module")
def two(berth):
    return Tenant(berth, "rows-a").furnish(), Tenant(berth, "rows-b").furnish()


def tables(berth, where="true"):
    return berth.sql(f"""SELECT format('%s.%s', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('core', 'docs') AND c.relkind IN ('r', 'p') AND {where} ORDER BY 1""").split()


def test_every_table_has_its_rules(berth, two):
    """By the catalogue, so that a table added tomorrow is seen, too."""
    parts = set(tables(berth, "c.relispartition"))
    assert tables(berth, "NOT c.relrowsecurity") == []
    assert set(tables(berth, "NOT c.relforcerowsecurity")) <= parts
    with_tenant = set(tables(berth, "EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND attname = 'tenant' AND NOT attisdropped)")) - parts
    assert {"core.session", "core.event", "core.auth_token", "core.audit", "docs.document", "docs.volume"} <= with_tenant
    ruled = set(tables(berth, """EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd = 'r' AND p.polname = 'reader'
        AND pg_get_expr(p.polqual, p.polrelid) LIKE '%berth.tenant%')"""))
    assert with_tenant <= ruled
    # Open to every reader: only what holds nothing of a tenant.
    assert set(tables(berth, "EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname <> 'writer' "
                             "AND pg_get_expr(p.polqual, p.polrelid) = 'true')")) <= GLOBAL
    # A partition has no rule of its own: who is not the owner sees nothing in it.
    assert parts and not set(tables(berth, "EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)")) & parts


def test_roles_are_weak(berth):
    rows = berth.sql("SELECT rolname, rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname LIKE 'berth%' ORDER BY 1").splitlines()
    assert [r.split("|")[0] for r in rows] == ["berth_coordinatord", "berth_docs_tenant", "berth_docserverd", "berth_gatewayd"]
    assert all(r.endswith("|f|f|f") for r in rows)
    owners = berth.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('core', 'docs') ORDER BY 1").split()
    assert owners == ["berth_coordinatord", "berth_docserverd"]


def test_a_forgotten_where_shows_nothing_of_others(berth, two):
    a, b = two
    foreign = [a.mark, a.session, a.document, a.volume, a.upload_session]
    seen = 0
    for table in tables(berth):
        for role in ("gatewayd",):
            code, rows, error = as_role(berth, role, f"SELECT t::text FROM {table} t", tenant=b.name)
            if code != 0:
                assert "permission denied" in error, (table, error)
                continue
            if table not in GLOBAL:
                assert not [r for r in rows for f in foreign if f in r], (table, rows[:3])
                assert not [r for r in rows if "rows-a" in r], (table, rows[:3])
                seen += any(b.mark in r or b.session in r or b.document in r or b.volume in r for r in rows)
    assert seen >= 6, "the tenant sees its own rows"


def test_no_tenant_no_rows(berth, two):
    readable = [t for t in tables(berth) if t not in GLOBAL and as_role(berth, "gatewayd", f"SELECT count(*) FROM {t}")[0] == 0]
    assert {"core.session", "core.event", "core.attachment", "docs.document", "docs.document_version", "docs.volume_file"} <= set(readable)
    everything = " UNION ALL ".join(f"SELECT '{t}', count(*) FROM {t}" for t in readable)
    for tenant in (None, "", "rows", "rows-a' OR 'a'='a".replace("'", "''"), "%", "rows-A"):
        code, rows, error = as_role(berth, "gatewayd", everything, tenant=tenant)
        assert code == 0 and len(rows) == len(readable), error
        assert [r for r in rows if not r.endswith("|0")] == [], tenant


def test_views_and_functions_keep_to_it(berth, two):
    a, b = two
    code, rows, _ = as_role(berth, "gatewayd", "SELECT (doc).id FROM docs.document_own", tenant=b.name)
    assert code == 0 and b.document in rows and a.document not in rows
    assert as_role(berth, "gatewayd", "SELECT (doc).id FROM docs.document_own")[1] == []
    views = berth.sql("SELECT format('%s.%s', schemaname, viewname) FROM pg_views WHERE schemaname IN ('core', 'docs') ORDER BY 1").split()
    for view in views:
        code, rows, error = as_role(berth, "gatewayd", f"SELECT v::text FROM {view} v", tenant=b.name)
        assert code != 0 or not [r for r in rows if a.mark in r or a.session in r], view
    definer = berth.sql("SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('core', 'docs') AND prosecdef AND prorettype <> 'trigger'::regtype")
    assert definer == "", "a function with its owner's rights goes around the rules"


def test_docserverd_works_under_the_same_rules(berth, two):
    a, b = two
    role = "SET LOCAL ROLE berth_docs_tenant;"
    for table in [t for t in tables(berth) if t.startswith("docs.") and t not in GLOBAL]:
        code, rows, error = as_role(berth, "docserverd", f"{role} SELECT t::text FROM {table} t", tenant=b.name)
        assert code == 0, error
        assert not [r for r in rows if a.mark in r or a.document in r or a.volume in r], table
    for sql in (f"DELETE FROM docs.document WHERE id = '{a.document}' RETURNING id", f"UPDATE docs.document SET filename = 'x' WHERE id = '{a.document}' RETURNING id",
                f"DELETE FROM docs.document_version WHERE document_id = '{a.document}' RETURNING 1",
                f"UPDATE docs.volume_file SET path = 'x' WHERE volume_name = '{a.volume}' RETURNING 1",
                f"DELETE FROM docs.document_relation WHERE from_id = '{a.document}' RETURNING 1"):
        assert as_role(berth, "docserverd", role + sql, tenant=b.name)[1] == [], sql
    for sql in (f"INSERT INTO docs.document (id, tenant, filename, content_type, size_bytes, checksum) VALUES ('x', 'rows-a', 'x', 'a/b', 0, repeat('0', 64))",
                f"UPDATE docs.document SET tenant = 'rows-a' WHERE id = '{b.document}'",
                f"INSERT INTO docs.document_version VALUES ('{a.document}', 99, 'x', 1, 'a/b')"):
        code, _, error = as_role(berth, "docserverd", role + sql, tenant=b.name)
        assert code != 0 and "row-level security" in error, (sql, error)


def test_the_setting_ends_with_its_transaction(berth, two):
    """Connections are shared: what one request sets must not be there for the next, also through a pooler."""
    env_rows = as_role(berth, "gatewayd", "COMMIT; SELECT count(*) FROM core.session", tenant="rows-a")
    assert env_rows[1][-1] == "0"
    for _ in range(20):
        mine = {s["session_id"] for s in two[0].call("GET", "/sessions", 200).json()["sessions"]}
        others = {s["session_id"] for s in two[1].call("GET", "/sessions", 200).json()["sessions"]}
        assert two[0].session in mine and two[1].session in others and not mine & others


def test_readers_cannot_write(berth):
    for sql in ("DELETE FROM core.session", "UPDATE core.auth_token SET role = 'admin'", "INSERT INTO core.audit DEFAULT VALUES", "TRUNCATE docs.document",
                "SET default_transaction_read_only = off; DELETE FROM core.auth_token", "SET ROLE berth_coordinatord", "ALTER TABLE core.session DISABLE ROW LEVEL SECURITY"):
        assert as_role(berth, "gatewayd", sql)[0] != 0, sql
    assert as_role(berth, "docserverd", "SELECT * FROM core.session")[0] != 0
    assert as_role(berth, "coordinatord", "SELECT * FROM docs.document")[0] != 0
