/* The manager of workerd: the slot's life, the session in it, what the coordinator asks. */
#include "worker.h"

#include <libgen.h>

#include "common/base/states.h"
#include "common/io/log.h"
#include "display.h"
#include "link.h"
#include "machine.h"
#include "parts.h"
#include "results.h"
#include "session.h"

#define FAILURES_MAX 5
#define AGAIN_FIRST (500 * USEC_PER_MSEC)
#define AGAIN_MAX (60 * USEC_PER_SEC)
#define STOP_WAIT USEC_PER_SEC
#define KEEP_WAIT (10 * USEC_PER_SEC) /* for results, at the worker's end */

struct worker {
        struct daemon *daemon;
        const struct worker_settings *settings;
        enum slot_kind kind;     /* kept warm: what the coordinator says, else as in the settings */
        enum slot_kind own_kind; /* as in the settings */
        uint32_t kinds;
        enum slot_state state;
        struct slot_host *host;
        struct machine *machine; /* NULL without slots of the kind vm */
        struct slot *slot;
        struct slot *maker; /* makes the template of machines while the slot is something else */
        enum slot_kind slot_kind; /* of the slot that is or is being made */
        uint32_t width, height;
        unsigned failures;
        struct loop_timer again, stopping;
        struct loop_task drop; /* ends the session at the end of the turn: it may be on the stack */
        enum session_over drop_why;
        bool draining, quitting;
        struct session *session;
        struct results *leaving; /* of the session before: kept before its slot is made again */
        struct link *link;
        struct httpc *http;
        struct provider_set providers;
        struct prices *prices;
        struct documents *documents;
        struct recorders *recorders; /* NULL without the setting */
        struct display *display;
        char *image; /* name of the image folder */
        struct buf slot_json, load_json, limits_json;
};

/* ---- the slot's state ---- */

#define TO(s) (UINT32_C(1) << SLOT_STATE_##s)
static const uint32_t allowed[SLOT_STATE_MAX] = {
        [SLOT_STATE_COLD] = TO(CREATING) | TO(BROKEN),
        [SLOT_STATE_CREATING] = TO(WARM) | TO(RESETTING) | TO(BROKEN),
        [SLOT_STATE_WARM] = TO(BUSY) | TO(RESETTING) | TO(BROKEN),
        [SLOT_STATE_BUSY] = TO(RESETTING) | TO(BROKEN),
        [SLOT_STATE_RESETTING] = TO(WARM) | TO(BROKEN),
        [SLOT_STATE_BROKEN] = TO(RESETTING),
};

static const char *state_name(int state)
{
        return slot_state_name((enum slot_state) state);
}

static const struct state_table table = {
        .what = "slot", .name = state_name, .allowed = allowed, .max = SLOT_STATE_MAX
};

static void worker_set_state(struct worker *w, enum slot_state to, const char *why)
{
        if (w->state == to)
                return;
        if (state_check(&table, (int) w->state, (int) to) < 0) {
                log_error("slot: %s -> %s is not allowed (%s)", slot_state_name(w->state),
                          slot_state_name(to), why);
                abort();
        }
        log_info("slot: %s -> %s (%s)", slot_state_name(w->state), slot_state_name(to), why);
        w->state = to;
        daemon_status(w->daemon, "slot %s (%s)", slot_state_name(to), why);
        if (w->link)
                link_beat(w->link);
}

/* Kills what is in the slot and makes it again; kind and size as asked. */
static void remake(struct worker *w, enum slot_kind kind, uint32_t width, uint32_t height,
                   const char *why)
{
        int r;

        w->slot_kind = kind;
        w->width = width > 0 ? width : (uint32_t) w->settings->width;
        w->height = height > 0 ? height : (uint32_t) w->settings->height;
        r = slot_reset_as(w->slot, kind, w->width, w->height);
        if (r < 0)
                log_error("the slot cannot be reset: %s", strerror(-r));
        worker_set_state(w, r < 0 ? SLOT_STATE_BROKEN : SLOT_STATE_RESETTING, why);
}

