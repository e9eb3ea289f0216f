/* A small HTTP/1.1 server inside the test's own loop, which answers well or badly as the path says.
 */
#pragma once

#include <systemd/sd-event.h>

#include "common/base/util.h"

struct http_peer;

struct http_peer *http_peer_new(sd_event *e);
void http_peer_free(struct http_peer *p);
int http_peer_port(const struct http_peer *p);
int http_peer_accepted(const struct http_peer *p); /* connections so far */
int http_peer_open(const struct http_peer *p);     /* connections now */
/* Sends the next chunk to whoever asked for /chunks; `last` ends the answer. */
void http_peer_chunk(struct http_peer *p, const char *text, bool last);
