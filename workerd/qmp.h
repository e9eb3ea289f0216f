/* QEMU's machine protocol (QMP): commands as JSON lines over a stream socket, answered in order.
 *
 * One command is under way at a time, the rest waits, at most QMP_CALLS_MAX together: so a
 * descriptor that goes with a command is there when it is carried out. QEMU runs what is hostile:
 * a line over QMP_LINE_MAX bytes, an answer that nobody asked for or that is no JSON ends the link.
 * Facts: docs/interop/qmp-spec of QEMU; getfd takes a descriptor sent along (SCM_RIGHTS). */
#pragma once

#include <systemd/sd-event.h>

#include "common/base/json.h"

#define QMP_LINE_MAX (64 * 1024)
#define QMP_CALLS_MAX 32

struct qmp;
/* r is 0 and `result` what the command returns; -EIO when QEMU refused it, `result` then its error
 * object; -ECONNRESET when the link ended. result is borrowed, NULL when there is none. Not called
 * after qmp_free. */
typedef void (*qmp_fn)(void *userdata, int r, const json_t *result);

struct qmp_config {
        sd_event *event;
        int fd; /* connected stream socket; taken over, also on failure */
        /* Something happened by itself; data is borrowed and may be NULL. May be NULL. */
        void (*on_event)(void *userdata, const char *name, const json_t *data);
        /* The link is of no use any more; all calls have been answered. May free it. */
        void (*on_end)(void *userdata, const char *why);
        void *userdata;
};
/* Also asks for command mode, which QEMU wants first. */
int qmp_new(const struct qmp_config *c, struct qmp **ret) mustuse;
struct qmp *qmp_free(struct qmp *q);
DEFINE_CLEANUP(struct qmp, qmp_free)

/* arguments: an object, taken over also on failure, NULL = none. fd goes along (taken over, also on
 * failure; -1 = none). fn may be NULL. -EAGAIN when QMP_CALLS_MAX are waiting, -ENOTCONN after the
 * end. */
int qmp_call(struct qmp *q, const char *command, json_t *arguments, int fd, qmp_fn fn,
             void *userdata) mustuse;
