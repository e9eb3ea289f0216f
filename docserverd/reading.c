/* Takes documents from the queue, has their text read in a slot, and stores it. */
#include "reading.h"

#include "common/base/buf.h"
#include "common/base/fault.h"
#include "common/base/json.h"
#include "common/io/log.h"
#include "docserverd/extract.h"
#include "hooks.h"
#include "runners.h"
#include "store-text.h"
#include "vectors.h"

#define READING_MAX 64u             /* documents at once; slots are fewer */
#define POLL (2 * USEC_PER_SEC)     /* when nobody tells of new documents */
#define UNCLAIM (15 * USEC_PER_SEC) /* between looks for interrupted readings */
#define AGE (5 * USEC_PER_SEC)      /* a claim that is younger may be on its way to us */
#define GRACE (60 * USEC_PER_SEC)   /* making the slot, copying a large document into it */
#define CHUNK 64u                   /* passages in one statement */
#define LANGUAGE_CHUNK 200u
#define RETRY_FIRST USEC_PER_SEC
#define OUTPUT_EXTRA (64 * KIB) /* of JSON around the text */

struct reading {
        struct docserver *server;
        struct loop_timer poll, unclaim;
        struct list list; /* what is being read */
        size_t n;
        bool claiming, poked, looked;
        uint64_t language_at;
        struct reading_counts counts;
};

/* One document on its way. */
struct item {
        struct reading *reading;
        struct list link;
        char *id, *tenant, *filename, *content_type, *hook, *document_json;
        uint64_t version, attempts;
        char *text; /* owned, cleaned */
        size_t n_text;
        struct passages passages; /* borrow text */
        size_t stored;
        char *state, *error, *hook_error;
        struct document_tags *tags; /* that the hook gave, to be added */
};

static void claim(struct reading *r);

/* ---- the end of an item ---- */

static void item_free(struct item *i)
{
        list_remove(&i->link);
        i->reading->n--;
        passages_done(&i->passages);
        free(i->id);
        free(i->tenant);
        free(i->filename);
        free(i->content_type);
        free(i->hook);
        free(i->document_json);
        free(i->text);
        free(i->state);
        free(i->error);
        free(i->hook_error);
        free(i->tags);
        free(i);
}

static void on_ended(void *userdata, int r)
{
        struct item *i = userdata;
        struct reading *all = i->reading;

        /* When the row could not be written it is 'reading' still, and will be queued again. */
        if (r == 0)
                log_debug("Document %s version %" PRIu64 ": %s%s%s", i->id, i->version, i->state,
                          i->error ? ", " : "", strempty(i->error) ? "" : i->error);
        item_free(i);
        vectors_poke(all->server->vectors);
        reading_poke(all);
}

/* The only place that ends the reading of a document: what became of it, and why. */
static void item_end(struct item *i, const char *state, const char *error, uint64_t wait_us)
{
        struct reading_counts *c = &i->reading->counts;

        (*(streq(state, "ready")    ? &c->ready
           : streq(state, "none")   ? &c->none
           : streq(state, "failed") ? &c->failed
                                    : &c->again))++;
        free(i->state);
        i->state = xstrdup(state);
        if (error) {
                free(i->error);
                i->error = xstrdup(error);
        }
        int r = store_text_end(i->reading->server->pg,
                               &(struct store_text_end){ .document_id = i->id,
                                                         .version = i->version,
                                                         .state = i->state,
                                                         .error = i->error,
                                                         .hook_error = i->hook_error,
                                                         .wait_us = wait_us },
                               on_ended, i);
        if (r < 0)
                item_free(i);
}

/* Something broke that may not break again. */
static void item_again(struct item *i, const char *why)
{
        const struct docserver_settings *s = i->reading->server->settings;

        if (i->attempts >= s->read_attempts)
                item_end(i, "failed", why, 0);
        else
                item_end(i, "queued", why, RETRY_FIRST << MIN(i->attempts, UINT64_C(6)));
}

/* ---- storing ---- */

static void store_next(struct item *i);

static void on_chunk(void *userdata, int r)
{
        struct item *i = userdata;

        if (r == -ENOENT)
                item_free(i); /* the document is gone */
        else if (r < 0)
                item_again(i, "the text could not be stored");
        else
                store_next(i);
}

