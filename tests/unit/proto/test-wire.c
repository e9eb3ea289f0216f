/* Golden bytes, limits, truncations and lies: what pack and unpack promise, for every message.
 *
 * Usage: test-wire GOLDEN BAD; both written by tests/system/wire.py as u32 length + frame. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <msgpack.h>

#include "proto/field.h"

static const char *golden_file, *bad_file;
static const uint8_t corr[WIRE_CORRELATION] = { 9, 8, 7 };

struct frames {
        char *data;
        size_t len, off;
};

static struct frames frames_read(const char *path)
{
        cleanup_fclose FILE *file = fopen(path, "re");
        assert_non_null(file);
        assert_int_equal(fseek(file, 0, SEEK_END), 0);
        long n = ftell(file);
        assert_true(n > 0);
        rewind(file);
        struct frames f = { .data = xmalloc((size_t) n), .len = (size_t) n };
        assert_int_equal(fread(f.data, 1, f.len, file), f.len);
        return f;
}

static bool frames_next(struct frames *f, struct span *ret)
{
        uint32_t n;
        if (f->off == f->len)
                return false;
        memcpy(&n, f->data + f->off, 4);
        *ret = (struct span){ f->data + f->off + 4, n };
        f->off += 4 + n;
        assert_true(f->off <= f->len);
        return true;
}

/* A copy of its own size on the heap, so that a sanitizer sees every byte read beyond it. */
static struct span heap_copy(struct span s, size_t len)
{
        char *p = xmalloc(len ? len : 1);
        memcpy(p, s.data, len);
        return (struct span){ p, len };
}

/* Opens and unpacks as a receiver does; 0 or the error. */
static int receive(struct span frame, struct wire_arena *a, struct wire_envelope *e, void **ret)
{
        int r = wire_open(frame, e);
        if (r < 0)
                return r;
        const struct wire_msg *type = wire_msg_by_id(e->id);
        return type ? wire_unpack(type, e->body, a, ret) : -EBADMSG;
}

static void test_golden(void **state)
{
        struct frames f = frames_read(golden_file);
        struct span frame;
        CLEANUP(wire_arena_freep) struct wire_arena *a = wire_arena_new();
        size_t n = 0;
        for (; frames_next(&f, &frame); n++) {
                struct wire_envelope e, again;
                void *msg = NULL;
                cleanup_buf struct buf out = BUF_INIT;
                assert_int_equal(receive(frame, a, &e, &msg), 0);
                const struct wire_msg *type = wire_msg_by_id(e.id);
                assert_ptr_equal(type, wire_messages[n / 3]);
                assert_int_equal(e.sent_us, UINT64_C(1795180800000000));
                assert_int_equal(e.flags, n % 3);
                assert_int_equal(e.correlation[15], 15 + n % 3);
                assert_int_equal(wire_pack(&out, type, msg, e.flags, e.correlation), 0);
                assert_null(wire_pack_problem(type, msg));
                struct span packed = { out.data, out.len };
                assert_int_equal(out.len, frame.len);
                assert_int_equal(wire_open(packed, &again), 0);
                assert_int_equal(e.body.len, again.body.len);
                assert_memory_equal(e.body.data, again.body.data, e.body.len);
                /* Up to the time of sending, nine bytes with their head, and after it. */
                size_t head = 1 + 1 + (e.id < 0x80 ? 1 : e.id < 0x100 ? 2 : 3) + 18;
                assert_memory_equal(frame.data, out.data, head);
                assert_memory_equal(frame.data + head + 9, out.data + head + 9,
                                    frame.len - head - 9);
                uint8_t topic[WIRE_TOPIC_MAX];
                size_t topic_len = wire_topic(type, topic);
                assert_true(topic_len >= 3);
                assert_memory_equal(topic, frame.data, topic_len);
                wire_arena_reset(a);
        }
        assert_int_equal(n, 3 * wire_n_messages);
        free(f.data);
}

