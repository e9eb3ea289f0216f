/* What fdlink-server.c and fdlink-client.c share: packets with at most one descriptor. */
#pragma once

#include "proto/wire.h"

/* Requests and replies on descriptor sockets are small: a packet must fit a socket buffer. */
#define FDLINK_PACKET_MAX (64 * 1024)

/* fd -1 = none. -EAGAIN when the other side does not read. */
int fdlink_send(int sock, const struct buf *packet, int fd) mustuse;

/* Takes one packet into data (FDLINK_PACKET_MAX bytes). -EAGAIN: none there; 0 bytes: the end (then
 * *ret_fd is -1). -EBADMSG: longer than allowed, or came with more than one descriptor; all that
 * came are closed. */
int fdlink_recv(int sock, char *data, size_t *ret_len, int *ret_fd) mustuse;
