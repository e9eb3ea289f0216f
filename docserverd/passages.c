/* Cuts text into passages at ends of paragraphs, lines, sentences and words. */
#include "passages.h"

void passages_done(struct passages *p)
{
        free(p->list);
        *p = PASSAGES_INIT;
}

static bool is_white(char c)
{
        return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

/* Length of the UTF-8 sequence at p, 0 when there is none. */
static size_t sequence(const char *p, size_t n)
{
        unsigned char c = (unsigned char) *p;
        size_t len = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 0;

        return len > 0 && len <= n && utf8_valid(p, len) ? len : 0;
}

size_t passages_clean(char *text, size_t n)
{
        size_t out = 0;

        for (size_t i = 0; i < n;) {
                unsigned char c = (unsigned char) text[i];
                size_t len = c == 0 ? 1 : sequence(text + i, n - i);

                if (len == 0) {
                        text[out++] = '?';
                        i++;
                } else if (len == 1 && (c < 0x20 || c == 0x7f)) {
                        text[out++] = is_white((char) c) ? (char) c : ' ';
                        i++;
                } else {
                        memmove(text + out, text + i, len);
                        out += len;
                        i += len;
                }
        }
        return out;
}

/* How good a place to cut is right behind text[i]: the more the better. */
static int cut_value(const char *text, size_t i, size_t n)
{
        char c = text[i], next = i + 1 < n ? text[i + 1] : '\n';

        if (c == '\n')
                return next == '\n' || next == '\r' ? 4 : 3;
        if (!is_white(c))
                return 0;
        return i > 0 && (text[i - 1] == '.' || text[i - 1] == '!' || text[i - 1] == '?') ? 2 : 1;
}

/* Bytes of the next passage of a text without white space in front. */
static size_t next_length(const char *text, size_t n)
{
        size_t best = 0;
        int value = 0;

        if (n <= PASSAGE_BYTES)
                return n;
        for (size_t i = PASSAGE_BYTES / 2; i < MIN(n, (size_t) PASSAGE_BYTES_MAX); i++) {
                int v = cut_value(text, i, n);

                if (i > PASSAGE_BYTES && value > 0)
                        break; /* beyond the goal any place is good enough */
                if (v > 0 && v >= value) {
                        value = v;
                        best = i + 1;
                }
        }
        if (best > 0)
                return best;
        for (size_t i = MIN(n, (size_t) PASSAGE_BYTES_MAX) - 1; i > 0; i--)
                if (is_white(text[i]))
                        return i + 1;
        if (n <= PASSAGE_BYTES_MAX)
                return n;
        best = PASSAGE_BYTES_MAX;
        while (((unsigned char) text[best] & 0xc0) == 0x80)
                best--;
        return best;
}

static void add(struct passages *p, size_t *cap, const char *text, size_t n, unsigned page)
{
        while (n > 0 && is_white(text[n - 1]))
                n--;
        if (n == 0)
                return;
        if (p->n == *cap) {
                *cap = MAX(*cap * 2, (size_t) 16);
                p->list = xrealloc(p->list, *cap, sizeof(struct passage));
        }
        p->list[p->n++] = (struct passage){ text, n, page };
}

static void cut_page(struct passages *p, size_t *cap, const char *text, size_t n, unsigned page)
{
        size_t at = 0;

        while (at < n) {
                if (is_white(text[at])) {
                        at++;
                        continue;
                }
                size_t len = next_length(text + at, n - at);
                add(p, cap, text + at, len, page);
                at += len;
        }
}

void passages_cut(const char *text, size_t n, struct passages *ret)
{
        const char *end = text + n, *at = text;
        bool pages = n > 0 && memchr(text, '\f', n);
        size_t cap = 0;
        unsigned page = pages ? 1 : 0;

        *ret = PASSAGES_INIT;
        while (at < end) {
                const char *stop = memchr(at, '\f', (size_t) (end - at));

                if (!stop)
                        stop = end;
                cut_page(ret, &cap, at, (size_t) (stop - at), page);
                at = stop + 1;
                if (pages)
                        page++;
        }
}
