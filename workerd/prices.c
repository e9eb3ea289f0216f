/* Reads the table of prices and counts what a model call cost. */
#include "prices.h"

#include <math.h>

#include "common/base/json.h"

#define FILE_MAX (1 * MIB)
#define MODELS_MAX 1000

struct price {
        const char *prefix;
        double input, output, cache_read,
                cache_write; /* dollars per million tokens = millionths per token */
        int64_t context;     /* tokens; 0 = not known */
};

struct prices {
        json_t *text; /* owns the prefixes */
        struct price *models;
        size_t n;
};

static const struct json_field fields[] = {
        JSON_FIELD(struct price, prefix, JSON_KIND_STRING, .required = true, .min = 0, .max = 200),
        JSON_FIELD(struct price, input, JSON_KIND_NUMBER, .required = true, .max = 1000000),
        JSON_FIELD(struct price, output, JSON_KIND_NUMBER, .required = true, .max = 1000000),
        JSON_FIELD(struct price, cache_read, JSON_KIND_NUMBER, .max = 1000000),
        JSON_FIELD(struct price, cache_write, JSON_KIND_NUMBER, .max = 1000000),
        JSON_FIELD(struct price, context, JSON_KIND_INT, .max = 1000000000),
};

static int read_file(const char *path, char **ret, size_t *ret_len)
{
        cleanup_fclose FILE *f = fopen(path, "re");
        cleanup_free char *text = NULL;
        size_t n;

        if (!f)
                return -errno;
        text = xmalloc(FILE_MAX + 1);
        n = fread(text, 1, FILE_MAX + 1, f);
        if (ferror(f))
                return -EIO;
        if (n > FILE_MAX)
                return -EFBIG;
        *ret = TAKE_PTR(text);
        *ret_len = n;
        return 0;
}

int prices_load(const char *path, struct prices **ret, char **ret_error)
{
        CLEANUP(prices_freep) struct prices *p = xnew(struct prices);
        cleanup_free char *text = NULL;
        struct json_problem problem = { .message = "" };
        const json_t *models, *model;
        size_t n = 0, i;
        int r = read_file(path, &text, &n);

        if (r < 0) {
                *ret_error = xasprintf("cannot read the prices in %s: %s", path, strerror(-r));
                return r;
        }
        r = json_parse(text, n, &p->text, &problem);
        models = r == 0 ? json_object_get(p->text, "models") : NULL;
        if (r == 0 && (!json_is_array(models) || json_array_size(models) > MODELS_MAX)) {
                (void) snprintf(problem.message, sizeof(problem.message), "models must be a list");
                r = -EINVAL;
        }
        if (r == 0)
                p->models = xnewn(struct price, json_array_size(models) + 1);
        for (i = 0; r == 0 && i < json_array_size(models); i++) {
                model = json_array_get(models, i);
                r = json_read(model, fields, ARRAY_LEN(fields), &p->models[p->n++], &problem);
        }
        if (r < 0) {
                *ret_error = xasprintf("prices in %s: %s", path, problem.message);
                return r;
        }
        *ret = TAKE_PTR(p);
        return 0;
}

int prices_reload(struct prices *p, const char *path, char **ret_error)
{
        struct prices *fresh = NULL, old = *p;
        int r = prices_load(path, &fresh, ret_error);

        if (r < 0)
                return r;
        *p = *fresh;
        *fresh = old;
        prices_free(fresh);
        return 0;
}

struct prices *prices_free(struct prices *p)
{
        if (!p)
                return NULL;
        json_decref(p->text);
        free(p->models);
        free(p);
        return NULL;
}

static const struct price *find(const struct prices *p, const char *model)
{
        const struct price *best = NULL;

        for (size_t i = 0; p && i < p->n; i++)
                if (str_starts(model, p->models[i].prefix) &&
                    (!best || strlen(p->models[i].prefix) > strlen(best->prefix)))
                        best = &p->models[i];
        return best;
}

uint64_t prices_context(const struct prices *p, const char *model)
{
        const struct price *best = find(p, model);

        return best ? (uint64_t) best->context : 0;
}

uint64_t prices_cost(const struct prices *p, const char *model, const struct usage *u)
{
        const struct price *best = find(p, model);

        if (!best)
                return 0;
        return (uint64_t) llround(best->input * (double) u->input_tokens +
                                  best->output * (double) u->output_tokens +
                                  best->cache_read * (double) u->cache_read_tokens +
                                  best->cache_write * (double) u->cache_write_tokens);
}
