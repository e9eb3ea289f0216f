/* Pulls stored events and pictures of a session from the coordinator. */
#include "loader.h"

#include "common/io/daemon.h"
#include "common/io/log.h"

#define CALL_USEC (5 * USEC_PER_SEC)
#define PAGE 200
#define WAIT_FIRST (20 * USEC_PER_MSEC)
#define WAIT_MAX (500 * USEC_PER_MSEC)

/* What stands for a picture whose bytes are not stored any more: 1x1, grey. */
static const unsigned char lost_picture[] = {
        0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48,
        0x44, 0x52, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00,
        0x00, 0x3a, 0x7e, 0x9b, 0x55, 0x00, 0x00, 0x00, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78,
        0x9c, 0x63, 0x68, 0x00, 0x00, 0x00, 0x82, 0x00, 0x81, 0x77, 0xcd, 0x72, 0xb6, 0x00,
        0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
};

struct loader {
        sd_event *event;
        struct rpc_link *link;
        char *session_id;
        uint64_t epoch, seq, announced;
        uint64_t asked; /* announced when the pull began */
        bool loaded;    /* the first pull is done */
        bool gap;
        struct history *history;
        json_t *digests;
        size_t next_digest;
        uint64_t wait;
        struct loop_timer again;
        loader_fn fn;
        void *done_userdata;
        void (*on_event)(void *userdata, const json_t *event);
        void (*on_fenced)(void *userdata);
        void *userdata;
};

static void finish(struct loader *l, int r, const char *why)
{
        loader_fn fn = TAKE_PTR(l->fn);

        json_decref(TAKE_PTR(l->digests));
        if (fn)
                fn(l->done_userdata, r, why);
}

static void again_later(struct loader *l)
{
        l->wait = l->wait == 0 ? WAIT_FIRST : MIN(l->wait * 2, WAIT_MAX);
        loop_timer_arm(&l->again, l->wait);
}

/* Fenced, or true when the error may pass. */
static bool may_pass(struct loader *l, int r, const struct error_reply *e)
{
        if (r != -EREMOTEIO || !e)
                return true;
        if (e->code == ERROR_CODE_STALE_EPOCH || e->code == ERROR_CODE_NOT_FOUND) {
                l->fn = NULL;
                l->on_fenced(l->userdata);
                return false;
        }
        return e->code == ERROR_CODE_UNAVAILABLE || e->code == ERROR_CODE_TIMEOUT ||
               e->code == ERROR_CODE_RATE_LIMITED || e->code == ERROR_CODE_INTERNAL ||
               e->code ==
                       ERROR_CODE_PRECONDITION_FAILED; /* restarted; the greeting is on its way */
}

/* What others write; the rest is known since it was stored. */
static bool is_others(const json_t *event)
{
        if (streq(json_string_value(json_object_get(event, "event_type")), "approval_decided"))
                return true;
        return streq(json_string_value(json_object_get(event, "event_type")), "message") &&
               streq(json_string_value(json_object_get(event, "role")), "user");
}

static int take_event(struct loader *l, struct span text)
{
        struct json_problem problem;
        cleanup_json json_t *event = NULL;
        json_int_t seq;

        if (json_parse(text.data, text.len, &event, &problem) < 0)
                return log_errno(LOG_ERR, EBADMSG, "a stored event cannot be read: %s",
                                 problem.message);
        seq = json_integer_value(json_object_get(event, "seq"));
        if (seq <= 0)
                return -EBADMSG;
        if ((uint64_t) seq <= l->seq)
                return 0;
        l->seq = (uint64_t) seq;
        if (l->loaded && !is_others(event))
                return 0;
        if (l->on_event)
                l->on_event(l->userdata, event);
        return history_add_event(l->history, event);
}

static void pull_page(struct loader *l);

static void on_page(void *userdata, int r, const void *reply)
{
        struct loader *l = userdata;
        const struct history_page *page = reply;

        if (r < 0) {
                const struct error_reply *e = reply;

                if (may_pass(l, r, e))
                        again_later(l);
                else if (l->fn)
                        finish(l, -EBADMSG, e->message);
                return;
        }
        l->wait = 0;
        for (size_t i = 0; i < page->n_events; i++) {
                r = take_event(l, page->events[i]);
                if (r < 0) {
                        finish(l, r,
                               r == -EMSGSIZE
                                       ? "The conversation is too long for the worker's memory."
                                       : "The stored conversation cannot be read.");
                        return;
                }
        }
        if (page->more && page->n_events > 0) {
                pull_page(l);
                return;
        }
        l->loaded = true;
        if (l->announced == l->asked)
                l->announced = MIN(l->announced, l->seq); /* of something that is not there */
        finish(l, 0, NULL);
}

