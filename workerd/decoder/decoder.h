/* berth-decoder: what the display server of a slot sends becomes a frame and pictures in a process
 * of its own, because those bytes are hostile. It has no file, no network and no other program
 * within reach: a socket to the server, a socket to the worker, memory shared with it, and a system
 * call filter that ends it at anything else. This is what the two say to each other;
 * screen-decoder.c is the worker's side.
 *
 * Both are of one build and on one machine: structures in native order, whole packets on a
 * SOCK_SEQPACKET pair. The worker does not believe the decoder (decoder_news_sound); the decoder
 * believes the worker. */
#pragma once

#include "common/base/util.h"
#include "rfb.h"

/* Its descriptors */
#define DECODER_CONTROL 3
#define DECODER_SERVER 4
#define DECODER_MEMORY 5

/* The shared memory: two frames (rfb_init), then the newest picture. Only what is touched is taken.
 */
#define DECODER_FRAME_BYTES ((size_t) RFB_PIXELS_MAX * sizeof(uint32_t))
#define DECODER_PICTURE_AT (2 * DECODER_FRAME_BYTES)
#define DECODER_PICTURE_BYTES ((size_t) RFB_PIXELS_MAX * sizeof(uint32_t))
#define DECODER_MEMORY_BYTES (DECODER_PICTURE_AT + DECODER_PICTURE_BYTES)

#define DECODER_ORDERS_MAX 64 /* of one packet */

enum decoder_order_kind { ORDER_KEY = 1, ORDER_POINTER, ORDER_SIZE, ORDER_PICTURE };

/* From the worker: an array of these is one packet, done in that order. */
struct decoder_order {
        uint32_t kind;
        union {
                struct {
                        uint32_t down, keysym;
                } key;
                struct {
                        uint32_t buttons, x, y;
                } pointer;
                struct {
                        uint32_t width, height;
                } size;
                struct {
                        uint32_t number;        /* comes back with the picture */
                        uint32_t x, y, w, h;    /* what of the frame */
                        uint32_t width, height; /* of the picture */
                } picture;                      /* one at a time */
        };
};

enum decoder_news_kind { NEWS_FRAME = 1, NEWS_PICTURE, NEWS_END };
#define DECODER_WHY_MAX 100 /* no padding: news are compared as bytes */

/* To the worker: one a packet. */
struct decoder_news {
        uint32_t kind;
        uint32_t width, height;    /* of the frame; of the picture */
        uint32_t place;            /* frame: 0 or 1 */
        uint64_t generation;       /* of the frame; that the picture was taken of */
        uint32_t whole, sizable;   /* frame: as in struct rfb */
        uint32_t number;           /* picture: the order's */
        uint32_t bytes;            /* picture: length */
        int32_t result;            /* picture: 0 or -ERANGE, -ENOMEM, -EINVAL, -EMSGSIZE */
        char why[DECODER_WHY_MAX]; /* end: what the server did */
};
_Static_assert(sizeof(struct decoder_news) == 44 + DECODER_WHY_MAX, "padding");

/* Whether a packet of `size` bytes can be what a sound decoder says; what it points to lies within
 * the shared memory then. */
bool decoder_news_sound(const struct decoder_news *n, size_t size);
/* Whether these bytes begin as a picture of that size. */
bool decoder_picture_sound(const void *data, size_t n, unsigned width, unsigned height);

/* The decoder's own loop; it ends the process when the worker or the server has gone. */
__attribute__((noreturn)) void decoder_serve(int control, int server, void *memory);
/* Nothing from now on but to talk over what it has, wait, use memory and end: anything else kills
 * the process. A sanitizer wants to know more when it reports; it is refused instead. Needs
 * no_new_privs. */
int decoder_confine(void) mustuse;
#if defined(__SANITIZE_ADDRESS__)
#define DECODER_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DECODER_SANITIZED 1
#endif
#endif
#ifndef DECODER_SANITIZED
#define DECODER_SANITIZED 0
#endif
