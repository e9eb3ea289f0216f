/* Calls that wait for a reply: an array of slots, a free list in it, and a heap of deadlines. */
#include "calls.h"

#include "daemon.h"

#define NONE UINT32_MAX

struct slot {
        struct call call;
        uint64_t deadline;
        uint32_t generation; /* of the call in it; grows with each use */
        uint32_t heap;       /* place in the heap, NONE = slot is free */
        uint32_t next_free;
};

struct calls {
        struct slot *slots;
        uint32_t *heap; /* slot numbers, earliest deadline first */
        uint32_t n_slots, n_heap, max, first_free;
        uint8_t salt[8]; /* replies to an earlier life of the process do not fit */
        uint64_t armed;  /* when the timer fires; UINT64_MAX = off */
        struct loop_timer timer;
        void (*expired)(void *userdata, const struct call *c);
        void *userdata;
        bool freed, expiring;
};

static void heap_place(struct calls *t, uint32_t at, uint32_t slot)
{
        t->heap[at] = slot;
        t->slots[slot].heap = at;
}

static void heap_up(struct calls *t, uint32_t at, uint32_t slot)
{
        uint64_t deadline = t->slots[slot].deadline;
        while (at > 0) {
                uint32_t parent = (at - 1) / 2;
                if (t->slots[t->heap[parent]].deadline <= deadline)
                        break;
                heap_place(t, at, t->heap[parent]);
                at = parent;
        }
        heap_place(t, at, slot);
}

static void heap_down(struct calls *t, uint32_t at, uint32_t slot)
{
        uint64_t deadline = t->slots[slot].deadline;
        for (;;) {
                uint32_t child = 2 * at + 1;
                if (child >= t->n_heap)
                        break;
                if (child + 1 < t->n_heap &&
                    t->slots[t->heap[child + 1]].deadline < t->slots[t->heap[child]].deadline)
                        child++;
                if (t->slots[t->heap[child]].deadline >= deadline)
                        break;
                heap_place(t, at, t->heap[child]);
                at = child;
        }
        heap_place(t, at, slot);
}

static void heap_remove(struct calls *t, uint32_t at)
{
        uint32_t last = t->heap[--t->n_heap];
        if (at == t->n_heap)
                return;
        if (at > 0 && t->slots[t->heap[(at - 1) / 2]].deadline > t->slots[last].deadline)
                heap_up(t, at, last);
        else
                heap_down(t, at, last);
}

static void take_slot(struct calls *t, uint32_t n, struct call *ret)
{
        struct slot *s = &t->slots[n];
        *ret = s->call;
        heap_remove(t, s->heap);
        s->heap = NONE;
        s->generation++;
        s->next_free = t->first_free;
        t->first_free = n;
}

/* The timer is only ever moved forward in time when it fires: a call that ends costs nothing. */
static void arm(struct calls *t)
{
        if (t->n_heap == 0)
                return;
        uint64_t at = t->slots[t->heap[0]].deadline, now = now_monotonic();
        if (at >= t->armed)
                return;
        t->armed = at;
        loop_timer_arm(&t->timer, at > now ? at - now : 0);
}

static void destroy(void *p)
{
        struct calls *t = p;
        loop_timer_done(&t->timer);
        free(t->slots);
        free(t->heap);
        free(t);
}

static void on_timer(void *userdata)
{
        struct calls *t = userdata;
        uint64_t now = now_monotonic();
        t->armed = UINT64_MAX;
        t->expiring = true;
        while (!t->freed && t->n_heap > 0 && t->slots[t->heap[0]].deadline <= now) {
                struct call c;
                take_slot(t, t->heap[0], &c);
                t->expired(t->userdata, &c);
        }
        t->expiring = false;
        if (t->freed)
                destroy(t);
        else
                arm(t);
}

int calls_new(sd_event *e, size_t max, void (*expired)(void *userdata, const struct call *c),
              void *userdata, struct calls **ret)
{
        struct calls *t = xnew(struct calls);
        *t = (struct calls){
                .max = (uint32_t) MIN(max, (size_t) 1 << 24),
                .first_free = NONE,
                .armed = UINT64_MAX,
                .expired = expired,
                .userdata = userdata,
        };
        random_bytes(t->salt, sizeof(t->salt));
        int r = loop_timer_init(&t->timer, e, on_timer, t);
        if (r < 0) {
                free(t);
                return r;
        }
        *ret = t;
        return 0;
}

struct calls *calls_free(struct calls *t)
{
        if (!t)
                return NULL;
        t->n_heap = 0;
        t->freed = true;
        if (!t->expiring)
                destroy(t);
        return NULL;
}

static void grow(struct calls *t)
{
        uint32_t n = MIN(t->max, MAX(16U, t->n_slots * 2));
        t->slots = xrealloc(t->slots, n, sizeof(*t->slots));
        t->heap = xrealloc(t->heap, n, sizeof(*t->heap));
        for (uint32_t i = n; i-- > t->n_slots;) {
                t->slots[i] = (struct slot){ .heap = NONE, .next_free = t->first_free };
                t->first_free = i;
        }
        t->n_slots = n;
}

int calls_add(struct calls *t, const struct call *c, uint64_t timeout_usec,
              uint8_t ret_correlation[static WIRE_CORRELATION])
{
        if (t->first_free == NONE && t->n_slots < t->max)
                grow(t);
        if (t->first_free == NONE)
                return -EAGAIN;
        uint32_t n = t->first_free;
        struct slot *s = &t->slots[n];
        uint64_t now = now_monotonic();
        t->first_free = s->next_free;
        s->call = *c;
        s->deadline = timeout_usec > UINT64_MAX - now ? UINT64_MAX : now + timeout_usec;
        heap_up(t, t->n_heap++, n);
        arm(t);
        memcpy(ret_correlation, t->salt, 8);
        memcpy(ret_correlation + 8, &s->generation, 4);
        memcpy(ret_correlation + 12, &n, 4);
        return 0;
}

static uint32_t find(struct calls *t, const uint8_t *correlation)
{
        uint32_t generation, n;
        memcpy(&generation, correlation + 8, 4);
        memcpy(&n, correlation + 12, 4);
        if (memcmp(correlation, t->salt, 8) != 0 || n >= t->n_slots)
                return NONE;
        return t->slots[n].heap != NONE && t->slots[n].generation == generation ? n : NONE;
}

const struct call *calls_find(struct calls *t, const uint8_t correlation[static WIRE_CORRELATION])
{
        uint32_t n = find(t, correlation);
        return n == NONE ? NULL : &t->slots[n].call;
}

bool calls_take(struct calls *t, const uint8_t correlation[static WIRE_CORRELATION],
                struct call *ret)
{
        uint32_t n = find(t, correlation);
        if (n == NONE)
                return false;
        take_slot(t, n, ret);
        return true;
}

bool calls_take_next(struct calls *t, const void *owner, size_t *iter, struct call *ret)
{
        for (; *iter < t->n_slots; (*iter)++) {
                struct slot *s = &t->slots[*iter];
                if (s->heap == NONE || (owner && s->call.owner != owner))
                        continue;
                take_slot(t, (uint32_t) *iter, ret);
                (*iter)++;
                return true;
        }
        return false;
}

void calls_cancel(struct calls *t, const void *userdata)
{
        for (uint32_t i = 0; i < t->n_slots; i++) {
                struct call ignored;
                if (t->slots[i].heap != NONE && t->slots[i].call.userdata == userdata)
                        take_slot(t, i, &ignored);
        }
}

size_t calls_count(const struct calls *t)
{
        return t->n_heap;
}
