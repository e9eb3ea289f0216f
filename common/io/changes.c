/* Counters of changes in a sealed memfd: one writer, any number of readers. */
#include "changes.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOTS 256u /* the first is for changes of any row */
#define UNSURE_US                                                                                  \
        (3 * USEC_PER_SEC) /* more than a change may wait and take: see pg_config in docserver.c   \
                            */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

struct slot {
        _Atomic uint64_t generation;
        _Atomic uint64_t unsure_until_us;
        _Atomic uint64_t changing; /* changes under way */
};

struct changes {
        struct slot *slots;
        int fd; /* -1: a reader's */
};

static unsigned slot_of(const char *tenant, const char *id)
{
        uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */
        for (const char *p = tenant; *p; p++)
                h = (h ^ (unsigned char) *p) * UINT64_C(1099511628211);
        for (const char *p = id; *p; p++)
                h = (h ^ (unsigned char) *p) * UINT64_C(1099511628211);
        return 1 + (unsigned) ((h ^ (h >> 32)) % (SLOTS - 1));
}

static struct changes *make(int fd, int protection)
{
        void *p = mmap(NULL, SLOTS * sizeof(struct slot), protection, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                return NULL;
        struct changes *c = xnew(struct changes);
        *c = (struct changes){ .slots = p, .fd = -1 };
        return c;
}

int changes_new(struct changes **ret)
{
        cleanup_close int fd = memfd_create("berth-changes", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0 || ftruncate(fd, (off_t) (SLOTS * sizeof(struct slot))) < 0)
                return -errno;
        CLEANUP(changes_freep) struct changes *c = make(fd, PROT_READ | PROT_WRITE);
        if (!c || fcntl(fd, F_ADD_SEALS, SEALS) < 0)
                return -errno;
        /* Nobody takes a stamp of a former writer for one of ours. */
        uint64_t first;
        random_bytes(&first, sizeof(first));
        atomic_store(&c->slots[0].generation, first >> 1);
        c->fd = TAKE_FD(fd);
        *ret = TAKE_PTR(c);
        return 0;
}

int changes_map(int fd, struct changes **ret)
{
        struct stat st;
        int seals = fcntl(fd, F_GET_SEALS);
        if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 ||
            st.st_size != (off_t) (SLOTS * sizeof(struct slot)))
                return -EPROTO;
        struct changes *c = make(fd, PROT_READ);
        if (!c)
                return -errno;
        *ret = c;
        return 0;
}

struct changes *changes_free(struct changes *c)
{
        if (!c)
                return NULL;
        (void) munmap(c->slots, SLOTS * sizeof(struct slot));
        fd_close(c->fd);
        free(c);
        return NULL;
}

int changes_fd(const struct changes *c)
{
        return c->fd;
}

/* `changing` goes up first: who sees the new generation sees that, too. */
unsigned changes_begin(struct changes *c, const char *tenant, const char *id)
{
        unsigned slot = id ? slot_of(tenant, id) : 0;
        atomic_fetch_add(&c->slots[slot].changing, 1);
        atomic_fetch_add(&c->slots[slot].generation, 1);
        return slot;
}

void changes_end(struct changes *c, unsigned slot, bool certain, uint64_t now_us)
{
        struct slot *s = &c->slots[slot];
        if (!certain)
                atomic_store(&s->unsure_until_us, now_us + UNSURE_US);
        atomic_fetch_sub(&s->changing, 1);
}

void changes_pulse(struct changes *c, uint64_t now_us)
{
        changes_end(c, changes_begin(c, NULL, NULL), false, now_us);
}

static bool is_quiet(const struct slot *s, uint64_t now_us)
{
        return atomic_load(&s->changing) == 0 && now_us >= atomic_load(&s->unsure_until_us);
}

/* Both only grow, so their sum is the same only while both are. */
static uint64_t stamp_of(const struct changes *c, unsigned slot)
{
        return atomic_load(&c->slots[0].generation) + atomic_load(&c->slots[slot].generation) + 1;
}

uint64_t changes_stamp(const struct changes *c, const char *tenant, const char *id, uint64_t now_us)
{
        unsigned slot = slot_of(tenant, id);
        uint64_t stamp = stamp_of(c, slot);
        return is_quiet(&c->slots[0], now_us) && is_quiet(&c->slots[slot], now_us) ? stamp : 0;
}

bool changes_hold(const struct changes *c, const char *tenant, const char *id, uint64_t stamp)
{
        return stamp == stamp_of(c, slot_of(tenant, id));
}
