/* POST /documents/ask: a question answered from documents, whole or as a stream of events.
 *
 * The stream (Accept: text/event-stream): `sources`, then `delta` {text} while the model speaks,
 * `restart` when what came before does not count, at last `answer` (the object of the whole answer,
 * which is what holds) or `error`. Until `sources` a failure is an answer with its status. */
#include "gatewayd/documents.h"
#include "gatewayd/spend.h"
#include "gatewayd/sse.h"

#define ASK_USEC (270 * USEC_PER_SEC) /* docserverd bounds each of its steps */
#define QUESTION_MAX 8000

struct asking {
        struct gateway *gateway;
        struct http_request *req; /* NULL once it is a stream */
        struct sink *sink;        /* NULL: none yet, or gone */
        bool stream;              /* events are wanted */
        char id[UUID_MAX];
        char tenant[65];
        struct list link; /* gateway->asks */
};

struct ask_body {
        const char *question, *model, *hook;
        json_t *tags;
        int64_t passages;
};
static const struct json_field ask_fields[] = {
        JSON_FIELD(struct ask_body, question, JSON_KIND_STRING, .min = 1, .max = QUESTION_MAX,
                   .required = true),
        JSON_FIELD(struct ask_body, tags, JSON_KIND_ARRAY, .max = DOCUMENT_TAGS_MAX),
        JSON_FIELD(struct ask_body, model, JSON_KIND_STRING, .min = 1, .max = 200),
        JSON_FIELD(struct ask_body, passages, JSON_KIND_INT, .min = 1, .max = 20),
        { .name = "postAnswerHook",
          .kind = JSON_KIND_STRING,
          .offset = offsetof(struct ask_body, hook),
          .max = 64 },
};

static void asking_free(struct asking *a)
{
        if (a->sink)
                sink_set_userdata(a->sink, NULL);
        list_remove(&a->link);
        free(a);
}

/* ---- the stream ---- */

static void on_gone(struct sink *s)
{
        struct asking *a = sink_userdata(s);

        if (a)
                a->sink = NULL;
}

static const struct sink_ops ops = { .gone = on_gone };

static void begin_stream(struct asking *a)
{
        struct http_request *req = TAKE_PTR(a->req);

        if (sse_accept(req, &ops, a, &a->sink) < 0)
                a->sink = NULL;
}

static void push(struct asking *a, const char *event, const struct span *parts, size_t n)
{
        CLEANUP(frame_unrefp) struct frame *f = NULL;

        if (!a->sink)
                return;
        f = frame_sse(NULL, event, parts, n, false);
        (void) sink_push(a->sink, f);
}

static struct asking *find(struct gateway *g, const char *id)
{
        struct asking *a;

        list_foreach (a, &g->asks, link)
                if (streq(a->id, id))
                        return a;
        return NULL;
}

int route_ask_sources(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                      const void *msg)
{
        const struct ask_sources *m = msg;
        struct asking *a = find(userdata, m->stream_id);

        if (!a)
                return 0;
        if (a->req)
                begin_stream(a);
        push(a, "sources",
             (struct span[]){ span_of("{\"sources\":"), m->sources_json, span_of("}") }, 3);
        return 0;
}

int route_ask_delta(void *userdata, struct rpc_peer *peer, struct rpc_request *req, const void *msg)
{
        const struct ask_delta *m = msg;
        struct asking *a = find(userdata, m->stream_id);
        cleanup_buf struct buf text = BUF_INIT;

        if (!a)
                return 0;
        if (m->restart) {
                push(a, "restart", (struct span[]){ span_of("{}") }, 1);
                return 0;
        }
        buf_put_json_string(&text, m->text.data, m->text.len);
        push(a, "delta",
             (struct span[]){ span_of("{\"text\":"), { text.data, text.len }, span_of("}") }, 3);
        return 0;
}

/* ---- the answer ---- */

