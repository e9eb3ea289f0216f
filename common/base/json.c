/* Strict JSON: parsing with all refusals in one place, writing, and reading objects by table. */
#include "json.h"

#include <math.h>

#include "buf.h"

static int problem_set(struct json_problem *p, const char *field, const char *fmt, ...)
        printf_like(3, 4);

/* Copies what fits, never cutting a UTF-8 sequence in half. */
static void copy_text(char *out, size_t size, const char *s)
{
        size_t n = strlen(s);
        if (n >= size) {
                n = size - 1;
                while (n > 0 && ((unsigned char) s[n] & 0xc0) == 0x80)
                        n--;
        }
        memcpy(out, s, n);
        out[n] = 0;
}

static int problem_set(struct json_problem *p, const char *field, const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        char *text = NULL;
        int n = vasprintf(&text, fmt, ap);
        va_end(ap);
        copy_text(p->field, sizeof(p->field), field);
        copy_text(p->message, sizeof(p->message), n < 0 ? "is not valid" : text);
        free(text);
        return -EINVAL;
}

/* Depth of brackets outside strings: refuses deep nesting before the parser spends memory on it. */
static bool too_deep(const char *data, size_t n)
{
        unsigned depth = 0;
        bool string = false;
        for (size_t i = 0; i < n; i++) {
                char c = data[i];
                if (string) {
                        if (c == '\\')
                                i++;
                        else if (c == '"')
                                string = false;
                } else if (c == '"') {
                        string = true;
                } else if (c == '[' || c == '{') {
                        if (++depth > JSON_DEPTH_MAX)
                                return true;
                } else if ((c == ']' || c == '}') && depth > 0) {
                        depth--;
                }
        }
        return false;
}

int json_parse(const char *data, size_t n, json_t **ret, struct json_problem *problem)
{
        if (n == 0)
                return problem_set(problem, "", "expected JSON, got nothing");
        if (too_deep(data, n))
                return problem_set(problem, "", "JSON is nested deeper than %d levels",
                                   JSON_DEPTH_MAX);
        json_error_t error;
        json_t *j = json_loadb(data, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
        if (!j) {
                const char *why =
                        utf8_valid(error.text, strlen(error.text)) ? error.text : "unreadable text";
                return problem_set(problem, "", "not valid JSON at line %d, column %d: %s",
                                   error.line, error.column, why);
        }
        *ret = j;
        return 0;
}

/* Shortest text that reads back as the same number, always recognisable as a real. */
static void put_real(struct buf *b, double v)
{
        char text[40];
        for (int digits = 15; digits <= 17; digits++) {
                (void) snprintf(text, sizeof(text), "%.*g", digits, v);
                if (strtod(text, NULL) == v)
                        break;
        }
        buf_puts(b, text);
        if (!strpbrk(text, ".e"))
                buf_puts(b, ".0");
}

static void put_value(struct buf *b, const json_t *j);

static void put_object(struct buf *b, const json_t *j) /* NOLINT(misc-no-recursion) */
{
        const char *separator = "{";
        void *it = json_object_iter((json_t *) (uintptr_t) j);
        for (; it; it = json_object_iter_next((json_t *) (uintptr_t) j, it)) {
                const char *key = json_object_iter_key(it);
                buf_puts(b, separator);
                buf_put_json_string(b, key, json_object_iter_key_len(it));
                buf_puts(b, ":");
                put_value(b, json_object_iter_value(it));
                separator = ",";
        }
        buf_puts(b, *separator == '{' ? "{}" : "}");
}

static void put_array(struct buf *b, const json_t *j) /* NOLINT(misc-no-recursion) */
{
        buf_puts(b, "[");
        for (size_t i = 0; i < json_array_size(j); i++) {
                if (i > 0)
                        buf_puts(b, ",");
                put_value(b, json_array_get(j, i));
        }
        buf_puts(b, "]");
}

/* Recursion is bounded: what comes from outside went through json_parse. */
static void put_value(struct buf *b, const json_t *j) /* NOLINT(misc-no-recursion) */
{
        switch (json_typeof(j)) {
        case JSON_OBJECT:
                put_object(b, j);
                break;
        case JSON_ARRAY:
                put_array(b, j);
                break;
        case JSON_STRING:
                buf_put_json_string(b, json_string_value(j), json_string_length(j));
                break;
        case JSON_INTEGER:
                buf_putf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(j));
                break;
        case JSON_REAL:
                put_real(b, json_real_value(j));
                break;
        case JSON_TRUE:
                buf_puts(b, "true");
                break;
        case JSON_FALSE:
                buf_puts(b, "false");
                break;
        case JSON_NULL:
                buf_puts(b, "null");
                break;
        }
}

char *json_text(const json_t *j)
{
        struct buf b = BUF_INIT;
        put_value(&b, j);
        return buf_take(&b, NULL);
}

char *json_canonical(const json_t *j)
{
        char *text = json_dumps(j, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY);

        if (!text)
                abort(); /* no memory */
        return text;
}

