/* Finds the server and its token, and makes calls to it. */
#include "ctl.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPLY_MAX (64 * MIB)
#define DEFAULT_URL "http://127.0.0.1:8765"

/* ---- who and where ---- */

static char *first_line(const char *path)
{
        cleanup_fclose FILE *f = fopen(path, "re");
        char line[512];

        return f && fgets(line, sizeof(line), f) ? xstrdup(strstrip(line)) : NULL;
}

/* A file of NAME=value lines, as scripts/up writes it. */
static void read_env(struct ctl *c, const char *path)
{
        cleanup_fclose FILE *f = path && !c->token ? fopen(path, "re") : NULL;
        char line[1024];

        while (f && fgets(line, sizeof(line), f)) {
                char *value = strchr(line, '=');
                if (!value)
                        continue;
                *value++ = '\0';
                value = strstrip(value);
                if (streq(strstrip(line), "BERTH_URL") && !c->url)
                        c->url = xstrdup(value);
                if (streq(strstrip(line), "BERTH_TOKEN") && !c->token) {
                        c->token = xstrdup(value);
                        c->origin = xstrdup(path);
                }
        }
}

/* It would break the head of each request; the message of that helps nobody. */
static void drop_odd_token(struct ctl *c)
{
        const char *p = c->token;

        while (p && *p > ' ' && *p < 0x7f)
                p++;
        if (!p || !*p)
                return;
        fprintf(stderr, "berthctl: the token of %s has characters that no token has\n", c->origin);
        free(c->token);
        c->token = NULL;
}

void ctl_open(struct ctl *c)
{
        const char *home = getenv("HOME"), *config = getenv("XDG_CONFIG_HOME");
        cleanup_free char *mine = config ? xasprintf("%s/berth/berth.env", config)
                                  : home ? xasprintf("%s/.config/berth/berth.env", home)
                                         : NULL;
        cleanup_free char *up = home ? xasprintf("%s/.local/state/berth/berth.env", home) : NULL;

        if (!c->url && !strempty(getenv("BERTH_URL")))
                c->url = xstrdup(getenv("BERTH_URL"));
        if (!strempty(getenv("BERTH_TOKEN"))) {
                c->token = xstrdup(getenv("BERTH_TOKEN"));
                c->origin = xstrdup("BERTH_TOKEN");
        }
        read_env(c, mine);
        if (!c->token && (c->token = first_line("/var/lib/berth-coordinatord/admin-token")))
                c->origin = xstrdup("/var/lib/berth-coordinatord/admin-token");
        read_env(c, up);
        read_env(c, "/var/lib/berth-up/berth.env");
        drop_odd_token(c);
        if (!c->url)
                c->url = xstrdup(DEFAULT_URL);
        while (str_ends(c->url, "/"))
                c->url[strlen(c->url) - 1] = '\0';
        (void) curl_global_init(CURL_GLOBAL_DEFAULT);
        c->curl = curl_easy_init();
        if (!c->curl)
                abort();
}

void ctl_close(struct ctl *c)
{
        if (c->curl)
                curl_easy_cleanup(c->curl);
        free(c->url);
        free(c->token);
        free(c->origin);
}

char *ctl_quote(const char *part)
{
        char *escaped = curl_easy_escape(NULL, part, 0), *copy = xstrdup(escaped ? escaped : "");

        curl_free(escaped);
        return copy;
}

/* ---- calls ---- */

static size_t into_buf(char *data, size_t size, size_t n, void *userdata)
{
        return buf_append(userdata, data, size * n) < 0 ? 0 : size * n;
}

struct download {
        CURL *curl;
        FILE *out;
        struct buf refusal; /* the body of an answer that is none */
};

static size_t into_file(char *data, size_t size, size_t n, void *userdata)
{
        struct download *d = userdata;
        long status = 0;

        curl_easy_getinfo(d->curl, CURLINFO_RESPONSE_CODE, &status);
        return status / 100 == 2 ? fwrite(data, size, n, d->out) * size
                                 : into_buf(data, size, n, &d->refusal);
}

static struct curl_slist *prepare(struct ctl *c, const char *method, const char *path,
                                  const char *accept)
{
        cleanup_free char *url = xasprintf("%s%s", c->url, path);
        cleanup_free char *bearer =
                c->token ? xasprintf("Authorization: Bearer %s", c->token) : NULL;
        struct curl_slist *headers = NULL;

        curl_easy_reset(c->curl);
        curl_easy_setopt(c->curl, CURLOPT_URL, url);
        curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
        curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT, 5L);
        curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(c->curl, CURLOPT_USERAGENT, "berthctl/" BERTH_VERSION);
        if (bearer)
                headers = curl_slist_append(headers, bearer);
        if (accept)
                headers = curl_slist_append(headers, accept);
        headers = curl_slist_append(headers, "Expect:");
        return headers;
}

