/* What a host lends to the slots of one worker. */
#include "slot-private.h"

int slot_host_new(const struct slot_host_config *c, struct slot_host **ret)
{
        struct slot_host *h = xnew(struct slot_host);
        identity_open(c->userns, &h->identity);
        h->cgroups = CGROUP_BASE_NONE;
        if (c->cgroups)
                cgroup_base_open(&h->cgroups);
        *ret = h;
        return 0;
}

struct slot_host *slot_host_free(struct slot_host *h)
{
        if (!h)
                return NULL;
        identity_done(&h->identity);
        cgroup_base_done(&h->cgroups);
        free(h);
        return NULL;
}

struct identity *slot_host_identity(struct slot_host *h)
{
        return h ? &h->identity : NULL;
}
