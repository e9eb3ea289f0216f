/* How messages travel: generic pack and unpack of the structs that gen.py makes from the schemas.
 *
 * Frame = msgpack array [version, message id, correlation (bin 16), sent at (us since 1970), flags,
 * body, context, trace]; the last two are optional. context: a short text about who asks, for
 * requests that gatewayd makes for a client (see gatewayd/audit.h). trace: bin of 16 bytes trace
 * id, 8 bytes span id, 1 byte flags (1 = sampled), where the request stands in its trace. body =
 * msgpack array of the message's fields in schema order, append-only. Receivers ignore extra
 * trailing fields of body and frame; fields missing at the end of body are absent (optional) or an
 * error. Packing goes through msgpack-c. Reading does not: msgpack-c 4 trusts announced counts (5
 * bytes made it map 2 GB), so a small reader of our own checks the structure (depth, every
 * announced element has at least a byte left, no ext types) and unpacks straight into the structs,
 * limits first, then memory.
 *
 * C types by schema type: str -> const char * (NUL-terminated, no NUL inside, valid UTF-8; NULL =
 * absent), text -> struct span (valid UTF-8), bin -> struct span (data NULL = absent), u32 u64 i64
 * f64 bool, enum:x -> enum x, struct:x -> struct x (nested), list:T -> { T *NAME; size_t n_NAME; }.
 * Optional scalars have `bool has_NAME`.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/trace.h"

#define WIRE_VERSION 1
#define WIRE_DEPTH_MAX 16
#define WIRE_CORRELATION 16
#define WIRE_CONTEXT_MAX 2048u /* bytes of text */
#define WIRE_TRACE 25
#define WIRE_CONTEXT_FRAME 2088 /* what context and trace add to a frame */

struct wire_field;
struct wire_struct {
        const char *name;
        const struct wire_field *fields;
        size_t n_fields;
        size_t size; /* sizeof the C struct */
};
struct wire_msg {
        struct wire_struct body;
        uint16_t id;
        const struct wire_msg *reply; /* NULL: one-way */
        size_t frame_max;             /* largest legal frame, from the schema's limits */
};

enum wire_flags {
        WIRE_REQUEST = 1, /* wants a reply */
        WIRE_REPLY = 2,   /* is one */
};

struct wire_envelope {
        uint16_t id;
        uint8_t flags;
        uint8_t correlation[WIRE_CORRELATION];
        uint64_t sent_us;
        struct span body;    /* borrowed from the frame */
        struct span context; /* likewise, valid UTF-8 without NUL; data NULL = none */
        struct trace_context trace;
};

/* Appends a whole frame. msg may be NULL for a message without fields. Leaves `out` as it was on
 * failure: -EMSGSIZE (a field, the frame or the buffer is over its limit), -EINVAL (a required str
 * is NULL, an enum is out of range), -EILSEQ (a str or text is not valid UTF-8). A required text or
 * bin may be {NULL, 0}. */
int wire_pack(struct buf *out, const struct wire_msg *type, const void *msg, uint8_t flags,
              const uint8_t correlation[static WIRE_CORRELATION]) mustuse;
/* With a context, where one without length is none (longer than WIRE_CONTEXT_MAX: -EMSGSIZE), and a
 * place in a trace, which may be NULL or unset. */
int wire_pack_context(struct buf *out, const struct wire_msg *type, const void *msg, uint8_t flags,
                      const uint8_t correlation[static WIRE_CORRELATION], struct span context,
                      const struct trace_context *trace) mustuse;

/* The bytes that every frame of the type begins with: what a subscriber filters the bus by. Returns
 * their number. */
#define WIRE_TOPIC_MAX 8
size_t wire_topic(const struct wire_msg *type, uint8_t ret[static WIRE_TOPIC_MAX]) mustuse;

/* For logs after a failed wire_pack: the name of the field at fault; NULL when there is none. */
const char *wire_pack_problem(const struct wire_msg *type, const void *msg);

/* 0, -EBADMSG (not a well-formed frame), -EPROTO (other version). */
int wire_open(struct span frame, struct wire_envelope *ret) mustuse;

/* Decoded messages live in an arena; strings of type text and bin borrow from the frame. */
struct wire_arena;
struct wire_arena *wire_arena_new(void);
struct wire_arena *wire_arena_free(struct wire_arena *a);
DEFINE_CLEANUP(struct wire_arena, wire_arena_free)
/* Forgets all messages, keeps a little memory for the next ones. */
void wire_arena_reset(struct wire_arena *a);
/* *ret points to a struct of type->body.size inside the arena. -EBADMSG when a field is missing, of
 * the wrong type or over its limit. */
int wire_unpack(const struct wire_msg *type, struct span body, struct wire_arena *a,
                void **ret) mustuse;

/* Structure check only; what every unpack runs first. */
int wire_check(struct span data, unsigned depth_max) mustuse;

const struct wire_msg *wire_msg_by_id(uint16_t id); /* NULL when unknown */

#include "proto/messages.h" /* generated: enums, structs, extern const struct wire_msg wire_NAME */
