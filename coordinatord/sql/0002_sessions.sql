-- Events in monthly partitions with retention, child sessions, stop requests for external agents, deletions that readers can find.

-- depth: 0 = not a child. stop_requested: kind external, told to its agent with each post. In two steps: core.session_json uses the row type,
-- which forbids new columns with a default.
ALTER TABLE core.session ADD COLUMN depth int, ADD COLUMN stop_requested bool;
UPDATE core.session SET depth = 0, stop_requested = false;
ALTER TABLE core.session
        ALTER COLUMN depth SET DEFAULT 0, ALTER COLUMN depth SET NOT NULL,
        ALTER COLUMN stop_requested SET DEFAULT false, ALTER COLUMN stop_requested SET NOT NULL;
CREATE INDEX session_parent ON core.session (parent_session_id, created_at DESC) WHERE parent_session_id IS NOT NULL;

-- What was there becomes the first partition; nothing is copied. Unique indexes of a partitioned table must hold its key ts, so they
-- do not show two events with one (session_id, seq). That is core.batch_seqs's job: the numbers come from memory, the batch is fenced by the row
-- core.hub (core.batch_begin), and each batch must begin where the stored last_seq of every session it touches stands.
ALTER TABLE core.event RENAME TO event_before;
ALTER TABLE core.event_before DROP CONSTRAINT event_pkey;
DROP INDEX core.event_id, core.event_idem;
ALTER INDEX core.event_message RENAME TO event_before_message;
ALTER INDEX core.event_screenshot RENAME TO event_before_screenshot;

CREATE TABLE core.event (LIKE core.event_before INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING COMPRESSION) PARTITION BY RANGE (ts);
CREATE UNIQUE INDEX event_seq ON core.event (session_id, seq, ts);
CREATE UNIQUE INDEX event_id ON core.event (id, ts);
CREATE INDEX event_idem ON core.event (session_id, idem) WHERE idem IS NOT NULL;
CREATE INDEX event_recent ON core.event (session_id, seq) WHERE idem IS NOT NULL;
CREATE INDEX event_message ON core.event (session_id, seq) WHERE event_type = 'message';
CREATE INDEX event_screenshot ON core.event (session_id, seq DESC) WHERE event_type = 'screenshot';

-- Where a clock that is far off puts its events. Retention finds them row by row.
CREATE TABLE core.event_other PARTITION OF core.event DEFAULT;

CREATE TABLE core.event_partition (
        name text PRIMARY KEY,
        lower_at timestamptz NOT NULL,
        upper_at timestamptz NOT NULL
);

DO $$
DECLARE
        upper_end timestamptz := date_trunc('month', greatest(now(), (SELECT max(ts) FROM core.event_before)), 'UTC') + interval '1 month';
BEGIN
        EXECUTE format('ALTER TABLE core.event ATTACH PARTITION core.event_before FOR VALUES FROM (MINVALUE) TO (%L)', upper_end);
        INSERT INTO core.event_partition VALUES ('event_before', '-infinity', upper_end);
END $$;

-- Makes the partition of that month. False: it is there, or rows of that month are in event_other and stay there.
CREATE FUNCTION core.event_partition_add(p_at timestamptz) RETURNS bool
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
        EXECUTE format('ALTER TABLE core.event ATTACH PARTITION core.%I FOR VALUES FROM (%L) TO (%L)', partition, lower_end, upper_end);
        INSERT INTO core.event_partition VALUES (partition, lower_end, upper_end);
        RETURN true;
EXCEPTION WHEN check_violation THEN
        RETURN false;
END $$;

-- The newest event id that retention has removed: who resumes before it has missed something.
CREATE TABLE core.event_expired (
        one bool PRIMARY KEY DEFAULT true CHECK (one),
        id bigint NOT NULL DEFAULT 0
);
INSERT INTO core.event_expired DEFAULT VALUES;

-- One step of retention: a whole partition, else at most p_limit of the oldest events. 0 = nothing is left to do.
CREATE FUNCTION core.event_expire(p_before timestamptz, p_limit bigint) RETURNS bigint
        LANGUAGE plpgsql AS $$
DECLARE
        part core.event_partition;
        newest bigint;
        removed bigint := 0;
BEGIN
        SELECT * INTO part FROM core.event_partition WHERE upper_at <= p_before ORDER BY upper_at LIMIT 1;
        IF FOUND THEN
                EXECUTE format('SELECT max(id) FROM core.%I', part.name) INTO newest;
                EXECUTE format('DROP TABLE core.%I', part.name);
                DELETE FROM core.event_partition WHERE name = part.name;
                removed := 1;
        ELSE
                WITH old AS (SELECT id, ts FROM core.event ORDER BY id LIMIT p_limit),
                     gone AS (DELETE FROM core.event e USING old WHERE e.id = old.id AND e.ts = old.ts AND old.ts < p_before RETURNING e.id)
                SELECT count(*), max(id) INTO removed, newest FROM gone;
        END IF;
        UPDATE core.event_expired SET id = greatest(id, newest) WHERE newest IS NOT NULL;
        RETURN removed;
END $$;

CREATE INDEX attachment_age ON core.attachment (created_at);

-- Deleted sessions, for a day: a reader who missed the notice finds it here.
CREATE TABLE core.tombstone (
        session_id text COLLATE "C" PRIMARY KEY,
        tenant text NOT NULL,
        deleted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX tombstone_age ON core.tombstone (deleted_at);

-- BT004: a session does not stand where the coordinator believes; its numbers would be wrong.
CREATE FUNCTION core.batch_seqs(p_sessions text[], p_seqs bigint[]) RETURNS void
        LANGUAGE plpgsql AS $$
DECLARE
        wrong text;
BEGIN
        SELECT u.id INTO wrong FROM unnest(p_sessions, p_seqs) AS u (id, seq)
                LEFT JOIN core.session s ON s.session_id = u.id
                WHERE s.last_seq IS DISTINCT FROM u.seq LIMIT 1;
        IF FOUND THEN
                RAISE EXCEPTION 'session % does not stand at the seq that this batch begins with', wrong USING ERRCODE = 'BT004';
        END IF;
END $$;

-- The event object of another session's event: same seq, type, time and body; attachments by the new session's URLs.
CREATE FUNCTION core.event_copy(p_json text, p_from text, p_to text, p_id bigint, p_seq bigint) RETURNS text
        LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN '{"id":' || p_id || ',"session_id":"' || p_to || '","seq":' || p_seq
                || replace(substr(p_json, strpos(p_json, ',"event_type":')),
                           '/sessions/' || p_from || '/attachments/', '/sessions/' || p_to || '/attachments/');

GRANT SELECT ON core.event, core.event_expired, core.tombstone TO berth_gatewayd;
