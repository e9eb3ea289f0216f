/* Whether an address is this machine's own: as private as 127.0.0.1, whatever it looks like,
 * because its own services listen there. */
#pragma once

#include <sys/socket.h>

#include "common/base/util.h"

bool address_is_ours(const struct sockaddr *a); /* true when the interfaces cannot be read */
/* As address_special (netpolicy.h), and "this machine". NULL = public and another's. */
const char *address_not_public(const struct sockaddr *a);
