/* Sends finished spans in batches; bounded in memory, in attempts and in time. */
#include "otlp.h"

#include <limits.h>
#include <strings.h>
#include <unistd.h>

#include "common/base/json.h"
#include "daemon.h"
#include "httpc.h"
#include "log.h"

#define COLLECT_USEC USEC_PER_SEC /* spans wait for others this long */
#define BATCH_MAX 512u            /* spans of one request */
#define QUEUE_BYTES_MAX (4 * MIB)
#define ATTEMPTS_MAX 5u
#define RETRY_MAX_USEC (30 * USEC_PER_SEC)
#define REQUEST_USEC (10 * USEC_PER_SEC)
#define DRAIN_USEC (2 * USEC_PER_SEC)
#define ANSWER_MAX (64 * KIB)

struct otlp {
        struct httpc *http;
        char *url, *header, *head; /* head: everything of a request before its spans */
        char *unix_socket;         /* or NULL */
        unsigned sample_percent;
        size_t queue_max;
        struct buf waiting; /* spans, each followed by a comma */
        size_t n_waiting;
        struct buf batch; /* a whole request; empty: none is under way */
        size_t n_batch;
        unsigned attempt;
        struct httpc_request *request;
        struct buf answer;
        uint64_t retry_after_usec;
        struct loop_timer timer; /* collects, or waits for another attempt */
        struct loop_timer limit; /* of draining */
        void (*drained)(void *userdata);
        void *userdata;
        bool troubled; /* said so */
        struct otlp_counts counts;
};

bool otlp_samples(struct otlp *o)
{
        uint32_t dice;

        random_bytes(&dice, sizeof(dice));
        return dice % 100 < o->sample_percent;
}

void otlp_counts(const struct otlp *o, struct otlp_counts *ret)
{
        *ret = o ? o->counts : (struct otlp_counts){ 0 };
}

static const char *name_of(const struct otlp *o)
{
        return o->unix_socket ? o->unix_socket : o->url;
}

static void send_batch(struct otlp *o);

static void drained(struct otlp *o)
{
        void (*done)(void *userdata) = TAKE_PTR(o->drained);

        loop_timer_disarm(&o->limit);
        if (done)
                done(o->userdata);
}

static void next(struct otlp *o)
{
        buf_done(&o->batch);
        o->n_batch = 0;
        o->attempt = 0;
        if (o->n_waiting == 0)
                drained(o);
        else if (o->n_waiting >= BATCH_MAX || o->drained)
                send_batch(o);
        else
                loop_timer_arm(&o->timer, COLLECT_USEC);
}

/* {"partialSuccess":{"rejectedSpans":"3"}}: the number may be a string or not. */
static uint64_t rejected(const struct otlp *o)
{
        struct json_problem problem;
        cleanup_json json_t *j = NULL;
        uint64_t n = 0;

        if (json_parse(buf_head(&o->answer), buf_pending(&o->answer), &j, &problem) < 0)
                return 0;
        const json_t *v = json_object_get(json_object_get(j, "partialSuccess"), "rejectedSpans");
        if (json_is_integer(v) && json_integer_value(v) > 0)
                n = (uint64_t) json_integer_value(v);
        else if (json_is_string(v) && parse_u64(json_string_value(v), &n) < 0)
                n = 0;
        return MIN(n, o->n_batch);
}

static bool may_pass(int r, long status)
{
        return r < 0 ? r != -EMSGSIZE && r != -EACCES
                     : status == 429 || status == 502 || status == 503 || status == 504;
}

static void on_status(void *userdata, long status)
{
        struct otlp *o = userdata;

        o->retry_after_usec = 0;
}

static void on_header(void *userdata, const char *name, struct span value)
{
        struct otlp *o = userdata;
        cleanup_free char *text = span_dup(value);
        uint64_t seconds;

        if (streq(name, "retry-after") && parse_u64(text, &seconds) == 0)
                o->retry_after_usec = MIN(seconds, RETRY_MAX_USEC / USEC_PER_SEC) * USEC_PER_SEC;
}

static void on_data(void *userdata, struct span data)
{
        struct otlp *o = userdata;

        buf_put(&o->answer, data.data, data.len);
}

