/* What all providers share: whether and when to try again, and which of them serves a model. */
#include "provider.h"

#include <curl/curl.h>
#include <strings.h>

#define BACKOFF_FIRST (500 * USEC_PER_MSEC)
#define BACKOFF_MAX (8 * USEC_PER_SEC)
#define RETRY_AFTER_MAX (300 * USEC_PER_SEC)

uint64_t provider_backoff(unsigned attempt, uint64_t retry_after_usec, uint32_t random)
{
        uint64_t wait;

        if (retry_after_usec > 0)
                return MIN(retry_after_usec, RETRY_AFTER_MAX);
        wait = attempt > 5 ? BACKOFF_MAX : BACKOFF_FIRST << (MAX(attempt, 1U) - 1);
        wait = MIN(wait, BACKOFF_MAX);
        return wait - wait / 4 * (random % 1024) / 1024;
}

void provider_retry_header(struct provider_retry *r, const char *name, struct span value)
{
        char text[128];
        uint64_t n;
        size_t len = MIN(value.len, sizeof(text) - 1);

        memcpy(text, value.data, len);
        text[len] = '\0';
        if (streq(name, "x-should-retry")) {
                r->should_retry = strcasecmp(text, "true") == 0    ? 1
                                  : strcasecmp(text, "false") == 0 ? 0
                                                                   : -1;
        } else if (streq(name, "retry-after-ms")) {
                if (parse_u64(text, &n) == 0 && n < UINT64_MAX / 1000)
                        r->after_usec = n * USEC_PER_MSEC;
        } else if (streq(name, "retry-after") && r->after_usec == 0) {
                time_t when = curl_getdate(text, NULL);

                if (parse_u64(text, &n) == 0)
                        r->after_usec = MIN(n, UINT64_C(86400)) * USEC_PER_SEC;
                else if (when > 0 && (uint64_t) when * USEC_PER_SEC > now_realtime())
                        r->after_usec = (uint64_t) when * USEC_PER_SEC - now_realtime();
        }
}

bool provider_retries(const struct provider_retry *r, long status)
{
        if (r->should_retry >= 0)
                return r->should_retry > 0;
        return status == 408 || status == 409 || status == 429 || status >= 500;
}

enum result { RESULT_OK, RESULT_BUSY, RESULT_REFUSED, RESULT_FAILED, RESULT_MAX };
static const char *const result_names[RESULT_MAX] = { "ok", "busy", "refused", "failed" };
static const char *const provider_names[] = { "anthropic", "openai" };
static uint64_t counts[ARRAY_LEN(provider_names)][RESULT_MAX];

void provider_count(const struct provider *p, const struct provider_reply *reply,
                    const struct provider_failure *failure)
{
        enum result r = reply                                              ? RESULT_OK
                        : failure->status == 429 || failure->status == 529 ? RESULT_BUSY
                        : failure->status >= 400 && failure->status < 500  ? RESULT_REFUSED
                                                                           : RESULT_FAILED;

        for (size_t i = 0; i < ARRAY_LEN(provider_names); i++)
                if (streq(p->name, provider_names[i]))
                        counts[i][r]++;
}

void provider_counts_json(struct buf *b)
{
        buf_puts(b, "{");
        for (size_t i = 0; i < ARRAY_LEN(provider_names); i++) {
                buf_putf(b, "%s\"%s\":{", i ? "," : "", provider_names[i]);
                for (size_t r = 0; r < RESULT_MAX; r++)
                        buf_putf(b, "%s\"%s\":%" PRIu64, r ? "," : "", result_names[r],
                                 counts[i][r]);
                buf_puts(b, "}");
        }
        buf_puts(b, "}");
}

struct provider *provider_for(const struct provider_set *s, const char *model,
                              const char **ret_model)
{
        *ret_model = model;
        if (str_starts(model, "openai/")) {
                *ret_model = model + strlen("openai/");
                return s->openai;
        }
        if (str_starts(model, "anthropic/")) {
                *ret_model = model + strlen("anthropic/");
                return s->anthropic;
        }
        return s->openai_first ? s->openai : s->anthropic;
}
