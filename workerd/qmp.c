/* A client of QEMU's machine protocol. */
#include "qmp.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/io/daemon.h"

struct qmp_call {
        struct list link;
        char *text; /* the whole line */
        int fd;
        uint64_t id;
        qmp_fn fn;
        void *userdata;
};

struct qmp {
        struct qmp_config config;
        int fd;
        sd_event_source *io;
        struct buf in;
        struct list calls; /* the first of them is under way when `sent` */
        unsigned n_calls;
        uint64_t last_id;
        bool sent, ended, freed;
};

static void call_free(struct qmp *q, struct qmp_call *c)
{
        list_remove(&c->link);
        q->n_calls--;
        fd_close(c->fd);
        free(c->text);
        free(c);
}

static void end(struct qmp *q, const char *why)
{
        if (q->ended || q->freed)
                return;
        q->ended = true;
        q->io = sd_event_source_disable_unref(q->io);
        for (struct qmp_call *c; !q->freed && (c = list_first(&q->calls, struct qmp_call, link));) {
                qmp_fn fn = c->fn;
                void *userdata = c->userdata;
                call_free(q, c);
                if (fn)
                        fn(userdata, -ECONNRESET, NULL);
        }
        if (!q->freed && q->config.on_end)
                q->config.on_end(q->config.userdata, why);
}

/* Lines are short and one is under way: they always fit into the socket of a QEMU that reads. */
static void send_next(struct qmp *q)
{
        struct qmp_call *c = list_first(&q->calls, struct qmp_call, link);
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } room = { 0 };
        if (!c || q->sent || q->ended)
                return;
        struct iovec iov = { c->text, strlen(c->text) };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
        if (c->fd >= 0) {
                m.msg_control = room.bytes;
                m.msg_controllen = sizeof(room.bytes);
                struct cmsghdr *h = CMSG_FIRSTHDR(&m);
                h->cmsg_level = SOL_SOCKET;
                h->cmsg_type = SCM_RIGHTS;
                h->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(h), &c->fd, sizeof(int));
        }
        q->sent = true;
        if (sendmsg(q->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t) iov.iov_len) {
                end(q, "QEMU takes no commands");
                return;
        }
        c->fd = fd_close(c->fd);
}

static int answered(struct qmp *q, const json_t *message, const json_t *result, int r)
{
        struct qmp_call *c = list_first(&q->calls, struct qmp_call, link);
        const json_t *id = json_object_get(message, "id");
        if (!c || !q->sent || !json_is_integer(id) || json_integer_value(id) != (json_int_t) c->id)
                return -EPROTO;
        qmp_fn fn = c->fn;
        void *userdata = c->userdata;
        q->sent = false;
        call_free(q, c);
        if (fn)
                fn(userdata, r, result);
        if (!q->freed)
                send_next(q);
        return 0;
}

static int take_line(struct qmp *q, const char *line, size_t n)
{
        cleanup_json json_t *message = NULL;
        struct json_problem problem;
        if (json_parse(line, n, &message, &problem) < 0)
                return -EPROTO;
        const json_t *result = json_object_get(message, "return"),
                     *error = json_object_get(message, "error"),
                     *event = json_object_get(message, "event");
        if (result)
                return answered(q, message, result, 0);
        if (error)
                return answered(q, message, error, -EIO);
        if (event && !json_is_string(event))
                return -EPROTO;
        if (event && q->config.on_event)
                q->config.on_event(q->config.userdata, json_string_value(event),
                                   json_object_get(message, "data"));
        return event || json_object_get(message, "QMP") ? 0 : -EPROTO;
}

static void take_lines(struct qmp *q)
{
        while (!q->ended && !q->freed) {
                const char *head = buf_head(&q->in);
                const char *newline = memchr(head, '\n', buf_pending(&q->in));
                if (!newline) {
                        if (buf_pending(&q->in) >= QMP_LINE_MAX)
                                end(q, "QEMU sent a line without end");
                        return;
                }
                size_t n = (size_t) (newline - head);
                int r = take_line(q, head, n > 0 && head[n - 1] == '\r' ? n - 1 : n);
                if (q->freed)
                        return;
                buf_consume(&q->in, n + 1);
                if (r < 0)
                        end(q, "QEMU broke the protocol");
        }
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct qmp *q = userdata;
        if (buf_reserve(&q->in, 4096) < 0) {
                end(q, "no memory for what QEMU sends");
                return 0;
        }
        ssize_t n = recv(fd, buf_tail(&q->in), 4096, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0) {
                end(q, "QEMU ended");
                return 0;
        }
        buf_added(&q->in, (size_t) n);
        take_lines(q);
        return 0;
}

int qmp_new(const struct qmp_config *c, struct qmp **ret)
{
        CLEANUP(qmp_freep) struct qmp *q = xnew(struct qmp);
        q->config = *c;
        q->fd = c->fd;
        list_init(&q->calls);
        int r = sd_event_add_io(c->event, &q->io, q->fd, EPOLLIN, on_io, q);
        if (r >= 0)
                r = qmp_call(q, "qmp_capabilities", NULL, -1, NULL, NULL);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(q);
        return 0;
}

static void destroy(void *p)
{
        struct qmp *q = p;
        fd_close(q->fd);
        buf_done(&q->in);
        free(q);
}

struct qmp *qmp_free(struct qmp *q)
{
        if (!q || q->freed)
                return NULL;
        q->freed = true;
        q->io = sd_event_source_disable_unref(q->io);
        for (struct qmp_call *c; (c = list_first(&q->calls, struct qmp_call, link));)
                call_free(q, c);
        loop_defer_free(q->config.event, q, destroy);
        return NULL;
}

int qmp_call(struct qmp *q, const char *command, json_t *arguments, int fd, qmp_fn fn,
             void *userdata)
{
        cleanup_json json_t *a = arguments;
        cleanup_close int descriptor = fd;
        if (q->ended || q->freed)
                return -ENOTCONN;
        if (q->n_calls == QMP_CALLS_MAX)
                return -EAGAIN;
        cleanup_json json_t *message =
                json_pack("{s:s,s:I}", "execute", command, "id", (json_int_t) ++q->last_id);
        if (!message || (a && json_object_set(message, "arguments", a) < 0))
                return -ENOMEM;
        cleanup_free char *text = json_text(message);
        struct qmp_call *c = xnew(struct qmp_call);
        c->text = xasprintf("%s\n", text);
        c->fd = TAKE_FD(descriptor);
        c->id = q->last_id;
        c->fn = fn;
        c->userdata = userdata;
        list_push_back(&q->calls, &c->link);
        q->n_calls++;
        send_next(q);
        return 0;
}