/* What to do next. */
static const char *hint(CURLcode code)
{
        static const char down[] = "; is Berth running? try berthctl doctor";
        static const char where[] =
                "; the address is that of --url, else BERTH_URL, else berth.env";
        static const struct {
                CURLcode code;
                const char *text;
        } hints[] = {
                { CURLE_COULDNT_CONNECT, down },
                { CURLE_OPERATION_TIMEDOUT, down },
                { CURLE_GOT_NOTHING, down },
                { CURLE_RECV_ERROR, down },
                { CURLE_SEND_ERROR, down },
                { CURLE_COULDNT_RESOLVE_HOST, where },
                { CURLE_UNSUPPORTED_PROTOCOL, where },
                { CURLE_URL_MALFORMAT, where },
                { CURLE_SSL_CONNECT_ERROR,
                  "; without a TLS proxy in front the address begins with http://" },
                { CURLE_PEER_FAILED_VERIFICATION,
                  "; this host does not trust the server's certificate" },
        };

        for (size_t i = 0; i < ARRAY_LEN(hints); i++)
                if (hints[i].code == code)
                        return hints[i].text;
        return "";
}

/* What the server says of a path is of no use to who typed an ID. */
static const char *in_words(const char *message)
{
        bool path = str_starts(message, "The path of the request") ||
                    str_starts(message, "There is nothing at this path") ||
                    str_starts(message, "The request target is longer");

        return path ? "an ID or name is empty, too long, or has characters that none has" : message;
}

/* Says on stderr why a reply is none. */
static int complain(struct ctl *c, CURLcode code, long status, const struct buf *reply)
{
        struct json_problem problem;
        cleanup_json json_t *j = NULL;

        if (code != CURLE_OK) {
                fprintf(stderr, "berthctl: %s: %s%s\n", c->url, curl_easy_strerror(code),
                        hint(code));
                return -ECONNREFUSED;
        }
        if (status == 401) {
                fprintf(stderr,
                        "berthctl: %s%s%s; run this as root, or put BERTH_URL= and BERTH_TOKEN= "
                        "into ~/.config/berth/berth.env\n",
                        c->token ? "the token of " : "no token was found",
                        c->token ? c->origin : "",
                        c->token ? " is not, or no longer, valid here" : "");
                return -EPROTO;
        }
        if (json_parse(buf_head(reply), buf_pending(reply), &j, &problem) == 0 &&
            *show_member(j, "error.message"))
                fprintf(stderr, "berthctl: %s\n", in_words(show_member(j, "error.message")));
        else
                fprintf(stderr, "berthctl: %s answered with status %ld; is that Berth?\n", c->url,
                        status);
        return status == 404 ? -ENOENT : -EPROTO;
}

static int perform(struct ctl *c, struct curl_slist *headers, struct buf *reply, long *ret_status,
                   CURLcode *ret_code)
{
        curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
        if (reply) {
                curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, into_buf);
                curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, reply);
        }
        *ret_code = curl_easy_perform(c->curl);
        *ret_status = 0;
        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, ret_status);
        curl_slist_free_all(headers);
        return *ret_code == CURLE_OK && *ret_status / 100 == 2 ? 0 : -EPROTO;
}

static int parse_reply(const struct buf *reply, json_t **ret)
{
        struct json_problem problem;
        json_t *j = NULL;

        if (buf_pending(reply) > 0 &&
            json_parse(buf_head(reply), buf_pending(reply), &j, &problem) < 0) {
                fprintf(stderr, "berthctl: the server's reply is no JSON: %s\n", problem.message);
                return -EPROTO;
        }
        if (ret)
                *ret = j;
        else
                json_decref(j);
        return 0;
}

int ctl_call(struct ctl *c, const char *method, const char *path, const json_t *body, json_t **ret)
{
        struct curl_slist *headers = prepare(c, method, path, NULL);
        cleanup_free char *text = body ? json_text(body) : NULL;
        cleanup_buf struct buf reply = BUF_LIMIT(REPLY_MAX);
        CURLcode code;
        long status;

        curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, 60L);
        if (text) {
                headers = curl_slist_append(headers, "Content-Type: application/json");
                curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, text);
        } else if (streq(method, "POST")) {
                curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, "");
                headers = curl_slist_append(headers, "Content-Type:");
        }
        if (perform(c, headers, &reply, &status, &code) < 0)
                return complain(c, code, status, &reply);
        return parse_reply(&reply, ret);
}

int ctl_try(struct ctl *c, const char *path, long *ret_status, json_t **ret)
{
        cleanup_buf struct buf reply = BUF_LIMIT(REPLY_MAX);
        struct curl_slist *headers = prepare(c, "GET", path, NULL);
        struct json_problem problem;
        CURLcode code;

        *ret = NULL;
        curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, 10L);
        int r = perform(c, headers, &reply, ret_status, &code);
        if (buf_pending(&reply) > 0 &&
            json_parse(buf_head(&reply), buf_pending(&reply), ret, &problem) < 0)
                *ret = NULL;
        return r;
}

