/* Writes PNG pictures (8-bit RGB, or a palette when there are few colours), compressed by
 * libdeflate. */
#pragma once

#include "common/base/buf.h"

struct png_writer; /* memory that is used again for the next picture */
struct png_writer *png_writer_new(void);
struct png_writer *png_writer_free(struct png_writer *w);
DEFINE_CLEANUP(struct png_writer, png_writer_free)

/* pixels: 0x00RRGGBB, `stride` pixels from row to row. Appends a whole file to `out`. -EINVAL for
 * sides of 0 or over 10922, -EMSGSIZE when `out` has a limit that does not take it. */
int png_write(struct png_writer *w, const uint32_t *pixels, unsigned width, unsigned height,
              size_t stride, struct buf *out) mustuse;
