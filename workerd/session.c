/* Holds one session: lease, files, conversation, agent. */
#include "session.h"

#include "common/io/log.h"
#include "extras.h"
#include "network.h"
#include "prompt.h"
#include "results.h"
#include "scale.h"

#define LEASE_MARGIN (2 * USEC_PER_SEC)
#define LEASE_PRIORITY (-100) /* before any other event: a woken worker must not act first */
#define VOLUME "/data/"       /* files below it are an upload's: programs see them read-only */

struct session {
        struct session_config c;
        char *id, *tenant, *model, *system_extra, *name;
        uint64_t epoch;
        enum slot_kind kind;
        uint32_t width, height;
        struct {
                char *document_id, *path;
        } * files;
        size_t n_files, placed;
        json_t *budget, *blueprint; /* objects, or NULL */
        uint64_t run_usec;          /* before this worker took over */
        uint64_t lease_until;
        uint64_t last_message_seq; /* newest told of before there was an agent */
        bool told;                 /* of a state before there was an agent */
        enum session_state told_state;
        bool child; /* another session's agent waits for its report */
        bool has_usage;
        struct usage usage; /* before this worker took over */
        bool over;
        enum control_mode control;
        char *driver; /* name of the person, or NULL */
        struct recorder *recorder;
        struct results *results; /* NULL = it has no volume, or no slot */
        struct loop_timer lease, idle;
        struct approvals *approvals;
        struct network *network;
        struct extras *extras; /* NULL = the blueprint gives none */
        char *hold;            /* before there is an agent */
        struct outbox *outbox;
        struct loader *loader;
        struct history *history;
        struct live live;
        struct tool_host host;
        struct agent *agent;
};

const char *session_over_name(enum session_over what)
{
        static const char *const names[] = { "idle", "ended", "fenced" };

        return what < SESSION_OVER_MAX ? names[what] : "?";
}

static void over(struct session *s, enum session_over what)
{
        if (s->over)
                return;
        s->over = true;
        s->c.on_over(s->c.userdata, what);
}

static void on_fenced(void *userdata)
{
        over(userdata, SESSION_OVER_FENCED);
}

static void on_lease_end(void *userdata)
{
        struct session *s = userdata;

        log_warning("session %s: the lease (epoch %" PRIu64 ") was not renewed in time", s->id,
                    s->epoch);
        over(s, SESSION_OVER_FENCED);
}

static void on_idle(void *userdata)
{
        struct session *s = userdata;

        if (s->control != CONTROL_MODE_AGENT) /* a person is at work in the slot */
                loop_timer_arm(&s->idle, s->c.settings->idle_release);
        else
                over(s, SESSION_OVER_IDLE);
}

static bool may_act(void *userdata)
{
        const struct session *s = userdata;

        return !s->over && now_monotonic() + LEASE_MARGIN < s->lease_until;
}

static void on_rest(void *userdata, enum session_state state)
{
        struct session *s = userdata;

        log_info("session %s: %s", s->id, session_state_name(state));
        if (state == SESSION_STATE_PAUSED || state == SESSION_STATE_WAITING)
                loop_timer_disarm(&s->idle); /* its slot stays as it is: the work is not done */
        else
                loop_timer_arm(&s->idle, s->c.settings->idle_release);
}

static void on_active(void *userdata)
{
        struct session *s = userdata;

        loop_timer_disarm(&s->idle);
}

