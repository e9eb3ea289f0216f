/* Loop, ZeroMQ context and temporary folder of the link tests. */
#include "fixture.h"

#include <dirent.h>
#include <unistd.h>

uint64_t fixture_patience(void)
{
        return 30 * USEC_PER_SEC;
}

int fixture_setup(void **state)
{
        struct fixture *f = xnew(struct fixture);
        *state = f;
        (void) snprintf(f->dir, sizeof(f->dir), "/tmp/berth-links-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        (void) snprintf(f->path, sizeof(f->path), "%s/sock", f->dir);
        (void) snprintf(f->endpoint, sizeof(f->endpoint), "ipc://%s", f->path);
        assert_true(sd_event_new(&f->event) >= 0);
        f->zmq = zmq_ctx_new();
        return 0;
}

int fixture_teardown(void **state)
{
        struct fixture *f = *state;
        loop_defer_flush(f->event);
        sd_event_unref(f->event);
        /* It waits for sockets that a failed test left open: die of that, so that the failure
         * shows. */
        (void) alarm(20);
        assert_int_equal(zmq_ctx_term(f->zmq), 0);
        (void) alarm(0);
        (void) unlink(f->path);
        assert_int_equal(rmdir(f->dir), 0);
        free(f);
        return 0;
}

void fixture_settle(struct fixture *f, uint64_t usec)
{
        uint64_t end = now_monotonic() + usec;
        do
                assert_true(sd_event_run(f->event, USEC_PER_MSEC) >= 0);
        while (now_monotonic() < end);
}
