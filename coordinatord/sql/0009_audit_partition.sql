-- An audit row that is written while the day's partition is made is refused by the default partition, which it was meant for a
-- moment before: it is written again, into the new one.
CREATE OR REPLACE FUNCTION core.audit_add(p_rows json) RETURNS void
        LANGUAGE plpgsql AS $$
DECLARE
        head core.audit_head;
        a core.audit;
        r record;
        tries int;
BEGIN
        SELECT * INTO head FROM core.audit_head FOR UPDATE;
        FOR r IN SELECT * FROM json_to_recordset(p_rows) AS u (tenant text, actor text, role text, token_id text, address text,
                        request_id text, action text, target text, result text) LOOP
                head.seq := head.seq + 1;
                a := ROW(head.seq, clock_timestamp(), COALESCE(r.tenant, ''), COALESCE(r.actor, ''), COALESCE(r.role, ''), r.token_id,
                        COALESCE(r.address, ''), COALESCE(r.request_id, ''), COALESCE(r.action, ''), COALESCE(r.target, ''),
                        COALESCE(r.result, ''), head.hash, '');
                a.hash := core.audit_hash(a);
                tries := 0;
                LOOP
                        BEGIN
                                INSERT INTO core.audit SELECT a.*;
                                EXIT;
                        EXCEPTION WHEN check_violation THEN
                                tries := tries + 1;
                                IF tries = 3 THEN
                                        RAISE;
                                END IF;
                        END;
                END LOOP;
                head.hash := a.hash;
        END LOOP;
        UPDATE core.audit_head SET seq = head.seq, hash = head.hash;
END $$;
