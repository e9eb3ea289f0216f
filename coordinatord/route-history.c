/* history_get, attachment_get: what a session's new holder reads before it goes on. */
#include "lease.h"
#include "request.h"

#define PAGE_BYTES (INT64_C(4) << 20)

static void on_history(void *userdata, int r, PGresult **results, size_t n,
                       const struct pg_error *error)
{
        struct request *q = userdata;
        struct span events[200];
        struct history_page reply = { .events = events };

        if (r < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE,
                               "the history could not be read; try again");
                request_end(q);
                return;
        }
        int rows = MIN(PQntuples(results[0]), (int) ARRAY_LEN(events));
        for (int i = 0; i < rows; i++)
                events[i] = span_of(pg_str(results[0], i, 0));
        reply.n_events = (size_t) rows;
        reply.more = rows > 0 && pg_i64(results[0], rows - 1, 1) < pg_i64(results[0], rows - 1, 2);
        request_reply(q, &reply);
        request_end(q);
}

int route_history_get(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                      const void *msg)
{
        struct coordinator *c = userdata;
        const struct history_get *m = msg;

        if (!lease_held_by(c, peer, m->session_id, m->epoch))
                return rpc_reply_error(req, ERROR_CODE_STALE_EPOCH,
                                       "epoch %" PRIu64 " of this session is over", m->epoch);
        if (m->limit < 1 || m->limit > 200)
                return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST, "limit must be 1 to 200");
        struct request *q = request_new(c, sizeof(struct request), peer, req, NULL, NULL, false);
        if (q && pg_query(c->pool, on_history, q, store_history, "suui", m->session_id,
                          m->after_seq, (uint64_t) m->limit, PAGE_BYTES) < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "the database is overloaded; try again");
                request_end(q);
        }
        return 0;
}

static void on_attachment(void *userdata, int r, PGresult **results, size_t n,
                          const struct pg_error *error)
{
        struct request *q = userdata;
        cleanup_free void *data = NULL;
        size_t len = 0;

        if (r < 0 || (PQntuples(results[0]) > 0 && pg_bytea(results[0], 0, 1, &data, &len) < 0)) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE,
                               "the attachment could not be read; try again");
        } else if (PQntuples(results[0]) == 0) {
                request_refuse(q, ERROR_CODE_NOT_FOUND, "there is no such attachment");
        } else {
                struct attachment_reply reply = {
                        .media_type = pg_str(results[0], 0, 0),
                        .data = { data, len },
                };
                request_reply(q, &reply);
        }
        request_end(q);
}

int route_attachment_get(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                         const void *msg)
{
        struct coordinator *c = userdata;
        const struct attachment_get *m = msg;

        if (!lease_held_by(c, peer, m->session_id, m->epoch))
                return rpc_reply_error(req, ERROR_CODE_STALE_EPOCH,
                                       "epoch %" PRIu64 " of this session is over", m->epoch);
        struct request *q = request_new(c, sizeof(struct request), peer, req, NULL, NULL, false);
        if (q && pg_query(c->pool, on_attachment, q, store_attachment, "ss", m->session_id,
                          m->digest) < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "the database is overloaded; try again");
                request_end(q);
        }
        return 0;
}
