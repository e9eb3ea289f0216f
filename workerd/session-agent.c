/* The agent of a session: its prompt, its models, what it needs before it begins, its failure. */
#include "session-private.h"

#include "prompt.h"
#include "scale.h"

static bool may_act(void *userdata)
{
        const struct session *s = userdata;

        return !s->over && now_monotonic() + LEASE_MARGIN < s->lease_until;
}

static void on_rest(void *userdata, enum session_state state)
{
        struct session *s = userdata;

        log_info("session %s: %s", s->id, session_state_name(state));
        s->paused = state == SESSION_STATE_PAUSED;
        session_hold_slot(s);
        if (state == SESSION_STATE_PAUSED || state == SESSION_STATE_WAITING)
                loop_timer_disarm(&s->idle); /* its slot stays as it is: the work is not done */
        else
                loop_timer_arm(&s->idle, s->c.settings->idle_release);
}

static void on_active(void *userdata)
{
        struct session *s = userdata;

        s->paused = false;
        session_hold_slot(s);
        loop_timer_disarm(&s->idle);
}

static void on_agent_end(void *userdata, const char *why)
{
        session_end(userdata, SESSION_OVER_ENDED);
}

static char *make_prompt(const struct session *s)
{
        struct screen *screen = slot_screen(s->host.slot);
        struct scale scale = { 0 };
        const char **files = xnewn(const char *, s->n_files + 1);
        cleanup_free char *network = network_words(s->network), *more = extras_words(s->extras);
        bool mounted = guest_has_volume(slot_guest(s->host.slot));
        unsigned width, height;
        char *text;

        if (screen) {
                screen_size(screen, &width, &height);
                scale_choose(width, height, &scale);
        }
        for (size_t i = 0; i < s->n_files; i++)
                files[i] = s->files[i].path + (session_volume_file(s, i) && !mounted ? 1 : 0);
        text = prompt_make(&(struct prompt_config){
                .desktop = screen,
                .width = scale.width,
                .height = scale.height,
                .now_us = now_realtime(),
                .session_name = s->name,
                .network = network,
                .more = more,
                .results = !s->results ? NULL
                           : mounted   ? "/results"
                                       : "/home/agent/results",
                .extra = span_of(s->system_extra),
                .files = files,
                .n_files = s->n_files,
        });
        free(files);
        return text;
}

/* The session's model, then the fallbacks. Borrows of `fallbacks`, which is cut into names. */
static void choose_models(const struct session *s, char *fallbacks, struct agent_config *c)
{
        char *save = NULL;

        c->choices[0].provider = provider_for(s->c.providers, s->model, &c->choices[0].model);
        c->n_choices = 1;
        for (char *m = strtok_r(fallbacks, ", ", &save); m && c->n_choices < AGENT_CHOICES_MAX;
             m = strtok_r(NULL, ", ", &save)) {
                struct agent_choice *choice = &c->choices[c->n_choices];

                if (streq(m, s->model))
                        continue;
                choice->provider = provider_for(s->c.providers, m, &choice->model);
                c->n_choices++;
        }
}

static int start_agent(struct session *s)
{
        cleanup_free char *system = make_prompt(s),
                          *fallbacks = xstrdup(s->c.settings->fallback_models);
        struct agent_config c = {
                .event = s->c.event,
                .outbox = s->outbox,
                .loader = s->loader,
                .history = s->history,
                .host = &s->host,
                .live = &s->live,
                .prices = s->c.prices,
                .session_id = s->id,
                .epoch = s->epoch,
                .otlp = s->c.otlp,
                .agent_name = s->agent_name,
                .kind = s->kind,
                .traceparent = s->c.settings->model_traceparent,
                .system = system,
                .max_tokens = s->c.settings->max_tokens,
                .images_kept = s->c.settings->images_kept,
                .turns_max = s->c.settings->turns_max,
                .context_default = s->c.settings->context_tokens,
                .compact_percent = s->c.settings->compact_percent,
                .compact_kept = s->c.settings->compact_kept,
                .loop_repeats = s->c.settings->loop_repeats,
                .retries = (unsigned) s->c.settings->retries,
                .busy_usec = s->c.settings->busy_wait,
                .budget = session_budget(s),
                .total = s->usage,
                .run_usec = s->run_usec,
                .may_act = may_act,
                .on_rest = on_rest,
                .on_active = on_active,
                .keep = s->results ? session_keep : NULL,
                .on_end = on_agent_end,
                .userdata = s,
        };
        int r;

        choose_models(s, fallbacks, &c);
        r = agent_new(&c, &s->agent);
        if (r < 0)
                return r;
        agent_trace(s->agent, &s->trace);
        agent_drive(s->agent, s->control != CONTROL_MODE_AGENT, s->driver);
        agent_set_hold(s->agent, s->hold);
        agent_start(s->agent);
        if (s->told)
                agent_told(s->agent, s->told_state, s->last_message_seq);
        if (s->last_message_seq > 0)
                agent_message(s->agent, s->last_message_seq);
        return 0;
}

void session_fail(struct session *s, const char *code, const char *message)
{
        log_warning("session %s: %s: %s", s->id, code, message);
        if (!s->agent) {
                struct agent_config c = {
                        .event = s->c.event,
                        .outbox = s->outbox,
                        .loader = s->loader,
                        .history = s->history,
                        .host = &s->host,
                        .session_id = s->id,
                        .epoch = s->epoch,
                        .system = "",
                        .may_act = may_act,
                        .on_rest = on_rest,
                        .on_active = on_active,
                        .on_end = on_agent_end,
                        .userdata = s,
                };

                if (agent_new(&c, &s->agent) < 0) {
                        session_end(s, SESSION_OVER_ENDED);
                        return;
                }
        }
        agent_fail(s->agent, code, message);
}

static void begin_work(void *userdata)
{
        struct session *s = userdata;
        int r;

        if (s->agent || s->over)
                return; /* it has failed meanwhile */
        s->host.mcp = extras_mcp(s->extras);
        r = start_agent(s);
        if (r < 0)
                session_fail(s, "internal", "The worker could not start the agent.");
}

static void on_log_stored(void *userdata, int r, const struct event_appended *done, const char *why)
{
        struct session *s = userdata;

        if (r == 0)
                loader_stored(s->loader, done->first_seq, done->last_seq);
}

void session_problem(void *userdata, const char *sentence)
{
        struct session *s = userdata;
        struct append *append = append_new();

        append_event(append, EVENT_TYPE_LOG,
                     json_pack("{s:s,s:s}", "level", "warning", "message", sentence));
        outbox_send(s->outbox, append, on_log_stored, s);
}

void session_prepare(struct session *s)
{
        int r;

        if (json_array_size(json_object_get(s->blueprint, "skills")) == 0 &&
            json_array_size(json_object_get(s->blueprint, "mcp_servers")) == 0) {
                begin_work(s);
                return;
        }
        r = extras_new(&(struct extras_config){ .event = s->c.event,
                                                .documents = s->c.documents,
                                                .slot = s->host.slot,
                                                .epoch = s->epoch,
                                                .tenant = s->tenant,
                                                .blueprint = s->blueprint,
                                                .proxy = s->c.settings->mcp_proxy,
                                                .private = s->c.settings->egress_private,
                                                .on_problem = session_problem,
                                                .on_ready = begin_work,
                                                .userdata = s },
                       &s->extras);
        if (r < 0)
                session_fail(s, "internal", "The worker could not prepare the agent.");
}
