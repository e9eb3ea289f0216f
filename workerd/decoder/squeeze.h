/* A zlib stream (RFC 1950, 1951) of the RGB rows of a PNG picture of a screen.
 *
 * A general compressor looks at bytes; here a row is compared pixel by pixel with the one above and
 * with itself, which is where screens repeat, at several times the speed and no larger a result
 * than libdeflate's fastest level. Other repetitions (glyphs) are found by a hash of neighbouring
 * pixels. */
#pragma once

#include "common/base/util.h"

/* Rows longer than the window of the format (32 KiB with their filter byte) are not taken. */
#define SQUEEZE_WIDTH_MAX 10922U

struct squeezer;
struct squeezer *squeezer_new(void);
struct squeezer *squeezer_free(struct squeezer *s);

size_t squeeze_bound(unsigned width, unsigned height); /* bytes `out` must have */
/* pixels: 0x00RRGGBB, `stride` from row to row; width at most SQUEEZE_WIDTH_MAX. Returns the
 * stream's length. */
size_t squeeze(struct squeezer *s, const uint32_t *pixels, unsigned width, unsigned height,
               size_t stride, uint8_t *out);