int ctl_upload(struct ctl *c, const char *path, const char *file, const char *tags, json_t **ret)
{
        struct curl_slist *headers = prepare(c, "POST", path, NULL);
        cleanup_buf struct buf reply = BUF_LIMIT(REPLY_MAX);
        curl_mime *form = curl_mime_init(c->curl);
        CURLcode code;
        struct stat st;
        long status;

        if (tags) { /* fields before the file, so that the server knows them when the bytes come */
                curl_mimepart *part = curl_mime_addpart(form);
                curl_mime_name(part, "tags");
                curl_mime_data(part, tags, CURL_ZERO_TERMINATED);
        }
        curl_mimepart *part = curl_mime_addpart(form);
        curl_mime_name(part, "file");
        int r = stat(file, &st) < 0 ? -errno : S_ISDIR(st.st_mode) ? -EISDIR : 0;
        if (r < 0 || curl_mime_filedata(part, file) != CURLE_OK) {
                fprintf(stderr, "berthctl: cannot read %s: %s\n", file,
                        strerror(r < 0 ? -r : errno));
                curl_mime_free(form);
                curl_slist_free_all(headers);
                return -ENOENT;
        }
        curl_easy_setopt(c->curl, CURLOPT_MIMEPOST, form);
        r = perform(c, headers, &reply, &status, &code);
        curl_mime_free(form);
        return r < 0 ? complain(c, code, status, &reply) : parse_reply(&reply, ret);
}

int ctl_download(struct ctl *c, const char *path, FILE *out)
{
        struct curl_slist *headers = prepare(c, "GET", path, NULL);
        struct download d = { .curl = c->curl, .out = out, .refusal = BUF_LIMIT(REPLY_MAX) };
        CURLcode code;
        long status;

        curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, into_file);
        curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, &d);
        int r = perform(c, headers, NULL, &status, &code);
        if (r < 0 && code == CURLE_WRITE_ERROR && ferror(out))
                fprintf(stderr, "berthctl: the file could not be written: %s\n", strerror(errno));
        else if (r < 0)
                r = complain(c, code, status, &d.refusal);
        buf_done(&d.refusal);
        return r;
}

/* ---- the stream ---- */

struct following {
        struct ctl_follow *f;
        struct buf line;
        bool over;
};

static void take_line(struct following *x, char *line)
{
        struct json_problem problem;
        cleanup_json json_t *j = NULL;

        if (!str_starts(line, "data: ") || json_parse(line + 6, strlen(line + 6), &j, &problem) < 0)
                return;
        json_int_t seq = json_integer_value(json_object_get(j, "seq"));
        if (seq > 0 && (uint64_t) seq > x->f->after_seq)
                x->f->after_seq = (uint64_t) seq;
        x->over = !x->f->on_update(x->f->userdata, j);
}

static size_t on_bytes(char *data, size_t size, size_t n, void *userdata)
{
        struct following *x = userdata;

        for (size_t i = 0; i < size * n && !x->over; i++) {
                if (data[i] != '\n') {
                        if (buf_append(&x->line, &data[i], 1) < 0)
                                return 0;
                        continue;
                }
                if (buf_pending(&x->line) > 0)
                        take_line(x, x->line.data);
                buf_clear(&x->line);
        }
        return x->over ? 0 : size * n;
}

/* One connection until it ends; the status of its reply. */
static long follow_once(struct ctl *c, struct following *x)
{
        cleanup_free char *path = xasprintf("/sessions/%s/stream?after_seq=%" PRIu64,
                                            x->f->session_id, x->f->after_seq);
        struct curl_slist *headers = prepare(c, "GET", path, "Accept: text/event-stream");
        CURLM *multi = curl_multi_init();
        int running = 1;
        long status = 0;

        curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_bytes);
        curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, x);
        curl_multi_add_handle(multi, c->curl);
        while (running > 0 && !x->over) {
                struct curl_waitfd wait = { .fd = x->f->wait_fd, .events = CURL_WAIT_POLLIN };
                if (curl_multi_perform(multi, &running) != CURLM_OK)
                        break;
                if (running > 0)
                        (void) curl_multi_poll(multi, &wait, x->f->wait_fd >= 0, 200, NULL);
                x->over = x->over || !x->f->between(x->f->userdata);
        }
        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        curl_multi_remove_handle(multi, c->curl);
        curl_multi_cleanup(multi);
        curl_slist_free_all(headers);
        return status;
}

int ctl_follow(struct ctl *c, struct ctl_follow *f)
{
        struct following x = { .f = f, .line = BUF_LIMIT(REPLY_MAX) };
        int failures = 0, r = 0;

        while (!x.over && r == 0) {
                long status = follow_once(c, &x);
                buf_clear(&x.line);
                failures = status == 200 ? 0 : failures + 1;
                if (status / 100 == 4 || failures > 60) {
                        fprintf(stderr, "berthctl: session %s cannot be followed (status %ld)\n",
                                f->session_id, status);
                        r = -EPROTO;
                } else if (!x.over) {
                        (void) poll(NULL, 0, failures ? 500 : 50);
                }
        }
        buf_done(&x.line);
        return r;
}
