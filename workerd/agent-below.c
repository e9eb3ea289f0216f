/* What sessions under this one use: it counts against this one's budget.
 *
 * Each result of session_start and session_wait carries the sums (usage_below) as they were then.
 */
#include "agent-internal.h"

static uint64_t count(const json_t *object, const char *key)
{
        json_int_t n = json_integer_value(json_object_get(object, key));

        return n > 0 ? (uint64_t) n : 0;
}

void agent_note_below(struct agent *a, const json_t *members)
{
        const json_t *u = json_object_get(members, "usage_below");

        if (!json_is_object(u))
                return;
        a->below = (struct usage){
                .input_tokens = count(u, "input_tokens"),
                .output_tokens = count(u, "output_tokens"),
                .cache_read_tokens = count(u, "cache_read_tokens"),
                .cache_write_tokens = count(u, "cache_write_tokens"),
                .cost_microusd =
                        (uint64_t) (json_number_value(json_object_get(u, "cost_usd")) * 1e6 + 0.5),
                .turns = count(u, "turns"),
        };
}

struct usage agent_used(const struct agent *a)
{
        return (struct usage){
                .input_tokens = a->total.input_tokens + a->below.input_tokens,
                .output_tokens = a->total.output_tokens + a->below.output_tokens,
                .cache_read_tokens = a->total.cache_read_tokens + a->below.cache_read_tokens,
                .cache_write_tokens = a->total.cache_write_tokens + a->below.cache_write_tokens,
                .cost_microusd = a->total.cost_microusd + a->below.cost_microusd,
                .turns = a->total.turns + a->below.turns,
        };
}

static void put(json_t *to, const char *key, uint64_t limit, uint64_t used)
{
        if (limit > 0)
                json_object_set_new(to, key,
                                    json_integer(limit > used ? (json_int_t) (limit - used) : 0));
}

json_t *agent_budget_left(const struct agent *a)
{
        const struct agent_budget *b = &a->c.budget;
        struct usage u = agent_used(a);
        uint64_t run =
                a->run_usec + (a->working_since > 0 ? now_monotonic() - a->working_since : 0);
        json_t *left = json_object();

        put(left, "turns", b->turns, u.turns);
        put(left, "tokens", b->tokens,
            u.input_tokens + u.output_tokens + u.cache_read_tokens + u.cache_write_tokens);
        put(left, "seconds", b->usec / USEC_PER_SEC, run / USEC_PER_SEC);
        if (b->cost_microusd > 0)
                json_object_set_new(
                        left, "cost_usd",
                        json_real(b->cost_microusd > u.cost_microusd
                                          ? (double) (b->cost_microusd - u.cost_microusd) / 1e6
                                          : 0));
        return left;
}
