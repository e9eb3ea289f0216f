/* Client of docserverd: uploads by descriptor and opens documents. */
#include "documents.h"

#include <sys/sendfile.h>
#include <unistd.h>

#include "common/base/list.h"
#include "common/io/fdlink.h"
#include "common/io/rpc.h"

#define CALL_USEC (10 * USEC_PER_SEC)
#define STORE_RATE (8 * MIB) /* bytes a second that docserverd is sure to store */
#define OPERATIONS_MAX 32
#define PIECE (512 * KIB)

struct documents {
        sd_event *event;
        struct rpc_link *rpc;
        struct fdlink_client *fds;
        struct list operations;
        size_t n;
};

struct operation {
        struct documents *documents;
        struct list link;
        document_stored_fn on_stored;
        document_opened_fn on_opened;
        documents_json_fn on_json;
        enum { ASKED_QUERY, ASKED_SEARCH, ASKED_SHOW } asked;
        void *userdata;
        char *tenant, *session_id, *filename, *metadata, *upload_id, *document_id, *path, *key;
        char **tags;
        size_t n_tags;
        int from, to;
        uint64_t size, copied;
        sd_event_source *copying;
        bool records;
        struct document_recording recording;
        struct trace_context trace; /* in whose scope it began; may be unset */
};

static void operation_free(struct operation *o)
{
        list_remove(&o->link);
        o->documents->n--;
        rpc_cancel(o->documents->rpc, o);
        fdlink_cancel(o->documents->fds, o);
        sd_event_source_disable_unref(o->copying);
        fd_close(o->from);
        fd_close(o->to);
        for (size_t i = 0; i < o->n_tags; i++)
                free(o->tags[i]);
        free(o->tags);
        free(o->tenant);
        free(o->session_id);
        free(o->filename);
        free(o->metadata);
        free(o->upload_id);
        free(o->document_id);
        free(o->path);
        free(o->key);
        free(o);
}

static void operation_fail(struct operation *o, int r, const void *reply)
{
        const struct error_reply *error = r == -EREMOTEIO ? reply : NULL;
        cleanup_free char *why =
                error ? xstrdup(error->message)
                      : xasprintf("The document store does not answer (%s).", strerror(-r));
        document_stored_fn on_stored = o->on_stored;
        document_opened_fn on_opened = o->on_opened;
        documents_json_fn on_json = o->on_json;
        void *userdata = o->userdata;

        operation_free(o);
        if (on_json)
                on_json(userdata, r, (struct span){ 0 }, false, why);
        else if (on_stored)
                on_stored(userdata, r, (struct span){ 0 }, why);
        else
                on_opened(userdata, r, -1, 0, why);
}

static int operation_new(struct documents *d, void *userdata, struct operation **ret)
{
        struct operation *o;

        if (d->n >= OPERATIONS_MAX)
                return -EAGAIN;
        o = xnew(struct operation);
        o->documents = d;
        o->userdata = userdata;
        o->from = o->to = -1;
        if (trace_current())
                o->trace = *trace_current();
        list_push_back(&d->operations, &o->link);
        d->n++;
        *ret = o;
        return 0;
}

static void on_created(void *userdata, int r, const void *reply)
{
        struct operation *o = userdata;
        const struct document_reply *document = reply;
        document_stored_fn fn = o->on_stored;
        void *who = o->userdata;

        if (r < 0) {
                operation_fail(o, r, reply);
                return;
        }
        operation_free(o);
        fn(who, 0, document->document_json, NULL);
}

static void on_recorded(void *userdata, int r, const void *reply)
{
        struct operation *o = userdata;
        document_stored_fn fn = o->on_stored;
        void *who = o->userdata;

        if (r < 0) {
                operation_fail(o, r, reply);
                return;
        }
        operation_free(o);
        fn(who, 0, (struct span){ 0 }, NULL);
}

static void record(struct operation *o)
{
        const struct document_recording *p = &o->recording;
        struct recording_add m = { .tenant = o->tenant,
                                   .session_id = o->session_id,
                                   .upload_id = o->upload_id,
                                   .size_bytes = o->size,
                                   .epoch = p->epoch,
                                   .piece = p->piece,
                                   .started_us = p->started_us,
                                   .ended_us = p->ended_us,
                                   .first_seq = p->first_seq,
                                   .last_seq = p->last_seq,
                                   .width = p->width,
                                   .height = p->height,
                                   .frames = p->frames };
        int r = rpc_call(rpc_client_peer(o->documents->rpc), &wire_recording_add, &m, CALL_USEC,
                         on_recorded, o);

        if (r < 0)
                operation_fail(o, r, NULL);
}

