/* The manager of docserverd: owns the loop's sources, the links, the blob store and every table. */
#pragma once

#include "blobs.h"
#include "claims.h"
#include "common/io/changes.h"
#include "common/io/daemon.h"
#include "common/io/fdlink.h"
#include "common/io/jobs.h"
#include "common/io/pg.h"
#include "common/io/rpc.h"
#include "creates.h"

struct docserver_settings {
        char *database;
        char *database_passfile;
        uint64_t database_connections;
        char *socket;
        char *descriptor_socket;
        char *blob_dir;
        uint64_t upload_max;
        uint64_t uploads_open_max;
        uint64_t upload_lifetime; /* us */
        uint64_t orphan_age;      /* us */
        uint64_t sweep_interval;  /* us */
        char *search_language;
        uint64_t similarity_min; /* percent */
        uint64_t read_max, text_max, read_memory, read_attempts, asks_max;
        uint64_t read_time, hook_time, ask_time; /* us */
        char *pre_ingest_hook, *post_answer_hook;
        uint64_t volume_max;
        uint64_t volume_files_max;
        uint64_t volumes_keep; /* us */
        uint64_t recording_max;
        uint64_t recordings_keep; /* us */
        uint64_t exports_max, export_max;
        uint64_t export_time; /* us */
        char *blob_store;     /* "file" or "s3" */
        char *s3_endpoint, *s3_bucket, *s3_region, *s3_prefix, *s3_access_key, *s3_secret_key;
        char *s3_ca_file;
        uint64_t sync_threads, s3_connections, s3_part_size, blob_cache_max;
        uint64_t tenant_bytes_max, tenant_documents_max;
};
extern const struct setting docserver_settings_table[];
extern const size_t n_docserver_settings;

#define STORE_THREADS_MAX 32u

struct uploads;
struct sweep;
struct runners;
struct reading;
struct vectors;
struct report;
struct fetches;
struct lookups;
struct exports;

struct docserver {
        struct daemon *daemon;
        sd_event *event;
        const struct docserver_settings *settings;
        struct blob_store *blobs;
        struct jobs *jobs; /* NULL while the daemon ends: submitting then fails */
        /* Threads for what waits for the blob store: several, because file systems join syncs that
         * come at once, and because transfers to a remote store do not wait for each other. */
        struct jobs *store[STORE_THREADS_MAX];
        size_t n_store;
        struct fetches *fetches;
        struct changes *changes; /* of documents; gateways read it, too */
        struct lookups *lookups;
        struct pg_pool *pg; /* the same */
        struct creates *creates;
        struct claims *claims;
        struct uploads *uploads;
        struct sweep *sweep;
        struct rpc_link *link;
        struct fdlink_server *descriptors;
        size_t puts; /* uploads that are being turned into documents */
        size_t zips; /* volumes that are being packed */
        struct runners *runners;
        struct reading *reading;
        struct vectors *vectors;
        struct report *report;
        struct exports *exports;
        struct list hooks;                        /* hooks.c: those under way */
        char *pre_ingest_hook, *post_answer_hook; /* the settings' code, or NULL */
        size_t asks;                              /* questions that are being answered */
        struct list asking;                       /* route-ask.c: those a model answers */
};

int docserver_new(struct daemon *d, const struct docserver_settings *s,
                  struct docserver **ret) mustuse;
struct docserver *docserver_free(struct docserver *d);
DEFINE_CLEANUP(struct docserver, docserver_free)
#define cleanup_docserver CLEANUP(docserver_freep)

int docserver_submit(struct docserver *d,
                     struct job *j) mustuse; /* -EAGAIN full, -ECANCELED ending */
/* The same for jobs that publish in, send to, fetch from or list the blob store, wherever it is. */
int docserver_submit_store(struct docserver *d, struct job *j) mustuse;
/* Closes (and forgets) a file on the worker thread: freeing the blocks of a large one takes its
 * time. */
void docserver_drop_file(struct docserver *d, struct blob_file *f);

/* Handlers, one file per message family; the tables are in docserver.c. */
int route_upload_begin(void *userdata, struct fdlink_request *req, const void *msg);
int route_upload_drop(void *userdata, struct fdlink_request *req, const void *msg);
int route_document_open(void *userdata, struct fdlink_request *req, const void *msg);
int route_document_search(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                          const void *msg);
int route_document_ask(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                       const void *msg);
int route_job_delta(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                    const void *msg);
int route_model_test(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                     const void *msg);
int route_document_read_again(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                              const void *msg);
int route_document_text(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                        const void *msg);
int route_relation_add(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                       const void *msg);
int route_relation_remove(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                          const void *msg);
int route_documents_tag(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                        const void *msg);
int route_volume_open(void *userdata, struct fdlink_request *req, const void *msg);
int route_changes_open(void *userdata, struct fdlink_request *req, const void *msg);
int route_volume_add(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                     const void *msg);
int route_volume_commit(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                        const void *msg);
int route_recording_add(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                        const void *msg);
int route_recording_drop(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                         const void *msg);
int route_volume_drop(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                      const void *msg);
int route_document_create(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                          const void *msg);
int route_document_replace(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                           const void *msg);
int route_document_edit(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                        const void *msg);
int route_document_patch(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                         const void *msg);
int route_document_query(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                         const void *msg);
int route_document_show(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                        const void *msg);
int route_document_delete(void *userdata, struct rpc_peer *peer, struct rpc_request *req,
                          const void *msg);

/* Makes the file the next version of the document if its newest one has the checksum if_match, and
 * answers the request. Takes the file over; nobody may have it open for writing but the caller. */
void docserver_put_version(struct docserver *d, struct rpc_request *req, const char *tenant,
                           const char *id, const char *if_match, struct blob_file *file,
                           uint64_t size);
/* Ends what changes_begin has begun; r is how the store call ended. */
void docserver_changed(struct docserver *d, unsigned slot, int r);
/* Answers a request whose store call ended with r < 0. */
void docserver_reply_failure(struct rpc_request *req, int r);
