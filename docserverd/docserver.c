/* Builds docserverd's manager: settings, routes, the links, and the order in which all of it ends.
 */
#include "docserver.h"

#include <signal.h>
#include <sys/resource.h>

#include "common/io/log.h"
#include "exports.h"
#include "fetches.h"
#include "lookups.h"
#include "hooks.h"
#include "proto/messages.h"
#include "reading.h"
#include "report.h"
#include "runners.h"
#include "s3.h"
#include "sweep.h"
#include "uploads.h"
#include "vectors.h"

#define JOBS_MAX 4096u
#define SOCKET_MODE 0660 /* the folder decides who gets that far */

#define SETTING(member, kind_, ...)                                                                \
        {                                                                                          \
                .name = #member, .kind = (kind_),                                                  \
                .offset = offsetof(struct docserver_settings, member), __VA_ARGS__                 \
        }

const struct setting docserver_settings_table[] = {
        SETTING(database, SETTING_STRING,
                .help = "Connection to PostgreSQL in libpq's keywords, without a password."),
        SETTING(database_passfile, SETTING_PATH, .fallback = "",
                .help = "File with the password, in libpq's passfile format."),
        SETTING(database_connections, SETTING_INT, .fallback = "4", .min = "1", .max = "64",
                .help = "Connections to PostgreSQL."),
        SETTING(socket, SETTING_PATH, .fallback = "/run/berth/documents/docs.sock",
                .help = "Socket for requests."),
        SETTING(descriptor_socket, SETTING_PATH, .fallback = "/run/berth/documents/docs-fd.sock",
                .help = "Socket that hands out descriptors of documents and uploads."),
        SETTING(blob_dir, SETTING_PATH, .fallback = "/var/lib/berth/blobs",
                .help = "Folder for the documents' bytes."),
        SETTING(sync_threads, SETTING_INT, .fallback = "8", .min = "1", .max = "32",
                .help = "Documents that are synced to the disk at once; a file system does many "
                        "such syncs in about the time of one."),
        SETTING(upload_max, SETTING_SIZE, .fallback = "5G", .min = "1K", .max = "1024T",
                .help = "Largest document."),
        SETTING(uploads_open_max, SETTING_INT, .fallback = "256", .min = "1", .max = "100000",
                .help = "Uploads that may be on their way at once."),
        SETTING(upload_lifetime, SETTING_DURATION, .fallback = "1h", .min = "1s", .max = "7d",
                .help = "An upload that is not finished by then is dropped."),
        SETTING(orphan_age, SETTING_DURATION, .fallback = "1h", .min = "0", .max = "30d",
                .help = "Bytes that belong to no document are removed when they are older than "
                        "this."),
        SETTING(sweep_interval, SETTING_DURATION, .fallback = "10min", .min = "50ms", .max = "7d",
                .help = "Time between two searches for such bytes."),
        SETTING(search_language, SETTING_STRING, .fallback = "english",
                .help = "Text search configuration of PostgreSQL that words are stemmed by; exact "
                        "words are found in any language. A change indexes all anew."),
        SETTING(similarity_min, SETTING_INT, .fallback = "30", .min = "0", .max = "100",
                .help = "Cosine similarity in percent from which on a vector counts as alike."),
        SETTING(read_max, SETTING_SIZE, .fallback = "128M", .min = "1K", .max = "2G",
                .help = "Largest document whose text is read."),
        SETTING(text_max, SETTING_SIZE, .fallback = "2M", .min = "1K", .max = "8M",
                .help = "Text of one document that can be searched; the rest is left out."),
        SETTING(read_time, SETTING_DURATION, .fallback = "60s", .min = "1s", .max = "10min",
                .help = "Time to read one document in a slot."),
        SETTING(read_memory, SETTING_SIZE, .fallback = "1G", .min = "128M", .max = "64G",
                .help = "Memory of each process that reads a document or is a hook."),
        SETTING(read_attempts, SETTING_INT, .fallback = "3", .min = "1", .max = "20",
                .help = "How often a document is read when workers are lost meanwhile."),
        SETTING(pre_ingest_hook, SETTING_PATH, .fallback = "",
                .help = "File with code that sees each document's text before it is stored; empty: "
                        "none. metadata.preIngestHook of a document names another."),
        SETTING(post_answer_hook, SETTING_PATH, .fallback = "",
                .help = "File with code that sees each answer of POST /documents/ask; empty: "
                        "none."),
        SETTING(hook_time, SETTING_DURATION, .fallback = "10s", .min = "100ms", .max = "2min",
                .help = "Time of one run of a hook."),
        SETTING(ask_time, SETTING_DURATION, .fallback = "60s", .min = "1s", .max = "3min",
                .help = "Time of the model for one answer."),
        SETTING(asks_max, SETTING_INT, .fallback = "32", .min = "1", .max = "1000",
                .help = "Questions that are answered at once."),
        SETTING(volume_max, SETTING_SIZE, .fallback = "20G", .min = "1K", .max = "1024T",
                .help = "Largest volume: all files of one upload together."),
        SETTING(volume_files_max, SETTING_INT, .fallback = "1000", .min = "1", .max = "1000",
                .help = "Most files of a volume."),
        SETTING(volumes_keep, SETTING_DURATION, .fallback = "30d", .min = "1s", .max = "3650d",
                .help = "Volumes are removed when they are older than this."),
        SETTING(recording_max, SETTING_SIZE, .fallback = "256M", .min = "1M", .max = "1024T",
                .help = "Largest recording of a session; beyond it the oldest pieces go."),
        SETTING(recordings_keep, SETTING_DURATION, .fallback = "30d", .min = "1s", .max = "3650d",
                .help = "Recordings are removed when they are older than this."),
        SETTING(exports_max, SETTING_INT, .fallback = "8", .min = "1", .max = "1000",
                .help = "Videos of recordings that a tenant may have under way."),
        SETTING(export_max, SETTING_SIZE, .fallback = "128M", .min = "1M", .max = "1G",
                .help = "Largest video of a recording; slot_home_bytes of the workers that serve "
                        "jobs must leave room for it."),
        SETTING(export_time, SETTING_DURATION, .fallback = "15min", .min = "10s", .max = "1d",
                .help = "Time to make one video."),
        SETTING(blob_store, SETTING_STRING, .fallback = "file",
                .help = "Where the documents' bytes are kept: file (in blob_dir) or s3 (an "
                        "S3-compatible object store; blob_dir is then a cache)."),
        SETTING(s3_endpoint, SETTING_STRING, .fallback = "",
                .help = "Address of the object store, such as https://s3.example.org."),
        SETTING(s3_bucket, SETTING_STRING, .fallback = "", .help = "Bucket; it must be there."),
        SETTING(s3_region, SETTING_STRING, .fallback = "us-east-1",
                .help = "Region that requests are signed for."),
        SETTING(s3_prefix, SETTING_STRING, .fallback = "",
                .help = "What the names of our objects begin with, to share a bucket."),
        SETTING(s3_access_key, SETTING_STRING, .fallback = "", .help = "Name of the access key."),
        SETTING(s3_secret_key, SETTING_SECRET, .fallback = "",
                .help = "File or systemd credential with the secret access key."),
        SETTING(s3_ca_file, SETTING_PATH, .fallback = "",
                .help = "Authorities to trust for the object store, PEM; the system's when empty."),
        SETTING(s3_connections, SETTING_INT, .fallback = "4", .min = "1", .max = "16",
                .help = "Transfers from and to the object store at once."),
        SETTING(s3_part_size, SETTING_SIZE, .fallback = "16M", .min = "5M", .max = "1G",
                .help = "Larger documents are sent and fetched in parts of this size."),
        SETTING(blob_cache_max, SETTING_SIZE, .fallback = "20G", .min = "0", .max = "1024T",
                .help = "Room for copies of what is in the object store; what was not read for "
                        "longest goes first."),
        SETTING(tenant_bytes_max, SETTING_SIZE, .fallback = "0", .min = "0", .max = "1024T",
                .help = "Bytes that a tenant may keep, versions and volumes included; 0 = any. The "
                        "table docs.quota may say otherwise for a tenant."),
        SETTING(tenant_documents_max, SETTING_INT, .fallback = "0", .min = "0", .max = "1000000000",
                .help = "Documents that a tenant may keep; 0 = any number."),
};
const size_t n_docserver_settings = ARRAY_LEN(docserver_settings_table);

