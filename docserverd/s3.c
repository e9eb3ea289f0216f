/* Exchanges signed requests with an S3-compatible object store. */
#include "s3-private.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#include "s3-sign.h"

#define IDLE_MAX 8u /* connections kept for the next call */
#define TRIES 3u
#define CONNECT_TIMEOUT_MS 2000L
#define STALL_S 5L /* nothing moved for so long: not tried again, somebody waits for an answer */
#define ANSWER_MAX (4 * MIB) /* a page of a listing has half a megabyte */
#define BUFFER_SIZE (256 * KIB)

struct s3 {
        char *base;   /* scheme://host[:port] */
        char *host;   /* as the Host header has it */
        char *prefix; /* of every path: [/path]/bucket, encoded */
        char *region, *access_key, *secret_key, *ca_file;
        atomic_bool stopping;

        pthread_mutex_t lock; /* for what follows */
        CURL *idle[IDLE_MAX];
        unsigned n_idle;
        char problem[300];
};

/* ---- configuration ---- */

static char *url_part(CURLU *u, CURLUPart part)
{
        char *text = NULL;
        if (curl_url_get(u, part, &text, 0) != CURLUE_OK)
                return NULL;
        char *copy = xstrdup(text);
        curl_free(text);
        return copy;
}

static const char *read_endpoint(struct s3 *s, const char *endpoint, const char *bucket)
{
        CURLU *u = curl_url();
        const char *why = NULL;
        if (!u || curl_url_set(u, CURLUPART_URL, endpoint, 0) != CURLUE_OK) {
                curl_url_cleanup(u);
                return "s3_endpoint must be an address such as https://s3.example.org";
        }
        cleanup_free char *scheme = url_part(u, CURLUPART_SCHEME),
                          *host = url_part(u, CURLUPART_HOST), *port = url_part(u, CURLUPART_PORT),
                          *path = url_part(u, CURLUPART_PATH), *user = url_part(u, CURLUPART_USER),
                          *query = url_part(u, CURLUPART_QUERY);
        curl_url_cleanup(u);
        if (!host || (!streq(scheme, "http") && !streq(scheme, "https")))
                why = "s3_endpoint must begin with https:// or http://";
        else if (user || query)
                why = "s3_endpoint must have no user and no query: credentials have settings of "
                      "their own";
        if (why)
                return why;
        bool usual = !port || streq(port, streq(scheme, "https") ? "443" : "80");
        s->host = usual ? xstrdup(host) : xasprintf("%s:%s", host, port);
        s->base = xasprintf("%s://%s", scheme, s->host);
        size_t n = path ? strlen(path) : 0;
        while (n > 0 && path[n - 1] == '/')
                n--;
        cleanup_free char *name = s3_encode(bucket, false);
        s->prefix = xasprintf("%.*s/%s", (int) n, path ? path : "", name);
        return NULL;
}

int s3_new(const struct s3_config *c, struct s3 **ret, char **ret_error)
{
        CLEANUP(s3_freep) struct s3 *s = xnew(struct s3);
        const char *why = NULL;
        (void) pthread_mutex_init(&s->lock, NULL);
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                why = "libcurl cannot be used";
        else if (strempty(c->bucket) || strchr(c->bucket, '/'))
                why = "s3_bucket must name a bucket";
        else if (strempty(c->region) || strempty(c->access_key) || strempty(c->secret_key))
                why = "s3_region, s3_access_key and s3_secret_key must be given";
        else
                why = read_endpoint(s, c->endpoint, c->bucket);
        if (why) {
                *ret_error = xstrdup(why);
                return -EINVAL;
        }
        s->region = xstrdup(c->region);
        s->access_key = xstrdup(c->access_key);
        s->secret_key = xstrdup(c->secret_key);
        s->ca_file = strempty(c->ca_file) ? NULL : xstrdup(c->ca_file);
        *ret = TAKE_PTR(s);
        return 0;
}

struct s3 *s3_free(struct s3 *s)
{
        if (!s)
                return NULL;
        for (unsigned i = 0; i < s->n_idle; i++)
                curl_easy_cleanup(s->idle[i]);
        (void) pthread_mutex_destroy(&s->lock);
        if (s->secret_key)
                explicit_bzero(s->secret_key, strlen(s->secret_key));
        free(s->base);
        free(s->host);
        free(s->prefix);
        free(s->region);
        free(s->access_key);
        free(s->secret_key);
        free(s->ca_file);
        free(s);
        return NULL;
}

void s3_stop(struct s3 *s)
{
        atomic_store(&s->stopping, true);
}

static void set_problem(struct s3 *s, const char *fmt, ...) printf_like(2, 3);
static void set_problem(struct s3 *s, const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        (void) pthread_mutex_lock(&s->lock);
        (void) vsnprintf(s->problem, sizeof(s->problem), fmt, ap);
        (void) pthread_mutex_unlock(&s->lock);
        va_end(ap);
}

char *s3_problem(struct s3 *s)
{
        (void) pthread_mutex_lock(&s->lock);
        char *copy = xstrdup(s->problem);
        (void) pthread_mutex_unlock(&s->lock);
        return copy;
}

