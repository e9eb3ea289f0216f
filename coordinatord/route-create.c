/* session_create. */
#include "budget.h"
#include "common/base/json.h"
#include "common/io/log.h"
#include "lease.h"
#include "route-agent.h"
#include "route.h"

struct create {
        struct request q;
        unsigned depth;
        char id[UUID_MAX];
        char message_id[UUID_MAX];
        char *message, *budget, *metadata, *network, *files;
        struct blueprint blueprint;
};

static void create_release(struct request *q)
{
        struct create *cr = container_of(q, struct create, q);

        free(cr->message);
        free(cr->budget);
        free(cr->metadata);
        free(cr->network);
        free(cr->files);
        blueprint_done(&cr->blueprint);
}

static void put_text(struct buf *b, const char *name, const char *value)
{
        buf_putf(b, ",\"%s\":", name);
        if (value)
                buf_put_json_string(b, value, strlen(value));
        else
                buf_puts(b, "null");
}

static void emit_start(struct hub_batch *b, struct session *s)
{
        cleanup_buf struct buf body = BUF_INIT;

        buf_putf(&body, "{\"kind\":\"%s\"", slot_kind_name(s->kind));
        put_text(&body, "session_name", s->name);
        put_text(&body, "agent_name", s->agent_name);
        put_text(&body, "model", s->model);
        put_text(&body, "project_dir", s->project_dir);
        if (s->parent)
                put_text(&body, "parent_session_id", s->parent);
        put_text(&body, "status",
                 s->kind == SLOT_KIND_EXTERNAL ? session_state_name(SESSION_STATE_RUNNING)
                                               : session_state_name(SESSION_STATE_QUEUED));
        buf_puts(&body, "}");
        (void) hub_event(b, s, EVENT_TYPE_SESSION_START, (struct span){ body.data, body.len });
}

/* A child has no more than what is left above it, and no more than its blueprint allows. */
static char *least(const char *given, const char *blueprint)
{
        struct json_problem problem;
        cleanup_json json_t *a = NULL, *b = NULL;
        const char *key;
        json_t *limit;

        if (json_parse(given, strlen(given), &a, &problem) < 0 ||
            json_parse(blueprint, strlen(blueprint), &b, &problem) < 0)
                return xstrdup(given);
        json_object_foreach (b, key, limit) {
                const json_t *have = json_object_get(a, key);

                if (!have || json_number_value(limit) < json_number_value(have))
                        json_object_set(a, key, limit);
        }
        return json_text(a);
}

/* What the request says, else the blueprint. */
static void fill(struct session *s, const struct create *cr, const struct session_create *m)
{
        const struct blueprint *b = &cr->blueprint;

        session_clear(s);
        s->tenant = xstrdup(m->tenant);
        s->name = xstrdup(m->session_name);
        s->agent_name = xstrdup(m->agent_name);
        s->model = xstrdup(m->model ? m->model : b->model);
        s->blueprint = xstrdup(b->text);
        s->kind = m->kind_default && b->has_kind ? b->kind : m->kind;
        s->project_dir = xstrdup(m->project_dir);
        s->metadata = xstrdup(cr->metadata);
        if (m->parent_session_id && m->budget.data && b->budget)
                s->budget = least(cr->budget, b->budget);
        else
                s->budget = xstrdup(m->budget.data || !b->budget ? cr->budget : b->budget);
        s->network = xstrdup(cr->network ? cr->network : b->network);
        s->files = xstrdup(cr->files);
        s->image = xstrdup(m->image ? m->image : b->image);
        s->width = m->has_width ? m->width : b->width;
        s->height = m->has_height ? m->height : b->height;
        s->parent = xstrdup(m->parent_session_id);
        s->depth = cr->depth;
}

/* A worker has one image. While no worker of the kind has been seen, any may come. */
static int check_image(struct request *q, const struct create *cr, const struct session_create *m)
{
        const struct blueprint *b = &cr->blueprint;
        const char *image = m->image ? m->image : b->image;
        enum slot_kind kind = m->kind_default && b->has_kind ? b->kind : m->kind;
        cleanup_map struct map *seen = map_new();
        cleanup_buf struct buf others = BUF_INIT;
        size_t iter = 0;
        void *value;

        while (image && map_next(q->c->workers.by_id, &iter, NULL, &value)) {
                const struct worker *w = value;

                if (!w->image || !(w->kinds & (UINT32_C(1) << kind)))
                        continue;
                if (streq(w->image, image))
                        return 0;
                if (!map_get(seen, w->image) && buf_pending(&others) < 300) {
                        (void) map_set(seen, w->image, value);
                        buf_putf(&others, "%s%s", buf_pending(&others) ? ", " : "", w->image);
                }
        }
        if (buf_pending(&others) == 0)
                return 0;
        return hub_refuse(&q->entry, ERROR_CODE_UNPROCESSABLE,
                          "No worker has the image %.100s; for this kind of slot there are: %.*s",
                          image, (int) buf_pending(&others), (const char *) buf_head(&others));
}

