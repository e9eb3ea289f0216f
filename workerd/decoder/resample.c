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

static void axis_init(struct axis *a, unsigned src, unsigned dst)
{
        double ratio = (double) src / dst;
        size_t each = (size_t) ratio + 3;
        a->taps = xnewn(struct taps, dst);
        a->weights = xnewn(uint16_t, dst * each);
        for (unsigned i = 0; i < dst; i++) {
                a->taps[i].weight = a->weights + i * each;
                if (dst <= src)
                        area_taps(&a->taps[i], i * ratio, (i + 1) * ratio, src);
                else
                        linear_taps(&a->taps[i], (i + 0.5) * ratio, src);
        }
}

/* Eight samples of a byte each, widened so that a weight can be applied: the compiler makes vector
 * instructions of them at any level of optimization. */
typedef uint8_t bytes8 __attribute__((vector_size(8)));
typedef uint16_t words8 __attribute__((vector_size(16)));
typedef uint16_t words4 __attribute__((vector_size(8)));
typedef uint8_t bytes4 __attribute__((vector_size(4)));

static inline words8 widen(const uint8_t *at)
{
        bytes8 v;
        memcpy(&v, at, sizeof(v));
        return __builtin_convertvector(v, words8);
}

/* out[i] = weighted sum over the rows of one target row; n bytes each, rounded up to 8: the
 * caller's buffers have room, its rows have not, so the last piece of a row that is no multiple is
 * done byte by byte. */
static void blend_rows(const struct taps *t, const uint8_t *src, size_t stride, size_t n,
                       uint8_t *out)
{
        const uint8_t *first = src + t->first * stride;
        size_t i = 0;
        for (; i + sizeof(bytes8) <= n; i += sizeof(bytes8)) {
                const uint8_t *row = first + i;
                words8 sum = widen(row) * t->weight[0] + 128; /* 255 * 256 + 128 fits */
                for (unsigned k = 1; k < t->n; k++) {
                        row += stride;
                        sum += widen(row) * t->weight[k];
                }
                bytes8 result = __builtin_convertvector(sum >> 8, bytes8);
                memcpy(out + i, &result, sizeof(result));
        }
        for (; i < n; i++) {
                unsigned sum = 128;
                for (unsigned k = 0; k < t->n; k++)
                        sum += (unsigned) first[k * stride + i] * t->weight[k];
                out[i] = (uint8_t) (sum >> 8);
        }
}

/* The weights of two neighbours at a time, four samples each; the odd one out gets a partner of
 * weight 0. */
static words8 *pair_weights(const struct taps *taps, unsigned n, size_t *ret_each)
{
        size_t each = 1;
        for (unsigned x = 0; x < n; x++)
                each = MAX(each, (taps[x].n + 1UL) / 2);
        words8 *pairs = xnewn(words8, n * each); /* aligned as they must be */
        for (unsigned x = 0; x < n; x++)
                for (size_t k = 0; k < each; k++) {
                        uint16_t a = 2 * k < taps[x].n ? taps[x].weight[2 * k] : 0;
                        uint16_t b = 2 * k + 1 < taps[x].n ? taps[x].weight[2 * k + 1] : 0;
                        pairs[x * each + k] = (words8){ a, a, a, a, b, b, b, b };
                }
        *ret_each = each;
        return pairs;
}

/* `row` has room for reading 2 * each pixels beyond its end. */
static void blend_columns(const struct taps *taps, const words8 *pairs, size_t each, unsigned n,
                          const uint8_t *row, uint32_t *out)
{
        for (unsigned x = 0; x < n; x++) {
                const uint8_t *at = row + (size_t) taps[x].first * 4;
                words8 sum = widen(at) * pairs[x * each];
                for (size_t k = 1; k < each; k++)
                        sum += widen(at + 8 * k) * pairs[x * each + k];
                words4 low, high;
                memcpy(&low, &sum, sizeof(low));
                memcpy(&high, (const char *) &sum + sizeof(low), sizeof(high));
                bytes4 result = __builtin_convertvector((low + high + 128) >> 8, bytes4);
                memcpy(&out[x], &result, sizeof(result));
        }
}

void resample(const uint32_t *src, unsigned src_width, unsigned src_height, size_t stride,
              uint32_t *dst, unsigned dst_width, unsigned dst_height)
{
        cleanup_axis struct axis columns = { 0 };
        cleanup_axis struct axis rows = { 0 };
        size_t n = (size_t) src_width * 4, each;
        axis_init(&columns, src_width, dst_width);
        axis_init(&rows, src_height, dst_height);
        cleanup_free words8 *pairs = pair_weights(columns.taps, dst_width, &each);
        cleanup_free uint8_t *row = xcalloc(1, n + 8 * each);
        for (unsigned y = 0; y < dst_height; y++) {
                blend_rows(&rows.taps[y], (const uint8_t *) src, stride * 4, n, row);
                blend_columns(columns.taps, pairs, each, dst_width, row,
                              dst + (size_t) y * dst_width);
        }
}