/* ---- bytes ---- */

static size_t on_read(char *to, size_t size, size_t n, void *userdata)
{
        struct s3_exchange *x = userdata;
        size_t want = MIN((uint64_t) size * n, x->length - x->sent);
        if (x->fd < 0)
                memcpy(to, x->body.data + x->sent, want);
        else if (want > 0) {
                ssize_t got = pread(x->fd, to, want, (off_t) (x->offset + x->sent));
                if (got <= 0) {
                        x->failure = got < 0 ? -errno : -EMSGSIZE;
                        return CURL_READFUNC_ABORT;
                }
                want = (size_t) got;
        }
        x->sent += want;
        return want;
}

static int on_seek(void *userdata, curl_off_t to, int origin)
{
        struct s3_exchange *x = userdata;
        if (origin != SEEK_SET || to < 0 || (uint64_t) to > x->length)
                return CURL_SEEKFUNC_FAIL;
        x->sent = (uint64_t) to;
        return CURL_SEEKFUNC_OK;
}

static int write_out(struct s3_exchange *x, const char *data, size_t n)
{
        if (n > x->out_length - x->got)
                return -EMSGSIZE;
        while (n > 0) {
                ssize_t k = pwrite(x->out_fd, data, n, (off_t) (x->first + x->got));
                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                data += k;
                n -= (size_t) k;
                x->got += (uint64_t) k;
        }
        return 0;
}

static size_t on_write(char *data, size_t size, size_t n, void *userdata)
{
        struct s3_exchange *x = userdata;
        if (x->out_fd >= 0 && x->status / 100 == 2)
                x->failure = write_out(x, data, size * n);
        else
                x->failure = buf_append(&x->answer, data, size * n);
        return x->failure < 0 ? 0 : size * n;
}

static size_t on_header(char *data, size_t size, size_t n, void *userdata)
{
        struct s3_exchange *x = userdata;
        struct span line = { data, size * n };
        if (line.len > 9 && strncmp(data, "HTTP/", 5) == 0) {
                const char *space = memchr(data, ' ', line.len);
                x->status = space ? strtol(space + 1, NULL, 10) : 0;
        } else if (line.len > 5 && strncasecmp(data, "etag:", 5) == 0) {
                const char *p = data + 5, *end = data + line.len;
                while (p < end && *p == ' ')
                        p++;
                while (end > p && (end[-1] == '\r' || end[-1] == '\n'))
                        end--;
                (void) snprintf(x->etag, sizeof(x->etag), "%.*s", (int) (end - p), p);
        }
        return size * n;
}

static int on_progress(void *userdata, curl_off_t dt, curl_off_t dn, curl_off_t ut, curl_off_t un)
{
        struct s3_exchange *x = userdata;
        return atomic_load(&x->s3->stopping);
}

/* ---- one try ---- */

static CURL *take_handle(struct s3 *s)
{
        CURL *h = NULL;
        (void) pthread_mutex_lock(&s->lock);
        if (s->n_idle > 0)
                h = s->idle[--s->n_idle];
        (void) pthread_mutex_unlock(&s->lock);
        if (h)
                curl_easy_reset(h); /* keeps the connection */
        else
                h = curl_easy_init();
        if (!h)
                abort(); /* no memory */
        return h;
}

static void give_handle(struct s3 *s, CURL *h)
{
        (void) pthread_mutex_lock(&s->lock);
        if (s->n_idle < IDLE_MAX) {
                s->idle[s->n_idle++] = h;
                h = NULL;
        }
        (void) pthread_mutex_unlock(&s->lock);
        curl_easy_cleanup(h);
}

static struct curl_slist *add_header(struct curl_slist *list, const char *fmt, ...)
        printf_like(2, 3);
static struct curl_slist *add_header(struct curl_slist *list, const char *fmt, ...)
{
        va_list ap;
        char *text = NULL;
        va_start(ap, fmt);
        if (vasprintf(&text, fmt, ap) < 0)
                abort();
        va_end(ap);
        struct curl_slist *longer = curl_slist_append(list, text);
        if (!longer)
                abort();
        free(text);
        return longer;
}

static struct curl_slist *make_headers(struct s3 *s, const struct s3_exchange *x, const char *path)
{
        char digest[SHA256_HEX], date[S3_DATE_MAX];
        if (!x->checksum)
                sha256_hex(x->body.data ? x->body.data : "", x->body.len, digest);
        const struct s3_to_sign sign = {
                .method = x->method,
                .host = s->host,
                .path = path,
                .query = x->query,
                .payload = x->checksum ? x->checksum : digest,
                .region = s->region,
                .access_key = s->access_key,
                .secret_key = s->secret_key,
                .time_us = now_realtime(),
        };
        cleanup_free char *authorization = s3_sign(&sign, date);
        struct curl_slist *list = add_header(NULL, "Host: %s", s->host);
        list = add_header(list, "x-amz-date: %s", date);
        list = add_header(list, "x-amz-content-sha256: %s", sign.payload);
        list = add_header(list, "Authorization: %s", authorization);
        list = add_header(list, "Expect:");
        if (x->fd >= 0 || x->body.data)
                list = add_header(list, "Content-Type: application/octet-stream");
        if (x->out_fd >= 0)
                list = add_header(list, "Range: bytes=%" PRIu64 "-%" PRIu64, x->first,
                                  x->first + x->out_length - 1);
        return list;
}

