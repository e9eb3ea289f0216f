/* Serves the worker's descriptor socket: RFB connections and pictures of the slot's screen. */
#include "display.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/list.h"

#define PICTURES_MAX 32 /* waiting for their turn */

struct display {
        struct display_config config;
        struct fdlink_server *server;
        struct list pictures;
        unsigned n_pictures;
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
                        (void) fdlink_reply_error(p->request, ERROR_CODE_UNAVAILABLE,
                                                  "There is no picture of the screen: %s.",
                                                  strerror(-r));
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
                return fdlink_reply_error(req, ERROR_CODE_UNAVAILABLE,
                                          "There is no picture of the screen: %s.", strerror(-r));
        }
        list_push_back(&d->pictures, &p->link);
        d->n_pictures++;
        return 0;
}

int display_new(const struct display_config *c, struct display **ret)
{
        static const struct fdlink_route routes[] = {
                { &wire_display_open, on_display_open },
                { &wire_screenshot_get, on_screenshot_get },
        };
        struct display *d = xnew(struct display);
        d->config = *c;
        list_init(&d->pictures);
        struct fdlink_server_config sc = { .event = c->event,
                                           .path = c->path,
                                           .mode = c->mode,
                                           .uids = c->uids,
                                           .n_uids = c->n_uids,
                                           .any_uid = c->any_uid,
                                           .routes = routes,
                                           .n_routes = ARRAY_LEN(routes),
                                           .userdata = d };
        int r = fdlink_server_new(&sc, &d->server);
        if (r < 0) {
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
        fdlink_server_free(d->server);
        free(d);
        return NULL;
}
