/* Collects the rows of one group commit and renders its events. */
#include "batch.h"

/* Room for one more element in an array that grows by doubling. */
static void *grow(void *array, size_t n, size_t *cap, size_t size)
{
        if (n < *cap)
                return array;
        *cap = *cap ? *cap * 2 : 16;
        return xrealloc(array, *cap, size);
}

#define CLOCK_STEP_USEC (10 * USEC_PER_SEC)

struct hub_batch *batch_new(uint64_t term, uint64_t number, uint64_t cursor, uint64_t before_us)
{
        struct hub_batch *b = xnew(struct hub_batch);

        b->term = term;
        b->number = number;
        b->cursor = cursor;
        b->now_us = now_realtime();
        /* A clock that is put back a little goes on from where it was: what came later is newer. */
        if (b->now_us <= before_us && before_us - b->now_us < CLOCK_STEP_USEC)
                b->now_us = before_us + 1;
        timestamp_format(b->now_us, b->now_text);
        list_init(&b->entries);
        return b;
}

struct hub_batch *batch_free(struct hub_batch *b)
{
        if (!b)
                return NULL;
        for (size_t i = 0; i < b->n_sessions; i++) {
                memset(&b->sessions[i]->batch, 0, sizeof(b->sessions[i]->batch));
                (void) session_unref(b->sessions[i]);
                if (b->session_json)
                        free(b->session_json[i]);
        }
        free(b->session_json);
        free(b->sessions);
        for (size_t i = 0; i < b->n_copies; i++)
                (void) session_unref(b->copies[i].from);
        free(b->copies);
        free(b->events);
        free(b->attachments);
        free(b->idempotency);
        buf_done(&b->json);
        buf_done(&b->approvals_new);
        buf_done(&b->approvals_decided);
        buf_done(&b->usage);
        buf_done(&b->audit);
        free(b);
        return NULL;
}

bool batch_empty(const struct hub_batch *b)
{
        return b->n_sessions == 0 && b->n_events == 0 && b->n_idempotency == 0 && b->audit.len == 0;
}

size_t batch_bytes(const struct hub_batch *b)
{
        return b->json.len + b->approvals_new.len + b->attachment_bytes;
}

static void join(struct hub_batch *b, struct session *s)
{
        if (s->batch.member)
                return;
        b->sessions = grow(b->sessions, b->n_sessions, &b->cap_sessions, sizeof(struct session *));
        b->sessions[b->n_sessions++] = session_ref(s);
        s->batch.member = true;
        s->batch.before = s->last_seq;
}

static void render(struct buf *out, const struct session *s, uint64_t id, enum event_type type,
                   const char *when, struct span body)
{
        buf_putf(out, "{\"id\":%" PRIu64 ",\"session_id\":\"%s\",\"seq\":%" PRIu64, id, s->id,
                 s->last_seq);
        buf_putf(out, ",\"event_type\":\"%s\",\"timestamp\":\"%s\"", event_type_name(type), when);
        if (body.len > 2) {
                buf_puts(out, ",");
                buf_put(out, body.data + 1, body.len - 1);
        } else {
                buf_puts(out, "}");
        }
}

uint64_t hub_event(struct hub_batch *b, struct session *s, enum event_type type, struct span body)
{
        size_t at = b->json.len;

        join(b, s);
        s->last_seq++;
        s->modified_us = b->now_us;
        b->cursor++;
        render(&b->json, s, b->cursor, type, b->now_text, body);
        b->events = grow(b->events, b->n_events, &b->cap_events, sizeof(*b->events));
        b->events[b->n_events++] = (struct batch_event){
                .session = s,
                .id = b->cursor,
                .seq = s->last_seq,
                .type = type,
                .json_at = at,
                .json_len = b->json.len - at,
        };
        return s->last_seq;
}

uint64_t hub_last_id(const struct hub_batch *b)
{
        return b->cursor;
}

void hub_copy(struct hub_batch *b, struct session *s, const struct session *from, uint64_t oldest,
              uint64_t last_seq)
{
        join(b, s);
        b->copies = grow(b->copies, b->n_copies, &b->cap_copies, sizeof(*b->copies));
        b->copies[b->n_copies++] = (struct batch_copy){
                .session = s,
                .from = session_ref((struct session *) from),
                .first_id = b->cursor + 1,
                .oldest = oldest,
                .last_seq = last_seq,
        };
        b->cursor += last_seq >= oldest ? last_seq - oldest + 1 : 0;
        s->last_seq = last_seq;
}

