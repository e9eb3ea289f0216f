/* Any bytes as a document's text, a query, and a headline: clean, whole passages, balanced HTML. */
#include "common/base/buf.h"
#include "docserverd/passages.h"
#include "docserverd/search.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(what)                                                                                 \
        do {                                                                                       \
                if (!(what))                                                                       \
                        abort();                                                                   \
        } while (0)

static bool is_white(char c)
{
        return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

/* All that is no white space is in some passage, in order, and once. */
static void check_cut(const char *text, size_t n)
{
        CLEANUP(passages_done) struct passages p = PASSAGES_INIT;
        size_t in_text = 0, in_passages = 0;
        const char *last = text;
        unsigned page = 0;

        passages_cut(text, n, &p);
        for (size_t i = 0; i < n; i++)
                in_text += !is_white(text[i]);
        for (size_t i = 0; i < p.n; i++) {
                const struct passage *s = &p.list[i];

                MUST(s->text >= last && s->text + s->len <= text + n);
                MUST(s->len > 0 && s->len <= PASSAGE_BYTES_MAX && utf8_valid(s->text, s->len));
                MUST(s->page >= page && !memchr(s->text, '\f', s->len));
                for (size_t k = 0; k < s->len; k++)
                        in_passages += !is_white(s->text[k]);
                last = s->text + s->len;
                page = s->page;
        }
        MUST(in_text == in_passages);
}

static void check_highlight(const char *text)
{
        cleanup_buf struct buf b = BUF_INIT;
        int open = 0;

        buf_puts(&b, "");
        search_highlight(&b, text);
        for (const char *p = strchr(b.data, '<'); p; p = strchr(p + 1, '<')) {
                open += str_starts(p, "<mark>") ? 1 : str_starts(p, "</mark>") ? -1 : 100;
                MUST(open == 0 || open == 1);
        }
        MUST(open == 0);
}

static void check_split(const char *text)
{
        cleanup_free char *words = NULL, *prefix = NULL;

        search_split(text, &words, &prefix);
        MUST(strlen(words) + strlen(prefix) == strlen(text));
        MUST(!strpbrk(prefix, "'\\:*&|!()\" "));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        cleanup_free char *text = xmalloc(size + 1);
        size_t n;

        memcpy(text, data, size);
        text[size] = '\0';
        check_highlight(text);
        check_split(text);
        n = passages_clean(text, size);
        MUST(n <= size && utf8_valid(text, n));
        check_cut(text, n);
        return 0;
}
