/* Builds length-limited prefix codes: the two-queue method, then repair of what is too long. */
#include "huffman.h"

#define LONGEST 15

struct leaf {
        uint32_t count;
        uint16_t symbol;
};

static int by_count(const void *a, const void *b)
{
        const struct leaf *x = a, *y = b;
        if (x->count != y->count)
                return x->count < y->count ? -1 : 1;
        return (int) x->symbol - (int) y->symbol;
}

static unsigned collect(const uint32_t *counts, unsigned n, struct leaf *leaves)
{
        unsigned used = 0;
        for (unsigned i = 0; i < n; i++)
                if (counts[i] > 0)
                        leaves[used++] = (struct leaf){ counts[i], (uint16_t) i };
        for (unsigned i = 0; used < 2; i++)
                if (counts[i] == 0)
                        leaves[used++] = (struct leaf){ 1, (uint16_t) i };
        qsort(leaves, used, sizeof(*leaves), by_count);
        return used;
}

/* How many codes have which length; leaves are sorted by count. */
static void count_lengths(const struct leaf *leaves, unsigned n, unsigned longest,
                          unsigned *of_length)
{
        /* Nodes 0..n-1 are the leaves, the others are made by joining the two lightest. */
        uint64_t weight[2 * HUFFMAN_SYMBOLS_MAX] = { 0 };
        uint16_t parent[2 * HUFFMAN_SYMBOLS_MAX], depth[2 * HUFFMAN_SYMBOLS_MAX];
        unsigned leaf = 0, inner = n, made = n;
        for (unsigned i = 0; i < n; i++)
                weight[i] = leaves[i].count;
        for (; made < 2 * n - 1; made++) {
                weight[made] = 0;
                for (int k = 0; k < 2; k++) {
                        unsigned least =
                                leaf < n && (inner >= made || weight[leaf] <= weight[inner])
                                        ? leaf++
                                        : inner++;
                        weight[made] += weight[least];
                        parent[least] = (uint16_t) made;
                }
        }
        depth[made - 1] = 0;
        for (unsigned i = made - 1; i-- > 0;) {
                depth[i] = (uint16_t) (depth[parent[i]] + 1);
                if (i < n)
                        of_length[MIN((unsigned) depth[i], longest)]++;
        }
}

/* Codes cut to `longest` take more room than there is: longer ones of the shorter make it. */
static void repair(unsigned *of_length, unsigned longest)
{
        uint64_t room = 0;
        for (unsigned i = 1; i <= longest; i++)
                room += (uint64_t) of_length[i] << (longest - i);
        for (; room > 1ULL << longest; room--) {
                unsigned i = longest - 1;
                while (of_length[i] == 0)
                        i--;
                of_length[longest]--;
                of_length[i]--;
                of_length[i + 1] += 2;
        }
}

static uint16_t reversed(unsigned code, unsigned n)
{
        unsigned r = 0;
        for (; n > 0; n--, code >>= 1)
                r = r << 1 | (code & 1);
        return (uint16_t) r;
}

void huffman_build(const uint32_t *counts, unsigned n, unsigned longest, struct huffman *ret)
{
        struct leaf leaves[HUFFMAN_SYMBOLS_MAX];
        unsigned of_length[LONGEST + 2] = { 0 }, next[LONGEST + 2] = { 0 };
        unsigned used = collect(counts, n, leaves);
        count_lengths(leaves, used, longest, of_length);
        repair(of_length, longest);
        memset(ret, 0, sizeof(*ret));
        unsigned at = 0;
        for (unsigned length = longest; length > 0; length--)
                for (unsigned k = 0; k < of_length[length]; k++)
                        ret->length[leaves[at++].symbol] = (uint8_t) length;
        for (unsigned length = 1, code = 0; length <= longest; length++) {
                code = (code + of_length[length - 1]) << 1;
                next[length] = code;
        }
        for (unsigned i = 0; i < n; i++)
                if (ret->length[i] > 0)
                        ret->code[i] = reversed(next[ret->length[i]]++, ret->length[i]);
}
