/* The reader under wire.c: one head of a msgpack value at a time, always inside the given bytes. */
#pragma once

#include "proto/wire.h"

enum token_kind {
        TOKEN_NIL,
        TOKEN_BOOL,
        TOKEN_UINT,
        TOKEN_INT,
        TOKEN_FLOAT,
        TOKEN_STR,
        TOKEN_BIN,
        TOKEN_ARRAY,
        TOKEN_MAP
};

struct token {
        enum token_kind kind;
        uint64_t u;    /* UINT, BOOL; elements of ARRAY, keys and values of MAP */
        int64_t i;     /* INT: always negative */
        double d;      /* FLOAT */
        struct span s; /* STR, BIN: borrowed */
};

/* Takes one head (and a string's bytes) off the front of *in. -EBADMSG: cut off, an ext type, or a
 * container that announces more elements than there are bytes left. */
int wire_take(struct span *in, struct token *ret) mustuse;

/* Takes one whole value off the front, containers nested at most depth_max (<= WIRE_DEPTH_MAX)
 * deep. */
int wire_skip(struct span *in, unsigned depth_max) mustuse;
