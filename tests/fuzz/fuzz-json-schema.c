/* JSON Schema: {"schema":..,"value":..}; whatever passes the check can be judged, with a sentence
 * when it does not fit. */
#include <assert.h>

#include "common/base/json-schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        cleanup_json json_t *j = NULL;
        struct json_problem p = { 0 };
        const json_t *schema, *value;

        if (json_parse((const char *) data, n, &j, &p) < 0)
                return 0;
        schema = json_object_get(j, "schema");
        value = json_object_get(j, "value");
        if (!schema || !value)
                return 0;
        if (json_schema_check(schema, &p) < 0 || json_schema_fits(schema, value, &p) < 0)
                assert(*p.message && utf8_valid(p.message, strlen(p.message)) &&
                       utf8_valid(p.field, strlen(p.field)));
        return 0;
}
