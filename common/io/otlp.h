/* Traces for an OpenTelemetry collector: spans are written as JSON when they end, queued, and sent
 * in batches as ExportTraceServiceRequest of OTLP over HTTP (the specification's JSON mapping: ids
 * in hex, 64-bit numbers as strings), by libcurl in the daemon's loop.
 *
 * Nothing waits for it: what does not fit into the queue, or what the collector does not take after
 * some attempts, is dropped and counted. A span that was begun without an exporter, or in a trace
 * that its beginner does not want kept, records nothing and still hands its parent's place on.
 *
 * Attributes hold ids, names, counts and codes: no text of people, models or documents. */
#pragma once

#include <systemd/sd-event.h>

#include "common/base/buf.h"
#include "common/base/trace.h"

struct otlp;
struct otlp_config {
        sd_event *event;
        const char *service;  /* service.name is "berth-" and this */
        const char *endpoint; /* URL of the collector, /v1/traces is added; or path of a socket */
        const char *header;   /* one more header line, such as an authorization; "" = none */
        unsigned sample_percent; /* of traces that begin here */
        size_t queue_max;        /* spans */
};
/* -EINVAL: the endpoint or the header cannot be used. */
int otlp_new(const struct otlp_config *c, struct otlp **ret) mustuse;
struct otlp *otlp_free(struct otlp *o); /* what is queued is lost; see otlp_drain */
DEFINE_CLEANUP(struct otlp, otlp_free)

/* Sends what is queued; done runs when nothing is left, at most 2 s from now. False when there is
 * nothing to send: done never runs then. For the end of the process. */
bool otlp_drain(struct otlp *o, void (*done)(void *userdata), void *userdata);

struct otlp_counts {
        uint64_t sent;     /* taken by the collector */
        uint64_t dropped;  /* the queue was full, or a batch was given up */
        uint64_t rejected; /* by the collector's word */
        uint64_t retries;  /* of batches */
};
void otlp_counts(const struct otlp *o, struct otlp_counts *ret); /* NULL: zeros */

enum otlp_kind { /* numbers of the protocol */
                 OTLP_INTERNAL = 1,
                 OTLP_SERVER,
                 OTLP_CLIENT,
                 OTLP_PRODUCER,
                 OTLP_CONSUMER,
};

#define OTLP_NAME_MAX 128
struct otlp_span {               /* zeroed: none */
        struct trace_context at; /* what happens under it gets this; unset: in no trace */
        bool live;               /* it is recorded */
        enum otlp_kind kind;
        uint8_t parent[TRACE_SPAN_SIZE];
        char name[OTLP_NAME_MAX];
        uint64_t began_us, began_mono_us; /* since 1970; monotonic */
        struct buf attributes;
        char why[128]; /* it failed; "" = it did not */
};

/* parent NULL or unset: a new trace, when there is an exporter. */
void otlp_begin(struct otlp *o, struct otlp_span *s, const struct trace_context *parent,
                enum otlp_kind kind, const char *fmt, ...) printf_like(5, 6);
void otlp_name(struct otlp_span *s, const char *fmt, ...) printf_like(2, 3);
void otlp_since(struct otlp_span *s, uint64_t realtime_us); /* it began earlier */
/* Texts are cut at 256 bytes; NULL and "" are left out. */
void otlp_text(struct otlp_span *s, const char *key, const char *value);
void otlp_number(struct otlp_span *s, const char *key, uint64_t value);
void otlp_flag(struct otlp_span *s, const char *key, bool value);
void otlp_failed(struct otlp_span *s, const char *why); /* a code; the first one counts */
void otlp_end(struct otlp *o, struct otlp_span *s);     /* queues and zeroes it; on none: nothing */
void otlp_forget(struct otlp_span *s);                  /* zeroes it */

bool otlp_samples(struct otlp *o); /* for otlp-span.c: is the next trace that begins here kept */
