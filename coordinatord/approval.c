/* Approvals in the mirror of their session: asked, decided, cancelled, too late. */
#include "approval.h"

#include "common/base/json.h"
#include "common/io/log.h"
#include "coordinator.h"

const char *approval_wish_read(struct approval_wish *w, const struct approval_ask *ask)
{
        struct json_problem problem;
        cleanup_json json_t *bound = NULL, *details = NULL;

        *w = (struct approval_wish){ .ask = ask };
        if (!ask->subject[0])
                return "an approval needs a subject";
        if (json_parse(ask->bound.data, ask->bound.len, &bound, &problem) < 0 ||
            !json_is_object(bound))
                return "an approval must be bound to a JSON object";
        if (ask->details.data &&
            (json_parse(ask->details.data, ask->details.len, &details, &problem) < 0 ||
             !json_is_object(details)))
                return "an approval's details must be a JSON object";
        approval_digest(approval_kind_name(ask->kind), bound, w->digest);
        w->bound = json_text(bound);
        w->details = details ? json_text(details) : NULL;
        return NULL;
}

void approval_wish_done(struct approval_wish *w)
{
        free(w->bound);
        free(w->details);
        *w = (struct approval_wish){ 0 };
}

/* ---- the mirror ---- */

static void approval_free(struct session_approval *a)
{
        free(a->subject);
        free(a->call_id);
        *a = (struct session_approval){ 0 };
}

void approvals_clear(struct session *s)
{
        for (size_t i = 0; i < s->n_approvals; i++)
                approval_free(&s->approvals[i]);
        free(s->approvals);
        s->approvals = NULL;
        s->n_approvals = 0;
        s->last_decided_seq = 0;
}

static bool standing(const struct session_approval *a)
{
        return a->status == APPROVAL_STATUS_PENDING ||
               (a->scope == APPROVAL_SCOPE_SESSION &&
                (a->status == APPROVAL_STATUS_ALLOWED || a->status == APPROVAL_STATUS_DENIED));
}

static void forget(struct session *s, size_t i)
{
        approval_free(&s->approvals[i]);
        memmove(s->approvals + i, s->approvals + i + 1,
                (s->n_approvals - i - 1) * sizeof(*s->approvals));
        s->n_approvals--;
}

/* Room for one more: the oldest that means nothing any more goes, else the oldest that is decided.
 */
static struct session_approval *room(struct session *s)
{
        if (!s->approvals)
                s->approvals = xnewn(struct session_approval, SESSION_APPROVALS);
        if (s->n_approvals == SESSION_APPROVALS) {
                size_t i = 0;
                while (i < s->n_approvals && standing(&s->approvals[i]))
                        i++;
                for (size_t k = 0; i == s->n_approvals && k < s->n_approvals; k++)
                        if (s->approvals[k].status != APPROVAL_STATUS_PENDING)
                                i = k;
                forget(s, MIN(i, s->n_approvals - 1));
        }
        return &s->approvals[s->n_approvals++];
}

void approvals_read(struct session *s, const PGresult *r)
{
        for (int i = 0; i < PQntuples(r); i++) {
                struct session_approval *a = room(s);
                (void) snprintf(a->id, sizeof(a->id), "%s", pg_str(r, i, 0));
                (void) snprintf(a->digest, sizeof(a->digest), "%s", pg_str(r, i, 1));
                a->subject = xstrdup(pg_str(r, i, 2));
                a->call_id = xstrdup(pg_str(r, i, 3));
                if (approval_kind_parse(pg_str(r, i, 4), &a->kind) < 0 ||
                    approval_status_parse(pg_str(r, i, 5), &a->status) < 0 ||
                    approval_scope_parse(pg_str(r, i, 6), &a->scope) < 0) {
                        log_warning("approval %s: its row cannot be read", a->id);
                        forget(s, s->n_approvals - 1);
                        continue;
                }
                a->decided_seq = (uint64_t) pg_i64(r, i, 7);
                s->last_decided_seq = MAX(s->last_decided_seq, a->decided_seq);
        }
}

uint64_t session_input_seq(const struct session *s)
{
        return MAX(s->last_message_seq, s->last_decided_seq);
}

struct session_approval *approval_standing(struct session *s, enum approval_kind kind,
                                           const char *digest)
{
        for (size_t i = s->n_approvals; i > 0; i--) {
                struct session_approval *a = &s->approvals[i - 1];
                if (a->kind == kind && standing(a) && streq(a->digest, digest))
                        return a;
        }
        return NULL;
}

struct session_approval *approval_find(struct session *s, const char *id)
{
        for (size_t i = 0; i < s->n_approvals; i++)
                if (streq(s->approvals[i].id, id))
                        return &s->approvals[i];
        return NULL;
}

/* ---- changes ---- */

static void put_text(struct buf *b, const char *name, const char *text)
{
        if (!text)
                return;
        buf_putf(b, ",\"%s\":", name);
        buf_put_json_string(b, text, strlen(text));
}

