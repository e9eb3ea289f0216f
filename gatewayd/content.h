/* Reading what people send about sessions: message content, file lists, budgets. Pure. */
#pragma once

#include "common/base/json.h"

/* A string or an array of text and image blocks -> the array of content blocks that is stored and
 * sent to models. Returns a new reference, or NULL with *problem. field names the member in
 * messages. */
json_t *content_from_json(const json_t *value, const char *field,
                          struct json_problem *problem) mustuse;

/* {turns, tokens, cost_usd, seconds}, each a number >= 0 or null. */
int budget_check(const json_t *budget, struct json_problem *problem) mustuse;
/* A policy as common/base/netpolicy.h reads it. */
int network_check(const json_t *network, struct json_problem *problem) mustuse;
/* A path below the slot's home: relative, no empty, "." or ".." part, no control characters. */
bool slot_path_ok(const char *path);
/* ^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$, at most 64 characters. */
bool agent_name_ok(const char *name);
/* Letters, digits, '-' and '_', 1 to 64 characters. */
bool session_id_ok(const char *id);
