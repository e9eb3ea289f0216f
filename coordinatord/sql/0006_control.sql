-- The takeover lease: who drives a session's desktop.

-- {person, viewer, token_hash, since, since_us, secret}; null: the agent does.
ALTER TABLE core.session ADD COLUMN control json;

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
                        'controller', CASE WHEN s.control IS NULL THEN s.slot ->> 'controller' ELSE 'person' END,
                        'control', CASE WHEN s.control IS NULL THEN NULL ELSE json_build_object(
                                'person', s.control ->> 'person',
                                'viewer', s.control ->> 'viewer',
                                'since', s.control ->> 'since',
                                'secret', (s.control ->> 'secret')::bool) END) END,
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
