/* Tool `document_put`: stores a file of the slot as a tagged document. */
#include "common/base/document.h"
#include "documents.h"
#include "tool.h"
#include "utf8.h"

#define FILE_MAX (64 * MIB)

struct put {
        struct tool_run *run;
        struct guest *guest;
        struct documents *documents;
        const char *path, *filename; /* of the run's input */
        const char *tags[DOCUMENT_TAGS_MAX];
        size_t n_tags;
        char *metadata;
};

static void put_free(struct put *p)
{
        free(p->metadata);
        free(p);
}

static struct tool_run *put_end(struct put *p)
{
        struct tool_run *run = p->run;

        run->state = NULL;
        put_free(p);
        return run;
}

static void on_stored(void *userdata, int r, struct span document, const char *why)
{
        struct put *p = userdata;
        struct json_problem problem;
        cleanup_json json_t *object = NULL;

        if (r < 0) {
                tool_finish_error(put_end(p), "The document was not stored: %s", why);
                return;
        }
        if (json_parse(document.data, document.len, &object, &problem) < 0)
                object = json_object();
        tool_finish_text(put_end(p), "Stored as document %s (%s, %" JSON_INTEGER_FORMAT " bytes).",
                         json_string_value(json_object_get(object, "id")),
                         json_string_value(json_object_get(object, "filename")),
                         json_integer_value(json_object_get(object, "size_bytes")));
}

static void on_fetched(void *userdata, int r, int fd, uint64_t size)
{
        struct put *p = userdata;
        const struct tool_host *h = p->run->host;

        if (r < 0) {
                const char *path = p->path;

                if (r == -EFBIG)
                        tool_finish_error(put_end(p), "The file %s is larger than 64 MiB.", path);
                else
                        tool_finish_error(put_end(p), "The file %s cannot be read: %s.", path,
                                          strerror(-r));
                return;
        }
        TRACE_SCOPE(&p->run->trace);
        r = documents_store(p->documents,
                            &(struct document_new){
                                    .tenant = h->tenant,
                                    .session_id = h->session_id,
                                    .fd = fd,
                                    .size = size,
                                    .filename = p->filename,
                                    .tags = p->tags,
                                    .n_tags = p->n_tags,
                                    .metadata = p->metadata,
                            },
                            on_stored, p);
        if (r < 0)
                tool_finish_error(put_end(p), "The document store cannot be reached (%s).",
                                  strerror(-r));
}

static int read_tags(struct put *p)
{
        const json_t *tags = json_object_get(p->run->input, "tags"), *tag;
        size_t i;

        if (!tags || json_is_null(tags))
                return 0;
        if (!json_is_array(tags) || json_array_size(tags) > DOCUMENT_TAGS_MAX) {
                tool_finish_error(p->run, "tags must be a list of at most %u strings.",
                                  DOCUMENT_TAGS_MAX);
                return -EINVAL;
        }
        json_array_foreach (tags, i, tag) {
                const char *why = json_is_string(tag) ? document_tag_problem(json_string_value(tag))
                                                      : "must be strings";

                if (why) {
                        tool_finish_error(p->run, "tags %s.", why);
                        return -EINVAL;
                }
                p->tags[p->n_tags++] = json_string_value(tag);
        }
        return 0;
}

static int read_arguments(struct put *p)
{
        const char *description = NULL, *slash, *why;
        cleanup_json json_t *metadata = NULL;

        if (tool_arg_string(p->run, "path", true, &p->path) < 0 ||
            tool_arg_string(p->run, "filename", false, &p->filename) < 0 ||
            tool_arg_string(p->run, "description", false, &description) < 0 || read_tags(p) < 0)
                return -EINVAL;
        slash = strrchr(p->path, '/');
        if (strempty(p->filename))
                p->filename = slash ? slash + 1 : p->path;
        why = document_filename_problem(p->filename);
        if (why) {
                tool_finish_error(p->run, "filename %s.", why);
                return -EINVAL;
        }
        if (strlen(p->path) > 4000) {
                tool_finish_error(p->run, "path is too long.");
                return -EINVAL;
        }
        if (description) {
                metadata = json_pack("{s:s}", "description", description);
                p->metadata = json_text(metadata);
        }
        if (description && strlen(description) > DOCUMENT_DESCRIPTION_MAX) {
                tool_finish_error(p->run, "description may have %u bytes.",
                                  DOCUMENT_DESCRIPTION_MAX);
                return -EINVAL;
        }
        return 0;
}

static void put_start(struct tool_run *run)
{
        struct guest *guest = run->host->slot ? slot_guest(run->host->slot) : NULL;
        struct put *p;
        int r;

        if (!guest) {
                tool_finish_error(run, "The slot is not ready.");
                return;
        }
        p = xnew(struct put);
        *p = (struct put){ .run = run, .guest = guest, .documents = run->host->documents };
        if (read_arguments(p) < 0) {
                put_free(p);
                return;
        }
        run->state = p;
        r = guest_fetch_file(guest, run->host->epoch, p->path, FILE_MAX, on_fetched, p);
        if (r < 0)
                on_fetched(p, r, -1, 0);
}

static void put_stop(struct tool_run *run, bool timeout)
{
        struct put *p = run->state;

        if (!p)
                return;
        run->state = NULL;
        if (run->host->slot && slot_guest(run->host->slot) == p->guest)
                guest_cancel(p->guest, p);
        documents_cancel(p->documents, p);
        put_free(p);
}

static bool put_present(const struct tool_host *h)
{
        return h->documents;
}

const struct tool tool_document_put = {
        .spec = {
                .name = "document_put",
                .description =
                        "Stores a file of this machine as a document that the user keeps after the session ends: "
                        "reports, charts, data. Use it for every result the user should have. Storing again makes "
                        "another document.",
                .schema = "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"path\"],\"properties\":{"
                          "\"path\":{\"type\":\"string\",\"description\":\"The file, absolute or relative to the home "
                          "folder\"},"
                          "\"filename\":{\"type\":\"string\",\"description\":\"The document's name; default: the "
                          "file's own\"},"
                          "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"description\":\"Words to find "
                          "it by; letters, digits and hyphens\"},"
                          "\"description\":{\"type\":\"string\",\"description\":\"What it is, in one sentence\"}}}",
        },
        .limit_usec = 60 * USEC_PER_SEC,
        .present = put_present,
        .start = put_start,
        .stop = put_stop,
};
