/* Hooks: code of the operator or of a tenant that sees a document's text on the way in
 * (preIngestHook) and an answer on the way out (postAnswerHook). It runs in a headless slot of its
 * own, with JSON on its standard input, and writes a JSON object. Code that begins with "#!" is run
 * as it is, other code by python3. */
#pragma once

#include <jansson.h>

#include "docserver.h"

/* The file of a setting, read once: "" gives NULL. Refuses what is no text of at most 256 KiB. */
int hook_load(const char *setting, const char *path, char **ret) mustuse;

struct hook_config {
        const char *tenant;
        const char *document_id; /* the code is this document; NULL = `code` */
        const char *code;
        struct span input; /* JSON; copied */
};
/* out: the object the hook wrote, borrowed; NULL with why = one sentence. Called once, from the
 * loop.
 */
typedef void (*hook_fn)(void *userdata, const json_t *out, const char *why);
void hook_run(struct docserver *d, const struct hook_config *c, hook_fn fn, void *userdata);
/* For the end of the daemon, when no job is under way any more: ends those that wait. */
void hooks_end(struct docserver *d);
