/* What the database alone can do: batches of rows into a table shaped like core.event, one after
 * the other on one connection, each committed before the next.
 * raw-insert CONNINFO ROWS SECONDS RATE; prints one JSON line. With a RATE (rows/s, 0 = as fast as
 * it goes) what has come due is inserted as one batch, and the latency counts from when it was due.
 */
#include <libpq-fe.h>
#include <time.h>

#include "common/base/buf.h"
#include "common/base/util.h"

#define LATENCIES_MAX 400000
#define ROWS_MAX 4000

static const char table[] = "CREATE SCHEMA IF NOT EXISTS raw; DROP TABLE IF EXISTS raw.event; "
                            "CREATE TABLE raw.event (LIKE core.event INCLUDING ALL)";
static const char insert[] =
        "INSERT INTO raw.event (id, session_id, seq, tenant, event_type, ts, json, idem, span) "
        "SELECT $1::bigint + e.n - 1, e.session_id, e.seq::bigint, 'default', 'log', now(), "
        "e.json, e.idem, 1 FROM unnest(string_to_array($2, E'\\x1f'), "
        "string_to_array($3, E'\\x1f'), string_to_array($4, E'\\x1f'), "
        "string_to_array($5, E'\\x1f')) WITH ORDINALITY AS e (session_id, seq, json, idem, n)";

static void make_rows(struct buf *c, uint64_t first, uint64_t n)
{
        for (int i = 0; i < 5; i++)
                buf_clear(&c[i]);
        buf_putf(&c[0], "%" PRIu64, first);
        for (uint64_t i = first; i < first + n; i++) {
                const char *separator = i > first ? "\x1f" : "";

                buf_putf(&c[1], "%ssession-of-usual-length-%04" PRIu64, separator, i % 64);
                buf_putf(&c[2], "%s%" PRIu64, separator, i / 64 + 1);
                buf_putf(&c[3],
                         "%s{\"id\":%" PRIu64 ",\"session_id\":\"session-of-usual-length-%04" PRIu64
                         "\",\"seq\":%" PRIu64 ",\"event_type\":\"log\",\"timestamp\":"
                         "\"2026-01-01T00:00:00.000000Z\",\"level\":\"info\",\"message\":\"a line "
                         "of an agent's log, about as long as they are in practice, with a number "
                         "and a word or two\"}",
                         separator, i, i % 64, i / 64 + 1);
                buf_putf(&c[4], "%s%" PRIu64, separator, i);
        }
}

static int insert_rows(PGconn *pg, struct buf *c)
{
        const char *values[5];
        int lengths[5];

        for (int i = 0; i < 5; i++) {
                values[i] = c[i].data;
                lengths[i] = (int) c[i].len;
                buf_put(&c[i], "", 1);
        }
        PGresult *r = PQexecPrepared(pg, "insert", 5, values, lengths, NULL, 0);
        int ok = PQresultStatus(r) == PGRES_COMMAND_OK ? 0 : -1;
        if (ok < 0)
                fputs(PQerrorMessage(pg), stderr);
        PQclear(r);
        return ok;
}

static int compare(const void *a, const void *b)
{
        const uint64_t *x = a, *y = b;
        return *x < *y ? -1 : *x > *y;
}

static int run(PGconn *pg, uint64_t rows, uint64_t seconds, uint64_t rate)
{
        struct buf c[5] = { 0 };
        uint64_t done = 0, batches = 0, from = now_monotonic(), now = from, n_latency = 0;
        cleanup_free uint64_t *latency = xcalloc(LATENCIES_MAX, sizeof(*latency));

        while (now < from + seconds * USEC_PER_SEC) {
                uint64_t n = rows;
                if (rate > 0) {
                        uint64_t due = (now - from) * rate / USEC_PER_SEC;
                        n = MIN(due - done, (uint64_t) ROWS_MAX);
                        if (n == 0) {
                                nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
                                now = now_monotonic();
                                continue;
                        }
                }
                make_rows(c, done + 1, n);
                if (insert_rows(pg, c) < 0)
                        return 1;
                now = now_monotonic();
                for (uint64_t i = 0; i < n && n_latency < LATENCIES_MAX; i++)
                        latency[n_latency++] =
                                rate > 0 ? now - from - (done + i) * USEC_PER_SEC / rate : 0;
                done += n;
                batches++;
        }
        qsort(latency, n_latency, sizeof(*latency), compare);
        printf("{\"rows_per_s\":%.0f,\"batches_per_s\":%.0f,\"p50_ms\":%.2f,\"p99_ms\":%.2f}\n",
               (double) done * 1e6 / (double) (now - from),
               (double) batches * 1e6 / (double) (now - from),
               n_latency ? (double) latency[n_latency / 2] / 1e3 : 0,
               n_latency ? (double) latency[n_latency * 99 / 100] / 1e3 : 0);
        for (int i = 0; i < 5; i++)
                buf_done(&c[i]);
        return 0;
}

int main(int argc, char **argv)
{
        uint64_t n[3];
        int r = 1;

        if (argc != 5)
                return 2;
        for (int i = 0; i < 3; i++)
                if (parse_u64(argv[i + 2], &n[i]) < 0)
                        return 2;
        PGconn *pg = PQconnectdb(argv[1]);
        PQclear(PQexec(pg, table));
        PGresult *prepared = PQprepare(pg, "insert", insert, 0, NULL);
        if (PQresultStatus(prepared) == PGRES_COMMAND_OK)
                r = run(pg, MIN(MAX(n[0], (uint64_t) 1), (uint64_t) ROWS_MAX), n[1], n[2]);
        else
                fputs(PQerrorMessage(pg), stderr);
        PQclear(prepared);
        PQfinish(pg);
        return r;
}
