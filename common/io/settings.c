/* Reads settings from defaults, one file and the command line into a daemon's settings struct. */
#include "settings.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "settings-private.h"

#define FILE_MAX_BYTES (256 * KIB)
#define SECRET_MAX_BYTES (4 * KIB)

static size_t kind_size(enum setting_kind kind)
{
        switch (kind) {
        case SETTING_STRING:
        case SETTING_PATH:
        case SETTING_SECRET:
                return sizeof(char *);
        case SETTING_BOOL:
                return sizeof(bool);
        case SETTING_INT:
        case SETTING_SIZE:
        case SETTING_DURATION:
                return sizeof(uint64_t);
        }
        abort();
}

size_t settings_end(const struct setting *table, size_t n)
{
        size_t end = 0;
        for (size_t i = 0; i < n; i++)
                end = MAX(end, table[i].offset + kind_size(table[i].kind));
        return end;
}

static bool is_text(enum setting_kind kind)
{
        return kind == SETTING_STRING || kind == SETTING_PATH || kind == SETTING_SECRET;
}

static void release_one(const struct setting *s, void *out)
{
        if (!is_text(s->kind))
                return;
        char **text = (char **) ((char *) out + s->offset);
        if (*text && s->kind == SETTING_SECRET)
                explicit_bzero(*text, strlen(*text));
        free(*text);
        *text = NULL;
}

void settings_release(const struct setting *table, size_t n, void *out)
{
        for (size_t i = 0; i < n; i++)
                release_one(&table[i], out);
}

/* Whole content of a small file. *ret_error is a sentence without the place it came from. */
static int read_small(const char *path, size_t max, bool secret, char **ret, char **ret_error)
{
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0) {
                *ret_error = xasprintf("cannot read %s: %s", path, strerror(errno));
                return -EBADMSG;
        }
        if (!S_ISREG(st.st_mode)) {
                *ret_error = xasprintf("%s is not a regular file", path);
                return -EBADMSG;
        }
        if (secret && (st.st_mode & 077) != 0) {
                *ret_error =
                        xasprintf("%s holds a secret but others may read it: chmod 600 it", path);
                return -EBADMSG;
        }
        cleanup_free char *text = xmalloc(max + 1);
        size_t n = 0;
        while (n <= max) {
                ssize_t got = read(fd, text + n, max + 1 - n);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0) {
                        *ret_error = xasprintf("cannot read %s: %s", path, strerror(errno));
                        return -EBADMSG;
                }
                if (got == 0)
                        break;
                n += (size_t) got;
        }
        if (n > max) {
                *ret_error = xasprintf("%s is larger than %zu bytes", path, max);
                return -EBADMSG;
        }
        if (!utf8_valid(text, n)) {
                *ret_error = xasprintf("%s is not UTF-8 text", path);
                return -EBADMSG;
        }
        text[n] = 0;
        *ret = TAKE_PTR(text);
        return 0;
}

/* A relative path names a systemd credential; those are readable by this service only. */
static int read_secret(const char *value, char **ret, char **ret_error)
{
        const char *credentials = getenv("CREDENTIALS_DIRECTORY");
        cleanup_free char *path = NULL, *text = NULL;
        if (value[0] == '/') {
                path = xstrdup(value);
        } else if (credentials && !strchr(value, '/')) {
                path = xasprintf("%s/%s", credentials, value);
        } else {
                *ret_error = xasprintf("must be an absolute path of a file with the secret, or "
                                       "the name of a systemd credential");
                return -EBADMSG;
        }
        int r = read_small(path, SECRET_MAX_BYTES, value[0] == '/', &text, ret_error);
        if (r < 0 && value[0] != '/') {
                free(*ret_error);
                *ret_error = xasprintf("no systemd credential of that name can be read");
        }
        if (r < 0)
                return r;
        text[strcspn(text, "\r\n")] = 0;
        if (!*text) {
                *ret_error = xasprintf("the first line of %s is empty", path);
                return -EBADMSG;
        }
        *ret = xstrdup(text);
        explicit_bzero(text, strlen(text));
        return 0;
}

static int parse_number(enum setting_kind kind, const char *text, uint64_t *ret)
{
        if (kind == SETTING_SIZE)
                return parse_size(text, ret);
        if (kind == SETTING_DURATION)
                return parse_duration(text, ret);
        return parse_u64(text, ret);
}

