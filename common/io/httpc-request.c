/* One HTTP transfer: turns a configuration into libcurl options, and its callbacks into ours. */
#include "httpc-private.h"

#include <ctype.h>

#define CONNECT_DEFAULT_USEC (10 * USEC_PER_SEC)
#define STALL_DEFAULT_USEC (60 * USEC_PER_SEC)
#define BODY_DEFAULT_BYTES (64 * MIB)
#define NAME_MAX_BYTES 128

static bool running(const struct httpc_request *r)
{
        return r->state == REQUEST_RUNNING && r->abort == 0;
}

/* "HTTP/1.1 200 OK" and "HTTP/2 200" begin an answer; 1xx ones are followed by the real one. */
static long status_of(const char *line, size_t n)
{
        const char *space = memchr(line, ' ', n);
        if (n < 5 || memcmp(line, "HTTP/", 5) != 0 || !space || line + n - space < 4)
                return -1;
        long status = 0;
        for (int i = 1; i <= 3; i++) {
                if (!isdigit((unsigned char) space[i]))
                        return -1;
                status = status * 10 + (space[i] - '0');
        }
        return status;
}

static void tell_header(struct httpc_request *r, const char *line, size_t n)
{
        char name[NAME_MAX_BYTES];
        const char *colon = memchr(line, ':', n);
        if (!colon || colon == line || (size_t) (colon - line) >= sizeof(name))
                return;
        size_t len = (size_t) (colon - line);
        for (size_t i = 0; i < len; i++)
                name[i] = (char) tolower((unsigned char) line[i]);
        name[len] = 0;
        struct span value = { colon + 1, n - len - 1 };
        while (value.len > 0 && isspace((unsigned char) value.data[0]))
                value = (struct span){ value.data + 1, value.len - 1 };
        while (value.len > 0 && isspace((unsigned char) value.data[value.len - 1]))
                value.len--;
        r->config.on_header(r->config.userdata, name, value);
}

static size_t on_header(char *line, size_t size, size_t n, void *userdata)
{
        struct httpc_request *r = userdata;
        n *= size;
        if (!running(r))
                return CURL_WRITEFUNC_ERROR;
        r->last_activity = now_monotonic();
        r->header_bytes += n;
        if (r->header_bytes > HTTPC_HEADERS_MAX_BYTES) {
                r->abort = -EMSGSIZE;
                return CURL_WRITEFUNC_ERROR;
        }
        long status = status_of(line, n);
        if (status >= 0) {
                r->status = status;
                if (status >= 200 && r->config.on_head)
                        r->config.on_head(r->config.userdata, status);
        } else if (r->status >= 200 && r->config.on_header) {
                tell_header(r, line, n);
        }
        return running(r) ? n : CURL_WRITEFUNC_ERROR;
}

static size_t on_body(char *data, size_t size, size_t n, void *userdata)
{
        struct httpc_request *r = userdata;
        n *= size;
        if (!running(r))
                return CURL_WRITEFUNC_ERROR;
        r->last_activity = now_monotonic();
        if (n > r->config.body_max - r->body_bytes) {
                r->abort = -EMSGSIZE;
                return CURL_WRITEFUNC_ERROR;
        }
        r->body_bytes += n;
        if (r->config.on_data && n > 0)
                r->config.on_data(r->config.userdata, (struct span){ data, n });
        return running(r) ? n : CURL_WRITEFUNC_ERROR;
}

/* Sending a large body is progress too. */
static int on_progress(void *userdata, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up)
{
        struct httpc_request *r = userdata;
        if (down + up != r->bytes_moved) {
                r->bytes_moved = down + up;
                r->last_activity = now_monotonic();
        }
        return running(r) ? 0 : 1;
}