/* The slot as the session needs it: now, or once it is made. */
static void fit_session(struct worker *w)
{
        uint32_t width, height;
        enum slot_kind kind;

        if (!w->session || w->state != SLOT_STATE_WARM)
                return;
        kind = session_kind(w->session);
        session_size(w->session, &width, &height);
        width = width > 0 ? width : (uint32_t) w->settings->width;
        height = height > 0 ? height : (uint32_t) w->settings->height;
        if (kind != w->slot_kind ||
            (kind != SLOT_KIND_HEADLESS && (width != w->width || height != w->height))) {
                remake(w, kind, width, height, "the session needs another slot");
                return;
        }
        slot_set_epoch(w->slot, session_epoch(w->session));
        worker_set_state(w, SLOT_STATE_BUSY, session_id(w->session));
        session_slot_ready(w->session, w->slot);
}

static void on_slot_ready(void *userdata)
{
        struct worker *w = userdata;

        w->failures = 0;
        worker_set_state(w, SLOT_STATE_WARM, "ready");
        if (!w->session && w->slot_kind != w->kind)
                remake(w, w->kind, 0, 0, "it was made for a session that is gone");
        else
                fit_session(w);
}

static void on_again(void *userdata)
{
        struct worker *w = userdata;
        int r = slot_reset_as(w->slot, w->slot_kind, w->width, w->height);

        if (w->state == SLOT_STATE_BROKEN)
                worker_set_state(w, SLOT_STATE_RESETTING, "tried again");
        if (r < 0)
                worker_set_state(w, SLOT_STATE_BROKEN, strerror(-r));
}

static void on_slot_failed(void *userdata, const char *why)
{
        struct worker *w = userdata;

        log_warning("the slot failed: %s", why);
        if (w->quitting)
                return;
        if (w->state ==
            SLOT_STATE_BUSY) { /* the session says so and ends; then the slot is made again */
                if (w->session)
                        session_slot_failed(w->session, why);
                return;
        }
        w->failures++;
        loop_timer_arm(&w->again, MIN(AGAIN_FIRST << MIN(w->failures, 10U), AGAIN_MAX));
        /* From then on nobody waits for it; it is tried again all the same. */
        if (w->failures >= FAILURES_MAX) {
                if (w->session)
                        session_slot_failed(w->session, why);
                worker_set_state(w, SLOT_STATE_BROKEN, why);
                return;
        }
        if (w->state == SLOT_STATE_WARM)
                worker_set_state(w, SLOT_STATE_RESETTING, why);
}

/* ---- the session ---- */

static void quit(void *userdata);

static void on_left(void *userdata, const char *left_out)
{
        struct worker *w = userdata;

        w->leaving = results_free(w->leaving);
        slot_set_epoch(w->slot, 0);
        loop_timer_disarm(&w->again);
        if (w->quitting)
                quit(w);
        else
                remake(w, w->kind, 0, 0, "the results are kept");
}

/* Everything of the session stops now; its slot dies, once what it leaves is kept. */
static void drop_session(struct worker *w, const char *why, bool tell, bool keep)
{
        cleanup_free char *id = NULL;
        uint64_t epoch;

        if (!w->session)
                return;
        id = xstrdup(session_id(w->session));
        epoch = session_epoch(w->session);
        log_info("session %s: leaves the worker (%s, epoch %" PRIu64 ")", id, why, epoch);
        if (keep && w->state == SLOT_STATE_BUSY)
                w->leaving = session_take_results(w->session);
        w->session = session_free(w->session);
        log_field_set("SESSION", "");
        display_session_over(w->display);
        if (w->leaving) {
                worker_set_state(w, SLOT_STATE_RESETTING, "the session left; its results are kept");
                results_keep(w->leaving, on_left, w);
        } else {
                slot_set_epoch(w->slot, 0);
                if (w->state == SLOT_STATE_BUSY)
                        remake(w, w->kind, 0, 0, "the session left");
        }
        if (tell)
                link_released(w->link, id, epoch, NULL);
}

static void on_drop(void *userdata)
{
        struct worker *w = userdata;

        drop_session(w, session_over_name(w->drop_why), w->drop_why != SESSION_OVER_FENCED,
                     w->drop_why != SESSION_OVER_FENCED);
        link_beat(w->link);
}

static void on_over(void *userdata, enum session_over what)
{
        struct worker *w = userdata;

        w->drop_why = what;
        loop_task_queue(&w->drop);
}

static bool holds(const struct worker *w, const char *id, uint64_t epoch)
{
        return w->session && streq(session_id(w->session), id) &&
               session_epoch(w->session) == epoch;
}