static const char *number_syntax(enum setting_kind kind)
{
        if (kind == SETTING_SIZE)
                return "a size like 512, 64K, 10M or 2G";
        if (kind == SETTING_DURATION)
                return "a duration like 250ms, 10s, 5min, 2h or 1d";
        return "a whole number";
}

static int store_number(const struct setting *s, const char *text, uint64_t *out, char **ret_error)
{
        uint64_t v, low = 0, high = UINT64_MAX;
        int r = parse_number(s->kind, text, &v);
        if (r == -EINVAL) {
                *ret_error = xasprintf("must be %s", number_syntax(s->kind));
                return -EBADMSG;
        }
        if ((s->min && parse_number(s->kind, s->min, &low) < 0) ||
            (s->max && parse_number(s->kind, s->max, &high) < 0))
                abort(); /* the table itself is wrong */
        if (r < 0 || v < low || v > high) {
                if (s->min && s->max)
                        *ret_error = xasprintf("must be between %s and %s", s->min, s->max);
                else
                        *ret_error = xasprintf("must be at %s %s", s->min ? "least" : "most",
                                               s->min   ? s->min
                                               : s->max ? s->max
                                                        : "2^64 - 1");
                return -EBADMSG;
        }
        *out = v;
        return 0;
}

/* Parses `text` into the struct. *ret_error starts with a verb; the caller says which setting. */
static int store(const struct setting *s, const char *text, void *out, char **ret_error)
{
        void *to = (char *) out + s->offset;
        cleanup_free char *value = NULL;
        switch (s->kind) {
        case SETTING_INT:
        case SETTING_SIZE:
        case SETTING_DURATION:
                return store_number(s, text, to, ret_error);
        case SETTING_BOOL:
                if (parse_bool(text, to) < 0) {
                        *ret_error = xasprintf("must be yes or no");
                        return -EBADMSG;
                }
                return 0;
        case SETTING_PATH:
                if (*text && *text != '/') {
                        *ret_error = xasprintf("must be an absolute path");
                        return -EBADMSG;
                }
                break;
        case SETTING_SECRET:
                if (*text && read_secret(text, &value, ret_error) < 0)
                        return -EBADMSG;
                break;
        case SETTING_STRING:
                break;
        }
        if (!*text && !s->fallback) {
                *ret_error = xasprintf("must not be empty");
                return -EBADMSG;
        }
        release_one(s, out);
        *(char **) to = value ? TAKE_PTR(value) : xstrdup(text);
        return 0;
}

/* Fewest edits between two short names: for "did you mean". */
static size_t edit_distance(const char *a, const char *b)
{
        size_t row[64];
        size_t n = MIN(strlen(b), ARRAY_LEN(row) - 1);
        for (size_t j = 0; j <= n; j++)
                row[j] = j;
        for (size_t i = 1; a[i - 1]; i++) {
                size_t diagonal = row[0];
                row[0] = i;
                for (size_t j = 1; j <= n; j++) {
                        size_t keep = diagonal + (a[i - 1] != b[j - 1]);
                        diagonal = row[j];
                        row[j] = MIN(keep, MIN(row[j], row[j - 1]) + 1);
                }
        }
        return row[n];
}

static const struct setting *find_setting(const struct setting *table, size_t n, const char *name)
{
        for (size_t i = 0; i < n; i++) {
                if (streq(table[i].name, name))
                        return &table[i];
        }
        return NULL;
}

static char *unknown_setting(const struct setting *table, size_t n, const char *where,
                             const char *name)
{
        const char *best = NULL;
        size_t least = 4;
        for (size_t i = 0; strlen(name) < 64 && i < n; i++) {
                size_t d = edit_distance(name, table[i].name);
                if (d < least) {
                        least = d;
                        best = table[i].name;
                }
        }
        if (best)
                return xasprintf("%s: unknown setting \"%s\"; did you mean \"%s\"?", where, name,
                                 best);
        return xasprintf("%s: unknown setting \"%.100s\"; --print-config lists all", where, name);
}

struct loading {
        const struct setting *table;
        size_t n;
        void *out;
        unsigned *lines; /* line of each setting in the file, 0 = not given */
        bool *given;
        char **ret_error;
};

