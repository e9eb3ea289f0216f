/* Makes the first admin token. */
#include "token.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/io/log.h"

#define TOKEN_BYTES 32

/* bt_ and 43 characters of base64url. */
static char *make_token(void)
{
        unsigned char raw[TOKEN_BYTES];
        char text[64];

        random_bytes(raw, sizeof(raw));
        base64url_encode(raw, sizeof(raw), text);
        return xasprintf("bt_%s", text);
}

/* A new file that only we may read, put in place when it is whole. */
static int write_token(const char *path, const char *token)
{
        cleanup_free char *temporary = xasprintf("%s.new", path);
        cleanup_free char *line = xasprintf("%s\n", token);
        size_t n = strlen(line);

        (void) unlink(temporary);
        cleanup_close int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        if (write(fd, line, n) != (ssize_t) n || fsync(fd) < 0 || rename(temporary, path) < 0)
                return errno ? -errno : -EIO;
        return 0;
}

static void on_stored(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct coordinator *c = userdata;

        if (r < 0) {
                log_error("coordinator: the admin token could not be stored: %s", error->message);
                daemon_quit(c->daemon, r);
                return;
        }
        log_notice("coordinator: the first admin token is in %s", c->settings->admin_token_file);
        coordinator_activate(c);
}

static void make_first(struct coordinator *c)
{
        cleanup_free char *token = make_token();
        char hash[SHA256_HEX];
        int r = write_token(c->settings->admin_token_file, token);

        if (r < 0) {
                daemon_quit(c->daemon, log_errno(LOG_ERR, r, "cannot write %s",
                                                 c->settings->admin_token_file));
                return;
        }
        sha256_hex(token, strlen(token), hash);
        if (pg_query(c->pool, on_stored, c, store_token_add, "ssss", hash, "admin", "admin",
                     "default") < 0)
                daemon_quit(c->daemon, -EAGAIN);
}

static void on_exists(void *userdata, int r, PGresult **results, size_t n,
                      const struct pg_error *error)
{
        struct coordinator *c = userdata;

        if (r < 0) {
                takeover_retry(c, "the tokens could not be read");
        } else if (pg_bool(results[0], 0, 0) || strempty(c->settings->admin_token_file)) {
                coordinator_activate(c);
        } else {
                make_first(c);
        }
}

void token_first(struct coordinator *c)
{
        if (pg_query(c->pool, on_exists, c, store_token_exists, "") < 0)
                takeover_retry(c, "the database is overloaded");
}