static const struct rpc_route routes[] = {
        { &wire_document_create, route_document_create },
        { &wire_document_replace, route_document_replace },
        { &wire_document_patch, route_document_patch },
        { &wire_document_edit, route_document_edit },
        { &wire_document_delete, route_document_delete },
        { &wire_document_query, route_document_query },
        { &wire_document_show, route_document_show },
        { &wire_documents_tag, route_documents_tag },
        { &wire_document_search, route_document_search },
        { &wire_document_ask, route_document_ask },
        { &wire_job_test, route_model_test },
        { &wire_document_read_again, route_document_read_again },
        { &wire_document_text, route_document_text },
        { &wire_job_hello, route_job_hello },
        { &wire_job_delta, route_job_delta },
        { &wire_relation_add, route_relation_add },
        { &wire_relation_remove, route_relation_remove },
        { &wire_volume_add, route_volume_add },
        { &wire_volume_commit, route_volume_commit },
        { &wire_volume_drop, route_volume_drop },
        { &wire_recording_add, route_recording_add },
        { &wire_recording_drop, route_recording_drop },
        { &wire_recording_export, route_recording_export },
        { &wire_recording_export_cancel, route_recording_export_cancel },
        { &wire_job_progress, route_job_progress },
};

static const struct fdlink_route descriptor_routes[] = {
        { &wire_upload_begin, route_upload_begin },   { &wire_upload_drop, route_upload_drop },
        { &wire_document_open, route_document_open }, { &wire_volume_open, route_volume_open },
        { &wire_changes_open, route_changes_open },
};

