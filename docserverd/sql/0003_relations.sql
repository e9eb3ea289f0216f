-- How documents belong together. `from_id` is the parent or predecessor of `to_id`, or related to it (then from_id < to_id).

CREATE TABLE docs.document_relation (
        from_id text COLLATE "C" NOT NULL REFERENCES docs.document ON DELETE CASCADE,
        to_id text COLLATE "C" NOT NULL REFERENCES docs.document ON DELETE CASCADE,
        kind text NOT NULL CHECK (kind IN ('parent', 'related', 'predecessor')),
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (from_id, to_id, kind),
        CHECK (from_id <> to_id)
);
CREATE INDEX document_relation_to ON docs.document_relation (to_id);
-- A document has one parent: parents and children are trees, and deleting one deletes what is below it.
CREATE UNIQUE INDEX document_relation_parent ON docs.document_relation (to_id) WHERE kind = 'parent';

CREATE FUNCTION docs.document_tree(root text) RETURNS SETOF text
LANGUAGE sql STABLE
BEGIN ATOMIC
        WITH RECURSIVE tree (id) AS (
                SELECT root COLLATE "C"
                UNION
                SELECT r.to_id FROM docs.document_relation r JOIN tree ON r.from_id = tree.id AND r.kind = 'parent')
        SELECT id FROM tree;
END;
