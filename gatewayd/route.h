/* The table of routes: method, path pattern, handler, and what the edge does before the handler
 * runs. */
#pragma once

#include "gatewayd/http.h"

enum route_body {
        ROUTE_BODY_NONE,          /* a body is refused with 400 */
        ROUTE_BODY_JSON,          /* needs application/json; handler runs with req->json */
        ROUTE_BODY_JSON_OPTIONAL, /* may be empty: req->json NULL */
        ROUTE_BODY_STREAM,        /* handler runs after the head; see on_data */
};
enum route_auth {
        ROUTE_TOKEN,  /* Authorization: Bearer */
        ROUTE_TICKET, /* that, or a ticket as ?token= */
        ROUTE_PUBLIC,
};

struct route {
        enum http_method method; /* GET routes answer HEAD, too */
        const char *pattern; /* "/sessions/{id}/files/{path...}": {x} one segment, {x...} the rest,
                                may be empty */
        void (*handle)(struct http_request *req);
        enum route_auth auth;
        enum role role; /* the least role that may call it */
        enum route_body body;
        uint64_t body_max;  /* 0 = setting body_max; streams: setting upload_max */
        unsigned listeners; /* 0 = LISTENER_MAIN */
        bool upgrade;       /* may be asked for as a WebSocket: see ws_requested() */
};

struct route_table {
        const struct route *routes;
        size_t n;
};

/* routes.c: every table of the gateway; a new route file adds its line there. */
extern const struct route_table *const route_tables[];
extern const size_t n_route_tables;

enum route_match { ROUTE_FOUND, ROUTE_NO_PATH, ROUTE_NO_METHOD };
/* path is decoded; parameters are copied to scratch (as long as path + 1) and pointed to by params.
 * More exact patterns win over {x}, {x} over {x...}. ROUTE_NO_METHOD: allow is a comma list of what
 * fits. */
enum route_match route_find(const struct route_table *const *tables, size_t n, unsigned listener,
                            enum http_method m, const char *path, const struct route **ret,
                            const char *params[HTTP_PARAMS_MAX], char *scratch,
                            char allow[static 64]);
