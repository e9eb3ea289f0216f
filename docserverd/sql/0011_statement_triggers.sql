-- What follows from new documents is done once per statement, for all of its rows: for each row alone it was three quarters of the
-- database's work for a document.

CREATE FUNCTION docs.queue_texts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
        INSERT INTO docs.document_text (document_id, tenant, version) SELECT id, tenant, version FROM made;
        RETURN NULL;
END $$;
DROP TRIGGER document_text_new ON docs.document;
CREATE TRIGGER document_text_new AFTER INSERT ON docs.document REFERENCING NEW TABLE AS made
        FOR EACH STATEMENT EXECUTE FUNCTION docs.queue_texts();

CREATE FUNCTION docs.usage_of_documents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
        PERFORM docs.usage_add(tenant, sum(size_bytes)::bigint, count(*)) FROM made GROUP BY tenant; -- with their first versions
        RETURN NULL;
END $$;
DROP TRIGGER usage_insert ON docs.document;
CREATE TRIGGER usage_insert AFTER INSERT ON docs.document REFERENCING NEW TABLE AS made
        FOR EACH STATEMENT EXECUTE FUNCTION docs.usage_of_documents();

CREATE OR REPLACE FUNCTION docs.usage_of_document() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
        PERFORM docs.usage_add(OLD.tenant, -coalesce((SELECT sum(size_bytes) FROM docs.document_version WHERE document_id = OLD.id), 0)::bigint, -1);
        RETURN OLD;
END $$;
