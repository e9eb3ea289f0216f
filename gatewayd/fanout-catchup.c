/* Stored events for subscribers that are behind, and the poll that replaces a silent bus. */
#include "gatewayd/fanout-internal.h"

#include "common/io/log.h"

/* A page of stored events after a position: as many as the queue has room for by number and, but
 * for the first, by bytes. -> id, seq, json, event_type, session_id, and how many there would have
 * been. */
#define PAGE_BYTES "524288" /* SINK_BYTES_MAX / 2 */
#define PAGE(where, order)                                                                         \
        "SELECT id, seq, json, event_type, session_id, found FROM (SELECT *, count(*) OVER () AS " \
        "found, sum(octet_length(json)) OVER (ORDER BY " order ") - octet_length(json) AS before " \
        "FROM (SELECT id, seq, json, event_type, session_id FROM core.event WHERE " where          \
        " ORDER BY " order " LIMIT $3) AS page) AS sized WHERE before < " PAGE_BYTES               \
        " ORDER BY " order

/* What follows the subscriber's position is not kept any more: told, then ended. */
static void events_are_gone(struct subscriber *s, uint64_t oldest)
{
        char text[80];

        snprintf(text, sizeof(text), "{\"type\":\"gone\",\"oldest_available\":%" PRIu64 "}",
                 oldest);
        subscriber_end(s, "gone", text, SINK_CLOSE_GONE, "events are gone");
}

/* ---- reads, shared by those that stand at the same place ---- */

static void read_end(struct stored_read *read)
{
        list_remove(&read->link);
        free(read);
}

void subscriber_set_state(struct subscriber *s, enum subscriber_state to)
{
        struct stored_read *read = TAKE_PTR(s->read);

        s->state = to;
        list_remove(&s->rider);
        /* One that has its answer is not in its list any more, and ended by who hands it out. */
        if (read && list_empty(&read->riders) && !list_empty(&read->link)) {
                pg_forget(s->fanout->gateway->pg, read);
                read_end(read);
        }
}

static void ride(struct subscriber *s, struct stored_read *read)
{
        subscriber_set_state(s, SUBSCRIBER_READING);
        s->read = read;
        list_push_back(&read->riders, &s->rider);
}

static struct list *reads_of(const struct subscriber *s)
{
        return s->topic ? &s->topic->reads : &s->fanout->reads;
}

static struct stored_read *read_under_way(const struct subscriber *s)
{
        struct stored_read *read;

        list_foreach (read, reads_of(s), link)
                if (read->from == s->position && streq(read->tenant, s->tenant))
                        return read;
        return NULL;
}

/* ---- their answers ---- */

static void leave_all(struct stored_read *read)
{
        struct subscriber *s;

        while ((s = list_first(&read->riders, struct subscriber, rider)))
                subscriber_set_state(s, SUBSCRIBER_WAITING);
}

static void all_gone(struct stored_read *read, uint64_t oldest)
{
        struct subscriber *s, *tmp;

        list_foreach_safe (s, tmp, &read->riders, rider) {
                subscriber_set_state(s, SUBSCRIBER_WAITING);
                events_are_gone(s, oldest);
        }
}

/* One that has no room for it waits from there; one that is being closed just leaves. */
static void take_stored(struct subscriber *s, struct rendering *one, enum event_type type,
                        const char *session_id, uint64_t position)
{
        if (subscriber_wants(s, session_id) && subscriber_wants_type(s, type)) {
                struct frame *frame = rendering_for(one, s);
                if (!sink_fits(s->sink, frame) || sink_push(s->sink, frame) < 0) {
                        subscriber_set_state(s, SUBSCRIBER_WAITING);
                        return;
                }
        }
        s->position = position;
}

