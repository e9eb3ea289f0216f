/* What a session takes from the blueprint that it names, when it is created. */
#pragma once

#include <jansson.h>

#include "coordinator.h"

struct blueprint {
        json_t *body;
        char *text; /* what is kept with the session: version, system_prompt, tools, approval */
        char *model, *budget, *network; /* NULL = it says nothing */
        const char *image;              /* borrowed of body */
        uint32_t width, height;         /* 0 = it says nothing */
        bool has_kind;
        enum slot_kind kind;
};
/* Asks for the row that blueprint_read reads; no row = no such agent. */
int blueprint_find(struct coordinator *c, const char *tenant, const char *name, pg_done_fn fn,
                   void *userdata) mustuse;
/* -EPERM: it is not active. -EBADMSG: it is damaged. */
int blueprint_read(const PGresult *r, struct blueprint *ret) mustuse;
void blueprint_done(struct blueprint *b);
