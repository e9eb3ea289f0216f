-- What a session leaves in /results of its slot is kept as documents: one per path, a change is its next version.

ALTER TABLE docs.document ADD COLUMN result_path text CHECK (octet_length(result_path) <= 512); -- relative to /results
CREATE UNIQUE INDEX document_result ON docs.document (tenant, session_id, result_path) WHERE result_path IS NOT NULL;

-- Keeps one result; asked twice it changes nothing. A document that the agent made of this very file becomes the result.
CREATE FUNCTION docs.keep_result(p_id text, p_tenant text, p_session_id text, p_path text, p_filename text, p_content_type text,
        p_size bigint, p_checksum text, p_tags text[], p_metadata jsonb) RETURNS text
        LANGUAGE plpgsql AS $$
DECLARE
        d docs.document;
BEGIN
        PERFORM pg_advisory_xact_lock(hashtextextended('docs.result/' || p_tenant || '/' || p_session_id, 0));
        SELECT * INTO d FROM docs.document WHERE tenant = p_tenant AND session_id = p_session_id AND result_path = p_path FOR UPDATE;
        IF FOUND AND d.checksum = p_checksum THEN
                RETURN docs.document_json(d);
        END IF;
        IF FOUND THEN
                UPDATE docs.document SET version = version + 1, checksum = p_checksum, size_bytes = p_size, content_type = p_content_type,
                        updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
                 WHERE id = d.id RETURNING * INTO d;
        ELSE
                UPDATE docs.document SET result_path = p_path
                 WHERE id = (SELECT id FROM docs.document WHERE tenant = p_tenant AND session_id = p_session_id AND filename = p_filename
                                AND checksum = p_checksum AND result_path IS NULL ORDER BY id LIMIT 1 FOR UPDATE)
                RETURNING * INTO d;
                IF FOUND THEN
                        RETURN docs.document_json(d);
                END IF;
                INSERT INTO docs.document (id, tenant, filename, content_type, size_bytes, checksum, tags, metadata, session_id, result_path)
                VALUES (p_id, p_tenant, p_filename, p_content_type, p_size, p_checksum, p_tags, p_metadata, p_session_id, p_path)
                RETURNING * INTO d;
        END IF;
        INSERT INTO docs.document_version (document_id, version, checksum, size_bytes, content_type)
        VALUES (d.id, d.version, d.checksum, d.size_bytes, d.content_type);
        RETURN docs.document_json(d);
END $$;
