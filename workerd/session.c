/* Holds one session: its assignment, its lease, what it is told meanwhile. */
#include "session-private.h"

#define LEASE_PRIORITY (-100) /* before any other event: a woken worker must not act first */

const char *session_over_name(enum session_over what)
{
        static const char *const names[] = { "idle", "ended", "fenced" };

        return what < SESSION_OVER_MAX ? names[what] : "?";
}

void session_end(struct session *s, enum session_over what)
{
        if (s->over)
                return;
        s->over = true;
        s->c.on_over(s->c.userdata, what);
}

static void on_fenced(void *userdata)
{
        session_end(userdata, SESSION_OVER_FENCED);
}

static void on_lease_end(void *userdata)
{
        struct session *s = userdata;

        log_warning("session %s: the lease (epoch %" PRIu64 ") was not renewed in time", s->id,
                    s->epoch);
        session_end(s, SESSION_OVER_FENCED);
}

static void on_idle(void *userdata)
{
        struct session *s = userdata;

        if (s->control != CONTROL_MODE_AGENT) /* a person is at work in the slot */
                loop_timer_arm(&s->idle, s->c.settings->idle_release);
        else
                session_end(s, SESSION_OVER_IDLE);
}

static void on_output(void *userdata, const char *call_id, int stream, struct span text)
{
        struct session *s = userdata;

        live_tool(&s->live, call_id, stream, text);
}

static void on_event(void *userdata, const json_t *event)
{
        struct session *s = userdata;

        if (!s->has_usage)
                agent_usage_before(s->agent, event);
        agent_note_below(s->agent, event);
}

static uint64_t budget_number(const struct session *s, const char *key, double unit)
{
        double n = json_number_value(json_object_get(s->budget, key));

        return n > 0 && n < 1e15 ? (uint64_t) (n * unit) : 0;
}

struct agent_budget session_budget(const struct session *s)
{
        return (struct agent_budget){ .turns = budget_number(s, "turns", 1),
                                      .tokens = budget_number(s, "tokens", 1),
                                      .cost_microusd = budget_number(s, "cost_usd", 1e6),
                                      .usec = budget_number(s, "seconds", 1e6) };
}

void session_renew(struct session *s, uint64_t until_usec)
{
        uint64_t now = now_monotonic(),
                 stop = until_usec > LEASE_MARGIN ? until_usec - LEASE_MARGIN : 0;

        if (until_usec <= s->lease_until)
                return;
        s->lease_until = until_usec;
        loop_timer_arm(&s->lease, stop > now ? stop - now : 0);
}

static void take_budget(struct session *s, struct span text)
{
        struct json_problem problem;
        json_t *budget = NULL;
        struct agent_budget limits;

        if (text.len == 0 || json_parse(text.data, text.len, &budget, &problem) < 0)
                return;
        json_decref(s->budget);
        s->budget = budget;
        limits = session_budget(s);
        if (s->agent)
                agent_set_budget(s->agent, &limits);
}

void session_message(struct session *s, uint64_t seq, const enum session_state *state,
                     struct span budget)
{
        if (s->over)
                return;
        if (trace_current())
                s->trace = *trace_current();
        if (s->agent)
                agent_trace(s->agent, &s->trace);
        take_budget(s, budget);
        s->last_message_seq = MAX(s->last_message_seq, seq);
        if (state && !s->agent) {
                s->told = true;
                s->told_state = *state;
        }
        if (!s->agent || s->over)
                return;
        if (state)
                agent_told(s->agent, *state, seq);
        if (!s->over)
                agent_message(s->agent, seq);
}

void session_hold(struct session *s, const char *hold)
{
        char *copy = xstrdup(strempty(hold) ? NULL : hold);

        free(s->hold);
        s->hold = copy;
        if (s->agent && !s->over)
                agent_set_hold(s->agent, hold);
}

struct approvals *session_approvals(struct session *s)
{
        return s->approvals;
}

bool session_acting(const struct session *s)
{
        return s->agent && agent_state(s->agent) != AGENT_RESTING;
}

const char *session_id(const struct session *s)
{
        return s->id;
}

uint64_t session_epoch(const struct session *s)
{
        return s->epoch;
}

enum slot_kind session_kind(const struct session *s)
{
        return s->kind;
}

void session_size(const struct session *s, uint32_t *ret_width, uint32_t *ret_height)
{
        *ret_width = s->width;
        *ret_height = s->height;
}

