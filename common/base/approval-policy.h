/* What an agent's tools may do without asking: the member `approval` of a blueprint.
 *
 *   {"bash": "ask", "computer": {"default": "allow", "rules": [
 *       {"argument": "action", "glob": "type", "then": "ask"}]}, "*": "allow"}
 *
 * A tool's value is allow, ask or deny, or rules: the first whose argument matches decides, else
 * the default. "*" is for tools that are not named; without it they are allowed. A glob knows * and
 * ?, a regex is POSIX extended without back references; both see the whole value of the argument,
 * text as it is, anything else as JSON. An argument that is absent matches nothing. Rules that look
 * at shell text are easy to get around: let them allow what is known, and ask for the rest. */
#pragma once

#include "json.h"

enum policy { POLICY_ALLOW, POLICY_ASK, POLICY_DENY };

/* NULL when it can be used, else what is wrong (a static sentence). */
const char *policy_check(const json_t *approval);
/* action: the member of a toolset that is called, stands for the argument `action`; or NULL. What
 * cannot be judged (a damaged rule, a value beyond 64 KiB) counts for every rule but one that
 * allows. */
enum policy policy_decide(const json_t *approval, const char *tool, const char *action,
                          const json_t *input);
/* It is denied whatever the arguments: it need not be offered. */
bool policy_hides(const json_t *approval, const char *tool);
