/* The name in a TLS ClientHello (RFC 8446 4.1.2, RFC 6066 3), read without keeping any state. */
#pragma once

#include "common/base/netpolicy.h"

#define HELLO_MAX (16 * 1024)

/* 0 with the normalised name; -EAGAIN: more bytes are needed; -ENOENT: it names no host; -EBADMSG:
 * not a ClientHello. Handshake messages split over several records are joined. */
int hello_name(const char *data, size_t n, char ret[static HOST_TEXT_MAX]) mustuse;
