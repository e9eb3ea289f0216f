/* Builds batches of statements, ends them, and reads their results. */
#include "pg-private.h"

#include <assert.h>

struct pg_batch *pg_batch_new(void)
{
        return xnew(struct pg_batch);
}

static void clear_results(struct pg_batch *b)
{
        for (size_t i = 0; i < b->n_results; i++)
                PQclear(b->results[i]);
        b->n_results = 0;
}

struct pg_batch *pg_batch_free(struct pg_batch *b)
{
        if (!b)
                return NULL;
        clear_results(b);
        free(b->results);
        free(b->parses);
        free(b->statements);
        free(b->params);
        buf_done(&b->data);
        free(b);
        return NULL;
}

static struct pg_param *add_param(struct pg_batch *b)
{
        if (b->n_params == b->cap_params) {
                b->cap_params = MAX(b->cap_params * 2, (size_t) 16);
                b->params = xrealloc(b->params, b->cap_params, sizeof(*b->params));
        }
        struct pg_param *p = &b->params[b->n_params++];
        *p = (struct pg_param){ .offset = b->data.len };
        return p;
}

static void put_bytes(struct pg_batch *b, struct pg_param *p, const char *data, size_t n)
{
        if (n > PG_BATCH_BYTES_MAX || b->data.len > PG_BATCH_BYTES_MAX) {
                b->invalid = -EMSGSIZE;
                n = 0;
        } else if (!p->binary && n > 0 && memchr(data, 0, n)) {
                b->invalid = -EINVAL;
                n = 0;
        }
        buf_put(&b->data, data, n);
        buf_put(&b->data, "", 1);
        p->len = (int) n;
}

static void put_text(struct pg_batch *b, struct pg_param *p, const char *fmt, ...)
        printf_like(3, 4);
static void put_text(struct pg_batch *b, struct pg_param *p, const char *fmt, ...)
{
        char text[64];
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        put_bytes(b, p, text, (size_t) n);
}

static void put_param(struct pg_batch *b, char type, va_list *ap)
{
        struct pg_param *p = add_param(b);
        switch (type) {
        case 's': {
                const char *s = va_arg(*ap, const char *);
                p->null = !s;
                put_bytes(b, p, s ? s : "", s ? strlen(s) : 0);
                return;
        }
        case 't':
        case 'b': {
                struct span s = va_arg(*ap, struct span);
                p->binary = type == 'b';
                put_bytes(b, p, s.data, s.len);
                return;
        }
        case 'i':
                put_text(b, p, "%" PRId64, va_arg(*ap, int64_t));
                return;
        case 'u':
                put_text(b, p, "%" PRIu64, va_arg(*ap, uint64_t));
                return;
        case 'f':
                put_text(b, p, "%.17g", va_arg(*ap, double));
                return;
        case 'B':
                put_text(b, p, "%s", va_arg(*ap, int) ? "t" : "f");
                return;
        default:
                fprintf(stderr, "berth: pg_batch_add: unknown type '%c'\n", type);
                abort();
        }
}

void pg_batch_addv(struct pg_batch *b, const char *sql, const char *types, va_list ap)
{
        if (b->n_statements == b->cap_statements) {
                b->cap_statements = MAX(b->cap_statements * 2, (size_t) 4);
                b->statements = xrealloc(b->statements, b->cap_statements, sizeof(*b->statements));
        }
        struct pg_statement *s = &b->statements[b->n_statements++];
        *s = (struct pg_statement){ .sql = sql, .first = b->n_params, .n = strlen(types) };
        va_list copy;
        va_copy(copy, ap);
        for (; *types; types++)
                put_param(b, *types, &copy);
        va_end(copy);
}

void pg_batch_add(struct pg_batch *b, const char *sql, const char *types, ...)
{
        va_list ap;
        va_start(ap, types);
        pg_batch_addv(b, sql, types, ap);
        va_end(ap);
}

void pg_batch_tenant(struct pg_batch *b, const char *tenant)
{
        assert(b->n_statements == 0);
        pg_batch_add(b, "SELECT set_config('berth.tenant', $1, true)", "s", tenant);
        b->hidden = 1;
}

void pg_batch_tenant_role(struct pg_batch *b, const char *tenant, const char *role)
{
        assert(b->n_statements == 0);
        pg_batch_add(b, "SELECT set_config('role', $2, true), set_config('berth.tenant', $1, true)",
                     "ss", tenant, role);
        b->hidden = 1;
}

size_t pg_batch_count(const struct pg_batch *b)
{
        return b->n_statements - b->hidden;
}

size_t pg_batch_bytes(const struct pg_batch *b)
{
        return b->data.len;
}

void pg_batch_finish(struct pg_batch *b, int r)
{
        if (r < 0)
                clear_results(b);
        if (r < 0 && !*b->error.message)
                (void) snprintf(b->error.message, sizeof(b->error.message), "%s",
                                r == -ECONNRESET  ? "the database connection was lost"
                                : r == -ETIMEDOUT ? "the database did not take the request in time"
                                                  : "the database client is stopping");
        if (b->fn)
                b->fn(b->userdata, r, b->results ? b->results + b->hidden : NULL,
                      b->n_results > b->hidden ? b->n_results - b->hidden : 0, &b->error);
        pg_batch_free(b);
}

void pg_error_set(struct pg_error *e, const PGresult *r)
{
        const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
        const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
        (void) snprintf(e->sqlstate, sizeof(e->sqlstate), "%s", state ? state : "");
        (void) snprintf(e->message, sizeof(e->message), "%s",
                        message ? message : PQresultErrorMessage(r));
}

const char *pg_str(const PGresult *r, int row, int col)
{
        return PQgetisnull(r, row, col) ? NULL : PQgetvalue(r, row, col);
}

int64_t pg_i64(const PGresult *r, int row, int col)
{
        const char *s = pg_str(r, row, col);
        int64_t v = 0;
        if (s && parse_i64(s, &v) < 0)
                return 0;
        return v;
}

bool pg_bool(const PGresult *r, int row, int col)
{
        const char *s = pg_str(r, row, col);
        return s && *s == 't';
}

static int hex_value(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int pg_bytea(const PGresult *r, int row, int col, void **ret, size_t *ret_len)
{
        const char *s = pg_str(r, row, col);
        if (!s)
                return -ENODATA;
        size_t n = (size_t) PQgetlength(r, row, col);
        if (n < 2 || n % 2 != 0 || s[0] != '\\' || s[1] != 'x')
                return -EBADMSG;
        size_t len = n / 2 - 1;
        cleanup_free char *out = try_malloc(len + 1);
        if (!out)
                return -ENOMEM;
        for (size_t i = 0; i < len; i++) {
                int high = hex_value(s[2 + 2 * i]), low = hex_value(s[3 + 2 * i]);
                if (high < 0 || low < 0)
                        return -EBADMSG;
                out[i] = (char) (high << 4 | low);
        }
        out[len] = 0;
        *ret = TAKE_PTR(out);
        *ret_len = len;
        return 0;
}
