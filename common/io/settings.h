/* Settings: one table per daemon (name, kind, place, default, range, help) and one file of
 * `name = value` lines. A '#' at the front of a line or after white space starts a comment; double
 * quotes around a value protect '#' and outer spaces. The command line may override with
 * --set name=value; the last one wins, in the file a name may appear once.
 * Unknown names, bad values and values out of range are errors that name file, line and remedy. */
#pragma once

#include "common/base/util.h"

enum setting_kind {
        SETTING_STRING,   /* char *, owned, never NULL; "" allowed unless required */
        SETTING_PATH,     /* char *, absolute; "" allowed unless required */
        SETTING_INT,      /* uint64_t */
        SETTING_BOOL,     /* bool */
        SETTING_SIZE,     /* uint64_t bytes */
        SETTING_DURATION, /* uint64_t microseconds */
        SETTING_SECRET,   /* char *: path of a file that only its owner may read (0600), or the bare
                           * name of a systemd credential; its first line is the value; "" allowed
                           * unless required; never printed */
};

struct setting {
        const char *name;
        enum setting_kind kind;
        size_t offset;
        const char *fallback;  /* default as text; NULL = required */
        const char *min, *max; /* as text, same syntax; NULL = none */
        bool reloadable;
        const char *help; /* one sentence */
};

/* Fills `out` (a zeroed struct) from defaults, then the file, then overrides. On failure *ret_error
 * is a sentence (caller frees), the result is -EBADMSG and everything read so far is released.
 * file may be NULL. */
int settings_load(const struct setting *table, size_t n, const char *file, char *const *overrides,
                  size_t n_overrides, void *out, char **ret_error) mustuse;
void settings_release(const struct setting *table, size_t n, void *out);
/* A commented configuration file with every setting, its default and range. */
void settings_print(const struct setting *table, size_t n, FILE *f);
