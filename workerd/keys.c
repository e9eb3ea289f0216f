/* Key names to keysyms: aliases of our own first, then xkbcommon's table of X names. */
#include "keys.h"

#include <strings.h>
#include <xkbcommon/xkbcommon.h>

static const struct {
        const char *name;
        uint32_t keysym;
} aliases[] = {
        { "alt", XKB_KEY_Alt_L },
        { "altgr", XKB_KEY_ISO_Level3_Shift },
        { "arrowdown", XKB_KEY_Down },
        { "arrowleft", XKB_KEY_Left },
        { "arrowright", XKB_KEY_Right },
        { "arrowup", XKB_KEY_Up },
        { "capslock", XKB_KEY_Caps_Lock },
        { "cmd", XKB_KEY_Super_L },
        { "command", XKB_KEY_Super_L },
        { "control", XKB_KEY_Control_L },
        { "ctrl", XKB_KEY_Control_L },
        { "del", XKB_KEY_Delete },
        { "enter", XKB_KEY_Return },
        { "esc", XKB_KEY_Escape },
        { "ins", XKB_KEY_Insert },
        { "meta", XKB_KEY_Super_L },
        { "numlock", XKB_KEY_Num_Lock },
        { "option", XKB_KEY_Alt_L },
        { "pagedown", XKB_KEY_Page_Down },
        { "pageup", XKB_KEY_Page_Up },
        { "pgdn", XKB_KEY_Page_Down },
        { "pgup", XKB_KEY_Page_Up },
        { "printscreen", XKB_KEY_Print },
        { "prtsc", XKB_KEY_Print },
        { "scrolllock", XKB_KEY_Scroll_Lock },
        { "shift", XKB_KEY_Shift_L },
        { "spacebar", XKB_KEY_space },
        { "super", XKB_KEY_Super_L },
        { "win", XKB_KEY_Super_L },
        { "windows", XKB_KEY_Super_L },
};

static const uint32_t modifiers[] = {
        XKB_KEY_Shift_L, XKB_KEY_Shift_R, XKB_KEY_Control_L,        XKB_KEY_Control_R,
        XKB_KEY_Alt_L,   XKB_KEY_Alt_R,   XKB_KEY_Super_L,          XKB_KEY_Super_R,
        XKB_KEY_Meta_L,  XKB_KEY_Meta_R,  XKB_KEY_ISO_Level3_Shift,
};

/* The two characters of each key of the US layout that is not a letter. */
static const char pairs[] = "`~1!2@3#4$5%6^7&8*9(0)-_=+[{]}\\|;:'\",<.>/?";

static bool is_modifier(uint32_t keysym)
{
        for (size_t i = 0; i < ARRAY_LEN(modifiers); i++)
                if (modifiers[i] == keysym)
                        return true;
        return false;
}

static bool is_shift(uint32_t keysym)
{
        return keysym == XKB_KEY_Shift_L || keysym == XKB_KEY_Shift_R;
}

/* Place of a character in `pairs`: even = plain, odd = shifted; -1 = not there. */
static int pair_of(uint32_t c)
{
        const char *at = c > ' ' && c < 127 ? strchr(pairs, (int) c) : NULL;
        return at ? (int) (at - pairs) : -1;
}

static bool is_shifted(uint32_t c)
{
        return (c >= 'A' && c <= 'Z') || pair_of(c) % 2 == 1;
}

static uint32_t with_shift(uint32_t c)
{
        int at = pair_of(c);
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 'A';
        return at >= 0 && at % 2 == 0 ? (uint32_t) pairs[at + 1] : c;
}

uint32_t keys_next_char(const char **at, const char *end)
{
        const unsigned char *s = (const unsigned char *) *at;
        if (*at >= end)
                return 0;
        unsigned n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
        uint32_t c = n == 1 ? s[0] : s[0] & (0x7fU >> n);
        for (unsigned i = 1; i < n && *at + i < end; i++)
                c = c << 6 | (s[i] & 0x3f);
        *at += MIN((ptrdiff_t) n, end - *at);
        return c;
}

