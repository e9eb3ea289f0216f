/* The text side of the edit tool: views and edits of a file's bytes, with the errors the model is
 * told. Nothing here does I/O; nothing expands tabs or changes what was not asked to change. */
#pragma once

#include "common/base/buf.h"

/* 0 with the whole new text or view appended to *out, or -EINVAL with a sentence in *error (caller
 * frees). */

/* from 1-based; to -1 = the end. has_range false = all. Clipped at `max` bytes. */
int edit_view(struct span file, const char *path, bool has_range, int64_t from, int64_t to,
              size_t max, struct buf *out, char **error) mustuse;
/* *ret_line: first line of the change, 0-based; *ret_lines: lines of the new piece. */
int edit_replace(struct span file, const char *path, const char *old, const char *new,
                 struct buf *out, size_t *ret_line, size_t *ret_lines, char **error) mustuse;
int edit_insert(struct span file, int64_t line, const char *text, struct buf *out, size_t *ret_line,
                size_t *ret_lines, char **error) mustuse;
/* Numbered lines around a change, 4 on each side. */
void edit_snippet(struct span file, const char *path, size_t line, size_t lines, struct buf *out);
