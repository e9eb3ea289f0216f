/* What every unit test here includes: cmocka with what it needs, and waiting for conditions. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/util.h"

/* Turns the loop until `condition` holds; fails the test after `seconds`. */
#define RUN_UNTIL(e, seconds, condition)                                                           \
        do {                                                                                       \
                uint64_t _end = now_monotonic() + (uint64_t) (seconds) *USEC_PER_SEC;              \
                while (!(condition)) {                                                             \
                        if (now_monotonic() > _end)                                                \
                                fail_msg("%s:%d: not within %d s: %s", __FILE__, __LINE__,         \
                                         (int) (seconds), #condition);                             \
                        assert_true(sd_event_run((e), 20000) >= 0);                                \
                }                                                                                  \
        } while (0)

/* Ends the program as skipped, in main before cmocka prints its plan. (In TAP mode meson takes both
 * cmocka's skip() and exit status 77 as failures.) */
#define UNIT_SKIP(why)                                                                             \
        do {                                                                                       \
                printf("1..0 # SKIP %s\n", (why));                                                 \
                exit(0);                                                                           \
        } while (0)
