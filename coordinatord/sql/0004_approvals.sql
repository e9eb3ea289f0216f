-- Approvals, why a session waits, use per day, limits of tenants and agents.

-- {"for": waiting_for, "question": text} of a session that is waiting, else null.
ALTER TABLE core.session ADD COLUMN waiting json;

-- What an agent asked a person for. Bound to digest: the SHA-256 of {"kind", "bound"} as canonical JSON.
CREATE TABLE core.approval (
        approval_id text COLLATE "C" PRIMARY KEY,
        session_id text COLLATE "C" NOT NULL,
        tenant text NOT NULL,
        kind text NOT NULL,
        subject text NOT NULL,
        bound json NOT NULL,
        digest text COLLATE "C" NOT NULL,
        details json,
        call_id text,
        status text NOT NULL,           -- approval_status
        scope text NOT NULL,            -- approval_scope
        note text,
        decided_by text,                -- the person: name of the token
        requested_seq bigint NOT NULL,  -- of the approval_requested event
        decided_seq bigint,             -- of the approval_decided event
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        decided_at timestamptz
);
CREATE INDEX approval_pending ON core.approval (tenant, created_at, approval_id) WHERE status = 'pending';
CREATE INDEX approval_expiry ON core.approval (expires_at) WHERE status = 'pending';
CREATE INDEX approval_session ON core.approval (session_id, created_at, approval_id);

CREATE FUNCTION core.approval_json(a core.approval) RETURNS text
        LANGUAGE sql STABLE PARALLEL SAFE
        RETURN json_build_object(
                'approval_id', a.approval_id,
                'session_id', a.session_id,
                'kind', a.kind,
                'subject', a.subject,
                'status', a.status,
                'tool_name', CASE WHEN a.kind = 'tool' THEN a.bound ->> 'tool' END,
                'tool_input', CASE WHEN a.kind = 'tool' THEN a.bound -> 'arguments' END,
                'tool_call_id', a.call_id,
                'bound', a.bound,
                'digest', a.digest,
                'details', a.details,
                'scope', CASE WHEN a.status IN ('allowed', 'denied') THEN a.scope END,
                'note', a.note,
                'decided_by', a.decided_by,
                'requested_seq', a.requested_seq,
                'decided_seq', a.decided_seq,
                'created_at', core.timestamp_text(a.created_at),
                'expires_at', core.timestamp_text(a.expires_at),
                'decided_at', core.timestamp_text(a.decided_at))::text;

-- Sums per day (UTC), session and model, kept when events and sessions go. Written in the commit of the usage event.
CREATE TABLE core.usage (
        tenant text NOT NULL,
        day date NOT NULL,
        session_id text COLLATE "C" NOT NULL,
        model text COLLATE "C" NOT NULL,
        agent_name text COLLATE "C" NOT NULL, -- '' = none
        calls bigint NOT NULL,
        input_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        cache_read_tokens bigint NOT NULL,
        cache_write_tokens bigint NOT NULL,
        cost_microusd bigint NOT NULL,
        PRIMARY KEY (tenant, day, session_id, model)
);
CREATE INDEX usage_agent ON core.usage (tenant, agent_name, day);
CREATE INDEX usage_session ON core.usage (session_id);

INSERT INTO core.usage
        SELECT e.tenant, (e.ts AT TIME ZONE 'UTC')::date, e.session_id, COALESCE(e.j ->> 'model', ''), COALESCE(s.agent_name, ''), count(*),
               COALESCE(sum((e.j -> 'usage' ->> 'input_tokens')::bigint), 0), COALESCE(sum((e.j -> 'usage' ->> 'output_tokens')::bigint), 0),
               COALESCE(sum((e.j -> 'usage' ->> 'cache_read_tokens')::bigint), 0), COALESCE(sum((e.j -> 'usage' ->> 'cache_write_tokens')::bigint), 0),
               COALESCE(sum((e.j -> 'usage' ->> 'cost_usd')::numeric * 1000000), 0)::bigint
        FROM (SELECT *, json::json AS j FROM core.event WHERE event_type = 'usage') AS e JOIN core.session s USING (session_id)
        WHERE s.kind <> 'external'
        GROUP BY 1, 2, 3, 4, 5;

-- Limits of all sessions of a tenant (agent_name ''), or of those of one agent: cost_usd_day, cost_usd_month, tokens_day, tokens_month.
CREATE TABLE core.budget (
        tenant text NOT NULL,
        agent_name text COLLATE "C" NOT NULL,
        limits jsonb NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant, agent_name)
);

CREATE FUNCTION core.usage_since(p_tenant text, p_agent text, p_day date, OUT tokens bigint, OUT cost_microusd bigint)
        LANGUAGE sql STABLE PARALLEL SAFE
        RETURN (SELECT (COALESCE(sum(input_tokens + output_tokens + cache_read_tokens + cache_write_tokens), 0)::bigint, COALESCE(sum(u.cost_microusd), 0)::bigint)
                FROM core.usage u WHERE u.tenant = p_tenant AND (p_agent = '' OR u.agent_name = p_agent) AND u.day >= p_day);

CREATE FUNCTION core.budget_json(b core.budget) RETURNS text
        LANGUAGE sql STABLE
        RETURN (SELECT json_build_object(
                'agent_name', NULLIF(b.agent_name, ''),
                'limits', b.limits,
                'used', json_build_object(
                        'tokens_day', d.tokens, 'cost_usd_day', round(d.cost_microusd / 1000000.0, 6),
                        'tokens_month', m.tokens, 'cost_usd_month', round(m.cost_microusd / 1000000.0, 6)),
                'updated_at', core.timestamp_text(b.updated_at))::text
                FROM core.usage_since(b.tenant, b.agent_name, (now() AT TIME ZONE 'UTC')::date) AS d,
                     core.usage_since(b.tenant, b.agent_name, date_trunc('month', now() AT TIME ZONE 'UTC')::date) AS m);

CREATE OR REPLACE FUNCTION core.session_json(s core.session) RETURNS text
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
                'waiting', s.waiting,
                'pending_approvals', (SELECT count(*) FROM core.approval a WHERE a.session_id = s.session_id AND a.status = 'pending'),
                'vnc_url', CASE WHEN s.kind IN ('desktop', 'vm')
                        THEN '/sessions/' || s.session_id || '/vnc' END,
                'stream_url', '/sessions/' || s.session_id || '/stream')::text;

GRANT SELECT ON core.approval, core.usage, core.budget TO berth_gatewayd;
GRANT EXECUTE ON FUNCTION core.approval_json, core.budget_json, core.usage_since TO berth_gatewayd;

-- For writes beside the hub: ends the transaction when another coordinator has begun its term, and keeps it from beginning before this has ended.
CREATE FUNCTION core.fence(p_term bigint) RETURNS void
        LANGUAGE plpgsql AS $$
BEGIN
        PERFORM FROM core.hub WHERE term = p_term FOR SHARE;
        IF NOT FOUND THEN
                RAISE EXCEPTION 'term % was taken over', p_term USING ERRCODE = 'BT001';
        END IF;
END $$;
