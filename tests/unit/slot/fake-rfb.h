/* A fake RFB server for tests: its words, one by one, and the lies it tells. */
#pragma once

#include "common/base/buf.h"

void fake_u16(struct buf *b, unsigned v);
void fake_u32(struct buf *b, uint32_t v);
/* From the version to the name: a server without a password and with a screen of that size. */
void fake_greet(struct buf *b, unsigned width, unsigned height);
void fake_update(struct buf *b, unsigned rects);
void fake_rect(struct buf *b, unsigned x, unsigned y, unsigned width, unsigned height,
               int encoding);
void fake_fill(struct buf *b, size_t pixels, uint32_t colour);

#define FAKE_LIES 38
/* All that a server says which must be hung up on. */
void fake_lie(struct buf *b, int which);
