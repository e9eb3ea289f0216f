/* Judges JSON values by a small part of JSON Schema, with a work list instead of recursion. */
#include "json-schema.h"

#include "buf.h"

struct item {
        const json_t *schema, *value;
        char *path;
};

struct work {
        struct item *items;
        size_t n, cap, steps;
};

static void work_done(struct work *w)
{
        for (size_t i = 0; i < w->n; i++)
                free(w->items[i].path);
        free(w->items);
}

static void work_add(struct work *w, const json_t *schema, const json_t *value, char *path)
{
        if (w->n == w->cap) {
                w->cap = MAX(w->cap * 2, (size_t) 32);
                w->items = xrealloc(w->items, w->cap, sizeof(*w->items));
        }
        w->items[w->n++] = (struct item){ schema, value, path };
        w->steps++;
}

/* Dotted, and cut where a path of 63 bytes does not hold it. */
static char *path_in(const char *path, const char *key)
{
        return *path ? xasprintf("%s.%.80s", path, key) : xasprintf("%.80s", key);
}

static int printf_like(3, 4)
        problem_at(struct json_problem *p, const char *path, const char *fmt, ...)
{
        va_list ap;
        size_t cut = strlen(path) < sizeof(p->field) ? strlen(path) : sizeof(p->field) - 1;

        while (cut > 0 && ((unsigned char) path[cut] & 0xc0) == 0x80)
                cut--;
        memcpy(p->field, path, cut);
        p->field[cut] = '\0';
        va_start(ap, fmt);
        (void) vsnprintf(p->message, sizeof(p->message), fmt, ap);
        va_end(ap);
        if (!utf8_valid(p->message, strlen(p->message)))
                (void) snprintf(p->message, sizeof(p->message), "does not fit the schema");
        return -EINVAL;
}

/* ---- is it a schema? ---- */

static const char *const type_names[] = { "object", "array",   "string", "integer",
                                          "number", "boolean", "null" };

static bool known_type(const json_t *t)
{
        for (size_t i = 0; i < ARRAY_LEN(type_names); i++)
                if (streq(json_string_value(t), type_names[i]))
                        return true;
        return false;
}

static const char *bad_type(const json_t *type)
{
        const json_t *one;
        size_t i;

        if (known_type(type))
                return NULL;
        if (!json_is_array(type) || json_array_size(type) == 0)
                return "type must be object, array, string, integer, number, boolean, null, or a "
                       "list of these";
        json_array_foreach (type, i, one)
                if (!known_type(one))
                        return "type must be object, array, string, integer, number, boolean, "
                               "null, or a list of these";
        return NULL;
}

static const char *bad_required(const json_t *list)
{
        const json_t *one;
        size_t i;

        if (!json_is_array(list))
                return "required must be a list of names";
        json_array_foreach (list, i, one)
                if (!json_is_string(one))
                        return "required must be a list of names";
        return NULL;
}

static bool is_count(const json_t *j)
{
        return json_is_integer(j) && json_integer_value(j) >= 0;
}

static bool is_one_of(const char *key, const char *const *names, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (streq(key, names[i]))
                        return true;
        return false;
}

static const char *bad_keyword(const char *key, const json_t *value)
{
        static const char *const words[] = { "title",  "description", "default",
                                             "format", "examples",    "$schema",
                                             "$id",    "$comment",    "const" };
        static const char *const counts[] = { "minLength", "maxLength", "minItems", "maxItems" };
        static const char *const limits[] = { "minimum", "maximum", "exclusiveMinimum",
                                              "exclusiveMaximum" };

        if (streq(key, "type"))
                return bad_type(value);
        if (streq(key, "required"))
                return bad_required(value);
        if (streq(key, "enum"))
                return json_array_size(value) > 0 ? NULL : "enum must be a list of values";
        if (streq(key, "properties"))
                return json_is_object(value) ? NULL : "properties must be an object of schemas";
        if (streq(key, "items"))
                return json_is_object(value) ? NULL : "items must be a schema";
        if (streq(key, "additionalProperties"))
                return json_is_boolean(value) || json_is_object(value)
                               ? NULL
                               : "additionalProperties must be true, false or a schema";
        if (is_one_of(key, counts, ARRAY_LEN(counts)))
                return is_count(value) ? NULL : "lengths must be whole numbers from 0";
        if (is_one_of(key, limits, ARRAY_LEN(limits)))
                return json_is_number(value) ? NULL : "limits must be numbers";
        return is_one_of(key, words, ARRAY_LEN(words)) ? NULL : "";
}

