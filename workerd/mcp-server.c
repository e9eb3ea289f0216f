/* One MCP server's protocol: JSON-RPC, both eras, opening, listing, notifications. */
#include "common/io/log.h"
#include "mcp-private.h"
#include "utf8.h"

#define PAGES_MAX 20
#define WHY_MAX 400

static const char *const state_names[] = { "down", "probing", "opening", "listing", "ready" };

static void set_state(struct mcp_server *s, enum mcp_state to)
{
        if (s->state != to)
                log_debug("mcp %s: %s -> %s", s->name, state_names[s->state], state_names[to]);
        s->state = to;
}

/* ---- requests ---- */

static void request_free(struct mcp_request *q)
{
        list_remove(&q->link);
        q->server->n_requests--;
        loop_timer_done(&q->limit);
        free(q);
}

static void request_end(struct mcp_request *q, int r, const json_t *result, const char *why)
{
        mcp_answer_fn fn = q->fn;
        void *userdata = q->userdata;
        struct mcp_server *s = q->server;

        request_free(q);
        if (fn)
                fn(userdata, s, r, result, why);
}

static struct mcp_request *find_request(struct mcp_server *s, uint64_t id)
{
        struct mcp_request *q;

        list_foreach (q, &s->requests, link)
                if (q->id == id)
                        return q;
        return NULL;
}

static void send_text(struct mcp_server *s, json_t *message, uint64_t id, const char *method,
                      const char *name, int *ret)
{
        cleanup_free char *text = json_text(message);

        *ret = s->transport->send(s, text, id, method, name);
}

static int notify(struct mcp_server *s, const char *method, json_t *params)
{
        cleanup_json json_t *message =
                json_pack("{s:s,s:s,s:o*}", "jsonrpc", "2.0", "method", method, "params", params);
        int r;

        send_text(s, message, 0, method, NULL, &r);
        return r;
}

static void on_limit(void *userdata)
{
        struct mcp_request *q = userdata;
        cleanup_free char *why = xasprintf("The server did not answer within %" PRIu64 " s.",
                                           q->limit_usec / USEC_PER_SEC);
        struct mcp_server *s = q->server;
        uint64_t id = q->id;

        if (s->transport->tells_cancel || !s->modern)
                (void) notify(s, "notifications/cancelled",
                              json_pack("{s:I,s:s}", "requestId", (json_int_t) id, "reason",
                                        "time limit"));
        s->transport->forget(s, id);
        q = find_request(s, id);
        if (q)
                request_end(q, -ETIMEDOUT, NULL, why);
}

static void add_meta(struct mcp_server *s, json_t *params, uint64_t token)
{
        json_t *meta = json_object();

        if (s->modern)
                json_object_update_new(meta, json_pack("{s:s,s:{},s:{s:s,s:s}}",
                                                       "io.modelcontextprotocol/protocolVersion",
                                                       MCP_MODERN,
                                                       "io.modelcontextprotocol/clientCapabilities",
                                                       "io.modelcontextprotocol/clientInfo", "name",
                                                       "berth", "version", BERTH_VERSION));
        if (token > 0)
                json_object_set_new(meta, "progressToken", json_integer((json_int_t) token));
        if (json_object_size(meta) > 0)
                json_object_set(params, "_meta", meta);
        json_decref(meta);
}

