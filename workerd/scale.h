/* The size of the picture that a model sees of a screen, and coordinates between the two. */
#pragma once

#include "common/base/util.h"

struct scale {
        uint32_t real_width, real_height; /* of the screen */
        uint32_t width, height;           /* of the picture */
};

/* XGA, WXGA or FWXGA when the screen is larger and of that shape; the screen itself when it is
 * within the models' limits (1568 pixels on the long edge, 1568 patches of 28x28); else the largest
 * picture of the same shape that is. */
void scale_choose(uint32_t real_width, uint32_t real_height, struct scale *ret);
/* Pixel of the picture -> pixel of the screen. -ERANGE outside the picture. */
int scale_to_screen(const struct scale *s, int64_t x, int64_t y, uint32_t *ret_x,
                    uint32_t *ret_y) mustuse;
/* Pixel of the screen -> pixel of the picture, held inside it. */
void scale_to_picture(const struct scale *s, uint32_t x, uint32_t y, uint32_t *ret_x,
                      uint32_t *ret_y);
