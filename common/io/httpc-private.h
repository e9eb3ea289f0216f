/* Shared by the files of the HTTP client: the loop side (httpc.c) and one transfer
 * (httpc-request.c). */
#pragma once

#include <curl/curl.h>

#include "common/base/list.h"
#include "daemon.h"
#include "httpc.h"

#define HTTPC_REQUESTS_MAX 1000
#define HTTPC_HEADERS_MAX_BYTES (256 * KIB)

struct httpc {
        sd_event *event;
        CURLM *multi;
        struct loop_timer timer; /* libcurl's */
        struct list requests;
        size_t n_requests;
        struct list sockets;
        unsigned depth; /* of our own frames on the stack */
        bool in_curl;   /* libcurl is on the stack: it must not be called again */
        bool dead;      /* httpc_free was called while depth > 0 */
};

enum request_state {
        REQUEST_NEW,       /* to be given to libcurl */
        REQUEST_RUNNING,   /* libcurl has it */
        REQUEST_CANCELLED, /* to be taken from libcurl; no callbacks any more */
        REQUEST_STATE_MAX,
};

struct httpc_request {
        struct list link;
        struct httpc *client;
        enum request_state state;
        CURL *easy;
        struct curl_slist *headers;
        struct httpc_config config; /* callbacks and limits; its pointers to input are not used */
        struct loop_timer stall_timer;
        uint64_t last_activity;
        curl_off_t bytes_moved;
        size_t body_bytes, header_bytes;
        long status;
        int abort; /* why our own callback stopped the transfer */
        char error[CURL_ERROR_SIZE];
};

/* httpc-request.c */
int httpc_request_new(struct httpc *h, const struct httpc_config *c,
                      struct httpc_request **ret) mustuse;
void httpc_request_free(struct httpc_request *r); /* libcurl must not have it */
/* Ends a request that libcurl no longer has: tells on_done unless it was cancelled, frees it. */
void httpc_request_finish(struct httpc_request *r, int result, const char *text);
int httpc_result(const struct httpc_request *r,
                 CURLcode code); /* negative errno of libcurl's code */

/* httpc.c */
void httpc_request_stalled(struct httpc_request *r);