int mcp_ask(struct mcp_server *s, const char *method, json_t *params, const char *name,
            uint64_t limit_usec, mcp_answer_fn fn,
            void (*progress)(void *userdata, struct span text), void *userdata, uint64_t *ret_id)
{
        cleanup_json json_t *own = params ? params : json_object(), *message = NULL;
        struct mcp_request *q;
        uint64_t id = ++s->next_id;
        int r;

        if (s->n_requests >= MCP_REQUESTS_MAX)
                return -EAGAIN;
        q = xnew(struct mcp_request);
        *q = (struct mcp_request){ .server = s,
                                   .id = id,
                                   .fn = fn,
                                   .progress = progress,
                                   .userdata = userdata,
                                   .limit_usec = limit_usec > 0 ? limit_usec : MCP_OPEN_USEC };
        list_push_back(&s->requests, &q->link);
        s->n_requests++;
        add_meta(s, own, progress ? id : 0);
        message = json_pack("{s:s,s:I,s:s,s:O*}", "jsonrpc", "2.0", "id", (json_int_t) id, "method",
                            method, "params", json_object_size(own) > 0 ? own : NULL);
        r = loop_timer_init(&q->limit, s->set->event, on_limit, q);
        if (r == 0)
                loop_timer_arm(&q->limit, q->limit_usec);
        if (r == 0)
                send_text(s, message, id, method, name, &r);
        if (r < 0) {
                request_free(q);
                return r;
        }
        if (ret_id)
                *ret_id = id;
        return 0;
}

void mcp_forget(struct mcp_server *s, uint64_t id)
{
        struct mcp_request *q = find_request(s, id);

        if (!q)
                return;
        request_free(q);
        if (s->transport->tells_cancel || !s->modern)
                (void) notify(s, "notifications/cancelled",
                              json_pack("{s:I,s:s}", "requestId", (json_int_t) id, "reason",
                                        "no longer wanted"));
        s->transport->forget(s, id);
}

/* ---- opening ---- */

void mcp_server_down(struct mcp_server *s, const char *why)
{
        struct mcp_request *q;

        free(s->problem);
        s->problem = utf8_clip(why, strlen(why), WHY_MAX);
        log_notice("mcp %s: %s", s->name, s->problem);
        set_state(s, MCP_DOWN);
        s->transport->close(s);
        free(s->session);
        s->session = NULL;
        mcp_tools_done(s->coming, s->n_coming);
        s->coming = NULL;
        s->n_coming = 0;
        while ((q = list_first(&s->requests, struct mcp_request, link)))
                request_end(q, -ECONNRESET, NULL, s->problem);
        mcp_settled(s);
}

static void failed(struct mcp_server *s, const char *what, int r, const char *why)
{
        cleanup_free char *text = xasprintf("%s: %s", what, why ? why : strerror(-r));

        mcp_server_down(s, text);
}

static void list_tools(struct mcp_server *s, const char *cursor);

static void on_tools(void *userdata, struct mcp_server *s, int r, const json_t *result,
                     const char *why)
{
        const char *cursor = json_string_value(json_object_get(result, "nextCursor"));

        if (s->state != MCP_LISTING && s->state != MCP_READY)
                return;
        if (r == 0)
                r = mcp_take_tools(s, result);
        if (r < 0) {
                failed(s, "Its tools could not be listed", r,
                       r == -EBADMSG ? "the answer makes no sense." : why);
                return;
        }
        if (!strempty(cursor) && ++s->pages < PAGES_MAX) {
                list_tools(s, cursor);
                return;
        }
        mcp_tools_done(s->tools, s->n_tools);
        s->tools = TAKE_PTR(s->coming);
        s->n_tools = s->n_coming;
        s->n_coming = 0;
        s->listed = true;
        log_info("mcp %s: %zu tools (%s)", s->name, s->n_tools,
                 s->modern ? MCP_MODERN : s->version);
        set_state(s, MCP_READY);
        if (s->stale) {
                s->stale = false;
                s->pages = 0;
                list_tools(s, NULL);
        }
        mcp_settled(s);
}

static void list_tools(struct mcp_server *s, const char *cursor)
{
        int r = mcp_ask(s, "tools/list", json_pack("{s:s*}", "cursor", cursor), NULL, 0, on_tools,
                        NULL, NULL, NULL);

        if (r < 0)
                failed(s, "Its tools could not be listed", r, NULL);
}

/* Only of servers that say that their tools may change: all else they could tell is not used. A
 * server without such a stream is as good as any other. */