static int on_assign(void *userdata, const struct session_assign *m, const char **why)
{
        struct worker *w = userdata;
        int r;

        if (holds(w, m->session_id, m->epoch))
                return 0; /* said twice */
        if (w->session) {
                *why = "the worker holds another session";
                return -EBUSY;
        }
        if (w->draining || w->quitting || w->state == SLOT_STATE_BROKEN ||
            w->state == SLOT_STATE_COLD) {
                *why = "the worker takes no sessions now";
                return -EAGAIN;
        }
        if (!(w->kinds & (UINT32_C(1) << m->kind)) || (m->image && !streq(m->image, w->image))) {
                *why = "the worker has no slot of that kind and image";
                return -EINVAL;
        }
        r = session_new(
                &(struct session_config){
                        .event = w->daemon->event,
                        .link = link_rpc(w->link),
                        .documents = w->documents,
                        .recorders = w->recorders,
                        .providers = &w->providers,
                        .prices = w->prices,
                        .settings = w->settings,
                        .otlp = w->daemon->otlp,
                        .on_over = on_over,
                        .userdata = w,
                },
                m, &w->session);
        if (r < 0) {
                *why = "the assignment makes no sense to the worker";
                return r;
        }
        log_field_set("SESSION", m->session_id);
        log_info("session %s: assigned (epoch %" PRIu64 ", %s)", m->session_id, m->epoch,
                 slot_kind_name(m->kind));
        fit_session(w);
        return 0;
}

static void on_cancel(void *userdata, const struct session_cancel *m)
{
        struct worker *w = userdata;

        if (!holds(w, m->session_id, m->epoch))
                return;
        if (m->reason == CANCEL_REASON_DELETE)
                session_deleted(w->session);
        drop_session(w, cancel_reason_name(m->reason), true,
                     m->reason == CANCEL_REASON_STOP || m->reason == CANCEL_REASON_IDLE);
}

static void on_lease(void *userdata, const char *id, uint64_t epoch, bool keep, uint64_t until_usec)
{
        struct worker *w = userdata;

        if (!holds(w, id, epoch))
                return;
        if (keep)
                session_renew(w->session, until_usec);
        else
                drop_session(w, "the lease is gone", false, false);
}

static void on_message(void *userdata, const char *id, uint64_t epoch, uint64_t seq,
                       const enum session_state *state, struct span budget)
{
        struct worker *w = userdata;

        if (holds(w, id, epoch))
                session_message(w->session, seq, state, budget);
}

static void on_control(void *userdata, const char *id, uint64_t epoch, enum control_mode mode,
                       const char *person)
{
        struct worker *w = userdata;

        if (holds(w, id, epoch))
                session_control(w->session, mode, person);
}

static void on_hold(void *userdata, const char *id, uint64_t epoch, const char *hold)
{
        struct worker *w = userdata;

        if (holds(w, id, epoch))
                session_hold(w->session, hold);
}

static void on_approval(void *userdata, const struct approval_notify *m)
{
        struct worker *w = userdata;

        if (holds(w, m->session_id, m->epoch))
                approvals_told(session_approvals(w->session), m);
}

static void on_keep(void *userdata, const enum slot_kind *kind)
{
        struct worker *w = userdata;
        enum slot_kind keep = kind ? *kind : w->own_kind;

        if (keep == w->kind || !(w->kinds & (UINT32_C(1) << keep)))
                return;
        log_info("slot: %s is to be kept ready (before: %s)", slot_kind_name(keep),
                 slot_kind_name(w->kind));
        w->kind = keep;
        if (w->session || w->leaving || w->quitting || w->slot_kind == keep)
                return; /* the next one will be */
        if (w->failures > 0)
                w->slot_kind = keep; /* a timer tries it again */
        else if (w->state != SLOT_STATE_BROKEN)
                remake(w, keep, 0, 0, "another kind is to be kept ready");
}

static void on_drain(void *userdata)
{
        struct worker *w = userdata;

        log_info("draining: no more sessions");
        w->draining = true;
}

/* What the screen is now, else what it will be. */
static void slot_size(const struct worker *w, uint32_t *ret_width, uint32_t *ret_height)
{
        struct screen *screen = w->slot ? slot_screen(w->slot) : NULL;

        *ret_width = w->slot_kind == SLOT_KIND_HEADLESS ? 0 : w->width;
        *ret_height = w->slot_kind == SLOT_KIND_HEADLESS ? 0 : w->height;
        if (screen)
                screen_size(screen, ret_width, ret_height);
}

