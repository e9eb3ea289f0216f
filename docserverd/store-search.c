/* Finds passages: by their words, and by nearness of their vectors where there are some.
 *
 * Two rankings are joined by reciprocal rank fusion: a passage scores the sum of 1 / (60 + rank)
 * over the rankings it is in (Cormack, Clarke, Buettcher: Reciprocal Rank Fusion outperforms
 * Condorcet and individual Rank Learning Methods, SIGIR 2009; 60 is their constant). */
#include "store-search.h"

#include "common/base/buf.h"
#include "store-call.h"

#define MATCHED_MAX "5000" /* passages that are ranked */
#define NAMED_MAX "1000"
#define NEAR_MAX "200"

/* $1 tenant $2 words $3 tags $4 language $5 prefix $6 any $7 per_document $8 limit $9 offset */
#define ASKED                                                                                      \
        "WITH asked AS MATERIALIZED (SELECT docs.search_query($4::text::regconfig, $2, $6, $5) "   \
        "AS q, docs.search_query('pg_catalog.simple', $2, $6, $5) AS plain), "
/* By words of passages and of names; a name that matches lifts all passages of its document. What
 * was found is looked up one by one: the database guesses that many have a word and would read all
 * documents instead (OFFSET 0 keeps it from that). No tags are asked of no index: it would list all
 * documents. */
#define WORDS                                                                                      \
        "matched AS MATERIALIZED (SELECT p.id, p.document_id, p.n, "                               \
        "ts_rank(p.search, a.q, 1) + ts_rank_cd(p.search, a.q, 1) AS rank "                        \
        "FROM asked a CROSS JOIN docs.passage p CROSS JOIN LATERAL (SELECT FROM docs.document d "  \
        "WHERE d.id = p.document_id AND d.version = p.version AND d.tenant = $1 "                  \
        "AND d.tags @> $3::text[] OFFSET 0) AS d CROSS JOIN LATERAL (SELECT FROM "                 \
        "docs.document_text t WHERE t.document_id = p.document_id AND t.state = 'ready' OFFSET "   \
        "0) "                                                                                      \
        "AS t WHERE p.search @@ a.q AND p.tenant = $1 LIMIT " MATCHED_MAX "), "                    \
        "named AS MATERIALIZED (SELECT d.id AS document_id, "                                      \
        "(CASE WHEN $6 THEN 0 ELSE 1 END) + ts_rank(d.search, a.plain, 1) AS rank "                \
        "FROM asked a CROSS JOIN docs.document d "                                                 \
        "WHERE d.search @@ a.plain AND d.tenant = $1 "                                             \
        "AND (cardinality($3::text[]) = 0 OR d.tags @> $3::text[]) "                               \
        "LIMIT " NAMED_MAX "), "                                                                   \
        "worded AS (SELECT m.id, coalesce(m.document_id, b.document_id) AS document_id, m.n, "     \
        "(coalesce(m.rank, 0) + coalesce(b.rank, 0))::float8 AS score "                            \
        "FROM matched m FULL JOIN named b USING (document_id)), "
/* $10 vector $11 largest distance */
#define NEAR                                                                                       \
        "nearest AS MATERIALIZED (SELECT v.passage_id, v.embedding <=> $10::text::public.vector "  \
        "AS distance FROM docs.passage_vector v WHERE v.tenant = $1 "                              \
        "ORDER BY v.embedding <=> $10::text::public.vector LIMIT " NEAR_MAX "), "                  \
        "alike AS (SELECT p.id, p.document_id, p.n, "                                              \
        "row_number() OVER (ORDER BY v.distance, p.id) AS place FROM nearest v "                   \
        "JOIN docs.passage p ON p.id = v.passage_id "                                              \
        "JOIN docs.document d ON d.id = p.document_id AND d.version = p.version "                  \
        "JOIN docs.document_text t ON t.document_id = p.document_id AND t.state = 'ready' "        \
        "WHERE v.distance <= $11 AND d.tenant = $1 AND d.tags @> $3::text[]), "                    \
        "ranked AS (SELECT *, row_number() OVER (ORDER BY score DESC, document_id DESC, n) "       \
        "AS place FROM worded), "                                                                  \
        "scored AS (SELECT coalesce(w.id, v.id) AS id, "                                           \
        "coalesce(w.document_id, v.document_id) AS document_id, coalesce(w.n, v.n) AS n, "         \
        "(coalesce(1.0 / (60 + w.place), 0) + coalesce(1.0 / (60 + v.place), 0))::float8 "         \
        "AS score FROM ranked w FULL JOIN alike v ON v.id = w.id), "
