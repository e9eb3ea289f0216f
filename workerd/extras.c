/* Puts skills into the slot and opens MCP servers, before the agent begins. */
#include "extras.h"

#include "common/base/buf.h"
#include "common/io/daemon.h"
#include "common/io/log.h"

#define SKILLS_MAX 64 /* documents in all */
#define RANGES_MAX 32
#define SKILL_BYTES_MAX (16 * MIB)
#define FOLDER "skills"

struct skill {
        char *id, *filename, *description;
        bool placed;
};

struct extras {
        struct extras_config c;
        const json_t *wanted; /* skills of the blueprint */
        size_t next_wanted;
        struct skill skills[SKILLS_MAX];
        size_t n_skills, next_skill;
        struct mcp *mcp;
        struct address_range ranges[RANGES_MAX];
        size_t n_ranges;
        struct loop_task step;
        struct buf missing; /* lines of the prompt */
};

static void problem(struct extras *x, const char *what, const char *why)
{
        cleanup_free char *sentence = xasprintf("%s: %s", what, why);

        log_notice("%s", sentence);
        buf_putf(&x->missing, "- %s\n", sentence);
        x->c.on_problem(x->c.userdata, sentence);
}

/* ---- MCP servers ---- */

static void on_servers(void *userdata)
{
        struct extras *x = userdata;
        const char *name, *why;

        for (size_t i = 0; mcp_problem(x->mcp, i, &name, &why); i++)
                if (why) {
                        cleanup_free char *what =
                                xasprintf("The MCP server %s cannot be used", name);

                        problem(x, what, why);
                }
        x->c.on_ready(x->c.userdata);
}

static void read_ranges(struct extras *x)
{
        cleanup_free char *list = xstrdup(x->c.private ? x->c.private : "");
        char *save = NULL;

        for (char *w = strtok_r(list, ", ", &save); w; w = strtok_r(NULL, ", ", &save))
                if (x->n_ranges < RANGES_MAX &&
                    address_range_parse(w, &x->ranges[x->n_ranges]) == 0)
                        x->n_ranges++;
}

static void open_servers(struct extras *x)
{
        const json_t *servers = json_object_get(x->c.blueprint, "mcp_servers");
        int r;

        if (json_array_size(servers) == 0) {
                x->c.on_ready(x->c.userdata);
                return;
        }
        read_ranges(x);
        r = mcp_new(&(struct mcp_config){ .event = x->c.event,
                                          .slot = x->c.slot,
                                          .epoch = x->c.epoch,
                                          .servers = servers,
                                          .proxy = x->c.proxy,
                                          .allowed = x->ranges,
                                          .n_allowed = x->n_ranges },
                    &x->mcp);
        if (r < 0) {
                problem(x, "The MCP servers cannot be used", strerror(-r));
                x->c.on_ready(x->c.userdata);
                return;
        }
        mcp_begin(x->mcp, on_servers, x);
}

/* ---- skills ---- */

static void not_placed(struct extras *x, const char *why)
{
        cleanup_free char *what =
                xasprintf("The skill %s is missing", x->skills[x->next_skill].filename);

        problem(x, what, why);
        x->next_skill++;
        loop_task_queue(&x->step);
}

static void on_placed(void *userdata, int r)
{
        struct extras *x = userdata;

        if (r < 0) {
                not_placed(x, strerror(-r));
                return;
        }
        x->skills[x->next_skill++].placed = true;
        loop_task_queue(&x->step);
}

static void on_opened(void *userdata, int r, int fd, uint64_t size, const char *why)
{
        struct extras *x = userdata;
        struct guest *guest = slot_guest(x->c.slot);
        cleanup_free char *path = NULL;

        if (r < 0) {
                not_placed(x, why);
                return;
        }
        if (!guest || size > SKILL_BYTES_MAX) {
                fd_close(fd);
                not_placed(x, guest ? "it is larger than 16 MiB" : "the slot is gone");
                return;
        }
        path = xasprintf(FOLDER "/%s", x->skills[x->next_skill].filename);
        r = guest_write_from(guest, x->c.epoch, path, fd, on_placed, x);
        if (r < 0)
                not_placed(x, strerror(-r));
}

static void place_next(struct extras *x)
{
        int r = documents_open(x->c.documents, x->c.tenant, x->skills[x->next_skill].id, on_opened,
                               x);
        if (r < 0)
                not_placed(x, strerror(-r));
}

static const char *text_of(const json_t *j, const char *key)
{
        const char *s = json_string_value(json_object_get(j, key));

        return s ? s : "";
}

