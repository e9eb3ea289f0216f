/* Decides which slot each free worker keeps ready; no state, no clock, no I/O. */
#include "warm.h"

/* ---- the setting ---- */

static int read_count(char *item, size_t *ret)
{
        char *colon = strrchr(item, ':');
        uint64_t n;

        if (!colon)
                return -EINVAL;
        *colon = '\0';
        if (parse_u64(strstrip(colon + 1), &n) < 0 || n > WARM_COUNT_MAX)
                return -EINVAL;
        *ret = (size_t) n;
        return 0;
}

static int read_target(char *item, struct warm_target *ret)
{
        struct warm_target t = { 0 };

        if (read_count(item, &t.wanted) < 0)
                return -EINVAL;
        char *image = strchr(item, '@');
        if (image) {
                *image = '\0';
                image = strstrip(image + 1);
                if (!image[0] || strlen(image) >= sizeof(t.image))
                        return -EINVAL;
                (void) snprintf(t.image, sizeof(t.image), "%s", image);
        }
        if (slot_kind_parse(strstrip(item), &t.kind) < 0 || t.kind == SLOT_KIND_EXTERNAL)
                return -EINVAL;
        *ret = t;
        return 0;
}

int warm_parse(const char *text, struct warm_target targets[WARM_TARGETS_MAX], size_t *ret_n,
               char **ret_error)
{
        cleanup_free char *copy = xstrdup(text);
        char *save = NULL;
        size_t n = 0;

        for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
                cleanup_free char *said = xstrdup(strstrip(item));
                if (n == WARM_TARGETS_MAX) {
                        *ret_error = xasprintf("pool_warm: more than %d targets", WARM_TARGETS_MAX);
                        return -EINVAL;
                }
                if (read_target(item, &targets[n]) < 0) {
                        *ret_error = xasprintf("pool_warm: \"%s\" is not KIND:NUMBER or "
                                               "KIND@IMAGE:NUMBER (kinds: desktop, headless, vm; "
                                               "0 to %d)",
                                               said, WARM_COUNT_MAX);
                        return -EINVAL;
                }
                for (size_t i = 0; i < n; i++)
                        if (targets[i].kind == targets[n].kind &&
                            streq(targets[i].image, targets[n].image)) {
                                *ret_error = xasprintf("pool_warm: \"%s\" is there twice", said);
                                return -EINVAL;
                        }
                n++;
        }
        *ret_n = n;
        return 0;
}

/* ---- the plan ---- */

struct plan {
        const struct warm_target *targets;
        const struct warm_worker *workers;
        size_t n_targets, n;
        const struct warm_limits *limits;
        uint64_t now;
        enum slot_kind *keep;
        size_t *serves;
        struct warm_count *counts;
        size_t order[WARM_TARGETS_MAX]; /* targets that name an image come first */
        size_t *options;                /* how many targets each worker could serve */
};

static bool image_fits(const struct warm_target *t, const struct warm_worker *w)
{
        return !t->image[0] || streq(t->image, w->image);
}

static bool makes(const struct warm_target *t, const struct warm_worker *w)
{
        return (w->kinds & (UINT32_C(1) << t->kind)) && image_fits(t, w);
}

static bool could(const struct warm_target *t, const struct warm_worker *w)
{
        return w->usable && makes(t, w);
}

static bool keeps(const struct warm_target *t, const struct warm_worker *w)
{
        return w->usable && w->keeps == t->kind && image_fits(t, w);
}

static bool may_tell(const struct plan *p, const struct warm_worker *w)
{
        return w->tellable && (w->told_at == 0 || w->told_at + p->limits->hold <= p->now);
}

static size_t missing(const struct plan *p, size_t target)
{
        size_t wanted = p->targets[target].wanted, kept = p->counts[target].kept;
        return wanted > kept ? wanted - kept : 0;
}

static void serve(struct plan *p, size_t worker, size_t target)
{
        p->serves[worker] = target;
        p->keep[worker] = p->targets[target].kind;
        p->counts[target].kept++;
}

static void prepare(struct plan *p)
{
        size_t n = 0;

        for (int any = 0; any <= 1; any++)
                for (size_t k = 0; k < p->n_targets; k++)
                        if ((p->targets[k].image[0] == '\0') == any)
                                p->order[n++] = k;
        for (size_t i = 0; i < p->n; i++) {
                p->keep[i] = p->workers[i].keeps;
                p->serves[i] = WARM_NONE;
                for (size_t k = 0; k < p->n_targets; k++)
                        p->options[i] +=
                                p->targets[k].wanted > 0 && could(&p->targets[k], &p->workers[i]);
        }
        for (size_t k = 0; k < p->n_targets; k++)
                p->counts[k] = (struct warm_count){ 0 };
}

/* Who keeps what is wanted goes on; first those that can do nothing else. */
static void count_keepers(struct plan *p)
{
        for (size_t options = 1; options <= p->n_targets; options++)
                for (size_t o = 0; o < p->n_targets; o++) {
                        size_t k = p->order[o];
                        for (size_t i = 0; i < p->n && missing(p, k) > 0; i++)
                                if (p->workers[i].free && p->options[i] == options &&
                                    p->serves[i] == WARM_NONE &&
                                    keeps(&p->targets[k], &p->workers[i]))
                                        serve(p, i, k);
                }
}

