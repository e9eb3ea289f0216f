/* Logs with fields: to the journal when stderr is a journal stream, else one line on stderr.
 *
 * Inside a trace (trace.h) each line has a field TRACE_ID.
 * A line on stderr reads: 2026-11-20T13:07:57.123456Z coordinatord info [SESSION=...] text
 * Fields (REQUEST, TENANT, PEER, MSG, ...) are set for a scope and appear on every line inside it.
 * In the journal each line has besides CODE_FILE, CODE_LINE, SYSLOG_IDENTIFIER and ERRNO the fields
 * of its process (log_field_set), and what it is about: a line that begins "session %s", "worker
 * %s" or "approval %s" has SESSION=, WORKER= or APPROVAL=. On stderr the text says that already.
 * Control characters are escaped. When the reader of stderr stands still, lines are dropped and
 * counted. Never log secrets or document text; log_* never fails and never blocks for long (50 ms).
 */
#pragma once

#include <syslog.h>

#include "common/base/util.h"

void log_open(const char *process); /* call once, first thing in main */
void log_set_level(int level);      /* LOG_ERR ... LOG_DEBUG */
bool log_wanted(int level);         /* a line of this level would be written */
int log_level_from_string(const char *s, int *ret) mustuse;

/* A field of every line that goes to the journal from now on; "" takes it away. Keys are constants,
 * at most 4 of them; the value is copied (64 bytes). May be called while other threads log. */
void log_field_set(const char *key, const char *value);

/* Fields for the rest of the block: LOG_SCOPE("SESSION", s->id); values are copied (64 bytes),
 * an empty one is left out. */
struct log_scope {
        struct log_scope *outer;
        char key[16];
        char value[64];
};
void log_scope_push(struct log_scope *s, const char *key, const char *value);
void log_scope_pop(struct log_scope *s);
#define LOG_SCOPE_NAME2(line) log_scope_##line
#define LOG_SCOPE_NAME(line) LOG_SCOPE_NAME2(line)
#define LOG_SCOPE(key, value)                                                                      \
        CLEANUP(log_scope_pop) struct log_scope LOG_SCOPE_NAME(__LINE__);                          \
        log_scope_push(&LOG_SCOPE_NAME(__LINE__), (key), (value))

void log_line(int level, int error, const char *file, int line, const char *fmt, ...)
        printf_like(5, 6);
#define log_at(level, fmt, ...) log_line((level), 0, __FILE__, __LINE__, fmt, ##__VA_ARGS__)
#define log_error(fmt, ...) log_at(LOG_ERR, fmt, ##__VA_ARGS__)
#define log_warning(fmt, ...) log_at(LOG_WARNING, fmt, ##__VA_ARGS__)
#define log_notice(fmt, ...) log_at(LOG_NOTICE, fmt, ##__VA_ARGS__)
#define log_info(fmt, ...) log_at(LOG_INFO, fmt, ##__VA_ARGS__)
#define log_debug(fmt, ...) log_at(LOG_DEBUG, fmt, ##__VA_ARGS__)
/* Logs text, ": " and the text of errno value |e|; evaluates to -|e|, so `return log_errno(...)`.
 */
#define log_errno(level, e, fmt, ...)                                                              \
        ({                                                                                         \
                int _log_e = (e);                                                                  \
                log_line((level), _log_e, __FILE__, __LINE__, fmt, ##__VA_ARGS__);                 \
                _log_e < 0 ? _log_e : -_log_e;                                                     \
        })
