/* Small things every file needs: ownership attributes, checked allocation, strings, time. No I/O.
 *
 * Errors: functions return 0 (or a count) or a negative errno. Outputs come last, are named ret_*,
 * are untouched on failure and always set on success.
 * Ownership: a local that owns something is declared with its cleanup_* attribute; TAKE_PTR and
 * TAKE_FD hand it over. *_free(NULL) is fine and returns NULL.
 */
#pragma once

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define mustuse __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define CLEANUP(fn) __attribute__((cleanup(fn)))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define container_of(ptr, type, member) ((type *) ((char *) (ptr) -offsetof(type, member)))

#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)
#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* Moves a pointer or descriptor out of a variable and leaves NULL or -1 behind. */
#define TAKE_PTR(p)                                                                                \
        ({                                                                                         \
                typeof(p) _taken = (p);                                                            \
                (p) = NULL;                                                                        \
                _taken;                                                                            \
        })
#define TAKE_FD(fd)                                                                                \
        ({                                                                                         \
                int _taken_fd = (fd);                                                              \
                (fd) = -1;                                                                         \
                _taken_fd;                                                                         \
        })

void cleanup_freep(void *p);  /* free(*(void **) p) */
void cleanup_closep(int *fd); /* close when >= 0 */
void cleanup_fclosep(FILE **f);
#define cleanup_free CLEANUP(cleanup_freep)
#define cleanup_close CLEANUP(cleanup_closep)
#define cleanup_fclose CLEANUP(cleanup_fclosep)

/* Declares static inline NAMEp for CLEANUP, given `type *fn(type *)` or `void fn(type *)`. */
#define DEFINE_CLEANUP(type, fn)                                                                   \
        static inline void fn##p(type **p)                                                         \
        {                                                                                          \
                if (*p)                                                                            \
                        (void) fn(*p);                                                             \
        }

int fd_close(int fd); /* closes when >= 0, keeps errno, returns -1: `fd = fd_close(fd)` */

/* Small fixed allocations: die (abort with a line on stderr) when memory is gone. A size that came
 * from a peer must be checked against its limit first. */
void *try_malloc(size_t n) mustuse; /* may give NULL: for sizes that follow from a peer's data */
void *xmalloc(size_t n) mustuse;
void *xcalloc(size_t n, size_t size) mustuse;
void *xrealloc(void *p, size_t n, size_t size) mustuse; /* overflow-checked n * size */
char *xstrdup(const char *s) mustuse;                   /* NULL gives NULL */
char *xstrndup(const char *s, size_t n) mustuse;
char *xasprintf(const char *fmt, ...) mustuse printf_like(1, 2);
#define xnew(type) ((type *) xcalloc(1, sizeof(type)))
#define xnewn(type, n) ((type *) xcalloc((n), sizeof(type)))

/* A piece of memory owned by somebody else; no terminating NUL. */
struct span {
        const char *data;
        size_t len;
};
#define SPAN_FMT "%.*s"
#define SPAN_ARG(s) (int) (s).len, (s).data
struct span span_of(const char *s); /* NULL gives {NULL, 0} */
bool span_eq(struct span s, const char *text);
char *span_dup(struct span s) mustuse; /* NUL-terminated copy */

bool streq(const char *a, const char *b); /* NULL equals only NULL */
bool strempty(const char *s);             /* NULL or "" */
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
char *strstrip(char *s); /* trims ASCII white space in place */

/* Strict: the whole text must be the number, no sign, no white space. -EINVAL, -ERANGE. */
int parse_u64(const char *s, uint64_t *ret) mustuse;
int parse_i64(const char *s, int64_t *ret) mustuse;   /* one leading '-' allowed */
int parse_bool(const char *s, bool *ret) mustuse;     /* yes no true false on off 1 0 */
int parse_size(const char *s, uint64_t *ret) mustuse; /* bytes; suffix K M G T (1024) */
int parse_duration(const char *s,
                   uint64_t *ret_usec) mustuse; /* suffix us ms s min h d; bare = s */

/* Valid UTF-8 without NUL (overlong forms, surrogates and > U+10FFFF are refused). */
bool utf8_valid(const char *s, size_t n);

uint64_t now_monotonic(void); /* microseconds */
uint64_t now_realtime(void);  /* microseconds since 1970 */

/* RFC 3339 in UTC with microseconds, as api.md wants: 2026-11-20T13:07:57.123456Z */
#define TIMESTAMP_MAX 32
void timestamp_format(uint64_t realtime_us, char buf[static TIMESTAMP_MAX]);

/* Random bytes from the kernel; dies when there are none. */
void random_bytes(void *buf, size_t n);

/* UUID version 7 (RFC 9562): sortable by creation time. Session, event-batch and worker ids. */
#define UUID_MAX 37
void uuid_make(char buf[static UUID_MAX]);

/* Lower-case hex; `out` takes 2 * n + 1 bytes. */
void hex_encode(const void *data, size_t n, char *out);

/* Standard base64 with padding (RFC 4648 4). encode: out takes base64_size(n) bytes, NUL included.
 * decode: strict; -EINVAL. */
size_t base64_size(size_t n);
void base64_encode(const void *data, size_t n, char *out);
int base64_decode(const char *s, size_t n, void **ret, size_t *ret_len) mustuse;
/* The form for URLs and tokens (RFC 4648 5), without padding. Sizes and errors as above. */
void base64url_encode(const void *data, size_t n, char *out);
int base64url_decode(const char *s, size_t n, void **ret, size_t *ret_len) mustuse;

#define SHA256_HEX 65
void sha256_hex(const void *data, size_t n, char out[static SHA256_HEX]);

/* Constant-time comparison for secrets. */
bool secret_equal(const char *a, const char *b);
