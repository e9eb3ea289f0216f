/* Who drives each watched session: read from the database, on every hint and once a second; and
 * what they did, told to the coordinator. */
#include "gatewayd/relay-private.h"

#include "common/io/log.h"

#define POLL_USEC USEC_PER_SEC
#define STALE_USEC (3 * USEC_PER_SEC) /* without a reading that is newer nobody drives */
#define TELL_USEC (5 * USEC_PER_SEC)  /* what was done is told together */
#define TELL_TIMEOUT (2 * USEC_PER_SEC)

static void apply(struct watch *w)
{
        struct viewer *v;

        list_foreach (v, &w->viewers, all) {
                bool mine = v->may_drive && w->token_hash && streq(v->token_hash, w->token_hash) &&
                            (!w->viewer || streq(v->id, w->viewer));
                viewer_control(v, mine, w->secret && !mine);
        }
}

/* ---- what was done ---- */

struct told {
        struct relay *relay;
        char session_id[65];
        struct control_input m;
};

static void on_told(void *userdata, int r, const void *reply)
{
        struct told *t = userdata;
        struct watch *w = r == -ECANCELED ? NULL : map_get(t->relay->watches, t->session_id);

        if (w)
                w->telling = false;
        if (r < 0 && r != -ECANCELED)
                log_warning("session %s: what a person did is not in its events: %s", t->session_id,
                            strerrordesc_np(-r));
        free(t);
}

static void tell(struct watch *w)
{
        uint64_t now = now_monotonic();
        struct control_input m = {
                .session_id = w->session_id,
                .token_hash = w->counted_hash,
                .person = w->counted_person,
                .duration_ms = (uint32_t) MIN((now - w->active_since) / USEC_PER_MSEC,
                                              (uint64_t) UINT32_MAX),
                .secret = w->counted_secret,
        };
        struct told *t;

        if (!w->active_since || w->telling)
                return;
        if (!m.secret) {
                m.has_typed_bytes = m.has_typed_lines = w->typed_bytes > 0;
                m.typed_bytes = (uint32_t) MIN(w->typed_bytes, (uint64_t) UINT32_MAX);
                m.typed_lines = (uint32_t) MIN(w->typed_lines, (uint64_t) UINT32_MAX);
                m.clicks = w->counts.clicks;
                m.keys = w->counts.keys;
                m.scrolls = w->counts.scrolls;
                m.pastes = (uint32_t) w->pastes;
        }
        t = xnew(struct told);
        t->relay = w->relay;
        (void) snprintf(t->session_id, sizeof(t->session_id), "%s", w->session_id);
        if (rpc_call(rpc_client_peer(w->relay->gateway->coordinator), &wire_control_input, &m,
                     TELL_TIMEOUT, on_told, t) < 0) {
                free(t); /* kept until the coordinator is there */
                return;
        }
        w->telling = true;
        w->counts = (struct rfb_counts){ 0 };
        w->pastes = w->typed_bytes = w->typed_lines = 0;
        w->active_since = 0;
        w->counted_secret = false;
}

static void began(struct watch *w)
{
        if (w->active_since)
                return;
        w->active_since = now_monotonic();
        (void) snprintf(w->counted_person, sizeof(w->counted_person), "%s",
                        w->person ? w->person : "");
        (void) snprintf(w->counted_hash, sizeof(w->counted_hash), "%s",
                        w->token_hash ? w->token_hash : "");
        if (!loop_timer_armed(&w->relay->flush))
                loop_timer_arm(&w->relay->flush, TELL_USEC);
}

void watch_count(struct watch *w, struct rfb_counts *counts)
{
        if (counts->clicks == 0 && counts->keys == 0 && counts->scrolls == 0)
                return;
        began(w);
        w->counted_secret |= w->secret;
        w->counts.clicks += counts->clicks;
        w->counts.keys += counts->keys;
        w->counts.scrolls += counts->scrolls;
        *counts = (struct rfb_counts){ 0 };
}

void watch_typed(struct watch *w, struct span data)
{
        if (data.len == 0)
                return;
        began(w);
        w->counted_secret |= w->secret;
        w->typed_bytes += data.len;
        for (size_t i = 0; i < data.len; i++)
                w->typed_lines += data.data[i] == '\r' || data.data[i] == '\n';
}

void relay_pasted(struct relay *r, const char *session_id)
{
        struct watch *w = map_get(r->watches, session_id);

        if (!w)
                return;
        began(w);
        w->counted_secret |= w->secret;
        w->pastes++;
}

static void on_flush(void *userdata)
{
        struct relay *r = userdata;
        size_t iter = 0;
        void *value;
        bool more = false;

        while (map_next(r->watches, &iter, NULL, &value)) {
                struct watch *w = value;
                tell(w);
                more |= w->active_since != 0;
        }
        if (more)
                loop_timer_arm(&r->flush, TELL_USEC);
}

