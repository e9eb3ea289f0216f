/* Tells workers which slot to keep ready, as warm.c decides; says how the targets stand. A worker
 * hears it with the answer to each heartbeat, so a lost word is made good by the next. */
#include "common/io/log.h"
#include "coordinator.h"
#include "warm.h"

static const struct warm_limits limits = { .patience = 3 * USEC_PER_SEC,
                                           .hold = 10 * USEC_PER_SEC };

struct warm {
        struct coordinator *c;
        struct warm_target targets[WARM_TARGETS_MAX];
        struct warm_count counts[WARM_TARGETS_MAX];
        struct warm_count told[WARM_TARGETS_MAX]; /* what warm_news last saw */
        size_t n_targets, n_told;
        uint64_t begin_at; /* monotonic; before, not all workers have greeted yet */
};

/* Checked before it is in force: coordinator_settings_check. */
static void take_setting(struct warm *w)
{
        struct warm_target targets[WARM_TARGETS_MAX] = { 0 };
        cleanup_free char *error = NULL;
        size_t n;

        if (warm_parse(w->c->settings->pool_warm, targets, &n, &error) < 0)
                return;
        memcpy(w->targets, targets, sizeof(targets));
        memset(w->counts, 0, sizeof(w->counts));
        w->n_targets = n;
        w->n_told = WARM_NONE; /* other targets are news */
}

static void describe(const struct worker *w, struct warm_worker *ret)
{
        bool tellable = w->warm.tellable;
        enum slot_kind keeps = tellable ? w->warm.keep : w->kind;
        bool out = w->draining || w->slot_state == SLOT_STATE_BROKEN;

        *ret = (struct warm_worker){
                .kinds = w->kinds,
                .image = w->image,
                .keeps = keeps,
                .usable = w->peer && !out,
                .out = w->peer && out,
                .free = w->state == WORKER_FREE,
                .tellable = tellable,
                .ready = w->slot_state == SLOT_STATE_WARM && w->kind == keeps,
                .told_at = w->warm.told_at,
        };
}

static void tell(struct worker *w, enum slot_kind keep, uint64_t now)
{
        if (!w->warm.tellable || w->warm.keep == keep)
                return;
        log_info("worker %s: is to keep a slot of the kind %s ready (before: %s)", w->id,
                 slot_kind_name(keep), slot_kind_name(w->warm.keep));
        w->warm.keep = keep;
        if (w->state == WORKER_FREE)
                w->warm.told_at = now;
}

bool warm_changing(const struct worker *w)
{
        return w->state == WORKER_FREE && w->warm.tellable && w->kind != w->warm.keep;
}

static void note_empty(struct warm *w, uint64_t now)
{
        for (size_t k = 0; k < w->n_targets; k++) {
                struct warm_target *t = &w->targets[k];
                if (w->counts[k].kept > 0 || t->wanted == 0)
                        t->empty_since = 0;
                else if (t->empty_since == 0)
                        t->empty_since = now;
        }
}

static void decide(struct warm *warm)
{
        struct workers *table = &warm->c->workers;
        size_t n = map_count(table->by_id), i = 0, iter = 0;
        cleanup_free struct worker **who = xnewn(struct worker *, n + 1);
        cleanup_free struct warm_worker *all = xnewn(struct warm_worker, n + 1);
        cleanup_free enum slot_kind *keep = xnewn(enum slot_kind, n + 1);
        cleanup_free size_t *serves = xnewn(size_t, n + 1);
        uint64_t now = now_monotonic();
        void *v;

        while (map_next(table->by_id, &iter, NULL, &v)) {
                who[i] = v;
                describe(v, &all[i++]);
        }
        warm_plan(warm->targets, warm->n_targets, all, n, &limits, now, keep, serves, warm->counts);
        note_empty(warm, now);
        for (i = 0; i < n; i++) {
                who[i]->warm.needed = serves[i] != WARM_NONE;
                if (now >= warm->begin_at)
                        tell(who[i], keep[i], now);
        }
}

void warm_tick(struct warm *w)
{
        if (w->n_targets > 0 && w->c->phase == PHASE_ACTIVE)
                decide(w);
}

void warm_heard(struct warm *w, struct worker *worker, const enum slot_kind *keeps)
{
        bool known = worker->warm.tellable;

        if (known && keeps && w->n_targets > 0)
                return; /* what it was told counts; it may not have heard yet */
        worker->warm = (struct worker_warm){ .tellable = keeps != NULL,
                                             .keep = keeps ? *keeps : worker->kind };
        if (known != worker->warm.tellable)
                warm_tick(w); /* so that it does not first make a slot that is not needed */
}