static void store_next(struct item *i)
{
        struct docserver *d = i->reading->server;
        size_t from = i->stored, n = MIN(i->passages.n - from, (size_t) CHUNK);

        if (n == 0) {
                item_end(i, i->passages.n > 0 ? "ready" : "none",
                         i->passages.n > 0 || i->error ? NULL : "there is no text in it", 0);
                return;
        }
        crash_point("docserver.half_passages");
        i->stored += n;
        if (store_passages_add(d->pg, i->id, i->tenant, i->version, d->settings->search_language,
                               &i->passages, from, n, on_chunk, i) < 0)
                item_free(i);
}

static void store_text_of(struct item *i)
{
        passages_cut(i->text ? i->text : "", i->n_text, &i->passages);
        if (store_passages_clear(i->reading->server->pg, i->id, on_chunk, i) < 0)
                item_free(i);
}

/* ---- the hook ---- */

static void on_patched(void *userdata, int r, const char *json);

/* Then the tags, which are added to what the document has. */
static void add_tags(struct item *i)
{
        cleanup_free struct document_tags *tags = TAKE_PTR(i->tags);
        cleanup_free char *ids = xasprintf("{\"%s\"}", i->id);

        if (!tags || tags->n == 0)
                store_text_of(i);
        else if (store_tag(i->reading->server->pg, i->tenant, ids, tags,
                           &(struct document_tags){ 0 }, on_patched, i) < 0)
                item_free(i);
}

static void on_patched(void *userdata, int r, const char *json)
{
        struct item *i = userdata;

        if (r < 0 && !i->hook_error)
                i->hook_error = xstrdup(r == -E2BIG ? "the hook gave more tags than a document has"
                                                    : "what the hook gave could not be stored");
        add_tags(i);
}

struct hook_out {
        const char *text;
        json_t *tags, *metadata;
        const char *description;
};
static const struct json_field hook_fields[] = {
        JSON_FIELD(struct hook_out, text, JSON_KIND_STRING, .max = 16 * MIB, .nullable = true),
        JSON_FIELD(struct hook_out, tags, JSON_KIND_ARRAY, .max = DOCUMENT_TAGS_MAX,
                   .nullable = true),
        JSON_FIELD(struct hook_out, metadata, JSON_KIND_OBJECT, .nullable = true),
        JSON_FIELD(struct hook_out, description, JSON_KIND_STRING, .max = 16384, .nullable = true),
};

static void take_text(struct item *i, const char *text, size_t n)
{
        free(i->text);
        i->text = xmalloc(n + 1);
        memcpy(i->text, text, n);
        i->n_text = passages_clean(i->text, n);
        i->text[i->n_text] = '\0';
}

/* Takes over what the hook gave. All of it is checked before any of it counts. */
static int take_hook(struct item *i, const json_t *out, struct document_tags *tags,
                     char **ret_metadata, struct json_problem *p)
{
        const struct docserver_settings *s = i->reading->server->settings;
        struct hook_out o = { 0 };
        cleanup_json json_t *metadata = NULL;

        if (json_read(out, hook_fields, ARRAY_LEN(hook_fields), &o, p) < 0 ||
            (o.tags && document_tags_from_json(tags, o.tags, p) < 0))
                return -EINVAL;
        if (o.metadata || o.description) {
                metadata = o.metadata ? json_copy(o.metadata) : json_object();
                if (o.description)
                        (void) json_object_set_new(metadata, "description",
                                                   json_string(o.description));
                if (document_metadata_check(metadata, true, p) < 0)
                        return -EINVAL;
        }
        if (o.text && strlen(o.text) > s->text_max) {
                (void) snprintf(p->message, sizeof(p->message), "text is too long");
                return -EINVAL;
        }
        if (o.text)
                take_text(i, o.text, strlen(o.text));
        if (metadata)
                *ret_metadata = json_text(metadata);
        return 0;
}

static void on_hook(void *userdata, const json_t *out, const char *why)
{
        struct item *i = userdata;
        struct document_tags tags = { 0 };
        struct json_problem problem = { 0 };
        cleanup_free char *metadata = NULL;

        if (!out)
                i->hook_error = xstrdup(why);
        else if (take_hook(i, out, &tags, &metadata, &problem) < 0)
                i->hook_error = xasprintf("the hook's answer is not usable: %s", problem.message);
        if (i->hook_error) {
                store_text_of(i);
                return;
        }
        i->tags = xnew(struct document_tags);
        *i->tags = tags;
        if (!metadata)
                add_tags(i);
        else if (store_patch(i->reading->server->pg, i->tenant, i->id, NULL, metadata, NULL,
                             on_patched, i) < 0)
                item_free(i);
}

