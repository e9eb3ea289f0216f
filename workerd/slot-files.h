/* Files of the slot for people: what the gateway asks over the worker's descriptor socket
 * (proto/slot.toml). Everything is resolved beneath the slot's home by the helper inside. */
#pragma once

#include "common/io/fdlink.h"
#include "slot.h"

#define SLOT_FILE_MAX (256 * MIB) /* one file; it passes through memory */
#define SLOT_TRANSFERS_MAX 8      /* at a time: requests under way and places being filled */

struct slot_files;
struct slot_files *slot_files_new(void);
struct slot_files *slot_files_free(struct slot_files *f); /* before the server of its requests */

/* Each answers the request, now or later. */
int slot_files_get(struct slot_files *f, struct slot *s, struct fdlink_request *req,
                   const struct slot_file_get *m);
int slot_files_put(struct slot_files *f, struct slot *s, struct fdlink_request *req,
                   const struct slot_file_put *m);
int slot_files_commit(struct slot_files *f, struct slot *s, struct fdlink_request *req,
                      const struct slot_file_commit *m);
int slot_files_delete(struct slot_files *f, struct slot *s, struct fdlink_request *req,
                      const struct slot_file_delete *m);
/* A connection ended: places it had are dropped. */
void slot_files_gone(struct slot_files *f, uint64_t connection);
