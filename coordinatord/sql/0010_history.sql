-- Whose history this is; what a repeated request made; what counts as below a session.

-- identity: the database that db_epoch was made in. A dump that was loaded into another one, a copy of a server, a point in time that
-- was gone back to, each is another: readers' positions mean nothing in it, so it gets an epoch of its own (core.hub_activate).
ALTER TABLE core.hub ADD COLUMN identity text;

CREATE FUNCTION core.database_identity() RETURNS text
        LANGUAGE sql STABLE AS $$
        SELECT s.system_identifier || '.' || c.timeline_id || '.' || d.oid
        FROM pg_control_system() s, pg_control_checkpoint() c, pg_database d WHERE d.datname = current_database()
$$;

-- A coordinator begins: the next term fences the one before. In another history everybody is fenced who may still be at work in the
-- one that is gone: terms and epochs begin far beyond those that were given there.
CREATE FUNCTION core.hub_activate() RETURNS core.hub
        LANGUAGE plpgsql AS $$
DECLARE
        h core.hub;
        here text := core.database_identity();
BEGIN
        SELECT * INTO h FROM core.hub FOR UPDATE;
        IF h.identity <> here THEN
                UPDATE core.session SET epoch = epoch + 1000000;
                UPDATE core.worker SET epoch = epoch + 1000000;
                UPDATE core.hub SET db_epoch = gen_random_uuid()::text, term = term + 1000000;
        END IF;
        UPDATE core.hub SET term = term + 1, identity = here RETURNING * INTO h;
        RETURN h;
END $$;

-- object: the name of what the first request made where that is no session ('' in session_id).
ALTER TABLE core.idempotency ADD COLUMN object text;

-- Sums over all sessions below this one: input, output, cache read, cache write, cost, turns. Forks are beside, not below (depth 0).
CREATE OR REPLACE FUNCTION core.session_below(p_session text) RETURNS bigint[]
        LANGUAGE sql STABLE PARALLEL SAFE AS $$
        WITH RECURSIVE below AS (
                SELECT c.* FROM core.session c WHERE c.parent_session_id = p_session AND c.depth > 0
                UNION ALL
                SELECT c.* FROM core.session c JOIN below b ON c.parent_session_id = b.session_id AND c.depth > 0)
        SELECT ARRAY[COALESCE(sum(input_tokens), 0)::bigint, COALESCE(sum(output_tokens), 0)::bigint, COALESCE(sum(cache_read_tokens), 0)::bigint,
                COALESCE(sum(cache_write_tokens), 0)::bigint, COALESCE(sum(cost_microusd), 0)::bigint, COALESCE(sum(turns), 0)::bigint] FROM below
$$;
