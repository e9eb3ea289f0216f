/* What a viewer may say to a display: the client half of an RFB stream, filtered. Pure, fuzzed.
 *
 * Handshake: version 3.7 or 3.8, security type None, ClientInit always rewritten to "shared".
 * Afterwards SetPixelFormat, SetEncodings (only encodings known here are left in it),
 * FramebufferUpdateRequest, EnableContinuousUpdates and Fence pass; keys and pointer only while
 * `control` is set; clipboard and desktop size never (they have routes of their own). Anything else
 * ends the viewer: with an unknown message the two sides could disagree about where the next
 * one begins, and a key press could hide there. */
#pragma once

#include "common/base/buf.h"

#define RFB_ENCODINGS_MAX 256u
#define RFB_CUT_TEXT_MAX (1u << 20)

#define RFB_PRESSED_MAX 32u /* keys held down at once; more are dropped */

struct rfb_counts {
        uint32_t clicks, keys, scrolls; /* buttons and keys that went down, turns of the wheel */
};

struct rfb_filter {
        int state;
        bool control;  /* of the takeover lease; rfb_filter_release when it goes */
        uint64_t skip; /* bytes of the current long message still to come */
        uint8_t held[4 + 4 * RFB_ENCODINGS_MAX];
        size_t n_held;
        struct rfb_counts counts; /* of what passed; the owner takes them */
        uint8_t buttons;
        uint8_t pointer[6]; /* the last pointer message that passed */
        struct {
                uint32_t keysym, keycode; /* keycode 0 = a plain key event */
        } pressed[RFB_PRESSED_MAX];
        size_t n_pressed;
};

void rfb_filter_init(struct rfb_filter *f);
/* Lets go of every key and button that went down through the filter: control has gone. */
int rfb_filter_release(struct rfb_filter *f, struct buf *out) mustuse;
/* Appends what passes to out. -EPROTO with *ret_why: the viewer must go. -EMSGSIZE from out's
 * limit. */
int rfb_filter_feed(struct rfb_filter *f, const char *data, size_t n, struct buf *out,
                    const char **ret_why) mustuse;
