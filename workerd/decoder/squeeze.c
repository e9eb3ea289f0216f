/* The compressor of screens: finds repetitions of pixels, then writes blocks of dynamic Huffman
 * codes. */
#include "squeeze.h"

#include <libdeflate.h>

#include "huffman.h"

#define LITERALS 286
#define DISTANCES 30
#define END_OF_BLOCK 256
#define MATCH_MAX 258
#define TOKENS_MAX 65536 /* in a block */
#define WINDOW 32768U
#define HASH_BITS 13
#define HASH_PIXELS 3 /* a repetition elsewhere must have so many */

/* A token is a pixel (three literal bytes), one literal byte, or a match. */
#define TOKEN_BYTE (1U << 24)
#define TOKEN_MATCH (1U << 31)

struct squeezer {
        uint32_t tokens[TOKENS_MAX];
        unsigned n_tokens;
        uint32_t literals[LITERALS], distances[DISTANCES]; /* counts */
        uint32_t head[1 << HASH_BITS]; /* last place of a hash: y * width + x + 1 */
        uint16_t length_symbol[MATCH_MAX + 1];
        uint8_t length_extra[MATCH_MAX + 1];
        uint16_t length_base[MATCH_MAX + 1];
        uint8_t *row; /* bytes of a row, for the checksum */
        size_t row_size;
        /* Where the stream goes. */
        uint8_t *out;
        uint64_t bits;
        unsigned n_bits;
};

struct squeezer *squeezer_new(void)
{
        struct squeezer *s = xnew(struct squeezer);
        unsigned symbol = 257, length = 3;
        for (; symbol < 285; symbol++) {
                unsigned extra = symbol < 265 ? 0 : (symbol - 261) / 4;
                for (unsigned base = length; length < base + (1U << extra); length++) {
                        s->length_symbol[length] = (uint16_t) symbol;
                        s->length_extra[length] = (uint8_t) extra;
                        s->length_base[length] = (uint16_t) base;
                }
        }
        s->length_symbol[MATCH_MAX] = 285;
        s->length_extra[MATCH_MAX] = 0;
        s->length_base[MATCH_MAX] = MATCH_MAX;
        return s;
}

struct squeezer *squeezer_free(struct squeezer *s)
{
        if (s)
                free(s->row);
        free(s);
        return NULL;
}

size_t squeeze_bound(unsigned width, unsigned height)
{
        /* No code is longer than 15 bits; a block's head takes less than 640 bytes. */
        size_t bytes = ((size_t) width * 3 + 1) * height;
        return bytes * 2 + (bytes / TOKENS_MAX + 2) * 640 + 64;
}

/* --- writing ---------------------------------------------------------------------------------- */

static inline void put(struct squeezer *s, uint64_t value, unsigned n)
{
        s->bits |= value << s->n_bits;
        s->n_bits += n;
}

/* Leaves fewer than eight bits waiting. Up to 56 may be put before. */
static inline void flush(struct squeezer *s)
{
        memcpy(s->out, &s->bits, sizeof(s->bits));
        s->out += s->n_bits / 8;
        s->bits >>= s->n_bits & ~7U;
        s->n_bits &= 7;
}

static inline unsigned distance_symbol(unsigned distance, unsigned *ret_extra)
{
        unsigned d = distance - 1;
        if (d < 4) {
                *ret_extra = 0;
                return d;
        }
        unsigned top = 31 - (unsigned) __builtin_clz(d);
        *ret_extra = top - 1;
        return 2 * top + (d >> (top - 1) & 1);
}