static void hand_out_page(struct stored_read *read, const PGresult *page)
{
        uint64_t at = read->from;

        for (int i = 0; i < PQntuples(page) && !list_empty(&read->riders); i++) {
                struct subscriber *s, *tmp;
                enum event_type type;
                struct rendering one = { .json = span_of(pg_str(page, i, 2)),
                                         .seq = (uint64_t) pg_i64(page, i, 1) };

                if (read->topic && one.seq != at + 1) {
                        all_gone(read, one.seq);
                        return;
                }
                at = read->topic ? one.seq : (uint64_t) pg_i64(page, i, 0);
                if (event_type_parse(pg_str(page, i, 3), &type) < 0)
                        type = EVENT_TYPE_LOG;
                one.type = fanout_update_type(type);
                list_foreach_safe (s, tmp, &read->riders, rider)
                        take_stored(s, &one, type, pg_str(page, i, 4), at);
                rendering_done(&one);
        }
}

/* Known, but not there: the session was deleted, or retention removed its events. */
static void nothing_there(struct stored_read *read, const PGresult *last)
{
        struct subscriber *s = list_first(&read->riders, struct subscriber, rider);

        if (PQntuples(last) > 0) {
                all_gone(read, (uint64_t) pg_i64(last, 0, 0) + 1);
        } else {
                leave_all(read);
                fanout_deleted(s->fanout, s->tenant, s->topic->session_id);
        }
}

static void page_over(struct stored_read *read, PGresult **results)
{
        const PGresult *page = results[1];
        int rows = PQntuples(page), found = rows > 0 ? (int) pg_i64(page, 0, 5) : 0;
        struct subscriber *s = list_first(&read->riders, struct subscriber, rider);

        if (read->topic && rows == 0 && s && s->position < s->topic->known_seq) {
                nothing_there(read, results[0]);
                return;
        }
        while ((s = list_first(&read->riders, struct subscriber, rider))) {
                subscriber_set_state(s, SUBSCRIBER_LIVE);
                /* The cursor was read before the page, so all up to it has been seen. */
                if (!read->topic && rows == found && (unsigned) found < read->asked)
                        s->position = MAX(s->position, (uint64_t) pg_i64(results[0], 0, 0));
                subscriber_catch_up(s);
        }
}

static void on_page(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct stored_read *read = userdata;

        list_remove(&read->link); /* who is behind from here on reads for itself */
        if (r < 0) {
                /* The poll tries again each second while a subscriber waits. */
                log_debug("reading stored events failed: %s",
                          error ? error->message : strerror(-r));
                read->fanout->gap = true;
                leave_all(read);
        } else if (!read->topic && read->from < (uint64_t) pg_i64(results[2], 0, 0)) {
                all_gone(read, (uint64_t) pg_i64(results[2], 0, 0) + 1);
        } else {
                hand_out_page(read, results[1]);
                page_over(read, results);
        }
        free(read);
}

static int read_submit(struct subscriber *s, struct stored_read *read)
{
        static const char session_sql[] = PAGE("session_id = $1 AND seq > $2", "seq");
        static const char all_sql[] = PAGE("tenant = $1 AND id > $2", "id");
        static const char cursor_sql[] = "SELECT cursor FROM core.hub";
        static const char last_sql[] = "SELECT last_seq FROM core.session WHERE session_id = $1";
        static const char expired_sql[] = "SELECT id FROM core.event_expired";
        struct pg_batch *b = pg_batch_new();

        pg_batch_tenant(b, s->tenant);
        if (s->topic)
                pg_batch_add(b, last_sql, "s", s->topic->session_id);
        else
                pg_batch_add(b, cursor_sql, "");
        pg_batch_add(b, s->topic ? session_sql : all_sql, "suu",
                     s->topic ? s->topic->session_id : s->tenant, s->position,
                     (uint64_t) read->asked);
        if (!s->topic) /* after the page: what the page missed because of it is seen here */
                pg_batch_add(b, expired_sql, "");
        return pg_submit(s->fanout->gateway->pg, b, on_page, read);
}

static void read_begin(struct subscriber *s, size_t space)
{
        struct stored_read *read = xnew(struct stored_read);

        read->fanout = s->fanout;
        read->topic = s->topic;
        (void) snprintf(read->tenant, sizeof(read->tenant), "%s", s->tenant);
        read->from = s->position;
        read->asked = (unsigned) MIN(space, FANOUT_PAGE);
        list_init(&read->riders);
        if (read_submit(s, read) < 0) {
                free(read);
                subscriber_set_state(s, SUBSCRIBER_WAITING);
                s->fanout->gap = true;
                return;
        }
        list_push_back(reads_of(s), &read->link);
        ride(s, read);
}

