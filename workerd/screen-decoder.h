/* The process that reads the display server's bytes, as the screen holds it: started, spoken to,
 * not believed, ended. */
#pragma once

#include <systemd/sd-event.h>

#include "decoder/decoder.h"
#include "slot-identity.h"

struct decoder_config {
        sd_event *event;
        const char *program;       /* path of berth-decoder; not kept */
        struct identity *identity; /* whose next id it runs under; NULL = the worker's own */
        int server; /* connected to the RFB server; stays the caller's, who closes it */
        void (*on_frame)(void *userdata, const struct decoder_news *n);
        /* The answer to decoder_picture; png is NULL when the result is negative, else borrowed. */
        void (*on_picture)(void *userdata, const struct decoder_news *n, const void *png);
        void (*on_room)(void *userdata); /* decoder_send said -EAGAIN before */
        /* Once, and nothing after it. `lost`: the decoder itself broke; else the server ended or
         * broke a rule, as `why` says. */
        void (*on_end)(void *userdata, bool lost, const char *why);
        void *userdata; /* callbacks come from the loop; each may free the decoder */
};

struct decoder;
/* -ENOENT and the like: the program cannot be had. Blocks for the fork only. */
int decoder_new(const struct decoder_config *c, struct decoder **ret) mustuse;
/* Kills it; the loop collects it. */
struct decoder *decoder_free(struct decoder *d);
DEFINE_CLEANUP(struct decoder, decoder_free)

/* n at most DECODER_ORDERS_MAX. -EAGAIN: it does not read, on_room follows. Else 0, also when it
 * has ended: on_end says so. */
int decoder_send(struct decoder *d, const struct decoder_order *orders, size_t n) mustuse;
/* The newest frame told of by on_frame: width * height words. It may be drawn to meanwhile. */
const uint32_t *decoder_frame(const struct decoder *d, unsigned place);
