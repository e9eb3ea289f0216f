/* Builds the lines a persistent shell is fed with and finds the end mark in what it prints.
 *
 * The command goes through eval, quoted, with its own standard input: neither an open quote or here
 * document nor a program that reads its input can swallow the mark. The mark goes to copies of the
 * first outputs, so a command that redirects the shell cannot hide it, and `set -x` cannot print
 * it. */
#include "shell-text.h"

void shell_token(char token[static SHELL_TOKEN_MAX])
{
        unsigned char bytes[16];

        random_bytes(bytes, sizeof(bytes));
        hex_encode(bytes, sizeof(bytes), token);
        memcpy(token + strlen(token), ":", sizeof(":"));
}

void shell_line(struct buf *out, const char *command, const char *token)
{
        buf_puts(out, "eval '");
        for (const char *c = command; *c; c++) {
                if (*c == '\'')
                        buf_puts(out, "'\\''");
                else
                        buf_put(out, c, 1);
        }
        buf_putf(
                out,
                "' </dev/null 37>&- 38>&-\n\n"
                "{ printf '%%s%%d\\n' '%s' \"$?\" >&37; printf '%%s\\n' '%s' >&38; } 2>/dev/null\n",
                token, token);
}

void shell_stream_begin(struct shell_stream *s, const char *token)
{
        *s = (struct shell_stream){ .status = -1 };
        (void) snprintf(s->token, sizeof(s->token), "%s", token);
}

void shell_stream_done(struct shell_stream *s)
{
        buf_done(&s->held);
}

/* The mark is at `at`; complete when its line has ended. */
static bool take_mark(struct shell_stream *s, const char *at, size_t n, struct buf *after)
{
        const char *digits = at + strlen(s->token),
                   *end = memchr(digits, '\n', n - strlen(s->token));
        char number[12];
        size_t len;

        if (!end && n - strlen(s->token) <= sizeof(number))
                return false;
        if (!end) { /* forged: our marks are short */
                s->ended = true;
                return true;
        }
        len = MIN((size_t) (end - digits), sizeof(number) - 1);
        memcpy(number, digits, len);
        number[len] = '\0';
        if (parse_i64(number, &s->status) < 0)
                s->status = -1;
        s->ended = true;
        buf_put(after, end + 1, (size_t) (at + n - end - 1));
        return true;
}

void shell_stream_feed(struct shell_stream *s, const char *data, size_t n, struct buf *text,
                       struct buf *after)
{
        size_t token = strlen(s->token), len, keep;
        const char *all, *at;

        if (s->ended) {
                buf_put(after, data, n);
                return;
        }
        if (n == 0)
                return;
        buf_put(&s->held, data, n);
        all = buf_head(&s->held);
        len = buf_pending(&s->held);
        at = memmem(all, len, s->token, token);
        if (at) {
                size_t before = (size_t) (at - all);

                buf_put(text, all, before);
                if (take_mark(s, at, len - before, after)) {
                        buf_done(&s->held);
                        return;
                }
                buf_consume(&s->held, before);
                return;
        }
        for (keep = MIN(len, token - 1); memcmp(all + len - keep, s->token, keep) != 0;)
                keep--;
        buf_put(text, all, len - keep);
        buf_consume(&s->held, len - keep);
}