static void test_refused(void **state)
{
        struct frames f = frames_read(bad_file);
        struct span frame;
        size_t n = 0;
        for (; frames_next(&f, &frame); n++) {
                CLEANUP(wire_arena_freep) struct wire_arena *a = wire_arena_new();
                struct wire_envelope e;
                void *msg = NULL;
                assert_int_equal(wire_open(frame, &e), 0);
                int r = receive(frame, a, &e, &msg);
                if (r != -EBADMSG)
                        print_message("frame %zu, %s\n", n, wire_msg_by_id(e.id)->body.name);
                assert_int_equal(r, -EBADMSG);
                assert_null(msg);
        }
        assert_true(n > 1000);
        free(f.data);
}

static void test_every_truncation(void **state)
{
        struct frames f = frames_read(golden_file);
        struct span frame;
        CLEANUP(wire_arena_freep) struct wire_arena *a = wire_arena_new();
        while (frames_next(&f, &frame)) {
                struct wire_envelope e;
                void *msg;
                if (frame.len > 4000)
                        continue;
                assert_int_equal(wire_open(frame, &e), 0);
                const struct wire_msg *type = wire_msg_by_id(e.id);
                for (size_t n = 0; n < frame.len; n++) {
                        struct span cut = heap_copy(frame, n);
                        struct wire_envelope ignored;
                        assert_int_equal(wire_open(cut, &ignored), -EBADMSG);
                        free((void *) cut.data);
                }
                for (size_t n = 0; n < e.body.len; n++) {
                        struct span cut = heap_copy(e.body, n);
                        assert_int_equal(wire_unpack(type, cut, a, &msg), -EBADMSG);
                        free((void *) cut.data);
                        wire_arena_reset(a);
                }
        }
        free(f.data);
}

/* Every byte of every small frame changed: any answer is right but a crash; what is accepted packs.
 */
static void test_every_byte_changed(void **state)
{
        static const uint8_t values[] = {
                0x00, 0x7f, 0x90, 0xc0, 0xc1, 0xc6, 0xd9, 0xdd, 0xdf, 0xff
        };
        struct frames f = frames_read(golden_file);
        struct span frame;
        CLEANUP(wire_arena_freep) struct wire_arena *a = wire_arena_new();
        while (frames_next(&f, &frame)) {
                if (frame.len > 700)
                        continue;
                for (size_t i = 0; i < frame.len * ARRAY_LEN(values); i++) {
                        struct span copy = heap_copy(frame, frame.len);
                        ((char *) copy.data)[i / ARRAY_LEN(values)] =
                                (char) values[i % ARRAY_LEN(values)];
                        struct wire_envelope e;
                        void *msg;
                        if (receive(copy, a, &e, &msg) == 0) {
                                cleanup_buf struct buf out = BUF_INIT;
                                assert_int_equal(
                                        wire_pack(&out, wire_msg_by_id(e.id), msg, 0, corr), 0);
                        }
                        wire_arena_reset(a);
                        free((void *) copy.data);
                }
        }
        free(f.data);
}

/* --- limits: a copy of the tables without limits packs what the real ones must refuse -----------
 */

static struct wire_field *relax(const struct wire_struct *type, struct wire_struct *ret)
{
        struct wire_field *fields = xnewn(struct wire_field, type->n_fields + 1);
        for (size_t i = 0; i < type->n_fields; i++) {
                fields[i] = type->fields[i];
                fields[i].max = UINT32_MAX - 1;
                fields[i].list_max = UINT32_MAX;
        }
        *ret = *type;
        ret->fields = fields;
        return fields;
}

/* Sets a str, text or bin of n bytes; false for other kinds. */
static bool set_bytes(const struct wire_field *f, char *at, const char *text, size_t n)
{
        switch (f->kind) {
        case WIRE_STR:
                *(const char **) at = text;
                return true;
        case WIRE_TEXT:
        case WIRE_BIN:
                *(struct span *) at = (struct span){ text, n };
                return true;
        case WIRE_ENUM:
        case WIRE_U32:
        case WIRE_U64:
        case WIRE_I64:
        case WIRE_F64:
        case WIRE_BOOL:
        case WIRE_STRUCT:
        case WIRE_KIND_MAX:
                break;
        }
        return false;
}

