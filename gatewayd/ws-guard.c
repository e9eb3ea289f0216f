/* Guard in front of libwebsockets: a strict reader of client frame headers and close frames. */
#include "gatewayd/ws-guard.h"

enum { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

void ws_guard_init(struct ws_guard *g, uint64_t message_max)
{
        *g = (struct ws_guard){ .message_max = message_max };
}

static int refuse(struct ws_problem *why, uint16_t code, const char *reason)
{
        *why = (struct ws_problem){ code, reason };
        return -EPROTO;
}

static int check_first(const struct ws_guard *g, struct ws_problem *why)
{
        uint8_t op = g->head[0] & 0x0f;

        if (g->head[0] & 0x70)
                return refuse(why, 1002, "reserved bits are set");
        if ((op > BINARY && op < CLOSE) || op > PONG)
                return refuse(why, 1002, "unknown opcode");
        if (op >= CLOSE && !(g->head[0] & 0x80))
                return refuse(why, 1002, "fragmented control frame");
        if (op == CONTINUATION && !g->in_message)
                return refuse(why, 1002, "nothing to continue");
        if ((op == TEXT || op == BINARY) && g->in_message)
                return refuse(why, 1002, "the message before is not finished");
        return 0;
}

static int check_second(const struct ws_guard *g, struct ws_problem *why)
{
        if (!(g->head[1] & 0x80))
                return refuse(why, 1002, "frame is not masked");
        if ((g->head[0] & 0x0f) >= CLOSE && (g->head[1] & 0x7f) > 125)
                return refuse(why, 1002, "control frame is too long");
        return 0;
}

static size_t head_size(const struct ws_guard *g)
{
        if (g->n_head < 2)
                return 2;
        uint8_t len = g->head[1] & 0x7f;
        return 6 + (len == 126 ? 2u : len == 127 ? 8u : 0u);
}

static int check_length(struct ws_guard *g, struct ws_problem *why)
{
        uint8_t short_len = g->head[1] & 0x7f, op = g->head[0] & 0x0f;
        unsigned n = short_len == 126 ? 2 : short_len == 127 ? 8 : 0;
        uint64_t len = 0;

        for (unsigned i = 0; i < n; i++)
                len = len << 8 | g->head[2 + i];
        if (n == 0)
                len = short_len;
        if (len >> 63)
                return refuse(why, 1002, "length has its top bit set");
        if ((n == 2 && len < 126) || (n == 8 && len < 65536))
                return refuse(why, 1002, "length is not in its shortest form");
        if (op < CLOSE) {
                if (op != CONTINUATION)
                        g->message = g->fragments = 0;
                if (len > g->message_max || g->message + len > g->message_max)
                        return refuse(why, 1009, "message is too big");
                if (++g->fragments > WS_FRAGMENTS_MAX)
                        return refuse(why, 1008, "message has too many fragments");
                g->message += len;
        }
        g->left = len;
        return 0;
}

static bool close_code_valid(unsigned code)
{
        return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
               (code >= 3000 && code <= 4999);
}

static int check_close(const struct ws_guard *g, struct ws_problem *why)
{
        if (g->n_control == 0)
                return 0;
        if (g->n_control == 1)
                return refuse(why, 1002, "close frame of one byte");
        if (!close_code_valid((unsigned) (g->control[0] << 8 | g->control[1])))
                return refuse(why, 1002, "close code is not allowed");
        /* utf8_valid refuses NUL, which a reason may not contain in any sensible use either. */
        if (!utf8_valid((const char *) g->control + 2, g->n_control - 2u))
                return refuse(why, 1007, "close reason is not UTF-8");
        return 0;
}

static int frame_ends(struct ws_guard *g, struct ws_piece *ret, struct ws_problem *why)
{
        uint8_t op = g->head[0] & 0x0f;

        ret->end = true;
        g->in_payload = false;
        g->n_head = 0;
        if (op == CLOSE) {
                g->closed = true;
                return check_close(g, why);
        }
        if (op < CLOSE)
                g->in_message = !(g->head[0] & 0x80);
        return 0;
}

static int read_head(struct ws_guard *g, const char *data, size_t n, size_t *used,
                     struct ws_problem *why)
{
        while (*used < n && g->n_head < head_size(g)) {
                g->head[g->n_head++] = (uint8_t) data[(*used)++];
                int r = g->n_head == 1   ? check_first(g, why)
                        : g->n_head == 2 ? check_second(g, why)
                                         : 0;
                /* The mask comes last: the length is complete four bytes earlier, but one check is
                 * enough. */
                if (r == 0 && g->n_head > 2 && g->n_head == head_size(g))
                        r = check_length(g, why);
                if (r < 0)
                        return r;
        }
        return 0;
}

int ws_guard_feed(struct ws_guard *g, const char *data, size_t n, size_t *ret_used,
                  struct ws_piece *ret, struct ws_problem *why)
{
        size_t used = 0;

        *ret = (struct ws_piece){ 0 };
        *ret_used = n;
        if (g->closed)
                return 0;
        if (!g->in_payload) {
                int r = read_head(g, data, n, &used, why);
                if (r < 0 || g->n_head < 2 || g->n_head < head_size(g)) {
                        *ret_used = used;
                        return r;
                }
                g->in_payload = true;
                g->n_control = 0;
                ret->head = (struct span){ (const char *) g->head, g->n_head };
        }
        size_t take = (size_t) MIN((uint64_t) (n - used), g->left);
        uint8_t op = g->head[0] & 0x0f;
        ret->opcode = op;
        ret->payload = (struct span){ data + used, take };
        if (op == CLOSE) {
                const uint8_t *mask = g->head + 2;
                for (size_t i = 0; i < take; i++, g->n_control++)
                        g->control[g->n_control] =
                                (uint8_t) data[used + i] ^ mask[g->n_control % 4];
        }
        g->left -= take;
        *ret_used = used + take;
        return g->left == 0 ? frame_ends(g, ret, why) : 0;
}
