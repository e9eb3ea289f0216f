/* A queue in front of the database: what waits goes together. */
#include "creates.h"

#include "common/io/daemon.h"

struct creates {
        struct pg_pool *const *pg;
        struct list waiting; /* of struct create, oldest first */
        size_t n_waiting;
        bool flying;
        uint64_t landed;            /* when the last transaction ended */
        struct loop_timer too_long; /* the oldest waits */
        struct loop_timer next;     /* what has gathered is sent */
};

struct flight {
        struct creates *creates;
        size_t n;
        struct create *of[CREATES_MAX];
};

static void send_all(struct creates *c);

static void end(struct create *one, int r, const char *json)
{
        one->fn(one->userdata, r, json);
}

static void unqueue(struct creates *c, struct create *one)
{
        list_remove(&one->all);
        c->n_waiting--;
}

static void send_alone(struct creates *c, struct create *one)
{
        int r = store_create(*c->pg, &one->document, one->fn, one->userdata);
        if (r < 0)
                end(one, r, NULL);
}

static void on_flight(void *userdata, int r, size_t n, const struct store_created *made)
{
        cleanup_free struct flight *f = userdata;
        struct creates *c = f->creates;

        c->flying = false;
        c->landed = now_monotonic();
        for (size_t i = 0; i < f->n; i++) {
                struct create *one = f->of[i];
                const char *json = NULL;
                for (size_t k = 0; k < n && !json; k++)
                        if (streq(made[k].id, one->document.id))
                                json = made[k].json;
                if (json)
                        end(one, 0, json);
                else if (r == -EREMOTEIO)
                        send_alone(c, one);
                else
                        end(one, r < 0 ? r : -EIO, NULL);
        }
        send_all(c);
}

/* The oldest and those of the same tenant. */
static void send_some(struct creates *c, const struct create *oldest)
{
        const struct store_document *documents[CREATES_MAX];
        struct flight *f = xnew(struct flight);
        f->creates = c;
        const char *tenant = oldest->document.tenant;

        struct create *it, *next;
        list_foreach_safe (it, next, &c->waiting, all) {
                if (f->n == CREATES_MAX)
                        break;
                if (!streq(it->document.tenant, tenant))
                        continue;
                unqueue(c, it);
                documents[f->n] = &it->document;
                f->of[f->n++] = it;
        }
        int r = store_create_many(*c->pg, documents, f->n, on_flight, f);
        if (r == 0) {
                c->flying = true;
                return;
        }
        for (size_t i = 0; i < f->n; i++)
                end(f->of[i], r, NULL);
        free(f);
}

static void send_all(struct creates *c)
{
        uint64_t now = now_monotonic(), gathered = c->landed + CREATES_GATHER;
        const struct create *oldest;

        while (*c->pg && !c->flying && (oldest = list_first(&c->waiting, struct create, all)) &&
               (now >= gathered || c->n_waiting >= CREATES_MAX))
                send_some(c, oldest);
        oldest = list_first(&c->waiting, struct create, all);
        if (!oldest || !*c->pg) {
                loop_timer_disarm(&c->too_long);
                return;
        }
        if (!c->flying)
                loop_timer_arm(&c->next, gathered > now ? gathered - now : 0);
        if (!loop_timer_armed(&c->too_long)) {
                uint64_t until = oldest->since + CREATES_WAIT;
                loop_timer_arm(&c->too_long, until > now ? until - now : 0);
        }
}

static void on_next(void *userdata)
{
        send_all(userdata);
}

static void on_waited(void *userdata)
{
        struct creates *c = userdata;
        uint64_t now = now_monotonic();
        struct create *it, *next;

        list_foreach_safe (it, next, &c->waiting, all) {
                if (it->since + CREATES_WAIT > now)
                        break;
                unqueue(c, it);
                end(it, -EAGAIN, NULL);
        }
        send_all(c);
}

int creates_new(sd_event *e, struct pg_pool *const *pg, struct creates **ret)
{
        struct creates *c = xnew(struct creates);
        c->pg = pg;
        list_init(&c->waiting);
        int r = loop_timer_init(&c->too_long, e, on_waited, c);
        if (r >= 0)
                r = loop_timer_init(&c->next, e, on_next, c);
        if (r < 0) {
                creates_free(c);
                return r;
        }
        *ret = c;
        return 0;
}

struct creates *creates_free(struct creates *c)
{
        if (!c)
                return NULL;
        struct create *one;
        while ((one = list_first(&c->waiting, struct create, all))) {
                unqueue(c, one);
                end(one, -ECANCELED, NULL);
        }
        loop_timer_done(&c->too_long);
        loop_timer_done(&c->next);
        free(c);
        return NULL;
}

void creates_add(struct creates *c, struct create *one)
{
        one->since = now_monotonic();
        list_push_back(&c->waiting, &one->all);
        c->n_waiting++;
        if (!c->flying && !loop_timer_armed(&c->next))
                loop_timer_arm(&c->next, 0);
}
