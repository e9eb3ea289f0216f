/* Makes vectors of passages by a worker's embedding endpoint and stores them for pgvector. */
#include "vectors.h"

#include <math.h>

#include "common/base/buf.h"
#include "common/io/log.h"
#include "runners.h"
#include "store.h"

#define BATCH 32u
#define CALL_MS 30000u
#define QUERY_MS 1200u /* a search waits for it */
#define GRACE (5 * USEC_PER_SEC)
#define AGAIN_FIRST USEC_PER_SEC
#define AGAIN_MAX (5 * 60 * USEC_PER_SEC)
#define DIMENSIONS_MAX 16000u /* of a column of pgvector */

struct vectors {
        struct docserver *server;
        struct loop_timer again;
        bool busy; /* a step is under way */
        bool ready;
        unsigned failures;
        char *model;
        uint32_t dimensions;
        bool iterative;
        char problem[200];
        size_t n; /* passages of the batch under way */
        uint64_t ids[BATCH];
        bool alone; /* one by one: the endpoint refused a batch */
};

/* ---- the state ---- */

static void set_problem(struct vectors *v, const char *why)
{
        if (!streq(v->problem, why)) {
                if (why[0])
                        log_notice("Searches go by words only: %s", why);
                else
                        log_info("Searches go by words and vectors (%s, %u dimensions)", v->model,
                                 v->dimensions);
        }
        (void) snprintf(v->problem, sizeof(v->problem), "%s", why);
}

/* A step ended: at once again, or after a growing pause. */
static void step_end(struct vectors *v, bool ok)
{
        v->n = 0;
        v->busy = false;
        v->failures = ok ? 0 : MIN(v->failures + 1, 16U);
        uint64_t wait = ok ? 0 : MIN(AGAIN_FIRST << v->failures, AGAIN_MAX);
        loop_timer_arm(&v->again, wait);
}

/* The vector as pgvector reads it; false when a number is none. */
static bool put_vector(struct buf *b, const char *data, uint32_t dimensions)
{
        buf_puts(b, "[");
        for (uint32_t i = 0; i < dimensions; i++) {
                float f;

                memcpy(&f, data + i * sizeof(f), sizeof(f));
                if (!isfinite(f))
                        return false;
                buf_putf(b, "%s%.8g", i > 0 ? "," : "", (double) f);
        }
        buf_puts(b, "]");
        return true;
}

/* ---- the first step: which model, is the database ready ---- */

static void on_prepared(void *userdata, int r, PGresult **results, size_t n,
                        const struct pg_error *error)
{
        struct vectors *v = userdata;
        const char *said = NULL;

        if (r == 0)
                said = pg_str(results[0], 0, 0);
        if (r < 0)
                set_problem(v, r == -EREMOTEIO ? error->message : "the database is away");
        else if (!streq(said, "ready"))
                set_problem(v, said ? said : "the database gave no answer");
        else {
                v->ready = true;
                v->iterative = pg_bool(results[1], 0, 0);
                set_problem(v, "");
        }
        if (!v->ready)
                v->failures = MAX(v->failures, 5U); /* what is missing does not come at once */
        step_end(v, v->ready);
}

static void on_probed(void *userdata, int r, const void *reply)
{
        struct vectors *v = userdata;
        const struct job_embedded *m = reply;

        if (r < 0) {
                set_problem(v, runner_failure(r, reply));
                return step_end(v, false);
        }
        if (m->dimensions == 0 || m->dimensions > DIMENSIONS_MAX ||
            m->vectors.len != m->dimensions * sizeof(float)) {
                set_problem(v, "the embedding endpoint gives no usable vectors");
                return step_end(v, false);
        }
        free(v->model);
        v->model = xstrdup(m->model);
        v->dimensions = m->dimensions;
        struct pg_batch *b = pg_batch_new();
        pg_batch_add(b, "SELECT docs.prepare_vectors($1, $2)", "su", v->model,
                     (uint64_t) v->dimensions);
        pg_batch_add(b,
                     "SELECT string_to_array(extversion, '.')::int[] >= '{0,8}' FROM pg_extension "
                     "WHERE extname = 'vector' UNION ALL SELECT false LIMIT 1",
                     "");
        if (!v->server->pg) {
                (void) pg_batch_free(b);
                return;
        }
        if (pg_submit(v->server->pg, b, on_prepared, v) < 0)
                step_end(v, false);
}

static int embed(struct vectors *v, const char **texts, size_t n, uint32_t ms, rpc_reply_fn fn,
                 void *userdata)
{
        char id[UUID_MAX];

        uuid_make(id);
        return runners_call(
                v->server->runners, RUNNER_EMBED, &wire_job_embed,
                &(struct job_embed){ .job_id = id, .texts = texts, .n_texts = n, .time_ms = ms },
                ms * USEC_PER_MSEC + (ms == QUERY_MS ? 0 : GRACE), fn, userdata);
}

static void probe(struct vectors *v)
{
        const char *texts[] = { "berth" };
        int r = embed(v, texts, 1, CALL_MS, on_probed, v);

        v->busy = r == 0;
        if (r == -ENODEV)
                set_problem(v, "no worker has an endpoint for embeddings");
}

/* ---- all further steps: the next passages ---- */

static void on_stored(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct vectors *v = userdata;

        if (r < 0) {
                r = store_failure("storing vectors", r, error);
                v->ready = v->ready && r != -EIO; /* look again whether the table fits */
        }
        step_end(v, r == 0);
}

/* The endpoint refuses what it is given: then each passage alone, and the one at fault never again.
 */
