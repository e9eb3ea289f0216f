/* Looks at every byte of a client's WebSocket stream before libwebsockets does: pure, fuzzed.
 *
 * It follows frame headers and refuses what libwebsockets lets pass on some version: unmasked
 * frames, reserved bits and opcodes, lengths in a longer form than needed or beyond the limit,
 * control frames that are fragmented or longer than 125 bytes, fragments out of order, close frames
 * with a bad length, code or reason. */
#pragma once

#include "common/base/util.h"

#define WS_FRAGMENTS_MAX 4096u /* per message */
#define WS_HEAD_MAX 14u

struct ws_guard {
        uint64_t message_max;
        uint64_t left;    /* payload bytes of the current frame still to come */
        uint64_t message; /* payload bytes of the current message, all fragments */
        uint32_t fragments;
        uint8_t head[WS_HEAD_MAX];
        uint8_t n_head; /* bytes of the header collected */
        bool in_payload, in_message, closed;
        uint8_t n_control;
        uint8_t control[125]; /* unmasked payload of a close frame */
};

/* What one call found; the spans together are what may be handed on. */
struct ws_piece {
        struct span
                head; /* of a frame that begins here, complete and right; points into the guard */
        struct span payload; /* still masked; points into the data */
        bool end;            /* the frame ends here */
        uint8_t opcode;
};
struct ws_problem {
        uint16_t code; /* 1002 1007 1008 1009 */
        const char *reason;
};

void ws_guard_init(struct ws_guard *g, uint64_t message_max);
/* 0 with a piece that ends at the frame's end at the latest, *ret_used > 0 when n > 0. -EPROTO with
 * *why. After the end of a close frame everything is used up silently. */
int ws_guard_feed(struct ws_guard *g, const char *data, size_t n, size_t *ret_used,
                  struct ws_piece *ret, struct ws_problem *why) mustuse;