static void status(void *userdata, struct link_status *ret)
{
        struct worker *w = userdata;
        struct slot_load load = { 0 };
        struct slot *starting = w->maker ? w->maker : w->slot;
        cleanup_free char *progress = starting ? slot_progress(starting) : NULL;
        struct otlp_counts spans;
        uint32_t width, height;

        if (w->slot && slot_load(w->slot, &load) < 0)
                load = (struct slot_load){ 0 };
        slot_size(w, &width, &height);
        buf_clear(&w->slot_json);
        buf_putf(&w->slot_json, "{\"kind\":\"%s\",\"image\":", slot_kind_name(w->slot_kind));
        buf_put_json_string(&w->slot_json, w->image, strlen(w->image));
        buf_putf(&w->slot_json,
                 ",\"width\":%" PRIu32 ",\"height\":%" PRIu32 ",\"state\":\"%s\",\"controller\":%s",
                 width, height, slot_state_name(w->state), w->session ? "\"agent\"" : "null");
        if (progress) {
                buf_puts(&w->slot_json, ",\"progress\":");
                buf_put_json_string(&w->slot_json, progress, strlen(progress));
        }
        buf_puts(&w->slot_json, "}");
        buf_clear(&w->load_json);
        buf_putf(&w->load_json,
                 "{\"processes\":%" PRIu64 ",\"memory_bytes\":%" PRIu64 ",\"cpu_usec\":%" PRIu64
                 ",\"memory_kills\":%" PRIu64 ",\"fork_refusals\":%" PRIu64 ",\"model_calls\":",
                 load.processes, load.memory_bytes, load.cpu_usec, load.memory_kills,
                 load.fork_refusals);
        provider_counts_json(&w->load_json);
        otlp_counts(w->daemon->otlp, &spans);
        buf_putf(&w->load_json,
                 ",\"spans\":{\"sent\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"rejected\":%" PRIu64
                 "}",
                 spans.sent, spans.dropped, spans.rejected);
        buf_puts(&w->load_json, ",\"default_model\":");
        buf_put_json_string(&w->load_json, w->settings->model, strlen(w->settings->model));
        buf_puts(&w->load_json, "}");
        daemon_status(w->daemon, "slot %s%s%s: %s, %" PRIu64 " processes, %" PRIu64 " MiB%s%s",
                      slot_state_name(w->state), w->session ? " with session " : "",
                      w->session ? session_id(w->session) : "", slot_kind_name(w->slot_kind),
                      load.processes, load.memory_bytes / MIB, progress ? "; " : "",
                      progress ? progress : "");
        *ret = (struct link_status){
                .kind = w->slot_kind,
                .state = w->state,
                .session_id = w->session ? session_id(w->session) : NULL,
                .epoch = w->session ? session_epoch(w->session) : 0,
                .slot = { w->slot_json.data, w->slot_json.len },
                .load = { w->load_json.data, w->load_json.len },
                .keeps = w->kind,
        };
}

static struct slot *find_display(void *userdata, const char *id)
{
        struct worker *w = userdata;

        return w->session && w->state == SLOT_STATE_BUSY && streq(session_id(w->session), id)
                       ? w->slot
                       : NULL;
}

static void on_resized(void *userdata)
{
        struct worker *w = userdata;

        link_beat(w->link);
}

/* ---- start and end ---- */

static void tell_proof(struct worker *w, const struct slot_config *c, const struct slot_proof *p)
{
        struct slot_limits limits = c->limits;

        slot_limits_default(&limits);
        buf_clear(&w->limits_json);
        slot_proof_json(p, &limits, &w->limits_json);
        buf_put(&w->limits_json, "", 1);
        log_info("limits: %s", w->limits_json.data);
        for (int l = 0; l < SLOT_LIMIT_MAX; l++)
                if (!p->limits[l].proven)
                        log_warning("a limit of slots is not proven on this host, see GET /workers "
                                    "(number %d, by %s)",
                                    l, p->limits[l].by);
        if (p->identity_why[0])
                log_warning("slots run under the worker's own user id: %s", p->identity_why);
}

/* Slots of the kind vm need more of the host than others. A worker that is to keep one warm says
 * what is missing and ends; else it only does without the kind. */
