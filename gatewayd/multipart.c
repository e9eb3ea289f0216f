/* Cuts a multipart/form-data body into parts as its bytes arrive, without keeping part data. */
#include "multipart.h"

#include <strings.h>

#include "common/base/buf.h"
#include "multipart-head.h"

#define LINE_MAX_BYTES (16 * KIB)
#define PARTS_DEFAULT 1000

enum multipart_state {
        MULTIPART_DELIMITER, /* at the first delimiter, which has no CRLF before it */
        MULTIPART_AFTER,     /* behind a delimiter: CRLF opens a part, "--" ends the body */
        MULTIPART_HEAD,      /* in the lines of a part's head */
        MULTIPART_DATA,      /* in a part's bytes */
        MULTIPART_EPILOGUE,  /* behind the closing delimiter: one CRLF may follow */
        MULTIPART_FAILED,
        MULTIPART_STATE_MAX,
};

struct multipart {
        struct multipart_config config;
        enum multipart_state state;
        char delimiter[MULTIPART_BOUNDARY_MAX + 5]; /* CR LF - - boundary */
        size_t delimiter_len;
        size_t matched; /* bytes of the delimiter, or of what must come behind it, seen so far */
        bool closing;   /* MULTIPART_AFTER: the first byte was '-' */
        struct buf line;
        struct part_head head;
        size_t parts;
        int failure;
        const char *problem; /* static text */
};

static bool is_boundary_char(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               (c && strchr("'()+_,-./:=? ", c));
}

static bool boundary_valid(const char *s)
{
        size_t n = strlen(s);
        if (n == 0 || n > MULTIPART_BOUNDARY_MAX || s[n - 1] == ' ')
                return false;
        for (size_t i = 0; i < n; i++)
                if (!is_boundary_char(s[i]))
                        return false;
        return true;
}

int multipart_boundary(const char *content_type, char ret[static MULTIPART_BOUNDARY_MAX + 1])
{
        static const char type[] = "multipart/form-data";
        if (!content_type || strncasecmp(content_type, type, strlen(type)) != 0)
                return -EPROTONOSUPPORT;
        const char *s = content_type + strlen(type);
        if (*s && *s != ';' && *s != ' ' && *s != '\t')
                return -EPROTONOSUPPORT;

        cleanup_free char *boundary = NULL;
        for (;;) {
                cleanup_free char *name = NULL, *value = NULL;
                int r = header_parameter(&s, &name, &value);
                if (r < 0)
                        return -EINVAL;
                if (r == 0)
                        break;
                if (strcasecmp(name, "boundary") != 0)
                        continue;
                if (boundary)
                        return -EINVAL;
                boundary = TAKE_PTR(value);
        }
        if (!boundary || !boundary_valid(boundary))
                return -EINVAL;
        memcpy(ret, boundary, strlen(boundary) + 1);
        return 0;
}

struct multipart *multipart_new(const struct multipart_config *c)
{
        struct multipart *m = xnew(struct multipart);
        m->config = *c;
        m->config.boundary = NULL; /* the delimiter holds a copy */
        if (!m->config.parts_max)
                m->config.parts_max = PARTS_DEFAULT;
        m->delimiter_len =
                (size_t) snprintf(m->delimiter, sizeof(m->delimiter), "\r\n--%s", c->boundary);
        m->matched = 2; /* the start of the body stands for the CRLF */
        m->line = BUF_LIMIT(LINE_MAX_BYTES);
        m->problem = "";
        return m;
}

struct multipart *multipart_free(struct multipart *m)
{
        if (!m)
                return NULL;
        buf_done(&m->line);
        part_head_done(&m->head);
        free(m);
        return NULL;
}

static int multipart_end(struct multipart *m, int r, const char *problem)
{
        m->state = MULTIPART_FAILED;
        m->failure = r;
        m->problem = problem;
        return r;
}

static int emit(struct multipart *m, const char *data, size_t n)
{
        if (n == 0)
                return 0;
        int r = m->config.on_data(m->config.userdata, (struct span){ data, n });
        return r < 0 ? multipart_end(m, r, "") : 0;
}

/* The delimiter is complete. */
static int delimiter_seen(struct multipart *m)
{
        bool first = m->state == MULTIPART_DELIMITER;
        m->state = MULTIPART_AFTER;
        m->matched = 0;
        if (first)
                return 0;
        int r = m->config.on_part_end(m->config.userdata);
        return r < 0 ? multipart_end(m, r, "") : 0;
}

static int feed_delimiter(struct multipart *m, char c)
{
        if (c != m->delimiter[m->matched])
                return multipart_end(m, -EBADMSG, "the body does not begin with the boundary");
        if (++m->matched == m->delimiter_len)
                return delimiter_seen(m);
        return 0;
}

