/* Socket files: who may replace one. Used by zsock.c and fdlink.c. */
#pragma once

#include "common/base/util.h"

/* Makes way for a listening Unix socket of the type at `path`: removes a file that nobody listens
 * on. -EADDRINUSE when somebody does, -EEXIST when it is no socket, -ENAMETOOLONG. */
int sockpath_claim(const char *path, int type) mustuse;

/* For one who has the right to `path` whoever listens there: removes a socket file. -EEXIST when it
 * is no socket. */
int sockpath_take(const char *path) mustuse;

struct sockaddr_un;
int sockpath_address(const char *path,
                     struct sockaddr_un *ret) mustuse; /* -ENAMETOOLONG, -EINVAL */
