/* The page: files of web_dir, and of demo_dir under /demo/. */
#pragma once

#include "gatewayd/http.h"
#include "gatewayd/route.h"

struct static_files;
int static_files_new(struct gateway *g, struct static_files **ret) mustuse;
struct static_files *static_files_free(struct static_files *s);
DEFINE_CLEANUP(struct static_files, static_files_free)

extern const struct route static_route; /* for GET of whatever no table knows */
extern const struct route_table static_routes;
