/* A client that is sent frames: a WebSocket or an SSE response. Fan-out code treats both alike.
 *
 * A frame is finished bytes (WebSocket header and payload, or an SSE chunk), built once, shared by
 * reference count and queued by pointer. What is queued in one turn of the loop is written at its
 * end in one system call per client. A queue holds 256 frames and 1 MiB; beyond it the client is
 * lagging: it gets the frame that ops->lagged returns, then is closed (4008). An empty queue takes
 * one frame of any size, which then does not count. */
#pragma once

#include "common/base/list.h"
#include "common/base/util.h"

#define SINK_FRAMES_MAX 256u
#define SINK_BYTES_MAX (1u << 20)
#define SINK_CLOSE_LAGGED 4008
#define SINK_CLOSE_GONE 4010
#define SINK_CLOSE_SHUTDOWN 1012
#define SINK_CLOSE_POLICY 1008
#define SINK_CLOSE_NORMAL 1000
#define SINK_CLOSE_ERROR 1011

struct frame;
struct frame *frame_ref(struct frame *f);
struct frame *frame_unref(struct frame *f); /* returns NULL */
DEFINE_CLEANUP(struct frame, frame_unref)
size_t frame_size(const struct frame *f);
/* Parts are joined; all return a frame with one reference. live: may be dropped when the client is
 * slow. */
struct frame *frame_ws_text(const struct span *parts, size_t n, bool live);
struct frame *frame_ws_binary(const struct span *parts, size_t n);
/* id and event may be NULL; data must not contain line breaks (finished JSON does not). */
struct frame *frame_sse(const char *id, const char *event, const struct span *parts, size_t n,
                        bool live);
struct frame *frame_sse_comment(const char *text);
/* Finished frames side by side; counts as many events as they do. */
struct frame *frame_join(struct frame *const *frames, size_t n);

enum sink_kind { SINK_WS, SINK_SSE };
struct sink;
struct sink_ops {
        /* A whole message from the client (WebSocket only). May be NULL: then any message is
         * ignored. */
        void (*message)(struct sink *s, struct span data, bool binary);
        /* The queue fell under half after it had been over it: there is room again. May be NULL. */
        void (*room)(struct sink *s);
        /* The last frame for a client that cannot keep up, or NULL. May be NULL. */
        struct frame *(*lagged)(struct sink *s);
        /* The client is gone or closed, for whatever reason; the sink is freed after this. Exactly
         * once, never from inside sink_push or sink_close. */
        void (*gone)(struct sink *s);
};

enum sink_kind sink_kind(const struct sink *s);
void *sink_userdata(const struct sink *s);
void sink_set_userdata(struct sink *s, void *userdata);
/* Queues a reference. 0; -EMSGSIZE the bound is passed, the client is being ended as lagging;
 * -EPIPE it is closing already. After a failure just wait for gone(). Live frames are dropped (0)
 * over half the bound. */
int sink_push(struct sink *s, struct frame *f);
/* A binary message (WebSocket only) for whom every microsecond counts: goes out at once when
 * nothing is queued, and only what the socket does not take is copied. Results as of sink_push. */
int sink_send(struct sink *s, struct span data) mustuse;
/* How much the kernel may hold for this client beyond what is on its way; 128 KiB at first. */
void sink_set_unsent(struct sink *s, size_t max);
size_t sink_frames(const struct sink *s); /* queued, not yet handed to the kernel */
size_t sink_bytes(const struct sink *s);
/* Frames that may be pushed before half of the bound is reached; 0 = wait for room(). */
size_t sink_space(const struct sink *s);
/* Whether sink_push would take the frame now; if not, room() tells when to ask again. */
bool sink_fits(struct sink *s, const struct frame *f);
/* Orderly end after what is queued; code and reason go into the close frame. Idempotent. */
void sink_close(struct sink *s, uint16_t code, const char *reason);
/* fn runs right before the frames of a turn are written; sink_flush_soon asks for that although
 * nothing was pushed yet. One such function per set. */
struct sink_set;
void sink_set_before_flush(struct sink_set *set, void (*fn)(void *userdata), void *userdata);
void sink_flush_soon(struct sink_set *set);
/* Stops or continues reading from the client (backpressure to it). */
void sink_pause(struct sink *s, bool pause);