static void create(struct operation *o)
{
        struct document_create message = {
                .tenant = o->tenant,
                .upload_id = o->upload_id,
                .size_bytes = o->size,
                .filename = o->filename,
                .tags = (const char **) o->tags,
                .n_tags = o->n_tags,
                .metadata = span_of(o->metadata),
                .session_id = o->session_id,
                .result_path = o->path,
                .idempotency_key = o->key,
        };
        TRACE_SCOPE(&o->trace);
        int r = rpc_call(rpc_client_peer(o->documents->rpc), &wire_document_create, &message,
                         CALL_USEC, on_created, o);

        if (r < 0)
                operation_fail(o, r, NULL);
}

/* One piece per turn of the loop: a large file must not hold up the others. */
static int copy_piece(sd_event_source *source, void *userdata)
{
        struct operation *o = userdata;
        ssize_t n = sendfile(o->to, o->from, NULL, PIECE);

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (n < 0) {
                operation_fail(o, -errno, NULL);
                return 0;
        }
        o->copied += (uint64_t) n;
        if (n > 0 && o->copied < o->size)
                return 0;
        o->copying = sd_event_source_disable_unref(o->copying);
        o->size = o->copied;
        o->to = fd_close(o->to); /* the store takes only what nobody can write to any more */
        if (o->records)
                record(o);
        else
                create(o);
        return 0;
}

static void on_begun(void *userdata, int r, const void *reply, int fd)
{
        struct operation *o = userdata;
        const struct upload_begun *begun = reply;

        if (r == 0 && fd < 0)
                r = -EPROTO;
        if (r == 0 && o->size > begun->size_max) {
                fd_close(fd);
                r = -EFBIG;
        }
        if (r < 0) {
                operation_fail(o, r, reply);
                return;
        }
        o->to = fd;
        o->upload_id = xstrdup(begun->upload_id);
        r = sd_event_add_defer(o->documents->event, &o->copying, copy_piece, o);
        if (r == 0)
                r = sd_event_source_set_enabled(o->copying, SD_EVENT_ON);
        if (r < 0)
                operation_fail(o, r, NULL);
}

static int store(struct documents *d, const struct document_new *n,
                 const struct document_recording *recording, document_stored_fn fn, void *userdata)
{
        cleanup_close int fd = n->fd;
        struct operation *o = NULL;
        int r = lseek(fd, 0, SEEK_SET) < 0 ? -errno : operation_new(d, userdata, &o);

        if (r < 0 || !o)
                return r;
        o->on_stored = fn;
        o->from = TAKE_FD(fd);
        o->size = n->size;
        o->records = recording != NULL;
        if (recording)
                o->recording = *recording;
        o->tenant = xstrdup(n->tenant);
        o->session_id = xstrdup(n->session_id);
        o->filename = xstrdup(n->filename);
        o->metadata = xstrdup(n->metadata);
        o->path = xstrdup(n->result_path);
        o->key = xstrdup(n->idempotency_key);
        o->tags = xnewn(char *, n->n_tags + 1);
        for (; o->n_tags < n->n_tags; o->n_tags++)
                o->tags[o->n_tags] = xstrdup(n->tags[o->n_tags]);
        r = fdlink_call(d->fds, &wire_upload_begin,
                        &(struct upload_begin){ .tenant = o->tenant, .size_hint = o->size },
                        CALL_USEC, on_begun, o);
        if (r < 0)
                operation_free(o);
        return r;
}

static int open_again(struct operation *o);

int documents_store(struct documents *d, const struct document_new *n, document_stored_fn fn,
                    void *userdata)
{
        return store(d, n, NULL, fn, userdata);
}

int documents_record(struct documents *d, const struct document_new *n,
                     const struct document_recording *recording, document_stored_fn fn,
                     void *userdata)
{
        return store(d, n, recording, fn, userdata);
}