/* ---- who drives ---- */

static void replace(char **place, const char *text)
{
        free(*place);
        *place = xstrdup(text);
}

static void nobody(struct watch *w)
{
        replace(&w->person, NULL);
        replace(&w->token_hash, NULL);
        replace(&w->viewer, NULL);
        w->secret = false;
}

/* A row: session, token hash, viewer, person, secret. */
static void read_row(struct relay *r, const PGresult *rows, int i)
{
        struct watch *w = map_get(r->watches, pg_str(rows, i, 0));
        const char *hash = pg_str(rows, i, 1);

        if (!w)
                return;
        bool secret = pg_bool(rows, i, 4);
        w->round = r->round;
        if (!streq(hash, w->token_hash) || secret != w->secret)
                tell(w); /* under the name and the secrecy it was done with */
        replace(&w->token_hash, hash);
        replace(&w->viewer, pg_str(rows, i, 2));
        replace(&w->person, pg_str(rows, i, 3));
        w->secret = secret;
        apply(w);
}

static void on_read(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct relay *relay = userdata;
        size_t iter = 0;
        void *value;

        relay->reading = false;
        if (r == 0) {
                relay->known_at = relay->asked_at;
                relay->round++;
                for (int i = 0; i < PQntuples(results[0]); i++)
                        read_row(relay, results[0], i);
        }
        while (r != -ECANCELED && map_next(relay->watches, &iter, NULL, &value)) {
                struct watch *w = value;
                if (r == 0 ? w->round != relay->round
                           : now_monotonic() > relay->known_at + STALE_USEC) {
                        nobody(w);
                        apply(w);
                }
        }
        if (relay->read_again)
                relay_changed(relay, NULL);
}

static void read_all(struct relay *r)
{
        cleanup_buf struct buf ids = BUF_INIT;
        size_t iter = 0;
        const char *id;
        void *value;

        r->read_again = r->reading;
        if (r->reading || map_count(r->watches) == 0)
                return;
        while (map_next(r->watches, &iter, &id, &value))
                buf_putf(&ids, "%s%s", ids.len ? "," : "", id);
        r->asked_at = now_monotonic();
        r->reading = pg_query_as(r->gateway->pg, PG_ALL_TENANTS, on_read, r,
                                 "SELECT session_id, control ->> 'token_hash', "
                                 "control ->> 'viewer', control ->> 'person', "
                                 "COALESCE((control ->> 'secret')::bool, false) "
                                 "FROM core.session "
                                 "WHERE session_id = ANY (string_to_array($1, ','))",
                                 "t", (struct span){ ids.data, ids.len }) >= 0;
}

static void on_poll(void *userdata)
{
        struct relay *r = userdata;

        read_all(r);
        if (map_count(r->watches) > 0)
                loop_timer_arm(&r->poll, POLL_USEC);
}

void relay_changed(struct relay *r, const char *session_id)
{
        if (!session_id || map_get(r->watches, session_id))
                read_all(r);
}

/* ---- watches ---- */

struct watch *watch_get(struct relay *r, const char *session_id)
{
        struct watch *w = map_get(r->watches, session_id);

        if (w)
                return w;
        w = xnew(struct watch);
        w->relay = r;
        list_init(&w->viewers);
        (void) snprintf(w->session_id, sizeof(w->session_id), "%s", session_id);
        (void) map_set(r->watches, w->session_id, w);
        return w;
}

void watch_join(struct watch *w, struct viewer *v)
{
        v->watch = w;
        list_push_back(&w->viewers, &v->all);
        apply(w);
        read_all(w->relay);
        if (!loop_timer_armed(&w->relay->poll))
                loop_timer_arm(&w->relay->poll, POLL_USEC);
}

static void watch_free(struct watch *w)
{
        (void) map_remove(w->relay->watches, w->session_id);
        nobody(w);
        free(w);
}

void watch_leave(struct viewer *v)
{
        struct watch *w = TAKE_PTR(v->watch);

        if (!w)
                return;
        list_remove(&v->all);
        if (!list_empty(&w->viewers))
                return;
        w->telling = false; /* the last word is not held back by the one before */
        tell(w);
        watch_free(w);
}

int relay_watch_init(struct relay *r)
{
        int e;

        r->watches = map_new();
        e = loop_timer_init(&r->poll, r->gateway->event, on_poll, r);
        if (e >= 0)
                e = loop_timer_init(&r->flush, r->gateway->event, on_flush, r);
        return e;
}

void relay_watch_done(struct relay *r)
{
        size_t iter = 0;
        void *value;

        loop_timer_done(&r->poll);
        loop_timer_done(&r->flush);
        while (r->watches && map_next(r->watches, &iter, NULL, &value)) {
                watch_free(value);
                iter = 0;
        }
        r->watches = map_free(r->watches);
}