static void on_stall_timer(void *userdata)
{
        struct httpc_request *r = userdata;
        uint64_t quiet = now_monotonic() - r->last_activity;
        if (quiet < r->config.stall_usec)
                loop_timer_arm(&r->stall_timer, r->config.stall_usec - quiet);
        else
                httpc_request_stalled(r);
}

/* Text that cannot smuggle in another header or request line. */
static bool one_line(const char *s)
{
        for (; *s; s++) {
                unsigned char c = (unsigned char) *s;
                if ((c < 0x20 && c != '\t') || c == 0x7f)
                        return false;
        }
        return true;
}

static int add_header(struct httpc_request *r, const char *line)
{
        if (!strchr(line, ':') || !one_line(line))
                return -EINVAL;
        struct curl_slist *grown = curl_slist_append(r->headers, line);
        if (!grown)
                return -ENOMEM;
        r->headers = grown;
        return 0;
}

static int add_headers(struct httpc_request *r, const struct httpc_config *c)
{
        bool typed = false;
        for (const char *const *h = c->headers; h && *h; h++) {
                int e = add_header(r, *h);
                if (e < 0)
                        return e;
                typed |= strncasecmp(*h, "content-type:", 13) == 0;
        }
        /* No wait for "100 Continue", and no type that libcurl invents. */
        int e = add_header(r, "Expect:");
        return e < 0 || typed ? e : add_header(r, "Content-Type:");
}

static int check_url(const char *url)
{
        CURLU *u = curl_url();
        char *scheme = NULL;
        if (!u)
                return -ENOMEM;
        int r = -EINVAL;
        if (one_line(url) && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
            (streq(scheme, "http") || streq(scheme, "https")))
                r = 0;
        curl_free(scheme);
        curl_url_cleanup(u);
        return r;
}

/* Collects failures of curl_easy_setopt, so that none goes unseen. */
#define SET(option, value) (code = code ? code : curl_easy_setopt(r->easy, (option), (value)))

static CURLcode set_method(struct httpc_request *r, const struct httpc_config *c)
{
        CURLcode code = CURLE_OK;
        bool body = c->body.len > 0 || streq(c->method, "POST") || streq(c->method, "PUT") ||
                    streq(c->method, "PATCH");
        if (streq(c->method, "HEAD")) {
                SET(CURLOPT_NOBODY, 1L);
        } else if (body) {
                SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) c->body.len);
                SET(CURLOPT_COPYPOSTFIELDS, c->body.data ? c->body.data : "");
        }
        SET(CURLOPT_CUSTOMREQUEST, c->method);
        return code;
}

