-- Tenants, users, tokens with scopes; who may read which table; the audit log.

CREATE TABLE core.tenant (
        tenant text COLLATE "C" PRIMARY KEY CHECK (tenant ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'),
        limits jsonb NOT NULL DEFAULT '{}', -- sessions_live, slots: numbers; absent = no limit
        created_at timestamptz NOT NULL DEFAULT now(),
        disabled_at timestamptz             -- its tokens are refused
);

CREATE TABLE core.app_user (
        tenant text COLLATE "C" NOT NULL,
        name text COLLATE "C" NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$'),
        role text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
        created_at timestamptz NOT NULL DEFAULT now(),
        disabled_at timestamptz,            -- its tokens are refused
        PRIMARY KEY (tenant, name)
);

-- A token acts for its user, where it has one: never with more than the user's role. scopes: empty = all that the role may.
ALTER TABLE core.auth_token DROP CONSTRAINT auth_token_role_check;
UPDATE core.auth_token SET role = 'operator' WHERE role = 'user';
ALTER TABLE core.auth_token
        ADD CONSTRAINT auth_token_role_check CHECK (role IN ('viewer', 'operator', 'user', 'admin')),
        ADD COLUMN token_id text COLLATE "C" UNIQUE DEFAULT gen_random_uuid()::text,
        ADD COLUMN user_name text COLLATE "C",
        ADD COLUMN scopes text[] NOT NULL DEFAULT '{}',
        ADD COLUMN created_by text,
        ADD COLUMN last_used_at timestamptz; -- to the minute, about
CREATE INDEX auth_token_tenant ON core.auth_token (tenant, created_at DESC);
INSERT INTO core.tenant (tenant) SELECT DISTINCT tenant FROM core.auth_token
        WHERE tenant ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$' UNION SELECT 'default';

CREATE FUNCTION core.tenant_json(t core.tenant) RETURNS text
        LANGUAGE sql STABLE PARALLEL SAFE
        RETURN json_build_object('name', t.tenant, 'limits', t.limits, 'disabled', t.disabled_at IS NOT NULL,
                'created_at', core.timestamp_text(t.created_at))::text;
CREATE FUNCTION core.user_json(u core.app_user) RETURNS text
        LANGUAGE sql STABLE PARALLEL SAFE
        RETURN json_build_object('name', u.name, 'role', u.role, 'disabled', u.disabled_at IS NOT NULL,
                'created_at', core.timestamp_text(u.created_at))::text;
CREATE FUNCTION core.token_json(t core.auth_token) RETURNS text
        LANGUAGE sql STABLE PARALLEL SAFE
        RETURN json_build_object('token_id', t.token_id, 'name', t.name, 'role', CASE t.role WHEN 'user' THEN 'operator' ELSE t.role END,
                'user_name', t.user_name, 'scopes', t.scopes, 'created_by', t.created_by,
                'created_at', core.timestamp_text(t.created_at), 'expires_at', core.timestamp_text(t.expires_at),
                'last_used_at', core.timestamp_text(t.last_used_at), 'revoked_at', core.timestamp_text(t.revoked_at))::text;

-- Somebody must be able to manage the installation: an admin's token of the tenant default that stands. BT011: nobody would.
CREATE FUNCTION core.admin_left() RETURNS void
        LANGUAGE plpgsql AS $$
BEGIN
        IF NOT EXISTS (SELECT FROM core.auth_token t LEFT JOIN core.app_user u ON u.tenant = t.tenant AND u.name = t.user_name
                        WHERE t.tenant = 'default' AND t.role = 'admin' AND t.revoked_at IS NULL AND t.expires_at IS NULL AND t.scopes = '{}'
                          AND (t.user_name IS NULL OR (u.role = 'admin' AND u.disabled_at IS NULL)))
           OR EXISTS (SELECT FROM core.tenant WHERE tenant = 'default' AND disabled_at IS NOT NULL) THEN
                RAISE EXCEPTION 'this is the last token that may manage the installation; make another one first' USING ERRCODE = 'BT011';
        END IF;
END $$;

-- BT005: exists already. BT006: there is none (of what the message says). BT007: too many.
CREATE FUNCTION core.token_create(p_tenant text, p_hash text, p_name text, p_role text, p_user text, p_scopes text[],
                p_expires timestamptz, p_by text) RETURNS text
        LANGUAGE plpgsql AS $$
DECLARE
        t core.auth_token;
BEGIN
        IF NOT EXISTS (SELECT FROM core.tenant WHERE tenant = p_tenant) THEN
                RAISE EXCEPTION 'there is no tenant %', p_tenant USING ERRCODE = 'BT006';
        ELSIF p_user IS NOT NULL AND NOT EXISTS (SELECT FROM core.app_user WHERE tenant = p_tenant AND name = p_user) THEN
                RAISE EXCEPTION 'there is no user %', p_user USING ERRCODE = 'BT006';
        ELSIF p_expires <= now() THEN
                RAISE EXCEPTION 'expires_at must lie in the future' USING ERRCODE = '22023';
        ELSIF (SELECT count(*) FROM core.auth_token WHERE tenant = p_tenant AND revoked_at IS NULL) >= 10000 THEN
                RAISE EXCEPTION 'there may be 10000 tokens; revoke some' USING ERRCODE = 'BT007';
        END IF;
        INSERT INTO core.auth_token (tenant, token_hash, name, role, user_name, scopes, expires_at, created_by)
                VALUES (p_tenant, p_hash, p_name, p_role, p_user, p_scopes, p_expires, p_by) RETURNING * INTO t;
        RETURN core.token_json(t);
END $$;

CREATE FUNCTION core.token_revoke(p_tenant text, p_id text) RETURNS void
        LANGUAGE plpgsql AS $$
BEGIN
        UPDATE core.auth_token SET revoked_at = now() WHERE tenant = p_tenant AND token_id = p_id AND revoked_at IS NULL;
        IF NOT FOUND THEN
                RAISE EXCEPTION 'there is no token with this id, or it is revoked already' USING ERRCODE = 'BT006';
        END IF;
        PERFORM core.admin_left();
END $$;

CREATE FUNCTION core.user_put(p_tenant text, p_name text, p_create bool, p_role text, p_disabled bool) RETURNS text
        LANGUAGE plpgsql AS $$
DECLARE
        u core.app_user;
BEGIN
        IF p_create THEN
                IF (SELECT count(*) FROM core.app_user WHERE tenant = p_tenant) >= 10000 THEN
                        RAISE EXCEPTION 'there may be 10000 users' USING ERRCODE = 'BT007';
                END IF;
                INSERT INTO core.app_user (tenant, name, role, disabled_at)
                        VALUES (p_tenant, p_name, COALESCE(p_role, 'operator'), CASE WHEN p_disabled THEN now() END)
                        ON CONFLICT DO NOTHING RETURNING * INTO u;
                IF NOT FOUND THEN
                        RAISE EXCEPTION 'a user named % exists already', p_name USING ERRCODE = 'BT005';
                END IF;
        ELSE
                UPDATE core.app_user SET role = COALESCE(p_role, role), disabled_at = CASE WHEN p_disabled IS NULL THEN disabled_at
                                WHEN p_disabled THEN COALESCE(disabled_at, now()) END
                        WHERE tenant = p_tenant AND name = p_name RETURNING * INTO u;
                IF NOT FOUND THEN
                        RAISE EXCEPTION 'there is no user named %', p_name USING ERRCODE = 'BT006';
                END IF;
                PERFORM core.admin_left();
        END IF;
        RETURN core.user_json(u);
END $$;

CREATE FUNCTION core.user_delete(p_tenant text, p_name text) RETURNS void
        LANGUAGE plpgsql AS $$
BEGIN
        DELETE FROM core.app_user WHERE tenant = p_tenant AND name = p_name;
        IF NOT FOUND THEN
                RAISE EXCEPTION 'there is no user named %', p_name USING ERRCODE = 'BT006';
        END IF;
        UPDATE core.auth_token SET revoked_at = now() WHERE tenant = p_tenant AND user_name = p_name AND revoked_at IS NULL;
        PERFORM core.admin_left();
END $$;

CREATE FUNCTION core.tenant_put(p_tenant text, p_create bool, p_limits jsonb, p_disabled bool) RETURNS text
        LANGUAGE plpgsql AS $$
DECLARE
        t core.tenant;
BEGIN
        IF p_create THEN
                IF (SELECT count(*) FROM core.tenant) >= 10000 THEN
                        RAISE EXCEPTION 'there may be 10000 tenants' USING ERRCODE = 'BT007';
                END IF;
                INSERT INTO core.tenant (tenant, limits, disabled_at) VALUES (p_tenant, jsonb_strip_nulls(COALESCE(p_limits, '{}')),
                        CASE WHEN p_disabled THEN now() END) ON CONFLICT DO NOTHING RETURNING * INTO t;
                IF NOT FOUND THEN
                        RAISE EXCEPTION 'a tenant named % exists already', p_tenant USING ERRCODE = 'BT005';
                END IF;
        ELSE
                UPDATE core.tenant SET limits = jsonb_strip_nulls(limits || COALESCE(p_limits, '{}')), disabled_at = CASE
                                WHEN p_disabled IS NULL THEN disabled_at WHEN p_disabled THEN COALESCE(disabled_at, now()) END
                        WHERE tenant = p_tenant RETURNING * INTO t;
                IF NOT FOUND THEN
                        RAISE EXCEPTION 'there is no tenant named %', p_tenant USING ERRCODE = 'BT006';
                END IF;
                PERFORM core.admin_left();
        END IF;
        RETURN core.tenant_json(t);
END $$;

-- ---- who may read what ----
-- Each daemon's start gives every table its rules of row-level security (common/io/pg-rules.c). Tables without a column
-- tenant are closed to readers but for what is said here.

CREATE POLICY reader ON core.hub FOR SELECT USING (true);
CREATE POLICY reader ON core.status FOR SELECT USING (true);
CREATE POLICY reader ON core.event_expired FOR SELECT USING (true);
CREATE POLICY reader ON core.migration FOR SELECT USING (true);
CREATE POLICY reader ON core.worker FOR SELECT USING (true);
CREATE POLICY reader ON core.attachment FOR SELECT
        USING (EXISTS (SELECT FROM core.session s WHERE s.session_id = attachment.session_id));

-- New months' partitions are closed from the beginning.
CREATE OR REPLACE FUNCTION core.event_partition_add(p_at timestamptz) RETURNS bool
        LANGUAGE plpgsql AS $$
DECLARE
        lower_end timestamptz := date_trunc('month', p_at, 'UTC');
        upper_end timestamptz := date_trunc('month', p_at, 'UTC') + interval '1 month';
        partition text := 'event_' || to_char(lower_end AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
        IF EXISTS (SELECT FROM core.event_partition WHERE lower_at <= lower_end AND upper_at >= upper_end) THEN
                RETURN false;
        END IF;
        -- ATTACH takes a weaker lock on core.event than CREATE ... PARTITION OF: appends go on.
        EXECUTE format('CREATE TABLE core.%I (LIKE core.event INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING INDEXES)', partition);
        EXECUTE format('ALTER TABLE core.%I ENABLE ROW LEVEL SECURITY', partition);
        EXECUTE format('ALTER TABLE core.event ATTACH PARTITION core.%I FOR VALUES FROM (%L) TO (%L)', partition, lower_end, upper_end);
        INSERT INTO core.event_partition VALUES (partition, lower_end, upper_end);
        RETURN true;
EXCEPTION WHEN check_violation THEN
        RETURN false;
END $$;

-- ---- the audit log: rows are only ever added, each with a hash over itself and the row before ----

CREATE TABLE core.audit (
        seq bigint NOT NULL,
        ts timestamptz NOT NULL,
        tenant text NOT NULL,
        actor text NOT NULL,      -- the user or the token's name; '' = nobody known
        role text NOT NULL,
        token_id text,
        address text NOT NULL,    -- of the client
        request_id text NOT NULL,
        action text NOT NULL,     -- what was asked for: method and route, or a daemon's own act
        target text NOT NULL,     -- whom it was done to
        result text NOT NULL,     -- ok, or an error code
        prev text NOT NULL,       -- hash of the row before
        hash text NOT NULL
) PARTITION BY RANGE (ts);
CREATE UNIQUE INDEX audit_seq ON core.audit (seq, ts);
CREATE INDEX audit_tenant ON core.audit (tenant, seq DESC);
CREATE TABLE core.audit_other PARTITION OF core.audit DEFAULT;

-- The newest row (next follows it) and the newest one that retention removed (the oldest kept follows it).
CREATE TABLE core.audit_head (
        one bool PRIMARY KEY DEFAULT true CHECK (one),
        seq bigint NOT NULL DEFAULT 0,
        hash text NOT NULL DEFAULT '',
        expired_seq bigint NOT NULL DEFAULT 0,
        expired_hash text NOT NULL DEFAULT ''
);
INSERT INTO core.audit_head DEFAULT VALUES;
CREATE POLICY reader ON core.audit_head FOR SELECT USING (true);

CREATE FUNCTION core.audit_fixed() RETURNS trigger
        LANGUAGE plpgsql AS $$
BEGIN
        RAISE EXCEPTION 'rows of the audit log are never changed' USING ERRCODE = 'BT010';
END $$;
CREATE TRIGGER audit_fixed BEFORE UPDATE OR DELETE ON core.audit FOR EACH ROW EXECUTE FUNCTION core.audit_fixed();

CREATE FUNCTION core.audit_hash(a core.audit) RETURNS text
        LANGUAGE sql STABLE PARALLEL SAFE
        RETURN encode(sha256(convert_to(json_build_array(a.prev, a.seq, core.timestamp_text(a.ts), a.tenant, a.actor, a.role, a.token_id,
                a.address, a.request_id, a.action, a.target, a.result)::text, 'UTF8')), 'hex');

CREATE FUNCTION core.audit_json(a core.audit) RETURNS text
        LANGUAGE sql STABLE PARALLEL SAFE
        RETURN json_build_object('seq', a.seq, 'timestamp', core.timestamp_text(a.ts), 'tenant', a.tenant, 'actor', a.actor, 'role', a.role,
                'token_id', a.token_id, 'address', a.address, 'request_id', a.request_id, 'action', a.action, 'target', a.target,
                'result', a.result, 'hash', a.hash)::text;

-- Adds rows (a JSON array of objects) at the end of the chain. The lock of core.audit_head puts transactions in line.
CREATE FUNCTION core.audit_add(p_rows json) RETURNS void
        LANGUAGE plpgsql AS $$
DECLARE
        head core.audit_head;
        a core.audit;
        r record;
BEGIN
        SELECT * INTO head FROM core.audit_head FOR UPDATE;
        FOR r IN SELECT * FROM json_to_recordset(p_rows) AS u (tenant text, actor text, role text, token_id text, address text,
                        request_id text, action text, target text, result text) LOOP
                head.seq := head.seq + 1;
                a := ROW(head.seq, clock_timestamp(), COALESCE(r.tenant, ''), COALESCE(r.actor, ''), COALESCE(r.role, ''), r.token_id,
                        COALESCE(r.address, ''), COALESCE(r.request_id, ''), COALESCE(r.action, ''), COALESCE(r.target, ''),
                        COALESCE(r.result, ''), head.hash, '');
                a.hash := core.audit_hash(a);
                INSERT INTO core.audit SELECT a.*;
                head.hash := a.hash;
        END LOOP;
        UPDATE core.audit_head SET seq = head.seq, hash = head.hash;
END $$;

-- Rows of a gateway, once: the same number of the same source again adds nothing.
CREATE TABLE core.audit_source (
        source text PRIMARY KEY,
        number bigint NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE FUNCTION core.audit_append(p_source text, p_number bigint, p_rows json) RETURNS void
        LANGUAGE plpgsql AS $$
BEGIN
        INSERT INTO core.audit_source AS s (source, number) VALUES (p_source, p_number)
                ON CONFLICT (source) DO UPDATE SET number = EXCLUDED.number, updated_at = now() WHERE s.number < EXCLUDED.number;
        IF FOUND THEN
                PERFORM core.audit_add(p_rows);
        END IF;
        DELETE FROM core.audit_source WHERE updated_at < now() - interval '1 day';
END $$;

CREATE FUNCTION core.audit_partition_add(p_day date) RETURNS bool
        LANGUAGE plpgsql AS $$
DECLARE
        partition text := 'audit_' || to_char(p_day, 'YYYY_MM_DD');
BEGIN
        IF to_regclass('core.' || partition) IS NOT NULL THEN
                RETURN false;
        END IF;
        EXECUTE format('CREATE TABLE core.%I (LIKE core.audit INCLUDING DEFAULTS INCLUDING INDEXES)', partition);
        EXECUTE format('ALTER TABLE core.%I ENABLE ROW LEVEL SECURITY', partition);
        EXECUTE format('ALTER TABLE core.audit ATTACH PARTITION core.%I FOR VALUES FROM (%L) TO (%L)', partition,
                p_day::text || ' 00:00:00+00', (p_day + 1)::text || ' 00:00:00+00');
        RETURN true;
EXCEPTION WHEN check_violation THEN
        RETURN false; -- rows of that day are in audit_other and stay there
END $$;

-- Drops whole days before p_day; false: there was none. The chain begins behind them.
CREATE FUNCTION core.audit_expire(p_day date) RETURNS bool
        LANGUAGE plpgsql AS $$
DECLARE
        partition text;
        last record;
BEGIN
        SELECT c.relname INTO partition FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'core.audit'::regclass AND c.relname ~ '^audit_\d{4}_\d\d_\d\d$'
           AND to_date(substr(c.relname, 7), 'YYYY_MM_DD') < p_day ORDER BY c.relname LIMIT 1;
        IF NOT FOUND THEN
                RETURN false;
        END IF;
        PERFORM FROM core.audit_head FOR UPDATE;
        EXECUTE format('SELECT seq, hash FROM core.%I ORDER BY seq DESC LIMIT 1', partition) INTO last;
        EXECUTE format('DROP TABLE core.%I', partition);
        UPDATE core.audit_head SET expired_seq = last.seq, expired_hash = last.hash WHERE last.seq > expired_seq;
        RETURN true;
END $$;

-- Reads the chain in steps: rows after p_after, at most p_limit. -> the last seq looked at, how many, and the first that does not fit.
CREATE FUNCTION core.audit_check(p_after bigint, p_limit int, OUT last_seq bigint, OUT checked int, OUT bad_seq bigint, OUT why text)
        LANGUAGE plpgsql STABLE AS $$
DECLARE
        head core.audit_head;
        a core.audit;
        expected text;
BEGIN
        SELECT * INTO head FROM core.audit_head;
        last_seq := greatest(p_after, head.expired_seq);
        checked := 0;
        IF last_seq = head.expired_seq THEN
                expected := head.expired_hash;
        ELSE
                SELECT hash INTO expected FROM core.audit WHERE seq = last_seq;
        END IF;
        FOR a IN SELECT * FROM core.audit WHERE seq > last_seq ORDER BY seq LIMIT p_limit LOOP
                IF a.seq <> last_seq + 1 THEN
                        bad_seq := last_seq + 1;
                        why := 'the row is missing';
                ELSIF a.prev IS DISTINCT FROM expected THEN
                        bad_seq := a.seq;
                        why := 'it does not follow the row before';
                ELSIF a.hash <> core.audit_hash(a) THEN
                        bad_seq := a.seq;
                        why := 'its content was changed';
                END IF;
                EXIT WHEN bad_seq IS NOT NULL;
                last_seq := a.seq;
                expected := a.hash;
                checked := checked + 1;
        END LOOP;
        IF bad_seq IS NULL AND checked < p_limit AND (last_seq <> head.seq OR expected IS DISTINCT FROM head.hash) THEN
                bad_seq := last_seq + 1;
                why := 'the newest rows are missing';
        END IF;
END $$;

-- The writer itself may only add; its own right to change rows is taken away, and the trigger stands behind that.
REVOKE UPDATE, DELETE, TRUNCATE ON core.audit, core.audit_other FROM CURRENT_USER;

GRANT SELECT ON core.tenant, core.app_user, core.auth_token, core.audit, core.audit_head TO berth_gatewayd;
GRANT EXECUTE ON FUNCTION core.audit_json, core.audit_hash, core.audit_check, core.token_json, core.user_json, core.tenant_json TO berth_gatewayd;
