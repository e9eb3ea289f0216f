/* What the tests of slots share: an unprivileged process, a loop with a deadline, a slot in a
 * folder of its own. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <systemd/sd-event.h>

#include "workerd/slot.h"

/* Call first in main. Gives up root (a slot refuses it), makes the state folder, and exits 77 when
 * the environment lacks BERTH_IMAGE (a slot image), BERTH_GUEST (the helper) or user namespaces. */
void fixture_begin(bool needs_image);
void fixture_finish(void);
const char *fixture_state_dir(void);
const char *fixture_image(void);

sd_event *fixture_loop(void); /* a new one; end it with fixture_loop_free */
void fixture_loop_free(sd_event *e);
/* Runs the loop until *flag or the deadline, which fails the test. */
#define run_until(e, flag) assert_true(loop_until((e), &(flag), 20 * USEC_PER_SEC))
bool loop_until(sd_event *e, const bool *flag, uint64_t usec);

struct test_slot {
        sd_event *event;
        struct slot *slot;
        struct machine *machine;                /* for slots of the kind vm */
        uint64_t wait_usec;                     /* for a slot to be ready, 0 = 30 s */
        bool ready, failed, destroyed, changed; /* changed: any of the first two */
        int destroy_result;
        char why[600];
        uint64_t started, ready_usec;
};
void test_slot_start(struct test_slot *t, enum slot_kind kind, const char *id);
void test_slot_wait_ready(struct test_slot *t);
void test_slot_reset(struct test_slot *t);
void test_slot_destroy(struct test_slot *t);

/* A command in the slot, run to its end. */
struct test_run {
        struct guest_command *command;
        bool ended;
        struct guest_status status;
        char error[200];
        struct buf out, err;
};
struct guest_command_config test_run_config(struct test_run *r, const char *const *argv);
/* bash -c script; asserts that it started; r->out is NUL-terminated afterwards. */
void test_bash(struct test_slot *t, struct test_run *r, const char *script);
void test_run_done(struct test_run *r);

/* Processes of this uid other than ourselves. */
unsigned count_processes(void);
/* Waits until that number is reached, at most 5 s. */
bool processes_settle(unsigned n);
