/* Who asks: bearer tokens looked up by SHA-256 in core.auth_token (short cache), single-use tickets
 * for browsers that cannot send headers, and the Origin rule for upgrades. Secrets are never
 * logged. */
#pragma once

#include "common/base/util.h"

struct gateway;
struct http_request;
struct auth;
struct auth_grant;

/* Each may do what those before may: read and watch; act; manage people, tokens and limits. */
enum role {
        ROLE_VIEWER,
        ROLE_OPERATOR,
        ROLE_USER = ROLE_OPERATOR, /* its old name */
        ROLE_ADMIN,
        ROLE_MAX
};
const char *role_name(enum role r);
int role_parse(const char *s, enum role *ret) mustuse; /* knows `user`, too */

struct principal {
        char tenant[65];
        char name[65];
        enum role role;
        char token_hash[SHA256_HEX]; /* "" for public routes */
        char token_id[65];
        uint32_t scopes; /* rights.h; 0 = all that the role may */
};

int auth_new(struct gateway *g, struct auth **ret) mustuse;
struct auth *auth_free(struct auth *a);
DEFINE_CLEANUP(struct auth, auth_free)

/* Finds out who sends the request, then calls fn once, perhaps before it returns: r 0 with *who,
 * -EACCES no or wrong token or ticket, -EAGAIN the database cannot be asked now. allow_ticket:
 * ?token= counts. */
typedef void (*auth_fn)(struct http_request *req, int r, const struct principal *who);
void auth_check(struct auth *a, struct http_request *req, bool allow_ticket, auth_fn fn);
void auth_forget(struct auth *a, struct http_request *req); /* the callback never runs */

/* Somebody's rights have changed (the bus said so): every token is looked up again before it
 * counts.
 */
void auth_changed(struct auth *a);

/* POST /tickets, optionally for one path only, and never for a page of another Origin than the one
 * that asked for it (browsers name it with each WebSocket): 201
 * {"ticket","expires_in":30,"expires_at"}; single use, carries the asker's principal. */
void auth_ticket_route(struct http_request *req);

/* Open streams hold a grant and ask it every few seconds whether their token still stands. */
struct auth_grant *auth_grant_take(struct auth *a, const char *token_hash); /* NULL for "" */
struct auth_grant *auth_grant_release(struct auth_grant *g);                /* returns NULL */
bool auth_grant_stands(struct auth_grant *g); /* by the cache; starts a refresh when that is old */

/* Same-origin rule for upgrades: an absent Origin is fine (not a browser); else its host and port
 * must be those of Host, or it must be in the setting allowed_origins. */
bool auth_origin_ok(const struct gateway *g, const char *origin, const char *host);
