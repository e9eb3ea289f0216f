-- Who may read what, beside the tables with a column tenant (common/io/pg-rules.c does those at each start).

DO $$
BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'berth_docs_tenant') THEN
                RAISE EXCEPTION 'the role berth_docs_tenant is missing: run database.sql (setup-database) of this version first';
        END IF;
END $$;

-- Rows of a document or volume belong to its tenant.
CREATE FUNCTION docs.tenant_child(p_table regclass, p_rule text) RETURNS void
        LANGUAGE plpgsql AS $$
BEGIN
        EXECUTE format('CREATE POLICY reader ON %s FOR SELECT USING (%s)', p_table, p_rule);
        EXECUTE format('CREATE POLICY tenant ON %s TO berth_docs_tenant USING (%s) WITH CHECK (%s)', p_table, p_rule, p_rule);
END $$;

SELECT docs.tenant_child('docs.document_version', 'EXISTS (SELECT FROM docs.document d WHERE d.id = document_id)');
SELECT docs.tenant_child('docs.document_relation',
        'EXISTS (SELECT FROM docs.document d WHERE d.id = from_id) AND EXISTS (SELECT FROM docs.document d WHERE d.id = to_id)');
SELECT docs.tenant_child('docs.volume_file', 'EXISTS (SELECT FROM docs.volume v WHERE v.name = volume_name)');
CREATE POLICY reader ON docs.migration FOR SELECT USING (true);

-- The documents of the transaction's tenant, for searches: rules of row-level security are checked before any function that is not
-- leakproof, so full text and tags could not use their indexes; a view's condition does not stand in the way. `doc` is the whole row:
-- FROM (SELECT doc, (doc).* FROM docs.document_own) AS d
CREATE VIEW docs.document_own AS
        SELECT d AS doc FROM docs.document d WHERE d.tenant = (SELECT current_setting('berth.tenant', true));
GRANT SELECT ON docs.document_own TO berth_gatewayd;