static int check_node(struct work *w, const struct item *at, struct json_problem *problem)
{
        const char *key, *why;
        json_t *value, *properties = json_object_get(at->schema, "properties");

        if (!json_is_object(at->schema))
                return problem_at(problem, at->path, "a schema must be an object");
        json_object_foreach ((json_t *) (uintptr_t) at->schema, key, value) {
                why = bad_keyword(key, value);
                if (why && !*why)
                        return problem_at(problem, at->path,
                                          "the keyword %.60s is not supported; use type, "
                                          "properties, required, items, enum and limits",
                                          key);
                if (why)
                        return problem_at(problem, at->path, "%s", why);
                if (streq(key, "items") ||
                    (streq(key, "additionalProperties") && json_is_object(value)))
                        work_add(w, value, NULL, path_in(at->path, key));
        }
        json_object_foreach (properties, key, value)
                work_add(w, value, NULL, path_in(at->path, key));
        return w->steps > JSON_SCHEMA_NODES_MAX ? problem_at(problem, "", "the schema is too large")
                                                : 0;
}

/* Takes one item after the other; the newest first. */
static int work_run(struct work *w, struct json_problem *problem,
                    int (*step)(struct work *w, const struct item *at, struct json_problem *p))
{
        int r = 0;

        while (r == 0 && w->n > 0) {
                struct item at = w->items[--w->n];

                r = step(w, &at, problem);
                free(at.path);
        }
        work_done(w);
        return r;
}

int json_schema_check(const json_t *schema, struct json_problem *problem)
{
        struct work w = { 0 };

        work_add(&w, schema, NULL, xstrdup(""));
        return work_run(&w, problem, check_node);
}

/* ---- does a value fit? ---- */

static bool is_whole(const json_t *v)
{
        double d = json_real_value(v);

        return json_is_integer(v) ||
               (json_is_real(v) && d >= -9e15 && d <= 9e15 && d == (double) (int64_t) d);
}

static bool has_type(const json_t *v, const char *type)
{
        switch (json_typeof(v)) {
        case JSON_OBJECT:
                return streq(type, "object");
        case JSON_ARRAY:
                return streq(type, "array");
        case JSON_STRING:
                return streq(type, "string");
        case JSON_INTEGER:
        case JSON_REAL:
                return streq(type, "number") || (streq(type, "integer") && is_whole(v));
        case JSON_TRUE:
        case JSON_FALSE:
                return streq(type, "boolean");
        case JSON_NULL:
                return streq(type, "null");
        }
        return false;
}

static int fits_type(const struct item *at, struct json_problem *p)
{
        const json_t *type = json_object_get(at->schema, "type"), *one;
        cleanup_buf struct buf names = BUF_INIT;
        size_t i;

        if (json_is_string(type))
                return has_type(at->value, json_string_value(type))
                               ? 0
                               : problem_at(p, at->path, "must be of type %s",
                                            json_string_value(type));
        json_array_foreach (type, i, one) {
                if (has_type(at->value, json_string_value(one)))
                        return 0;
                buf_putf(&names, "%s%s", i > 0 ? " or " : "", json_string_value(one));
        }
        return type ? problem_at(p, at->path, "must be of type %s", names.data) : 0;
}

/* 1 and 1.0 are the same number. */
static bool same(const json_t *a, const json_t *b)
{
        if (json_is_number(a) && json_is_number(b))
                return json_number_value(a) == json_number_value(b);
        return json_equal(a, b);
}

static int fits_values(const struct item *at, struct json_problem *p)
{
        const json_t *list = json_object_get(at->schema, "enum"), *one;
        const json_t *only = json_object_get(at->schema, "const");
        cleanup_free char *text = NULL;
        size_t i;

        if (only && !same(only, at->value))
                return problem_at(p, at->path, "must be the one value that the schema gives");
        if (!list)
                return 0;
        json_array_foreach (list, i, one)
                if (same(one, at->value))
                        return 0;
        text = json_text(list);
        return strlen(text) < 150 ? problem_at(p, at->path, "must be one of %s", text)
                                  : problem_at(p, at->path, "must be one of the listed values");
}

