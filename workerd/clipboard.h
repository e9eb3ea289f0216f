/* The selections of a slot's display, by xclip in the slot: UTF-8, as RFB's own clipboard is not.
 */
#pragma once

#include "slot.h"

#define CLIPBOARD_MAX 32768 /* bytes of text; reading cuts what is longer */

/* fn comes once from the loop: r 0 or a negative errno (-ECANCELED when the slot ends); text is
 * valid UTF-8, borrowed, empty when nothing is selected. What the slot answers is untrusted. */
typedef void (*clipboard_fn)(void *userdata, int r, struct span text);
int clipboard_put(struct slot *s, struct span text, clipboard_fn fn, void *userdata) mustuse;
int clipboard_get(struct slot *s, clipboard_fn fn, void *userdata) mustuse;