/* Of the workers that were seen one makes this kind, or none was seen yet. */
static int check_kind(struct request *q, const struct create *cr, const struct session_create *m)
{
        const struct blueprint *b = &cr->blueprint;
        enum slot_kind kind = m->kind_default && b->has_kind ? b->kind : m->kind;
        cleanup_buf struct buf others = BUF_INIT;
        uint32_t made = 0;
        size_t iter = 0;
        void *value;

        while (map_next(q->c->workers.by_id, &iter, NULL, &value))
                made |= ((const struct worker *) value)->kinds;
        if (made == 0 || (made & (UINT32_C(1) << kind)))
                return 0;
        for (unsigned k = 0; k < SLOT_KIND_MAX; k++)
                if (made & (UINT32_C(1) << k))
                        buf_putf(&others, "%s%s", buf_pending(&others) ? ", " : "",
                                 slot_kind_name((enum slot_kind) k));
        return hub_refuse(&q->entry, ERROR_CODE_UNPROCESSABLE,
                          "No worker makes slots of the kind %s; there are: %.*s. The setting "
                          "`kinds` of the workers says which%s",
                          slot_kind_name(kind), (int) buf_pending(&others),
                          (const char *) buf_head(&others),
                          kind == SLOT_KIND_VM ? ", `limits.machine` in GET /workers what machines "
                                                 "lack there, docs/operator.md how to have them"
                                               : "");
}

static int create_apply(struct request *q, struct session *s, struct hub_batch *b)
{
        struct create *cr = container_of(q, struct create, q);
        const struct session_create *m = q->msg;
        bool external = m->kind == SLOT_KIND_EXTERNAL;

        if (s->exists)
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT, "session %s exists already",
                                  s->id);
        if (s->purging)
                return hub_refuse(&q->entry, ERROR_CODE_CONFLICT,
                                  "session %s is being deleted; try again", s->id);
        int r = external ? 0 : check_kind(q, cr, m);
        if (r == 0 && !external)
                r = check_image(q, cr, m);
        if (r == 0 && !external)
                r = route_check_room(q, s, m->tenant);
        if (r < 0)
                return r;
        fill(s, cr, m);
        s->queued_us = hub_now(b);
        hub_session_insert(b, s);
        session_set_first_state(s, b, external ? SESSION_STATE_RUNNING : SESSION_STATE_QUEUED);
        emit_start(b, s);
        if (cr->message)
                route_emit_message(b, s, cr->message_id, cr->message, false);
        if (m->idempotency_key)
                hub_idempotency(b, m->tenant, "session.create", m->idempotency_key,
                                m->request_digest, s->id, NULL, 0);
        return 0;
}

static void create_submit(struct request *q)
{
        const struct session_create *m = q->msg;

        request_submit(q, 1024 + m->message.len + m->metadata.len, 3, create_apply,
                       route_session_done);
}

static void create_child(struct request *q)
{
        struct create *cr = container_of(q, struct create, q);
        const struct session_create *m = q->msg;

        if (m->session_id) {
                request_with_session(q, m->session_id, create_submit);
                return;
        }
        uuid_make(cr->id);
        q->session = sessions_get(&q->c->sessions, cr->id);
        q->session->loaded = true;
        create_submit(q);
}

/* The parent is there: one level deeper, if that is allowed. */
static void parent_loaded(struct request *q)
{
        struct create *cr = container_of(q, struct create, q);
        const struct session_create *m = q->msg;
        struct session *parent = TAKE_PTR(q->session);
        bool there = parent->exists && streq(parent->tenant, m->tenant);
        const char *hold;

        cr->depth = parent->depth + 1;
        (void) session_unref(parent);
        if (!there) {
                request_refuse(q, ERROR_CODE_NOT_FOUND, "there is no session %s to be the parent",
                               m->parent_session_id);
                request_end(q);
        } else if ((hold = budgets_hold(q->c, m->tenant, m->agent_name))) {
                request_refuse(q, ERROR_CODE_UNPROCESSABLE, "%s", hold);
                request_end(q);
        } else if (cr->depth > q->c->settings->session_depth_max) {
                request_refuse(q, ERROR_CODE_UNPROCESSABLE,
                               "sessions may be nested %" PRIu64 " deep",
                               q->c->settings->session_depth_max);
                request_end(q);
        } else {
                create_child(q);
        }
}