static void run_hook(struct item *i)
{
        struct docserver *d = i->reading->server;
        cleanup_buf struct buf input = BUF_INIT;

        if (!i->hook && !d->pre_ingest_hook) {
                store_text_of(i);
                return;
        }
        buf_putf(&input, "{\"event\":\"preIngest\",\"document\":%s,\"text\":", i->document_json);
        buf_put_json_string(&input, i->text ? i->text : "", i->n_text);
        buf_puts(&input, "}");
        hook_run(d,
                 &(struct hook_config){ .tenant = i->tenant,
                                        .document_id = i->hook,
                                        .code = d->pre_ingest_hook,
                                        .input = { input.data, input.len } },
                 on_hook, i);
}

/* ---- the slot ---- */

/* What extract.py says: {"status":"text"|"none","text"?,"why"?,"truncated"?}. From a slot: hostile.
 */
struct said {
        const char *status, *text, *why;
        bool truncated;
};
static const struct json_field said_fields[] = {
        JSON_FIELD(struct said, status, JSON_KIND_STRING, .max = 20, .required = true),
        JSON_FIELD(struct said, text, JSON_KIND_STRING),
        JSON_FIELD(struct said, why, JSON_KIND_STRING, .max = 300),
        JSON_FIELD(struct said, truncated, JSON_KIND_BOOL),
};

static const char *failure_of(const struct job_ran *m)
{
        if (m->timed_out)
                return "reading it took too long";
        if (m->too_much)
                return "its text is too long";
        if (m->signal == 9 || m->code == 137)
                return "reading it took too much memory";
        return "it could not be read; it may be damaged";
}

static void on_read(void *userdata, int r, const void *reply)
{
        struct item *i = userdata;
        const struct job_ran *m = reply;
        cleanup_json json_t *json = NULL;
        struct json_problem problem = { 0 };
        struct said said = { 0 };

        if (r == -ECANCELED) {
                item_free(i);
                return;
        }
        if (r < 0) {
                item_again(i, runner_failure(r, reply));
                return;
        }
        crash_point("docserver.text_read");
        if (m->timed_out || m->too_much || m->code != 0) {
                log_info("Document %s: %s (status %" PRIi64 ", signal %u)", i->id, failure_of(m),
                         m->code, m->signal);
                item_end(i, "failed", failure_of(m), 0);
                return;
        }
        if (json_parse(m->output.data, m->output.len, &json, &problem) < 0 ||
            json_read(json, said_fields, ARRAY_LEN(said_fields), &said, &problem) < 0) {
                item_end(i, "failed", "what was read out of it makes no sense", 0);
                return;
        }
        if (!streq(said.status, "text") || strempty(said.text)) {
                item_end(i, "none", strempty(said.why) ? "there is no text in it" : said.why, 0);
                return;
        }
        if (said.truncated)
                i->error = xstrdup("only the beginning of its text can be searched");
        take_text(i, said.text, MIN(strlen(said.text), i->reading->server->settings->text_max));
        run_hook(i);
}

static int read_in_slot(struct item *i)
{
        struct docserver *d = i->reading->server;
        const struct docserver_settings *s = d->settings;
        cleanup_free char *max = xasprintf("%" PRIu64, s->text_max);
        struct job_file files[] = {
                { .path = "extract.py", .data = span_of(extract_py) },
                { .path = "document", .document_id = i->id },
        };
        const char *argv[] = { "python3",       "-I", "extract.py", "document", i->filename,
                               i->content_type, max };
        char id[UUID_MAX];

        uuid_make(id);
        return runners_call(
                d->runners, RUNNER_SLOT, &wire_job_run,
                &(struct job_run){
                        .job_id = id,
                        .tenant = i->tenant,
                        .files = files,
                        .n_files = ARRAY_LEN(files),
                        .argv = argv,
                        .n_argv = ARRAY_LEN(argv),
                        .time_ms = (uint32_t) (s->read_time / USEC_PER_MSEC),
                        .memory_max = s->read_memory,
                        /* JSON may need six bytes for one. */
                        .output_max = (uint32_t) MIN(s->text_max * 6 + OUTPUT_EXTRA, 16 * MIB),
                },
                s->read_time + GRACE, on_read, i);
}

/* Kinds without any text are not worth a slot. */
static const char *not_text(const char *type, uint64_t size, uint64_t max)
{
        if (size == 0)
                return "it is empty";
        if (str_starts(type, "image/") && !streq(type, "image/svg+xml"))
                return "pictures are not read";
        if (str_starts(type, "audio/") || str_starts(type, "video/") || str_starts(type, "font/"))
                return "there is no text in it";
        return size > max ? "it is too large to be read" : NULL;
}

