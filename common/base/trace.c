/* Trace contexts: their text form, and the one of the work under way. */
#include "trace.h"

static _Thread_local const struct trace_scope *scopes;

static bool any(const uint8_t *bytes, size_t n)
{
        uint8_t all = 0;

        for (size_t i = 0; i < n; i++)
                all |= bytes[i];
        return all != 0;
}

bool trace_is_set(const struct trace_context *c)
{
        return c && any(c->trace, sizeof(c->trace)) && any(c->span, sizeof(c->span));
}

static int nibble(char c)
{
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* n bytes of lower-case hex followed by `end`; moves *p behind that. */
static bool take_hex(const char **p, uint8_t *out, size_t n, char end)
{
        for (size_t i = 0; i < n; i++) {
                int high = nibble((*p)[0]);
                int low = high < 0 ? -1 : nibble((*p)[1]);

                if (low < 0)
                        return false;
                out[i] = (uint8_t) (high << 4 | low);
                *p += 2;
        }
        if (**p != end)
                return false;
        *p += end != '\0';
        return true;
}

int traceparent_parse(const char *text, struct trace_context *ret)
{
        struct trace_context c;
        uint8_t version, flags;
        const char *p = text;

        if (!take_hex(&p, &version, 1, '-') || version == 0xff ||
            !take_hex(&p, c.trace, sizeof(c.trace), '-') ||
            !take_hex(&p, c.span, sizeof(c.span), '-'))
                return -EINVAL;
        /* A later version may say more behind the flags. */
        bool more = version > 0 && strlen(p) > 2 && p[2] == '-';
        if (!take_hex(&p, &flags, 1, more ? '-' : '\0'))
                return -EINVAL;
        c.sampled = flags & 1;
        if (!trace_is_set(&c))
                return -EINVAL;
        *ret = c;
        return 0;
}

void traceparent_format(const struct trace_context *c, char out[static TRACEPARENT_MAX])
{
        char trace[TRACE_ID_HEX], span[2 * TRACE_SPAN_SIZE + 1];

        hex_encode(c->trace, sizeof(c->trace), trace);
        hex_encode(c->span, sizeof(c->span), span);
        (void) snprintf(out, TRACEPARENT_MAX, "00-%s-%s-%02x", trace, span, c->sampled ? 1u : 0u);
}

void trace_scope_push(struct trace_scope *s, const struct trace_context *c)
{
        s->outer = scopes;
        s->context = c ? *c : (struct trace_context){ 0 };
        scopes = s;
}

void trace_scope_pop(struct trace_scope *s)
{
        scopes = s->outer;
}

const struct trace_context *trace_current(void)
{
        return scopes && trace_is_set(&scopes->context) ? &scopes->context : NULL;
}