static void set_options(struct s3 *s, CURL *h, struct s3_exchange *x)
{
        (void) curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
        (void) curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
        (void) curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
        (void) curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
        (void) curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, STALL_S);
        (void) curl_easy_setopt(h, CURLOPT_BUFFERSIZE, (long) BUFFER_SIZE);
        (void) curl_easy_setopt(h, CURLOPT_FILETIME, 1L);
        if (s->ca_file)
                (void) curl_easy_setopt(h, CURLOPT_CAINFO, s->ca_file);
        (void) curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, x->method);
        if (streq(x->method, "HEAD"))
                (void) curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
        if (x->fd >= 0 || x->body.data) {
                (void) curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
                (void) curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t) x->length);
                (void) curl_easy_setopt(h, CURLOPT_READFUNCTION, on_read);
                (void) curl_easy_setopt(h, CURLOPT_READDATA, x);
                (void) curl_easy_setopt(h, CURLOPT_SEEKFUNCTION, on_seek);
                (void) curl_easy_setopt(h, CURLOPT_SEEKDATA, x);
                (void) curl_easy_setopt(h, CURLOPT_UPLOAD_BUFFERSIZE, (long) BUFFER_SIZE);
        }
        (void) curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_write);
        (void) curl_easy_setopt(h, CURLOPT_WRITEDATA, x);
        (void) curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
        (void) curl_easy_setopt(h, CURLOPT_HEADERDATA, x);
        (void) curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
        (void) curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
        (void) curl_easy_setopt(h, CURLOPT_XFERINFODATA, x);
}

/* What the answer, or its absence, means. */
static int judge(struct s3 *s, CURL *h, CURLcode code, struct s3_exchange *x)
{
        if (atomic_load(&s->stopping))
                return -ECANCELED;
        if (x->failure < 0 && x->failure != -EMSGSIZE)
                return x->failure; /* the file, not the store */
        x->timed_out = code == CURLE_OPERATION_TIMEDOUT;
        if (code != CURLE_OK) {
                set_problem(s, "%s", curl_easy_strerror(code));
                return -EHOSTUNREACH;
        }
        curl_off_t length = 0, modified = 0;
        (void) curl_easy_getinfo(h, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        (void) curl_easy_getinfo(h, CURLINFO_FILETIME_T, &modified);
        x->content_length = length > 0 ? (uint64_t) length : 0;
        x->modified_us = modified > 0 ? (uint64_t) modified * USEC_PER_SEC : 0;
        if (x->status / 100 == 2) {
                if (x->out_fd >= 0 && x->got != x->out_length) {
                        set_problem(s, "an answer ended early");
                        return -EHOSTUNREACH;
                }
                return 0;
        }
        if (x->status == 404)
                return -ENOENT;
        if (!x->quiet)
                set_problem(s, "status %ld: %.200s", x->status, buf_head(&x->answer));
        if (x->status == 401 || x->status == 403)
                return -EACCES;
        return x->status >= 500 || x->status == 429 || x->status == 408 ? -EHOSTUNREACH : -EPROTO;
}

static int try_once(struct s3 *s, struct s3_exchange *x)
{
        cleanup_free char *key = s3_encode(x->key, true);
        cleanup_free char *path = xasprintf("%s%s%s", s->prefix, key[0] ? "/" : "", key);
        cleanup_free char *url =
                xasprintf("%s%s%s%s", s->base, path, x->query[0] ? "?" : "", x->query);
        CURL *h = take_handle(s);
        struct curl_slist *headers = make_headers(s, x, path);
        x->status = 0;
        x->sent = x->got = 0;
        x->failure = 0;
        buf_clear(&x->answer);
        (void) curl_easy_setopt(h, CURLOPT_URL, url);
        (void) curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
        (void) curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
        set_options(s, h, x);
        CURLcode code = curl_easy_perform(h);
        int r = judge(s, h, code, x);
        curl_slist_free_all(headers);
        give_handle(s, h);
        return r;
}

static void wait_a_bit(unsigned try)
{
        struct timespec t = { .tv_nsec = 80000000L << (2 * try) };
        (void) nanosleep(&t, NULL);
}

int s3_exchange(struct s3 *s, struct s3_exchange *x)
{
        x->s3 = s;
        x->answer.limit = ANSWER_MAX;
        if (x->body.data)
                x->length = x->body.len;
        int r = -ECANCELED;
        for (unsigned try = 0; try < TRIES && !atomic_load(&s->stopping); try++) {
                if (try > 0)
                        wait_a_bit(try - 1);
                r = try_once(s, x);
                if (r != -EHOSTUNREACH || x->timed_out)
                        break;
        }
        return r;
}

void s3_exchange_done(struct s3_exchange *x)
{
        buf_done(&x->answer);
}
