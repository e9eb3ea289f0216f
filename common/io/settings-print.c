/* Prints a commented configuration file, and moves reloadable settings into a running daemon. */
#include "settings.h"

#include "common/base/buf.h"
#include "settings-private.h"

static const char *kind_text(enum setting_kind kind)
{
        switch (kind) {
        case SETTING_STRING:
                return "text";
        case SETTING_PATH:
                return "absolute path";
        case SETTING_INT:
                return "whole number";
        case SETTING_BOOL:
                return "yes or no";
        case SETTING_SIZE:
                return "size in bytes, suffix K M G T";
        case SETTING_DURATION:
                return "duration, suffix us ms s min h d";
        case SETTING_SECRET:
                return "absolute path of a file only the daemon can read, or a systemd credential; "
                       "its first line is the value";
        }
        return "";
}

void settings_print(const struct setting *table, size_t n, FILE *f)
{
        for (size_t i = 0; i < n; i++) {
                const struct setting *s = &table[i];
                fprintf(f, "%s# %s\n# %s", i ? "\n" : "", s->help, kind_text(s->kind));
                if (s->min && s->max)
                        fprintf(f, "; %s to %s", s->min, s->max);
                else if (s->min || s->max)
                        fprintf(f, "; at %s %s", s->min ? "least" : "most",
                                s->min ? s->min : s->max);
                fprintf(f, "%s%s\n", s->fallback ? "" : "; required",
                        s->reloadable ? "; read again on SIGHUP" : "");
                if (s->fallback)
                        fprintf(f, "#%s =%s%s\n", s->name, *s->fallback ? " " : "", s->fallback);
                else
                        fprintf(f, "%s =\n", s->name);
        }
}

static bool same(const struct setting *s, const void *a, const void *b)
{
        switch (s->kind) {
        case SETTING_STRING:
        case SETTING_PATH:
        case SETTING_SECRET:
                return streq(*(char *const *) a, *(char *const *) b);
        case SETTING_BOOL:
                return *(const bool *) a == *(const bool *) b;
        case SETTING_INT:
        case SETTING_SIZE:
        case SETTING_DURATION:
                return *(const uint64_t *) a == *(const uint64_t *) b;
        }
        return true;
}

static void swap_value(const struct setting *s, void *a, void *b)
{
        if (s->kind == SETTING_BOOL) {
                bool t = *(bool *) a;
                *(bool *) a = *(bool *) b;
                *(bool *) b = t;
                return;
        }
        _Static_assert(sizeof(char *) == sizeof(uint64_t), "texts and numbers have one size");
        uint64_t t;
        memcpy(&t, a, sizeof(t));
        memcpy(a, b, sizeof(t));
        memcpy(b, &t, sizeof(t));
}

void settings_take(const struct setting *table, size_t n, void *out, void *fresh, char **ret_kept)
{
        cleanup_buf struct buf kept = BUF_INIT;
        for (size_t i = 0; i < n; i++) {
                const struct setting *s = &table[i];
                char *now = (char *) out + s->offset, *next = (char *) fresh + s->offset;
                if (same(s, now, next))
                        continue;
                if (s->reloadable)
                        swap_value(s, now, next);
                else
                        buf_putf(&kept, "%s%s", buf_pending(&kept) ? ", " : "", s->name);
        }
        *ret_kept = buf_pending(&kept) ? buf_take(&kept, NULL) : NULL;
}