/* A message of the type in which all that is required is there and empty. */
static char *empty_message(const struct wire_struct *type)
{
        char *msg = xcalloc(1, type->size);
        for (size_t i = 0; i < type->n_fields; i++) {
                const struct wire_field *f = &type->fields[i];
                if (f->optional || f->list)
                        continue;
                (void) set_bytes(f, msg + f->offset, "", 0);
                if (f->kind != WIRE_STRUCT)
                        continue;
                cleanup_free char *inner = empty_message(f->sub);
                memcpy(msg + f->offset, inner, f->sub->size);
        }
        return msg;
}

/* Packs by the real and by the relaxed table; expects both ends to accept or both to refuse. */
static void check_limit(const struct wire_msg *type, const struct wire_msg *relaxed,
                        const char *msg, bool ok, const char *field)
{
        CLEANUP(wire_arena_freep) struct wire_arena *a = wire_arena_new();
        cleanup_buf struct buf out = BUF_INIT;
        struct wire_envelope e;
        void *back;
        if (wire_pack(&out, type, msg, 0, corr) != (ok ? 0 : -EMSGSIZE))
                fail_msg("%s.%s: packing", type->body.name, field);
        if (!ok) {
                assert_int_equal(out.len, 0);
                assert_string_equal(wire_pack_problem(type, msg), field);
        }
        buf_clear(&out);
        assert_int_equal(wire_pack(&out, relaxed, msg, 0, corr), 0);
        int r = out.len > WIRE_FRAME_MAX ? -EBADMSG
                                         : wire_open((struct span){ out.data, out.len }, &e);
        if (r == 0)
                r = wire_unpack(type, e.body, a, &back);
        if (r != (ok ? 0 : -EBADMSG))
                fail_msg("%s.%s: unpacking", type->body.name, field);
}

static void check_field(const struct wire_msg *type, const struct wire_msg *relaxed,
                        const struct wire_field *f)
{
        cleanup_free char *msg = empty_message(&type->body);
        for (size_t extra = 0; extra < 2; extra++) {
                cleanup_free char *text = NULL;
                cleanup_free char *items = NULL;
                if (f->list) {
                        /* One item too many, each of them as small as it may be. */
                        size_t n = f->list_max + extra, size = wire_kind_size(f);
                        items = xcalloc(n, size);
                        for (size_t i = 0; i < n; i++)
                                if (f->kind == WIRE_STRUCT) {
                                        cleanup_free char *one = empty_message(f->sub);
                                        memcpy(items + i * size, one, size);
                                } else
                                        (void) set_bytes(f, items + i * size, "", 0);
                        *(char **) (msg + f->offset) = items;
                        *(size_t *) (msg + f->offset_n) = n;
                        check_limit(type, relaxed, msg, extra == 0, f->name);
                        *(size_t *) (msg + f->offset_n) = 1;
                }
                size_t n = (size_t) f->max + extra;
                if (f->kind > WIRE_BIN)
                        continue;
                text = xmalloc(n + 1);
                memset(text, 'x', n);
                text[n] = '\0';
                (void) set_bytes(f, f->list ? items : msg + f->offset, text, n);
                check_limit(type, relaxed, msg, extra == 0, f->name);
        }
}

static void test_limits(void **state)
{
        for (size_t i = 0; i < wire_n_messages; i++) {
                const struct wire_msg *type = wire_messages[i];
                struct wire_msg relaxed = *type;
                struct wire_field *fields = relax(&type->body, &relaxed.body);
                relaxed.frame_max = SIZE_MAX;
                for (size_t k = 0; k < type->body.n_fields; k++)
                        if (type->body.fields[k].kind <= WIRE_BIN || type->body.fields[k].list)
                                check_field(type, &relaxed, &type->body.fields[k]);
                free(fields);
        }
}

