-- What coordinatord owns: sessions, their events and attachments, workers, tokens. coordinatord is the
-- only writer; gatewayd reads. Times are text-exact microseconds; JSON is kept as its author wrote it.

-- The one row that orders everything. term: +1 at each start of a coordinator, fences the one before.
-- batch: +1 per group commit, makes a repeated commit harmless. cursor: the newest event id.
-- db_epoch: made once per database; another one means another history (a restored copy).
CREATE TABLE core.hub (
        one bool PRIMARY KEY DEFAULT true CHECK (one),
        term bigint NOT NULL DEFAULT 0,
        batch bigint NOT NULL DEFAULT 0,
        cursor bigint NOT NULL DEFAULT 0,
        db_epoch text NOT NULL DEFAULT gen_random_uuid()::text
);
INSERT INTO core.hub DEFAULT VALUES;

CREATE TABLE core.session (
        session_id text COLLATE "C" PRIMARY KEY,
        tenant text NOT NULL,
        session_name text,
        status text NOT NULL,
        kind text NOT NULL,
        agent_name text,
        model text,
        project_dir text,
        metadata json NOT NULL DEFAULT '{}',
        budget json NOT NULL DEFAULT '{}',
        files json NOT NULL DEFAULT '[]',
        network json,
        image text,
        width int,
        height int,
        parent_session_id text,
        created_at timestamptz NOT NULL,
        modified_at timestamptz NOT NULL,
        queued_at timestamptz NOT NULL,
        last_seq bigint NOT NULL DEFAULT 0,
        last_message_seq bigint NOT NULL DEFAULT 0, -- the newest message of role user
        epoch bigint NOT NULL DEFAULT 0,            -- +1 per lease granted or taken away
        worker_id text,                             -- holder of the lease of this epoch
        slot json,                                  -- what the holder last told about its slot
        losses int NOT NULL DEFAULT 0,              -- workers lost or refusing since the last progress
        error json,                                 -- {code, message} of a failed session
        input_tokens bigint NOT NULL DEFAULT 0,
        output_tokens bigint NOT NULL DEFAULT 0,
        cache_read_tokens bigint NOT NULL DEFAULT 0,
        cache_write_tokens bigint NOT NULL DEFAULT 0,
        cost_microusd bigint NOT NULL DEFAULT 0,
        turns bigint NOT NULL DEFAULT 0,
        run_us bigint NOT NULL DEFAULT 0,           -- time spent running, without the present run
        running_since timestamptz
) WITH (fillfactor = 70);
CREATE INDEX session_created ON core.session (tenant, created_at DESC, session_id DESC);
CREATE INDEX session_modified ON core.session (tenant, modified_at DESC, session_id DESC);
CREATE INDEX session_name ON core.session (tenant, session_name, session_id);
CREATE INDEX session_status ON core.session (tenant, status, created_at DESC);
CREATE INDEX session_agent ON core.session (tenant, agent_name, created_at DESC) WHERE agent_name IS NOT NULL;
CREATE INDEX session_kind ON core.session (tenant, kind, created_at DESC);
CREATE INDEX session_live ON core.session (session_id)
        WHERE worker_id IS NOT NULL OR status IN ('queued', 'starting', 'running');

-- json is the finished event object; (session_id, seq) is gap-free from 1, id is the global cursor.
-- idem and span are set on the first event of an append: its idempotency key and how many events it made.
CREATE TABLE core.event (
        id bigint NOT NULL,
        session_id text COLLATE "C" NOT NULL,
        seq bigint NOT NULL,
        tenant text NOT NULL,
        event_type text NOT NULL,
        ts timestamptz NOT NULL,
        json text NOT NULL,
        idem text COLLATE "C",
        span int,
        PRIMARY KEY (session_id, seq)
);
ALTER TABLE core.event ALTER COLUMN json SET COMPRESSION lz4;
CREATE UNIQUE INDEX event_id ON core.event (id);
CREATE UNIQUE INDEX event_idem ON core.event (session_id, idem) WHERE idem IS NOT NULL;
CREATE INDEX event_message ON core.event (session_id, seq) WHERE event_type = 'message';
CREATE INDEX event_screenshot ON core.event (session_id, seq DESC) WHERE event_type = 'screenshot';

CREATE TABLE core.attachment (
        session_id text COLLATE "C" NOT NULL,
        digest text COLLATE "C" NOT NULL, -- SHA-256 of data, lower-case hex
        media_type text NOT NULL,
        data bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (session_id, digest)
);
ALTER TABLE core.attachment ALTER COLUMN data SET STORAGE EXTERNAL;

