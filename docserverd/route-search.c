/* document_search, document_read_again, document_text: what was read out of documents. */
#include "docserver.h"

#include "common/base/buf.h"
#include "proto/messages.h"
#include "reading.h"
#include "search.h"
#include "store-text.h"
#include "vectors.h"

#define TEXT_MAX (16 * MIB - 1024)
#define REPLY_MAX (3 * MIB) /* documents carry metadata of up to 128 KiB each */

/* ---- document_search ---- */

struct search_call {
        struct docserver *server;
        struct rpc_request *req;
        uint64_t limit, offset;
};

static void put_text(struct buf *b, const char *name, const char *value)
{
        buf_putf(b, ",\"%s\":", name);
        if (value)
                buf_put_json_string(b, value, strlen(value));
        else
                buf_puts(b, "null");
}

static void put_hit(struct buf *b, const struct store_hit *h)
{
        cleanup_buf struct buf highlight = BUF_INIT;

        buf_puts(&highlight, "");
        search_highlight(&highlight, h->headline);
        buf_putf(b, "{\"id\":\"%s\",\"score\":%s,\"version\":%" PRIu64 ",\"page\":", h->id,
                 h->score, h->version);
        if (h->page > 0)
                buf_putf(b, "%" PRIu64, h->page);
        else
                buf_puts(b, "null");
        put_text(b, "filename", h->filename);
        put_text(b, "content_type", h->content_type);
        put_text(b, "passage", h->passage);
        put_text(b, "highlight", highlight.data);
        buf_putf(b, ",\"document\":%s}", h->document_json);
}

static void on_found(void *userdata, int r, bool vectors, size_t n, const struct store_hit *hits)
{
        cleanup_free struct search_call *c = userdata;
        cleanup_buf struct buf b = BUF_INIT;
        size_t shown = MIN(n, (size_t) c->limit), i;

        if (r < 0) {
                search_refuse(c->req, r);
                return;
        }
        buf_puts(&b, "{\"results\":[");
        for (i = 0; i < shown && (i == 0 || b.len < REPLY_MAX); i++) {
                if (i > 0)
                        buf_puts(&b, ",");
                put_hit(&b, &hits[i]);
        }
        buf_putf(&b, "],\"mode\":\"%s\",\"next_offset\":", vectors ? "hybrid" : "text");
        if (i < n && c->offset + i <= SEARCH_OFFSET_MAX)
                buf_putf(&b, "%" PRIu64 "}", c->offset + i);
        else
                buf_puts(&b, "null}");
        rpc_reply(c->req, &(struct document_found){ .results_json = { b.data, b.len } });
}

int route_document_search(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                          const void *msg)
{
        struct docserver *d = userdata;
        const struct document_search *m = msg;
        struct json_problem problem = { 0 };
        struct document_tags tags = { 0 };

        for (size_t i = 0; i < m->n_tags; i++)
                if (document_tags_add(&tags, span_of(m->tags[i]), &problem) < 0)
                        return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST, "%s", problem.message);
        if (m->limit < 1 || m->limit > SEARCH_RESULTS_MAX || m->offset > SEARCH_OFFSET_MAX ||
            m->per_document < 1 || m->per_document > 20)
                return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST,
                                       "limit must be 1 to 100, offset at most 1000, per_document "
                                       "1 to 20");
        struct search_call *c = xnew(struct search_call);
        *c = (struct search_call){ d, req, m->limit, m->offset };
        int r = search_run(d,
                           &(struct search_asked){ .tenant = m->tenant,
                                                   .query = m->query,
                                                   .tags = &tags,
                                                   .limit = m->limit + 1,
                                                   .offset = m->offset,
                                                   .per_document = m->per_document,
                                                   .prefix = m->prefix,
                                                   .any = m->any,
                                                   .vectors = m->mode == SEARCH_MODE_AUTO },
                           on_found, c);
        if (r < 0) {
                free(c);
                search_refuse(req, r);
        }
        return 0;
}

/* ---- document_read_again, document_text ---- */

struct again {
        struct docserver *server;
        struct rpc_request *req;
};

static void on_again(void *userdata, int r, const char *json)
{
        cleanup_free struct again *a = userdata;

        if (r < 0) {
                docserver_reply_failure(a->req, r);
                return;
        }
        rpc_reply(a->req, &(struct document_reply){ .document_json = span_of(json) });
        reading_poke(a->server->reading);
}

int route_document_read_again(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                              const void *msg)
{
        struct docserver *d = userdata;
        const struct document_read_again *m = msg;
        struct again *a = xnew(struct again);

        *a = (struct again){ d, req };
        int r = store_text_again(d->pg, m->tenant, m->document_id, on_again, a);
        if (r < 0) {
                free(a);
                docserver_reply_failure(req, r);
        }
        return 0;
}

static void on_text(void *userdata, int r, const char *state, struct span text)
{
        struct rpc_request *req = userdata;

        if (r < 0) {
                docserver_reply_failure(req, r);
                return;
        }
        rpc_reply(req, &(struct document_text_is){ .status = state, .text = text });
}

int route_document_text(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                        const void *msg)
{
        struct docserver *d = userdata;
        const struct document_text *m = msg;
        int r = store_text(d->pg, m->tenant, m->document_id, TEXT_MAX, on_text, req);

        if (r < 0)
                docserver_reply_failure(req, r);
        return 0;
}
