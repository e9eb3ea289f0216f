/* Spans: what they hold while they run. Sending is otlp.c's. */
#include "otlp.h"

#define ATTRIBUTES_MAX (8 * KIB)
#define TEXT_MAX 256

static void set_name(struct otlp_span *s, const char *fmt, va_list ap) printf_like(2, 0);
static void set_name(struct otlp_span *s, const char *fmt, va_list ap)
{
        (void) vsnprintf(s->name, sizeof(s->name), fmt, ap);
        size_t n = strlen(s->name);
        while (n > 0 && !utf8_valid(s->name, n))
                n--;
        s->name[n] = '\0';
}

void otlp_name(struct otlp_span *s, const char *fmt, ...)
{
        va_list ap;

        if (!s->live)
                return;
        va_start(ap, fmt);
        set_name(s, fmt, ap);
        va_end(ap);
}

void otlp_begin(struct otlp *o, struct otlp_span *s, const struct trace_context *parent,
                enum otlp_kind kind, const char *fmt, ...)
{
        va_list ap;

        *s = (struct otlp_span){ .kind = kind };
        if (trace_is_set(parent)) {
                s->at = *parent;
                memcpy(s->parent, parent->span, sizeof(s->parent));
                s->live = o && parent->sampled;
        } else if (o) {
                random_bytes(s->at.trace, sizeof(s->at.trace));
                s->at.trace[0] |= 1; /* never all zero */
                s->at.sampled = s->live = otlp_samples(o);
        }
        if (s->live || (o && !trace_is_set(&s->at))) {
                random_bytes(s->at.span, sizeof(s->at.span));
                s->at.span[0] |= 1;
        }
        if (!s->live)
                return;
        s->began_us = now_realtime();
        s->began_mono_us = now_monotonic();
        va_start(ap, fmt);
        set_name(s, fmt, ap);
        va_end(ap);
}

void otlp_since(struct otlp_span *s, uint64_t realtime_us)
{
        if (!s->live || realtime_us == 0 || realtime_us >= s->began_us)
                return;
        s->began_mono_us -= MIN(s->began_us - realtime_us, s->began_mono_us);
        s->began_us = realtime_us;
}

/* Opens the next attribute; false when there is no room or nothing to record. */
static bool put_key(struct otlp_span *s, const char *key)
{
        if (!s->live || s->attributes.len > ATTRIBUTES_MAX)
                return false;
        buf_putf(&s->attributes, "%s{\"key\":\"%s\",\"value\":{", s->attributes.len > 0 ? "," : "",
                 key);
        return true;
}

void otlp_text(struct otlp_span *s, const char *key, const char *value)
{
        size_t n = value ? strnlen(value, TEXT_MAX) : 0;

        while (n > 0 && !utf8_valid(value, n))
                n--;
        if (n == 0 || !put_key(s, key))
                return;
        buf_puts(&s->attributes, "\"stringValue\":");
        buf_put_json_string(&s->attributes, value, n);
        buf_puts(&s->attributes, "}}");
}

void otlp_number(struct otlp_span *s, const char *key, uint64_t value)
{
        if (put_key(s, key))
                buf_putf(&s->attributes, "\"intValue\":\"%" PRIu64 "\"}}",
                         MIN(value, (uint64_t) INT64_MAX));
}

void otlp_flag(struct otlp_span *s, const char *key, bool value)
{
        if (put_key(s, key))
                buf_putf(&s->attributes, "\"boolValue\":%s}}", value ? "true" : "false");
}

void otlp_failed(struct otlp_span *s, const char *why)
{
        if (!s->live || s->why[0])
                return;
        size_t n = strnlen(why, sizeof(s->why) - 1);
        while (n > 0 && !utf8_valid(why, n))
                n--;
        (void) snprintf(s->why, sizeof(s->why), "%.*s", (int) n, why);
        if (!s->why[0])
                (void) snprintf(s->why, sizeof(s->why), "failed");
}

void otlp_forget(struct otlp_span *s)
{
        buf_done(&s->attributes);
        *s = (struct otlp_span){ 0 };
}
