/* Changes the size of pictures: area average when an axis gets smaller, linear in between when it
 * grows. */
#pragma once

#include "common/base/util.h"

/* src: 0x00RRGGBB, `stride` pixels from row to row; dst: dst_width * dst_height pixels, the
 * caller's. Sides must be 1 to 16384, checked by the caller: they decide the memory taken. */
void resample(const uint32_t *src, unsigned src_width, unsigned src_height, size_t stride,
              uint32_t *dst, unsigned dst_width, unsigned dst_height);
