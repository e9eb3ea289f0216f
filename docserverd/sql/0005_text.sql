-- What can be searched: the text that was read out of each document, in passages, and the queue of documents to read.

-- One row per document: how far reading its newest version is. Also the queue: 'queued' rows wait for a worker.
CREATE TABLE docs.document_text (
        document_id text COLLATE "C" PRIMARY KEY REFERENCES docs.document ON DELETE CASCADE,
        tenant text NOT NULL,
        version integer NOT NULL,
        state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'reading', 'ready', 'none', 'failed')),
        attempts integer NOT NULL DEFAULT 0,
        not_before timestamptz NOT NULL DEFAULT now(),
        error text,      -- why there is no text, or not all of it
        hook_error text, -- why the preIngestHook changed nothing
        updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX document_text_queue ON docs.document_text (not_before) WHERE state = 'queued';
CREATE INDEX document_text_reading ON docs.document_text (document_id) WHERE state = 'reading';

-- Pieces of about a paragraph: what a search finds. Only those of the newest version of a document that is 'ready' count.
CREATE TABLE docs.passage (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        document_id text COLLATE "C" NOT NULL REFERENCES docs.document ON DELETE CASCADE,
        tenant text NOT NULL,
        version integer NOT NULL,
        n integer NOT NULL,
        page integer, -- where the document has pages
        body text NOT NULL CHECK (octet_length(body) <= 8192),
        search tsvector NOT NULL,
        embedded boolean, -- null: no vector yet; false: the model refuses it
        UNIQUE (document_id, version, n)
);
CREATE INDEX passage_search ON docs.passage USING gin (search);
CREATE INDEX passage_embedded ON docs.passage (id) WHERE embedded IS NULL;

-- One row: the language that passages are indexed with, and the model of the vectors.
CREATE TABLE docs.search_state (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        language text NOT NULL DEFAULT '',
        embedding_model text NOT NULL DEFAULT '',
        embedding_dimensions integer NOT NULL DEFAULT 0
);
INSERT INTO docs.search_state DEFAULT VALUES;

-- What docserverd says of itself, for /status.
CREATE TABLE docs.status (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        json text NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now()
);

-- Not a tenant's: who may read them (see 0004).
CREATE POLICY reader ON docs.status FOR SELECT USING (true);

-- A new document and each new version is read. Edits that follow each other quickly are read once.
CREATE FUNCTION docs.queue_text() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
        INSERT INTO docs.document_text AS t (document_id, tenant, version) VALUES (NEW.id, NEW.tenant, NEW.version)
        ON CONFLICT (document_id) DO UPDATE
                SET version = NEW.version, state = 'queued', attempts = 0, not_before = now() + interval '250 ms',
                    error = NULL, hook_error = NULL, updated_at = now();
        RETURN NULL;
END $$;
CREATE TRIGGER document_text_new AFTER INSERT ON docs.document
        FOR EACH ROW EXECUTE FUNCTION docs.queue_text();
CREATE TRIGGER document_text_changed AFTER UPDATE OF version ON docs.document
        FOR EACH ROW WHEN (OLD.version IS DISTINCT FROM NEW.version) EXECUTE FUNCTION docs.queue_text();
INSERT INTO docs.document_text (document_id, tenant, version) SELECT id, tenant, version FROM docs.document;

-- Each word as it stands and, in a language, its stem: exact words are found whatever the language makes of them.
CREATE FUNCTION docs.passage_search(language regconfig, body text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN language = 'pg_catalog.simple'::regconfig THEN to_tsvector(language, body)
            ELSE to_tsvector(language, body) || to_tsvector('pg_catalog.simple'::regconfig, body) END;

-- words: as people write queries. or_words: any word of a question is enough. prefix: the beginning of one more word.
CREATE FUNCTION docs.search_query(language regconfig, words text, or_words boolean, prefix text) RETURNS tsquery
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
        q tsquery;
BEGIN
        IF or_words THEN
                q := replace(plainto_tsquery(language, words)::text, ' & ', ' | ')::tsquery;
                IF numnode(q) = 0 THEN
                        q := replace(plainto_tsquery('pg_catalog.simple', words)::text, ' & ', ' | ')::tsquery;
                END IF;
        ELSE
                q := websearch_to_tsquery('pg_catalog.simple', words);
                IF language <> 'pg_catalog.simple'::regconfig THEN
                        q := websearch_to_tsquery(language, words) || q;
                END IF;
        END IF;
        IF prefix <> '' THEN
                q := q && (quote_literal(lower(prefix)) || ':*')::tsquery;
        END IF;
        RETURN q;
END $$;

-- The document object of the HTTP contract; the one renderer.
CREATE OR REPLACE FUNCTION docs.document_json(d docs.document) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
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
                  FROM (SELECT 1) AS one LEFT JOIN docs.document_text t ON t.document_id = d.id) AS o
);

-- Vectors, where the extension is there: 'ready', or why not. Called at each start of docserverd with its model, so an
-- extension that comes later, or another model, is taken up then.
CREATE FUNCTION docs.prepare_vectors(model text, dimensions integer) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
        had docs.search_state;
        there boolean := to_regclass('docs.passage_vector') IS NOT NULL;
BEGIN
        IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') THEN
                BEGIN
                        CREATE EXTENSION vector SCHEMA public;
                EXCEPTION WHEN OTHERS THEN
                        RETURN 'the database has no pgvector';
                END;
        END IF;
        SELECT * INTO had FROM docs.search_state FOR UPDATE;
        IF there AND (had.embedding_model <> model OR had.embedding_dimensions <> dimensions) THEN
                DROP TABLE docs.passage_vector;
                there := false;
        END IF;
        IF NOT there THEN
                EXECUTE format('CREATE TABLE docs.passage_vector (passage_id bigint PRIMARY KEY REFERENCES docs.passage ON DELETE CASCADE, '
                               'tenant text NOT NULL, embedding public.vector(%s) NOT NULL)', dimensions);
                IF dimensions <= 2000 THEN -- what an index of pgvector can hold; longer ones are compared one by one
                        CREATE INDEX passage_vector_embedding ON docs.passage_vector USING hnsw (embedding public.vector_cosine_ops);
                END IF;
                ALTER TABLE docs.passage_vector ENABLE ROW LEVEL SECURITY; -- its rules come at the next start; until then it is the owner's
                UPDATE docs.passage SET embedded = NULL WHERE embedded IS NOT NULL;
                UPDATE docs.search_state SET embedding_model = model, embedding_dimensions = dimensions;
        END IF;
        RETURN 'ready';
END $$;
