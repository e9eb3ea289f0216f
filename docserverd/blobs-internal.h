/* Shared by blobs.c and blobs-walk.c only. */
#pragma once

#include "blobs.h"

struct blob_store {
        int dir;    /* the store */
        int tmp;    /* DIR/tmp */
        int lock;   /* DIR/lock, held by flock */
        bool named; /* the file system has no O_TMPFILE: temporary files need names */
};
