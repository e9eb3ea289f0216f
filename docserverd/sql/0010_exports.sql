-- Videos of sessions' recordings that people asked for: the queue, and what became of each. The video itself is a document.

CREATE TABLE docs.recording_export (
        id text COLLATE "C" PRIMARY KEY, -- UUID version 7
        tenant text NOT NULL,
        session_id text COLLATE "C" NOT NULL,
        format text NOT NULL CHECK (format IN ('webm', 'mp4')),
        filename text NOT NULL,
        state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
        percent integer NOT NULL DEFAULT 0 CHECK (percent BETWEEN 0 AND 100),
        attempts integer NOT NULL DEFAULT 0,
        not_before timestamptz NOT NULL DEFAULT now(),
        error text,                      -- why it failed, or what it waits for after an attempt that broke
        document_id text COLLATE "C",    -- when done; the document may have been deleted since
        size_bytes bigint,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX recording_export_open ON docs.recording_export (tenant, session_id, format) WHERE state IN ('queued', 'running');
CREATE INDEX recording_export_queue ON docs.recording_export (created_at) WHERE state IN ('queued', 'running');
CREATE INDEX recording_export_session ON docs.recording_export (session_id, created_at);
CREATE INDEX recording_export_age ON docs.recording_export (updated_at);

-- The export object of the HTTP contract; the one renderer.
CREATE FUNCTION docs.export_json(e docs.recording_export) RETURNS json
LANGUAGE sql STABLE PARALLEL SAFE
RETURN json_build_object('export_id', e.id, 'session_id', e.session_id, 'format', e.format, 'filename', e.filename, 'status', e.state,
        'percent', e.percent, 'error', e.error, 'document_id', e.document_id, 'url', '/documents/' || e.document_id,
        'size_bytes', e.size_bytes,
        'created_at', to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'updated_at', to_char(e.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'));

-- The one that is under way for this session and format, or a new one. 'none': nothing was recorded; 'many': the tenant has as many
-- under way as it may.
CREATE FUNCTION docs.export_begin(p_id text, p_tenant text, p_session text, p_format text, p_filename text, p_max bigint) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
        e docs.recording_export;
BEGIN
        PERFORM pg_advisory_xact_lock(hashtextextended('docs.export/' || p_tenant, 0));
        SELECT * INTO e FROM docs.recording_export
         WHERE tenant = p_tenant AND session_id = p_session AND format = p_format AND state IN ('queued', 'running');
        IF FOUND THEN
                RETURN docs.export_json(e)::text;
        END IF;
        IF NOT EXISTS (SELECT FROM docs.recording_piece WHERE tenant = p_tenant AND session_id = p_session) THEN
                RETURN 'none';
        END IF;
        IF (SELECT count(*) FROM docs.recording_export WHERE tenant = p_tenant AND state IN ('queued', 'running')) >= p_max THEN
                RETURN 'many';
        END IF;
        INSERT INTO docs.recording_export (id, tenant, session_id, format, filename)
        VALUES (p_id, p_tenant, p_session, p_format, p_filename) RETURNING * INTO e;
        RETURN docs.export_json(e)::text;
END $$;

-- The only way to change a state; NULL when it does not stand in one that this may follow.
CREATE FUNCTION docs.export_move(p_id text, p_to text, p_error text, p_document text, p_size bigint, p_wait_us bigint) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
        e docs.recording_export;
BEGIN
        UPDATE docs.recording_export SET state = p_to, error = p_error, document_id = p_document, size_bytes = p_size,
                percent = CASE p_to WHEN 'done' THEN 100 WHEN 'queued' THEN 0 ELSE percent END,
                attempts = attempts + (p_to = 'running')::integer - (p_to = 'queued' AND p_error IS NULL)::integer, -- it did not begin
                not_before = now() + p_wait_us * interval '1 microsecond', updated_at = now()
         WHERE id = p_id AND CASE p_to WHEN 'running' THEN state IN ('queued', 'running') -- whose run was cut off
                                       WHEN 'cancelled' THEN state IN ('queued', 'running')
                                       ELSE state = 'running' END
        RETURNING * INTO e;
        RETURN CASE WHEN FOUND THEN docs.export_json(e) END;
END $$;

-- Takes the oldest that waits. It is asked for while none is under way only, so one that says 'running' was cut off. document: what an
-- attempt whose end was lost has made.
CREATE FUNCTION docs.export_claim(OUT id text, OUT tenant text, OUT session_id text, OUT format text, OUT filename text, OUT attempts integer,
        OUT width integer, OUT height integer, OUT pieces text, OUT document text, OUT size_bytes bigint)
LANGUAGE plpgsql AS $$
DECLARE
        e docs.recording_export;
BEGIN
        SELECT * INTO e FROM docs.recording_export x WHERE x.state IN ('queued', 'running') AND x.not_before <= now()
         ORDER BY x.created_at LIMIT 1 FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
                RETURN;
        END IF;
        PERFORM docs.export_move(e.id, 'running', NULL, NULL, NULL, 0);
        id := e.id; tenant := e.tenant; session_id := e.session_id; format := e.format; filename := e.filename;
        attempts := e.attempts + 1;
        SELECT max(p.width), max(p.height), string_agg(p.id, ',' ORDER BY p.started_at, p.id) INTO width, height, pieces
          FROM docs.recording_piece p WHERE p.tenant = e.tenant AND p.session_id = e.session_id;
        SELECT d.id, d.size_bytes INTO document, size_bytes FROM docs.idempotency i JOIN docs.document d ON d.id = i.document_id
         WHERE i.tenant = e.tenant AND i.key = 'recording-export/' || e.id;
END $$;
