/* The helper's stream to the worker: length-prefixed frames, and which function serves which
 * message. */
#include "helper.h"

#include <arpa/inet.h>
#include <unistd.h>

void helper_die(const char *why)
{
        /* Goes to the pipe the worker reads while a slot starts. */
        (void) !write(2, "berth-guest: ", 13);
        (void) !write(2, why, strlen(why));
        (void) !write(2, "\n", 1);
        _exit(1);
}

void helper_send(struct helper *h, const struct wire_msg *type, const void *msg)
{
        static const uint8_t correlation[WIRE_CORRELATION];
        uint32_t length = 0;
        /* Counted from the first byte not yet sent: the buffer may move what it holds. */
        size_t before = buf_pending(&h->out);
        buf_put(&h->out, &length, sizeof(length));
        if (wire_pack(&h->out, type, msg, 0, correlation) < 0)
                helper_die("a message does not fit its schema");
        char *at = h->out.data + h->out.off + before;
        length = htonl((uint32_t) (h->out.data + h->out.len - at - sizeof(length)));
        memcpy(at, &length, sizeof(length));
}

void helper_flush(struct helper *h)
{
        while (buf_pending(&h->out) > 0) {
                ssize_t n = write(h->stream, buf_head(&h->out), buf_pending(&h->out));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return;
                if (n < 0)
                        helper_die("the worker is gone");
                buf_consume(&h->out, (size_t) n);
        }
}

static void dispatch(struct helper *h, struct span frame)
{
        struct wire_envelope e;
        if (wire_open(frame, &e) < 0)
                helper_die("bad frame");
        const struct wire_msg *type = wire_msg_by_id(e.id);
        void *msg;
        if (!type || wire_unpack(type, e.body, h->arena, &msg) < 0)
                helper_die("bad message");
        switch (e.id) {
        case MSG_GUEST_SPAWN:
                command_spawn(h, msg);
                break;
        case MSG_GUEST_INPUT:
                command_input(h, msg);
                break;
        case MSG_GUEST_ACK:
                command_ack(h, msg);
                break;
        case MSG_GUEST_RESIZE:
                command_resize(h, msg);
                break;
        case MSG_GUEST_KILL:
                command_kill(h, msg);
                break;
        case MSG_GUEST_READ:
                file_read(h, msg);
                break;
        case MSG_GUEST_WRITE:
                file_write(h, msg);
                break;
        case MSG_GUEST_REMOVE:
                file_remove(h, msg);
                break;
        case MSG_GUEST_LIST:
                file_list(h, msg);
                break;
        default:
                helper_die("unknown message");
        }
        wire_arena_reset(h->arena);
}

void helper_receive(struct helper *h)
{
        if (buf_reserve(&h->in, 2 * CHUNK) < 0)
                helper_die("no memory");
        ssize_t n = read(h->stream, buf_tail(&h->in), 2 * CHUNK);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0)
                helper_die("the worker is gone");
        buf_added(&h->in, (size_t) n);
        while (buf_pending(&h->in) >= sizeof(uint32_t)) {
                uint32_t length;
                memcpy(&length, buf_head(&h->in), sizeof(length));
                length = ntohl(length);
                if (length == 0 || length > FRAME_MAX)
                        helper_die("bad length");
                if (buf_pending(&h->in) < sizeof(length) + length)
                        return;
                dispatch(h, (struct span){ buf_head(&h->in) + sizeof(length), length });
                buf_consume(&h->in, sizeof(length) + length);
        }
}