static void on_opened(void *userdata, int r, const void *reply, int fd)
{
        struct operation *o = userdata;
        const struct document_opened *opened = reply;
        document_opened_fn fn = o->on_opened;
        void *who = o->userdata;
        uint64_t size;

        if (r == 0 && fd < 0) { /* on its way from the object store */
                r = open_again(o);
                if (r == 0)
                        return;
                reply = NULL;
        }
        if (r < 0) {
                operation_fail(o, r, reply);
                return;
        }
        size = opened->size_bytes;
        operation_free(o);
        fn(who, 0, fd, size, NULL);
}

static int open_again(struct operation *o)
{
        return fdlink_call(
                o->documents->fds, &wire_document_open,
                &(struct document_open){ .tenant = o->tenant, .document_id = o->document_id },
                CALL_USEC, on_opened, o);
}

int documents_open(struct documents *d, const char *tenant, const char *document_id,
                   document_opened_fn fn, void *userdata)
{
        struct operation *o = NULL;
        int r = operation_new(d, userdata, &o);

        if (r < 0)
                return r;
        o->on_opened = fn;
        o->tenant = xstrdup(tenant);
        o->document_id = xstrdup(document_id);
        r = open_again(o);
        if (r < 0)
                operation_free(o);
        return r;
}

/* ---- questions ---- */

static void on_json(void *userdata, int r, const void *reply)
{
        struct operation *o = userdata;
        documents_json_fn fn = o->on_json;
        void *who = o->userdata;
        struct span json = { 0 };
        bool more = false;

        if (r < 0) {
                operation_fail(o, r, reply);
                return;
        }
        switch (o->asked) {
        case ASKED_QUERY:
                json = ((const struct document_page *) reply)->documents;
                more = ((const struct document_page *) reply)->more;
                break;
        case ASKED_SEARCH:
                json = ((const struct document_found *) reply)->results_json;
                break;
        case ASKED_SHOW:
                json = ((const struct document_reply *) reply)->document_json;
                break;
        }
        operation_free(o);
        fn(who, 0, json, more, NULL);
}

static int ask(struct documents *d, int asked, const struct wire_msg *type, const void *message,
               documents_json_fn fn, void *userdata)
{
        struct operation *o = NULL;
        int r = operation_new(d, userdata, &o);

        if (r < 0)
                return r;
        o->on_json = fn;
        o->asked = asked;
        r = rpc_call(rpc_client_peer(d->rpc), type, message, CALL_USEC, on_json, o);
        if (r < 0)
                operation_free(o);
        return r;
}

int documents_query(struct documents *d, const struct document_query *q, documents_json_fn fn,
                    void *userdata)
{
        return ask(d, ASKED_QUERY, &wire_document_query, q, fn, userdata);
}

int documents_search(struct documents *d, const struct document_search *q, documents_json_fn fn,
                     void *userdata)
{
        return ask(d, ASKED_SEARCH, &wire_document_search, q, fn, userdata);
}

int documents_show(struct documents *d, const struct document_show *q, documents_json_fn fn,
                   void *userdata)
{
        return ask(d, ASKED_SHOW, &wire_document_show, q, fn, userdata);
}

void documents_cancel(struct documents *d, void *userdata)
{
        struct operation *o, *next;

        list_foreach_safe (o, next, &d->operations, link)
                if (o->userdata == userdata)
                        operation_free(o);
}

int documents_new(const struct documents_config *c, struct documents **ret)
{
        CLEANUP(documents_freep) struct documents *d = xnew(struct documents);
        cleanup_free char *endpoint = xasprintf("ipc://%s", c->socket);
        int r;

        d->event = c->event;
        list_init(&d->operations);
        r = rpc_client_new(
                &(struct rpc_config){ .event = c->event, .zmq = c->zmq, .endpoint = endpoint },
                &d->rpc);
        if (r < 0)
                return r;
        r = fdlink_client_new(c->event, c->descriptor_socket, &d->fds);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(d);
        return 0;
}

struct documents *documents_free(struct documents *d)
{
        struct operation *o, *next;

        if (!d)
                return NULL;
        list_foreach_safe (o, next, &d->operations, link)
                operation_free(o);
        rpc_link_free(d->rpc);
        fdlink_client_free(d->fds);
        free(d);
        return NULL;
}
