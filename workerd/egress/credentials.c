/* Reads the file of credentials and finds the one for a request. */
#include "egress.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/json.h"

static int read_file(const char *path, struct buf *ret)
{
        struct stat st;
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || (st.st_mode & 077))
                return -EPERM;
        if (st.st_size > CREDENTIALS_FILE_MAX)
                return -EFBIG;
        int r = buf_reserve(ret, (size_t) st.st_size + 1);
        ssize_t n = r < 0 ? r : read(fd, buf_tail(ret), (size_t) st.st_size);
        if (n < 0)
                return r < 0 ? r : -errno;
        buf_added(ret, (size_t) n);
        return 0;
}

static bool plain(const char *s, bool token)
{
        if (strempty(s))
                return false;
        for (; *s; s++)
                if (*s < ' ' || *s == 0x7f || (token && (*s == ':' || *s == ' ')))
                        return false;
        return true;
}

static void release(struct credential *c)
{
        if (c->value)
                explicit_bzero(c->value, strlen(c->value));
        for (size_t i = 0; i < c->n_paths; i++)
                free(c->paths[i]);
        free(c->paths);
        free(c->host);
        free(c->tenant);
        free(c->agent);
        free(c->name);
        free(c->value);
        *c = (struct credential){ 0 };
}

static int read_paths(const json_t *list, struct credential *c)
{
        size_t n = json_array_size(list);
        if (list && (!json_is_array(list) || n == 0 || n > 100))
                return -EINVAL;
        c->paths = n ? xnewn(char *, n) : NULL;
        for (size_t i = 0; i < n; i++) {
                const char *path = json_string_value(json_array_get(list, i));
                if (!path || path[0] != '/')
                        return -EINVAL;
                c->paths[c->n_paths++] = xstrdup(path);
        }
        return 0;
}

struct entry {
        const char *host, *header, *value, *tenant, *agent;
        int64_t port;
        json_t *paths;
};

static int read_entry(const json_t *object, struct credential *ret, struct json_problem *problem)
{
        static const struct json_field fields[] = {
                JSON_FIELD(struct entry, host, JSON_KIND_STRING, .required = true),
                JSON_FIELD(struct entry, header, JSON_KIND_STRING, .required = true, .max = 100),
                JSON_FIELD(struct entry, value, JSON_KIND_STRING, .required = true, .max = 8192),
                JSON_FIELD(struct entry, tenant, JSON_KIND_STRING, .max = 64),
                JSON_FIELD(struct entry, agent, JSON_KIND_STRING, .max = 64),
                JSON_FIELD(struct entry, port, JSON_KIND_INT, .min = 1, .max = UINT16_MAX),
                JSON_FIELD(struct entry, paths, JSON_KIND_ARRAY),
        };
        struct entry e = { .port = 443 };
        char host[HOST_TEXT_MAX];
        enum host_kind kind;
        if (json_read(object, fields, ARRAY_LEN(fields), &e, problem) < 0)
                return -EINVAL;
        if (host_normalise(span_of(e.host), host, &kind) < 0 || !plain(e.header, true) ||
            !plain(e.value, false)) {
                (void) snprintf(problem->message, sizeof(problem->message),
                                "host, header and value must be one plain line each");
                return -EINVAL;
        }
        *ret = (struct credential){ .host = xstrdup(host),
                                    .tenant = xstrdup(e.tenant),
                                    .agent = xstrdup(e.agent),
                                    .port = (uint16_t) e.port,
                                    .name = xstrdup(e.header),
                                    .value = xstrdup(e.value) };
        if (read_paths(e.paths, ret) == 0)
                return 0;
        (void) snprintf(problem->message, sizeof(problem->message),
                        "paths must be a list of paths, each beginning with /");
        release(ret);
        return -EINVAL;
}

int credentials_read(struct proxy *p, const char *path, char **ret_error)
{
        cleanup_buf struct buf text = BUF_LIMIT(CREDENTIALS_FILE_MAX + 1);
        cleanup_json json_t *list = NULL;
        struct json_problem problem = { 0 };
        int r = read_file(path, &text);
        if (r < 0) {
                *ret_error =
                        xasprintf("%s cannot be read: %s", path,
                                  r == -EPERM ? "it must be a file that only its owner may read"
                                              : strerror(-r));
                return r;
        }
        r = json_parse(buf_head(&text), buf_pending(&text), &list, &problem);
        if (r == 0 && (!json_is_array(list) || json_array_size(list) > CREDENTIALS_MAX)) {
                (void) snprintf(problem.message, sizeof(problem.message),
                                "it must be a list of at most %d credentials", CREDENTIALS_MAX);
                r = -EINVAL;
        }
        for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
                r = read_entry(json_array_get(list, i), &p->credentials[i], &problem);
                p->n_credentials += r == 0;
        }
        if (text.data)
                explicit_bzero(text.data, text.len);
        if (r < 0)
                *ret_error =
                        xasprintf("%s: entry %zu: %s", path, p->n_credentials + 1, problem.message);
        return r;
}

void credentials_done(struct proxy *p)
{
        while (p->n_credentials > 0)
                release(&p->credentials[--p->n_credentials]);
}

/* A limited credential must not follow a path that the origin may read as another one. */
static bool path_is_plain(struct span path)
{
        cleanup_free char *text = span_dup(path);
        char *query = strchr(text, '?');
        if (query)
                *query = '\0';
        return !strchr(text, '%') && !strchr(text, '\\') && !strstr(text, "/../") &&
               !strstr(text, "/./") && !strstr(text, "//") && !str_ends(text, "/..") &&
               !str_ends(text, "/.");
}

static bool path_fits(const struct credential *c, struct span path)
{
        if (c->n_paths == 0)
                return true;
        if (!path_is_plain(path))
                return false;
        for (size_t i = 0; i < c->n_paths; i++) {
                size_t len = strlen(c->paths[i]);
                if (path.len >= len && memcmp(path.data, c->paths[i], len) == 0)
                        return true;
        }
        return false;
}

const struct credential *proxy_credential(const struct proxy *p, const struct request *r)
{
        if (r->connect || r->port != 80)
                return NULL;
        for (size_t i = 0; i < p->n_credentials; i++) {
                const struct credential *c = &p->credentials[i];
                if (streq(c->host, r->host) && (!c->tenant || streq(c->tenant, p->tenant)) &&
                    (!c->agent || streq(c->agent, p->agent)) && path_fits(c, r->target))
                        return c;
        }
        return NULL;
}
