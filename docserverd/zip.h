/* Writes a ZIP file (APPNOTE 6.3, ZIP64 where needed): entries are stored as they are, names are
 * UTF-8. Plain file writing, for the worker thread; memory grows only by the directory (about 80
 * bytes and the name per entry).
 *
 * Order: for each entry zip_begin, zip_data any number of times, zip_end; then zip_finish. After a
 * failure only zip_free is left. */
#pragma once

#include "common/base/util.h"

struct zip;
struct zip *zip_new(int fd) mustuse; /* an empty file at offset 0; stays the caller's */
struct zip *zip_free(struct zip *z);
DEFINE_CLEANUP(struct zip, zip_free)

/* name: relative path of at most 65535 bytes. size: what zip_data will be given in all. */
int zip_begin(struct zip *z, const char *name, uint64_t size, uint64_t time_us) mustuse;
int zip_data(struct zip *z, const void *data, size_t n) mustuse;
int zip_end(struct zip *z) mustuse; /* -EMSGSIZE: other bytes than announced */
int zip_finish(struct zip *z, uint64_t *ret_size) mustuse;
