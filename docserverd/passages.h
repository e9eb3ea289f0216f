/* Cuts text into passages: what a search finds and a model is shown. Pure. */
#pragma once

#include "common/base/util.h"

#define PASSAGE_BYTES 1200u     /* about a paragraph: the goal */
#define PASSAGE_BYTES_MAX 2000u /* never more */

struct passage {
        const char *text; /* borrowed of the text that was cut */
        size_t len;
        unsigned page; /* counts from 1; 0 = the text has no pages */
};
struct passages {
        struct passage *list;
        size_t n;
};
#define PASSAGES_INIT ((struct passages){ 0 })
void passages_done(struct passages *p);
#define cleanup_passages CLEANUP(passages_done)

/* What is no text becomes a space, in place: control characters but line ends and form feeds, NUL,
 * and bytes that are not UTF-8 ('?'). Returns the length, which never grows. */
size_t passages_clean(char *text, size_t n);

/* A form feed ends a page. No word is cut unless it is longer than a passage; no character ever. */
void passages_cut(const char *text, size_t n, struct passages *ret);
