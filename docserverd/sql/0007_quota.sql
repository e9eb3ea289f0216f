-- How much each tenant keeps, and how much it may keep.

CREATE TABLE docs.quota (
        tenant text PRIMARY KEY,
        bytes_max bigint CHECK (bytes_max >= 0), -- NULL: what the settings say; 0: any
        documents_max bigint CHECK (documents_max >= 0)
);

-- Kept by the triggers below, in shards so that transactions of one tenant seldom wait for each other: the sum is what counts.
-- Bytes are those of all versions of documents and of volumes; what is stored once for several of them counts each time.
CREATE TABLE docs.usage (
        tenant text NOT NULL,
        shard smallint NOT NULL,
        bytes bigint NOT NULL DEFAULT 0,
        documents bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant, shard)
) WITH (fillfactor = 50); -- room for new versions of a row beside the old: updates touch no index

CREATE FUNCTION docs.usage_add(p_tenant text, p_bytes bigint, p_documents bigint) RETURNS void
        LANGUAGE sql AS $$
        INSERT INTO docs.usage AS u (tenant, shard, bytes, documents) VALUES (p_tenant, pg_backend_pid() % 16, p_bytes, p_documents)
        ON CONFLICT (tenant, shard) DO UPDATE SET bytes = u.bytes + excluded.bytes, documents = u.documents + excluded.documents
$$;

CREATE FUNCTION docs.usage_of_document() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
        IF TG_OP = 'INSERT' THEN
                PERFORM docs.usage_add(NEW.tenant, NEW.size_bytes, 1); -- with its first version
                RETURN NULL;
        END IF;
        PERFORM docs.usage_add(OLD.tenant, -coalesce((SELECT sum(size_bytes) FROM docs.document_version WHERE document_id = OLD.id), 0)::bigint, -1);
        RETURN OLD;
END $$;
CREATE TRIGGER usage_insert AFTER INSERT ON docs.document FOR EACH ROW EXECUTE FUNCTION docs.usage_of_document();
CREATE TRIGGER usage_delete BEFORE DELETE ON docs.document FOR EACH ROW EXECUTE FUNCTION docs.usage_of_document();

CREATE FUNCTION docs.usage_of_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
        PERFORM docs.usage_add((SELECT tenant FROM docs.document WHERE id = NEW.document_id), NEW.size_bytes, 0);
        RETURN NULL;
END $$;
CREATE TRIGGER usage_insert AFTER INSERT ON docs.document_version FOR EACH ROW WHEN (NEW.version > 1)
        EXECUTE FUNCTION docs.usage_of_version();

CREATE FUNCTION docs.usage_of_volume() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
        PERFORM docs.usage_add(coalesce(NEW.tenant, OLD.tenant), coalesce(NEW.size_bytes, 0) - coalesce(OLD.size_bytes, 0), 0);
        RETURN NULL;
END $$;
CREATE TRIGGER usage_insert AFTER INSERT OR DELETE ON docs.volume FOR EACH ROW EXECUTE FUNCTION docs.usage_of_volume();
CREATE TRIGGER usage_update AFTER UPDATE OF size_bytes ON docs.volume FOR EACH ROW WHEN (NEW.size_bytes <> OLD.size_bytes)
        EXECUTE FUNCTION docs.usage_of_volume();

INSERT INTO docs.usage (tenant, shard, bytes, documents)
SELECT tenant, 0, sum(bytes), sum(documents) FROM (
        SELECT d.tenant, sum(v.size_bytes) AS bytes, count(DISTINCT d.id) AS documents
          FROM docs.document d JOIN docs.document_version v ON v.document_id = d.id GROUP BY d.tenant
        UNION ALL
        SELECT tenant, sum(size_bytes), 0 FROM docs.volume GROUP BY tenant) AS t GROUP BY tenant;

-- Last in a transaction that added something: fails when that was too much. Those of one limited tenant go one after the other from
-- here to their commit, and each sees what those before it have stored: together they never pass the limit.
CREATE FUNCTION docs.quota_check(p_tenant text, p_bytes_max bigint, p_documents_max bigint) RETURNS void
        LANGUAGE plpgsql VOLATILE AS $$
DECLARE
        u record;
BEGIN
        SELECT coalesce(q.bytes_max, p_bytes_max), coalesce(q.documents_max, p_documents_max) INTO p_bytes_max, p_documents_max
          FROM (SELECT 1) AS one LEFT JOIN docs.quota q ON q.tenant = p_tenant;
        IF p_bytes_max = 0 AND p_documents_max = 0 THEN
                RETURN;
        END IF;
        PERFORM pg_advisory_xact_lock(hashtextextended('docs.quota/' || p_tenant, 0));
        SELECT coalesce(sum(bytes), 0) AS bytes, coalesce(sum(documents), 0) AS documents INTO u FROM docs.usage WHERE tenant = p_tenant;
        IF (p_bytes_max > 0 AND u.bytes > p_bytes_max) OR (p_documents_max > 0 AND u.documents > p_documents_max) THEN
                RAISE EXCEPTION 'quota' USING ERRCODE = 'BQ001';
        END IF;
END $$;
