/* The admin token that the first start makes. */
#pragma once

#include "coordinator.h"

/* Makes one when the table of tokens is empty and admin_token_file is set, stores its hash, writes
 * it to the file (0600); then calls coordinator_activate. A failure ends the daemon. */
void token_first(struct coordinator *c);