static void test_frame_limit(void **state)
{
        /* Each field within its limit, the sum not. */
        size_t len = 4 * MIB;
        cleanup_free char *text = xmalloc(len);
        memset(text, 'x', len);
        struct span events[3] = { { text, len }, { text, len }, { text, len } };
        struct history_page page = { .events = events, .n_events = 2 };
        cleanup_buf struct buf out = BUF_INIT;
        assert_int_equal(wire_pack(&out, &wire_history_page, &page, 0, corr), 0);
        size_t before = out.len;
        page.n_events = 3;
        assert_int_equal(wire_pack(&out, &wire_history_page, &page, 0, corr), -EMSGSIZE);
        assert_int_equal(out.len, before);
        assert_string_equal(wire_pack_problem(&wire_history_page, &page), "the whole message");
}

/* --- what a sender may get wrong ----------------------------------------------------------------
 */

static void test_pack_mistakes(void **state)
{
        cleanup_buf struct buf out = BUF_LIMIT(60);
        struct session_cancel m = { .session_id = "s", .reason = CANCEL_REASON_MAX };
        assert_int_equal(wire_pack(&out, &wire_session_cancel, &m, 0, corr), -EINVAL);
        assert_string_equal(wire_pack_problem(&wire_session_cancel, &m), "reason");
        m.reason = CANCEL_REASON_STOP;
        m.session_id = NULL;
        assert_int_equal(wire_pack(&out, &wire_session_cancel, &m, 0, corr), -EINVAL);
        m.session_id = "\xed\xa0\x80";
        assert_int_equal(wire_pack(&out, &wire_session_cancel, &m, 0, corr), -EILSEQ);
        m.session_id = "s";
        assert_int_equal(wire_pack(&out, &wire_session_cancel, &m, 0, corr), 0);
        assert_int_equal(wire_pack(&out, &wire_session_cancel, &m, 0, corr), -EMSGSIZE);
        /* A buffer that has been read from in front, and refuses what does not fit. */
        buf_consume(&out, out.len);
        assert_int_equal(wire_pack(&out, &wire_session_cancel, &m, 0, corr), 0);
        struct wire_envelope e;
        struct span frame = { buf_head(&out), buf_pending(&out) };
        assert_int_equal(wire_open(frame, &e), 0);
        assert_int_equal(e.id, MSG_SESSION_CANCEL);
}

static void test_optionals(void **state)
{
        CLEANUP(wire_arena_freep) struct wire_arena *a = wire_arena_new();
        cleanup_buf struct buf out = BUF_INIT;
        struct wire_envelope e;
        void *msg;
        struct session_file files[2] = { { "d1", "a/b" }, { "d2", "" } };
        struct session_create in = {
                .tenant = "default",
                .request_digest = "",
                .session_name = "",
                .kind = SLOT_KIND_HEADLESS,
                .message = { "", 0 },
                .files = files,
                .n_files = 2,
                .height = 700,
                .has_width = true,
        };
        assert_int_equal(wire_pack(&out, &wire_session_create, &in, WIRE_REQUEST, corr), 0);
        assert_int_equal(receive((struct span){ out.data, out.len }, a, &e, &msg), 0);
        const struct session_create *m = msg;
        assert_int_equal(e.flags, WIRE_REQUEST);
        assert_memory_equal(e.correlation, corr, WIRE_CORRELATION);
        assert_true(now_realtime() - e.sent_us < 60 * USEC_PER_SEC);
        assert_string_equal(m->tenant, "default");
        assert_null(m->session_id);
        assert_string_equal(m->session_name, "");
        assert_int_equal(m->kind, SLOT_KIND_HEADLESS);
        assert_non_null(m->message.data);
        assert_int_equal(m->message.len, 0);
        assert_null(m->budget.data);
        assert_int_equal(m->n_files, 2);
        assert_string_equal(m->files[0].path, "a/b");
        assert_string_equal(m->files[1].document_id, "d2");
        assert_true(m->has_width);
        assert_int_equal(m->width, 0);
        assert_false(m->has_height);
        assert_int_equal(m->height, 0);
}

