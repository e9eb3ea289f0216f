/* Packets of a descriptor socket: one frame and at most one descriptor each. */
#include "fdlink-private.h"

#include <sys/socket.h>
#include <unistd.h>

#define FDS_MAX 4 /* room for those we refuse; the kernel closes what does not fit */

int fdlink_send(int sock, const struct buf *packet, int fd)
{
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(int))];
        } control = { .space = { 0 } };
        struct iovec iov = { packet->data + packet->off, buf_pending(packet) };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
        if (fd >= 0) {
                m.msg_control = control.space;
                m.msg_controllen = sizeof(control.space);
                struct cmsghdr *c = CMSG_FIRSTHDR(&m);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(c), &fd, sizeof(fd));
        }
        for (;;) {
                if (sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
                        return 0;
                if (errno != EINTR)
                        return errno == EWOULDBLOCK || errno == ENOBUFS ? -EAGAIN : -errno;
        }
}

/* Collects every descriptor that came; returns how many, the first FDS_MAX of them in fds. */
static size_t take_fds(struct msghdr *m, int fds[static FDS_MAX])
{
        size_t n = 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < count; i++) {
                        int fd;
                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
                        if (n < FDS_MAX)
                                fds[n++] = fd;
                        else
                                close(fd);
                }
        }
        return n;
}

int fdlink_recv(int sock, char *data, size_t *ret_len, int *ret_fd)
{
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
        } control;
        struct iovec iov = { data, FDLINK_PACKET_MAX };
        struct msghdr m = {
                .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = control.space,
                .msg_controllen = sizeof(control.space),
        };
        ssize_t n;
        do
                n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EWOULDBLOCK ? -EAGAIN : -errno;

        int fds[FDS_MAX];
        size_t n_fds = take_fds(&m, fds);
        bool bad = n_fds > 1 || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || (n == 0 && n_fds > 0);
        if (bad) {
                for (size_t i = 0; i < n_fds; i++)
                        close(fds[i]);
                return -EBADMSG;
        }
        *ret_len = (size_t) n;
        *ret_fd = n_fds == 1 ? fds[0] : -1;
        return 0;
}