static size_t pending(const struct session *s)
{
        size_t n = 0;

        for (size_t i = 0; i < s->n_approvals; i++)
                n += s->approvals[i].status == APPROVAL_STATUS_PENDING;
        return n;
}

static void put_common(struct buf *b, const struct session_approval *a)
{
        buf_putf(b, "{\"approval_id\":\"%s\",\"kind\":\"%s\"", a->id, approval_kind_name(a->kind));
        put_text(b, "subject", a->subject);
        put_text(b, "tool_call_id", a->call_id);
        buf_putf(b, ",\"digest\":\"%s\",\"status\":\"%s\"", a->digest,
                 approval_status_name(a->status));
}

int approval_add(struct hub_batch *b, struct session *s, const struct approval_wish *w,
                 uint64_t timeout, struct session_approval **ret)
{
        cleanup_buf struct buf body = BUF_INIT, row = BUF_INIT;
        char expires[TIMESTAMP_MAX];
        struct session_approval *a;

        if (pending(s) >= SESSION_APPROVALS_PENDING)
                return -ENOSPC;
        a = room(s);
        uuid_make(a->id);
        (void) snprintf(a->digest, sizeof(a->digest), "%s", w->digest);
        a->subject = xstrdup(w->ask->subject);
        a->call_id = xstrdup(w->ask->call_id);
        a->kind = w->ask->kind;
        a->status = APPROVAL_STATUS_PENDING;
        timestamp_format(hub_now(b) + timeout, expires);
        put_common(&body, a);
        buf_putf(&body, ",\"bound\":%s,\"details\":%s,\"expires_at\":\"%s\"}", w->bound,
                 w->details ? w->details : "null", expires);
        uint64_t seq = hub_event(b, s, EVENT_TYPE_APPROVAL_REQUESTED,
                                 (struct span){ body.data, body.len });
        put_common(&row, a);
        put_text(&row, "session_id", s->id);
        put_text(&row, "tenant", s->tenant);
        buf_putf(&row,
                 ",\"bound\":%s,\"details\":%s,\"expires_at\":\"%s\",\"requested_seq\":%" PRIu64
                 "}",
                 w->bound, w->details ? w->details : "null", expires, seq);
        hub_approval_new(b, (struct span){ row.data, row.len });
        hub_session_write(b, s, true);
        *ret = a;
        return 0;
}

void approval_decide(struct hub_batch *b, struct session *s, struct session_approval *a,
                     const struct approval_decision *d)
{
        cleanup_buf struct buf body = BUF_INIT, row = BUF_INIT;

        a->status = d->status;
        a->scope = d->scope;
        put_common(&body, a);
        buf_putf(&body, ",\"decision\":\"%s\",\"scope\":\"%s\"",
                 a->status == APPROVAL_STATUS_ALLOWED ? "allow" : "deny",
                 approval_scope_name(a->scope));
        put_text(&body, "note", d->note);
        put_text(&body, "decided_by", d->by);
        buf_puts(&body, "}");
        a->decided_seq =
                hub_event(b, s, EVENT_TYPE_APPROVAL_DECIDED, (struct span){ body.data, body.len });
        s->last_decided_seq = a->decided_seq;
        buf_putf(&row, "{\"approval_id\":\"%s\",\"status\":\"%s\",\"scope\":\"%s\"", a->id,
                 approval_status_name(a->status), approval_scope_name(a->scope));
        put_text(&row, "note", d->note);
        put_text(&row, "decided_by", d->by);
        buf_putf(&row, ",\"decided_seq\":%" PRIu64 "}", a->decided_seq);
        hub_approval_decided(b, (struct span){ row.data, row.len });
        hub_session_write(b, s, true);
        log_info("session %s: approval %s of %s %s: %s by %s", s->id, a->id,
                 approval_kind_name(a->kind), a->subject, approval_status_name(a->status),
                 d->by ? d->by : "nobody");
}

void approvals_cancel(struct hub_batch *b, struct session *s, bool tools_only, const char *why)
{
        const struct approval_decision d = { .status = APPROVAL_STATUS_CANCELLED, .note = why };

        for (size_t i = 0; i < s->n_approvals; i++)
                if (s->approvals[i].status == APPROVAL_STATUS_PENDING &&
                    (!tools_only || s->approvals[i].kind == APPROVAL_KIND_TOOL))
                        approval_decide(b, s, &s->approvals[i], &d);
}

int approval_wake(struct hub_batch *b, struct session *s, const char *why)
{
        if (s->state != SESSION_STATE_WAITING)
                return 0;
        if (s->worker_id) /* stored at once: a holder that dies now leaves work behind */
                return session_set_state(s, b, SESSION_STATE_RUNNING, why);
        s->queued_us = hub_now(b);
        return session_set_state(s, b, SESSION_STATE_QUEUED, why);
}