static int fits_number(const struct item *at, struct json_problem *p)
{
        static const struct {
                const char *key, *say;
                int sign;  /* 1: a lower limit */
                bool open; /* the limit itself is outside */
        } limits[] = { { "minimum", "at least", 1, false },
                       { "maximum", "at most", -1, false },
                       { "exclusiveMinimum", "more than", 1, true },
                       { "exclusiveMaximum", "less than", -1, true } };
        double v = json_number_value(at->value);

        for (size_t i = 0; json_is_number(at->value) && i < ARRAY_LEN(limits); i++) {
                const json_t *limit = json_object_get(at->schema, limits[i].key);
                double gap = (v - json_number_value(limit)) * limits[i].sign;

                if (limit && (gap < 0 || (limits[i].open && gap == 0)))
                        return problem_at(p, at->path, "must be %s %g", limits[i].say,
                                          json_number_value(limit));
        }
        return 0;
}

static size_t characters(const json_t *string)
{
        const char *s = json_string_value(string);
        size_t n = 0;

        for (size_t i = 0; i < json_string_length(string); i++)
                n += ((unsigned char) s[i] & 0xc0) != 0x80;
        return n;
}

static int fits_count(const struct item *at, size_t n, const char *min, const char *max,
                      const char *what, struct json_problem *p)
{
        const json_t *least = json_object_get(at->schema, min),
                     *most = json_object_get(at->schema, max);

        if (least && n < (size_t) json_integer_value(least))
                return problem_at(p, at->path, "must have at least %" JSON_INTEGER_FORMAT " %s",
                                  json_integer_value(least), what);
        if (most && n > (size_t) json_integer_value(most))
                return problem_at(p, at->path, "must have at most %" JSON_INTEGER_FORMAT " %s",
                                  json_integer_value(most), what);
        return 0;
}

static int fits_array(struct work *w, const struct item *at, struct json_problem *p)
{
        const json_t *items = json_object_get(at->schema, "items"), *one;
        char index[24];
        size_t i;

        json_array_foreach (at->value, i, one) {
                (void) snprintf(index, sizeof(index), "%zu", i);
                if (items)
                        work_add(w, items, one, path_in(at->path, index));
                if (w->steps > JSON_SCHEMA_STEPS_MAX)
                        return -E2BIG;
        }
        return fits_count(at, json_array_size(at->value), "minItems", "maxItems", "items", p);
}

static int fits_object(struct work *w, const struct item *at, struct json_problem *p)
{
        const json_t *properties = json_object_get(at->schema, "properties"),
                     *more = json_object_get(at->schema, "additionalProperties"), *name;
        const char *key;
        json_t *value;
        size_t i;

        json_array_foreach (json_object_get(at->schema, "required"), i, name)
                if (!json_object_get(at->value, json_string_value(name)))
                        return problem_at(p, at->path, "the member %.80s is missing",
                                          json_string_value(name));
        json_object_foreach ((json_t *) (uintptr_t) at->value, key, value) {
                const json_t *schema = json_object_get(properties, key);

                if (!schema && json_is_false(more))
                        return problem_at(p, at->path, "the member %.80s is not known", key);
                if (!schema && json_is_object(more))
                        schema = more;
                if (schema)
                        work_add(w, schema, value, path_in(at->path, key));
                if (w->steps > JSON_SCHEMA_STEPS_MAX)
                        return -E2BIG;
        }
        return 0;
}

static int fits_node(struct work *w, const struct item *at, struct json_problem *p)
{
        int r = fits_type(at, p);

        if (r == 0)
                r = fits_values(at, p);
        if (r == 0)
                r = fits_number(at, p);
        if (r == 0 && json_is_string(at->value))
                r = fits_count(at, characters(at->value), "minLength", "maxLength", "characters",
                               p);
        if (r == 0 && json_is_array(at->value))
                r = fits_array(w, at, p);
        if (r == 0 && json_is_object(at->value))
                r = fits_object(w, at, p);
        if (r == -E2BIG)
                (void) problem_at(p, "", "the value has too many members to be checked");
        return r;
}

int json_schema_fits(const json_t *schema, const json_t *value, struct json_problem *problem)
{
        struct work w = { 0 };

        work_add(&w, schema, value, xstrdup(""));
        return work_run(&w, problem, fits_node);
}