/* --- what an attacker may try -------------------------------------------------------------------
 */

#define SPAN(s) ((struct span){ (s), sizeof(s) - 1 })

static void test_structure(void **state)
{
        char deep[64];
        memset(deep, 0x91, sizeof(deep));
        deep[16] = 1;
        assert_int_equal(wire_check((struct span){ deep, 17 }, WIRE_DEPTH_MAX), 0);
        assert_int_equal(wire_check((struct span){ deep, 17 }, 15), -EBADMSG);
        deep[16] = (char) 0x91;
        deep[17] = 1;
        assert_int_equal(wire_check((struct span){ deep, 18 }, WIRE_DEPTH_MAX), -EBADMSG);
        assert_int_equal(wire_check((struct span){ deep, 18 }, 1000), -EBADMSG);
        cleanup_free char *abyss = xmalloc(100001);
        memset(abyss, 0x91, 100000);
        abyss[100000] = 1;
        assert_int_equal(wire_check((struct span){ abyss, 100001 }, 200000), -EBADMSG);

        assert_int_equal(wire_check(SPAN(""), 16), -EBADMSG);
        assert_int_equal(wire_check(SPAN("\x01\x02"), 16), -EBADMSG); /* two values */
        assert_int_equal(wire_check(SPAN("\xdd\xff\xff\xff\xff"), 16), -EBADMSG);
        assert_int_equal(wire_check(SPAN("\xdd\xff\xff\xff\xff\1\2\3\4\5"), 16), -EBADMSG);
        assert_int_equal(wire_check(SPAN("\xdf\x80\x00\x00\x00\1\2\3\4\5"), 16), -EBADMSG);
        assert_int_equal(wire_check(SPAN("\xc6\xff\xff\xff\xff\1\2\3\4\5"), 16), -EBADMSG);
        /* Each container alone is honest, together they announce more than there is. */
        assert_int_equal(wire_check(SPAN("\x93\x93\x93\1\1\1\1"), 16), 0 - EBADMSG);
        assert_int_equal(wire_check(SPAN("\x93\x93\x93\1\1\1\1\1\1\1"), 16), 0);
        assert_int_equal(wire_check(SPAN("\x82\1\x90\2\x80"), 16), 0);
        /* Ext types and the byte that is never used. */
        static const uint8_t refused[] = { 0xc1, 0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8 };
        for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
                char ext[32] = { (char) refused[i] };
                for (size_t n = 1; n <= sizeof(ext); n++)
                        assert_int_equal(wire_check((struct span){ ext, n }, 16), -EBADMSG);
        }
}

/* The same verdict as msgpack-c's own reader, which is safe once ours has passed the input. */
static void test_agrees_with_msgpack_c(void **state)
{
        struct frames f = frames_read(golden_file);
        struct span frame;
        while (frames_next(&f, &frame)) {
                msgpack_unpacked u;
                msgpack_unpacked_init(&u);
                size_t off = 0;
                assert_int_equal(msgpack_unpack_next(&u, frame.data, frame.len, &off),
                                 MSGPACK_UNPACK_SUCCESS);
                assert_int_equal(off, frame.len);
                assert_int_equal(u.data.type, MSGPACK_OBJECT_ARRAY);
                assert_int_equal(u.data.via.array.size, 6);
                msgpack_unpacked_destroy(&u);
        }
        free(f.data);
}