static int open_machine(struct worker *w, struct slot_config *config, struct slot_proof *told)
{
        cleanup_free char *why = NULL;
        int r = parts_machine(w->settings, w->host, &w->machine, &why);

        config->machine = w->machine;
        told->machine = r < 0 ? "none" : w->machine->kvm ? "kvm" : "emulation";
        (void) snprintf(told->machine_why, sizeof(told->machine_why), "%s",
                        r < 0 ? why : w->machine->kvm_why);
        if (r == 0) {
                log_notice("virtual machines: %s%s%s", w->machine->kvm ? "KVM" : "without KVM (",
                           w->machine->kvm_why, w->machine->kvm ? "" : ")");
                return 0;
        }
        if (w->kind == SLOT_KIND_VM) {
                log_error("%s", why);
                return r;
        }
        log_warning("no slots of the kind vm: %s", why);
        w->kinds &= ~(UINT32_C(1) << SLOT_KIND_VM);
        return 0;
}

static void on_template_made(void *userdata)
{
        struct worker *w = userdata;
        struct slot *maker = TAKE_PTR(w->maker);

        slot_destroy(maker, NULL, NULL);
}

static void on_template_failed(void *userdata, const char *why)
{
        log_warning("the template of virtual machines was not made: %s", why);
        on_template_made(userdata);
}

/* So that the first session with a machine does not wait for it. */
static void make_template(struct worker *w, struct slot_config *config)
{
        int r;

        if (!w->machine || w->kind == SLOT_KIND_VM || machine_has_template(w->machine))
                return;
        cleanup_free char *id = xasprintf("%s-template", w->settings->worker_id);
        config->id = id;
        config->kind = SLOT_KIND_VM;
        config->on_ready = on_template_made;
        config->on_failed = on_template_failed;
        r = slot_new(config, &w->maker);
        if (r < 0)
                log_errno(LOG_WARNING, r, "the template of virtual machines cannot be made");
}

static int open_slot(struct worker *w)
{
        const struct worker_settings *s = w->settings;
        const struct slot_host_config host = { .userns = s->slot_userns,
                                               .cgroups = s->slot_cgroups };
        struct slot_config config;
        struct slot_proof proof = { 0 }, machine = { 0 };
        cleanup_free char *why = NULL;
        unsigned killed = 0;
        int r = slot_reconcile(s->state_dir, &killed);

        parts_slot_config(s, w->daemon->event, &config);
        config.kind = w->kind;
        config.on_ready = on_slot_ready;
        config.on_failed = on_slot_failed;
        config.userdata = w;
        if (r < 0)
                return log_errno(LOG_ERR, r, "cannot clear what an earlier run left in %s",
                                 s->state_dir);
        if (killed > 0)
                log_notice("killed %u processes that an earlier run left", killed);
        r = slot_host_new(&host, &w->host);
        if (r < 0)
                return r;
        config.host = w->host;
        if (w->kinds & UINT32_C(1) << SLOT_KIND_VM) {
                r = open_machine(w, &config, &machine);
                if (r < 0)
                        return r;
        }
        r = slot_prove(&config, &proof, &why);
        if (r < 0) {
                log_error("slots cannot be made here: %s", why ? why : strerror(-r));
                return r;
        }
        proof.machine = machine.machine;
        memcpy(proof.machine_why, machine.machine_why, sizeof(proof.machine_why));
        tell_proof(w, &config, &proof);
        r = slot_new(&config, &w->slot);
        if (r < 0)
                return log_errno(LOG_ERR, r, "the slot cannot be made");
        w->slot_kind = w->kind;
        w->width = (uint32_t) s->width;
        w->height = (uint32_t) s->height;
        worker_set_state(w, SLOT_STATE_CREATING, "start");
        make_template(w, &config);
        return 0;
}