/* Relative or in the volume, and not leading out of there. */
static bool path_fits(const char *path)
{
        if (str_starts(path, VOLUME))
                path += strlen(VOLUME);
        if (strempty(path) || path[0] == '/' || str_ends(path, "/"))
                return false;
        for (const char *p = path; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
                if (str_starts(p, "../") || streq(p, ".."))
                        return false;
        return true;
}

static int copy_assignment(struct session *s, const struct session_assign *m)
{
        struct json_problem problem;

        s->id = xstrdup(m->session_id);
        s->agent_name = xstrdup(m->agent_name);
        if (trace_current())
                s->trace = *trace_current();
        s->epoch = m->epoch;
        s->tenant = xstrdup(m->tenant);
        s->kind = m->kind;
        s->width = m->has_width ? m->width : 0;
        s->height = m->has_height ? m->height : 0;
        s->name = xstrdup(m->session_name);
        s->has_usage = m->has_usage;
        if (m->has_usage)
                s->usage = m->usage;
        s->model = xstrdup(strempty(m->model) ? s->c.settings->model : m->model);
        s->system_extra = m->system_prompt.len > 0 ? span_dup(m->system_prompt) : NULL;
        s->files = xcalloc(m->n_files + 1, sizeof(*s->files));
        for (; s->n_files < m->n_files; s->n_files++) {
                if (!path_fits(m->files[s->n_files].path))
                        return -EINVAL;
                s->files[s->n_files].document_id = xstrdup(m->files[s->n_files].document_id);
                s->files[s->n_files].path = xstrdup(m->files[s->n_files].path);
        }
        if (m->budget.len > 0 &&
            json_parse(m->budget.data, m->budget.len, &s->budget, &problem) < 0)
                return -EINVAL;
        if (m->blueprint.len > 0 &&
            json_parse(m->blueprint.data, m->blueprint.len, &s->blueprint, &problem) < 0)
                return -EINVAL;
        if (!s->system_extra)
                s->system_extra =
                        xstrdup(json_string_value(json_object_get(s->blueprint, "system_prompt")));
        s->run_usec = m->run_us;
        s->child = m->parent_session_id;
        s->hold = xstrdup(strempty(m->hold) ? NULL : m->hold);
        return 0;
}

static int make_parts(struct session *s, const struct session_assign *m)
{
        int r = loop_timer_init(&s->lease, s->c.event, on_lease_end, s);

        if (r == 0)
                r = sd_event_source_set_priority(s->lease.source, LEASE_PRIORITY);
        if (r == 0)
                r = loop_timer_init(&s->idle, s->c.event, on_idle, s);
        if (r == 0)
                r = live_init(&s->live, s->c.event, s->c.link, s->id, s->epoch);
        if (r == 0)
                r = outbox_new(&(struct outbox_config){ .event = s->c.event,
                                                        .link = s->c.link,
                                                        .session_id = s->id,
                                                        .epoch = s->epoch,
                                                        .on_fenced = on_fenced,
                                                        .userdata = s },
                               &s->outbox);
        if (r < 0)
                return r;
        r = approvals_new(s->c.event, s->c.link, s->id, s->epoch, &s->approvals);
        if (r < 0)
                return r;
        r = network_new(&(struct network_config){ .event = s->c.event,
                                                  .approvals = s->approvals,
                                                  .outbox = s->outbox,
                                                  .tenant = s->tenant,
                                                  .agent_name = m->agent_name,
                                                  .policy = m->network },
                        &s->network);
        if (r < 0)
                return r;
        s->history = history_new(s->c.settings->history_max);
        s->host =
                (struct tool_host){ .event = s->c.event,
                                    .epoch = s->epoch,
                                    .documents = s->c.documents,
                                    .tenant = s->tenant,
                                    .session_id = s->id,
                                    .allowed = json_object_get(s->blueprint, "tools"),
                                    .approval = json_object_get(s->blueprint, "approval"),
                                    .output_schema = json_object_get(s->blueprint, "output_schema"),
                                    .child = s->child,
                                    .coordinator = s->c.link,
                                    .on_output = on_output,
                                    .userdata = s };
        s->host.done_schema = tool_done_schema(s->host.output_schema);
        return loader_new(&(struct loader_config){ .event = s->c.event,
                                                   .link = s->c.link,
                                                   .session_id = s->id,
                                                   .epoch = s->epoch,
                                                   .history = s->history,
                                                   .on_event = on_event,
                                                   .on_fenced = on_fenced,
                                                   .userdata = s },
                          &s->loader);
}

int session_new(const struct session_config *c, const struct session_assign *m,
                struct session **ret)
{
        CLEANUP(session_freep) struct session *s = xnew(struct session);
        int r;

        s->c = *c;
        r = copy_assignment(s, m);
        if (r == 0)
                r = make_parts(s, m);
        if (r < 0)
                return r;
        session_renew(s, now_monotonic() + m->lease_ms * USEC_PER_MSEC);
        *ret = TAKE_PTR(s);
        return 0;
}

struct session *session_free(struct session *s)
{
        if (!s)
                return NULL;
        recorder_free(s->recorder); /* while it can still look */
        results_free(s->results);
        agent_free(s->agent);
        network_free(s->network);
        approvals_free(s->approvals);
        free(s->hold);
        tool_host_close(&s->host);
        extras_free(s->extras);
        free(s->host.done_schema);
        if (s->c.documents)
                documents_cancel(s->c.documents, s);
        if (s->host.slot && slot_guest(s->host.slot))
                guest_cancel(slot_guest(s->host.slot), s);
        outbox_free(s->outbox);
        loader_free(s->loader);
        history_free(s->history);
        live_done(&s->live);
        loop_timer_done(&s->lease);
        loop_timer_done(&s->idle);
        for (size_t i = 0; i < s->n_files; i++) {
                free(s->files[i].document_id);
                free(s->files[i].path);
        }
        free(s->files);
        json_decref(s->budget);
        json_decref(s->blueprint);
        free(s->id);
        free(s->tenant);
        free(s->model);
        free(s->system_extra);
        free(s->name);
        free(s->agent_name);
        free(s->driver);
        free(s);
        return NULL;
}
