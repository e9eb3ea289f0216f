/* Submits batches and keeps who asked. */
#include "store-call.h"

struct store_call *store_call_new(const char *what, void *userdata)
{
        struct store_call *c = xnew(struct store_call);
        c->what = what;
        c->userdata = userdata;
        return c;
}

int store_call_submit(struct pg_pool *p, struct pg_batch *b, pg_done_fn done, struct store_call *c)
{
        if (!p) {
                (void) pg_batch_free(b);
                free(c);
                return -ECANCELED;
        }
        int r = pg_submit(p, b, done, c);
        if (r < 0)
                free(c);
        return r;
}

void store_call_done(void *userdata, int r, PGresult **results, size_t n,
                     const struct pg_error *error)
{
        cleanup_free struct store_call *c = userdata;
        r = r < 0 ? store_failure(c->what, r, error) : 0;
        if (c->fn.done)
                c->fn.done(c->userdata, r);
}
