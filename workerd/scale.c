/* Chooses the size of screenshots for the model and maps coordinates. */
#include "scale.h"

#include <math.h>

#define EDGE_MAX 1568
#define PATCHES_MAX 1568
#define PATCH 28

static const struct {
        uint32_t width, height;
} targets[] = { { 1024, 768 }, { 1280, 800 }, { 1366, 768 } };

static bool fits(uint32_t w, uint32_t h)
{
        return w <= EDGE_MAX && h <= EDGE_MAX &&
               (uint64_t) ((w + PATCH - 1) / PATCH) * ((h + PATCH - 1) / PATCH) <= PATCHES_MAX;
}

static uint32_t other_side(uint32_t side, double of, double to)
{
        uint32_t n = (uint32_t) lround(side * of / to);

        return n > 0 ? n : 1;
}

/* The largest long edge whose picture fits, by halving the interval. */
static void shrink(struct scale *s)
{
        bool landscape = s->real_width >= s->real_height;
        uint32_t edge = landscape ? s->real_width : s->real_height;
        uint32_t side = landscape ? s->real_height : s->real_width;
        uint32_t low = 1, high = MIN(edge, (uint32_t) EDGE_MAX);

        while (low < high) {
                uint32_t middle = (low + high + 1) / 2;

                if (fits(middle, other_side(middle, side, edge)))
                        low = middle;
                else
                        high = middle - 1;
        }
        uint32_t other = other_side(low, side, edge);
        s->width = landscape ? low : other;
        s->height = landscape ? other : low;
}

void scale_choose(uint32_t real_width, uint32_t real_height, struct scale *ret)
{
        double aspect = (double) real_width / MAX(real_height, 1U);

        *ret = (struct scale){ real_width, real_height, real_width, real_height };
        for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
                double shape = (double) targets[i].width / targets[i].height;

                if (fabs(aspect - shape) < 0.02 && targets[i].width < real_width) {
                        ret->width = targets[i].width;
                        ret->height = targets[i].height;
                        return;
                }
        }
        if (!fits(real_width, real_height))
                shrink(ret);
}

static uint32_t map(int64_t n, uint32_t from, uint32_t to)
{
        int64_t m = llround((double) n * to / from);

        return m < 0 ? 0 : m >= to ? to - 1 : (uint32_t) m;
}

int scale_to_screen(const struct scale *s, int64_t x, int64_t y, uint32_t *ret_x, uint32_t *ret_y)
{
        if (x < 0 || y < 0 || x >= s->width || y >= s->height)
                return -ERANGE;
        *ret_x = map(x, s->width, s->real_width);
        *ret_y = map(y, s->height, s->real_height);
        return 0;
}

void scale_to_picture(const struct scale *s, uint32_t x, uint32_t y, uint32_t *ret_x,
                      uint32_t *ret_y)
{
        *ret_x = map(x, s->real_width, s->width);
        *ret_y = map(y, s->real_height, s->height);
}
