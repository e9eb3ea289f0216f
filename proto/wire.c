/* Opens frames and unpacks messages by the generated tables, with every limit enforced. */
#include "proto/field.h"
#include "proto/scan.h"

/* --- open: the envelope ----------------------------------------------------------------------- */

static int take_kind(struct span *in, enum token_kind kind, uint64_t max, struct token *t)
{
        if (wire_take(in, t) < 0 || t->kind != kind || t->u > max)
                return -EBADMSG;
        return 0;
}

int wire_open(struct span frame, struct wire_envelope *ret)
{
        struct wire_envelope e = { 0 };
        struct span in = frame;
        struct token t;
        if (frame.len == 0 || frame.len > WIRE_FRAME_MAX || wire_check(frame, WIRE_DEPTH_MAX) < 0)
                return -EBADMSG;
        if (take_kind(&in, TOKEN_ARRAY, 64, &t) < 0 || t.u == 0)
                return -EBADMSG;
        uint64_t n = t.u;
        /* The version comes first and is judged before anything else is believed. */
        if (take_kind(&in, TOKEN_UINT, UINT32_MAX, &t) < 0)
                return -EBADMSG;
        if (t.u != WIRE_VERSION)
                return -EPROTO;
        if (n < 6 || take_kind(&in, TOKEN_UINT, UINT16_MAX, &t) < 0)
                return -EBADMSG;
        e.id = (uint16_t) t.u;
        if (take_kind(&in, TOKEN_BIN, 0, &t) < 0 || t.s.len != WIRE_CORRELATION)
                return -EBADMSG;
        memcpy(e.correlation, t.s.data, WIRE_CORRELATION);
        if (take_kind(&in, TOKEN_UINT, UINT64_MAX, &t) < 0)
                return -EBADMSG;
        e.sent_us = t.u;
        if (take_kind(&in, TOKEN_UINT, UINT8_MAX, &t) < 0)
                return -EBADMSG;
        e.flags = (uint8_t) t.u;
        e.body.data = in.data;
        if (wire_skip(&in, WIRE_DEPTH_MAX) < 0)
                return -EBADMSG;
        e.body.len = (size_t) (in.data - e.body.data);
        if (n >= 7) {
                if (take_kind(&in, TOKEN_STR, 0, &t) < 0 || t.s.len > WIRE_CONTEXT_MAX ||
                    memchr(t.s.data, 0, t.s.len) || !utf8_valid(t.s.data, t.s.len))
                        return -EBADMSG;
                e.context = t.s;
        }
        if (n >= 8) {
                if (take_kind(&in, TOKEN_BIN, 0, &t) < 0 || t.s.len < WIRE_TRACE)
                        return -EBADMSG;
                memcpy(e.trace.trace, t.s.data, TRACE_ID_SIZE);
                memcpy(e.trace.span, t.s.data + TRACE_ID_SIZE, TRACE_SPAN_SIZE);
                e.trace.sampled = t.s.data[WIRE_TRACE - 1] & 1;
        }
        *ret = e;
        return 0;
}

/* --- arena ------------------------------------------------------------------------------------ */

#define ARENA_CHUNK 8192

struct arena_chunk {
        struct arena_chunk *next;
        size_t used, cap;
        _Alignas(max_align_t) char data[];
};
struct wire_arena {
        struct arena_chunk *chunks; /* the newest first */
};

struct wire_arena *wire_arena_new(void)
{
        return xnew(struct wire_arena);
}

void wire_arena_reset(struct wire_arena *a)
{
        struct arena_chunk *keep = NULL;
        for (struct arena_chunk *c = a->chunks, *next; c; c = next) {
                next = c->next;
                if (!keep && c->cap == ARENA_CHUNK) {
                        keep = c;
                        keep->used = 0;
                } else
                        free(c);
        }
        if (keep)
                keep->next = NULL;
        a->chunks = keep;
}

struct wire_arena *wire_arena_free(struct wire_arena *a)
{
        if (!a)
                return NULL;
        for (struct arena_chunk *c = a->chunks, *next; c; c = next) {
                next = c->next;
                free(c);
        }
        free(a);
        return NULL;
}

