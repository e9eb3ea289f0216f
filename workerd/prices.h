/* What model calls cost: a table of prices by model prefix, and how much they read, from a JSON
 * file that is read at start and at SIGHUP. */
#pragma once

#include "proto/wire.h"

struct prices;
/* {"models":[{"prefix":"claude-","input":3,"output":15,"cache_read":0.3,"cache_write":3.75,
 * "context":200000}]}, US dollars per million tokens, tokens; the longest prefix that fits counts.
 * *ret_error: a sentence, the caller frees. */
int prices_load(const char *path, struct prices **ret, char **ret_error) mustuse;
/* Reads the file again into the same table; on failure the table stays as it is. */
int prices_reload(struct prices *p, const char *path, char **ret_error) mustuse;
/* Tokens that the model reads at most; 0 = not known (p may be NULL). */
uint64_t prices_context(const struct prices *p, const char *model);
struct prices *prices_free(struct prices *p);
DEFINE_CLEANUP(struct prices, prices_free)
/* Millionths of a dollar; 0 when no price is known (p may be NULL). */
uint64_t prices_cost(const struct prices *p, const char *model, const struct usage *u);
