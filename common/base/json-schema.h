/* A small part of JSON Schema: what an agent's report is checked against.
 *
 * Keywords that judge: type (one or a list), properties, required, additionalProperties (true,
 * false or a schema), items, enum, const, minimum, maximum, exclusiveMinimum, exclusiveMaximum,
 * minLength, maxLength (characters), minItems, maxItems. Keywords that only describe are taken:
 * title, description, default, examples, format, $schema, $id, $comment. Every other keyword is
 * refused by json_schema_check: a rule that is not followed must not look as if it were. Pure; no
 * recursion. */
#pragma once

#include "json.h"

#define JSON_SCHEMA_NODES_MAX 2000  /* schemas within one schema */
#define JSON_SCHEMA_STEPS_MAX 50000 /* values that are judged */

/* Is this a schema we can follow? 0, or -EINVAL with *problem: field = where in the schema. */
int json_schema_check(const json_t *schema, struct json_problem *problem) mustuse;

/* 0 when the value fits; -EINVAL with *problem: field = where in the value ("" = the whole),
 * message = one sentence that says what is expected. The schema must have passed json_schema_check.
 * -E2BIG (also with a message) when the value has too many members to be judged. */
int json_schema_fits(const json_t *schema, const json_t *value,
                     struct json_problem *problem) mustuse;