/* ---- files that are not wanted any more ---- */

struct drop {
        struct job job;
        struct blob_store *blobs;
        struct blob_file file;
};

static int drop_run(struct job *j)
{
        struct drop *d = container_of(j, struct drop, job);
        blob_file_done(d->blobs, &d->file);
        return 0;
}

static void drop_done(struct job *j, int r)
{
        struct drop *d = container_of(j, struct drop, job);
        blob_file_done(d->blobs, &d->file);
        free(d);
}

int docserver_submit(struct docserver *d, struct job *j)
{
        return d->jobs ? jobs_submit(d->jobs, j) : -ECANCELED;
}

int docserver_submit_store(struct docserver *d, struct job *j)
{
        size_t least = 0;
        if (!d->jobs)
                return -ECANCELED; /* the threads are going, one after the other */
        for (size_t i = 1; i < d->n_store; i++)
                if (jobs_count(d->store[i]) < jobs_count(d->store[least]))
                        least = i;
        return jobs_submit(d->store[least], j);
}

void docserver_drop_file(struct docserver *d, struct blob_file *f)
{
        if (f->fd < 0)
                return;
        struct drop *drop = xnew(struct drop);
        drop->job = (struct job){ .run = drop_run, .done = drop_done };
        drop->blobs = d->blobs;
        drop->file = *f;
        *f = BLOB_FILE_INIT;
        if (docserver_submit(d, &drop->job) < 0)
                drop_done(&drop->job, 0);
}

void docserver_changed(struct docserver *d, unsigned slot, int r)
{
        bool certain = r != -ECONNRESET && r != -EAGAIN && r != -ECANCELED;
        changes_end(d->changes, slot, certain, now_monotonic());
}

static void on_drop(void *userdata, struct blob_file *f)
{
        docserver_drop_file(userdata, f);
}

static void on_descriptors_end(void *userdata, uint64_t connection)
{
        struct docserver *d = userdata;
        uploads_drop_connection(d->uploads, connection);
}

/* ---- start and end ---- */

static void on_database(void *userdata, bool up)
{
        log_at(up ? LOG_INFO : LOG_WARNING, "Database is %s", up ? "reachable" : "gone");
}

/* Each open upload is a descriptor. */
static void raise_descriptors(void)
{
        struct rlimit limit;
        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return;
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                log_errno(LOG_WARNING, errno, "Raising the limit of open files failed");
}

static int open_links(struct docserver *d)
{
        cleanup_free char *endpoint = xasprintf("ipc://%s", d->settings->socket);
        struct rpc_config rpc = {
                .event = d->event,
                .zmq = d->daemon->zmq,
                .endpoint = endpoint,
                .mode = SOCKET_MODE,
                .otlp = d->daemon->otlp,
                .routes = routes,
                .n_routes = ARRAY_LEN(routes),
                .on_peer = runners_on_peer,
                .userdata = d,
        };
        int r = rpc_server_new(&rpc, &d->link);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Listening on %s failed", d->settings->socket);
        struct fdlink_server_config descriptors = {
                .event = d->event,
                .path = d->settings->descriptor_socket,
                .mode = SOCKET_MODE,
                .any_uid = true,
                .routes = descriptor_routes,
                .n_routes = ARRAY_LEN(descriptor_routes),
                .on_end = on_descriptors_end,
                .userdata = d,
        };
        r = fdlink_server_new(&descriptors, &d->descriptors);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Listening on %s failed",
                                 d->settings->descriptor_socket);
        return 0;
}

/* Nothing is asked of the object store yet: one that is away does not keep us from starting. */
static int open_remote(struct docserver *d)
{
        const struct docserver_settings *s = d->settings;
        cleanup_free char *error = NULL;
        const struct s3_config config = {
                .endpoint = s->s3_endpoint,
                .bucket = s->s3_bucket,
                .region = s->s3_region,
                .access_key = s->s3_access_key,
                .secret_key = s->s3_secret_key,
                .ca_file = s->s3_ca_file,
        };
        struct s3 *s3;
        int r = s3_new(&config, &s3, &error);
        if (r < 0) {
                log_error("%s", error);
                return r;
        }
        blob_store_use_s3(d->blobs, s3, s->s3_prefix, s->s3_part_size, s->orphan_age / 2);
        return 0;
}

