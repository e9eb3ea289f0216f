-- Documents: one row each, its tags beside it, and one row per stored version of its bytes.
-- docserverd is the only writer; gatewayd reads with its own role. Bytes live in the blob store, named by SHA-256.

CREATE TABLE docs.document (
        id text COLLATE "C" PRIMARY KEY, -- UUID version 7: sorts by time of creation
        tenant text NOT NULL,
        filename text NOT NULL CHECK (octet_length(filename) BETWEEN 1 AND 255),
        content_type text NOT NULL CHECK (octet_length(content_type) BETWEEN 3 AND 100),
        size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
        checksum text NOT NULL CHECK (checksum ~ '^[0-9a-f]{64}$'),
        version integer NOT NULL DEFAULT 1 CHECK (version >= 1),
        tags text[] NOT NULL DEFAULT '{}' CHECK (cardinality(tags) <= 50),
        -- jsonb writes numbers out in full and adds spaces: more than the 64 KiB a request may carry.
        metadata jsonb NOT NULL DEFAULT '{}' CONSTRAINT document_metadata_size CHECK (octet_length(metadata::text) <= 131072),
        session_id text, -- the session whose agent made it
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        search tsvector NOT NULL GENERATED ALWAYS AS (
                to_tsvector('simple'::regconfig, filename)
                || to_tsvector('simple'::regconfig, regexp_replace(filename, '[^[:alnum:]]+', ' ', 'g'))
                || to_tsvector('simple'::regconfig, left(coalesce(metadata ->> 'description', ''), 8192))
        ) STORED,
        CONSTRAINT document_metadata_object CHECK (jsonb_typeof(metadata) = 'object')
);
CREATE INDEX document_tenant ON docs.document (tenant, id DESC);
CREATE INDEX document_tags ON docs.document USING gin (tags);
CREATE INDEX document_search ON docs.document USING gin (search);
CREATE INDEX document_session ON docs.document (session_id) WHERE session_id IS NOT NULL;

-- Every version's bytes. A blob that no row names is garbage and is swept.
CREATE TABLE docs.document_version (
        document_id text COLLATE "C" NOT NULL REFERENCES docs.document ON DELETE CASCADE,
        version integer NOT NULL,
        checksum text NOT NULL,
        size_bytes bigint NOT NULL,
        content_type text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (document_id, version)
);
CREATE INDEX document_version_checksum ON docs.document_version (checksum);

-- What an Idempotency-Key has made: written in the transaction of the document itself, so a key never
-- stands for nothing. Expired rows are swept.
CREATE TABLE docs.idempotency (
        tenant text NOT NULL,
        key text NOT NULL,
        fingerprint text NOT NULL, -- SHA-256 of what was asked
        document_id text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_created ON docs.idempotency (created_at);

-- A document as clients see it (the document object of the HTTP contract). The one renderer, for writer and readers.
CREATE FUNCTION docs.document_json(d docs.document) RETURNS text
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
                       d.session_id AS session_id) AS o
);
