/* Runs a search: the vector of the query first, where there are vectors, then the database. */
#include "search.h"

#include "common/base/buf.h"
#include "vectors.h"

struct search {
        struct docserver *server;
        char *tenant, *query, *words, *prefix;
        struct document_tags tags;
        struct store_search s;
        bool vectors;
        search_fn fn;
        void *userdata;
};

static void search_end(struct search *q, int r, size_t n, const struct store_hit *hits)
{
        q->fn(q->userdata, r, q->vectors, n, hits);
        free(q->tenant);
        free(q->query);
        free(q->words);
        free(q->prefix);
        free(q);
}

static void on_hits(void *userdata, int r, size_t n, const struct store_hit *hits)
{
        search_end(userdata, r, n, hits);
}

static int ask_database(struct search *q, const char *vector)
{
        const struct docserver_settings *s = q->server->settings;

        q->vectors = vector != NULL;
        q->s.vector = vector;
        q->s.near_max = 1.0 - (double) s->similarity_min / 100.0;
        q->s.iterative = vectors_iterative(q->server->vectors);
        return store_search(q->server->pg, &q->s, on_hits, q);
}

static void on_vector(void *userdata, const char *vector)
{
        struct search *q = userdata;
        int r = ask_database(q, vector);

        if (r < 0)
                search_end(q, r, 0, NULL);
}

int search_run(struct docserver *d, const struct search_asked *a, search_fn fn, void *userdata)
{
        struct search *q = xnew(struct search);
        int r = -ENODEV;

        q->server = d;
        q->fn = fn;
        q->userdata = userdata;
        q->tenant = xstrdup(a->tenant);
        q->query = xstrdup(a->query);
        if (a->tags)
                q->tags = *a->tags;
        if (a->prefix)
                search_split(a->query, &q->words, &q->prefix);
        q->s = (struct store_search){ .tenant = q->tenant,
                                      .language = d->settings->search_language,
                                      .words = q->words ? q->words : q->query,
                                      .prefix = q->prefix ? q->prefix : "",
                                      .tags = &q->tags,
                                      .limit = a->limit,
                                      .offset = a->offset,
                                      .per_document = a->per_document,
                                      .any = a->any };
        if (a->vectors && !a->prefix)
                r = vectors_query(d->vectors, q->query, on_vector, q);
        if (r < 0) /* none, or nobody has room: by words */
                r = ask_database(q, NULL);
        if (r < 0) {
                free(q->tenant);
                free(q->query);
                free(q->words);
                free(q->prefix);
                free(q);
        }
        return r;
}

void search_split(const char *query, char **ret_words, char **ret_prefix)
{
        size_t n = strlen(query), at = n, quotes = 0;

        while (at > 0 && query[at - 1] != ' ' && query[at - 1] != '\t')
                at--;
        for (size_t i = 0; i < at; i++)
                quotes += query[i] == '"';
        bool word = at < n && quotes % 2 == 0;
        for (size_t i = at; i < n && word; i++) {
                unsigned char c = (unsigned char) query[i];

                word = c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                       (c >= 'A' && c <= 'Z');
        }
        *ret_words = xstrndup(query, word ? at : n);
        *ret_prefix = xstrdup(word ? query + at : "");
}

void search_highlight(struct buf *b, const char *headline)
{
        bool open = false;

        for (const char *p = headline; *p; p++) {
                if (*p == '\x02' || *p == '\x03') {
                        if (open != (*p == '\x02')) {
                                open = !open;
                                buf_puts(b, open ? "<mark>" : "</mark>");
                        }
                } else if (*p == '&')
                        buf_puts(b, "&amp;");
                else if (*p == '<')
                        buf_puts(b, "&lt;");
                else if (*p == '>')
                        buf_puts(b, "&gt;");
                else if (*p == '"')
                        buf_puts(b, "&quot;");
                else if (*p == '\'')
                        buf_puts(b, "&#39;");
                else
                        buf_put(b, p, 1);
        }
        if (open)
                buf_puts(b, "</mark>");
}

void search_refuse(struct rpc_request *req, int r)
{
        if (r == -ETIME)
                rpc_reply_error(req, ERROR_CODE_UNPROCESSABLE,
                                "the search takes too long; look for rarer words or give a tag");
        else if (r == -EIO)
                rpc_reply_error(req, ERROR_CODE_INTERNAL, "the search failed");
        else
                rpc_reply_error(req, ERROR_CODE_UNAVAILABLE,
                                "documents cannot be searched right now; try again");
}