static void pack_raw(msgpack_sbuffer *out, uint32_t version, uint32_t id, size_t correlation,
                     uint32_t n)
{
        msgpack_packer pk;
        char zero[32] = { 0 };
        msgpack_sbuffer_clear(out);
        msgpack_packer_init(&pk, out, msgpack_sbuffer_write);
        msgpack_pack_array(&pk, n);
        msgpack_pack_uint32(&pk, version);
        if (n > 1)
                msgpack_pack_uint32(&pk, id);
        if (n > 2) {
                msgpack_pack_bin(&pk, correlation);
                msgpack_pack_bin_body(&pk, zero, correlation);
        }
        if (n > 3)
                msgpack_pack_uint64(&pk, 5);
        if (n > 4)
                msgpack_pack_uint32(&pk, 1);
        if (n > 5)
                msgpack_pack_array(&pk, 0);
        if (n > 6)
                msgpack_pack_str(&pk, 0); /* no context */
        if (n > 7) {
                msgpack_pack_bin(&pk, WIRE_TRACE);
                msgpack_pack_bin_body(&pk, "TTTTTTTTTTTTTTTTSSSSSSSS\x01", WIRE_TRACE);
        }
        for (uint32_t i = 8; i < n; i++)
                msgpack_pack_map(&pk, 0);
}

static int open_raw(const msgpack_sbuffer *b, struct wire_envelope *e)
{
        return wire_open((struct span){ b->data, b->size }, e);
}

static void test_trace(void **state)
{
        static const uint8_t nobody[WIRE_CORRELATION];
        struct trace_context c = { .sampled = true };
        struct wire_envelope e;
        static const char who[] = "{\"actor\":\"ann\"}";
        memset(c.trace, 7, sizeof(c.trace));
        for (int i = 0; i < 4; i++) { /* with a trace or none, with a context or none */
                cleanup_buf struct buf out = BUF_INIT;
                struct span context = i & 2 ? span_of(who) : (struct span){ 0 };
                c.span[3] = i & 1;
                assert_int_equal(wire_pack_context(&out, &wire_ok_reply, &(struct ok_reply){ 0 }, 0,
                                                   nobody, context, &c),
                                 0);
                assert_true(out.len <= wire_ok_reply.frame_max + WIRE_CONTEXT_FRAME);
                assert_int_equal(wire_open((struct span){ out.data, out.len }, &e), 0);
                assert_int_equal(e.context.len, context.len);
                assert_true(trace_is_set(&e.trace) == (i & 1));
                if (i & 1) {
                        assert_memory_equal(e.trace.trace, c.trace, sizeof(c.trace));
                        assert_memory_equal(e.trace.span, c.span, sizeof(c.span));
                        assert_true(e.trace.sampled);
                        /* One that is too short is no trace. */
                        out.data[out.len - WIRE_TRACE - 1] = WIRE_TRACE - 1;
                        assert_int_equal(wire_open((struct span){ out.data, out.len - 1 }, &e),
                                         -EBADMSG);
                }
        }
}

static void test_envelope(void **state)
{
        msgpack_sbuffer b;
        struct wire_envelope e;
        msgpack_sbuffer_init(&b);
        pack_raw(&b, 1, MSG_OK_REPLY, 16, 6);
        assert_int_equal(open_raw(&b, &e), 0);
        assert_int_equal(e.id, MSG_OK_REPLY);
        assert_int_equal(e.sent_us, 5);
        assert_int_equal(e.body.len, 1);
        assert_false(trace_is_set(&e.trace));
        pack_raw(&b, 1, MSG_OK_REPLY, 16, 8);
        assert_int_equal(open_raw(&b, &e), 0);
        assert_memory_equal(e.trace.trace, "TTTTTTTTTTTTTTTT", TRACE_ID_SIZE);
        assert_memory_equal(e.trace.span, "SSSSSSSS", TRACE_SPAN_SIZE);
        assert_true(e.trace.sampled);
        pack_raw(&b, 1, MSG_OK_REPLY, 16, 9); /* from a newer sender */
        assert_int_equal(open_raw(&b, &e), 0);
        pack_raw(&b, 2, MSG_OK_REPLY, 16, 6);
        assert_int_equal(open_raw(&b, &e), -EPROTO);
        pack_raw(&b, 0, MSG_OK_REPLY, 3, 1); /* the version is judged first */
        assert_int_equal(open_raw(&b, &e), -EPROTO);
        pack_raw(&b, 1, 0x10000, 16, 6);
        assert_int_equal(open_raw(&b, &e), -EBADMSG);
        for (uint32_t n = 1; n < 6; n++) {
                pack_raw(&b, 1, MSG_OK_REPLY, 16, n);
                assert_int_equal(open_raw(&b, &e), -EBADMSG);
        }
        pack_raw(&b, 1, MSG_OK_REPLY, 15, 6);
        assert_int_equal(open_raw(&b, &e), -EBADMSG);
        pack_raw(&b, 1, MSG_OK_REPLY, 17, 6);
        assert_int_equal(open_raw(&b, &e), -EBADMSG);
        assert_null(wire_msg_by_id(0));
        assert_null(wire_msg_by_id(0xffff));
        for (size_t i = 0; i < wire_n_messages; i++)
                assert_ptr_equal(wire_msg_by_id(wire_messages[i]->id), wire_messages[i]);
        msgpack_sbuffer_destroy(&b);
}

