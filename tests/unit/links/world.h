/* Both ends of a link for the tests of rpc, and what happened to them. */
#pragma once

#include "fixture.h"

#define SILENCE (300 * USEC_PER_MSEC)

struct world {
        struct fixture *f;
        struct rpc_link *server, *client;
        struct rpc_peer *peer; /* the newest, seen from the server */
        int server_up, server_gone, client_up, client_gone;
        int requests, notes;
        struct rpc_request *held[8];
        size_t n_held;
        /* of the last call that ended */
        int ended, last_r, ok, failed;
        enum error_code code;
        char message[501];
        size_t n_events, event_len;
        size_t server_queue_max; /* before new_server; 0 = default */
        bool free_server_in_handler, end_peer_in_handler;
};

struct rpc_link *new_server(struct world *w);
struct rpc_link *new_client(struct world *w, size_t queue_max, size_t calls_max); /* 0 = default */
void connect_both(struct world *w, struct fixture *f);
void disconnect_both(struct world *w);
/* Of every call: counts into the world. */
void on_reply(void *userdata, int r, const void *reply);
/* session_stop; the id says what the handler does: hold, error, errno, long, else ok. */
int stop(struct world *w, const char *id, uint64_t timeout);
