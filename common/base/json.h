/* Strict JSON on top of jansson: what peers send is parsed here and nowhere else.
 *
 * json_parse refuses duplicate keys, NUL characters, invalid UTF-8, trailing bytes, numbers out of
 * range and nesting deeper than JSON_DEPTH_MAX. Errors carry one sentence for the caller's user. */
#pragma once

#include <jansson.h>

#include "util.h"

#define JSON_DEPTH_MAX 32

struct json_problem {
        char field[64];    /* dotted path of the field at fault, or "" */
        char message[200]; /* "name must be a string of 1 to 200 characters" */
};

#define cleanup_json CLEANUP(json_decrefp) /* the function is jansson's own */

/* 0, or -EINVAL with *problem filled. */
int json_parse(const char *data, size_t n, json_t **ret, struct json_problem *problem) mustuse;

/* Compact text, keys in insertion order, NUL-terminated; the caller frees. Dies without memory. */
char *json_text(const json_t *j) mustuse;

/* Compact text with sorted keys: the same for the same value, however it was written. */
char *json_canonical(const json_t *j) mustuse;

/* What an approval is bound to: SHA-256, in hex, of {"bound":...,"kind":...} as canonical JSON. */
void approval_digest(const char *kind, const json_t *bound, char out[static SHA256_HEX]);

/* Declarative reading of an object: every member must be named in the table, of the given type and
 * within its limits; a member not in the table is refused by name. */
enum json_kind {
        JSON_KIND_STRING, /* char *: points into the json_t; min/max count bytes */
        JSON_KIND_INT,    /* int64_t: min/max are the range */
        JSON_KIND_BOOL,   /* bool */
        JSON_KIND_NUMBER, /* double: finite; min/max are the range */
        JSON_KIND_OBJECT, /* json_t *: borrowed */
        JSON_KIND_ARRAY,  /* json_t *: borrowed; min/max count members */
        JSON_KIND_ANY,    /* json_t *: borrowed */
};
struct json_field {
        const char *name;
        enum json_kind kind;
        size_t offset;     /* of the member in the output struct */
        size_t offset_set; /* of a bool "was given", which is not the first member; 0 = none */
        int64_t min, max;  /* both 0 = no limit */
        bool required;
        bool nullable; /* null counts as absent */
};
#define JSON_FIELD(type, member, kind_, ...)                                                       \
        {                                                                                          \
                .name = #member, .kind = (kind_), .offset = offsetof(type, member), ##__VA_ARGS__  \
        }
int json_read(const json_t *object, const struct json_field *fields, size_t n, void *out,
              struct json_problem *problem) mustuse;
