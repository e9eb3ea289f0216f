/* Where a piece of work stands in its trace: W3C Trace Context,
 * https://www.w3.org/TR/trace-context/ (version 00). tracestate is not carried.
 *
 * The context of the work under way is a scope of the thread, like the fields of the log: log lines
 * show it as TRACE_ID, and messages to other daemons take it along (rpc.h). */
#pragma once

#include "util.h"

#define TRACE_ID_SIZE 16
#define TRACE_SPAN_SIZE 8
#define TRACE_ID_HEX (2 * TRACE_ID_SIZE + 1)
#define TRACEPARENT_MAX 56

struct trace_context { /* zeroed: in no trace */
        uint8_t trace[TRACE_ID_SIZE], span[TRACE_SPAN_SIZE];
        bool sampled; /* whoever began the trace wants it kept */
};

bool trace_is_set(const struct trace_context *c); /* NULL is not */
/* Strict about versions 00 to fe, upper case and zero ids; -EINVAL. */
int traceparent_parse(const char *text, struct trace_context *ret) mustuse;
void traceparent_format(const struct trace_context *c, char out[static TRACEPARENT_MAX]);

/* For the rest of the block; NULL or an unset context: in none. The context is copied. */
struct trace_scope {
        const struct trace_scope *outer;
        struct trace_context context;
};
void trace_scope_push(struct trace_scope *s, const struct trace_context *c);
void trace_scope_pop(struct trace_scope *s);
#define TRACE_SCOPE_NAME2(line) trace_scope_##line
#define TRACE_SCOPE_NAME(line) TRACE_SCOPE_NAME2(line)
#define TRACE_SCOPE(context)                                                                       \
        CLEANUP(trace_scope_pop) struct trace_scope TRACE_SCOPE_NAME(__LINE__);                    \
        trace_scope_push(&TRACE_SCOPE_NAME(__LINE__), (context))
const struct trace_context *trace_current(void); /* NULL = in none */
