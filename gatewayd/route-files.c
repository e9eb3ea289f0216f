/* GET, PUT and DELETE /sessions/{id}/files/{path...}: files of the slot's home, through the worker
 * that holds the session. The bytes come and go by descriptor; nothing of a file is kept here. */
#include <sys/stat.h>

#include "common/base/media.h"
#include "gatewayd/conditional.h"
#include "gatewayd/gateway.h"
#include "gatewayd/relay.h"

#define FILE_TIMEOUT (30 * USEC_PER_SEC) /* the slot may be busy, and a file is read whole */
#define WRITE_CHUNK_MAX (1u << 20)

struct transfer {
        struct http_request *req;
        char *endpoint;
        uint64_t upload, max, size;
        int fd;           /* the place to fill */
        bool ended;       /* the body is whole */
        int error;        /* writing failed */
        struct buf early; /* came before the place was there: what one read gave at most */
};

static void transfer_free(struct transfer *t)
{
        fd_close(t->fd);
        buf_done(&t->early);
        free(t->endpoint);
        free(t);
}

static const char *file_path(const struct http_request *req)
{
        return req->params[1] ? req->params[1] : "";
}

/* ---- finding the worker ---- */

static void worker_found(void *userdata, int r, PGresult **results, size_t n,
                         const struct pg_error *error);

static void find_worker(struct http_request *req)
{
        static const char *const known[] = { NULL };
        const char *path = file_path(req);

        if (http_query_only(req, known) < 0)
                return;
        if (strlen(path) > 4096 || path[0] == '/') {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "path",
                                 "A path is relative to the home folder of the slot and at most "
                                 "4096 bytes long.");
                return;
        }
        struct transfer *t = xnew(struct transfer);
        *t = (struct transfer){ .req = req, .fd = -1 };
        req->userdata = t;
        int r = pg_query_as(
                req->gateway->pg, req->principal.tenant, worker_found, t,
                "SELECT w.endpoint FROM core.session s LEFT JOIN core.worker w "
                "ON w.worker_id = s.worker_id AND w.online AND w.session_id = s.session_id "
                "WHERE s.session_id = $1 AND s.tenant = $2",
                "ss", req->params[0], req->principal.tenant);
        if (r < 0) {
                transfer_free(t);
                http_reply_busy(req, "database");
        }
}

/* Asks the worker; on failure the request is answered and t is gone. */
static bool ask(struct transfer *t, const struct wire_msg *type, const void *msg,
                fdlink_reply_fn fn)
{
        struct http_request *req = t->req;
        int r = relay_worker_call(req->gateway->relay, t->endpoint, type, msg, FILE_TIMEOUT, fn, t);

        if (r < 0) {
                transfer_free(t);
                http_reply_busy(req, "worker of the session");
        }
        return r == 0;
}

/* ---- GET ---- */

static void reply_file(struct http_request *req, uint64_t size, int fd)
{
        const char *name = strrchr(file_path(req), '/');
        uint64_t first = 0, length = size;
        enum range_result range = RANGE_WHOLE;

        name = name ? name + 1 : file_path(req);
        cleanup_free char *disposition = content_disposition(name);
        if (req->method == HTTP_GET && !http_header(req, "if-range"))
                range = range_parse(http_header(req, "range"), size, &first, &length);
        http_reply_header(req, "Accept-Ranges", "bytes");
        http_reply_header(req, "Content-Disposition", "%s", disposition);
        /* Whatever the slot has put there, it never runs as a page of ours. */
        http_reply_header(req, "Content-Security-Policy", "default-src 'none'; sandbox");
        http_reply_header(req, "Cross-Origin-Resource-Policy", "same-origin");
        if (range == RANGE_OUTSIDE) {
                fd_close(fd);
                http_reply_header(req, "Content-Range", "bytes */%" PRIu64, size);
                http_reply_problem(req, 416, "range_not_satisfiable", "Range",
                                   "The file has only %" PRIu64 " bytes.", size);
                return;
        }
        if (range == RANGE_PART)
                http_reply_header(req, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
                                  first, first + length - 1, size);
        http_reply_fd(req, range == RANGE_PART ? 206 : 200, media_type_of(name), fd, first, length);
}

static void on_file(void *userdata, int r, const void *reply, int fd)
{
        struct transfer *t = userdata;
        struct http_request *req = t->req;
        const struct slot_file *m = reply;
        cleanup_close int own = fd;

        transfer_free(t);
        if (r < 0 || own < 0)
                http_reply_rpc_error(req, r < 0 ? r : -EPROTO, reply);
        else if (m->folder)
                http_reply_fd(req, 200, "application/json", TAKE_FD(own), 0, m->size_bytes);
        else
                reply_file(req, m->size_bytes, TAKE_FD(own));
}

/* ---- PUT ---- */

static void on_stored(void *userdata, int r, const void *reply, int fd)
{
        struct transfer *t = userdata;
        struct http_request *req = t->req;
        const struct slot_file_stored *m = reply;
        cleanup_buf struct buf json = BUF_INIT;

        fd_close(fd);
        transfer_free(t);
        if (r < 0) {
                http_reply_rpc_error(req, r, reply);
                return;
        }
        buf_puts(&json, "{\"path\":");
        buf_put_json_string(&json, file_path(req), strlen(file_path(req)));
        buf_putf(&json, ",\"size_bytes\":%" PRIu64 "}", m->size_bytes);
        http_reply_json_take(req, 200, &json);
}

static void on_abandoned(void *userdata, int r, const void *reply, int fd)
{
        fd_close(fd);
        transfer_free(userdata);
}

