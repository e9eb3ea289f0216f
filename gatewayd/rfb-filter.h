/* What a viewer may say to a display: the client half of an RFB stream, filtered. Pure, fuzzed.
 *
 * Handshake: version 3.7 or 3.8, security type None, ClientInit always rewritten to "shared".
 * Afterwards SetPixelFormat, SetEncodings (only encodings known here are left in it),
 * FramebufferUpdateRequest, EnableContinuousUpdates and Fence pass; keys, pointer, clipboard and
 * desktop size are dropped, or pass keys, pointer and clipboard while `control` is set. Anything
 * else ends the viewer: with an unknown message the two sides could disagree about where the next
 * one begins, and a key press could hide there. */
#pragma once

#include "common/base/buf.h"

#define RFB_ENCODINGS_MAX 256u
#define RFB_CUT_TEXT_MAX (1u << 20)

struct rfb_filter {
        int state;
        bool control;  /* hook of the control lease: may be changed between messages */
        bool pass;     /* the rest of the current long message passes */
        uint64_t skip; /* bytes of the current long message still to come */
        uint8_t held[4 + 4 * RFB_ENCODINGS_MAX];
        size_t n_held;
};

void rfb_filter_init(struct rfb_filter *f);
/* Appends what passes to out. -EPROTO with *ret_why: the viewer must go. -EMSGSIZE from out's
 * limit. */
int rfb_filter_feed(struct rfb_filter *f, const char *data, size_t n, struct buf *out,
                    const char **ret_why) mustuse;
