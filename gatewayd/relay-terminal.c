/* What is different for a viewer of a terminal: no RFB, its size, and that it is told when it may
 * type. */
#include "gatewayd/relay-private.h"

#include "common/base/json.h"

#define RESIZE_TIMEOUT (5 * USEC_PER_SEC)

/* One change of size at a time is under way; the newest follows it. */
struct resize {
        struct viewer *viewer; /* NULL once that is gone */
};

struct terminal *terminal_new(uint64_t id, const char *endpoint)
{
        struct terminal *t = xnew(struct terminal);

        *t = (struct terminal){ .id = id, .endpoint = xstrdup(endpoint) };
        return t;
}

void terminal_free(struct terminal *t)
{
        if (!t)
                return;
        if (t->asked)
                t->asked->viewer = NULL;
        free(t->endpoint);
        free(t);
}

/* ---- size ---- */

static void send_size(struct viewer *v);

static void on_resized(void *userdata, int r, const void *reply, int fd)
{
        cleanup_free struct resize *z = userdata;

        (void) fd_close(fd);
        if (!z->viewer)
                return;
        z->viewer->terminal->asked = NULL;
        if (r != -ECANCELED)
                send_size(z->viewer);
}

static void send_size(struct viewer *v)
{
        struct terminal *t = v->terminal;
        const struct terminal_resize m = {
                .session_id = v->session_id, .terminal = t->id, .cols = t->cols, .rows = t->rows
        };
        struct resize *z;

        if (t->asked || !t->resized)
                return;
        z = xnew(struct resize);
        z->viewer = v;
        t->resized = false;
        if (relay_worker_call(v->relay, t->endpoint, &wire_terminal_resize, &m, RESIZE_TIMEOUT,
                              on_resized, z) < 0)
                free(z);
        else
                t->asked = z;
}

/* ---- what the client says ---- */

struct said {
        char *type;
        int64_t cols, rows;
};
static const struct json_field said_fields[] = {
        JSON_FIELD(struct said, type, JSON_KIND_STRING, .max = 20, .required = true),
        JSON_FIELD(struct said, cols, JSON_KIND_INT, .min = 1, .max = 1000),
        JSON_FIELD(struct said, rows, JSON_KIND_INT, .min = 1, .max = 500),
};

static void on_said(struct viewer *v, struct span text)
{
        struct said s = { 0 };
        struct json_problem p = { 0 };
        cleanup_json json_t *j = NULL;

        if (json_parse(text.data, text.len, &j, &p) < 0 ||
            json_read(j, said_fields, ARRAY_LEN(said_fields), &s, &p) < 0)
                s.type = NULL;
        if (streq(s.type, "resize") && s.cols > 0 && s.rows > 0) {
                v->terminal->cols = (uint32_t) s.cols;
                v->terminal->rows = (uint32_t) s.rows;
                v->terminal->resized = true;
                send_size(v);
        } else if (streq(s.type, "pause") || streq(s.type, "continue")) {
                v->paused = streq(s.type, "pause");
                viewer_flush(v);
        } else
                sink_close(v->sink, SINK_CLOSE_POLICY, "not a resize, pause or continue");
}

void terminal_message(struct viewer *v, struct span data, bool binary)
{
        if (!binary) {
                on_said(v, data);
                return;
        }
        if (!v->drives)
                return;
        if (buf_append(&v->to_slot, data.data, data.len) < 0) {
                sink_close(v->sink, SINK_CLOSE_POLICY, "input comes too fast");
                return;
        }
        watch_typed(v->watch, data);
        viewer_flush(v);
}

/* ---- who may type ---- */

void terminal_control(struct viewer *v)
{
        struct terminal *t = v->terminal;
        struct frame *f;

        if (t->told_held == v->drives)
                return;
        t->told_held = v->drives;
        const struct span text = span_of(v->drives ? "{\"type\":\"control\",\"held\":true}"
                                                   : "{\"type\":\"control\",\"held\":false}");
        f = frame_ws_text(&text, 1, false);
        (void) sink_push(v->sink, f);
        (void) frame_unref(f);
}
