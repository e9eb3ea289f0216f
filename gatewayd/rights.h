/* Rights, in one place: which part of the API a route belongs to, which routes are acts, who may
 * manage the installation. The least role of a route stands in its row of the route tables. */
#pragma once

#include "gatewayd/route.h"

/* Scopes narrow a token to parts of the API: "sessions:read", "documents:write" ... write implies
 * read. No scopes = all that the role may. */
enum rights_area { AREA_SESSIONS, AREA_DOCUMENTS, AREA_AGENTS, AREA_SYSTEM, AREA_MAX };
#define SCOPE_READ(area) (UINT32_C(1) << (2 * (area)))
#define SCOPE_WRITE(area) (UINT32_C(2) << (2 * (area)))

enum rights_area rights_area_of(const struct route *r);
int rights_scope_parse(const char *text, uint32_t *ret) mustuse; /* one scope; -EINVAL */
/* "a,b" or "{a,b}" as PostgreSQL writes arrays; what is not known gives no right. */
uint32_t rights_scopes_of(const char *list);
/* It changes something or makes somebody else do so: recorded in the audit log. */
bool rights_is_act(const struct route *r);
/* Costs more than reading a row: the narrower of the two rate limits. */
bool rights_is_expensive(const struct route *r);
/* NULL, or one sentence why this principal may not call the route. */
const char *rights_refusal(const struct principal *who, const struct route *r);
/* An admin of the tenant `default`, unscoped, manages the installation: tenants, workers. */
bool rights_is_host(const struct principal *who);
