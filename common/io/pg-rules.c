/* Row-level security: the rules that every table of a schema gets, so that nobody can forget one.
 */
#include "pg-private.h"

/* Run after the migrations by the schema's owner; does nothing where all is in place.
 *
 * Each table: rules on, for its owner too, who may do all (policy `writer`). A table with a column
 * tenant: others read the rows of the tenant that the transaction is for (berth.tenant, '*' = all).
 * A table without one is closed to others until its migration says what they may read, in a policy
 * named `reader`. Partitions are read through their table only. A role berth_SCHEMA_tenant, where
 * there is one, is what the owner becomes to work for one tenant: it writes under the same rules.
 */
static const char rules[] =
        "DO $rules$\n"
        "DECLARE\n"
        "        t record;\n"
        "        mine constant text := $q$tenant = (SELECT current_setting('berth.tenant', true))\n"
        "                OR (SELECT current_setting('berth.tenant', true)) = '*'$q$;\n"
        "        helper constant text := 'berth_%1$s_tenant';\n"
        "        has_helper constant bool := EXISTS (SELECT FROM pg_roles WHERE rolname = "
        "helper);\n"
        "BEGIN\n"
        "        FOR t IN SELECT c.oid, c.oid::regclass AS name, c.relispartition AS part,\n"
        "                        c.relrowsecurity AS rules, c.relforcerowsecurity AS forced,\n"
        "                        EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid\n"
        "                                AND a.attname = 'tenant' AND NOT a.attisdropped) AS own,\n"
        "                        ARRAY(SELECT polname::text FROM pg_policy WHERE polrelid = "
        "c.oid)\n"
        "                                AS policies\n"
        "                   FROM pg_class c WHERE c.relnamespace = '%1$s'::regnamespace\n"
        "                    AND c.relkind IN ('r', 'p') LOOP\n"
        "                IF NOT t.rules THEN\n"
        "                        EXECUTE format('ALTER TABLE %%s ENABLE ROW LEVEL SECURITY', "
        "t.name);\n"
        "                END IF;\n"
        "                IF t.part THEN\n"
        "                        CONTINUE;\n"
        "                END IF;\n"
        "                IF NOT 'writer' = ANY (t.policies) THEN\n"
        "                        EXECUTE format('CREATE POLICY writer ON %%s TO CURRENT_USER '\n"
        "                                'USING (true) WITH CHECK (true)', t.name);\n"
        "                END IF;\n"
        "                IF NOT t.forced THEN\n"
        "                        EXECUTE format('ALTER TABLE %%s FORCE ROW LEVEL SECURITY', "
        "t.name);\n"
        "                END IF;\n"
        "                IF t.own AND NOT 'reader' = ANY (t.policies) THEN\n"
        "                        EXECUTE format('CREATE POLICY reader ON %%s FOR SELECT USING "
        "(%%s)',\n"
        "                                t.name, mine);\n"
        "                END IF;\n"
        "                IF NOT has_helper THEN\n"
        "                        CONTINUE;\n"
        "                END IF;\n"
        "                IF NOT has_table_privilege(helper, t.oid, 'DELETE') THEN\n"
        "                        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %%s TO "
        "%%I',\n"
        "                                t.name, helper);\n"
        "                END IF;\n"
        "                IF t.own AND NOT 'tenant' = ANY (t.policies) THEN\n"
        "                        EXECUTE format('CREATE POLICY tenant ON %%s TO %%I USING (%%s) '\n"
        "                                'WITH CHECK (%%s)', t.name, helper, mine, mine);\n"
        "                END IF;\n"
        "        END LOOP;\n"
        "        IF has_helper AND NOT has_schema_privilege(helper, '%1$s', 'USAGE') THEN\n"
        "                EXECUTE format('GRANT USAGE ON SCHEMA %1$s TO %%I', helper);\n"
        "        END IF;\n"
        "END $rules$";

char *pg_rules_sql(const char *schema)
{
        return xasprintf(rules, schema);
}