/* Said when it begins and when it is over, not each time. */
static void give_up(struct otlp *o, int r, long status, const char *text)
{
        o->counts.dropped += o->n_batch;
        if (!o->troubled)
                log_warning("traces: %s does not take them (%s, status %ld): %zu spans dropped",
                            name_of(o), r < 0 ? text : "answered", r < 0 ? 0 : status, o->n_batch);
        o->troubled = true;
        next(o);
}

static void on_done(void *userdata, int r, long status, const char *text)
{
        struct otlp *o = userdata;

        o->request = NULL;
        if (r == 0 && status >= 200 && status < 300) {
                uint64_t n = rejected(o);
                o->counts.rejected += n;
                o->counts.sent += o->n_batch - n;
                if (o->troubled)
                        log_notice("traces: %s takes them again", name_of(o));
                o->troubled = false;
                next(o);
        } else if (may_pass(r, status) && o->attempt < ATTEMPTS_MAX) {
                uint64_t wait = USEC_PER_SEC << (o->attempt - 1);
                o->counts.retries++;
                loop_timer_arm(&o->timer, MIN(MAX(wait, o->retry_after_usec), RETRY_MAX_USEC));
        } else
                give_up(o, r, status, text);
}

static void start_request(struct otlp *o)
{
        const char *headers[] = { "Content-Type: application/json",
                                  strempty(o->header) ? NULL : o->header, NULL };

        o->attempt++;
        o->retry_after_usec = 0;
        buf_clear(&o->answer);
        int r = httpc_start(o->http,
                            &(struct httpc_config){
                                    .method = "POST",
                                    .url = o->url,
                                    .unix_socket = o->unix_socket,
                                    .proxy = o->unix_socket ? "" : NULL,
                                    .headers = headers,
                                    .body = { buf_head(&o->batch), buf_pending(&o->batch) },
                                    .connect_timeout_usec = REQUEST_USEC / 2,
                                    .stall_usec = REQUEST_USEC,
                                    .total_usec = REQUEST_USEC,
                                    .body_max = ANSWER_MAX,
                                    .on_head = on_status,
                                    .on_header = on_header,
                                    .on_data = on_data,
                                    .on_done = on_done,
                                    .userdata = o,
                            },
                            &o->request);
        if (r < 0) {
                o->counts.dropped += o->n_batch; /* no memory: not worth another attempt */
                buf_done(&o->batch);
                o->n_batch = 0;
                drained(o);
        }
}

static void send_batch(struct otlp *o)
{
        loop_timer_disarm(&o->timer);
        buf_puts(&o->batch, o->head);
        buf_put(&o->batch, o->waiting.data, o->waiting.len - 1); /* without the last comma */
        buf_puts(&o->batch, "]}]}]}");
        o->n_batch = o->n_waiting;
        buf_done(&o->waiting);
        o->n_waiting = 0;
        start_request(o);
}

static void on_timer(void *userdata)
{
        struct otlp *o = userdata;

        if (o->request)
                return;
        if (buf_pending(&o->batch) > 0)
                start_request(o);
        else if (o->n_waiting > 0)
                send_batch(o);
}

static void put_span(struct buf *b, const struct otlp_span *s)
{
        char trace[TRACE_ID_HEX], id[2 * TRACE_SPAN_SIZE + 1], parent[2 * TRACE_SPAN_SIZE + 1];
        static const uint8_t none[TRACE_SPAN_SIZE];
        uint64_t took = now_monotonic() - s->began_mono_us;

        hex_encode(s->at.trace, sizeof(s->at.trace), trace);
        hex_encode(s->at.span, sizeof(s->at.span), id);
        hex_encode(s->parent, sizeof(s->parent), parent);
        buf_putf(b, "{\"traceId\":\"%s\",\"spanId\":\"%s\"", trace, id);
        if (memcmp(s->parent, none, sizeof(none)) != 0)
                buf_putf(b, ",\"parentSpanId\":\"%s\"", parent);
        buf_puts(b, ",\"name\":");
        buf_put_json_string(b, s->name, strlen(s->name));
        buf_putf(b,
                 ",\"kind\":%d,\"startTimeUnixNano\":\"%" PRIu64
                 "000\",\"endTimeUnixNano\":\"%" PRIu64 "000\",\"attributes\":[",
                 (int) s->kind, s->began_us, s->began_us + took);
        buf_put(b, buf_head(&s->attributes), buf_pending(&s->attributes));
        buf_puts(b, "],\"status\":{");
        if (s->why[0]) {
                buf_puts(b, "\"code\":2,\"message\":");
                buf_put_json_string(b, s->why, strlen(s->why));
        }
        buf_puts(b, "}},");
}

