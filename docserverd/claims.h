/* Claims on checksums: who is about to name a blob in a row shares it, who wants to remove the blob
 * owns it alone.
 *
 * All on the loop. An owner is refused while anybody holds the claim (removing garbage can wait for
 * the next sweep); a sharer behind an owner waits its turn. */
#pragma once

#include "common/base/list.h"
#include "common/base/map.h"

struct claims;
struct claims *claims_new(void) mustuse;
struct claims *claims_free(struct claims *c); /* waiters are forgotten */
DEFINE_CLEANUP(struct claims, claims_free)

struct claim_wait {
        void (*granted)(struct claim_wait *w); /* the share is held from here on */
        struct list link;
};
/* True: held at once, w is not used. False: w->granted comes later. */
bool claims_share(struct claims *c, const char *key, struct claim_wait *w) mustuse;
void claims_unshare(struct claims *c, const char *key);
bool claims_own(struct claims *c, const char *key) mustuse;
void claims_disown(struct claims *c, const char *key); /* grants those who waited */
size_t claims_count(const struct claims *c);
