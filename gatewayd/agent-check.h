/* What a blueprint may say of MCP servers, skills and its report: each gives NULL, or a sentence
 * that says what to do. Pure. */
#pragma once

#include "common/base/json.h"

const char *agent_servers_problem(const json_t *servers, struct json_problem *p);
const char *agent_skills_problem(const json_t *skills);
const char *agent_schema_problem(const json_t *schema, struct json_problem *p);