bool warm_keep(const struct warm *w, const struct worker *worker, enum slot_kind *ret)
{
        if (w->n_targets == 0 || !worker->warm.tellable)
                return false;
        *ret = worker->warm.keep;
        return true;
}

size_t warm_wanted(const struct warm *w)
{
        size_t n = 0;

        for (size_t k = 0; k < w->n_targets; k++)
                n += w->targets[k].wanted;
        return n;
}

/* ---- what people see ---- */

/* What would help where there are too few workers. */
static const char *remedy(const struct warm *w)
{
        const struct coordinator_settings *s = w->c->settings;
        size_t linked = 0, iter = 0;
        void *v;

        while (map_next(w->c->workers.by_id, &iter, NULL, &v))
                linked += ((const struct worker *) v)->peer != NULL;
        if (strempty(s->pool_starter) || s->pool_max == 0)
                return "start more workers, or set pool_starter and pool_max";
        return linked < s->pool_max ? "more are being started" : "pool_max is reached";
}

/* One sentence; empty where there is nothing to say. */
static void why(const struct warm *w, size_t k, char *ret, size_t size)
{
        const struct warm_count *c = &w->counts[k];

        ret[0] = '\0';
        switch (c->lack) {
        case WARM_MAKING:
                (void) snprintf(ret, size, "%zu being made", w->targets[k].wanted - c->ready);
                break;
        case WARM_NO_KIND:
                (void) snprintf(ret, size,
                                w->targets[k].image[0]
                                        ? "no worker has this image and makes slots of this kind"
                                        : "no worker makes slots of this kind; see kinds in "
                                          "workerd.conf");
                break;
        case WARM_UNTAUGHT:
                (void) snprintf(ret, size,
                                "workers of an older version keep the kind of their own settings; "
                                "restart them");
                break;
        case WARM_OUT:
                (void) snprintf(ret, size,
                                "the workers that make such slots are draining or broken");
                break;
        case WARM_TOO_FEW:
                (void) snprintf(ret, size,
                                "%zu of the %zu workers that could hold sessions, the others keep "
                                "what other targets want; %s",
                                c->in_use, c->able, remedy(w));
                break;
        case WARM_MET:
        case WARM_LACK_MAX:
                break;
        }
}

bool warm_news(struct warm *w)
{
        bool news = w->n_told != w->n_targets;

        for (size_t k = 0; k < w->n_targets; k++) {
                const struct warm_count *a = &w->counts[k], *b = &w->told[k];
                news = news || a->kept != b->kept || a->ready != b->ready || a->lack != b->lack;
        }
        memcpy(w->told, w->counts, sizeof(w->told));
        w->n_told = w->n_targets;
        return news;
}

void warm_json(const struct warm *w, struct buf *out)
{
        buf_puts(out, "[");
        for (size_t k = 0; k < w->n_targets; k++) {
                const struct warm_target *t = &w->targets[k];
                const struct warm_count *c = &w->counts[k];
                char text[200];

                why(w, k, text, sizeof(text));
                buf_putf(out, "%s{\"kind\":\"%s\",\"image\":", k > 0 ? "," : "",
                         slot_kind_name(t->kind));
                if (t->image[0])
                        buf_put_json_string(out, t->image, strlen(t->image));
                else
                        buf_puts(out, "null");
                buf_putf(out, ",\"target\":%zu,\"ready\":%zu,\"making\":%zu,\"why\":", t->wanted,
                         c->ready, c->kept - c->ready);
                if (text[0])
                        buf_put_json_string(out, text, strlen(text));
                else
                        buf_puts(out, "null");
                buf_puts(out, "}");
        }
        buf_puts(out, "]");
}

/* ---- start and end ---- */

void warm_active(struct warm *w)
{
        w->begin_at = now_monotonic() + w->c->settings->heartbeat;
}

void warm_reload(struct warm *w)
{
        size_t iter = 0;
        void *v;

        take_setting(w);
        while (map_next(w->c->workers.by_id, &iter, NULL, &v)) {
                struct worker_warm *state = &((struct worker *) v)->warm;
                state->needed = false;
                state->told_at = 0; /* a new wish holds at once */
        }
        warm_tick(w);
}

struct warm *warm_new(struct coordinator *c)
{
        struct warm *w = xnew(struct warm);

        w->c = c;
        take_setting(w);
        return w;
}

struct warm *warm_free(struct warm *w)
{
        free(w);
        return NULL;
}