/* The place at the worker is given back; the request was or will be answered by the caller. */
static void abandon(struct transfer *t)
{
        struct slot_file_commit m = {
                .session_id = t->req->params[0], .upload = t->upload, .path = "", .abandon = true
        };

        if (!t->upload ||
            relay_worker_call(t->req->gateway->relay, t->endpoint, &wire_slot_file_commit, &m,
                              FILE_TIMEOUT, on_abandoned, t) < 0)
                transfer_free(t);
}

static void commit(struct transfer *t)
{
        struct slot_file_commit m = { .session_id = t->req->params[0],
                                      .upload = t->upload,
                                      .path = file_path(t->req) };

        (void) ask(t, &wire_slot_file_commit, &m, on_stored);
}

static void refuse_body(struct transfer *t, int r)
{
        struct http_request *req = t->req;

        abandon(t);
        if (r == -EFBIG)
                http_reply_error(req, ERROR_CODE_TOO_LARGE, NULL,
                                 "The file is larger than a slot takes.");
        else
                http_reply_body_error(req, r);
}

static int fill(struct transfer *t, struct span data)
{
        if (t->size + data.len > t->max)
                return -EFBIG;
        for (size_t done = 0; done < data.len;) { /* memory: it does not wait */
                ssize_t n = write(t->fd, data.data + done, data.len - done);
                if (n < 0 && errno != EINTR)
                        return -errno;
                done += n > 0 ? (size_t) n : 0;
        }
        t->size += data.len;
        return 0;
}

static void on_data(struct http_request *req, struct span data)
{
        struct transfer *t = req->userdata;

        if (t->error)
                return;
        if (t->fd >= 0)
                t->error = fill(t, data);
        else
                t->error = buf_append(&t->early, data.data, data.len);
}

static void on_end(struct http_request *req, int r)
{
        struct transfer *t = req->userdata;

        if (r == 0)
                r = t->error;
        t->ended = true;
        if (r < 0 && t->fd >= 0)
                refuse_body(t, r);
        else if (r < 0)
                t->error = r; /* the answer on the place is still out: it ends the request */
        else if (t->fd >= 0)
                commit(t);
}

static void on_place(void *userdata, int r, const void *reply, int fd)
{
        struct transfer *t = userdata;
        struct http_request *req = t->req;
        const struct slot_file_place *m = reply;

        t->fd = fd;
        if (r < 0 || fd < 0) {
                transfer_free(t);
                http_reply_rpc_error(req, r < 0 ? r : -EPROTO, reply);
                return;
        }
        t->upload = m->upload;
        t->max = m->max_bytes;
        if (t->error == 0 && buf_pending(&t->early) > 0)
                t->error = fill(t, (struct span){ buf_head(&t->early), buf_pending(&t->early) });
        buf_done(&t->early);
        if (t->ended && t->error < 0)
                refuse_body(t, t->error);
        else if (t->ended)
                commit(t);
        else
                http_body_resume(req);
}

/* ---- DELETE ---- */

static void on_removed(void *userdata, int r, const void *reply, int fd)
{
        struct transfer *t = userdata;
        struct http_request *req = t->req;

        fd_close(fd);
        transfer_free(t);
        if (r < 0)
                http_reply_rpc_error(req, r, reply);
        else
                http_reply_empty(req, 204);
}

/* ---- all ---- */

static void ask_worker(struct transfer *t)
{
        struct http_request *req = t->req;
        const char *id = req->params[0];
        struct slot_file_get get = { .session_id = id, .path = file_path(req) };
        struct slot_file_put put = { .session_id = id };
        struct slot_file_delete remove = { .session_id = id, .path = file_path(req) };

        if (req->method == HTTP_PUT)
                (void) ask(t, &wire_slot_file_put, &put, on_place);
        else if (req->method == HTTP_DELETE)
                (void) ask(t, &wire_slot_file_delete, &remove, on_removed);
        else
                (void) ask(t, &wire_slot_file_get, &get, on_file);
}

static void worker_found(void *userdata, int r, PGresult **results, size_t n,
                         const struct pg_error *error)
{
        struct transfer *t = userdata;
        struct http_request *req = t->req;

        if (r == 0 && PQntuples(results[0]) > 0 && pg_str(results[0], 0, 0)) {
                t->endpoint = xstrdup(pg_str(results[0], 0, 0));
                ask_worker(t);
                return;
        }
        transfer_free(t);
        if (r < 0)
                http_reply_busy(req, "database");
        else if (PQntuples(results[0]) == 0)
                http_reply_error(req, ERROR_CODE_NOT_FOUND, NULL,
                                 "There is no session of that id.");
        else
                http_reply_error(req, ERROR_CODE_CONFLICT, NULL,
                                 "The session holds no slot now, so it has no files; a message "
                                 "gives it a new one.");
}

static void file_put(struct http_request *req)
{
        const char *path = file_path(req);

        if (!*path || str_ends(path, "/")) {
                http_reply_error(req, ERROR_CODE_BAD_REQUEST, "path",
                                 "Give the name of a file; folders are made as needed.");
                return;
        }
        req->on_data = on_data;
        req->on_end = on_end;
        http_body_pause(req); /* until the worker has given a place for it */
        find_worker(req);
}

static const struct route table[] = {
        { HTTP_GET, "/sessions/{id}/files/{path...}", find_worker, .auth = ROUTE_TICKET },
        { HTTP_PUT, "/sessions/{id}/files/{path...}", file_put, .role = ROLE_OPERATOR,
          .body = ROUTE_BODY_STREAM },
        { HTTP_DELETE, "/sessions/{id}/files/{path...}", find_worker, .role = ROLE_OPERATOR },
};
const struct route_table files_routes = { table, ARRAY_LEN(table) };
