/* The files of one POST /upload on their way into a volume of docserverd: several uploads at once,
 * each followed by volume_add; at the end volume_commit.
 *
 * Files come one after the other: dataset_begin_file, dataset_write any number of times,
 * dataset_end_file. What waits for a descriptor or the disk is bounded by pausing the body
 * (`dataset_full`). No event comes from inside one of these calls. */
#pragma once

#include "gatewayd/gateway.h"

#define DATASET_FILES_MAX 1000u

struct dataset;
struct dataset_events {
        void (*room)(void *userdata);   /* it is not full; comes more often than needed */
        void (*failed)(void *userdata); /* see dataset_reply_error; only that and free are left */
        void (*done)(void *userdata);   /* after dataset_finish: the volume is whole */
        void *userdata;
};

/* Strings are copied. */
struct dataset *dataset_new(struct gateway *g, const char *tenant, const char *session_id,
                            const char *volume_name, const struct dataset_events *events) mustuse;
/* At any time. The volume is removed unless dataset_keep() was called. */
struct dataset *dataset_free(struct dataset *d);
void dataset_keep(struct dataset *d);

/* 0 or -ECANCELED: failed, as above, but there is no event. content_type may be NULL. */
int dataset_begin_file(struct dataset *d, const char *path, const char *content_type) mustuse;
int dataset_write(struct dataset *d, struct span data) mustuse;
int dataset_end_file(struct dataset *d) mustuse;
int dataset_finish(struct dataset *d) mustuse;

bool dataset_full(const struct dataset *d); /* true: pause the body until room() */
size_t dataset_count(const struct dataset *d);
/* The i-th file as session_create takes it; borrowed, valid after done(). */
void dataset_file(const struct dataset *d, size_t i, const char **ret_id, const char **ret_path);
void dataset_reply_error(const struct dataset *d, struct http_request *req);