static int load_one(struct loading *l, const char *where, const char *name, const char *value,
                    unsigned line)
{
        const struct setting *s = find_setting(l->table, l->n, name);
        if (!s) {
                *l->ret_error = unknown_setting(l->table, l->n, where, name);
                return -EBADMSG;
        }
        size_t i = (size_t) (s - l->table);
        if (line > 0 && l->lines[i] > 0) {
                *l->ret_error = xasprintf("%s: %s is set twice, first on line %u: remove one",
                                          where, name, l->lines[i]);
                return -EBADMSG;
        }
        cleanup_free char *why = NULL;
        int r = store(s, value, l->out, &why);
        if (r < 0) {
                /* Whoever gave the secret itself and not its place must not find it in a log. */
                bool hide = s->kind == SETTING_SECRET && *value != '/';
                *l->ret_error = xasprintf("%s: %s = %.100s: %s", where, name,
                                          hide ? "(not shown)" : value, why);
                return r;
        }
        if (line > 0)
                l->lines[i] = line;
        l->given[i] = true;
        return 0;
}

/* Cuts a comment: a '#' at the front or after white space. Quotes protect the value. */
static char *clean_value(char *s)
{
        s = strstrip(s);
        if (*s == '"') {
                char *end = strchr(s + 1, '"');
                if (!end)
                        return NULL;
                char *rest = strstrip(end + 1);
                if (*rest && *rest != '#')
                        return NULL;
                *end = 0;
                return s + 1;
        }
        for (char *p = s; *p; p++) {
                if (*p == '#' && (p == s || p[-1] == ' ' || p[-1] == '\t')) {
                        *p = 0;
                        break;
                }
        }
        return strstrip(s);
}

static int load_file(struct loading *l, const char *file)
{
        cleanup_free char *text = NULL;
        int r = read_small(file, FILE_MAX_BYTES, false, &text, l->ret_error);
        if (r < 0)
                return r;
        unsigned line = 0;
        for (char *next = text; next;) {
                char *p = strstrip(strsep(&next, "\n"));
                line++;
                if (!*p || *p == '#')
                        continue;
                cleanup_free char *where = xasprintf("%s:%u", file, line);
                char *equals = strchr(p, '=');
                char *value = equals ? clean_value(equals + 1) : NULL;
                if (!value) {
                        *l->ret_error = xasprintf("%s: expected a line like: name = value", where);
                        return -EBADMSG;
                }
                *equals = 0;
                r = load_one(l, where, strstrip(p), value, line);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int load_override(struct loading *l, const char *text)
{
        const char *equals = strchr(text, '=');
        if (!equals) {
                *l->ret_error = xasprintf("--set %.100s: expected --set name=value", text);
                return -EBADMSG;
        }
        cleanup_free char *copy = xstrdup(text);
        copy[equals - text] = 0;
        return load_one(l, "--set", strstrip(copy), strstrip(copy + (equals - text) + 1), 0);
}

static int load_default(struct loading *l, const struct setting *s, const char *file)
{
        if (l->given[s - l->table])
                return 0;
        cleanup_free char *why = NULL;
        if (!s->fallback)
                *l->ret_error = xasprintf("setting %s is required (%s): add \"%s = ...\" to %s, or "
                                          "give --set %s=...",
                                          s->name, s->help, s->name,
                                          file ? file : "the configuration file", s->name);
        else if (store(s, s->fallback, l->out, &why) < 0)
                *l->ret_error = xasprintf("default of %s: %s", s->name, why);
        else
                return 0;
        return -EBADMSG;
}

int settings_load(const struct setting *table, size_t n, const char *file, char *const *overrides,
                  size_t n_overrides, void *out, char **ret_error)
{
        cleanup_free unsigned *lines = xnewn(unsigned, n);
        cleanup_free bool *given = xnewn(bool, n);
        char *error = NULL;
        struct loading l = { table, n, out, lines, given, &error };
        int r = file ? load_file(&l, file) : 0;
        for (size_t i = 0; r == 0 && i < n_overrides; i++)
                r = load_override(&l, overrides[i]);
        for (size_t i = 0; r == 0 && i < n; i++)
                r = load_default(&l, &table[i], file);
        if (r < 0) {
                settings_release(table, n, out);
                *ret_error = error;
        }
        return r;
}
