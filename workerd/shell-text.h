/* The text side of the persistent shell: what is sent for a command, and finding its end in the
 * output. */
#pragma once

#include "common/base/buf.h"

#define SHELL_TOKEN_MAX 40
#define SHELL_SETUP "exec 37>&1 38>&2\n"

void shell_token(char token[static SHELL_TOKEN_MAX]);
/* Appends the lines that run `command` and then say `token` and its exit status on both streams. */
void shell_line(struct buf *out, const char *command, const char *token);

/* One output stream of one command. Text is given on as soon as it cannot be part of the end mark.
 */
struct shell_stream {
        char token[SHELL_TOKEN_MAX];
        struct buf held; /* may begin the mark */
        bool ended;
        int64_t status; /* of the mark; -1 when it names none */
};
void shell_stream_begin(struct shell_stream *s, const char *token);
void shell_stream_done(struct shell_stream *s);
/* Appends to *text what is output for sure. Bytes behind the mark go to *after. */
void shell_stream_feed(struct shell_stream *s, const char *data, size_t n, struct buf *text,
                       struct buf *after);
