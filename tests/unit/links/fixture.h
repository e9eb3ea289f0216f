/* A loop, a ZeroMQ context and a folder of its own for each test; waits with a deadline, never
 * sleeps. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <zmq.h>

#include "common/io/daemon.h"
#include "common/io/fdlink.h"
#include "common/io/rpc.h"

struct fixture {
        sd_event *event;
        void *zmq;
        char dir[64];
        char path[96];      /* a socket file in it */
        char endpoint[112]; /* ipc:// of it */
};

int fixture_setup(void **state);
int fixture_teardown(void **state);

/* Runs the loop until the condition holds; fails the test after 10 s (60 s under a sanitizer). */
#define run_until(f, cond)                                                                         \
        do {                                                                                       \
                uint64_t _deadline = now_monotonic() + fixture_patience();                         \
                while (!(cond)) {                                                                  \
                        assert_true(now_monotonic() < _deadline);                                  \
                        assert_true(sd_event_run((f)->event, 10 * USEC_PER_MSEC) >= 0);            \
                }                                                                                  \
        } while (0)
uint64_t fixture_patience(void);
/* Runs what is ready, so that late callbacks would show. */
void fixture_settle(struct fixture *f, uint64_t usec);
