/* The slot's way out: the listener that its helper hands over, and the egress proxy behind it. */
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slot-private.h"

static void on_verdict(void *userdata, const struct egress_verdict *v)
{
        struct slot *s = userdata;
        if (s->network.on_verdict)
                s->network.on_verdict(s->network.userdata, v);
}

int slot_network_prepare(struct slot *s, int *ret_theirs)
{
        int pair[2];
        *ret_theirs = -1;
        if (strempty(s->config.egress.program))
                return 0;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        s->network.gate = pair[0];
        *ret_theirs = pair[1];
        return 0;
}

/* The helper sends it before its greeting, so it is here when that is read. */
static int receive_listener(int gate)
{
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } room;
        char byte;
        int fd = -1;
        struct iovec iov = { &byte, 1 };
        struct msghdr h = { .msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = room.bytes,
                            .msg_controllen = sizeof(room.bytes) };
        if (recvmsg(gate, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1)
                return -1;
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
                memcpy(&fd, CMSG_DATA(c), sizeof(int));
        if (fd >= 0 && fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
                fd = fd_close(fd);
        return fd;
}

void slot_network_up(struct slot *s)
{
        struct slot_network *n = &s->network;
        if (n->gate < 0)
                return;
        int listener = receive_listener(n->gate);
        n->gate = fd_close(n->gate);
        struct egress_config c = s->config.egress;
        c.event = s->config.event;
        c.on_verdict = on_verdict;
        c.userdata = s;
        int r = listener < 0 ? -ENOTSOCK : egress_link_new(&c, listener, &n->link);
        if (r < 0)
                log_errno(LOG_ERR, r, "slot %s: no way to the network", s->config.id);
}

void slot_network_end(struct slot *s)
{
        s->network.link = egress_link_free(s->network.link);
        s->network.gate = fd_close(s->network.gate);
}

void slot_set_network(struct slot *s, struct span network, const char *tenant,
                      const char *agent_name)
{
        if (s->network.link)
                egress_link_set(s->network.link, network, tenant, agent_name);
}

void slot_on_verdict(struct slot *s, slot_verdict_fn fn, void *userdata)
{
        s->network.on_verdict = fn;
        s->network.userdata = userdata;
}