static int open_links(struct worker *w)
{
        const struct worker_settings *s = w->settings;
        int r = documents_new(
                &(struct documents_config){ .event = w->daemon->event,
                                            .zmq = w->daemon->zmq,
                                            .socket = s->documents_socket,
                                            .descriptor_socket = s->documents_descriptor_socket },
                &w->documents);
        if (r == 0 && s->recording)
                r = recorders_new(w->daemon->event, w->documents, &w->recorders);

        if (r == 0)
                r = display_new(
                        &(struct display_config){
                                .event = w->daemon->event,
                                .path = s->descriptor_socket,
                                .mode = 0660, /* the folder decides who gets that far */
                                .any_uid = true,
                                .terminals = (unsigned) s->terminals,
                                .find = find_display,
                                .on_resized = on_resized,
                                .userdata = w },
                        &w->display);
        if (r == 0)
                r = link_new(&(struct link_config){ .event = w->daemon->event,
                                                    .zmq = w->daemon->zmq,
                                                    .socket = s->coordinator_socket,
                                                    .worker_id = s->worker_id,
                                                    .endpoint = s->descriptor_socket,
                                                    .limits = w->limits_json.data,
                                                    .kinds = w->kinds,
                                                    .status = status,
                                                    .on_lease = on_lease,
                                                    .on_message = on_message,
                                                    .on_hold = on_hold,
                                                    .on_approval = on_approval,
                                                    .on_assign = on_assign,
                                                    .on_cancel = on_cancel,
                                                    .on_control = on_control,
                                                    .on_drain = on_drain,
                                                    .on_keep = on_keep,
                                                    .userdata = w },
                             &w->link);
        return r < 0 ? log_errno(LOG_ERR, r, "the worker's sockets cannot be opened") : 0;
}

static void quit(void *userdata)
{
        struct worker *w = userdata;

        daemon_quit(w->daemon, 0);
}

/* SIGTERM: the session goes back to the queue at once, instead of when its lease ends. */
static void on_stop(void *userdata)
{
        struct worker *w = userdata;
        cleanup_free char *id = NULL;
        uint64_t epoch;

        w->quitting = true;
        if (!w->session) {
                if (w->leaving)
                        loop_timer_arm(&w->stopping, KEEP_WAIT);
                else
                        quit(w);
                return;
        }
        id = xstrdup(session_id(w->session));
        epoch = session_epoch(w->session);
        w->session = session_free(w->session);
        slot_set_epoch(w->slot, 0);
        loop_timer_arm(&w->stopping, STOP_WAIT);
        link_released(w->link, id, epoch, quit);
}

/* SIGHUP: new prices. A file that cannot be used leaves the old ones. */
static void on_reload(void *userdata)
{
        struct worker *w = userdata;
        cleanup_free char *error = NULL;

        if (!w->prices)
                return;
        if (prices_reload(w->prices, w->settings->prices, &error) < 0)
                log_error("the prices stay as they were: %s", error);
        else
                log_notice("prices were read again");
}

int worker_new(struct daemon *d, const struct worker_settings *s, struct worker **ret)
{
        CLEANUP(worker_freep) struct worker *w = xnew(struct worker);
        cleanup_free char *error = NULL, *folder = xstrdup(s->image_dir);
        int r;

        w->daemon = d;
        w->settings = s;
        r = worker_settings_check(s, &w->own_kind, &w->kinds, &error);
        if (r < 0) {
                log_error("%s", error);
                return r;
        }
        w->image = xstrdup(basename(folder));
        w->slot_kind = w->kind = w->own_kind;
        r = loop_timer_init(&w->again, d->event, on_again, w);
        if (r == 0)
                r = loop_timer_init(&w->stopping, d->event, quit, w);
        if (r == 0)
                r = loop_task_init(&w->drop, d->event, on_drop, w);
        if (r == 0)
                r = parts_models(s, d->event, &w->http, &w->providers, &w->prices);
        if (r == 0)
                r = open_slot(w);
        if (r == 0)
                r = open_links(w);
        if (r < 0)
                return r;
        d->on_stop = on_stop;
        d->on_reload = on_reload;
        d->userdata = w;
        *ret = TAKE_PTR(w);
        return 0;
}

struct worker *worker_free(struct worker *w)
{
        if (!w)
                return NULL;
        w->quitting = true;
        session_free(w->session);
        results_free(w->leaving);
        display_free(w->display);
        link_free(w->link);
        slot_free(w->maker);
        if (w->slot)
                slot_free(w->slot);
        machine_free(w->machine);
        slot_host_free(w->host);
        recorders_free(w->recorders);
        documents_free(w->documents);
        if (w->providers.anthropic)
                w->providers.anthropic->free(w->providers.anthropic);
        if (w->providers.openai)
                w->providers.openai->free(w->providers.openai);
        httpc_free(w->http);
        prices_free(w->prices);
        loop_task_done(&w->drop);
        loop_timer_done(&w->again);
        loop_timer_done(&w->stopping);
        buf_done(&w->slot_json);
        buf_done(&w->load_json);
        buf_done(&w->limits_json);
        free(w->image);
        free(w);
        return NULL;
}