#define PAGE(from)                                                                                 \
        "few AS (SELECT *, row_number() OVER (PARTITION BY document_id ORDER BY score DESC, n) "   \
        "AS nth FROM " from "), "                                                                  \
        "page AS MATERIALIZED (SELECT * FROM few WHERE nth <= $7 "                                 \
        "ORDER BY score DESC, document_id DESC, n NULLS FIRST LIMIT $8 OFFSET $9) "                \
        "SELECT d.id, d.filename, d.content_type, docs.document_json(d), d.version, p.page, "      \
        "p.body, ts_headline($4::text::regconfig, "                                                \
        "coalesce(p.body, d.filename || coalesce(E'\\n' || left(d.metadata ->> 'description', "    \
        "2000), '')), a.q, E'StartSel=\"\\x02\", StopSel=\"\\x03\", MaxWords=48, MinWords=24, "    \
        "ShortWord=0, MaxFragments=2, FragmentDelimiter=\" \u2026 \"'), "                          \
        "round(s.score::numeric, 6) FROM asked a CROSS JOIN page s "                               \
        "JOIN docs.document d ON d.id = s.document_id LEFT JOIN docs.passage p ON p.id = s.id "    \
        "ORDER BY s.score DESC, s.document_id DESC, s.n NULLS FIRST"

static void on_hits(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        struct store_hit hits[SEARCH_RESULTS_MAX + 1];
        size_t count = 0;

        if (r < 0) {
                /* A slow search is the searcher's problem, not the database's. */
                c->fn.hits(c->userdata,
                           r == -EREMOTEIO && streq(error->sqlstate, "57014")
                                   ? -ETIME
                                   : store_failure(c->what, r, error),
                           0, NULL);
                return;
        }
        const PGresult *rows = results[c->statement];
        for (int i = 0; i < PQntuples(rows) && count < ARRAY_LEN(hits); i++)
                hits[count++] = (struct store_hit){
                        .id = pg_str(rows, i, 0),
                        .filename = pg_str(rows, i, 1),
                        .content_type = pg_str(rows, i, 2),
                        .document_json = pg_str(rows, i, 3),
                        .version = (uint64_t) pg_i64(rows, i, 4),
                        .page = (uint64_t) pg_i64(rows, i, 5),
                        .passage = pg_str(rows, i, 6),
                        .headline = pg_str(rows, i, 7),
                        .score = pg_str(rows, i, 8),
                };
        c->fn.hits(c->userdata, 0, count, hits);
}

static void tags_array(struct buf *b, const struct document_tags *tags)
{
        buf_puts(b, "{");
        for (size_t i = 0; tags && i < tags->n; i++)
                buf_putf(b, "%s\"%s\"", i > 0 ? "," : "", tags->tags[i]);
        buf_puts(b, "}");
}

int store_search(struct pg_pool *p, const struct store_search *s, store_hits_fn fn, void *userdata)
{
        cleanup_buf struct buf tags = BUF_INIT;
        struct pg_batch *b;

        tags_array(&tags, s->tags);
        b = pg_batch_new();
        struct store_call *c = store_call_new("searching", userdata);
        c->fn.hits = fn;
        if (s->vector && s->iterative) {
                pg_batch_add(b, "SET LOCAL hnsw.iterative_scan = 'strict_order'", "");
                c->statement = 1;
        }
        if (s->vector)
                pg_batch_add(b, ASKED WORDS NEAR PAGE("scored"), "sssssBuuusf", s->tenant, s->words,
                             tags.data, s->language, s->prefix, s->any, s->per_document, s->limit,
                             s->offset, s->vector, s->near_max);
        else
                pg_batch_add(b, ASKED WORDS PAGE("worded"), "sssssBuuu", s->tenant, s->words,
                             tags.data, s->language, s->prefix, s->any, s->per_document, s->limit,
                             s->offset);
        return store_call_submit(p, b, on_hits, c);
}