void subscriber_catch_up(struct subscriber *s)
{
        struct stored_read *read;
        size_t space;

        if (s->state == SUBSCRIBER_READING)
                return;
        if (s->position >= subscriber_target(s)) {
                subscriber_set_state(s, SUBSCRIBER_LIVE);
                return;
        }
        space = sink_space(s->sink);
        if (space == 0)
                subscriber_set_state(s, SUBSCRIBER_WAITING);
        else if ((read = read_under_way(s)))
                ride(s, read);
        else
                read_begin(s, space);
}

static void retry_waiting(struct fanout *f)
{
        struct subscriber *s, *tmp;
        const char *id;
        size_t iter = 0;
        void *value;

        list_foreach_safe (s, tmp, &f->all, link)
                subscriber_catch_up(s);
        while (map_next(f->topics, &iter, &id, &value))
                list_foreach_safe (s, tmp, &((struct topic *) value)->subscribers, link)
                        subscriber_catch_up(s);
}

static bool updates_before(uint64_t usec, const char *id, const struct updates_at *at)
{
        return usec < at->usec || (usec == at->usec && strcmp(id, at->id) <= 0);
}

static void updates_set(struct updates_at *at, uint64_t usec, const char *id)
{
        at->usec = usec;
        (void) snprintf(at->id, sizeof(at->id), "%s", id);
}

static void push_updated(struct subscriber *s, struct frame *frame, const struct updates_at *before)
{
        if (sink_fits(s->sink, frame))
                (void) sink_push(s->sink, frame);
        else if (s->updates.usec == before->usec && streq(s->updates.id, before->id))
                (void) sink_push(s->sink, frame); /* not one in a whole second: it lags */
        else {
                s->updates_full = true;
                s->updates = *before;
        }
}

/* Rows come in the order of their modification. What has no room in a queue now is not lost: the
 * next poll begins there for that subscriber. */
static void send_updated(struct fanout *f, PGresult *rows)
{
        int n = PQntuples(rows);
        struct updates_at before = { .usec = 1 }, last = { 0 };
        struct subscriber *s, *tmp;

        if (n == FANOUT_UPDATED) /* there are more */
                updates_set(&last, (uint64_t) pg_i64(rows, n - 1, 3), pg_str(rows, n - 1, 0));
        list_foreach (s, &f->all, link)
                s->updates_full = false;
        for (int i = 0; i < n; i++) {
                const char *id = pg_str(rows, i, 0), *tenant = pg_str(rows, i, 1);
                const struct span parts[] = { span_of("{\"type\":\"session_updated\",\"session\":"),
                                              span_of(pg_str(rows, i, 2)), span_of("}") };
                struct frame *frame = frame_ws_text(parts, ARRAY_LEN(parts), false);
                uint64_t usec = (uint64_t) pg_i64(rows, i, 3);

                list_foreach_safe (s, tmp, &f->all, link)
                        if (!s->updates_full && !updates_before(usec, id, &s->updates) &&
                            streq(s->tenant, tenant) && subscriber_wants(s, id))
                                push_updated(s, frame, &before);
                frame_unref(frame);
                updates_set(&before, usec, id);
        }
        list_foreach (s, &f->all, link)
                if (!s->updates_full)
                        s->updates = last;
}

/* Behind what updates are asked for: 5 s ago, or what some subscriber has handed over. */
static struct updates_at updates_since(const struct fanout *f)
{
        struct updates_at since = { .usec = now_realtime() - FANOUT_UPDATED_USEC };
        const struct subscriber *s;

        list_foreach (s, &f->all, link)
                if (s->updates.usec > 0 && updates_before(s->updates.usec, s->updates.id, &since))
                        since = s->updates;
        return since;
}

static void end_all(struct list *subscribers)
{
        struct subscriber *s, *tmp;

        list_foreach_safe (s, tmp, subscribers, link)
                subscriber_end(s, "resync", "{\"type\":\"resync\"}", SINK_CLOSE_GONE,
                               "the database was restored");
}

