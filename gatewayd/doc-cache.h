/* Documents that were just read: what a GET of the newest version answers with, and the bytes of
 * small ones, so that a document that many read costs no call to docserverd.
 *
 * Never stale: docserverd tells of a change in shared memory before it makes it
 * (common/io/changes.h), so once a DELETE or a new version is answered, by whichever gateway, an
 * entry does not hold any more. Without that memory, or when the link to docserverd is lost,
 * nothing is kept. An entry lives for a second in any case. Keys hold the tenant; who may read was
 * checked before. */
#pragma once

#include "common/base/buf.h"
#include "proto/messages.h"

struct gateway;
struct doc_cache;

struct doc_entry {
        struct document_opened meta;        /* its strings are the entry's */
        struct span body;                   /* data NULL: not kept */
        struct span validators, describing; /* header lines, see document_lines */
};

/* Header lines of a document's answers: what every answer has, and what describes bytes. */
struct document_lines {
        struct buf text;
        size_t validators; /* so long are the former */
};

#define DOC_CACHE_BODY_MAX (64 * KIB)

/* bytes_max: of bodies and names together; 0 = keep nothing. */
struct doc_cache *doc_cache_new(struct gateway *g, uint64_t bytes_max);
struct doc_cache *doc_cache_free(struct doc_cache *c);

/* NULL: not known. Borrowed until the next call. */
const struct doc_entry *doc_cache_find(struct doc_cache *c, const char *tenant, const char *id);
/* Before docserverd is asked; 0 = the answer cannot be kept. */
uint64_t doc_cache_stamp(struct doc_cache *c, const char *tenant, const char *id);
/* Keeps the answer if the stamp holds, and a small body when it is read without waiting for the
 * disk. fd stays the caller's, lines are copied. */
void doc_cache_keep(struct doc_cache *c, uint64_t stamp, const char *tenant, const char *id,
                    const struct document_opened *m, const struct document_lines *lines, int fd);