static void create_go(struct request *q)
{
        const struct session_create *m = q->msg;

        if (m->parent_session_id)
                request_with_session(q, m->parent_session_id, parent_loaded);
        else
                create_child(q);
}

static void on_blueprint(void *userdata, int r, PGresult **results, size_t n,
                         const struct pg_error *error)
{
        struct request *q = userdata;
        struct create *cr = container_of(q, struct create, q);
        const char *name = ((const struct session_create *) q->msg)->agent_name;

        if (r == 0 && PQntuples(results[0]) > 0)
                r = blueprint_read(results[0], &cr->blueprint);
        if (r == 0) {
                create_go(q);
                return;
        }
        if (r == -EPERM)
                request_refuse(q, ERROR_CODE_UNPROCESSABLE,
                               "the agent %s is inactive; activate it or name another", name);
        else if (r == -EBADMSG)
                request_refuse(q, ERROR_CODE_INTERNAL, "the stored agent %s is damaged", name);
        else
                request_refuse(q, ERROR_CODE_UNAVAILABLE,
                               "the database cannot be reached; try again");
        request_end(q);
}

/* A name that no agent has is a label. */
static void create_once(struct request *q)
{
        const struct session_create *m = q->msg;

        if (!m->agent_name || m->kind == SLOT_KIND_EXTERNAL) {
                create_go(q);
                return;
        }
        if (blueprint_find(q->c, m->tenant, m->agent_name, on_blueprint, q) < 0) {
                request_refuse(q, ERROR_CODE_UNAVAILABLE, "the database is overloaded; try again");
                request_end(q);
        }
}

static void files_json(const struct session_create *m, char **ret)
{
        cleanup_buf struct buf out = BUF_INIT;

        buf_puts(&out, "[");
        for (size_t i = 0; i < m->n_files; i++) {
                buf_puts(&out, i > 0 ? ",{\"document_id\":" : "{\"document_id\":");
                buf_put_json_string(&out, m->files[i].document_id, strlen(m->files[i].document_id));
                put_text(&out, "path", m->files[i].path);
                buf_puts(&out, "}");
        }
        buf_puts(&out, "]");
        *ret = buf_take(&out, NULL);
}

static int create_check(struct create *cr, const struct session_create *m)
{
        static const struct span empty = { "{}", 2 };
        struct request *q = &cr->q;

        if (!route_tenant(q, m->tenant))
                return -EINVAL;
        if (m->parent_session_id && !session_id_valid(m->parent_session_id)) {
                request_refuse(q, ERROR_CODE_BAD_REQUEST,
                               "parent_session_id is not a session's id");
                return -EINVAL;
        }
        if (m->session_id && !session_id_valid(m->session_id)) {
                request_refuse(q, ERROR_CODE_BAD_REQUEST,
                               "session_id must be 1 to 64 of A-Z a-z 0-9 . _ -");
                return -EINVAL;
        }
        if (route_json(q, "metadata", m->metadata.data ? m->metadata : empty, JSON_OBJECT,
                       &cr->metadata) < 0 ||
            route_json(q, "budget", m->budget.data ? m->budget : empty, JSON_OBJECT, &cr->budget) <
                    0 ||
            (m->network.data &&
             route_json(q, "network", m->network, JSON_OBJECT, &cr->network) < 0) ||
            (m->message.data && route_json(q, "message", m->message, JSON_ARRAY, &cr->message) < 0))
                return -EINVAL;
        files_json(m, &cr->files);
        return 0;
}

int route_session_create(void *userdata, struct rpc_peer *p, struct rpc_request *req,
                         const void *msg)
{
        struct request *q = request_new(userdata, sizeof(struct create), p, req,
                                        &wire_session_create, msg, true);

        if (!q)
                return 0;
        struct create *cr = container_of(q, struct create, q);
        const struct session_create *m = q->msg;
        q->release = create_release;
        if (create_check(cr, m) < 0) {
                request_end(q);
                return 0;
        }
        uuid_make(cr->message_id);
        request_once(q, m->tenant, "session.create", m->idempotency_key, m->request_digest,
                     create_once, route_session_replay);
        return 0;
}