static void listen_to(struct mcp_server *s, const json_t *capabilities)
{
        cleanup_json json_t *params = NULL, *message = NULL;
        cleanup_free char *text = NULL;
        int r;

        if (!json_is_true(json_object_get(json_object_get(capabilities, "tools"), "listChanged")))
                return;
        if (s->modern) {
                params = json_pack("{s:{s:b}}", "notifications", "toolsListChanged", 1);
                add_meta(s, params, 0);
                message = json_pack("{s:s,s:I,s:s,s:O}", "jsonrpc", "2.0", "id",
                                    (json_int_t) ++s->next_id, "method", MCP_LISTEN, "params",
                                    params);
                text = json_text(message);
        }
        r = s->transport->listen(s, text);
        if (r < 0)
                log_debug("mcp %s: its notices are not heard: %s", s->name, strerror(-r));
}

static void begin_listing(struct mcp_server *s)
{
        set_state(s, MCP_LISTING);
        s->pages = 0;
        list_tools(s, NULL);
}

static void on_initialized(void *userdata, struct mcp_server *s, int r, const json_t *result,
                           const char *why)
{
        const char *version = json_string_value(json_object_get(result, "protocolVersion"));
        static const char *const known[] = { "2024-11-05", "2025-03-26", "2025-06-18", MCP_LEGACY };
        bool good = false;

        for (size_t i = 0; i < ARRAY_LEN(known); i++)
                good |= streq(version, known[i]);
        if (s->state != MCP_OPENING)
                return;
        if (r < 0 || !good) {
                failed(s, "It could not be opened", r,
                       r < 0 ? why : "it speaks no version of the protocol that is known here.");
                return;
        }
        free(s->version);
        s->version = xstrdup(version);
        r = notify(s, "notifications/initialized", NULL);
        if (r < 0) {
                failed(s, "It could not be opened", r, NULL);
                return;
        }
        listen_to(s, json_object_get(result, "capabilities"));
        begin_listing(s);
}

static void initialize(struct mcp_server *s)
{
        int r;

        s->modern = false;
        set_state(s, MCP_OPENING);
        r = mcp_ask(s, "initialize",
                    json_pack("{s:s,s:{},s:{s:s,s:s}}", "protocolVersion", MCP_LEGACY,
                              "capabilities", "clientInfo", "name", "berth", "version",
                              BERTH_VERSION),
                    NULL, 0, on_initialized, NULL, NULL, NULL);
        if (r < 0)
                failed(s, "It could not be opened", r, NULL);
}

static bool offers_modern(const json_t *result)
{
        const json_t *list = json_object_get(result, "supportedVersions"), *one;
        size_t i;

        json_array_foreach (list, i, one)
                if (streq(json_string_value(one), MCP_MODERN))
                        return true;
        return false;
}

static void on_discovered(void *userdata, struct mcp_server *s, int r, const json_t *result,
                          const char *why)
{
        if (s->state != MCP_PROBING)
                return;
        if (r == 0 && offers_modern(result)) {
                listen_to(s, json_object_get(result, "capabilities"));
                begin_listing(s);
        } else if (s->modern_only || r == -EACCES || r == -ECONNREFUSED || r == -EHOSTUNREACH) {
                failed(s, "It could not be opened", r,
                       r < 0 ? why : "it does not speak version " MCP_MODERN ".");
        } else {
                initialize(s);
        }
}

void mcp_server_open(struct mcp_server *s)
{
        int r;

        if (s->state != MCP_DOWN)
                return;
        s->modern = !s->legacy_only;
        set_state(s, MCP_PROBING);
        r = s->transport->open(s);
        if (r < 0) {
                failed(s, "It could not be started", r, NULL);
                return;
        }
        if (s->legacy_only) {
                initialize(s);
                return;
        }
        r = mcp_ask(s, "server/discover", NULL, NULL, s->url ? 0 : MCP_PROBE_USEC, on_discovered,
                    NULL, NULL, NULL);
        if (r < 0)
                failed(s, "It could not be opened", r, NULL);
}