void otlp_end(struct otlp *o, struct otlp_span *s)
{
        if (s->live && o) {
                if (o->n_waiting >= o->queue_max || o->waiting.len > QUEUE_BYTES_MAX)
                        o->counts.dropped++;
                else {
                        put_span(&o->waiting, s);
                        o->n_waiting++;
                }
                if (buf_pending(&o->batch) == 0 && o->n_waiting >= BATCH_MAX)
                        send_batch(o);
                else if (buf_pending(&o->batch) == 0 && !loop_timer_armed(&o->timer))
                        loop_timer_arm(&o->timer, COLLECT_USEC);
        }
        otlp_forget(s);
}

static void on_limit(void *userdata)
{
        drained(userdata);
}

bool otlp_drain(struct otlp *o, void (*done)(void *userdata), void *userdata)
{
        if (!o || (o->n_waiting == 0 && buf_pending(&o->batch) == 0))
                return false;
        o->drained = done;
        o->userdata = userdata;
        loop_timer_arm(&o->limit, DRAIN_USEC);
        if (!o->request)
                on_timer(o);
        return true;
}

static void put_attribute(struct buf *b, const char *key, const char *value)
{
        buf_putf(b, "%s{\"key\":\"%s\",\"value\":{\"stringValue\":",
                 b->data[b->len - 1] == '[' ? "" : ",", key);
        buf_put_json_string(b, value, strlen(value));
        buf_puts(b, "}}");
}

static char *make_head(const char *service)
{
        struct buf b = BUF_INIT;
        char host[HOST_NAME_MAX + 1] = "", instance[UUID_MAX];
        cleanup_free char *name = xasprintf("berth-%s", service);

        (void) gethostname(host, sizeof(host) - 1);
        uuid_make(instance);
        buf_puts(&b, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
        put_attribute(&b, "service.name", name);
        put_attribute(&b, "service.namespace", "berth");
        put_attribute(&b, "service.version", BERTH_VERSION);
        put_attribute(&b, "service.instance.id", instance);
        if (host[0] && utf8_valid(host, strlen(host)))
                put_attribute(&b, "host.name", host);
        buf_puts(&b, "]},\"scopeSpans\":[{\"scope\":{\"name\":\"berth\",\"version\":");
        buf_put_json_string(&b, BERTH_VERSION, strlen(BERTH_VERSION));
        buf_puts(&b, "},\"spans\":[");
        return buf_take(&b, NULL);
}

static bool header_fits(const char *line)
{
        size_t n = strcspn(line, ":");

        if (line[0] == '\0')
                return true;
        for (const char *p = line; *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        return false;
        return n > 0 && line[n] == ':';
}

int otlp_new(const struct otlp_config *c, struct otlp **ret)
{
        CLEANUP(otlp_freep) struct otlp *o = xnew(struct otlp);
        size_t n = strlen(c->endpoint);

        bool path = c->endpoint[0] == '/';
        if ((!path && strncasecmp(c->endpoint, "http://", 7) != 0 &&
             strncasecmp(c->endpoint, "https://", 8) != 0) ||
            !header_fits(c->header))
                return -EINVAL;
        while (n > 0 && c->endpoint[n - 1] == '/')
                n--;
        o->url = path ? xstrdup("http://localhost/v1/traces")
                      : xasprintf("%.*s/v1/traces", (int) n, c->endpoint);
        o->unix_socket = path ? xstrdup(c->endpoint) : NULL;
        o->header = xstrdup(c->header);
        o->head = make_head(c->service);
        o->sample_percent = c->sample_percent;
        o->queue_max = c->queue_max;
        int r = httpc_new(c->event, &o->http);
        if (r == 0)
                r = loop_timer_init(&o->timer, c->event, on_timer, o);
        if (r == 0)
                r = loop_timer_init(&o->limit, c->event, on_limit, o);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

struct otlp *otlp_free(struct otlp *o)
{
        if (!o)
                return NULL;
        (void) httpc_free(o->http);
        loop_timer_done(&o->timer);
        loop_timer_done(&o->limit);
        buf_done(&o->waiting);
        buf_done(&o->batch);
        buf_done(&o->answer);
        free(o->url);
        free(o->unix_socket);
        free(o->header);
        free(o->head);
        free(o);
        return NULL;
}
