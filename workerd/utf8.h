/* Text of unknown origin made fit for events: valid UTF-8 without NUL, clipped, split at character
 * bounds. */
#pragma once

#include "common/base/buf.h"

/* Appends the text; bytes that are not UTF-8, and NUL, become U+FFFD. */
void utf8_clean(struct buf *out, const char *data, size_t n);

/* How many bytes at the end of data begin a character that is not complete yet (0 to 3). */
size_t utf8_incomplete(const char *data, size_t n);

/* The largest cut <= max that does not split a character of valid UTF-8. */
size_t utf8_cut(const char *data, size_t n, size_t max);

/* A clean copy of at most max bytes; when something was cut away a last line says how much. */
char *utf8_clip(const char *data, size_t n, size_t max) mustuse;
