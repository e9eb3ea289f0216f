/* Every table of routes of the gateway, in one place. */
#include "gatewayd/relay.h"
#include "gatewayd/route.h"
#include "gatewayd/static.h"

extern const struct route_table approval_routes, usage_routes;
extern const struct route_table audit_routes, people_routes, agent_routes, relation_routes,
        document_more_routes, control_routes, document_bytes_routes, document_routes,
        document_upload_routes, log_routes, upload_routes, event_routes, external_routes,
        message_routes, openapi_routes, session_routes, status_routes, takeover_routes,
        recording_routes, export_routes;

extern const struct route_table files_routes, metrics_routes, model_routes;
extern const struct route_table ask_routes;
extern const struct route_table document_search_routes, document_edit_routes;

static const struct route ticket_table[] = {
        { HTTP_POST, "/tickets", auth_ticket_route, .body = ROUTE_BODY_JSON_OPTIONAL },
};
static const struct route_table ticket_routes = { ticket_table, ARRAY_LEN(ticket_table) };

const struct route_table *const route_tables[] = {
        &approval_routes,
        &usage_routes,
        &agent_routes,
        &session_routes,
        &control_routes,
        &message_routes,
        &event_routes,
        &external_routes,
        &relay_routes,
        &document_routes,
        &document_more_routes,
        &relation_routes,
        &document_bytes_routes,
        &document_upload_routes,
        &document_search_routes,
        &ask_routes,
        &log_routes,
        &upload_routes,
        &status_routes,
        &openapi_routes,
        &static_routes,
        &document_edit_routes,
        &ticket_routes,
        &takeover_routes,
        &recording_routes,
        &export_routes,
        &files_routes,
        &audit_routes,
        &people_routes,
        &metrics_routes,
        &model_routes,
};
const size_t n_route_tables = ARRAY_LEN(route_tables);