/* A free worker that no target needs, with the fewest other uses. */
static size_t find_spare(const struct plan *p, size_t target)
{
        size_t best = WARM_NONE;

        for (size_t i = 0; i < p->n; i++) {
                const struct warm_worker *w = &p->workers[i];
                if (w->free && p->serves[i] == WARM_NONE && could(&p->targets[target], w) &&
                    (may_tell(p, w) || w->keeps == p->targets[target].kind) &&
                    (best == WARM_NONE || p->options[i] < p->options[best]))
                        best = i;
        }
        return best;
}

/* One for each in turn, so that too few are shared. */
static void fill(struct plan *p)
{
        bool again = true;

        while (again) {
                again = false;
                for (size_t o = 0; o < p->n_targets; o++) {
                        size_t k = p->order[o];
                        size_t i = missing(p, k) > 0 ? find_spare(p, k) : WARM_NONE;
                        if (i == WARM_NONE)
                                continue;
                        serve(p, i, k);
                        again = true;
                }
        }
}

/* The worker that target `to` can have of the one that has most. */
static size_t find_rich(const struct plan *p, size_t to)
{
        size_t best = WARM_NONE;

        for (size_t i = 0; i < p->n; i++) {
                size_t from = p->serves[i];
                if (from == WARM_NONE || p->counts[from].kept < 2 ||
                    !could(&p->targets[to], &p->workers[i]) || !may_tell(p, &p->workers[i]))
                        continue;
                if (best == WARM_NONE || p->counts[from].kept > p->counts[p->serves[best]].kept)
                        best = i;
        }
        return best;
}

static void share(struct plan *p)
{
        for (size_t o = 0; o < p->n_targets; o++) {
                size_t k = p->order[o];
                const struct warm_target *t = &p->targets[k];
                if (t->wanted == 0 || p->counts[k].kept > 0 || t->empty_since == 0 ||
                    t->empty_since + p->limits->patience > p->now)
                        continue;
                size_t i = find_rich(p, k);
                if (i == WARM_NONE)
                        continue;
                p->counts[p->serves[i]].kept--;
                serve(p, i, k);
        }
}

/* What a target of 0 names is not kept, if there is anything else to keep. */
static void let_go(struct plan *p, size_t worker)
{
        const struct warm_worker *w = &p->workers[worker];
        bool unwanted = false;

        for (size_t k = 0; k < p->n_targets; k++) {
                if (keeps(&p->targets[k], w) && p->targets[k].wanted > 0)
                        return;
                unwanted = unwanted || (keeps(&p->targets[k], w) && p->targets[k].wanted == 0);
        }
        for (size_t o = 0; unwanted && o < p->n_targets; o++) {
                const struct warm_target *t = &p->targets[p->order[o]];
                if (t->wanted > 0 && could(t, w) && may_tell(p, w)) {
                        p->keep[worker] = t->kind;
                        return;
                }
        }
}

/* The next slot of those in use: what is still missing then. It costs nothing to say. */
static void promise(struct plan *p)
{
        size_t left[WARM_TARGETS_MAX];

        for (size_t k = 0; k < p->n_targets; k++)
                left[k] = missing(p, k);
        for (int change = 0; change <= 1; change++)
                for (size_t i = 0; i < p->n; i++) {
                        const struct warm_worker *w = &p->workers[i];
                        bool open = w->usable && !w->free && p->serves[i] == WARM_NONE;
                        for (size_t o = 0; open && o < p->n_targets; o++) {
                                size_t k = p->order[o];
                                if (left[k] == 0 ||
                                    !(change ? w->tellable && could(&p->targets[k], w)
                                             : keeps(&p->targets[k], w)))
                                        continue;
                                p->serves[i] = k;
                                p->keep[i] = p->targets[k].kind;
                                left[k]--;
                                break;
                        }
                }
        for (size_t i = 0; i < p->n; i++)
                if (!p->workers[i].free)
                        p->serves[i] = WARM_NONE;
}

static void count(struct plan *p, size_t target)
{
        const struct warm_target *t = &p->targets[target];
        struct warm_count *c = &p->counts[target];
        size_t untaught = 0, out = 0;

        for (size_t i = 0; i < p->n; i++) {
                const struct warm_worker *w = &p->workers[i];
                bool able = could(t, w);
                c->able += able;
                out += w->out && makes(t, w);
                c->in_use += able && !w->free;
                untaught += able && w->free && !w->tellable && p->serves[i] == WARM_NONE;
                c->ready += p->serves[i] == target && w->ready && w->keeps == t->kind;
        }
        c->lack = c->ready >= t->wanted  ? WARM_MET
                  : c->kept >= t->wanted ? WARM_MAKING
                  : c->able == 0 && out  ? WARM_OUT
                  : c->able == 0         ? WARM_NO_KIND
                  : untaught > 0         ? WARM_UNTAUGHT
                                         : WARM_TOO_FEW;
}

void warm_plan(const struct warm_target *targets, size_t n_targets,
               const struct warm_worker *workers, size_t n, const struct warm_limits *l,
               uint64_t now, enum slot_kind *keep, size_t *serves, struct warm_count *counts)
{
        cleanup_free size_t *options = xnewn(size_t, n + 1);
        struct plan p = { .targets = targets,
                          .workers = workers,
                          .n_targets = n_targets,
                          .n = n,
                          .limits = l,
                          .now = now,
                          .keep = keep,
                          .serves = serves,
                          .counts = counts,
                          .options = options };

        prepare(&p);
        count_keepers(&p);
        fill(&p);
        share(&p);
        for (size_t i = 0; i < n; i++)
                if (workers[i].free && serves[i] == WARM_NONE)
                        let_go(&p, i);
        promise(&p);
        for (size_t k = 0; k < n_targets; k++)
                count(&p, k);
}
