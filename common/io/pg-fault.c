/* The fault shim of the database client: with the build option `faults`, a chosen share of batches
 * fails. */
#include "pg-private.h"

#ifdef BERTH_FAULTS

struct faults {
        bool loaded;
        double error, timeout, lost;
        unsigned short random[3];
};

static double share_of(const char *text, const char *name)
{
        cleanup_free char *key = xasprintf("%s=", name);
        const char *p = text ? strstr(text, key) : NULL;
        return p ? strtod(p + strlen(key), NULL) : 0;
}

static void load(struct faults *f)
{
        const char *text = getenv("BERTH_FAULT_STORE");
        uint64_t seed = (uint64_t) share_of(text, "seed");
        f->error = share_of(text, "error");
        f->timeout = share_of(text, "timeout");
        f->lost = share_of(text, "lost");
        if (seed)
                memcpy(f->random, &seed, sizeof(f->random));
        else
                random_bytes(f->random, sizeof(f->random));
        f->loaded = true;
}

enum pg_fault pg_fault_next(void)
{
        static struct faults f; /* the environment, read once */
        if (!f.loaded)
                load(&f);
        double x = erand48(f.random);
        if (x < f.error)
                return PG_FAULT_ERROR;
        if (x < f.error + f.timeout)
                return PG_FAULT_TIMEOUT;
        return x < f.error + f.timeout + f.lost ? PG_FAULT_LOST : PG_FAULT_NONE;
}

#else

enum pg_fault pg_fault_next(void)
{
        return PG_FAULT_NONE;
}

#endif
