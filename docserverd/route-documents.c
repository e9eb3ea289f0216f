/* Changes and deletes documents that are there. */
#include "docserver.h"

#include "common/base/buf.h"
#include "proto/messages.h"
#include "store.h"
#include "sweep.h"

void docserver_reply_failure(struct rpc_request *req, int r)
{
        switch (r) {
        case -ENOENT:
                rpc_reply_error(req, ERROR_CODE_NOT_FOUND, "there is no such document");
                break;
        case -ESTALE:
                rpc_reply_error(req, ERROR_CODE_PRECONDITION_FAILED,
                                "the document has changed since; read it again");
                break;
        case -EOVERFLOW:
                rpc_reply_error(req, ERROR_CODE_TOO_LARGE,
                                "the document's metadata would grow too large");
                break;
        case -E2BIG:
                rpc_reply_error(req, ERROR_CODE_UNPROCESSABLE,
                                "a document would have more than 50 tags; nothing was changed");
                break;
        case -EUSERS:
                rpc_reply_error(req, ERROR_CODE_QUOTA_EXCEEDED,
                                "the quota of documents is used up: delete some, or have it "
                                "raised; nothing was stored");
                break;
        case -EHOSTUNREACH:
                rpc_reply_error(req, ERROR_CODE_UNAVAILABLE,
                                "the object store that keeps the documents' bytes cannot be used "
                                "right now; nothing was stored, try again");
                break;
        case -ENOSPC:
                rpc_reply_error(req, ERROR_CODE_UNAVAILABLE,
                                "there is no room for the document right now; nothing was stored");
                break;
        case -ECONNRESET:
                rpc_reply_error(req, ERROR_CODE_UNAVAILABLE,
                                "the database was lost on the way; look whether it happened before "
                                "trying again");
                break;
        case -EIO:
                rpc_reply_error(req, ERROR_CODE_INTERNAL, "the document could not be stored");
                break;
        default:
                rpc_reply_error(req, ERROR_CODE_UNAVAILABLE,
                                "documents cannot be stored right now; try again");
                break;
        }
}

/* A change of rows that somebody may remember. */
struct change_call {
        struct docserver *server;
        struct rpc_request *req;
        unsigned slot;
};

/* id NULL: any number of documents. */
static struct change_call *change_begin(struct docserver *d, struct rpc_request *req,
                                        const char *tenant, const char *id)
{
        struct change_call *c = xnew(struct change_call);
        c->server = d;
        c->req = req;
        c->slot = changes_begin(d->changes, tenant, id);
        return c;
}

/* True: it succeeded, and the request waits for its answer. */
static bool change_end(struct change_call *c, int r)
{
        docserver_changed(c->server, c->slot, r);
        if (r < 0)
                docserver_reply_failure(c->req, r);
        return r >= 0;
}

/* A store call that did not begin. */
static void change_failed(struct change_call *c, int r)
{
        if (r < 0) {
                (void) change_end(c, r);
                free(c);
        }
}

static void on_document(void *userdata, int r, const char *json)
{
        cleanup_free struct change_call *c = userdata;
        if (change_end(c, r))
                rpc_reply(c->req, &(struct document_reply){ .document_json = span_of(json) });
}

/* Parsed and written again: what the database gets is what our own parser has understood. */
static int read_metadata(struct span text, char **ret, struct json_problem *problem)
{
        cleanup_json json_t *json = NULL;
        if (!text.data) {
                *ret = NULL;
                return 0;
        }
        int r = json_parse(text.data, text.len, &json, problem);
        if (r < 0)
                return r;
        r = document_metadata_check(json, true, problem);
        if (r < 0)
                return r;
        *ret = json_text(json);
        return 0;
}

int route_document_patch(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                         const void *msg)
{
        struct docserver *d = userdata;
        const struct document_patch *m = msg;
        struct json_problem problem = { 0 };
        struct document_tags tags = { 0 };
        cleanup_free char *metadata = NULL;
        int r = 0;

        for (size_t i = 0; i < m->n_tags && r == 0; i++)
                r = document_tags_add(&tags, span_of(m->tags[i]), &problem);
        if (r == 0)
                r = read_metadata(m->metadata, &metadata, &problem);
        if (r < 0)
                return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST, "%s", problem.message);
        const char *why = m->filename ? document_filename_problem(m->filename) : NULL;
        if (why)
                return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST, "filename %s", why);

        struct change_call *c = change_begin(d, req, m->tenant, m->document_id);
        if (!m->set_tags && !metadata && !m->filename)
                r = store_json(d->pg, m->tenant, m->document_id, on_document, c);
        else
                r = store_patch(d->pg, m->tenant, m->document_id, m->set_tags ? &tags : NULL,
                                metadata ? metadata : "{}", m->filename, on_document, c);
        change_failed(c, r);
        return 0;
}

/* ---- documents_tag ---- */

static void on_tagged(void *userdata, int r, const char *json)
{
        cleanup_free struct change_call *c = userdata;
        if (change_end(c, r))
                rpc_reply(c->req, &(struct documents_tagged){ .result_json = span_of(json) });
}

static int read_tags(struct document_tags *tags, const char *const *list, size_t n,
                     struct json_problem *problem)
{
        int r = 0;
        for (size_t i = 0; i < n && r == 0; i++)
                r = document_tags_add(tags, span_of(list[i]), problem);
        return r;
}

static bool is_id(const char *s)
{
        return strlen(s) == UUID_MAX - 1 && strspn(s, "0123456789abcdef-") == UUID_MAX - 1;
}

int route_documents_tag(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                        const void *msg)
{
        struct docserver *d = userdata;
        const struct documents_tag *m = msg;
        struct json_problem problem = { 0 };
        struct document_tags add = { 0 }, remove = { 0 };
        cleanup_buf struct buf ids = BUF_INIT;

        int r = read_tags(&add, m->add, m->n_add, &problem);
        if (r == 0)
                r = read_tags(&remove, m->remove, m->n_remove, &problem);
        if (r < 0)
                return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST, "%s", problem.message);
        buf_puts(&ids, "{");
        for (size_t i = 0; i < m->n_document_ids; i++) {
                if (!is_id(m->document_ids[i]))
                        return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST,
                                               "ids must be the ids of documents");
                buf_putf(&ids, "%s%s", i ? "," : "", m->document_ids[i]);
        }
        buf_puts(&ids, "}");
        struct change_call *c = change_begin(d, req, m->tenant, NULL);
        change_failed(c, store_tag(d->pg, m->tenant, ids.data, &add, &remove, on_tagged, c));
        return 0;
}

/* What the document is the parent of goes, too: which that is, only the database knows. */
static void on_deleted(void *userdata, int r, const struct blob_names *names)
{
        cleanup_free struct change_call *c = userdata;
        if (!change_end(c, r))
                return;
        rpc_reply(c->req, &(struct ok_reply){ 0 });
        sweep_names(c->server->sweep, names);
}

int route_document_delete(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                          const void *msg)
{
        struct docserver *d = userdata;
        const struct document_delete *m = msg;
        struct change_call *c = change_begin(d, req, m->tenant, NULL);
        change_failed(c, store_delete(d->pg, m->tenant, m->document_id, on_deleted, c));
        return 0;
}
