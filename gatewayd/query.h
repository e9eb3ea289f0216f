/* What the route files share: asking the coordinator and the database, ids that do not exist, pages
 * of lists. */
#pragma once

#include "gatewayd/gateway.h"

/* fn gets the request as userdata and answers it. When the link is down the request waits for it a
 * little (held.h); when it is full, or does not come back, the request is answered 503. */
void coordinator_call(struct http_request *req, const struct wire_msg *type, const void *msg,
                      rpc_reply_fn fn);
/* One statement by the read-only role, which sees the rows of the asker's tenant only; types and
 * values as in pg_batch_add. fn gets the request as userdata. */
#define database_query(req, fn, sql, ...)                                                          \
        database_asked((req), pg_query_as((req)->gateway->pg, (req)->principal.tenant, (fn),       \
                                          (req), (sql), ##__VA_ARGS__))
/* A batch of the same kind. Whatever is not asked for by one of these two, or by pg_batch_tenant,
 * sees no row of any tenant (common/io/pg-rules.c). */
struct pg_batch *tenant_batch(const struct http_request *req);
void database_asked(struct http_request *req, int r); /* answers 503 when the query was not taken */
void database_failed(struct http_request *req, int r, const struct pg_error *error);

/* 410: what the reader has not seen yet is gone; `oldest` is where it may begin (seq or id). */
void events_gone(struct http_request *req, uint64_t oldest);
/* 410: the reader's position is of another history (an older db_epoch). */
void another_history(struct http_request *req);
/* For a call that says nothing in its body: {} or none. True after anything else was answered 400.
 */
bool body_has_fields(struct http_request *req);
void no_session(struct http_request *req); /* 404 */
/* For the rpc_reply_fn of calls that answer with a session. */
void session_reply(struct http_request *req, int status, int r, const void *reply);
/* The rpc_reply_fn of calls that answer nothing: 204. */
void empty_reply(void *userdata, int r, const void *reply);

/* Rows (json, KEY) of a page, with their LIMIT and in ascending order of KEY, held to 8 MiB: events
 * may have megabytes each. -> json, KEY, found (rows before that cut; the first is always there).
 */
#define BOUNDED_PAGE(key, rows)                                                                    \
        "SELECT json, " key ", found FROM (SELECT json, " key ", count(*) OVER () AS found, "      \
        "sum(octet_length(json)) OVER (ORDER BY " key                                              \
        ") - octet_length(json) AS before FROM (" rows                                             \
        ") AS page) AS sized WHERE before < 8388608 ORDER BY " key
/* Ends the object of such a page: "next_cursor":null|"KEY of the last row"}. */
void bounded_page_end(struct buf *b, const PGresult *rows, uint64_t limit);

/* A page: {"NAME":[column 0 of each row],"next_cursor":null|"..."}. Rows are (json, key, id) in
 * list order; when there are as many as the limit, next_cursor names the last one. A fourth column,
 * where there is one: how many rows there were before the page was cut to a number of bytes. */
void list_reply(struct http_request *req, const PGresult *rows, const char *name, uint64_t limit);
char *cursor_make(const char *key, const char *id) mustuse; /* the caller frees */
/* ?cursor= of an earlier page -> its key and id (the caller frees), both NULL without one. -EINVAL
 * after a bad one was answered 400. */
int cursor_read(struct http_request *req, char **ret_key, char **ret_id) mustuse;
/* text as a LIKE pattern, its own wildcards escaped: anywhere, or as a prefix. */
char *like_pattern(const char *text, bool anywhere) mustuse;