static int feed_after(struct multipart *m, char c)
{
        if (m->matched == 0) {
                if (c != '\r' && c != '-')
                        return multipart_end(m, -EBADMSG, "a boundary is followed by other text");
                m->closing = c == '-';
                m->matched = 1;
                return 0;
        }
        if (c != (m->closing ? '-' : '\n'))
                return multipart_end(m, -EBADMSG, "a boundary is followed by other text");
        m->matched = 0;
        if (m->closing) {
                m->state = MULTIPART_EPILOGUE;
                return 0;
        }
        if (m->parts == m->config.parts_max)
                return multipart_end(m, -E2BIG, "the form has too many parts");
        m->parts++;
        part_head_done(&m->head);
        buf_clear(&m->line);
        m->state = MULTIPART_HEAD;
        return 0;
}

static int feed_epilogue(struct multipart *m, char c)
{
        if (m->matched >= 2 || c != "\r\n"[m->matched])
                return multipart_end(m, -EBADMSG, "the body goes on behind the closing boundary");
        m->matched++;
        return 0;
}

/* A head line is complete; an empty one opens the part's data. */
static int line_seen(struct multipart *m)
{
        const char *problem = "";
        struct span line = { buf_head(&m->line), buf_pending(&m->line) - 1 };
        if (line.len > 0) {
                int r = part_head_line(&m->head, line, &problem);
                buf_clear(&m->line);
                return r < 0 ? multipart_end(m, r, problem) : 0;
        }
        int r = part_head_complete(&m->head, &problem);
        if (r < 0)
                return multipart_end(m, r, problem);
        m->state = MULTIPART_DATA;
        m->matched = 0;
        struct multipart_part part = {
                .name = m->head.name,
                .filename = m->head.filename,
                .content_type = m->head.content_type,
        };
        r = m->config.on_part(m->config.userdata, &part);
        return r < 0 ? multipart_end(m, r, "") : 0;
}

static int feed_head(struct multipart *m, char c)
{
        bool after_cr = m->line.len > 0 && m->line.data[m->line.len - 1] == '\r';
        if ((c == '\n') != after_cr)
                return multipart_end(m, -EBADMSG, "a part's header lines must end in CR LF");
        if (c == '\n')
                return line_seen(m);
        if (buf_append(&m->line, &c, 1) < 0)
                return multipart_end(m, -EMSGSIZE, "a part's header line is too long");
        return 0;
}

/* Takes what it can of data[0..n) and says how much. The delimiter has its only CR in front, so a
 * mismatch never hides the start of another match: the bytes matched so far are data and the search
 * starts anew. */
static int feed_data(struct multipart *m, const char *data, size_t n, size_t *ret_taken)
{
        size_t i = 0;
        while (i < n) {
                if (m->matched == 0) {
                        const char *cr = memchr(data + i, '\r', n - i);
                        size_t plain = cr ? (size_t) (cr - data) - i : n - i;
                        int r = emit(m, data + i, plain);
                        if (r < 0)
                                return r;
                        i += plain;
                        if (!cr)
                                break;
                }
                if (data[i] == m->delimiter[m->matched]) {
                        i++;
                        if (++m->matched < m->delimiter_len)
                                continue;
                        *ret_taken = i;
                        return delimiter_seen(m);
                }
                size_t held = m->matched;
                m->matched = 0;
                int r = emit(m, m->delimiter, held);
                if (r < 0)
                        return r;
        }
        *ret_taken = i;
        return 0;
}

int multipart_feed(struct multipart *m, struct span data)
{
        for (size_t i = 0; i < data.len;) {
                size_t taken = 1;
                int r = -EBADMSG;
                switch (m->state) {
                case MULTIPART_DELIMITER:
                        r = feed_delimiter(m, data.data[i]);
                        break;
                case MULTIPART_AFTER:
                        r = feed_after(m, data.data[i]);
                        break;
                case MULTIPART_HEAD:
                        r = feed_head(m, data.data[i]);
                        break;
                case MULTIPART_DATA:
                        r = feed_data(m, data.data + i, data.len - i, &taken);
                        break;
                case MULTIPART_EPILOGUE:
                        r = feed_epilogue(m, data.data[i]);
                        break;
                case MULTIPART_FAILED:
                case MULTIPART_STATE_MAX:
                        r = m->failure;
                        break;
                }
                if (r < 0)
                        return r;
                i += taken;
        }
        return m->state == MULTIPART_FAILED ? m->failure : 0;
}

int multipart_finish(struct multipart *m)
{
        if (m->state == MULTIPART_FAILED)
                return m->failure;
        if (m->state != MULTIPART_EPILOGUE || m->matched == 1)
                return multipart_end(m, -EBADMSG, "the body ends before the closing boundary");
        return 0;
}

const char *multipart_problem(const struct multipart *m)
{
        return m->problem;
}