static void on_agent_end(void *userdata, const char *why)
{
        over(userdata, SESSION_OVER_ENDED);
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

static struct agent_budget budget_of(const struct session *s)
{
        return (struct agent_budget){ .turns = budget_number(s, "turns", 1),
                                      .tokens = budget_number(s, "tokens", 1),
                                      .cost_microusd = budget_number(s, "cost_usd", 1e6),
                                      .usec = budget_number(s, "seconds", 1e6) };
}

static bool in_volume(const struct session *s, size_t file)
{
        return str_starts(s->files[file].path, VOLUME);
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
                files[i] = s->files[i].path + (in_volume(s, i) && !mounted ? 1 : 0);
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

static bool keep(void *userdata);

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
                .budget = budget_of(s),
                .total = s->usage,
                .run_usec = s->run_usec,
                .may_act = may_act,
                .on_rest = on_rest,
                .on_active = on_active,
                .keep = s->results ? keep : NULL,
                .on_end = on_agent_end,
                .userdata = s,
        };
        int r;

        choose_models(s, fallbacks, &c);
        r = agent_new(&c, &s->agent);
        if (r < 0)
                return r;
        agent_drive(s->agent, s->control != CONTROL_MODE_AGENT, s->driver);
        agent_set_hold(s->agent, s->hold);
        agent_start(s->agent);
        if (s->told)
                agent_told(s->agent, s->told_state, s->last_message_seq);
        if (s->last_message_seq > 0)
                agent_message(s->agent, s->last_message_seq);
        return 0;
}

/* Before the agent is there a failure is stored by a short-lived one. */
static void fail(struct session *s, const char *code, const char *message)
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
                        over(s, SESSION_OVER_ENDED);
                        return;
                }
        }
        agent_fail(s->agent, code, message);
}

static void not_placed(struct session *s, int r)
{
        cleanup_free char *why = xasprintf("The file %s could not be placed into the slot (%s).",
                                           s->files[s->placed].path, strerror(-r));

        fail(s, "file_not_placed", why);
}

static void not_opened(struct session *s, const char *why)
{
        cleanup_free char *text = xasprintf("The document %s could not be opened: %s",
                                            s->files[s->placed].document_id, why);

        fail(s, "file_not_placed", text);
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
                fail(s, "internal", "The worker could not start the agent.");
}

static void on_log_stored(void *userdata, int r, const struct event_appended *done, const char *why)
{
        struct session *s = userdata;

        if (r == 0)
                loader_stored(s->loader, done->first_seq, done->last_seq);
}

/* A skill or a server that is not there: people see it, the agent is told in its prompt. */
static void on_problem(void *userdata, const char *sentence)
{
        struct session *s = userdata;
        struct append *append = append_new();

        append_event(append, EVENT_TYPE_LOG,
                     json_pack("{s:s,s:s}", "level", "warning", "message", sentence));
        outbox_send(s->outbox, append, on_log_stored, s);
}

static void on_kept(void *userdata, const char *left_out)
{
        struct session *s = userdata;

        if (left_out)
                on_problem(s, left_out);
        if (s->agent)
                agent_kept(s->agent);
}

static bool keep(void *userdata)
{
        struct session *s = userdata;

        if (!s->results || !s->host.slot)
                return false;
        results_keep(s->results, on_kept, s);
        return true;
}

static void prepare(struct session *s)
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
                                                .on_problem = on_problem,
                                                .on_ready = begin_work,
                                                .userdata = s },
                       &s->extras);
        if (r < 0)
                fail(s, "internal", "The worker could not prepare the agent.");
}

static void place_next(struct session *s);

static void on_placed(void *userdata, int r)
{
        struct session *s = userdata;

        if (r < 0) {
                not_placed(s, r);
                return;
        }
        s->placed++;
        place_next(s);
}

static void on_opened(void *userdata, int r, int fd, uint64_t size, const char *why)
{
        struct session *s = userdata;
        struct guest *guest = s->host.slot ? slot_guest(s->host.slot) : NULL;
        const char *path = s->files[s->placed].path;

        if (r < 0) {
                not_opened(s, why);
                return;
        }
        if (!guest || size > s->c.settings->slot_file_bytes) {
                fd_close(fd);
                not_placed(s, guest ? -EFBIG : -ENOTCONN);
                return;
        }
        if (!in_volume(s, s->placed))
                r = guest_write_from(guest, s->epoch, path, fd, on_placed, s);
        else if (guest_has_volume(guest))
                r = guest_write_volume(guest, s->epoch, path + strlen(VOLUME), fd, on_placed, s);
        else /* an image from before volumes: beneath home */
                r = guest_write_from(guest, s->epoch, path + 1, fd, on_placed, s);
        if (r < 0)
                not_placed(s, r);
}

