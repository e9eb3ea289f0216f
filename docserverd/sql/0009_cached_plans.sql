-- Functions that each statement of a document calls. In the language sql their bodies are read, rewritten and planned anew by every
-- statement that calls them, which was half the database's work for a new document; plpgsql keeps the plan for the session.

CREATE OR REPLACE FUNCTION docs.usage_add(p_tenant text, p_bytes bigint, p_documents bigint) RETURNS void
        LANGUAGE plpgsql AS $$
BEGIN
        INSERT INTO docs.usage AS u (tenant, shard, bytes, documents) VALUES (p_tenant, pg_backend_pid() % 16, p_bytes, p_documents)
        ON CONFLICT (tenant, shard) DO UPDATE SET bytes = u.bytes + excluded.bytes, documents = u.documents + excluded.documents;
END $$;

-- The document object of the HTTP contract; the one renderer.
CREATE OR REPLACE FUNCTION docs.document_json(d docs.document) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
        RETURN (
                SELECT row_to_json(o)::text
                  FROM (SELECT d.id AS id,
                               d.filename AS filename,
                               d.content_type AS content_type,
                               d.size_bytes AS size_bytes,
                               to_char(d.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_at,
                               to_char(d.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at,
                               d.tags AS tags,
                               d.metadata AS metadata,
                               '/documents/' || d.id AS url,
                               d.checksum AS checksum,
                               d.version AS version,
                               d.session_id AS session_id,
                               CASE WHEN t.version = d.version THEN t.state ELSE 'queued' END AS text_status,
                               CASE WHEN t.version = d.version THEN t.error END AS text_error,
                               CASE WHEN t.version = d.version THEN t.hook_error END AS hook_error
                          FROM (SELECT 1) AS one LEFT JOIN docs.document_text t ON t.document_id = d.id) AS o);
END $$;
