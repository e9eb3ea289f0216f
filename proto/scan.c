/* Reads msgpack one value at a time: bounded, allocates nothing, believes nothing. */
#include "proto/scan.h"

static int take_be(struct span *in, unsigned bytes, uint64_t *ret)
{
        if (in->len < bytes)
                return -EBADMSG;
        uint64_t v = 0;
        for (unsigned i = 0; i < bytes; i++)
                v = v << 8 | (uint8_t) in->data[i];
        in->data += bytes;
        in->len -= bytes;
        *ret = v;
        return 0;
}

static int take_bytes(struct span *in, uint64_t n, struct token *t)
{
        if (n > in->len)
                return -EBADMSG;
        t->s = (struct span){ in->data, (size_t) n };
        in->data += n;
        in->len -= n;
        return 0;
}

/* Containers: every announced element needs at least one byte that is still there. */
static int take_count(struct span *in, enum token_kind kind, uint64_t n, struct token *t)
{
        t->kind = kind;
        t->u = kind == TOKEN_MAP ? 2 * n : n;
        return t->u > in->len ? -EBADMSG : 0;
}

static int take_sized(struct span *in, enum token_kind kind, unsigned bytes, struct token *t)
{
        uint64_t n;
        if (take_be(in, bytes, &n) < 0)
                return -EBADMSG;
        t->kind = kind;
        return kind == TOKEN_ARRAY || kind == TOKEN_MAP ? take_count(in, kind, n, t)
                                                        : take_bytes(in, n, t);
}

static int take_int(struct span *in, unsigned bytes, struct token *t)
{
        uint64_t v;
        if (take_be(in, bytes, &v) < 0)
                return -EBADMSG;
        unsigned shift = 64 - 8 * bytes;
        int64_t i = (int64_t) (v << shift) >> shift;
        t->kind = i < 0 ? TOKEN_INT : TOKEN_UINT;
        t->i = i;
        t->u = i < 0 ? 0 : (uint64_t) i;
        return 0;
}

static int take_float(struct span *in, unsigned bytes, struct token *t)
{
        uint64_t v;
        if (take_be(in, bytes, &v) < 0)
                return -EBADMSG;
        t->kind = TOKEN_FLOAT;
        if (bytes == 4) {
                uint32_t v32 = (uint32_t) v;
                float f;
                memcpy(&f, &v32, sizeof(f));
                t->d = f;
        } else
                memcpy(&t->d, &v, sizeof(t->d));
        return 0;
}

static int take_uint(struct span *in, unsigned bytes, struct token *t)
{
        t->kind = TOKEN_UINT;
        return take_be(in, bytes, &t->u);
}

/* Reads one head (and a string's bytes) off the front. */
int wire_take(struct span *in, struct token *t)
{
        uint64_t b;
        if (take_be(in, 1, &b) < 0)
                return -EBADMSG;
        *t = (struct token){ .kind = TOKEN_UINT };
        if (b <= 0x7f) {
                t->u = b;
                return 0;
        }
        if (b <= 0x8f)
                return take_count(in, TOKEN_MAP, b & 0x0f, t);
        if (b <= 0x9f)
                return take_count(in, TOKEN_ARRAY, b & 0x0f, t);
        if (b <= 0xbf) {
                t->kind = TOKEN_STR;
                return take_bytes(in, b & 0x1f, t);
        }
        if (b >= 0xe0) {
                t->kind = TOKEN_INT;
                t->i = (int64_t) b - 0x100;
                return 0;
        }
        switch (b) {
        case 0xc0:
                t->kind = TOKEN_NIL;
                return 0;
        case 0xc2:
        case 0xc3:
                t->kind = TOKEN_BOOL;
                t->u = b & 1;
                return 0;
        case 0xc4:
        case 0xc5:
        case 0xc6:
                return take_sized(in, TOKEN_BIN, 1U << (b - 0xc4), t);
        case 0xca:
        case 0xcb:
                return take_float(in, 4U << (b - 0xca), t);
        case 0xcc:
        case 0xcd:
        case 0xce:
        case 0xcf:
                return take_uint(in, 1U << (b - 0xcc), t);
        case 0xd0:
        case 0xd1:
        case 0xd2:
        case 0xd3:
                return take_int(in, 1U << (b - 0xd0), t);
        case 0xd9:
        case 0xda:
        case 0xdb:
                return take_sized(in, TOKEN_STR, 1U << (b - 0xd9), t);
        case 0xdc:
        case 0xdd:
                return take_sized(in, TOKEN_ARRAY, 2U << (b - 0xdc), t);
        case 0xde:
        case 0xdf:
                return take_sized(in, TOKEN_MAP, 2U << (b - 0xde), t);
        default: /* 0xc1 is never used; the rest are ext types, which Berth has none of */
                return -EBADMSG;
        }
}

/* Takes one whole value off the front. `open` are the elements of all containers not yet seen: when
 * they outnumber the bytes left, somebody lied, and we stop before having looked at any of them. */
int wire_skip(struct span *in, unsigned depth_max)
{
        uint64_t left[WIRE_DEPTH_MAX + 1];
        unsigned depth = 0;
        uint64_t open = 1;
        left[0] = 1;
        for (;;) {
                while (left[depth] == 0) {
                        if (depth == 0)
                                return 0;
                        depth--;
                }
                left[depth]--;
                open--;
                struct token t;
                if (wire_take(in, &t) < 0)
                        return -EBADMSG;
                if (t.kind != TOKEN_ARRAY && t.kind != TOKEN_MAP)
                        continue;
                if (depth >= depth_max)
                        return -EBADMSG;
                open += t.u;
                if (open > in->len)
                        return -EBADMSG;
                left[++depth] = t.u;
        }
}

int wire_check(struct span data, unsigned depth_max)
{
        int r = wire_skip(&data, MIN(depth_max, (unsigned) WIRE_DEPTH_MAX));
        return r < 0 ? r : data.len == 0 ? 0 : -EBADMSG;
}
