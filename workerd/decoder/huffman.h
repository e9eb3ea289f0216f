/* Prefix codes as deflate wants them. Pure. */
#pragma once

#include "common/base/util.h"

#define HUFFMAN_SYMBOLS_MAX 288

struct huffman {
        uint8_t length[HUFFMAN_SYMBOLS_MAX]; /* 0 = not used */
        uint16_t code[HUFFMAN_SYMBOLS_MAX];  /* bits in the order in which they are sent */
};

/* The shortest codes of at most `longest` bits for n symbols with these counts, 2^longest >= n.
 * When fewer than two are used, codes for symbols 0 or 1 are added, so that the code is complete.
 */
void huffman_build(const uint32_t *counts, unsigned n, unsigned longest, struct huffman *ret);
