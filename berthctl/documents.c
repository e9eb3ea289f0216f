/* Documents: list, get, put, tag, delete. */
#include "ctl.h"

#include <unistd.h>

static int list(struct ctl *c, const char *tags)
{
        static const char *const columns[] = {
                "ID:id",     "SIZE:size_bytes",   "TYPE:content_type",
                "TAGS:tags", "FILENAME:filename", NULL
        };
        cleanup_free char *wanted = ctl_quote(tags ? tags : "");
        cleanup_json json_t *all = json_array();

        for (size_t offset = 0;; offset += 1000) {
                cleanup_free char *path = xasprintf("/documents?limit=1000&offset=%zu%s%s", offset,
                                                    *wanted ? "&tags=" : "", wanted);
                cleanup_json json_t *page = NULL;
                if (ctl_call(c, "GET", path, NULL, &page) < 0)
                        return 1;
                const json_t *found =
                        json_is_array(page) ? page : json_object_get(page, "documents");
                (void) json_array_extend(all, (json_t *) found);
                if (json_array_size(found) < 1000)
                        break;
        }
        if (c->json)
                show_json(all);
        else
                show_table(all, columns);
        return 0;
}

int ctl_save(struct ctl *c, const char *path, const char *file)
{
        if (!file || streq(file, "-"))
                return ctl_download(c, path, stdout) < 0;
        cleanup_free char *part = xasprintf("%s.part", file);
        FILE *f = fopen(part, "wxe");
        if (!f) {
                fprintf(stderr, "berthctl: cannot write %s: %s\n", part, strerror(errno));
                return 1;
        }
        int r = ctl_download(c, path, f);
        if (fclose(f) != 0 || r < 0 || rename(part, file) < 0) {
                if (r == 0)
                        fprintf(stderr, "berthctl: cannot write %s: %s\n", file, strerror(errno));
                (void) unlink(part);
                return 1;
        }
        return 0;
}

static int tag(struct ctl *c, const char *path, const char *tags)
{
        cleanup_json json_t *body = json_object(), *reply = NULL;
        cleanup_free char *copy = xstrdup(tags);
        json_t *list = json_array();
        char *save = NULL;

        for (char *t = strtok_r(copy, ",", &save); t; t = strtok_r(NULL, ",", &save))
                (void) json_array_append_new(list, json_string(strstrip(t)));
        (void) json_object_set_new(body, "tags", list);
        if (ctl_call(c, "PATCH", path, body, &reply) < 0)
                return 1;
        if (c->json)
                show_json(reply);
        return 0;
}

static int put(struct ctl *c, const char *file, const char *tags)
{
        cleanup_json json_t *reply = NULL;

        if (ctl_upload(c, "/documents", file, tags, &reply) < 0)
                return 1;
        if (c->json)
                show_json(reply);
        else
                printf("%s\n", show_member(reply, "id"));
        return 0;
}

int cmd_documents(struct ctl *c, int argc, char **argv)
{
        if (argc == 0 || (streq(argv[0], "list") && argc <= 2))
                return list(c, argc > 1 ? argv[1] : NULL);
        if (argc >= 2) {
                cleanup_free char *id = ctl_quote(argv[1]), *path = xasprintf("/documents/%s", id);
                if (streq(argv[0], "get") && argc <= 3)
                        return ctl_save(c, path, argc > 2 ? argv[2] : NULL);
                if (streq(argv[0], "put") && argc <= 3)
                        return put(c, argv[1], argc > 2 ? argv[2] : NULL);
                if (streq(argv[0], "tag") && argc == 3)
                        return tag(c, path, argv[2]);
                if (streq(argv[0], "delete") && argc == 2)
                        return ctl_call(c, "DELETE", path, NULL, NULL) < 0;
        }
        fprintf(stderr, "usage: berthctl documents list [TAGS] | get ID [FILE] | put FILE [TAGS] | "
                        "tag ID TAGS | delete ID\n");
        return 2;
}
