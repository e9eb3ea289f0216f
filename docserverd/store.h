/* Every SQL statement of docserverd. All calls are asynchronous: a negative result means that the
 * callback never comes; otherwise it comes once, on the loop. Strings given are copied, strings
 * handed to callbacks are borrowed.
 *
 * r in callbacks: 0; -ENOENT no such document; -EEXIST the idempotency key was used; -EOVERFLOW the
 * metadata would grow too large; -EUSERS the tenant's quota is used up; -ESTALE if_match does not
 * match; -ECONNRESET lost on the way, it may or may not have happened; -EAGAIN the database cannot
 * take it now; -EIO it refused for another reason (logged). */
#pragma once

#include "blobs.h"
#include "common/base/document.h"
#include "common/io/pg.h"

struct store_quota { /* 0 = any */
        uint64_t bytes_max, documents_max;
};
/* Last in a batch that adds something. */
void store_quota_check(struct pg_batch *b, const char *tenant, const struct store_quota *q);

struct store_document {
        const struct store_quota *quota;
        const char *id, *tenant, *filename, *content_type, *checksum;
        uint64_t size;
        const struct document_tags *tags;
        const char *metadata;                      /* JSON object */
        const char *session_id;                    /* NULL = none */
        const char *idempotency_key, *fingerprint; /* NULL = none */
};
struct store_bytes {
        const char *filename, *content_type, *checksum;
        uint64_t size, updated_at_us;
};
struct store_replace {
        const struct store_quota *quota;
        const char *tenant, *id, *checksum;
        uint64_t size;
        const char *content_type; /* NULL = stays */
        const char *if_match;     /* NULL = any */
};

/* A batch for one tenant: the database shows and takes that tenant's rows only, whatever the
 * statements forget. pg_batch_new() is for what serves all of them (sweeping). */
struct pg_batch *store_batch(const char *tenant) mustuse;
/* r of a callback for what the database said; logs what nobody expects. */
int store_failure(const char *what, int r, const struct pg_error *error);

typedef void (*store_json_fn)(void *userdata, int r, const char *json);
typedef void (*store_key_fn)(void *userdata, int r, const char *fingerprint, const char *json);
typedef void (*store_bytes_fn)(void *userdata, int r, const struct store_bytes *bytes);
typedef void (*store_names_fn)(void *userdata, int r, const struct blob_names *names);

int store_create(struct pg_pool *p, const struct store_document *d, store_json_fn fn,
                 void *userdata) mustuse;
/* Several of one tenant in one transaction, all or none; their keys are not looked at. r as above,
 * and -EREMOTEIO: the database refuses one of them, or their sum. */
#define STORE_CREATE_MAX 32
struct store_created {
        const char *id, *json;
};
typedef void (*store_created_fn)(void *userdata, int r, size_t n, const struct store_created *made);
int store_create_many(struct pg_pool *p, const struct store_document *const *d, size_t n,
                      store_created_fn fn, void *userdata) mustuse;
/* What a session left at `path` of its results: one document per path; other bytes are its next
 * version, the same change nothing. */
int store_keep_result(struct pg_pool *p, const struct store_document *d, const char *path,
                      store_json_fn fn, void *userdata) mustuse;
/* What the key has made. json is NULL when that document is gone. */
int store_find_key(struct pg_pool *p, const char *tenant, const char *key, store_key_fn fn,
                   void *userdata) mustuse;
int store_json(struct pg_pool *p, const char *tenant, const char *id, store_json_fn fn,
               void *userdata) mustuse;
/* version 0: the newest. */
int store_bytes(struct pg_pool *p, const char *tenant, const char *id, uint32_t version,
                store_bytes_fn fn, void *userdata) mustuse;
/* tags, filename NULL: they stay. metadata is merged at the top level, null removes a key. */
int store_patch(struct pg_pool *p, const char *tenant, const char *id,
                const struct document_tags *tags, const char *metadata, const char *filename,
                store_json_fn fn, void *userdata) mustuse;
/* ids: an array as text, {"..",..}. Gives {"updated":n,"missing":[ids]}. -E2BIG: a document would
 * have too many tags. */
int store_tag(struct pg_pool *p, const char *tenant, const char *ids,
              const struct document_tags *add, const struct document_tags *remove, store_json_fn fn,
              void *userdata) mustuse;
int store_replace(struct pg_pool *p, const struct store_replace *c, store_json_fn fn,
                  void *userdata) mustuse;
/* Relations are made while nobody deletes: key of an advisory lock, $1 = tenant. */
#define STORE_RELATION_LOCK "hashtextextended('docs.relation/' || $1::text, 0)"
/* Also every document below it. names: the blobs that their versions had. */
int store_delete(struct pg_pool *p, const char *tenant, const char *id, store_names_fn fn,
                 void *userdata) mustuse;
/* Which of the blobs no version names. */
int store_unreferenced(struct pg_pool *p, const struct blob_names *names, store_names_fn fn,
                       void *userdata) mustuse;
/* Removes idempotency keys older than a day or beyond the newest 100 000. */
int store_expire_keys(struct pg_pool *p) mustuse;