/* n comes from a peer, checked against the schema and the frame: may fail, never dies. */
static void *arena_take(struct wire_arena *a, size_t n)
{
        n = (n + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
        struct arena_chunk *c = a->chunks;
        if (!c || c->cap - c->used < n) {
                size_t cap = MAX(n, (size_t) ARENA_CHUNK);
                c = malloc(sizeof(*c) + cap);
                if (!c)
                        return NULL;
                *c = (struct arena_chunk){ .cap = cap, .next = a->chunks };
                a->chunks = c;
        }
        void *p = c->data + c->used;
        c->used += n;
        memset(p, 0, n);
        return p;
}

/* --- unpack ----------------------------------------------------------------------------------- */

static int unpack_fields(const struct wire_struct *type, struct span *in, struct wire_arena *a,
                         void *msg);

static int unpack_bytes(const struct wire_field *f, const struct token *t, struct wire_arena *a,
                        char *at)
{
        if (t->kind != (f->kind == WIRE_BIN ? TOKEN_BIN : TOKEN_STR) || t->s.len > f->max)
                return -EBADMSG;
        if (f->kind != WIRE_BIN && t->s.len > 0 && !utf8_valid(t->s.data, t->s.len))
                return -EBADMSG;
        if (f->kind != WIRE_STR) {
                *(struct span *) at = t->s;
                return 0;
        }
        char *copy = arena_take(a, t->s.len + 1);
        if (!copy)
                return -ENOMEM;
        memcpy(copy, t->s.data, t->s.len);
        *(const char **) at = copy;
        return 0;
}

static int unpack_number(const struct wire_field *f, const struct token *t, char *at)
{
        bool is_uint = t->kind == TOKEN_UINT;
        switch (f->kind) {
        case WIRE_U32:
        case WIRE_ENUM:
                if (!is_uint || t->u > UINT32_MAX || (f->kind == WIRE_ENUM && t->u >= f->max))
                        return -EBADMSG;
                *(uint32_t *) at = (uint32_t) t->u;
                return 0;
        case WIRE_U64:
                if (!is_uint)
                        return -EBADMSG;
                *(uint64_t *) at = t->u;
                return 0;
        case WIRE_I64:
                if (t->kind != TOKEN_INT && (!is_uint || t->u > INT64_MAX))
                        return -EBADMSG;
                *(int64_t *) at = is_uint ? (int64_t) t->u : t->i;
                return 0;
        case WIRE_F64:
                if (t->kind != TOKEN_FLOAT && t->kind != TOKEN_INT && !is_uint)
                        return -EBADMSG;
                *(double *) at = t->kind == TOKEN_FLOAT ? t->d
                                 : is_uint              ? (double) t->u
                                                        : (double) t->i;
                return 0;
        case WIRE_BOOL:
                if (t->kind != TOKEN_BOOL)
                        return -EBADMSG;
                *(bool *) at = t->u == 1;
                return 0;
        case WIRE_STR:
        case WIRE_TEXT:
        case WIRE_BIN:
        case WIRE_STRUCT:
        case WIRE_KIND_MAX:
                break;
        }
        return -EBADMSG;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the schema's structs, which gen.py bounds */
static int unpack_value(const struct wire_field *f, struct span *in, struct wire_arena *a, char *at)
{
        if (f->kind == WIRE_STRUCT)
                return unpack_fields(f->sub, in, a, at);
        struct token t;
        if (wire_take(in, &t) < 0)
                return -EBADMSG;
        if (f->kind == WIRE_STR || f->kind == WIRE_TEXT || f->kind == WIRE_BIN)
                return unpack_bytes(f, &t, a, at);
        return unpack_number(f, &t, at);
}

/* NOLINTNEXTLINE(misc-no-recursion) */
static int unpack_list(const struct wire_field *f, struct span *in, struct wire_arena *a, char *msg)
{
        struct token t;
        if (wire_take(in, &t) < 0 || t.kind != TOKEN_ARRAY || t.u > f->list_max)
                return -EBADMSG;
        char *items = t.u > 0 ? arena_take(a, t.u * wire_kind_size(f)) : NULL;
        if (t.u > 0 && !items)
                return -ENOMEM;
        for (size_t i = 0; i < t.u; i++) {
                int r = unpack_value(f, in, a, items + i * wire_kind_size(f));
                if (r < 0)
                        return r;
        }
        *(char **) (msg + f->offset) = items;
        *(size_t *) (msg + f->offset_n) = (size_t) t.u;
        return 0;
}

/* NOLINTNEXTLINE(misc-no-recursion) */
static int unpack_field(const struct wire_field *f, struct span *in, struct wire_arena *a,
                        char *msg)
{
        if (f->list)
                return unpack_list(f, in, a, msg);
        if (f->optional && in->len > 0 && (uint8_t) in->data[0] == 0xc0) {
                in->data++;
                in->len--;
                return 0;
        }
        int r = unpack_value(f, in, a, msg + f->offset);
        if (r == 0 && f->offset_has != WIRE_NO_OFFSET)
                *(bool *) (msg + f->offset_has) = true;
        return r;
}

/* NOLINTNEXTLINE(misc-no-recursion) */
static int unpack_fields(const struct wire_struct *type, struct span *in, struct wire_arena *a,
                         void *msg)
{
        struct token t;
        if (wire_take(in, &t) < 0 || t.kind != TOKEN_ARRAY)
                return -EBADMSG;
        for (size_t i = 0; i < type->n_fields; i++) {
                const struct wire_field *f = &type->fields[i];
                if (i >= t.u) {
                        /* From an older sender: what was appended later and is optional is absent.
                         */
                        if (!f->optional)
                                return -EBADMSG;
                        continue;
                }
                int r = unpack_field(f, in, a, msg);
                if (r < 0)
                        return r;
        }
        for (uint64_t i = type->n_fields; i < t.u; i++) /* from a newer sender */
                if (wire_skip(in, WIRE_DEPTH_MAX) < 0)
                        return -EBADMSG;
        return 0;
}

int wire_unpack(const struct wire_msg *type, struct span body, struct wire_arena *a, void **ret)
{
        if (body.len > type->frame_max || wire_check(body, WIRE_DEPTH_MAX) < 0)
                return -EBADMSG;
        void *msg = arena_take(a, type->body.size);
        if (!msg)
                return -ENOMEM;
        int r = unpack_fields(&type->body, &body, a, msg);
        if (r < 0)
                return r;
        *ret = msg;
        return 0;
}

const struct wire_msg *wire_msg_by_id(uint16_t id)
{
        size_t low = 0, high = wire_n_messages;
        while (low < high) {
                size_t mid = low + (high - low) / 2;
                if (wire_messages[mid]->id == id)
                        return wire_messages[mid];
                if (wire_messages[mid]->id < id)
                        low = mid + 1;
                else
                        high = mid;
        }
        return NULL;
}
