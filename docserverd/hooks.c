/* Runs a hook in a slot and reads what it says. */
#include "hooks.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/io/log.h"
#include "runners.h"

#define CODE_MAX (256 * KIB)
#define OUTPUT_MAX (8 * MIB)
#define WAIT_USEC (20 * USEC_PER_SEC) /* for a slot that is free */
#define GRACE (30 * USEC_PER_SEC)     /* making the slot, files */

static const char start[] = "case \"$(head -c 2 hook)\" in '#!') chmod 700 hook && exec ./hook;; "
                            "*) exec python3 hook;; esac";

struct hook {
        struct docserver *server;
        struct list link;
        struct runner_wait wait;
        struct loop_timer deadline;
        struct loop_task failed;
        char *tenant, *document_id, *code, *why;
        struct buf input;
        hook_fn fn;
        void *userdata;
};

int hook_load(const char *setting, const char *path, char **ret)
{
        cleanup_free char *text = NULL;
        cleanup_close int fd = -1;
        ssize_t n;

        *ret = NULL;
        if (strempty(path))
                return 0;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0) {
                log_error("%s cannot be read from %s: %s", setting, path, strerror(errno));
                return -EBADMSG;
        }
        text = xmalloc(CODE_MAX + 1);
        n = read(fd, text, CODE_MAX + 1);
        if (n <= 0 || n > (ssize_t) CODE_MAX || !utf8_valid(text, (size_t) n)) {
                log_error("%s in %s must be a text of at most 256 KiB", setting, path);
                return -EBADMSG;
        }
        text[n] = '\0';
        *ret = TAKE_PTR(text);
        return 0;
}

static void hook_end(struct hook *h, const json_t *out, const char *why)
{
        list_remove(&h->link);
        h->fn(h->userdata, out, why);
        runner_wait_forget(&h->wait);
        loop_timer_done(&h->deadline);
        loop_task_done(&h->failed);
        buf_done(&h->input);
        free(h->tenant);
        free(h->document_id);
        free(h->code);
        free(h->why);
        free(h);
}

static void on_failed(void *userdata)
{
        struct hook *h = userdata;

        hook_end(h, NULL, h->why);
}

/* Never from inside the call that started it. */
static void fail(struct hook *h, const char *why)
{
        free(h->why);
        h->why = xstrdup(why);
        loop_task_queue(&h->failed);
}

/* Why the hook's run is no success, or NULL. */
static char *problem_of(const struct job_ran *m)
{
        if (m->timed_out)
                return xstrdup("the hook took too long");
        if (m->too_much)
                return xstrdup("the hook wrote too much");
        if (m->signal)
                return xasprintf("the hook was ended by signal %u", m->signal);
        if (m->code == 0)
                return NULL;
        /* The last line of what it said is the most telling one. */
        cleanup_free char *said = span_dup(m->errors);
        char *last = strstrip(said);
        if (strrchr(last, '\n'))
                last = strrchr(last, '\n') + 1;
        if (!utf8_valid(last, strlen(last)))
                last = said + strlen(said);
        return xasprintf("the hook failed with status %" PRIi64 "%s%.300s", m->code,
                         *last ? ": " : "", last);
}

static void on_ran(void *userdata, int r, const void *reply)
{
        struct hook *h = userdata;
        const struct job_ran *m = reply;
        cleanup_json json_t *out = NULL;
        struct json_problem problem = { 0 };
        cleanup_free char *why = NULL;

        if (r == 0)
                why = problem_of(m);
        if (r < 0)
                why = xasprintf("the hook did not run: %s", runner_failure(r, reply));
        else if (!why && (json_parse(m->output.data, m->output.len, &out, &problem) < 0 ||
                          !json_is_object(out)))
                why = xasprintf("the hook wrote no JSON object%s%s", problem.message[0] ? ": " : "",
                                problem.message);
        hook_end(h, why ? NULL : out, why);
}

static void start_hook(struct runner_wait *w)
{
        struct hook *h = container_of(w, struct hook, wait);
        const struct docserver_settings *s = h->server->settings;
        struct job_file file = { .path = "hook",
                                 .document_id = h->document_id,
                                 .data = h->document_id ? (struct span){ 0 } : span_of(h->code) };
        const char *argv[] = { "sh", "-c", start };
        char id[UUID_MAX];

        loop_timer_disarm(&h->deadline);
        uuid_make(id);
        int r = runners_call(h->server->runners, RUNNER_SLOT, &wire_job_run,
                             &(struct job_run){
                                     .job_id = id,
                                     .tenant = h->tenant,
                                     .files = &file,
                                     .n_files = 1,
                                     .argv = argv,
                                     .n_argv = ARRAY_LEN(argv),
                                     .input = { buf_head(&h->input), buf_pending(&h->input) },
                                     .time_ms = (uint32_t) (s->hook_time / USEC_PER_MSEC),
                                     .memory_max = s->read_memory,
                                     .output_max = OUTPUT_MAX,
                             },
                             s->hook_time + GRACE, on_ran, h);
        if (r == -EAGAIN) {
                runners_wait(h->server->runners, &h->wait);
                loop_timer_arm(&h->deadline, WAIT_USEC);
        } else if (r < 0) {
                cleanup_free char *why =
                        xasprintf("the hook did not run: %s", runner_failure(r, NULL));
                fail(h, why);
        }
}

static void on_deadline(void *userdata)
{
        struct hook *h = userdata;

        hook_end(h, NULL, "the hook did not run: all slots for jobs are busy");
}

void hook_run(struct docserver *d, const struct hook_config *c, hook_fn fn, void *userdata)
{
        struct hook *h = xnew(struct hook);

        h->server = d;
        list_push_back(&d->hooks, &h->link);
        h->wait = (struct runner_wait){ .need = RUNNER_SLOT, .go = start_hook };
        h->fn = fn;
        h->userdata = userdata;
        h->tenant = xstrdup(c->tenant);
        h->document_id = xstrdup(c->document_id);
        h->code = xstrdup(c->code);
        buf_put(&h->input, c->input.data, c->input.len);
        if (loop_task_init(&h->failed, d->event, on_failed, h) < 0 ||
            loop_timer_init(&h->deadline, d->event, on_deadline, h) < 0) {
                hook_end(h, NULL, "the hook did not run: no memory");
                return;
        }
        start_hook(&h->wait);
}

void hooks_end(struct docserver *d)
{
        struct hook *h, *next;

        list_foreach_safe (h, next, &d->hooks, link)
                hook_end(h, NULL, "the hook did not run: the daemon ends");
}