-- Sessions whose row is gone and whose events and attachments are being removed.
CREATE TABLE core.purge (
        session_id text COLLATE "C" PRIMARY KEY,
        deleted_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE core.worker (
        worker_id text PRIMARY KEY,
        instance text NOT NULL,
        version text NOT NULL,
        online bool NOT NULL,
        draining bool NOT NULL,
        state text NOT NULL,     -- slot_state
        kind text NOT NULL,
        kinds text[] NOT NULL,
        session_id text,
        epoch bigint NOT NULL,
        endpoint text NOT NULL,  -- path of its descriptor socket
        slot json NOT NULL,
        load json NOT NULL,
        limits json NOT NULL,
        greeted_at timestamptz NOT NULL,
        heartbeat_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- scope: session.create, or message.post/SESSION. result: what the first request was answered.
CREATE TABLE core.idempotency (
        tenant text NOT NULL,
        scope text NOT NULL,
        key text NOT NULL,
        request_digest text NOT NULL,
        session_id text NOT NULL,
        message_id text,
        seq bigint,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant, scope, key)
);
CREATE INDEX idempotency_age ON core.idempotency (created_at);
CREATE INDEX idempotency_session ON core.idempotency (session_id);

CREATE TABLE core.auth_token (
        token_hash text PRIMARY KEY, -- SHA-256 of the token, lower-case hex
        name text NOT NULL,
        role text NOT NULL CHECK (role IN ('admin', 'user', 'viewer')),
        tenant text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz,
        revoked_at timestamptz
);

-- What a daemon tells about itself for GET /status: counters, queues, whether it is active.
CREATE TABLE core.status (
        process text PRIMARY KEY,
        json json NOT NULL,
        updated_at timestamptz NOT NULL
);

CREATE FUNCTION core.timestamp_text(t timestamptz) RETURNS text
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        RETURN to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- The session object of the API: the one place that renders it.
CREATE FUNCTION core.session_json(s core.session) RETURNS text
        LANGUAGE sql STABLE PARALLEL SAFE
        RETURN json_build_object(
                'session_id', s.session_id,
                'session_name', s.session_name,
                'status', s.status,
                'created_at', core.timestamp_text(s.created_at),
                'modified_at', core.timestamp_text(s.modified_at),
                'project_dir', s.project_dir,
                'agent_name', s.agent_name,
                'kind', s.kind,
                'model', s.model,
                'metadata', s.metadata,
                'last_seq', s.last_seq,
                'parent_session_id', s.parent_session_id,
                'worker_id', s.worker_id,
                'slot', CASE WHEN s.kind = 'external' THEN NULL ELSE json_build_object(
                        'kind', s.kind,
                        'image', COALESCE(s.slot ->> 'image', s.image),
                        'width', COALESCE((s.slot ->> 'width')::int, s.width),
                        'height', COALESCE((s.slot ->> 'height')::int, s.height),
                        'state', s.slot ->> 'state',
                        'controller', s.slot -> 'controller') END,
                'usage', json_build_object(
                        'input_tokens', s.input_tokens,
                        'output_tokens', s.output_tokens,
                        'cache_read_tokens', s.cache_read_tokens,
                        'cache_write_tokens', s.cache_write_tokens,
                        'cost_usd', round(s.cost_microusd / 1000000.0, 6),
                        'turns', s.turns,
                        'seconds', round((s.run_us + COALESCE(1000000 *
                                extract(epoch FROM s.modified_at - s.running_since), 0)) / 1000000.0, 3)),
                'budget', s.budget,
                'error', s.error,
                'vnc_url', CASE WHEN s.kind IN ('desktop', 'vm')
                        THEN '/sessions/' || s.session_id || '/vnc' END,
                'stream_url', '/sessions/' || s.session_id || '/stream')::text;

-- Opens a group commit. BT001: another coordinator took over. BT002: this batch is stored already
-- (its COMMIT's answer was lost). The row lock makes a repeat wait for the lost attempt's end.
CREATE FUNCTION core.batch_begin(p_term bigint, p_batch bigint, p_cursor bigint) RETURNS void
        LANGUAGE plpgsql AS $$
DECLARE
        h core.hub;
BEGIN
        UPDATE core.hub SET batch = p_batch, cursor = p_cursor
         WHERE term = p_term AND batch = p_batch - 1;
        IF FOUND THEN
                RETURN;
        END IF;
        SELECT * INTO h FROM core.hub;
        IF h.term <> p_term THEN
                RAISE EXCEPTION 'term % was taken over by term %', p_term, h.term USING ERRCODE = 'BT001';
        ELSIF h.batch = p_batch THEN
                RAISE EXCEPTION 'batch % is stored', p_batch USING ERRCODE = 'BT002';
        END IF;
        RAISE EXCEPTION 'batch % does not follow %', p_batch, h.batch USING ERRCODE = 'BT003';
END $$;

GRANT USAGE ON SCHEMA core TO berth_gatewayd;
GRANT SELECT ON ALL TABLES IN SCHEMA core TO berth_gatewayd;
GRANT EXECUTE ON FUNCTION core.timestamp_text, core.session_json TO berth_gatewayd;
