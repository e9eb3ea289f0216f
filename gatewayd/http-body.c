/* Decoder of the chunked transfer coding: a byte-wise state machine that refuses every sloppy form.
 */
#include "gatewayd/http-body.h"
#include "gatewayd/http-head.h"

enum {
        SIZE,      /* hexadecimal digits */
        EXTENSION, /* after ';' up to CR */
        SIZE_LF,
        DATA,
        DATA_CR,
        DATA_LF,
        TRAILER, /* at the start of a trailer line or the last empty line */
        TRAILER_NAME,
        TRAILER_VALUE,
        TRAILER_LF,
        LAST_LF,
        DONE,
};

void http_chunked_init(struct http_chunked *c)
{
        *c = (struct http_chunked){ .state = SIZE };
}

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool is_text(char c)
{
        return c == '\t' || ((unsigned char) c >= 0x20 && c != 0x7f);
}

static const char *size_line(struct http_chunked *c, char ch)
{
        if (++c->line > HTTP_CHUNK_LINE_MAX)
                return "The size line of a chunk is longer than 256 bytes.";
        if (c->state == EXTENSION) {
                if (ch == '\r')
                        c->state = SIZE_LF;
                else if (!is_text(ch))
                        return "A chunk extension contains a control character.";
                return NULL;
        }
        if (c->state == SIZE_LF) {
                if (ch != '\n')
                        return "The size line of a chunk does not end in CR LF.";
                c->line = 0;
                c->state = c->left > 0 ? DATA : TRAILER;
                return NULL;
        }
        int v = hex_digit(ch);
        if (v >= 0) {
                /* 15 digits are 2^60 bytes: more than any body, and no overflow. */
                if (++c->digits > 15)
                        return "The size of a chunk has more than 15 digits.";
                c->left = c->left << 4 | (uint64_t) v;
                return NULL;
        }
        if (c->digits == 0)
                return "The size of a chunk is not a hexadecimal number.";
        if (ch == '\r')
                c->state = SIZE_LF;
        else if (ch == ';')
                c->state = EXTENSION;
        else
                return "The size of a chunk is not a hexadecimal number.";
        return NULL;
}

static const char *trailer(struct http_chunked *c, char ch)
{
        static const char broken[] = "The trailers after the last chunk are not valid headers.";

        if (++c->line > HTTP_TRAILER_MAX)
                return "The trailers after the last chunk are larger than 4096 bytes.";
        switch (c->state) {
        case TRAILER:
                if (ch == '\r')
                        c->state = LAST_LF;
                else if (http_is_token_char(ch))
                        c->state = TRAILER_NAME;
                else
                        return broken;
                return NULL;
        case TRAILER_NAME:
                if (ch == ':')
                        c->state = TRAILER_VALUE;
                else if (!http_is_token_char(ch))
                        return broken;
                return NULL;
        case TRAILER_VALUE:
                if (ch == '\r')
                        c->state = TRAILER_LF;
                else if (!is_text(ch))
                        return broken;
                return NULL;
        default: /* TRAILER_LF, LAST_LF */
                if (ch != '\n')
                        return broken;
                c->state = c->state == LAST_LF ? DONE : TRAILER;
                return NULL;
        }
}

static const char *step(struct http_chunked *c, char ch)
{
        switch (c->state) {
        case DATA_CR:
                if (ch != '\r')
                        return "The data of a chunk is longer than its size.";
                c->state = DATA_LF;
                return NULL;
        case DATA_LF:
                if (ch != '\n')
                        return "The data of a chunk does not end in CR LF.";
                c->state = SIZE;
                c->digits = 0;
                c->line = 0;
                c->left = 0;
                return NULL;
        case SIZE:
        case EXTENSION:
        case SIZE_LF:
                return size_line(c, ch);
        default:
                return trailer(c, ch);
        }
}

int http_chunked_feed(struct http_chunked *c, const char *data, size_t n, size_t *ret_used,
                      struct span *ret_data, const char **ret_why)
{
        size_t i = 0;

        *ret_data = (struct span){ 0 };
        while (i < n && c->state != DONE) {
                if (c->state == DATA) {
                        size_t take = (size_t) MIN((uint64_t) (n - i), c->left);
                        *ret_data = (struct span){ data + i, take };
                        c->left -= take;
                        if (c->left == 0)
                                c->state = DATA_CR;
                        *ret_used = i + take;
                        return 0;
                }
                const char *why = step(c, data[i++]);
                if (why) {
                        *ret_used = i;
                        *ret_why = why;
                        return -EBADMSG;
                }
        }
        *ret_used = i;
        return c->state == DONE;
}
