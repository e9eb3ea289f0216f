/* The bytes of one piece of a recording: pure, no I/O.
 *
 * A piece stands alone: it begins with a whole frame. Integers are little-endian:
 *
 *   "BREC" 1 0 0 0, u32 width, u32 height, u64 microseconds since 1970 of its beginning, then
 *   'R' u16 x, u16 y, u16 width, u16 height, width * height * 3 bytes R G B, rows from the top
 *   'F' u32 milliseconds since the beginning, u64 seq: the rectangles before it are a frame, and
 *       this was the newest event known then
 *
 * and the whole compressed by gzip. Web: web/src/model/recording.ts reads the same. */
#pragma once

#include "common/base/buf.h"

#define RECORD_RAW_MAX                                                                             \
        (16 * MIB) /* of a piece, uncompressed; it ends with the frame that passes                 \
                    */

struct record {
        unsigned width, height;
        uint32_t *last; /* the frame as recorded */
        struct buf raw;
        uint64_t started_us; /* since 1970 */
        uint64_t ended_us;
        uint64_t first_seq, last_seq;
        uint32_t frames;
};

/* Begins a piece with this frame (words 0x00RRGGBB). */
void record_begin(struct record *r, const uint32_t *pixels, unsigned width, unsigned height,
                  uint64_t now_us, uint64_t seq);
bool record_open(const struct record *r);
/* Adds what differs from the frame before; same size as it began with. False: nothing did. */
bool record_frame(struct record *r, const uint32_t *pixels, uint64_t now_us, uint64_t seq);
/* Its bytes are the caller's; the piece is closed. */
struct buf record_take(struct record *r);
void record_done(struct record *r);
