/* Media types by file name. */
#pragma once

/* The type for a name's suffix (case does not matter), without parameters; application/octet-stream
 * when it is not known. Never NULL. */
const char *media_type_of(const char *filename);
