/* Packs messages by the generated tables: msgpack-c writes into a struct buf, limits are enforced.
 */
#include "proto/field.h"

#include <msgpack.h>

struct packer {
        struct buf *out;
        int r;             /* first failure of the buffer */
        const char *field; /* innermost field that could not be packed */
};

static int packer_write(void *userdata, const char *data, size_t n)
{
        struct packer *p = userdata;
        if (p->r == 0)
                p->r = buf_append(p->out, data, n);
        return p->r;
}

static int pack_fields(msgpack_packer *pk, const struct wire_struct *type, const void *msg);

/* Packs the bytes of a str, text or bin. */
static int pack_bytes(msgpack_packer *pk, const struct wire_field *f, struct span s)
{
        if (s.len > f->max)
                return -EMSGSIZE;
        if (f->kind == WIRE_BIN)
                return msgpack_pack_bin(pk, s.len) < 0 ? -EMSGSIZE
                                                       : msgpack_pack_bin_body(pk, s.data, s.len);
        /* The receiver would end the link over it: refuse it here, where somebody can be told. */
        if (s.len > 0 && !utf8_valid(s.data, s.len))
                return -EILSEQ;
        return msgpack_pack_str(pk, s.len) < 0 ? -EMSGSIZE
                                               : msgpack_pack_str_body(pk, s.data, s.len);
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the schema's structs, which gen.py bounds */
static int pack_value(msgpack_packer *pk, const struct wire_field *f, const char *at)
{
        switch (f->kind) {
        case WIRE_STR: {
                const char *s = *(const char *const *) at;
                if (!s)
                        return f->optional ? msgpack_pack_nil(pk) : -EINVAL;
                return pack_bytes(pk, f, (struct span){ s, strnlen(s, (size_t) f->max + 1) });
        }
        case WIRE_TEXT:
        case WIRE_BIN: {
                struct span s = *(const struct span *) at;
                if (!s.data && f->optional)
                        return msgpack_pack_nil(pk);
                return pack_bytes(pk, f, s.data ? s : (struct span){ "", 0 });
        }
        case WIRE_U32:
                return msgpack_pack_uint32(pk, *(const uint32_t *) at);
        case WIRE_U64:
                return msgpack_pack_uint64(pk, *(const uint64_t *) at);
        case WIRE_I64:
                return msgpack_pack_int64(pk, *(const int64_t *) at);
        case WIRE_F64:
                return msgpack_pack_double(pk, *(const double *) at);
        case WIRE_BOOL:
                return *(const bool *) at ? msgpack_pack_true(pk) : msgpack_pack_false(pk);
        case WIRE_ENUM:
                if (*(const uint32_t *) at >= f->max)
                        return -EINVAL;
                return msgpack_pack_uint32(pk, *(const uint32_t *) at);
        case WIRE_STRUCT:
                return pack_fields(pk, f->sub, at);
        case WIRE_KIND_MAX:
                break;
        }
        return -EINVAL;
}

/* NOLINTNEXTLINE(misc-no-recursion) */
static int pack_member(msgpack_packer *pk, const struct wire_field *f, const char *msg)
{
        if (!f->list) {
                if (f->offset_has != WIRE_NO_OFFSET && !*(const bool *) (msg + f->offset_has))
                        return msgpack_pack_nil(pk);
                return pack_value(pk, f, msg + f->offset);
        }
        size_t n = *(const size_t *) (msg + f->offset_n);
        const char *items = *(const char *const *) (msg + f->offset);
        if (n > f->list_max)
                return -EMSGSIZE;
        int r = msgpack_pack_array(pk, n);
        for (size_t i = 0; i < n && r >= 0; i++)
                r = pack_value(pk, f, items + i * wire_kind_size(f));
        return r;
}

/* NOLINTNEXTLINE(misc-no-recursion) */
static int pack_fields(msgpack_packer *pk, const struct wire_struct *type, const void *msg)
{
        int r = msgpack_pack_array(pk, type->n_fields);
        for (size_t i = 0; i < type->n_fields && r >= 0; i++) {
                struct packer *p = pk->data;
                r = pack_member(pk, &type->fields[i], msg);
                if (r < 0 && !p->field)
                        p->field = type->fields[i].name;
        }
        return r;
}

/* What every frame of the type begins with. */
static int pack_head(msgpack_packer *pk, const struct wire_msg *type, unsigned n)
{
        int r = msgpack_pack_array(pk, n);
        if (r >= 0)
                r = msgpack_pack_uint32(pk, WIRE_VERSION);
        if (r >= 0)
                r = msgpack_pack_uint32(pk, type->id);
        return r;
}

static int pack_envelope(msgpack_packer *pk, const struct wire_msg *type, unsigned n, uint8_t flags,
                         const uint8_t *correlation)
{
        int r = pack_head(pk, type, n);
        if (r >= 0)
                r = msgpack_pack_bin(pk, WIRE_CORRELATION);
        if (r >= 0)
                r = msgpack_pack_bin_body(pk, correlation, WIRE_CORRELATION);
        if (r >= 0)
                r = msgpack_pack_uint64(pk, now_realtime());
        if (r >= 0)
                r = msgpack_pack_uint32(pk, flags);
        return r;
}

static int pack_context(msgpack_packer *pk, struct span context)
{
        if (context.len > WIRE_CONTEXT_MAX)
                return -EMSGSIZE;
        int r = msgpack_pack_str(pk, context.len);
        return r < 0 ? r
                     : msgpack_pack_str_body(pk, context.len > 0 ? context.data : "", context.len);
}

static int pack_trace(msgpack_packer *pk, const struct trace_context *t)
{
        uint8_t bytes[WIRE_TRACE];

        memcpy(bytes, t->trace, sizeof(t->trace));
        memcpy(bytes + sizeof(t->trace), t->span, sizeof(t->span));
        bytes[WIRE_TRACE - 1] = t->sampled;
        int r = msgpack_pack_bin(pk, WIRE_TRACE);
        return r < 0 ? r : msgpack_pack_bin_body(pk, bytes, WIRE_TRACE);
}

static int pack_frame(struct packer *p, const struct wire_msg *type, const void *msg, uint8_t flags,
                      const uint8_t *correlation, struct span context,
                      const struct trace_context *trace)
{
        size_t start = buf_pending(p->out); /* appending may compact the buffer */
        msgpack_packer pk;
        msgpack_packer_init(&pk, p, packer_write);

        bool traced = trace && trace_is_set(trace);
        unsigned n = traced ? 8 : context.len > 0 ? 7 : 6;
        int r = pack_envelope(&pk, type, n, flags, correlation);
        if (r >= 0)
                r = pack_fields(&pk, &type->body, msg);
        if (r >= 0 && buf_pending(p->out) - start > type->frame_max)
                r = -EMSGSIZE;
        if (r >= 0 && n >= 7)
                r = pack_context(&pk, context);
        if (r >= 0 && traced)
                r = pack_trace(&pk, trace);
        if (r >= 0)
                return 0;
        p->out->len = p->out->off + start;
        if (p->out->data)
                p->out->data[p->out->len] = '\0';
        return p->r < 0 ? p->r : r;
}

int wire_pack(struct buf *out, const struct wire_msg *type, const void *msg, uint8_t flags,
              const uint8_t correlation[static WIRE_CORRELATION])
{
        struct packer p = { .out = out };
        return pack_frame(&p, type, msg, flags, correlation, (struct span){ 0 }, NULL);
}

int wire_pack_context(struct buf *out, const struct wire_msg *type, const void *msg, uint8_t flags,
                      const uint8_t correlation[static WIRE_CORRELATION], struct span context,
                      const struct trace_context *trace)
{
        struct packer p = { .out = out };
        return pack_frame(&p, type, msg, flags, correlation, context, trace);
}

const char *wire_pack_problem(const struct wire_msg *type, const void *msg)
{
        static const uint8_t nobody[WIRE_CORRELATION];
        cleanup_buf struct buf scratch = BUF_INIT;
        struct packer p = { .out = &scratch };
        if (pack_frame(&p, type, msg, 0, nobody, (struct span){ 0 }, NULL) == 0)
                return NULL;
        return p.field ? p.field : "the whole message";
}

size_t wire_topic(const struct wire_msg *type, uint8_t ret[static WIRE_TOPIC_MAX])
{
        cleanup_buf struct buf b = BUF_INIT;
        struct packer p = { .out = &b };
        msgpack_packer pk;
        msgpack_packer_init(&pk, &p, packer_write);
        if (pack_head(&pk, type, 6) < 0 || b.len > WIRE_TOPIC_MAX)
                return 0;
        memcpy(ret, b.data, b.len);
        return b.len;
}