/* ---- what it says ---- */

static void answer(struct mcp_server *s, const json_t *id, const char *method)
{
        cleanup_json json_t *message =
                streq(method, "ping")
                        ? json_pack("{s:s,s:O,s:{}}", "jsonrpc", "2.0", "id", id, "result")
                        : json_pack("{s:s,s:O,s:{s:i,s:s}}", "jsonrpc", "2.0", "id", id, "error",
                                    "code", -32601, "message", "this client does not offer that");
        int r;

        send_text(s, message, 0, method, NULL, &r);
        if (r < 0)
                log_debug("mcp %s: its %s could not be answered", s->name, method);
}

static void on_progress(struct mcp_server *s, const json_t *params)
{
        const json_t *token = json_object_get(params, "progressToken");
        const char *said = json_string_value(json_object_get(params, "message"));
        double done = json_number_value(json_object_get(params, "progress")),
               total = json_number_value(json_object_get(params, "total"));
        struct mcp_request *q = json_is_integer(token)
                                        ? find_request(s, (uint64_t) json_integer_value(token))
                                        : NULL;
        cleanup_free char *text = NULL, *clean = NULL;

        if (!q || !q->progress)
                return;
        loop_timer_arm(&q->limit, q->limit_usec); /* it works: the tool's own limit stays */
        text = total > 0 ? xasprintf("%g/%g %.300s\n", done, total, said ? said : "")
                         : xasprintf("%g %.300s\n", done, said ? said : "");
        clean = utf8_clip(text, strlen(text), WHY_MAX);
        q->progress(q->userdata, span_of(clean));
}

static void on_notification(struct mcp_server *s, const char *method, const json_t *params)
{
        if (streq(method, "notifications/progress")) {
                on_progress(s, params);
        } else if (streq(method, "notifications/tools/list_changed")) {
                if (s->state == MCP_LISTING)
                        s->stale = true;
                else if (s->state == MCP_READY)
                        begin_listing(s);
        }
}

static void on_answer(struct mcp_server *s, const json_t *message)
{
        const json_t *id = json_object_get(message, "id"),
                     *error = json_object_get(message, "error"),
                     *result = json_object_get(message, "result");
        struct mcp_request *q =
                json_is_integer(id) ? find_request(s, (uint64_t) json_integer_value(id)) : NULL;
        cleanup_free char *why = NULL;

        if (!q)
                return; /* cancelled, or never asked */
        if (json_is_object(result)) {
                request_end(q, 0, result, NULL);
                return;
        }
        const char *text = json_string_value(json_object_get(error, "message"));
        why = xasprintf("%.300s (%" JSON_INTEGER_FORMAT ")", text ? text : "no reason was given",
                        json_integer_value(json_object_get(error, "code")));
        request_end(q, -EREMOTEIO, NULL, why);
}

void mcp_message(struct mcp_server *s, struct span text)
{
        struct json_problem problem;
        cleanup_json json_t *message = NULL;
        const char *method;

        if (json_parse(text.data, text.len, &message, &problem) < 0 || !json_is_object(message)) {
                log_debug("mcp %s: a message that is no JSON object was skipped", s->name);
                return;
        }
        method = json_string_value(json_object_get(message, "method"));
        if (method && json_object_get(message, "id"))
                answer(s, json_object_get(message, "id"), method);
        else if (method)
                on_notification(s, method, json_object_get(message, "params"));
        else
                on_answer(s, message);
}

void mcp_lost(struct mcp_server *s, uint64_t id, const char *why)
{
        struct mcp_request *q = id > 0 ? find_request(s, id) : NULL;

        if (id == 0)
                mcp_server_down(s, why);
        else if (q)
                request_end(q, -ECONNRESET, NULL, why);
}

void mcp_session_gone(struct mcp_server *s, uint64_t id)
{
        mcp_server_down(s, "It has forgotten the session; what was asked was not done.");
}