static void pull_page(struct loader *l)
{
        struct history_get message = {
                .session_id = l->session_id, .epoch = l->epoch, .after_seq = l->seq, .limit = PAGE
        };

        if (rpc_call(rpc_client_peer(l->link), &wire_history_get, &message, CALL_USEC, on_page, l) <
            0)
                again_later(l);
}

static void pull_picture(struct loader *l);

static void on_picture(void *userdata, int r, const void *reply)
{
        struct loader *l = userdata;
        const struct attachment_reply *picture = reply;
        const struct error_reply *e = r == -EREMOTEIO ? reply : NULL;
        const char *digest = json_string_value(json_array_get(l->digests, l->next_digest));

        if (r < 0 && !(e && e->code == ERROR_CODE_NOT_FOUND)) {
                if (may_pass(l, r, e))
                        again_later(l);
                else if (l->fn)
                        finish(l, -EBADMSG, e->message);
                return;
        }
        l->wait = 0;
        if (r == 0)
                history_set_image(l->history, digest, picture->media_type, picture->data);
        else
                history_set_image(
                        l->history, digest, "image/png",
                        (struct span){ (const char *) lost_picture, sizeof(lost_picture) });
        l->next_digest++;
        pull_picture(l);
}

static void pull_picture(struct loader *l)
{
        struct attachment_get message = { .session_id = l->session_id, .epoch = l->epoch };

        if (l->next_digest == json_array_size(l->digests)) {
                finish(l, 0, NULL);
                return;
        }
        message.digest = json_string_value(json_array_get(l->digests, l->next_digest));
        if (rpc_call(rpc_client_peer(l->link), &wire_attachment_get, &message, CALL_USEC,
                     on_picture, l) < 0)
                again_later(l);
}

static void on_again(void *userdata)
{
        struct loader *l = userdata;

        if (l->digests)
                pull_picture(l);
        else
                pull_page(l);
}

static void begin(struct loader *l, loader_fn fn, void *userdata)
{
        l->fn = fn;
        l->done_userdata = userdata;
        l->wait = 0;
}

void loader_pull(struct loader *l, loader_fn fn, void *userdata)
{
        begin(l, fn, userdata);
        l->gap = false; /* what comes while we read sets it again */
        l->asked = l->announced;
        pull_page(l);
}

void loader_pictures(struct loader *l, json_t *digests, loader_fn fn, void *userdata)
{
        begin(l, fn, userdata);
        l->digests = json_incref(digests);
        l->next_digest = 0;
        pull_picture(l);
}

void loader_stored(struct loader *l, uint64_t first_seq, uint64_t last_seq)
{
        if (first_seq == l->seq + 1)
                l->seq = last_seq;
        else if (last_seq > l->seq)
                l->gap = true;
}

void loader_announce(struct loader *l, uint64_t seq)
{
        l->announced = MAX(l->announced, seq);
}

void loader_doubt(struct loader *l)
{
        l->gap = true;
}

uint64_t loader_seq(const struct loader *l)
{
        return MAX(l->seq, l->announced);
}

bool loader_behind(const struct loader *l)
{
        return l->gap || l->announced > l->seq;
}

int loader_new(const struct loader_config *c, struct loader **ret)
{
        struct loader *l = xnew(struct loader);
        int r;

        l->event = c->event;
        l->link = c->link;
        l->session_id = xstrdup(c->session_id);
        l->epoch = c->epoch;
        l->history = c->history;
        l->on_event = c->on_event;
        l->on_fenced = c->on_fenced;
        l->userdata = c->userdata;
        r = loop_timer_init(&l->again, c->event, on_again, l);
        if (r < 0) {
                loader_free(l);
                return r;
        }
        *ret = l;
        return 0;
}

struct loader *loader_free(struct loader *l)
{
        if (!l)
                return NULL;
        rpc_cancel(l->link, l);
        loop_timer_done(&l->again);
        json_decref(l->digests);
        free(l->session_id);
        free(l);
        return NULL;
}
