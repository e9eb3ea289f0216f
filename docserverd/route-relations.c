/* relation_add, relation_remove: how documents belong together. */
#include "docserver.h"

#include "proto/messages.h"
#include "store-relations.h"

static void on_done(void *userdata, int r)
{
        struct rpc_request *req = userdata;
        if (r == -EEXIST)
                rpc_reply_error(req, ERROR_CODE_CONFLICT, "the document has another parent");
        else if (r == -ELOOP)
                rpc_reply_error(req, ERROR_CODE_CONFLICT, "a document cannot be below itself");
        else if (r == -ENOENT)
                rpc_reply_error(req, ERROR_CODE_NOT_FOUND, "there is no such document or relation");
        else if (r < 0)
                docserver_reply_failure(req, r);
        else
                rpc_reply(req, &(struct ok_reply){ 0 });
}

/* From what the other document is to this one, to the row. False: a document and itself. */
static bool as_stored(const char *id, const char *other, enum document_kinship kinship,
                      struct store_relation *ret)
{
        bool turned = kinship == DOCUMENT_KINSHIP_CHILD || kinship == DOCUMENT_KINSHIP_SUCCESSOR ||
                      (kinship == DOCUMENT_KINSHIP_RELATED && strcmp(id, other) < 0);
        bool family = kinship == DOCUMENT_KINSHIP_PARENT || kinship == DOCUMENT_KINSHIP_CHILD;
        ret->from = turned ? id : other;
        ret->to = turned ? other : id;
        ret->kind = family                                ? "parent"
                    : kinship == DOCUMENT_KINSHIP_RELATED ? "related"
                                                          : "predecessor";
        return !streq(id, other);
}

int route_relation_add(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                       const void *msg)
{
        struct docserver *d = userdata;
        const struct relation_add *m = msg;
        struct store_relation s = { .tenant = m->tenant };
        if (!as_stored(m->document_id, m->other_id, m->kinship, &s))
                return rpc_reply_error(req, ERROR_CODE_BAD_REQUEST,
                                       "a document has no relation to itself");
        int r = store_relation_add(d->pg, &s, on_done, req);
        if (r < 0)
                docserver_reply_failure(req, r);
        return 0;
}

int route_relation_remove(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                          const void *msg)
{
        struct docserver *d = userdata;
        const struct relation_remove *m = msg;
        struct store_relation s = { .tenant = m->tenant };
        (void) as_stored(m->document_id, m->other_id, m->kinship, &s);
        int r = store_relation_remove(d->pg, &s, on_done, req);
        if (r < 0)
                docserver_reply_failure(req, r);
        return 0;
}