static void refused(struct vectors *v, const char *why)
{
        if (v->n > 1) {
                v->alone = true;
                return step_end(v, true);
        }
        log_warning("The embedding endpoint refuses passage %" PRIu64 ": %s", v->ids[0], why);
        if (!v->server->pg ||
            pg_query(v->server->pg, on_stored, v,
                     "UPDATE docs.passage SET embedded = false WHERE id = $1", "u", v->ids[0]) < 0)
                step_end(v, false);
}

static void on_embedded(void *userdata, int r, const void *reply)
{
        struct vectors *v = userdata;
        const struct job_embedded *m = reply;

        if (r == -EREMOTEIO &&
            ((const struct error_reply *) reply)->code == ERROR_CODE_UNPROCESSABLE)
                return refused(v, runner_failure(r, reply));
        if (r < 0) {
                log_debug("Making vectors failed: %s", runner_failure(r, reply));
                return step_end(v, false);
        }
        if (!streq(m->model, v->model) || m->dimensions != v->dimensions ||
            m->vectors.len != v->n * v->dimensions * sizeof(float)) {
                v->ready = false; /* another model: begin with a look at it */
                return step_end(v, false);
        }
        struct pg_batch *b = pg_batch_new();
        for (size_t i = 0; i < v->n; i++) {
                cleanup_buf struct buf text = BUF_INIT;
                bool good = put_vector(&text, m->vectors.data + i * v->dimensions * sizeof(float),
                                       v->dimensions);

                if (good)
                        pg_batch_add(b,
                                     "INSERT INTO docs.passage_vector (passage_id, tenant, "
                                     "embedding) SELECT id, tenant, $2::text::public.vector FROM "
                                     "docs.passage WHERE id = $1 ON CONFLICT (passage_id) DO "
                                     "UPDATE SET embedding = EXCLUDED.embedding",
                                     "us", v->ids[i], text.data);
                pg_batch_add(b, "UPDATE docs.passage SET embedded = $2 WHERE id = $1", "uB",
                             v->ids[i], (int) good);
        }
        if (!v->server->pg) {
                (void) pg_batch_free(b);
                return;
        }
        if (pg_submit(v->server->pg, b, on_stored, v) < 0)
                step_end(v, false);
}

static void on_passages(void *userdata, int r, PGresult **results, size_t n,
                        const struct pg_error *error)
{
        struct vectors *v = userdata;
        const char *texts[BATCH];
        int rows;

        if (r < 0)
                return step_end(v, false);
        rows = PQntuples(results[0]);
        for (int i = 0; i < rows && v->n < BATCH; i++) {
                v->ids[v->n] = (uint64_t) pg_i64(results[0], i, 0);
                texts[v->n++] = pg_str(results[0], i, 1);
        }
        if (v->n == 0) {
                v->busy = false;
                v->alone = false;
                return;
        }
        r = embed(v, texts, v->n, CALL_MS, on_embedded, v);
        if (r < 0) {
                v->n = 0;
                v->busy = false; /* runners poke when there is room */
        }
}

static void next(struct vectors *v)
{
        v->busy = v->server->pg &&
                  pg_query(v->server->pg, on_passages, v,
                           "SELECT p.id, p.body FROM docs.passage p JOIN docs.document d ON "
                           "d.id = p.document_id AND d.version = p.version "
                           "WHERE p.embedded IS NULL ORDER BY p.id LIMIT $1",
                           "u", (uint64_t) (v->alone ? 1 : BATCH)) == 0;
}

static void step(void *userdata)
{
        struct vectors *v = userdata;

        if (v->busy)
                return;
        loop_timer_disarm(&v->again);
        if (v->ready)
                next(v);
        else
                probe(v);
}

void vectors_poke(struct vectors *v)
{
        if (v && !v->busy && !loop_timer_armed(&v->again))
                step(v);
}

/* ---- one vector for a query ---- */

struct query {
        struct vectors *vectors;
        vectors_query_fn fn;
        void *userdata;
};

static void on_query(void *userdata, int r, const void *reply)
{
        cleanup_free struct query *q = userdata;
        const struct job_embedded *m = reply;
        cleanup_buf struct buf text = BUF_INIT;
        bool good = r == 0 && streq(m->model, q->vectors->model) &&
                    m->dimensions == q->vectors->dimensions &&
                    m->vectors.len == m->dimensions * sizeof(float) &&
                    put_vector(&text, m->vectors.data, m->dimensions);

        if (r < 0)
                log_debug("No vector for a query: %s", runner_failure(r, reply));
        q->fn(q->userdata, good ? text.data : NULL);
}

int vectors_query(struct vectors *v, const char *text, vectors_query_fn fn, void *userdata)
{
        const char *texts[] = { text };

        if (!v->ready)
                return -ENODEV;
        struct query *q = xnew(struct query);
        *q = (struct query){ v, fn, userdata };
        int r = embed(v, texts, 1, QUERY_MS, on_query, q);
        if (r < 0)
                free(q);
        return r;
}

const char *vectors_problem(const struct vectors *v)
{
        return v->problem;
}

const char *vectors_model(const struct vectors *v)
{
        return v->ready ? v->model : "";
}

bool vectors_iterative(const struct vectors *v)
{
        return v->iterative;
}

struct vectors *vectors_new(struct docserver *d)
{
        struct vectors *v = xnew(struct vectors);

        v->server = d;
        (void) snprintf(v->problem, sizeof(v->problem), "no worker serves jobs");
        if (loop_timer_init(&v->again, d->event, step, v) < 0) {
                free(v);
                return NULL;
        }
        return v;
}

struct vectors *vectors_free(struct vectors *v)
{
        if (!v)
                return NULL;
        loop_timer_done(&v->again);
        free(v->model);
        free(v);
        return NULL;
}