/* The lengths of both codes, themselves coded. */
static void put_codes(struct squeezer *s, const struct huffman *literals,
                      const struct huffman *distances)
{
        static const uint8_t order[19] = { 16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                           11, 4,  12, 3, 13, 2, 14, 1, 15 };
        uint8_t lengths[LITERALS + DISTANCES];
        uint16_t symbols[LITERALS + DISTANCES]; /* symbol, and above it the extra bits */
        uint32_t counts[19] = { 0 };
        unsigned n = 0;
        memcpy(lengths, literals->length, LITERALS);
        memcpy(lengths + LITERALS, distances->length, DISTANCES);
        for (unsigned i = 0, run; i < sizeof(lengths); i += run) {
                for (run = 1;
                     i + run < sizeof(lengths) && lengths[i + run] == lengths[i] && run < 138;)
                        run++;
                if (lengths[i] != 0 || run < 3)
                        run = 1;
                unsigned symbol = run == 1 ? lengths[i] : run < 11 ? 17 : 18;
                unsigned extra = run == 1 ? 0 : run < 11 ? run - 3 : run - 11;
                symbols[n++] = (uint16_t) (symbol | extra << 8);
                counts[symbol]++;
        }
        struct huffman codes;
        huffman_build(counts, 19, 7, &codes);
        put(s, LITERALS - 257, 5);
        put(s, DISTANCES - 1, 5);
        put(s, 19 - 4, 4);
        flush(s);
        for (unsigned i = 0; i < 19; i++) {
                put(s, codes.length[order[i]], 3);
                flush(s);
        }
        for (unsigned i = 0; i < n; i++) {
                unsigned symbol = symbols[i] & 0xff;
                put(s, codes.code[symbol], codes.length[symbol]);
                put(s, symbols[i] >> 8, symbol == 17 ? 3 : symbol == 18 ? 7 : 0);
                flush(s);
        }
}

static void put_block(struct squeezer *s, bool last)
{
        struct huffman l, d;
        s->literals[END_OF_BLOCK]++;
        huffman_build(s->literals, LITERALS, 15, &l);
        huffman_build(s->distances, DISTANCES, 15, &d);
        put(s, last, 1);
        put(s, 2, 2);
        put_codes(s, &l, &d);
        for (unsigned i = 0; i < s->n_tokens; i++) {
                uint32_t t = s->tokens[i];
                if (t & TOKEN_MATCH) {
                        unsigned length = t & 0x1ff, distance = (t >> 9 & 0xffff) + 1, extra;
                        unsigned symbol = distance_symbol(distance, &extra);
                        put(s, l.code[s->length_symbol[length]],
                            l.length[s->length_symbol[length]]);
                        put(s, length - s->length_base[length], s->length_extra[length]);
                        put(s, d.code[symbol], d.length[symbol]);
                        put(s, (distance - 1) & ((1U << extra) - 1), extra);
                } else if (t & TOKEN_BYTE)
                        put(s, l.code[t & 0xff], l.length[t & 0xff]);
                else
                        for (int shift = 16; shift >= 0; shift -= 8)
                                put(s, l.code[t >> shift & 0xff], l.length[t >> shift & 0xff]);
                flush(s);
        }
        put(s, l.code[END_OF_BLOCK], l.length[END_OF_BLOCK]);
        flush(s);
        s->n_tokens = 0;
        memset(s->literals, 0, sizeof(s->literals));
        memset(s->distances, 0, sizeof(s->distances));
}

static inline void add_token(struct squeezer *s, uint32_t token)
{
        s->tokens[s->n_tokens++] = token;
        if (s->n_tokens == TOKENS_MAX)
                put_block(s, false);
}

static void add_match(struct squeezer *s, size_t bytes, unsigned distance)
{
        unsigned extra, symbol = distance_symbol(distance, &extra);
        while (bytes > 0) {
                /* What is left over must itself be a match. */
                unsigned n = bytes <= MATCH_MAX      ? (unsigned) bytes
                             : bytes < MATCH_MAX + 3 ? 255
                                                     : MATCH_MAX;
                s->literals[s->length_symbol[n]]++;
                s->distances[symbol]++;
                add_token(s, TOKEN_MATCH | (distance - 1) << 9 | n);
                bytes -= n;
        }
}

static inline void add_pixel(struct squeezer *s, uint32_t pixel)
{
        s->literals[pixel >> 16 & 0xff]++;
        s->literals[pixel >> 8 & 0xff]++;
        s->literals[pixel & 0xff]++;
        add_token(s, pixel & 0xffffff);
}

/* --- finding ---------------------------------------------------------------------------------- */

/* How many pixels are the same, at most n. */
static inline unsigned same(const uint32_t *a, const uint32_t *b, unsigned n)
{
        unsigned i = 0;
        for (; i + 2 <= n; i += 2) {
                uint64_t x, y;
                memcpy(&x, a + i, sizeof(x));
                memcpy(&y, b + i, sizeof(y));
                if (x != y)
                        return i + (a[i] == b[i]);
        }
        return i < n && a[i] == b[i] ? i + 1 : i;
}