/* Two documents of one name do not overwrite each other. */
static void add_skill(struct extras *x, const json_t *document)
{
        const char *name = text_of(document, "filename"), *id = text_of(document, "id");
        bool taken = false;

        if (x->n_skills == SKILLS_MAX || !*name || strchr(name, '/') || streq(name, "..") ||
            streq(name, "."))
                return;
        for (size_t i = 0; i < x->n_skills; i++) {
                if (streq(x->skills[i].id, id))
                        return;
                taken |= streq(x->skills[i].filename, name);
        }
        x->skills[x->n_skills++] = (struct skill){
                .id = xstrdup(id),
                .filename = taken ? xasprintf("%.13s-%.200s", id, name) : xstrdup(name),
                .description =
                        xstrdup(text_of(json_object_get(document, "metadata"), "description")),
        };
}

static void on_found(void *userdata, int r, struct span json, bool more, const char *why)
{
        struct extras *x = userdata;
        const json_t *wanted = json_array_get(x->wanted, x->next_wanted), *one;
        struct json_problem ignored;
        cleanup_json json_t *found = NULL;
        const char *tag = text_of(wanted, "tag"), *id = text_of(wanted, "document_id");
        size_t i;

        if (r == 0 && json_parse(json.data, json.len, &found, &ignored) < 0)
                why = "the document store's answer cannot be read";
        if (!found || (json_is_array(found) && json_array_size(found) == 0)) {
                cleanup_free char *what =
                        *tag ? xasprintf("Skills with the tag %s are missing", tag)
                             : xasprintf("The skill %s is missing", id);

                problem(x, what, why ? why : "no document has it");
        }
        if (json_is_object(found))
                add_skill(x, found);
        json_array_foreach (found, i, one)
                add_skill(x, one);
        x->next_wanted++;
        loop_task_queue(&x->step);
}

static void find_next(struct extras *x)
{
        const json_t *wanted = json_array_get(x->wanted, x->next_wanted);
        const char *id = text_of(wanted, "document_id"), *tag = text_of(wanted, "tag");
        int r;

        if (*id)
                r = documents_show(
                        x->c.documents,
                        &(struct document_show){ .tenant = x->c.tenant, .document_id = id },
                        on_found, x);
        else
                r = documents_query(x->c.documents,
                                    &(struct document_query){ .tenant = x->c.tenant,
                                                              .tags = &tag,
                                                              .n_tags = 1,
                                                              .limit = SKILLS_MAX },
                                    on_found, x);
        if (r < 0)
                on_found(x, r, (struct span){ 0 }, false, strerror(-r));
}

/* One thing after the other: which documents, each into the slot, then the servers. */
static void on_step(void *userdata)
{
        struct extras *x = userdata;

        if (x->c.documents && x->next_wanted < json_array_size(x->wanted))
                find_next(x);
        else if (x->next_skill < x->n_skills)
                place_next(x);
        else
                open_servers(x);
}

/* ---- the whole ---- */

struct mcp *extras_mcp(struct extras *x)
{
        return x ? x->mcp : NULL;
}

char *extras_words(const struct extras *x)
{
        struct buf out = BUF_INIT;
        bool any = false;

        for (size_t i = 0; x && i < x->n_skills; i++) {
                const struct skill *s = &x->skills[i];

                if (!s->placed)
                        continue;
                if (!any)
                        buf_puts(&out, "\nSkills: how-to texts for this kind of work, in "
                                       "/home/agent/" FOLDER
                                       ". Read the one that fits before you begin.\n");
                any = true;
                buf_putf(&out, "- %s%s%.300s\n", s->filename, *s->description ? ": " : "",
                         s->description);
        }
        if (x && x->missing.len > 0)
                buf_putf(&out, "\nNot there this time:\n%s", x->missing.data);
        return out.len > 0 ? buf_take(&out, NULL) : NULL;
}

int extras_new(const struct extras_config *c, struct extras **ret)
{
        CLEANUP(extras_freep) struct extras *x = xnew(struct extras);
        int r;

        x->c = *c;
        x->wanted = json_object_get(c->blueprint, "skills");
        r = loop_task_init(&x->step, c->event, on_step, x);
        if (r < 0)
                return r;
        loop_task_queue(&x->step);
        *ret = TAKE_PTR(x);
        return 0;
}

struct extras *extras_free(struct extras *x)
{
        if (!x)
                return NULL;
        loop_task_done(&x->step);
        if (x->c.documents)
                documents_cancel(x->c.documents, x);
        if (x->c.slot && slot_guest(x->c.slot))
                guest_cancel(slot_guest(x->c.slot), x);
        mcp_free(x->mcp);
        for (size_t i = 0; i < x->n_skills; i++) {
                free(x->skills[i].id);
                free(x->skills[i].filename);
                free(x->skills[i].description);
        }
        buf_done(&x->missing);
        free(x);
        return NULL;
}