int keys_of_char(uint32_t c, struct key_char *ret)
{
        struct key_char k = { .known = true };
        if (c == '\n' || c == '\r')
                k.keysym = XKB_KEY_Return;
        else if (c == '\t')
                k.keysym = XKB_KEY_Tab;
        else if (c == '\b')
                k.keysym = XKB_KEY_BackSpace;
        else if (c < ' ' || (c >= 0x7f && c < 0xa0))
                return -EINVAL;
        else {
                k.keysym = xkb_utf32_to_keysym(c);
                k.shift = is_shifted(c);
                k.known = c < 0x7f;
        }
        if (k.keysym == XKB_KEY_NoSymbol)
                return -EINVAL;
        *ret = k;
        return 0;
}

/* One key's name, without '+'. XKB_KEY_NoSymbol when there is none of that name. */
static uint32_t key_of_name(const char *text, size_t n)
{
        char name[64];
        if (n == 0 || n >= sizeof(name) || memchr(text, '\0', n))
                return XKB_KEY_NoSymbol;
        memcpy(name, text, n);
        name[n] = '\0';
        const char *at = name;
        struct key_char k;
        uint32_t c = utf8_valid(name, n) ? keys_next_char(&at, name + n) : 0;
        if (c != 0 && at == name + n)
                return keys_of_char(c, &k) < 0 ? (uint32_t) XKB_KEY_NoSymbol : k.keysym;
        for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
                if (strcasecmp(aliases[i].name, name) == 0)
                        return aliases[i].keysym;
        uint32_t keysym = xkb_keysym_from_name(name, XKB_KEYSYM_NO_FLAGS);
        return keysym != XKB_KEY_NoSymbol ? keysym
                                          : xkb_keysym_from_name(name, XKB_KEYSYM_CASE_INSENSITIVE);
}

/* Makes the combination what a hand on a US keyboard would do. */
static int normalize(struct key_combo *k)
{
        bool shift = false, other = false;
        for (unsigned i = 0; i < k->n; i++) {
                shift = shift || is_shift(k->keysym[i]);
                other = other || (is_modifier(k->keysym[i]) && !is_shift(k->keysym[i]));
        }
        bool wants_shift = false;
        for (unsigned i = 0; i < k->n; i++) {
                uint32_t *key = &k->keysym[i];
                if (other && !shift && *key >= 'A' && *key <= 'Z')
                        *key += 'a' - 'A';
                else if (shift)
                        *key = with_shift(*key);
                else
                        wants_shift = wants_shift || is_shifted(*key);
        }
        if (!wants_shift)
                return 0;
        if (k->n == KEYS_COMBO_MAX)
                return -EINVAL;
        /* After the other modifiers, before the first key. */
        unsigned at = 0;
        while (at < k->n && is_modifier(k->keysym[at]))
                at++;
        memmove(k->keysym + at + 1, k->keysym + at, (k->n - at) * sizeof(k->keysym[0]));
        k->keysym[at] = XKB_KEY_Shift_L;
        k->n++;
        return 0;
}

int keys_parse(const char *text, size_t n, struct key_combo *ret)
{
        struct key_combo k = { 0 };
        const char *end = text + n;
        while (text < end) {
                /* A '+' where a name should begin is the key itself. */
                const char *plus = memchr(text + 1, '+', (size_t) (end - text - 1));
                size_t length = (size_t) ((plus ? plus : end) - text);
                uint32_t keysym = key_of_name(text, length);
                if (keysym == XKB_KEY_NoSymbol || k.n == KEYS_COMBO_MAX)
                        return -EINVAL;
                k.keysym[k.n++] = keysym;
                text += length;
                if (plus && ++text == end)
                        return -EINVAL; /* "ctrl+" */
        }
        if (k.n == 0 || normalize(&k) < 0)
                return -EINVAL;
        *ret = k;
        return 0;
}

int keys_parse_modifiers(const char *text, struct key_combo *ret)
{
        struct key_combo k = { 0 };
        if (!strempty(text)) {
                int r = keys_parse(text, strlen(text), &k);
                if (r < 0)
                        return r;
        }
        for (unsigned i = 0; i < k.n; i++)
                if (!is_modifier(k.keysym[i]))
                        return -EINVAL;
        *ret = k;
        return 0;
}