static inline uint32_t hash(const uint32_t *p)
{
        return (p[0] * 2654435761U ^ p[1] * 2246822519U ^ p[2] * 3266489917U) >> (32 - HASH_BITS);
}

struct found {
        unsigned n, distance; /* pixels; bytes back */
};

/* A repetition of the pixels at x, y further back in the window. */
static struct found look_back(struct squeezer *s, const uint32_t *pixels, unsigned width,
                              size_t stride, unsigned x, unsigned y)
{
        struct found f = { 0 };
        const uint32_t *row = pixels + y * stride;
        if (x + HASH_PIXELS > width)
                return f;
        uint32_t *head = &s->head[hash(row + x)], at = *head;
        *head = y * width + x + 1;
        if (at == 0)
                return f;
        unsigned old_y = (at - 1) / width, old_x = (at - 1) % width;
        uint64_t distance = (uint64_t) (y - old_y) * (width * 3UL + 1) + ((int64_t) x - old_x) * 3;
        if (distance > WINDOW)
                return f;
        f.n = same(row + x, pixels + old_y * stride + old_x, width - MAX(x, old_x));
        f.distance = (unsigned) distance;
        return f;
}

/* A run of `left` pixels like their left neighbour is worth as much as a longer one like those
 * above: the distance 3 takes few bits, a row's length many. */
static inline unsigned worth(unsigned left)
{
        return left + left / 2;
}

static void squeeze_row(struct squeezer *s, const uint32_t *pixels, unsigned width, size_t stride,
                        unsigned y)
{
        const uint32_t *row = pixels + y * stride, *above = y > 0 ? row - stride : NULL;
        unsigned row_bytes = width * 3 + 1, x = 0;
        unsigned up = above ? same(row, above, width) : 0;
        if (up > 0) {
                /* The filter byte before it is the same too. */
                up = up > worth(same(row + 1, row, width - 1)) ? up : 1;
                add_match(s, 1 + 3UL * up, row_bytes);
                x = up;
        } else {
                s->literals[0]++;
                add_token(s, TOKEN_BYTE);
        }
        while (x < width) {
                struct found best = { above ? same(row + x, above + x, width - x) : 0, row_bytes };
                unsigned left = x > 0 ? same(row + x, row + x - 1, width - x) : 0;
                if (best.n <= worth(left))
                        best = (struct found){ left, 3 };
                if (best.n < HASH_PIXELS) {
                        struct found other = look_back(s, pixels, width, stride, x, y);
                        if (other.n > best.n && other.n >= HASH_PIXELS)
                                best = other;
                }
                if (best.n == 0)
                        add_pixel(s, row[x++]);
                else {
                        add_match(s, 3UL * best.n, best.distance);
                        x += best.n;
                }
        }
}

/* The bytes of a row as the checksum sees them. */
static void pack_row(uint8_t *to, const uint32_t *row, unsigned width)
{
        *to++ = 0;
        for (unsigned x = 0; x < width; x++, to += 3) {
                /* Four bytes at a time; the last one is overwritten by the next pixel. */
                uint32_t c = __builtin_bswap32(row[x]) >> 8;
                memcpy(to, &c, sizeof(c));
        }
}

size_t squeeze(struct squeezer *s, const uint32_t *pixels, unsigned width, unsigned height,
               size_t stride, uint8_t *out)
{
        size_t row_bytes = (size_t) width * 3 + 1;
        uint32_t sum = 1;
        if (row_bytes + 4 > s->row_size) {
                free(s->row);
                s->row_size = row_bytes + 4;
                s->row = xmalloc(s->row_size);
        }
        memset(s->head, 0, sizeof(s->head));
        s->out = out;
        put(s, 0x0178, 16); /* zlib: window of 32 KiB, fastest */
        flush(s);
        for (unsigned y = 0; y < height; y++) {
                squeeze_row(s, pixels, width, stride, y);
                pack_row(s->row, pixels + y * stride, width);
                sum = libdeflate_adler32(sum, s->row, row_bytes);
        }
        put_block(s, true);
        s->n_bits = (s->n_bits + 7) & ~7U;
        flush(s);
        sum = __builtin_bswap32(sum);
        memcpy(s->out, &sum, sizeof(sum));
        size_t n = (size_t) (s->out - out) + sizeof(sum);
        s->bits = s->n_bits = 0;
        return n;
}
