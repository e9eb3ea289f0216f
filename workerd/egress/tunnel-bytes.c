/* The bytes of a tunnel: from one side to the other, and the end of each. */
#include "tunnel-private.h"

#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

/* As read(2) and send(2), with -EAGAIN and other negative errnos. */
static ssize_t origin_read(struct tunnel *t, void *to, size_t n)
{
        ssize_t got;
        if (!t->tls) {
                got = read(t->origin.fd, to, n);
                return got < 0 ? -errno : got;
        }
        ERR_clear_error();
        int r = SSL_read(t->tls, to, (int) MIN(n, (size_t) INT32_MAX));
        if (r > 0)
                return r;
        int e = SSL_get_error(t->tls, r);
        return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? -EAGAIN
               : e == SSL_ERROR_ZERO_RETURN                          ? 0
                                                                     : -EPIPE;
}

static ssize_t side_write(struct tunnel *t, struct side *s)
{
        ssize_t n;
        if (s != &t->origin || !t->tls) {
                n = send(s->fd, buf_head(&s->out), buf_pending(&s->out), MSG_NOSIGNAL);
                return n < 0 ? -errno : n;
        }
        ERR_clear_error();
        int r = SSL_write(t->tls, buf_head(&s->out),
                          (int) MIN(buf_pending(&s->out), (size_t) TUNNEL_BUFFER));
        int e = r > 0 ? 0 : SSL_get_error(t->tls, r);
        return r > 0 ? r : e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? -EAGAIN : -EPIPE;
}

/* Writes what waits; false when the tunnel is over. */
bool tunnel_drain(struct tunnel *t, struct side *s)
{
        while (buf_pending(&s->out) > 0) {
                ssize_t n = side_write(t, s);
                if (n == -EINTR)
                        continue;
                if (n == -EAGAIN)
                        return true;
                if (n < 0)
                        return false;
                buf_consume(&s->out, (size_t) n);
                if (s == &t->origin)
                        t->up += (uint64_t) n;
                else
                        t->down += (uint64_t) n;
        }
        return true;
}

static size_t room(const struct side *s)
{
        size_t have = buf_pending(&s->out);
        return have < TUNNEL_BUFFER ? TUNNEL_BUFFER - have : 0;
}

/* Bytes of the client on their way to the origin; -EINVAL when its chunks are malformed. */
int tunnel_pass_up(struct tunnel *t, const char *data, size_t n)
{
        if (t->framed) {
                ssize_t own = body_take(&t->body, data, n);
                if (own < 0)
                        return (int) own;
                n = (size_t) own; /* what follows would be another request: never sent */
        }
        buf_put(&t->origin.out, data, n);
        return 0;
}

static bool wants_client(const struct tunnel *t)
{
        if (t->client.eof)
                return false;
        return t->state == TUNNEL_OPEN ? room(&t->origin) > 0 && !(t->framed && t->body.done)
                                       : t->state != TUNNEL_DIALING;
}

static bool wants_origin(const struct tunnel *t)
{
        return t->state == TUNNEL_OPEN && !t->origin.eof && room(&t->client) > 0;
}

void tunnel_watch(struct side *s, bool in, bool out)
{
        if (s->io)
                (void) sd_event_source_set_io_events(s->io,
                                                     (in ? EPOLLIN : 0U) | (out ? EPOLLOUT : 0U));
}

void tunnel_watch_both(struct tunnel *t)
{
        tunnel_watch(&t->client, wants_client(t), buf_pending(&t->client.out) > 0);
        if (t->state == TUNNEL_OPEN || t->state == TUNNEL_NAMING)
                tunnel_watch(&t->origin, wants_origin(t), buf_pending(&t->origin.out) > 0);
}

/* Once a direction has ended and all of it is written, the other end hears so. */
static void pass_end(struct side *from, struct side *to, bool tls)
{
        if (!from->eof || to->shut || buf_pending(&to->out) > 0)
                return;
        to->shut = true;
        if (!tls)
                (void) shutdown(to->fd, SHUT_WR);
}

/* One round in each direction; false when the tunnel is over. */
static bool carry(struct tunnel *t, bool *ret_moved)
{
        char data[16 * 1024];
        uint64_t before = t->up + t->down;
        *ret_moved = false;
        if (wants_client(t)) {
                ssize_t n = read(t->client.fd, data, MIN(sizeof(data), room(&t->origin)));
                if (n > 0 && tunnel_pass_up(t, data, (size_t) n) < 0)
                        return false;
                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return false;
                t->client.eof = t->client.eof || n == 0;
                *ret_moved = n >= 0;
        }
        if (wants_origin(t)) {
                ssize_t n = origin_read(t, data, MIN(sizeof(data), room(&t->client)));
                if (n > 0)
                        buf_put(&t->client.out, data, (size_t) n);
                else if (n != -EAGAIN && n != -EINTR)
                        t->origin.eof = true;
                *ret_moved = *ret_moved || n >= 0;
        }
        if (!tunnel_drain(t, &t->origin) || !tunnel_drain(t, &t->client))
                return false;
        if (t->up + t->down != before)
                loop_timer_arm(&t->deadline, t->proxy->idle_usec);
        pass_end(&t->client, &t->origin, t->tls != NULL);
        pass_end(&t->origin, &t->client, false);
        return !(t->client.shut && (t->origin.shut || t->framed));
}

void tunnel_pump_open(struct tunnel *t)
{
        bool moved = true;
        /* A few rounds a turn, so that others have theirs; the rest is still readable. */
        for (int i = 0; i < 8 && moved; i++)
                if (!carry(t, &moved)) {
                        tunnel_finish(t, "closed");
                        return;
                }
        tunnel_watch_both(t);
}

void tunnel_pump_closing(struct tunnel *t)
{
        char data[4096];
        if (!tunnel_drain(t, &t->client)) {
                tunnel_free(t);
                return;
        }
        if (buf_pending(&t->client.out) == 0 && !t->client.shut) {
                t->client.shut = true;
                (void) shutdown(t->client.fd, SHUT_WR);
        }
        /* Closing with unread bytes would reset the connection before the answer is read. */
        ssize_t n = read(t->client.fd, data, sizeof(data));
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
                tunnel_free(t);
        else
                tunnel_watch_both(t);
}
