/* Writes log lines with fields to the journal or to stderr, without ever waiting for a reader. */
#include "log.h"

#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* The line carries its own place in the source; the macros of the library would add log.c's. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "common/base/trace.h"

#define LINE_MAX_BYTES 4000 /* below PIPE_BUF: one line is one atomic write */
#define FIELDS_MAX 8
#define PROCESS_FIELDS_MAX 4
#define VALUE_MAX sizeof(((struct log_scope *) 0)->value)
#define STALL_MSEC 50

static int log_level_max = LOG_INFO;
static const char *log_process = "berth";
static bool log_to_journal;
static unsigned log_lost; /* lines dropped because nobody read stderr */
static _Thread_local struct log_scope *log_scopes;

static pthread_mutex_t process_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
        const char *key;
        char value[VALUE_MAX];
} process_fields[PROCESS_FIELDS_MAX];

static const struct {
        const char *begin, *key;
} subjects[] = {
        { "session %s", "SESSION" },
        { "worker %s", "WORKER" },
        { "approval %s", "APPROVAL" },
};

static const struct {
        const char *name;
        int level;
} level_names[] = {
        { "error", LOG_ERR }, { "warning", LOG_WARNING }, { "notice", LOG_NOTICE },
        { "info", LOG_INFO }, { "debug", LOG_DEBUG },
};

/* systemd sets JOURNAL_STREAM to "device:inode" of the stream it connected to stderr. */
static bool stderr_is_journal(void)
{
        const char *e = getenv("JOURNAL_STREAM");
        struct stat st;
        char mine[48];
        if (!e || fstat(STDERR_FILENO, &st) < 0)
                return false;
        (void) snprintf(mine, sizeof(mine), "%ju:%ju", (uintmax_t) st.st_dev,
                        (uintmax_t) st.st_ino);
        return streq(e, mine);
}

void log_open(const char *process)
{
        log_process = process;
        log_to_journal = stderr_is_journal();
}

void log_set_level(int level)
{
        log_level_max = level;
}

int log_level_from_string(const char *s, int *ret)
{
        for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
                if (streq(s, level_names[i].name)) {
                        *ret = level_names[i].level;
                        return 0;
                }
        }
        return -EINVAL;
}

static const char *level_name(int level)
{
        for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
                if (level <= level_names[i].level)
                        return level_names[i].name;
        }
        return "debug";
}

bool log_wanted(int level)
{
        return level <= log_level_max;
}

void log_scope_push(struct log_scope *s, const char *key, const char *value)
{
        s->outer = log_scopes;
        (void) snprintf(s->key, sizeof(s->key), "%s", key);
        (void) snprintf(s->value, sizeof(s->value), "%s", value ? value : "");
        log_scopes = s;
}

void log_scope_pop(struct log_scope *s)
{
        log_scopes = s->outer;
}

void log_field_set(const char *key, const char *value)
{
        (void) pthread_mutex_lock(&process_lock);
        for (size_t i = 0; i < PROCESS_FIELDS_MAX; i++) {
                if (process_fields[i].key && !streq(process_fields[i].key, key))
                        continue;
                process_fields[i].key = key;
                (void) snprintf(process_fields[i].value, VALUE_MAX, "%s", value);
                break;
        }
        (void) pthread_mutex_unlock(&process_lock);
}

/* A line under construction; what does not fit is cut. */
struct line {
        size_t n;
        char text[LINE_MAX_BYTES];
};

static void put(struct line *l, const char *fmt, ...) printf_like(2, 3);
static void put(struct line *l, const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(l->text + l->n, sizeof(l->text) - l->n, fmt, ap);
        va_end(ap);
        if (n > 0)
                l->n = MIN(l->n + (size_t) n, sizeof(l->text) - 1);
}

/* Control characters become \xNN, so that a peer's text cannot forge a line. */
static void put_clean(struct line *l, const char *s)
{
        for (; *s; s++) {
                unsigned char c = (unsigned char) *s;
                if (c < 0x20 || c == 0x7f)
                        put(l, "\\x%02x", (unsigned) c);
                else if (l->n < sizeof(l->text) - 1)
                        l->text[l->n++] = *s;
        }
}

/* "" outside of traces. */
static void trace_id(char out[static TRACE_ID_HEX])
{
        const struct trace_context *c = trace_current();

        out[0] = '\0';
        if (c)
                hex_encode(c->trace, sizeof(c->trace), out);
}

static void put_scopes(struct line *l)
{
        const char *separator = " [";
        char trace[TRACE_ID_HEX];
        size_t n = 0;
        trace_id(trace);
        if (trace[0]) {
                put(l, " [TRACE_ID=%s", trace);
                separator = " ";
        }
        for (struct log_scope *s = log_scopes; s && n < FIELDS_MAX; s = s->outer) {
                if (!s->value[0])
                        continue;
                n++;
                put(l, "%s%s=", separator, s->key);
                put_clean(l, s->value);
                separator = " ";
        }
        if (n > 0 || trace[0])
                put(l, "]");
}

