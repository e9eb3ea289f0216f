/* Serves the worker's descriptor socket: RFB connections, terminals, pictures of the slot's screen.
 */
#include "display.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clipboard.h"
#include "common/base/list.h"
#include "slot-files.h"
#include "terminal.h"

#define PICTURES_MAX 32 /* waiting for their turn */
#define CLIPBOARDS_MAX 8
#define RESIZES_MAX 4
#define RESIZE_LOOK (20 * USEC_PER_MSEC)
#define RESIZE_MAX USEC_PER_SEC
#define RESIZE_MACHINE_MAX (3500 * USEC_PER_MSEC) /* by a program in it; the gateway waits 4 s */

struct display {
        struct display_config config;
        struct fdlink_server *server;
        struct slot_files *files;
        struct terminals *terminals;
        struct list pictures, clipboards, resizes;
        unsigned n_pictures, n_clipboards, n_resizes;
};

/* A request that waits for the slot's clipboard. */
struct paste {
        struct list link;
        struct display *display; /* NULL once that is gone */
        struct fdlink_request *request;
        bool reading;
};

/* A request that waits for the screen's new size. */
struct resize {
        struct list link;
        struct display *display;
        struct fdlink_request *request;
        char *session_id;
        uint32_t width, height;
        uint64_t until;
        struct loop_timer look;
};

/* A request that waits for its capture. */
struct picture {
        struct list link;
        struct display *display; /* NULL once that is gone */
        struct fdlink_request *request;
};

static struct slot *find(struct display *d, struct fdlink_request *req, const char *session_id)
{
        struct slot *s = d->config.find(d->config.userdata, session_id);
        if (!s)
                (void) fdlink_reply_error(req, ERROR_CODE_NOT_FOUND,
                                          "This worker does not hold session %s.", session_id);
        return s;
}

static int on_display_open(void *userdata, struct fdlink_request *req, const void *msg)
{
        const struct display_open *m = msg;
        struct slot *s = find(userdata, req, m->session_id);
        cleanup_close int fd = -1;
        if (!s)
                return 0;
        int r = slot_display_connect(s, &fd);
        if (r < 0)
                return fdlink_reply_error(req, ERROR_CODE_CONFLICT,
                                          "The session has no display now: %s.", strerror(-r));
        struct display_opened reply = { 0 };
        screen_size(slot_screen(s), &reply.width, &reply.height);
        return fdlink_reply(req, &reply, fd);
}

