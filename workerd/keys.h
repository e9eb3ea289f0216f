/* Names of keys as xdotool and models write them, and characters, as X keysyms. Pure. */
#pragma once

#include "common/base/util.h"

#define KEYS_COMBO_MAX 8

/* Keys held down in this order and let go in reverse. */
struct key_combo {
        uint32_t keysym[KEYS_COMBO_MAX];
        unsigned n;
};

/* "ctrl+shift+t", "Return", "a", "ctrl++"; names in any case. Characters that sit on a shifted key
 * of the US layout bring Shift along; a capital letter with Ctrl, Alt or Super counts as the small
 * one. -EINVAL: unknown name, nothing, or more than KEYS_COMBO_MAX keys. */
int keys_parse(const char *text, size_t n, struct key_combo *ret) mustuse;

/* As keys_parse, but every key must be a modifier; NULL or "" gives none. */
int keys_parse_modifiers(const char *text, struct key_combo *ret) mustuse;

/* How one character is typed. -EINVAL for control characters other than tab, newline and backspace.
 */
struct key_char {
        uint32_t keysym;
        bool shift; /* hold Shift: the server's layout has it there */
        bool known; /* on the US layout; others are given a key by the server when first used */
};
int keys_of_char(uint32_t codepoint, struct key_char *ret) mustuse;

/* Next code point of valid UTF-8 at *at (advanced), 0 at the end. */
uint32_t keys_next_char(const char **at, const char *end);

#define KEYS_SHIFT 0xffe1U  /* XK_Shift_L */
#define KEYS_INSERT 0xff63U /* XK_Insert */
#define KEYS_RETURN 0xff0dU /* XK_Return */