void approval_digest(const char *kind, const json_t *bound, char out[static SHA256_HEX])
{
        cleanup_json json_t *j = json_pack("{s:O,s:s}", "bound", bound, "kind", kind);
        cleanup_free char *text = json_canonical(j);

        sha256_hex(text, strlen(text), out);
}

static const char *kind_text(enum json_kind kind)
{
        static const char *const text[] = {
                [JSON_KIND_STRING] = "a string",    [JSON_KIND_INT] = "an integer",
                [JSON_KIND_BOOL] = "true or false", [JSON_KIND_NUMBER] = "a number",
                [JSON_KIND_OBJECT] = "an object",   [JSON_KIND_ARRAY] = "an array",
                [JSON_KIND_ANY] = "a value",
        };
        return text[kind];
}

/* "name must be a string of 1 to 200 bytes" */
static int refuse(const struct json_field *f, struct json_problem *problem)
{
        bool counted = f->kind == JSON_KIND_STRING || f->kind == JSON_KIND_ARRAY;
        const char *unit = f->kind == JSON_KIND_STRING ? " bytes" : counted ? " members" : "";
        const char *of = counted ? "of" : "from";
        const char *kind = kind_text(f->kind);
        if (f->min == 0 && f->max == 0)
                return problem_set(problem, f->name, "%s must be %s", f->name, kind);
        if (counted && f->min == 0)
                return problem_set(problem, f->name, "%s must be %s of at most %" PRId64 "%s",
                                   f->name, kind, f->max, unit);
        if (f->max < f->min)
                return problem_set(problem, f->name, "%s must be %s %s at least %" PRId64 "%s",
                                   f->name, kind, of, f->min, unit);
        return problem_set(problem, f->name, "%s must be %s %s %" PRId64 " to %" PRId64 "%s",
                           f->name, kind, of, f->min, f->max, unit);
}

static bool size_fits(const struct json_field *f, size_t n)
{
        return n >= (uint64_t) f->min && (f->max == 0 || n <= (uint64_t) f->max);
}

static bool has_range(const struct json_field *f)
{
        return f->min != 0 || f->max != 0;
}

/* Stores the value when it is of the kind and within the limits. */
static bool store(const struct json_field *f, json_t *v, char *out)
{
        void *to = out + f->offset;
        switch (f->kind) {
        case JSON_KIND_STRING:
                if (!json_is_string(v) || !size_fits(f, json_string_length(v)))
                        return false;
                *(const char **) to = json_string_value(v);
                return true;
        case JSON_KIND_INT: {
                json_int_t i = json_integer_value(v);
                if (!json_is_integer(v) ||
                    (has_range(f) && (i < f->min || (f->max >= f->min && i > f->max))))
                        return false;
                *(int64_t *) to = i;
                return true;
        }
        case JSON_KIND_NUMBER: {
                double d = json_number_value(v);
                if (!json_is_number(v) || !isfinite(d) ||
                    (has_range(f) &&
                     (d < (double) f->min || (f->max >= f->min && d > (double) f->max))))
                        return false;
                *(double *) to = d;
                return true;
        }
        case JSON_KIND_BOOL:
                if (!json_is_boolean(v))
                        return false;
                *(bool *) to = json_is_true(v);
                return true;
        case JSON_KIND_ARRAY:
                if (!json_is_array(v) || !size_fits(f, json_array_size(v)))
                        return false;
                *(json_t **) to = v;
                return true;
        case JSON_KIND_OBJECT:
                if (!json_is_object(v))
                        return false;
                *(json_t **) to = v;
                return true;
        case JSON_KIND_ANY:
                *(json_t **) to = v;
                return true;
        }
        return false;
}

static const struct json_field *field_find(const struct json_field *fields, size_t n,
                                           const char *name)
{
        for (size_t i = 0; i < n; i++) {
                if (streq(fields[i].name, name))
                        return &fields[i];
        }
        return NULL;
}

int json_read(const json_t *object, const struct json_field *fields, size_t n, void *out,
              struct json_problem *problem)
{
        if (!json_is_object(object))
                return problem_set(problem, "", "expected a JSON object");
        const char *key;
        json_t *value;
        json_object_foreach ((json_t *) (uintptr_t) object, key, value) {
                if (!field_find(fields, n, key))
                        return problem_set(problem, key, "unknown field \"%s\"", key);
        }
        for (size_t i = 0; i < n; i++) {
                const struct json_field *f = &fields[i];
                value = json_object_get(object, f->name);
                if (f->nullable && json_is_null(value))
                        value = NULL;
                if (!value && f->required)
                        return problem_set(problem, f->name, "%s is required", f->name);
                if (value && !store(f, value, out))
                        return refuse(f, problem);
                if (f->offset_set != 0)
                        *(bool *) ((char *) out + f->offset_set) = value != NULL;
        }
        return 0;
}
