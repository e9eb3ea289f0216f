/* How the generated tables describe one field of a struct; read by wire.c and the tests only. */
#pragma once

#include "wire.h"

enum wire_kind {
        WIRE_STR,
        WIRE_TEXT,
        WIRE_BIN,
        WIRE_U32,
        WIRE_U64,
        WIRE_I64,
        WIRE_F64,
        WIRE_BOOL,
        WIRE_ENUM,
        WIRE_STRUCT,
        WIRE_KIND_MAX
};

#define WIRE_NO_OFFSET UINT32_MAX

struct wire_field {
        const char *name;
        enum wire_kind kind;
        bool list;
        bool optional;
        uint32_t offset;               /* of the value, or of the pointer to a list's items */
        uint32_t offset_n;             /* of a list's size_t count */
        uint32_t offset_has;           /* of the bool that says an optional scalar is there */
        uint32_t list_max;             /* items */
        uint32_t max;                  /* bytes of a str, text or bin; count of an enum's values */
        const struct wire_struct *sub; /* of kind WIRE_STRUCT */
};

/* Every message, sorted by id. */
extern const struct wire_msg *const wire_messages[];
extern const size_t wire_n_messages;

/* Bytes that one value (or one list item) of the field takes in the C struct. */
static inline size_t wire_kind_size(const struct wire_field *f)
{
        switch (f->kind) {
        case WIRE_STR:
                return sizeof(const char *);
        case WIRE_TEXT:
        case WIRE_BIN:
                return sizeof(struct span);
        case WIRE_U32:
        case WIRE_ENUM:
                return sizeof(uint32_t);
        case WIRE_U64:
        case WIRE_I64:
        case WIRE_F64:
                return sizeof(uint64_t);
        case WIRE_BOOL:
                return sizeof(bool);
        case WIRE_STRUCT:
                return f->sub->size;
        case WIRE_KIND_MAX:
                break;
        }
        return 0;
}