static void push_failure(struct asking *a, int r, const struct error_reply *e)
{
        bool told = r == -EREMOTEIO && e && e->message;
        const char *code = error_code_name(told ? e->code : ERROR_CODE_UNAVAILABLE);
        const char *why = told ? e->message : "The document service was lost; try again.";
        cleanup_buf struct buf b = BUF_INIT;

        buf_putf(&b, "{\"error\":{\"code\":\"%s\",\"message\":", code);
        buf_put_json_string(&b, why, strlen(why));
        buf_puts(&b, "}}");
        push(a, "error", (struct span[]){ { b.data, b.len } }, 1);
}

static void on_answer(void *userdata, int r, const void *reply)
{
        struct asking *a = userdata;
        const struct document_answer *m = reply;

        if (r == 0 && m->has_usage && m->model)
                spend_note(a->gateway->spend, a->tenant, m->model, &m->usage);
        if (a->req && r < 0)
                http_reply_rpc_error(a->req, r, reply);
        else if (a->req && !a->stream)
                http_reply_json(a->req, 200, m->answer_json);
        else {
                if (a->req)
                        begin_stream(a); /* there was nothing to ask a model about */
                if (r < 0)
                        push_failure(a, r, reply);
                else
                        push(a, "answer", (struct span[]){ m->answer_json }, 1);
                if (a->sink)
                        sink_close(a->sink, SINK_CLOSE_NORMAL, "answered");
        }
        asking_free(a);
}

/* ---- the question ---- */

static bool is_id(const char *s)
{
        return strlen(s) == UUID_MAX - 1 && strspn(s, "0123456789abcdef-") == UUID_MAX - 1;
}

/* False: answered. */
static bool read_body(struct http_request *req, struct ask_body *b, struct document_tags *tags)
{
        struct json_problem problem = { 0 };

        if (json_read(req->json, ask_fields, ARRAY_LEN(ask_fields), b, &problem) < 0 ||
            (b->tags && document_tags_from_json(tags, b->tags, &problem) < 0)) {
                document_problem(req, &problem);
                return false;
        }
        if (b->hook && !is_id(b->hook)) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "postAnswerHook",
                                 "postAnswerHook must be the id of a document with code.");
                return false;
        }
        return true;
}

static void start(struct http_request *req)
{
        struct gateway *g = req->gateway;
        struct ask_body b = { .passages = 8 };
        struct document_tags tags = { 0 };
        const char *names[DOCUMENT_TAGS_MAX];

        if (!read_body(req, &b, &tags))
                return;
        for (size_t i = 0; i < tags.n; i++)
                names[i] = tags.tags[i];
        struct asking *a = xnew(struct asking);
        a->gateway = g;
        a->req = req;
        a->stream = http_accepts(req, "text/event-stream");
        uuid_make(a->id);
        (void) snprintf(a->tenant, sizeof(a->tenant), "%s", req->principal.tenant);
        list_push_back(&g->asks, &a->link);
        const struct document_ask m = { .tenant = a->tenant,
                                        .question = b.question,
                                        .tags = names,
                                        .n_tags = tags.n,
                                        .passages = (uint32_t) b.passages,
                                        .model = b.model,
                                        .hook = b.hook,
                                        .stream_id = a->stream ? a->id : NULL };
        if (!g->documents || rpc_call(rpc_client_peer(g->documents), &wire_document_ask, &m,
                                      ASK_USEC, on_answer, a) < 0) {
                asking_free(a);
                http_reply_busy(req, "document service");
        }
}

static void ask(struct http_request *req)
{
        struct ask_body b = { .passages = 8 };
        struct document_tags tags = { 0 };

        if (read_body(req, &b, &tags))
                spend_ask(req, start);
}

static const struct route table[] = {
        { HTTP_POST, "/documents/ask", ask, .role = ROLE_USER, .body = ROUTE_BODY_JSON,
          .listeners = LISTENER_BOTH },
};
const struct route_table ask_routes = { table, ARRAY_LEN(table) };