static curl_socket_t open_socket(void *userdata, curlsocktype purpose, struct curl_sockaddr *a)
{
        struct httpc_request *r = userdata;

        if (r->config.may_connect && !r->config.may_connect(r->config.userdata, &a->addr)) {
                r->abort = -EACCES;
                return CURL_SOCKET_BAD;
        }
        return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static CURLcode set_options(struct httpc_request *r, const struct httpc_config *c)
{
        CURLcode code = CURLE_OK;
        uint64_t connect = c->connect_timeout_usec ? c->connect_timeout_usec : CONNECT_DEFAULT_USEC;
        SET(CURLOPT_URL, c->url);
        SET(CURLOPT_PROTOCOLS_STR, "http,https");
        SET(CURLOPT_HTTPHEADER, r->headers);
        SET(CURLOPT_USERAGENT, "berth/" BERTH_VERSION);
        SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
        SET(CURLOPT_NOSIGNAL, 1L);
        SET(CURLOPT_TCP_NODELAY, 1L);
        SET(CURLOPT_TCP_KEEPALIVE, 1L);
        SET(CURLOPT_TCP_KEEPIDLE, 15L);
        SET(CURLOPT_TCP_KEEPINTVL, 5L);
        SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
        SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
        SET(CURLOPT_OPENSOCKETDATA, r);
        if (c->proxy)
                SET(CURLOPT_PROXY, c->proxy);
        if (c->unix_socket)
                SET(CURLOPT_UNIX_SOCKET_PATH, c->unix_socket);
        if (!strempty(c->ca_file))
                SET(CURLOPT_CAINFO, c->ca_file);
        SET(CURLOPT_CONNECTTIMEOUT_MS, (long) (connect / USEC_PER_MSEC));
        SET(CURLOPT_TIMEOUT_MS, (long) (c->total_usec / USEC_PER_MSEC));
        SET(CURLOPT_HEADERFUNCTION, on_header);
        SET(CURLOPT_HEADERDATA, r);
        SET(CURLOPT_WRITEFUNCTION, on_body);
        SET(CURLOPT_WRITEDATA, r);
        SET(CURLOPT_NOPROGRESS, 0L);
        SET(CURLOPT_XFERINFOFUNCTION, on_progress);
        SET(CURLOPT_XFERINFODATA, r);
        SET(CURLOPT_ERRORBUFFER, r->error);
        SET(CURLOPT_PRIVATE, r);
        return code ? code : set_method(r, c);
}

int httpc_request_new(struct httpc *h, const struct httpc_config *c, struct httpc_request **ret)
{
        if (check_url(c->url) < 0 || !one_line(c->method))
                return -EINVAL;
        struct httpc_request *r = xnew(struct httpc_request);
        *r = (struct httpc_request){ .client = h, .config = *c, .easy = curl_easy_init() };
        r->config.stall_usec = c->stall_usec ? c->stall_usec : STALL_DEFAULT_USEC;
        r->config.body_max = c->body_max ? c->body_max : BODY_DEFAULT_BYTES;
        list_init(&r->link);
        int e = r->easy ? add_headers(r, c) : -ENOMEM;
        if (e == 0 && set_options(r, c) != CURLE_OK)
                e = -ENOMEM;
        if (e == 0)
                e = loop_timer_init(&r->stall_timer, h->event, on_stall_timer, r);
        if (e < 0) {
                httpc_request_free(r);
                return e;
        }
        r->last_activity = now_monotonic();
        loop_timer_arm(&r->stall_timer, r->config.stall_usec);
        *ret = r;
        return 0;
}

void httpc_request_free(struct httpc_request *r)
{
        loop_timer_done(&r->stall_timer);
        if (r->easy)
                curl_easy_cleanup(r->easy);
        curl_slist_free_all(r->headers);
        free(r);
}

void httpc_request_finish(struct httpc_request *r, int result, const char *text)
{
        list_remove(&r->link);
        r->client->n_requests--;
        loop_timer_disarm(&r->stall_timer);
        bool tell = r->state != REQUEST_CANCELLED;
        r->state = REQUEST_CANCELLED; /* a cancel inside on_done finds it ended */
        if (tell && r->config.on_done)
                r->config.on_done(r->config.userdata, result, r->status, text);
        httpc_request_free(r);
}

int httpc_result(const struct httpc_request *r, CURLcode code)
{
        long os_error = 0;
        if (r->abort < 0)
                return r->abort;
        switch ((int) code) {
        case CURLE_OK:
                return 0;
        case CURLE_OPERATION_TIMEDOUT:
                return -ETIMEDOUT;
        case CURLE_COULDNT_CONNECT:
                (void) curl_easy_getinfo(r->easy, CURLINFO_OS_ERRNO, &os_error);
                return os_error == ECONNREFUSED ? -ECONNREFUSED : -EHOSTUNREACH;
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
                return -EHOSTUNREACH;
        case CURLE_RECV_ERROR:
        case CURLE_SEND_ERROR:
        case CURLE_GOT_NOTHING:
        case CURLE_PARTIAL_FILE:
        case CURLE_HTTP2:
        case CURLE_HTTP2_STREAM:
                return -ECONNRESET;
        case CURLE_OUT_OF_MEMORY:
                return -ENOMEM;
        default:
                return -EPROTO;
        }
}
