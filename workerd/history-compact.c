/* What the conversation was up to a point gives way to a summary of it; and the same call over and
 * over again is noticed. */
#include "history-internal.h"

#define PINNED_MAX (256 * KIB) /* of dropped messages that stay word for word */
#define PERIOD_MAX 4           /* calls of a loop */

void history_set_context(struct history *h, uint64_t tokens)
{
        h->context_tokens = tokens;
}

uint64_t history_context(const struct history *h)
{
        return h->context_tokens;
}

/* Where the newest `kept` turns begin; 0 when there are not more. */
static size_t cut_at(const struct history *h, size_t kept)
{
        size_t turns = 0;

        for (size_t i = h->n; i > 0; i--)
                if (h->entries[i - 1].assistant && ++turns == kept)
                        return i - 1;
        return 0;
}

uint64_t history_compact_upto(const struct history *h, size_t kept)
{
        size_t cut = cut_at(h, MAX(kept, (size_t) 1));
        bool any = false;

        for (size_t i = 0; i < cut; i++)
                any |= h->entries[i].assistant;
        return any ? h->entries[cut - 1].seq : 0;
}

static void pin(struct history *h, const json_t *content)
{
        json_t *block;
        size_t i, size;

        json_array_foreach (content, i, block) {
                size = history_size(block);
                if (h->pinned_bytes + size > PINNED_MAX)
                        continue;
                json_array_append(h->pinned, block);
                h->pinned_bytes += size;
        }
}

/* Before the entry goes: what must outlive it. */
static void retain(struct history *h, const struct history_entry *e)
{
        if (e->assistant) {
                h->dropped_turns++;
                h->dropped_run++;
                return;
        }
        h->dropped_user_seq = MAX(h->dropped_user_seq, e->seq);
        h->dropped_run = 0;
        if ((json_array_size(h->pinned) == 0 || e->pinned) && !e->taken)
                pin(h, e->content);
}

/* Behind the entry of that seq; when retention has taken it, behind what is as old. */
static size_t behind(const struct history *h, uint64_t seq)
{
        size_t n = 0;

        for (size_t i = 0; i < h->n; i++)
                if (h->entries[i].seq == seq)
                        return i + 1;
        while (n < h->n && h->entries[n].seq <= seq)
                n++;
        return n;
}

int history_compact(struct history *h, uint64_t upto_seq, const char *summary)
{
        size_t cut = behind(h, upto_seq);

        if (!summary)
                return -EBADMSG;
        if (!h->pinned)
                h->pinned = json_array();
        for (size_t i = 0; i < cut; i++) {
                retain(h, &h->entries[i]);
                history_unaccount(h, &h->entries[i]);
                history_entry_done(&h->entries[i]);
        }
        memmove(h->entries, h->entries + cut, (h->n - cut) * sizeof(*h->entries));
        h->n -= cut;
        free(h->summary);
        h->summary = xstrdup(summary);
        h->context_tokens = 0;
        return 0;
}

json_t *history_compacted(const struct history *h)
{
        cleanup_free char *text = NULL;
        json_t *content;

        if (!h->summary)
                return NULL;
        text = xasprintf("[What follows is a summary of the work up to here; the conversation "
                         "itself was too long to be kept.]\n\n%s",
                         h->summary);
        content = json_copy(h->pinned);
        json_array_append_new(content, json_pack("{s:s,s:s}", "type", "text", "text", text));
        return content;
}

/* ---- loops ---- */

static bool same_call(const struct history_call *a, const struct history_call *b)
{
        return streq(a->name, b->name) && streq(a->toolset, b->toolset) &&
               json_equal(a->input, b->input) && streq(a->error, b->error) &&
               (a->output == b->output || json_equal(a->output, b->output));
}

/* The newest calls since the person last spoke, newest first. */
static size_t recent_calls(const struct history *h, const struct history_call **out, size_t max)
{
        size_t n = 0;

        for (size_t i = h->n; i > 0 && h->entries[i - 1].assistant; i--)
                for (size_t k = h->entries[i - 1].n_calls; k > 0 && n < max; k--)
                        if (h->entries[i - 1].calls[k - 1].state == CALL_DONE)
                                out[n++] = &h->entries[i - 1].calls[k - 1];
        return n;
}

const struct history_call *history_loop(const struct history *h, size_t repeats)
{
        const struct history_call *calls[HISTORY_LOOP_MAX * PERIOD_MAX];
        size_t n;

        if (repeats < 2)
                return NULL;
        repeats = MIN(repeats, (size_t) HISTORY_LOOP_MAX);
        n = recent_calls(h, calls, repeats * PERIOD_MAX);
        if (n == 0)
                return NULL;
        for (size_t period = 1; period <= PERIOD_MAX; period++) {
                size_t i = 0;

                while (i + period < n && i < (repeats - 1) * period &&
                       same_call(calls[i], calls[i + period]))
                        i++;
                if (i == (repeats - 1) * period)
                        return calls[0];
        }
        return NULL;
}
