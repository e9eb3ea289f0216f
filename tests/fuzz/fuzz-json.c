/* Strict JSON: what is accepted is written again, reads back equal, and writes the same text. */
#include <assert.h>

#include "common/base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        static const struct json_field fields[] = {
                { .name = "a", .kind = JSON_KIND_STRING, .max = 4 },
                { .name = "b", .kind = JSON_KIND_ANY, .offset = sizeof(void *) },
        };
        cleanup_json json_t *j = NULL, *again = NULL;
        struct json_problem p = { 0 };
        void *out[2];
        if (json_parse((const char *) data, n, &j, &p) < 0) {
                assert(*p.message && utf8_valid(p.message, strlen(p.message)));
                return 0;
        }
        if (json_read(j, fields, ARRAY_LEN(fields), out, &p) < 0)
                assert(*p.message && utf8_valid(p.message, strlen(p.message)) &&
                       utf8_valid(p.field, strlen(p.field)));
        cleanup_free char *text = json_text(j);
        assert(utf8_valid(text, strlen(text)));
        assert(json_parse(text, strlen(text), &again, &p) == 0);
        assert(json_equal(j, again));
        cleanup_free char *same = json_text(again);
        assert(streq(text, same));
        return 0;
}
