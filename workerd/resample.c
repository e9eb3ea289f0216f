/* Separable resampling with 8-bit weights: rows first (the compiler makes vector code of it), then
 * columns. */
#include "resample.h"

/* Which source positions make a target position, with weights that sum to exactly 256: 255 * 256
 * fits in 16 bits, and white stays white. */
struct taps {
        unsigned first, n;
        uint16_t *weight;
};

struct axis {
        struct taps *taps;
        uint16_t *weights;
};

static void axis_done(struct axis *a)
{
        free(a->taps);
        free(a->weights);
}
#define cleanup_axis CLEANUP(axis_done)

/* Weights from the shares of [from, to) in each source position, rounded so that they sum to 256.
 */
static void area_taps(struct taps *t, double from, double to, unsigned size)
{
        unsigned last = MIN((unsigned) (to - 1e-9), size - 1);
        int given = 0;
        t->first = MIN((unsigned) from, size - 1);
        t->n = last - t->first + 1;
        for (unsigned k = 0; k < t->n; k++) {
                double end = MIN(to, (double) (t->first + k + 1));
                int sum = k + 1 == t->n ? 256 : (int) ((end - from) / (to - from) * 256 + 0.5);
                t->weight[k] = (uint16_t) (sum - given);
                given = sum;
        }
}

static void linear_taps(struct taps *t, double centre, unsigned size)
{
        double at = MAX(centre - 0.5, 0.0);
        t->first = MIN((unsigned) at, size - 1);
        t->n = t->first + 1 < size ? 2 : 1;
        unsigned second = t->n == 2 ? (unsigned) ((at - t->first) * 256 + 0.5) : 0;
        t->weight[0] = (uint16_t) (256 - second);
        if (t->n == 2)
                t->weight[1] = (uint16_t) second;
}

static int axis_init(struct axis *a, unsigned src, unsigned dst)
{
        double ratio = (double) src / dst;
        size_t each = (size_t) ratio + 3;
        a->taps = calloc(dst, sizeof(*a->taps));
        a->weights = calloc(dst * each, sizeof(*a->weights));
        if (!a->taps || !a->weights)
                return -ENOMEM;
        for (unsigned i = 0; i < dst; i++) {
                a->taps[i].weight = a->weights + i * each;
                if (dst <= src)
                        area_taps(&a->taps[i], i * ratio, (i + 1) * ratio, src);
                else
                        linear_taps(&a->taps[i], (i + 0.5) * ratio, src);
        }
        return 0;
}

/* out[i] = weighted sum over the rows of one target row; n bytes each. */
static void blend_rows(const struct taps *t, const uint32_t *src, size_t stride, size_t n,
                       uint16_t *restrict sum, uint8_t *restrict out)
{
        const uint8_t *row = (const uint8_t *) (src + t->first * stride);
        if (t->n == 1) {
                memcpy(out, row, n);
                return;
        }
        uint16_t weight = t->weight[0];
        for (size_t i = 0; i < n; i++)
                sum[i] = (uint16_t) (row[i] * weight + 128);
        for (unsigned k = 1; k < t->n; k++) {
                row = (const uint8_t *) (src + (t->first + k) * stride);
                weight = t->weight[k];
                /* 255 * 256 + 128 still fits. */
                for (size_t i = 0; i < n; i++)
                        sum[i] = (uint16_t) (sum[i] + row[i] * weight);
        }
        for (size_t i = 0; i < n; i++)
                out[i] = (uint8_t) (sum[i] >> 8);
}

typedef uint16_t four16 __attribute__((vector_size(8)));
typedef uint8_t four8 __attribute__((vector_size(4)));

static void blend_columns(const struct taps *taps, unsigned n, const uint8_t *row, uint32_t *out)
{
        for (unsigned x = 0; x < n; x++) {
                const struct taps *t = &taps[x];
                four16 sum = { 128, 128, 128, 128 };
                for (unsigned k = 0; k < t->n; k++) {
                        four8 pixel;
                        memcpy(&pixel, row + (size_t) (t->first + k) * 4, sizeof(pixel));
                        sum += __builtin_convertvector(pixel, four16) * t->weight[k];
                }
                four8 result = __builtin_convertvector(sum >> 8, four8);
                memcpy(&out[x], &result, sizeof(result));
        }
}

int resample(const uint32_t *src, unsigned src_width, unsigned src_height, size_t stride,
             uint32_t *dst, unsigned dst_width, unsigned dst_height)
{
        cleanup_axis struct axis columns = { 0 };
        cleanup_axis struct axis rows = { 0 };
        size_t n = (size_t) src_width * 4;
        cleanup_free uint16_t *sum = malloc(n * sizeof(*sum));
        cleanup_free uint8_t *row = malloc(n);
        if (!sum || !row || axis_init(&columns, src_width, dst_width) < 0 ||
            axis_init(&rows, src_height, dst_height) < 0)
                return -ENOMEM;
        for (unsigned y = 0; y < dst_height; y++) {
                blend_rows(&rows.taps[y], src, stride, n, sum, row);
                blend_columns(columns.taps, dst_width, row, dst + (size_t) y * dst_width);
        }
        return 0;
}
