-- What sessions' desktops looked like, in pieces of some seconds (format: workerd/record.h). Their bytes are blobs like any.

CREATE TABLE docs.recording_piece (
        id text COLLATE "C" PRIMARY KEY, -- UUID version 7; document_open takes it, too
        tenant text NOT NULL,
        session_id text COLLATE "C" NOT NULL,
        epoch bigint NOT NULL,           -- of the lease under which it was recorded
        piece bigint NOT NULL,           -- counts from 1 in each epoch: a gap was too slow, or was dropped
        started_at timestamptz NOT NULL,
        ended_at timestamptz NOT NULL,
        first_seq bigint NOT NULL,       -- newest event known at its beginning and end
        last_seq bigint NOT NULL,
        width integer NOT NULL,
        height integer NOT NULL,
        frames integer NOT NULL,
        size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
        checksum text NOT NULL CHECK (checksum ~ '^[0-9a-f]{64}$'),
        UNIQUE (session_id, epoch, piece)
);
CREATE INDEX recording_piece_checksum ON docs.recording_piece (checksum);
CREATE INDEX recording_piece_age ON docs.recording_piece (ended_at);

-- The newest pieces of a session that fit into so many bytes stay; gives how many went.
CREATE FUNCTION docs.recording_trim(p_tenant text, p_session text, p_bytes bigint) RETURNS bigint
        LANGUAGE sql AS $$
        WITH sums AS (SELECT id, sum(size_bytes) OVER (ORDER BY started_at DESC, id DESC) AS total
                        FROM docs.recording_piece WHERE tenant = p_tenant AND session_id = p_session),
             gone AS (DELETE FROM docs.recording_piece p USING sums s WHERE p.id = s.id AND s.total > p_bytes RETURNING 1)
        SELECT count(*) FROM gone
$$;
