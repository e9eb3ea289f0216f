/* Serves the page: opens beneath its folder only, with ETag, precompressed copies and a strict
 * content policy. */
#include "gatewayd/static.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/media.h"
#include "common/io/log.h"
#include "gatewayd/gateway.h"

struct static_files {
        int web, demo; /* folders, -1 = not served */
};

static const char page_policy[] =
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' "
        "'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; media-src 'self' "
        "blob:; "
        "worker-src 'self' blob:; frame-src 'self' blob:; manifest-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'";
static const char demo_policy[] =
        "default-src 'self' 'unsafe-inline' data:; connect-src 'none'; base-uri 'none'; "
        "form-action 'self'; sandbox allow-scripts allow-forms allow-downloads";

/* A regular file beneath the folder. */
static int open_beneath(int folder, const char *path, struct stat *ret_st)
{
        struct open_how how = {
                .flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
        };
        cleanup_close int fd = (int) syscall(SYS_openat2, folder, path, &how, sizeof(how));

        if (fd < 0)
                return -errno;
        if (fstat(fd, ret_st) < 0)
                return -errno;
        return S_ISREG(ret_st->st_mode) ? TAKE_FD(fd) : -EISDIR;
}

static bool accepts_gzip(const struct http_request *req)
{
        const char *h = http_header(req, "accept-encoding");

        return h && strstr(h, "gzip") && !strstr(h, "gzip;q=0");
}

/* app-3F2A9C1B.js and the like: the name changes with the content. */
static bool has_hash(const char *path)
{
        const char *dash = strrchr(path, '-'), *dot = strrchr(path, '.');

        if (!dash || !dot || dot - dash != 9)
                return false;
        for (const char *p = dash + 1; p < dot; p++)
                if (!((*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9')))
                        return false;
        return true;
}

static bool etag_matches(const char *given, const char *etag)
{
        return given && (streq(given, "*") || strstr(given, etag));
}

static void serve(struct http_request *req, int folder, const char *path, const char *policy)
{
        struct stat st = { 0 };
        char zipped[1024], etag[80];
        bool gzip = accepts_gzip(req) &&
                    (size_t) snprintf(zipped, sizeof(zipped), "%s.gz", path) < sizeof(zipped);
        cleanup_close int fd = gzip ? open_beneath(folder, zipped, &st) : -1;

        gzip = fd >= 0;
        if (fd < 0)
                fd = open_beneath(folder, path, &st);
        if (fd < 0) {
                http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL, "There is nothing at this path.");
                return;
        }
        (void) snprintf(etag, sizeof(etag), "\"%llx-%llx-%llx%s\"",
                        (unsigned long long) st.st_mtim.tv_sec,
                        (unsigned long long) st.st_mtim.tv_nsec, (unsigned long long) st.st_size,
                        gzip ? "-gz" : "");
        http_reply_header(req, "ETag", "%s", etag);
        http_reply_header(req, "Vary", "Accept-Encoding");
        http_reply_header(req, "Cache-Control", "%s",
                          has_hash(path) ? "public, max-age=31536000, immutable" : "no-cache");
        http_reply_header(req, "Content-Security-Policy", "%s", policy);
        http_reply_header(req, "Referrer-Policy", "no-referrer");
        http_reply_header(req, "Cross-Origin-Opener-Policy", "same-origin");
        if (etag_matches(http_header(req, "if-none-match"), etag)) {
                http_reply_empty(req, 304);
                return;
        }
        if (gzip)
                http_reply_header(req, "Content-Encoding", "gzip");
        const char *type = media_type_of(path);
        cleanup_free char *text_type =
                str_starts(type, "text/") ? xasprintf("%s; charset=utf-8", type) : NULL;
        http_reply_fd(req, 200, text_type ? text_type : type, TAKE_FD(fd), 0,
                      (uint64_t) st.st_size);
}

/* Paths of the page's own router have no dot in their last part and are asked for as HTML. */
static bool is_page_path(const struct http_request *req)
{
        const char *slash = strrchr(req->path, '/');

        return streq(req->path, "/") || (!strchr(slash, '.') && http_accepts(req, "text/html"));
}

static void page(struct http_request *req)
{
        const struct static_files *s = req->gateway->files;

        if (s->web < 0)
                http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL,
                                 streq(req->path, "/") ? "No page is installed here: set web_dir."
                                                       : "There is nothing at this path.");
        else
                serve(req, s->web, is_page_path(req) ? "index.html" : req->path + 1, page_policy);
}

static void demo(struct http_request *req)
{
        const struct static_files *s = req->gateway->files;
        const char *path = req->params[0];
        cleanup_free char *index = NULL;

        if (!*path || path[strlen(path) - 1] == '/') {
                index = xasprintf("%sindex.html", path);
                path = index;
        }
        if (s->demo < 0)
                http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL, "There is nothing at this path.");
        else
                serve(req, s->demo, path, demo_policy);
}

const struct route static_route = { HTTP_GET, "/{path...}", page, .auth = ROUTE_PUBLIC };
static const struct route table[] = {
        { HTTP_GET, "/demo/{path...}", demo, .auth = ROUTE_PUBLIC },
};
const struct route_table static_routes = { table, ARRAY_LEN(table) };

static int open_folder(const char *path, int *ret)
{
        *ret = -1;
        if (strempty(path))
                return 0;
        int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return log_errno(LOG_ERR, errno, "cannot open the folder %s", path);
        *ret = fd;
        return 0;
}

int static_files_new(struct gateway *g, struct static_files **ret)
{
        CLEANUP(static_files_freep) struct static_files *s = xnew(struct static_files);

        s->demo = -1;
        int r = open_folder(g->settings->web_dir, &s->web);
        if (r >= 0)
                r = open_folder(g->settings->demo_dir, &s->demo);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

struct static_files *static_files_free(struct static_files *s)
{
        if (!s)
                return NULL;
        (void) fd_close(s->web);
        (void) fd_close(s->demo);
        free(s);
        return NULL;
}