static void item_start(struct reading *all, const struct store_reading *s)
{
        struct item *i = xnew(struct item);

        i->reading = all;
        list_push_back(&all->list, &i->link);
        all->n++;
        i->id = xstrdup(s->document_id);
        i->tenant = xstrdup(s->tenant);
        i->filename = xstrdup(s->filename);
        i->content_type = xstrdup(s->content_type);
        i->document_json = xstrdup(s->document_json);
        i->hook = s->hook && strlen(s->hook) == UUID_MAX - 1 ? xstrdup(s->hook) : NULL;
        i->version = s->version;
        i->attempts = s->attempts;
        if (s->hook && !i->hook)
                i->hook_error = xstrdup("preIngestHook must be the id of a document");

        const char *why = not_text(s->content_type, s->size, all->server->settings->read_max);
        if (why) {
                item_end(i, "none", why, 0);
                return;
        }
        int r = read_in_slot(i);
        if (r < 0)
                item_again(i, runner_failure(r, NULL));
}

/* ---- the queue ---- */

static void on_claimed(void *userdata, int r, const struct store_reading *s, uint64_t wait_us)
{
        struct reading *all = userdata;

        all->claiming = false;
        if (s) {
                item_start(all, s);
                claim(all);
                return;
        }
        uint64_t wait = r < 0 ? POLL : MIN(wait_us + USEC_PER_MSEC, (uint64_t) POLL);
        loop_timer_arm(&all->poll, all->poked ? 0 : wait);
        all->poked = false;
}

static void claim(struct reading *all)
{
        struct runners_load load;

        runners_load(all->server->runners, &load);
        if (all->claiming || all->n >= READING_MAX || load.slots_busy >= load.slots)
                return; /* runners poke when there is room */
        all->claiming = store_text_claim(all->server->pg, on_claimed, all) == 0;
        if (!all->claiming)
                loop_timer_arm(&all->poll, POLL);
}

static void on_poll(void *userdata)
{
        claim(userdata);
}

void reading_poke(struct reading *r)
{
        if (!r)
                return;
        r->poked = r->claiming;
        claim(r);
}

static void on_unclaimed(void *userdata, int r)
{
        reading_poke(userdata);
}

static void on_language(void *userdata, int r, uint64_t last)
{
        struct reading *all = userdata;

        if (r == 1)
                all->language_at = last;
        loop_timer_arm(&all->unclaim, r == 1 ? 10 * USEC_PER_MSEC : UNCLAIM);
}

/* Readings that were interrupted wait again; the index follows its language. */
static void on_unclaim(void *userdata)
{
        struct reading *all = userdata;
        cleanup_buf struct buf ids = BUF_INIT;
        struct item *i;

        buf_puts(&ids, "{");
        list_foreach (i, &all->list, link)
                buf_putf(&ids, "%s\"%s\"", ids.len > 1 ? "," : "", i->id);
        buf_puts(&ids, "}");
        /* A claim under way takes a row that is not in the list yet. */
        if (!all->claiming && store_text_unclaim(all->server->pg, ids.data, all->looked ? AGE : 0,
                                                 on_unclaimed, all) < 0)
                log_debug("Interrupted readings stay until the next look");
        all->looked = true;
        if (store_language(all->server->pg, all->server->settings->search_language,
                           all->language_at, LANGUAGE_CHUNK, on_language, all) < 0)
                loop_timer_arm(&all->unclaim, UNCLAIM);
}

void reading_counts(const struct reading *r, struct reading_counts *ret)
{
        *ret = r->counts;
        ret->now = r->n;
}

struct reading *reading_new(struct docserver *d)
{
        struct reading *r = xnew(struct reading);

        r->server = d;
        list_init(&r->list);
        if (loop_timer_init(&r->poll, d->event, on_poll, r) < 0 ||
            loop_timer_init(&r->unclaim, d->event, on_unclaim, r) < 0)
                return reading_free(r);
        loop_timer_arm(&r->unclaim, 0);
        return r;
}

struct reading *reading_free(struct reading *r)
{
        struct item *i, *next;

        if (!r)
                return NULL;
        list_foreach_safe (i, next, &r->list, link)
                item_free(i);
        loop_timer_done(&r->poll);
        loop_timer_done(&r->unclaim);
        free(r);
        return NULL;
}
