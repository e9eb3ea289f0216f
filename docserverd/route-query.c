/* Looks up documents for workers: by tags, part of the name and words; and one document's object.
 */
#include "docserver.h"

#include "common/base/buf.h"
#include "proto/messages.h"
#include "store.h"

#define PAGE_BYTES (512 * KIB)
#define LIMIT_MAX 200

struct query {
        struct rpc_request *req;
        uint32_t limit;
};

/* One row more than the limit was asked for. */
static void on_page(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        cleanup_free struct query *q = userdata;
        cleanup_buf struct buf out = BUF_INIT;
        int rows, shown = 0;

        if (r < 0) {
                docserver_reply_failure(q->req, store_failure("looking up documents", r, error));
                return;
        }
        rows = PQntuples(results[n - 1]);
        buf_puts(&out, "[");
        while (shown < rows && shown < (int) q->limit) {
                const char *json = pg_str(results[n - 1], shown, 0);

                if (shown > 0 && out.len + strlen(json) > PAGE_BYTES)
                        break;
                buf_puts(&out, shown > 0 ? "," : "");
                buf_puts(&out, json);
                shown++;
        }
        buf_puts(&out, "]");
        rpc_reply(q->req, &(struct document_page){ .documents = { out.data, out.len },
                                                   .more = shown < rows });
}

static int read_tags(const struct document_query *m, struct buf *array,
                     struct json_problem *problem)
{
        struct document_tags tags = { 0 };
        int r = 0;

        for (size_t i = 0; i < m->n_tags && r == 0; i++)
                r = document_tags_add(&tags, span_of(m->tags[i]), problem);
        buf_puts(array, "{");
        for (size_t i = 0; i < tags.n; i++)
                buf_putf(array, "%s\"%s\"", i > 0 ? "," : "", tags.tags[i]);
        buf_puts(array, "}");
        return r;
}

int route_document_query(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                         const void *msg)
{
        struct docserver *d = userdata;
        const struct document_query *m = msg;
        struct json_problem problem = { 0 };
        cleanup_buf struct buf tags = BUF_INIT;
        struct query *q;
        int r = read_tags(m, &tags, &problem);

        if (r < 0)
                return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST, "%s", problem.message);
        if (m->limit < 1 || m->limit > LIMIT_MAX)
                return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST, "limit must be 1 to %d",
                                       LIMIT_MAX);
        q = xnew(struct query);
        *q = (struct query){ req, m->limit };
        r = pg_query(d->pg, on_page, q,
                     "SELECT docs.document_json(d) FROM docs.document d WHERE d.tenant = $1 "
                     "AND d.tags @> $2::text[] "
                     "AND ($3::text IS NULL OR strpos(lower(d.filename), lower($3::text)) > 0) "
                     "AND ($4::text IS NULL OR d.search @@ websearch_to_tsquery('simple', "
                     "$4::text)) ORDER BY d.id DESC LIMIT $5",
                     "ssssu", m->tenant, tags.data, m->filename, m->text, (uint64_t) m->limit + 1);
        if (r < 0) {
                free(q);
                docserver_reply_failure(req, r);
        }
        return 0;
}

static void on_shown(void *userdata, int r, const char *json)
{
        struct rpc_request *req = userdata;

        if (r < 0)
                docserver_reply_failure(req, r);
        else
                rpc_reply(req, &(struct document_reply){ .document_json = span_of(json) });
}

int route_document_show(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                        const void *msg)
{
        struct docserver *d = userdata;
        const struct document_show *m = msg;
        int r = store_json(d->pg, m->tenant, m->document_id, on_shown, req);

        if (r < 0)
                docserver_reply_failure(req, r);
        return 0;
}