static void place_next(struct session *s)
{
        int r;

        if (s->placed == s->n_files) {
                prepare(s);
                return;
        }
        r = s->c.documents ? documents_open(s->c.documents, s->tenant,
                                            s->files[s->placed].document_id, on_opened, s)
                           : -ENOTCONN;
        if (r < 0)
                not_opened(s, "the document store cannot be reached");
}

/* No picture of the screen is made while a person types a secret. */
static void blind(struct session *s)
{
        struct screen *screen = s->host.slot ? slot_screen(s->host.slot) : NULL;

        if (screen)
                screen_set_blind(screen, s->control == CONTROL_MODE_SECRET);
}

void session_control(struct session *s, enum control_mode mode, const char *person)
{
        if (person && !streq(person, s->driver)) {
                free(s->driver);
                s->driver = xstrdup(person);
        }
        s->control = mode;
        blind(s);
        if (s->agent)
                agent_drive(s->agent, mode != CONTROL_MODE_AGENT, s->driver);
}

static uint64_t known_seq(void *userdata)
{
        const struct session *s = userdata;

        return loader_seq(s->loader);
}

/* A session without a recording is better than none. */
static void start_recorder(struct session *s)
{
        struct recorder_config c = {
                .recorders = s->c.recorders,
                .tenant = s->tenant,
                .session_id = s->id,
                .epoch = s->epoch,
                .slot = s->host.slot,
                .frames_per_second = (unsigned) s->c.settings->recording_rate,
                .piece_usec = s->c.settings->recording_piece,
                .seq = known_seq,
                .userdata = s,
        };
        int r = s->c.recorders && slot_screen(s->host.slot) ? recorder_new(&c, &s->recorder) : 0;

        if (r < 0)
                (void) log_errno(LOG_WARNING, r, "session %s is not recorded", s->id);
}

/* Sessions with a volume: what they leave in /results belongs to it. */
static void start_results(struct session *s)
{
        const struct results_config c = {
                .event = s->c.event,
                .documents = s->c.documents,
                .slot = s->host.slot,
                .epoch = s->epoch,
                .tenant = s->tenant,
                .session_id = s->id,
                .files_max = s->c.settings->results_files,
                .bytes_max = s->c.settings->results_bytes,
                .file_max = s->c.settings->results_file_bytes,
        };

        for (size_t i = 0; i < s->n_files && !s->results && s->c.documents; i++)
                if (in_volume(s, i) && results_new(&c, &s->results) < 0)
                        log_warning("session %s: its results are not kept", s->id);
}

struct results *session_take_results(struct session *s)
{
        results_forget(s->results);
        return s->host.slot ? TAKE_PTR(s->results) : NULL;
}

void session_slot_ready(struct session *s, struct slot *slot)
{
        if (s->over || s->host.slot)
                return;
        s->host.slot = slot;
        network_attach(s->network, slot);
        blind(s);
        start_recorder(s);
        start_results(s);
        place_next(s);
}

void session_slot_failed(struct session *s, const char *why)
{
        cleanup_free char *text = xasprintf("The slot failed: %s", why);

        if (s->over)
                return;
        if (s->agent && agent_state(s->agent) == AGENT_RESTING) {
                over(s, SESSION_OVER_IDLE); /* nothing was lost that a new slot does not give */
                return;
        }
        fail(s, "slot_failed", text);
        s->recorder = recorder_free(s->recorder);
        s->results = results_free(s->results);
        s->host.slot = NULL;
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
        limits = budget_of(s);
        if (s->agent)
                agent_set_budget(s->agent, &limits);
}

void session_message(struct session *s, uint64_t seq, const enum session_state *state,
                     struct span budget)
{
        if (s->over)
                return;
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

void session_deleted(struct session *s)
{
        recorder_discard(s->recorder);
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
        free(s->driver);
        free(s);
        return NULL;
}
