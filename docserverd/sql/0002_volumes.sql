-- Volumes: the files of one upload, kept together for the session that works with them. Their bytes are blobs like any.

CREATE TABLE docs.volume (
        name text COLLATE "C" PRIMARY KEY,
        tenant text NOT NULL,
        session_id text NOT NULL,
        ready boolean NOT NULL DEFAULT false, -- false: still being uploaded, seen by nobody
        file_count integer NOT NULL DEFAULT 0,
        size_bytes bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        touched_at timestamptz NOT NULL DEFAULT now() -- the last file, or when it became ready
);
CREATE INDEX volume_touched ON docs.volume (touched_at);

CREATE TABLE docs.volume_file (
        id text COLLATE "C" PRIMARY KEY, -- UUID version 7; document_open takes it, too
        volume_name text COLLATE "C" NOT NULL REFERENCES docs.volume ON DELETE CASCADE,
        path text COLLATE "C" NOT NULL CHECK (octet_length(path) BETWEEN 1 AND 512),
        content_type text NOT NULL CHECK (octet_length(content_type) BETWEEN 3 AND 100),
        size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
        checksum text NOT NULL CHECK (checksum ~ '^[0-9a-f]{64}$'),
        created_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (volume_name, path)
);
CREATE INDEX volume_file_checksum ON docs.volume_file (checksum);