/* Fields that a newer sender appended are skipped, whatever they are; what an older one did not
 * know is absent. */
static void test_versions(void **state)
{
        CLEANUP(wire_arena_freep) struct wire_arena *a = wire_arena_new();
        void *msg;
        /* From a newer sibling: what we know, and three fields more. */
        static const char more[] = "\x93\x01\x02\x81\x01\x02\xcb\0\0\0\0\0\0\0\0\xa1x";
        struct message_notify known = { .session_id = "s", .epoch = 1, .seq = 2 };
        cleanup_buf struct buf frame = BUF_INIT;
        struct wire_envelope e;
        assert_int_equal(wire_pack(&frame, &wire_message_notify, &known, 0, corr), 0);
        assert_int_equal(wire_open((struct span){ buf_head(&frame), buf_pending(&frame) }, &e), 0);
        size_t at = (size_t) (e.body.data - buf_head(&frame));
        frame.data[at] = (char) (frame.data[at] + 3); /* length of a short array */
        buf_put(&frame, more, sizeof(more) - 1);
        struct span newer = { frame.data + at, frame.len - at };
        assert_int_equal(wire_unpack(&wire_message_notify, newer, a, &msg), 0);
        const struct message_notify *m = msg;
        assert_string_equal(m->session_id, "s");
        assert_int_equal(m->seq, 2);
        /* error_reply's field is optional and last. */
        struct span older = SPAN("\x92\x01\xa2no");
        assert_int_equal(wire_unpack(&wire_error_reply, older, a, &msg), 0);
        assert_null(((struct error_reply *) msg)->field);
        struct span missing = SPAN("\x91\x01");
        assert_int_equal(wire_unpack(&wire_error_reply, missing, a, &msg), -EBADMSG);
}

static void test_names(void **state)
{
        enum session_state s = SESSION_STATE_MAX;
        for (unsigned i = 0; i < SESSION_STATE_MAX; i++) {
                assert_int_equal(session_state_parse(session_state_name(i), &s), 0);
                assert_int_equal(s, i);
        }
        assert_string_equal(session_state_name(SESSION_STATE_MAX), "?");
        assert_int_equal(session_state_parse("Running", &s), -EINVAL);
        assert_int_equal(session_state_parse("", &s), -EINVAL);
        assert_int_equal(session_state_parse(NULL, &s), -EINVAL);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_golden),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_every_truncation),
                cmocka_unit_test(test_every_byte_changed),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_frame_limit),
                cmocka_unit_test(test_pack_mistakes),
                cmocka_unit_test(test_optionals),
                cmocka_unit_test(test_structure),
                cmocka_unit_test(test_agrees_with_msgpack_c),
                cmocka_unit_test(test_trace),
                cmocka_unit_test(test_envelope),
                cmocka_unit_test(test_versions),
                cmocka_unit_test(test_names),
        };
        if (argc != 3)
                return 99;
        golden_file = argv[1];
        bad_file = argv[2];
        return cmocka_run_group_tests(tests, NULL, NULL);
}
