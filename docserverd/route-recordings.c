/* recording_drop; recording_add is an upload like others: route-create.c. */
#include "docserver.h"
#include "exports.h"
#include "store-recordings.h"

static void on_dropped(void *userdata, int r)
{
        struct rpc_request *req = userdata;

        if (r < 0)
                docserver_reply_failure(req, r);
        else
                rpc_reply(req, &(struct ok_reply){ 0 });
}

/* Its blobs are left to the sweep. */
int route_recording_drop(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                         const void *msg)
{
        struct docserver *d = userdata;
        const struct recording_drop *m = msg;

        exports_dropped(d->exports, m->session_id);
        int r = store_recording_drop(d->pg, m->tenant, m->session_id, on_dropped, req);

        if (r < 0)
                docserver_reply_failure(req, r);
        return 0;
}
