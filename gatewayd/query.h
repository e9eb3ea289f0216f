/* What the route files share: asking the coordinator and the database, ids that do not exist, pages
 * of lists. */
#pragma once

#include "gatewayd/gateway.h"

/* fn gets the request as userdata and answers it. When the link is full or down the request is
 * answered 503. */
void coordinator_call(struct http_request *req, const struct wire_msg *type, const void *msg,
                      rpc_reply_fn fn);
/* One statement by the read-only role; types and values as in pg_batch_add. fn gets the request as
 * userdata. */
#define database_query(req, fn, sql, ...)                                                          \
        database_asked((req), pg_query((req)->gateway->pg, (fn), (req), (sql), ##__VA_ARGS__))
void database_asked(struct http_request *req, int r); /* answers 503 when the query was not taken */
void database_failed(struct http_request *req, int r, const struct pg_error *error);

/* 410: what the reader has not seen yet is gone; `oldest` is where it may begin (seq or id). */
void events_gone(struct http_request *req, uint64_t oldest);
void no_session(struct http_request *req); /* 404 */

/* A page: {"NAME":[column 0 of each row],"next_cursor":null|"..."}. Rows are (json, key, id) in
 * list order; when there are as many as the limit, next_cursor names the last one. */
void list_reply(struct http_request *req, const PGresult *rows, const char *name, uint64_t limit);
/* ?cursor= of an earlier page -> its key and id (the caller frees), both NULL without one. -EINVAL
 * after a bad one was answered 400. */
int cursor_read(struct http_request *req, char **ret_key, char **ret_id) mustuse;
/* text as a LIKE pattern, its own wildcards escaped: anywhere, or as a prefix. */
char *like_pattern(const char *text, bool anywhere) mustuse;
