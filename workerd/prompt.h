/* The system prompt of an agent in a slot. */
#pragma once

#include "common/base/util.h"

struct prompt_config {
        bool desktop;
        uint32_t width, height; /* of the pictures */
        uint64_t now_us; /* realtime: only the day is told, so that prompts stay the same for caches
                          */
        const char *session_name; /* may be NULL */
        const char *network;      /* a line of the list on the machine, with its newline */
        const char *more;         /* lines on skills and what is missing, or NULL */
        struct span extra;        /* the blueprint's own prompt, behind ours */
        const char *const *files; /* paths of documents placed in the slot */
        size_t n_files;
        const char *results; /* folder whose files are kept when a run ends, or NULL */
};
char *prompt_make(const struct prompt_config *c) mustuse;