/* One write; the line is dropped and counted when the reader stands still. */
static void write_line(const char *line, size_t n)
{
        struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
        if (poll(&p, 1, log_lost ? 0 : STALL_MSEC) < 1 || !(p.revents & POLLOUT)) {
                log_lost++;
                return;
        }
        if (write(STDERR_FILENO, line, n) < 0)
                log_lost++;
        else
                log_lost = 0;
}

static void to_stderr(int level, const char *text)
{
        char when[TIMESTAMP_MAX];
        timestamp_format(now_realtime(), when);
        struct line l = { 0 };
        put(&l, "%s %s %s", when, log_process, level_name(level));
        put_scopes(&l);
        put(&l, " ");
        put_clean(&l, text);
        if (log_lost > 0)
                put(&l, " (%u lines before this one were lost)", log_lost);
        l.text[l.n++] = '\n';
        write_line(l.text, l.n);
}

/* Fields of a line for the journal. The first of a key counts: the narrower stands before the
 * wider. */
struct fields {
        struct {
                const char *key;
                char text[sizeof(((struct log_scope *) 0)->key) + VALUE_MAX + 1];
        } all[FIELDS_MAX];
        size_t n;
};

static void field_add(struct fields *f, const char *key, const char *value, size_t len)
{
        if (len == 0 || f->n == FIELDS_MAX)
                return;
        for (size_t i = 0; i < f->n; i++)
                if (streq(f->all[i].key, key))
                        return;
        f->all[f->n].key = key;
        (void) snprintf(f->all[f->n].text, sizeof(f->all[f->n].text), "%s=%.*s", key,
                        (int) MIN(len, VALUE_MAX - 1), value);
        f->n++;
}

static void fields_collect(struct fields *f, const char *fmt, const char *text)
{
        for (size_t i = 0; i < ARRAY_LEN(subjects); i++) {
                if (!str_starts(fmt, subjects[i].begin))
                        continue;
                const char *value = text + strlen(subjects[i].begin) - strlen("%s");
                field_add(f, subjects[i].key, value, strcspn(value, " :"));
        }
        for (struct log_scope *s = log_scopes; s; s = s->outer)
                field_add(f, s->key, s->value, strlen(s->value));
        (void) pthread_mutex_lock(&process_lock);
        for (size_t i = 0; i < PROCESS_FIELDS_MAX && process_fields[i].key; i++)
                field_add(f, process_fields[i].key, process_fields[i].value,
                          strlen(process_fields[i].value));
        (void) pthread_mutex_unlock(&process_lock);
}

static void to_journal(int level, int error, const char *file, int line, const char *fmt,
                       const char *text)
{
        char fixed[5][64], trace[sizeof("TRACE_ID=") + TRACE_ID_HEX] = "TRACE_ID=";
        (void) snprintf(fixed[0], sizeof(fixed[0]), "PRIORITY=%d", level);
        (void) snprintf(fixed[1], sizeof(fixed[1]), "CODE_FILE=%s", file);
        (void) snprintf(fixed[2], sizeof(fixed[2]), "CODE_LINE=%d", line);
        (void) snprintf(fixed[3], sizeof(fixed[3]), "SYSLOG_IDENTIFIER=%s", log_process);
        (void) snprintf(fixed[4], sizeof(fixed[4]), "ERRNO=%d", error < 0 ? -error : error);
        cleanup_free char *message = xasprintf("MESSAGE=%s", text);
        struct fields fields = { .n = 0 };
        struct iovec v[2 + ARRAY_LEN(fixed) + FIELDS_MAX];
        size_t n = 0;
        v[n++] = (struct iovec){ message, strlen(message) };
        for (size_t i = 0; i < ARRAY_LEN(fixed) - (error == 0); i++)
                v[n++] = (struct iovec){ fixed[i], strlen(fixed[i]) };
        trace_id(trace + strlen("TRACE_ID="));
        if (trace[strlen("TRACE_ID=")])
                v[n++] = (struct iovec){ trace, strlen(trace) };
        fields_collect(&fields, fmt, text);
        /* The bound is for the compiler, which sees no other in a release. */
        for (size_t k = 0; k < MIN(fields.n, (size_t) FIELDS_MAX); k++)
                v[n++] = (struct iovec){ fields.all[k].text, strlen(fields.all[k].text) };
        (void) sd_journal_sendv(v, (int) n);
}

void log_line(int level, int error, const char *file, int line, const char *fmt, ...)
{
        if (level > log_level_max)
                return;
        int saved = errno;
        char text[LINE_MAX_BYTES];
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        if (n < 0)
                n = 0;
        if (error != 0 && (size_t) n < sizeof(text)) {
                char why[128];
                (void) snprintf(text + n, sizeof(text) - (size_t) n, ": %s",
                                strerror_r(error < 0 ? -error : error, why, sizeof(why)));
        }
        if (log_to_journal)
                to_journal(level, error, file, line, fmt, text);
        else
                to_stderr(level, text);
        errno = saved;
}
