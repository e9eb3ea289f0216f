/* Terminals of the slot for people: each connection has a shell of its own on a pty in the slot,
 * whose bytes go both ways through a stream socket that the gateway gets. Nothing of it survives:
 * the connection's end hangs up (SIGHUP, after a second SIGKILL, to the shell's session), the
 * shell's end closes the connection once what it said is read, and the session's end or the slot's
 * reset ends both at once. Bounded: a peer that does not read stops the shell's output after 256
 * KiB here and 256 KiB in the slot. */
#pragma once

#include "slot.h"

#define TERMINAL_COLS_MAX 1000u
#define TERMINAL_ROWS_MAX 500u

struct terminals;
struct terminals *terminals_new(sd_event *e, unsigned max); /* max: open at a time */
struct terminals *terminals_free(struct terminals *t);      /* as terminals_close */
DEFINE_CLEANUP(struct terminals, terminals_free)

/* *ret_fd is the caller's. -ENOTCONN the slot is not ready, -EMFILE there are `max` already,
 * -ERANGE a size beyond the bounds, else as guest_spawn. */
int terminals_open(struct terminals *t, struct slot *s, unsigned cols, unsigned rows,
                   uint64_t *ret_id, int *ret_fd) mustuse;
/* -ENOENT: it has ended. -ERANGE as above. */
int terminals_resize(struct terminals *t, uint64_t id, unsigned cols, unsigned rows) mustuse;
/* All of them: the session is over. */
void terminals_close(struct terminals *t);
