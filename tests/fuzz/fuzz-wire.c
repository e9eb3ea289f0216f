/* Frames from a peer: opening and unpacking never crash, and what they accept packs back to the
 * same. */
#include <assert.h>
#include <msgpack.h>

#include "proto/field.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What wire_check lets through, msgpack-c must read the same way: all of it, one value. */
static void agree_with_msgpack_c(struct span in)
{
        msgpack_unpacked u;
        size_t off = 0;
        msgpack_unpacked_init(&u);
        assert(msgpack_unpack_next(&u, in.data, in.len, &off) == MSGPACK_UNPACK_SUCCESS);
        assert(off == in.len);
        msgpack_unpacked_destroy(&u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct span frame = { (const char *) data, size };
        struct wire_envelope e, again;
        void *msg, *back;
        if (wire_check(frame, WIRE_DEPTH_MAX) == 0)
                agree_with_msgpack_c(frame);
        if (wire_open(frame, &e) < 0)
                return 0;
        const struct wire_msg *type = wire_msg_by_id(e.id);
        CLEANUP(wire_arena_freep) struct wire_arena *a = wire_arena_new();
        if (!type || wire_unpack(type, e.body, a, &msg) < 0)
                return 0;
        cleanup_buf struct buf once = BUF_INIT;
        cleanup_buf struct buf twice = BUF_INIT;
        int r = wire_pack(&once, type, msg, e.flags, e.correlation);
        assert(r == 0);
        r = wire_open((struct span){ once.data, once.len }, &again);
        assert(r == 0 && again.id == e.id && again.flags == e.flags);
        r = wire_unpack(type, again.body, a, &back);
        assert(r == 0);
        r = wire_pack(&twice, type, back, e.flags, e.correlation);
        assert(r == 0 && twice.len == once.len);
        /* All but the nine bytes of the time of sending and what is before them. */
        assert(memcmp(once.data + once.len - again.body.len,
                      twice.data + twice.len - again.body.len, again.body.len) == 0);
        return 0;
}