void hub_append_done(struct hub_batch *b, struct session *s, const char *idem, uint64_t first_seq)
{
        struct batch_event *first = &b->events[b->n_events - (s->last_seq - first_seq + 1)];

        first->idem = idem;
        first->span = (uint32_t) (s->last_seq - first_seq + 1);
        session_remember(s, idem, first->id, first_seq, s->last_seq);
}

void hub_attachment(struct hub_batch *b, struct session *s, const struct attachment *a)
{
        join(b, s);
        b->attachments = grow(b->attachments, b->n_attachments, &b->cap_attachments,
                              sizeof(*b->attachments));
        b->attachments[b->n_attachments++] = (struct batch_attachment){ s, a };
        b->attachment_bytes += a->data.len;
}

static void put_row(struct buf *rows, struct span row)
{
        if (rows->len > 0)
                buf_puts(rows, ",");
        buf_put(rows, row.data, row.len);
}

void hub_approval_new(struct hub_batch *b, struct span row)
{
        put_row(&b->approvals_new, row);
}

void hub_approval_decided(struct hub_batch *b, struct span row)
{
        put_row(&b->approvals_decided, row);
}

void hub_usage(struct hub_batch *b, const struct session *s, const char *model,
               const struct usage *u)
{
        cleanup_buf struct buf row = BUF_INIT;
        const char *agent = s->agent_name ? s->agent_name : "";

        buf_putf(&row, "{\"session_id\":\"%s\",\"tenant\":\"%s\",\"model\":", s->id, s->tenant);
        buf_put_json_string(&row, model, strlen(model));
        buf_puts(&row, ",\"agent_name\":");
        buf_put_json_string(&row, agent, strlen(agent));
        buf_putf(&row,
                 ",\"calls\":%" PRIu64 ",\"input_tokens\":%" PRIu64 ",\"output_tokens\":%" PRIu64
                 ",\"cache_read_tokens\":%" PRIu64 ",\"cache_write_tokens\":%" PRIu64
                 ",\"cost_microusd\":%" PRIu64 "}",
                 u->turns, u->input_tokens, u->output_tokens, u->cache_read_tokens,
                 u->cache_write_tokens, u->cost_microusd);
        put_row(&b->usage, (struct span){ row.data, row.len });
}

void hub_session_insert(struct hub_batch *b, struct session *s)
{
        join(b, s);
        s->exists = true;
        s->created_us = s->modified_us = b->now_us;
        s->batch.inserted = s->batch.full = s->batch.publish = true;
}

void hub_session_write(struct hub_batch *b, struct session *s, bool publish)
{
        join(b, s);
        s->modified_us = b->now_us;
        s->batch.full = true;
        s->batch.publish |= publish;
}

void hub_entered(struct hub_batch *b, enum session_state state)
{
        b->entered[state]++;
}

void hub_session_delete(struct hub_batch *b, struct session *s)
{
        join(b, s);
        s->exists = false;
        s->purging = true;
        s->batch.deleted = true;
        session_place(s);
}

void hub_idempotency(struct hub_batch *b, const char *tenant, const char *scope, const char *key,
                     const char *digest, const char *session_id, const char *message_id,
                     uint64_t seq)
{
        b->idempotency = grow(b->idempotency, b->n_idempotency, &b->cap_idempotency,
                              sizeof(*b->idempotency));
        b->idempotency[b->n_idempotency++] = (struct batch_idempotency){
                tenant, scope, key, digest, session_id, message_id, seq,
        };
}

void hub_audit(struct hub_batch *b, const char *row)
{
        buf_putf(&b->audit, "%s%s", b->audit.len > 0 ? "," : "", row);
}

uint64_t hub_now(const struct hub_batch *b)
{
        return b->now_us;
}

const char *hub_session_json(const struct hub_batch *b, const struct session *s)
{
        for (size_t i = 0; b && b->session_json && i < b->n_sessions; i++)
                if (b->sessions[i] == s)
                        return b->session_json[i];
        return NULL;
}
