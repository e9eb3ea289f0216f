/* What a document may be called and tagged and what its metadata may hold: the rules of api.md,
 * pure, in one place for the gateway (refuses early, before a body is read) and docserverd (refuses
 * what anyone asks). */
#pragma once

#include "json.h"

#define DOCUMENT_FILENAME_MAX 255u
#define DOCUMENT_CONTENT_TYPE_MAX 100u
#define DOCUMENT_TAGS_MAX 50u
#define DOCUMENT_TAG_MAX 64u
#define DOCUMENT_METADATA_MAX (64 * KIB)
#define DOCUMENT_DESCRIPTION_MAX 4096u

/* Each gives NULL when all is well, else a sentence with a lower-case start that fits behind the
 * field's name. */
const char *document_filename_problem(const char *s);
/* A file's place in a folder that is uploaded: relative, parts joined by single slashes, each as a
 * filename may be. */
#define DOCUMENT_PATH_MAX 512u
#define DOCUMENT_PATH_DEPTH 16u
const char *document_path_problem(const char *s);
const char *document_content_type_problem(const char *s);
const char *document_tag_problem(const char *s);

/* Parsed text must be an object; `description`, if there, a string (or null when `patch`: it is
 * removed). 0, or -EINVAL with *problem. */
int document_metadata_check(const json_t *metadata, bool patch,
                            struct json_problem *problem) mustuse;

/* A set of tags in the order in which they first came. */
struct document_tags {
        char tags[DOCUMENT_TAGS_MAX][DOCUMENT_TAG_MAX + 1];
        size_t n;
};
/* Adds one unless it is there already. -EINVAL with *problem (field "tags"). */
int document_tags_add(struct document_tags *t, struct span tag,
                      struct json_problem *problem) mustuse;
/* "a, b,c": white space around tags and empty tags are dropped. */
int document_tags_parse(struct document_tags *t, struct span list,
                        struct json_problem *problem) mustuse;
int document_tags_from_json(struct document_tags *t, const json_t *array,
                            struct json_problem *problem) mustuse;
