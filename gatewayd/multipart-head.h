/* The head lines of one multipart part: strict, pure. Used by multipart.c only. */
#pragma once

#include "common/base/util.h"

struct part_head {
        char *name;
        char *filename;
        char *content_type;
        unsigned lines;
        bool disposition, encoding; /* that header was seen */
        bool filename_extended;     /* filename came from filename*, which wins */
};

void part_head_done(struct part_head *h); /* frees and zeroes */
/* One line without its CRLF. 0, or -EBADMSG / -EMSGSIZE with *ret_problem a sentence (static). */
int part_head_line(struct part_head *h, struct span line, const char **ret_problem) mustuse;
/* The empty line was reached: everything needed was there. */
int part_head_complete(const struct part_head *h, const char **ret_problem) mustuse;

/* One `; name=value` parameter at *s, value unquoted. 1, 0 at the end, -EBADMSG. The strings are
 * the caller's. */
int header_parameter(const char **s, char **ret_name, char **ret_value) mustuse;
