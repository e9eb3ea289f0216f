/* berthctl: what its command families share. One request at a time, blocking: it is a program for a
 * person or a script, not a daemon. Commands return an exit code: 0 done, 1 failed (the reason is
 * on stderr), 2 wrong usage. */
#pragma once

#include "common/base/buf.h"
#include "common/base/json.h"

struct ctl {
        char *url;    /* without a final slash */
        char *token;  /* NULL: none was found */
        char *origin; /* where the two came from, for messages */
        bool json;    /* --json: replies as they are */
        bool yes;     /* --yes: do not ask */
        bool colour;
        void *curl; /* CURL *, one handle for all calls */
};

/* Finds server and token: BERTH_URL and BERTH_TOKEN; then berth.env in the person's folders; then
 * what the service and scripts/up leave on this host. */
void ctl_open(struct ctl *c);
void ctl_close(struct ctl *c);

/* One call; body may be NULL. The status is 2xx and *ret (caller's, NULL for an empty reply; ret
 * may be NULL) is set, or the result is negative and stderr says why in one line. */
int ctl_call(struct ctl *c, const char *method, const char *path, const json_t *body,
             json_t **ret) mustuse;
/* The same without a word on stderr; *ret_status 0 = no connection. */
int ctl_try(struct ctl *c, const char *path, long *ret_status, json_t **ret) mustuse;
/* Sends or fetches a file. out: where the reply's body goes, NULL = parsed into *ret. */
int ctl_upload(struct ctl *c, const char *path, const char *file, const char *tags,
               json_t **ret) mustuse;
int ctl_download(struct ctl *c, const char *path, FILE *out) mustuse;
/* The same into a file that is there only when it is whole; NULL or "-": standard output. 0 or 1.
 */
int ctl_save(struct ctl *c, const char *path, const char *file) mustuse;
/* Follows a session's stream from after_seq until fn returns false, or for good: a broken
 * connection is made again where it ended. `between` is called at least every 200 ms; false ends.
 */
struct ctl_follow {
        const char *session_id;
        uint64_t after_seq;
        bool (*on_update)(void *userdata, const json_t *update);
        bool (*between)(void *userdata);
        int wait_fd; /* wakes the wait when readable; -1 = none */
        void *userdata;
};
int ctl_follow(struct ctl *c, struct ctl_follow *f) mustuse;
/* Percent-encodes one part of a path; the caller frees. */
char *ctl_quote(const char *part) mustuse;

/* Tables: columns are "name:path.in.object"; prints the array as aligned text. */
void show_table(const json_t *array, const char *const *columns);
/* Text of a member by dotted path, "" when absent; valid until the next four calls. */
const char *show_member(const json_t *object, const char *path);
void show_json(const json_t *j);
/* One line or block of a transcript. */
void show_update(struct ctl *c, const json_t *update);

/* Runs a program and waits: its exit code, or -1. out: NULL = ours; else its stdout, at most 64
 * KiB.
 */
int run_program(const char *const *argv, struct buf *out, bool quiet);

int cmd_status(struct ctl *c, int argc, char **argv);
int cmd_sessions(struct ctl *c, int argc, char **argv);
int cmd_attach(struct ctl *c, int argc, char **argv);
int cmd_approvals(struct ctl *c, int argc, char **argv);
int cmd_agents(struct ctl *c, int argc, char **argv);
int cmd_budgets(struct ctl *c, int argc, char **argv);
int cmd_usage(struct ctl *c, int argc, char **argv);
int cmd_workers(struct ctl *c, int argc, char **argv);
int cmd_drain(struct ctl *c, int argc, char **argv);
int cmd_documents(struct ctl *c, int argc, char **argv);
int cmd_recordings(struct ctl *c, int argc, char **argv);
int cmd_terminal(struct ctl *c, int argc, char **argv);
int cmd_tokens(struct ctl *c, int argc, char **argv);
int cmd_users(struct ctl *c, int argc, char **argv);
int cmd_tenants(struct ctl *c, int argc, char **argv);
int cmd_audit(struct ctl *c, int argc, char **argv);
int cmd_image(struct ctl *c, int argc, char **argv);
int cmd_config(struct ctl *c, int argc, char **argv);
int cmd_doctor(struct ctl *c, int argc, char **argv);
int cmd_backup(struct ctl *c, int argc, char **argv);
int cmd_restore(struct ctl *c, int argc, char **argv);
