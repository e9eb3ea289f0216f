-- Roles, database objects and rights of a Berth database; run by its superuser, can be run again.
-- Each daemon owns one schema and migrates it at its start; the gateway only reads.
-- Passwords are set by whoever runs this (psql variables pw_coordinatord, pw_docserverd, pw_gatewayd).
SELECT format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', r)
  FROM unnest(ARRAY['berth_coordinatord', 'berth_docserverd', 'berth_gatewayd']) AS r
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) \gexec
ALTER ROLE berth_coordinatord PASSWORD :'pw_coordinatord';
ALTER ROLE berth_docserverd PASSWORD :'pw_docserverd';
ALTER ROLE berth_gatewayd PASSWORD :'pw_gatewayd';
ALTER ROLE berth_gatewayd SET default_transaction_read_only = on;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA IF NOT EXISTS core AUTHORIZATION berth_coordinatord;
CREATE SCHEMA IF NOT EXISTS docs AUTHORIZATION berth_docserverd;
-- Vectors of documents, where the server has pgvector (Debian 13: postgresql-17-pgvector).
SELECT 'CREATE EXTENSION IF NOT EXISTS vector SCHEMA public'
 WHERE EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') \gexec
-- What docserverd becomes for each request: it sees and writes the rows of one tenant only.
SELECT 'CREATE ROLE berth_docs_tenant NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS'
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'berth_docs_tenant') \gexec
GRANT berth_docs_tenant TO berth_docserverd;
GRANT USAGE ON SCHEMA core, docs TO berth_gatewayd;
ALTER DEFAULT PRIVILEGES FOR ROLE berth_coordinatord IN SCHEMA core GRANT SELECT ON TABLES TO berth_gatewayd;
ALTER DEFAULT PRIVILEGES FOR ROLE berth_docserverd IN SCHEMA docs GRANT SELECT ON TABLES TO berth_gatewayd;