static int sealed(const void *data, size_t n, int *ret_fd)
{
        cleanup_close int fd = memfd_create("screenshot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;
        for (size_t done = 0; done < n;) {
                ssize_t r = write(fd, (const char *) data + done, n - done);
                if (r < 0)
                        return -errno;
                done += (size_t) r;
        }
        if (lseek(fd, 0, SEEK_SET) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int no_picture(struct fdlink_request *req, int r)
{
        if (r == -EACCES)
                return fdlink_reply_error(req, ERROR_CODE_CONFLICT,
                                          "A person is typing a secret: no picture is taken now.");
        return fdlink_reply_error(req, ERROR_CODE_UNAVAILABLE,
                                  "There is no picture of the screen: %s.", strerror(-r));
}

static void on_picture(void *userdata, int r, const void *png, size_t n, unsigned width,
                       unsigned height)
{
        struct picture *p = userdata;
        cleanup_close int fd = -1;
        if (r == 0)
                r = sealed(png, n, &fd);
        if (p->display) {
                list_remove(&p->link);
                p->display->n_pictures--;
                if (r < 0)
                        (void) no_picture(p->request, r);
                else {
                        struct screenshot_reply reply = { .width = width,
                                                          .height = height,
                                                          .size_bytes = n };
                        (void) fdlink_reply(p->request, &reply, fd);
                }
        }
        free(p);
}

static int on_screenshot_get(void *userdata, struct fdlink_request *req, const void *msg)
{
        struct display *d = userdata;
        const struct screenshot_get *m = msg;
        struct slot *s = find(d, req, m->session_id);
        if (!s)
                return 0;
        struct screen *screen = slot_screen(s);
        if (!screen)
                return fdlink_reply_error(req, ERROR_CODE_CONFLICT,
                                          "The session has no display now.");
        if (d->n_pictures >= PICTURES_MAX)
                return fdlink_reply_error(req, ERROR_CODE_RATE_LIMITED,
                                          "Too many pictures are being taken.");
        unsigned width, height;
        screen_size(screen, &width, &height);
        struct picture *p = xnew(struct picture);
        *p = (struct picture){ .display = d, .request = req };
        int r = screen_capture(screen, NULL, m->width > 0 && m->width < width ? m->width : 0, 0,
                               on_picture, p);
        if (r < 0) {
                free(p);
                return no_picture(req, r);
        }
        list_push_back(&d->pictures, &p->link);
        d->n_pictures++;
        return 0;
}

/* ---- clipboard ---- */

static void on_clipboard(void *userdata, int r, struct span text)
{
        struct paste *p = userdata;

        if (p->display) {
                list_remove(&p->link);
                p->display->n_clipboards--;
                if (r < 0)
                        (void) fdlink_reply_error(p->request, ERROR_CODE_UNAVAILABLE,
                                                  "The desktop's clipboard does not answer.");
                else if (p->reading)
                        (void) fdlink_reply(p->request, &(struct clipboard_text){ .text = text },
                                            -1);
                else
                        (void) fdlink_reply(p->request, &(struct ok_reply){ 0 }, -1);
        }
        free(p);
}

static int clipboard(struct display *d, struct fdlink_request *req, const char *session_id,
                     const struct span *text)
{
        struct slot *s = find(d, req, session_id);
        struct paste *p;
        int r;

        if (!s)
                return 0;
        if (d->n_clipboards >= CLIPBOARDS_MAX)
                return fdlink_reply_error(req, ERROR_CODE_RATE_LIMITED,
                                          "Too many ask for the clipboard at once.");
        p = xnew(struct paste);
        *p = (struct paste){ .display = d, .request = req, .reading = !text };
        r = text ? clipboard_put(s, *text, on_clipboard, p) : clipboard_get(s, on_clipboard, p);
        if (r < 0) {
                free(p);
                if (r == -EINVAL)
                        return fdlink_reply_error(req, ERROR_CODE_BAD_REQUEST,
                                                  "The text must be UTF-8.");
                return fdlink_reply_error(req, ERROR_CODE_CONFLICT,
                                          "The session has no desktop that could take it (%s).",
                                          strerror(-r));
        }
        list_push_back(&d->clipboards, &p->link);
        d->n_clipboards++;
        return 0;
}

static int on_clipboard_put(void *userdata, struct fdlink_request *req, const void *msg)
{
        const struct clipboard_put *m = msg;

        return clipboard(userdata, req, m->session_id, &m->text);
}

static int on_clipboard_get(void *userdata, struct fdlink_request *req, const void *msg)
{
        const struct clipboard_get *m = msg;

        return clipboard(userdata, req, m->session_id, NULL);
}

/* ---- size ---- */

static void resize_free(struct resize *z)
{
        list_remove(&z->link);
        z->display->n_resizes--;
        loop_timer_done(&z->look);
        free(z->session_id);
        free(z);
}

/* The server draws the new size when it likes: looked for until then. */
static void on_resize_look(void *userdata)
{
        struct resize *z = userdata;
        struct display *d = z->display;
        struct slot *s = d->config.find(d->config.userdata, z->session_id);
        struct screen *screen = s ? slot_screen(s) : NULL;
        struct display_resized reply = { 0 };

        if (screen)
                screen_size(screen, &reply.width, &reply.height);
        if (screen && (reply.width != z->width || reply.height != z->height) &&
            now_monotonic() < z->until) {
                loop_timer_arm(&z->look, RESIZE_LOOK);
                return;
        }
        if (!screen)
                (void) fdlink_reply_error(z->request, ERROR_CODE_CONFLICT,
                                          "The session has no display any more.");
        else if (reply.width != z->width || reply.height != z->height)
                (void) fdlink_reply_error(z->request, ERROR_CODE_UNPROCESSABLE,
                                          "The desktop stays at %ux%u.", reply.width, reply.height);
        else
                (void) fdlink_reply(z->request, &reply, -1);
        resize_free(z);
        if (d->config.on_resized)
                d->config.on_resized(d->config.userdata);
}

static int on_display_resize(void *userdata, struct fdlink_request *req, const void *msg)
{
        struct display *d = userdata;
        const struct display_resize *m = msg;
        struct slot *s = find(d, req, m->session_id);
        struct resize *z;
        int r;

        if (!s)
                return 0;
        if (!slot_screen(s))
                return fdlink_reply_error(req, ERROR_CODE_CONFLICT,
                                          "The session has no display now.");
        if (d->n_resizes >= RESIZES_MAX)
                return fdlink_reply_error(req, ERROR_CODE_RATE_LIMITED,
                                          "The size is being changed already.");
        r = slot_resize(s, m->width, m->height);
        if (r < 0)
                return fdlink_reply_error(
                        req, r == -EOPNOTSUPP ? ERROR_CODE_CONFLICT : ERROR_CODE_UNPROCESSABLE,
                        "The size of this desktop cannot be changed (%s).", strerror(-r));
        z = xnew(struct resize);
        *z = (struct resize){ .display = d,
                              .request = req,
                              .session_id = xstrdup(m->session_id),
                              .width = m->width,
                              .height = m->height,
                              .until = now_monotonic() + (slot_kind(s) == SLOT_KIND_VM
                                                                  ? RESIZE_MACHINE_MAX
                                                                  : RESIZE_MAX) };
        list_push_back(&d->resizes, &z->link);
        d->n_resizes++;
        r = loop_timer_init(&z->look, d->config.event, on_resize_look, z);
        if (r < 0) {
                resize_free(z);
                return r;
        }
        loop_timer_arm(&z->look, RESIZE_LOOK);
        return 0;
}

/* ---- terminals ---- */

static int no_terminal(struct display *d, struct fdlink_request *req, int r)
{
        switch (r) {
        case -ERANGE:
                return fdlink_reply_error(req, ERROR_CODE_BAD_REQUEST,
                                          "A terminal has at most %u columns and %u rows.",
                                          TERMINAL_COLS_MAX, TERMINAL_ROWS_MAX);
        case -EMFILE:
                return fdlink_reply_error(
                        req, ERROR_CODE_CONFLICT,
                        d->config.terminals == 0
                                ? "This worker opens no terminals (setting terminals)."
                                : "%u terminals of this slot are open: close one first.",
                        d->config.terminals);
        case -ENOENT:
                return fdlink_reply_error(req, ERROR_CODE_NOT_FOUND, "The terminal has ended.");
        default:
                return fdlink_reply_error(req, ERROR_CODE_CONFLICT,
                                          "The session's slot has no terminal now (%s).",
                                          strerror(-r));
        }
}

static int on_terminal_open(void *userdata, struct fdlink_request *req, const void *msg)
{
        struct display *d = userdata;
        const struct terminal_open *m = msg;
        struct slot *s = find(d, req, m->session_id);
        struct terminal_opened reply = { 0 };
        cleanup_close int fd = -1;
        int r;

        if (!s)
                return 0;
        r = terminals_open(d->terminals, s, m->cols, m->rows, &reply.terminal, &fd);
        return r < 0 ? no_terminal(d, req, r) : fdlink_reply(req, &reply, fd);
}

static int on_terminal_resize(void *userdata, struct fdlink_request *req, const void *msg)
{
        struct display *d = userdata;
        const struct terminal_resize *m = msg;
        int r;

        if (!find(d, req, m->session_id))
                return 0;
        r = terminals_resize(d->terminals, m->terminal, m->cols, m->rows);
        return r < 0 ? no_terminal(d, req, r) : fdlink_reply(req, &(struct ok_reply){ 0 }, -1);
}

void display_session_over(struct display *d)
{
        terminals_close(d->terminals);
}

/* The requests on files differ only in who answers them. */
#define FILES_ROUTE(verb)                                                                          \
        static int on_file_##verb(void *userdata, struct fdlink_request *req, const void *msg)     \
        {                                                                                          \
                struct display *d = userdata;                                                      \
                const struct slot_file_##verb *m = msg;                                            \
                struct slot *s = find(d, req, m->session_id);                                      \
                return s ? slot_files_##verb(d->files, s, req, m) : 0;                             \
        }
FILES_ROUTE(get)
FILES_ROUTE(put)
FILES_ROUTE(commit)
FILES_ROUTE(delete)

static void on_connection_end(void *userdata, uint64_t connection)
{
        struct display *d = userdata;
        if (d->files)
                slot_files_gone(d->files, connection);
}

int display_new(const struct display_config *c, struct display **ret)
{
        static const struct fdlink_route routes[] = {
                { &wire_display_open, on_display_open },
                { &wire_screenshot_get, on_screenshot_get },
                { &wire_clipboard_put, on_clipboard_put },
                { &wire_clipboard_get, on_clipboard_get },
                { &wire_display_resize, on_display_resize },
                { &wire_terminal_open, on_terminal_open },
                { &wire_terminal_resize, on_terminal_resize },
                { &wire_slot_file_get, on_file_get },
                { &wire_slot_file_put, on_file_put },
                { &wire_slot_file_commit, on_file_commit },
                { &wire_slot_file_delete, on_file_delete },
        };
        struct display *d = xnew(struct display);
        d->config = *c;
        list_init(&d->pictures);
        list_init(&d->clipboards);
        list_init(&d->resizes);
        struct fdlink_server_config sc = { .event = c->event,
                                           .path = c->path,
                                           .mode = c->mode,
                                           .uids = c->uids,
                                           .n_uids = c->n_uids,
                                           .any_uid = c->any_uid,
                                           .routes = routes,
                                           .n_routes = ARRAY_LEN(routes),
                                           .on_end = on_connection_end,
                                           .userdata = d };
        d->files = slot_files_new();
        d->terminals = terminals_new(c->event, c->terminals);
        int r = fdlink_server_new(&sc, &d->server);
        if (r < 0) {
                slot_files_free(d->files);
                terminals_free(d->terminals);
                free(d);
                return r;
        }
        *ret = d;
        return 0;
}

struct display *display_free(struct display *d)
{
        if (!d)
                return NULL;
        struct picture *p, *next;
        list_foreach_safe (p, next, &d->pictures, link) {
                list_remove(&p->link);
                p->display =
                        NULL; /* freed by its capture, which ends with the screen at the latest */
        }
        struct paste *t, *t_next;
        list_foreach_safe (t, t_next, &d->clipboards, link) {
                list_remove(&t->link);
                t->display = NULL; /* as above: it ends with the slot */
        }
        struct resize *z, *z_next;
        list_foreach_safe (z, z_next, &d->resizes, link)
                resize_free(z);
        d->files = slot_files_free(d->files);
        d->terminals = terminals_free(d->terminals);
        fdlink_server_free(d->server);
        free(d);
        return NULL;
}