static int start_store_threads(struct docserver *d)
{
        const struct docserver_settings *s = d->settings;
        uint64_t n = blob_store_is_remote(d->blobs) ? s->s3_connections : s->sync_threads;
        for (; d->n_store < n; d->n_store++) {
                int r = jobs_new(d->event, JOBS_MAX, &d->store[d->n_store]);
                if (r < 0)
                        return log_errno(LOG_ERR, r, "Starting a thread for the store failed");
        }
        return 0;
}

static int open_blobs(struct docserver *d)
{
        const char *kind = d->settings->blob_store;
        cleanup_free char *error = NULL;
        bool s3 = streq(kind, "s3");
        if (!s3 && !streq(kind, "file")) {
                log_error("blob_store must be file or s3, not %s", kind);
                return -EINVAL;
        }
        int r = blob_store_open(d->settings->blob_dir, &d->blobs, &error);
        if (r < 0) {
                log_error("%s", error);
                return r;
        }
        d->fetches = fetches_new(d);
        r = changes_new(&d->changes);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Making the memory for changes failed");
        d->lookups = lookups_new(d->changes);
        r = s3 ? open_remote(d) : 0;
        return r < 0 ? r : start_store_threads(d);
}

static int open_store(struct docserver *d)
{
        int r = open_blobs(d);
        if (r < 0)
                return r;
        struct pg_config pg = {
                .conninfo = d->settings->database,
                .passfile = strempty(d->settings->database_passfile)
                                    ? NULL
                                    : d->settings->database_passfile,
                .application = "docserverd",
                .connections = (unsigned) d->settings->database_connections,
                .queue_timeout_usec =
                        USEC_PER_SEC, /* the asker has been waiting at the gateway, too */
                .statement_timeout_usec = 1500 * USEC_PER_MSEC,
                .silence_usec = 1700 * USEC_PER_MSEC, /* so that the asker hears within 2 s */
                .on_state = on_database,
                .userdata = d,
        };
        r = pg_pool_new(d->event, &pg, &d->pg);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Setting up the database connections failed");
        r = creates_new(d->event, &d->pg, &d->creates);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Setting up the queue of new documents failed");
        r = jobs_new(d->event, JOBS_MAX, &d->jobs);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Starting the worker thread failed");
        return 0;
}

static int open_search(struct docserver *d)
{
        int r = hook_load("pre_ingest_hook", d->settings->pre_ingest_hook, &d->pre_ingest_hook);
        if (r == 0)
                r = hook_load("post_answer_hook", d->settings->post_answer_hook,
                              &d->post_answer_hook);
        if (r < 0)
                return r;
        d->runners = runners_new(d);
        d->vectors = vectors_new(d);
        d->reading = reading_new(d);
        d->report = report_new(d);
        d->exports = exports_new(d);
        return d->runners && d->vectors && d->reading && d->report && d->exports ? 0 : -ENOMEM;
}

int docserver_new(struct daemon *daemon, const struct docserver_settings *s, struct docserver **ret)
{
        cleanup_docserver struct docserver *d = xnew(struct docserver);
        d->daemon = daemon;
        d->event = daemon->event;
        d->settings = s;
        list_init(&d->hooks);
        list_init(&d->asking);
        raise_descriptors();
        (void) signal(SIGIO, SIG_IGN); /* somebody broke the lease of a sealed upload */

        int r = open_store(d);
        if (r < 0)
                return r;
        d->claims = claims_new();
        d->uploads = uploads_new(s->uploads_open_max, on_drop, d);
        r = sweep_new(d, &d->sweep);
        if (r < 0)
                return r;
        r = open_search(d);
        if (r < 0)
                return r;
        r = open_links(d);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(d);
        return 0;
}

/* First what still calls back and answers, then what it answers on, then the tables. */
struct docserver *docserver_free(struct docserver *d)
{
        if (!d)
                return NULL;
        if (d->blobs)
                blob_store_stop(d->blobs);
        jobs_free(TAKE_PTR(d->jobs));
        for (size_t i = 0; i < d->n_store; i++)
                jobs_free(d->store[i]);
        pg_pool_free(TAKE_PTR(d->pg));
        creates_free(TAKE_PTR(d->creates));
        runners_end(d->runners);
        hooks_end(d);
        fdlink_server_free(d->descriptors);
        rpc_link_free(d->link);
        reading_free(d->reading);
        vectors_free(d->vectors);
        report_free(d->report);
        exports_free(d->exports);
        runners_free(d->runners);
        free(d->pre_ingest_hook);
        free(d->post_answer_hook);
        sweep_free(d->sweep);
        uploads_free(d->uploads);
        fetches_free(d->fetches);
        lookups_free(d->lookups);
        changes_free(d->changes);
        claims_free(d->claims);
        blob_store_free(d->blobs);
        free(d);
        return NULL;
}