void fanout_history(struct fanout *f, uint64_t cursor, uint64_t least, const char *epoch)
{
        bool known = f->epoch[0] != '\0';
        size_t iter = 0;
        void *value;

        if (known && streq(f->epoch, epoch) && cursor >= least)
                return;
        (void) snprintf(f->epoch, sizeof(f->epoch), "%s", epoch);
        if (!known && cursor >= least)
                return;
        log_warning("the database's history is another one than before: every stream begins anew");
        f->cursor = cursor;
        f->deleted = map_free(f->deleted);
        f->deleted = map_new();
        end_all(&f->all);
        while (map_next(f->topics, &iter, NULL, &value)) {
                struct topic *t = value;

                topic_forget_joined(t);
                t->known_seq = 0;
                end_all(&t->subscribers);
        }
}

static void on_poll(void *userdata, int r, PGresult **results, size_t n,
                    const struct pg_error *error)
{
        struct fanout *f = userdata;

        f->polling = false;
        if (r < 0) {
                log_debug("polling for missed events failed: %s",
                          error ? error->message : strerror(-r));
                return; /* gap stays set: tried again in a second */
        }
        f->gap = f->doubt; /* what came meanwhile may not be in the answer */
        fanout_history(f, (uint64_t) pg_i64(results[0], 0, 0), f->polled_cursor,
                       pg_str(results[0], 0, 1));
        f->cursor = MAX(f->cursor, (uint64_t) pg_i64(results[0], 0, 0));
        for (int i = 0; i < PQntuples(results[1]); i++) {
                struct topic *t = map_get(f->topics, pg_str(results[1], i, 0));
                if (t)
                        t->known_seq = MAX(t->known_seq, (uint64_t) pg_i64(results[1], i, 1));
        }
        if (n > 3)
                send_updated(f, results[3]);
        for (int i = 0; i < PQntuples(results[2]); i++)
                fanout_deleted(f, pg_str(results[2], i, 1), pg_str(results[2], i, 0));
        retry_waiting(f);
        if (f->doubt)
                fanout_poll(f);
}

/* The sessions watched, as a PostgreSQL array literal; ids hold no character that needs quoting. */
static char *watched(struct fanout *f)
{
        cleanup_buf struct buf b = BUF_INIT;
        const char *id;
        size_t iter = 0;
        void *value;

        buf_puts(&b, "{");
        while (map_next(f->topics, &iter, &id, &value))
                buf_putf(&b, "%s\"%s\"", b.len > 1 ? "," : "", id);
        buf_puts(&b, "}");
        return buf_take(&b, NULL);
}

void fanout_poll(struct fanout *f)
{
        static const char seqs_sql[] =
                "SELECT session_id, last_seq FROM core.session WHERE session_id = ANY($1::text[])";
        static const char updated_sql[] =
                "SELECT session_id, tenant, core.session_json(s), "
                "(extract(epoch FROM modified_at) * 1000000)::bigint FROM core.session s "
                "WHERE (modified_at, session_id) > "
                "(timestamptz 'epoch' + $1::bigint * interval '1 microsecond', $2) "
                "ORDER BY modified_at, session_id LIMIT $3";
        static const char deleted_sql[] = "SELECT session_id, tenant FROM core.tombstone "
                                          "WHERE deleted_at > now() - interval '15 seconds'";
        cleanup_free char *ids = NULL;
        uint64_t now = now_monotonic();
        struct updates_at since = updates_since(f);
        struct pg_batch *b;

        if (f->polling)
                return;
        ids = watched(f);
        b = pg_batch_new();
        pg_batch_tenant(b, PG_ALL_TENANTS); /* told apart by to_all() and the topics */
        pg_batch_add(b, "SELECT cursor, db_epoch FROM core.hub", "");
        pg_batch_add(b, seqs_sql, "s", ids);
        pg_batch_add(b, deleted_sql, "");
        if (f->gap || now > f->tick_at + FANOUT_SILENCE_USEC)
                pg_batch_add(b, updated_sql, "usu", since.usec, since.id,
                             (uint64_t) FANOUT_UPDATED);
        f->doubt = false;
        f->polled_at = now;
        f->polled_cursor = f->cursor;
        f->polling = pg_submit(f->gateway->pg, b, on_poll, f) == 0;
}
