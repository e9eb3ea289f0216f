/* /openapi.json: the description of every route, embedded at build time. */
#include "gatewayd/gateway.h"
#include "gatewayd/route.h"

#include "openapi.h" /* generated from openapi.json */

static void openapi(struct http_request *req)
{
        http_reply_json(req, 200, (struct span){ openapi_json, sizeof(openapi_json) - 1 });
}

static const struct route table[] = {
        { HTTP_GET, "/openapi.json", openapi, .auth = ROUTE_PUBLIC },
};
const struct route_table openapi_routes = { table, ARRAY_LEN(table) };
