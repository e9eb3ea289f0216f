/* Settings: every kind, every error with its sentence, secrets, printing, and the daemon's options.
 */
#include "unit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/io/daemon.h"
#include "common/io/settings-private.h"

struct values {
        char *socket, *title, *key;
        uint64_t workers, body_max, timeout;
        bool verbose;
};

static const struct setting table[] = {
        { "socket", SETTING_PATH, offsetof(struct values, socket), NULL, NULL, NULL, false,
          "Socket of the daemon." },
        { "title", SETTING_STRING, offsetof(struct values, title), "Berth", NULL, NULL, true,
          "Name of the host." },
        { "key_file", SETTING_SECRET, offsetof(struct values, key), "", NULL, NULL, true,
          "File with the key." },
        { "workers", SETTING_INT, offsetof(struct values, workers), "2", "1", "64", true,
          "Number of workers." },
        { "body_max", SETTING_SIZE, offsetof(struct values, body_max), "1M", "1K", NULL, false,
          "Largest body." },
        { "timeout", SETTING_DURATION, offsetof(struct values, timeout), "5s", NULL, "1h", false,
          "Longest wait." },
        { "verbose", SETTING_BOOL, offsetof(struct values, verbose), "no", NULL, NULL, false,
          "Say more." },
};

static char folder[] = "/tmp/berth-settings-XXXXXX";

static char *write_file(const char *name, const char *text, size_t n, mode_t mode)
{
        char *path = xasprintf("%s/%s", folder, name);
        (void) unlink(path);
        cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        assert_true(fd >= 0);
        assert_int_equal(fchmod(fd, mode), 0);
        assert_int_equal(write(fd, text, n), n);
        return path;
}

static char *config(const char *text)
{
        return write_file("test.conf", text, strlen(text), 0644);
}

static int load(const char *file, const char *set, struct values *v, char **error)
{
        char *overrides[] = { (char *) (uintptr_t) set };
        *v = (struct values){ 0 };
        return settings_load(table, ARRAY_LEN(table), file, overrides, set != NULL, v, error);
}

static void good(void **state)
{
        cleanup_free char *path = config("# comment\n"
                                         "\n"
                                         "  socket = /run/berth/x.sock   # where\r\n"
                                         "title=\"two words # not a comment\" # but this\n"
                                         "timeout = 250ms\n"
                                         "body_max = 64K\n"
                                         "verbose = on\n"
                                         "workers = 64");
        struct values v;
        char *error = NULL;
        assert_int_equal(load(path, "workers=3", &v, &error), 0);
        assert_string_equal(v.socket, "/run/berth/x.sock");
        assert_string_equal(v.title, "two words # not a comment");
        assert_string_equal(v.key, "");
        assert_int_equal(v.workers, 3);
        assert_int_equal(v.body_max, 65536);
        assert_int_equal(v.timeout, 250000);
        assert_true(v.verbose);
        settings_release(table, ARRAY_LEN(table), &v);
        assert_null(v.socket);
        assert_int_equal(load(NULL, "socket=/a", &v, &error), 0);
        assert_string_equal(v.title, "Berth");
        assert_int_equal(v.workers, 2);
        assert_int_equal(v.body_max, MIB);
        settings_release(table, ARRAY_LEN(table), &v);
}

static void errors(void **state)
{
        static const struct {
                const char *text, *error;
        } bad[] = {
                { "workers = 3", "setting socket is required (Socket of the daemon.): add "
                                 "\"socket = ...\" to FILE, or give --set socket=..." },
                { "socket =", "FILE:1: socket = : must not be empty" },
                { "socket = run/x", "FILE:1: socket = run/x: must be an absolute path" },
                { "\nsoket = /x", "FILE:2: unknown setting \"soket\"; did you mean \"socket\"?" },
                { "completely_else = 1",
                  "FILE:1: unknown setting \"completely_else\"; --print-config lists all" },
                { "socket", "FILE:1: expected a line like: name = value" },
                { "title = \"open", "FILE:1: expected a line like: name = value" },
                { "title = \"a\" b", "FILE:1: expected a line like: name = value" },
                { "workers = 1\nworkers = 2",
                  "FILE:2: workers is set twice, first on line 1: remove one" },
                { "workers = 0", "FILE:1: workers = 0: must be between 1 and 64" },
                { "workers = 65", "FILE:1: workers = 65: must be between 1 and 64" },
                { "workers = 99999999999999999999",
                  "FILE:1: workers = 99999999999999999999: must be between 1 and 64" },
                { "workers = two", "FILE:1: workers = two: must be a whole number" },
                { "workers =", "FILE:1: workers = : must be a whole number" },
                { "body_max = 10", "FILE:1: body_max = 10: must be at least 1K" },
                { "body_max = 1.5M",
                  "FILE:1: body_max = 1.5M: must be a size like 512, 64K, 10M or 2G" },
                { "timeout = 2h", "FILE:1: timeout = 2h: must be at most 1h" },
                { "timeout = soon",
                  "FILE:1: timeout = soon: must be a duration like 250ms, 10s, 5min, 2h or 1d" },
                { "verbose = maybe", "FILE:1: verbose = maybe: must be yes or no" },
                { "key_file = sk-a/b",
                  "FILE:1: key_file = (not shown): must be an absolute path of a file "
                  "with the secret, or the name of a systemd credential" },
                { "title = \xff", "FILE is not UTF-8 text" },
        };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                cleanup_free char *path = config(bad[i].text), *error = NULL;
                struct values v;
                assert_int_equal(load(path, NULL, &v, &error), -EBADMSG);
                cleanup_buf struct buf want = BUF_INIT;
                for (const char *p = bad[i].error; *p;) {
                        bool file = str_starts(p, "FILE");
                        buf_put(&want, file ? path : p, file ? strlen(path) : 1);
                        p += file ? 4 : 1;
                }
                assert_string_equal(error, buf_head(&want));
                assert_null(v.socket);
                assert_null(v.title);
        }
        struct values v;
        char *error = NULL;
        assert_int_equal(load("/nonexistent/x", NULL, &v, &error), -EBADMSG);
        assert_string_equal(error, "cannot read /nonexistent/x: No such file or directory");
        free(error);
        assert_int_equal(load("/dev/zero", NULL, &v, &error), -EBADMSG);
        assert_string_equal(error, "/dev/zero is not a regular file");
        free(error);
        assert_int_equal(load(NULL, "socket", &v, &error), -EBADMSG);
        assert_string_equal(error, "--set socket: expected --set name=value");
        free(error);
        size_t n = 300 * KIB;
        cleanup_free char *large = xmalloc(n);
        memset(large, '\n', n);
        cleanup_free char *path = write_file("large.conf", large, n, 0644);
        assert_int_equal(load(path, NULL, &v, &error), -EBADMSG);
        assert_non_null(strstr(error, "is larger than 262144 bytes"));
        free(error);
}

static void secrets(void **state)
{
        struct values v;
        char *error = NULL;
        cleanup_free char *key = write_file("key", "s3cret\nsecond line\n", 19, 0600);
        cleanup_free char *set = xasprintf("key_file=%s", key);
        char *both[] = { set, (char *) (uintptr_t) "socket=/a" };
        v = (struct values){ 0 };
        assert_int_equal(settings_load(table, ARRAY_LEN(table), NULL, both, 2, &v, &error), 0);
        assert_string_equal(v.key, "s3cret");
        settings_release(table, ARRAY_LEN(table), &v);
        assert_int_equal(setenv("CREDENTIALS_DIRECTORY", folder, 1), 0);
        both[0] = (char *) (uintptr_t) "key_file=key";
        assert_int_equal(settings_load(table, ARRAY_LEN(table), NULL, both, 2, &v, &error), 0);
        assert_string_equal(v.key, "s3cret");
        settings_release(table, ARRAY_LEN(table), &v);
        /* The secret itself where its name belongs: said without showing it. */
        assert_int_equal(load(NULL, "key_file=s3cret", &v, &error), -EBADMSG);
        assert_non_null(strstr(error, "no systemd credential of that name"));
        assert_null(strstr(error, "s3cret"));
        free(error);
        assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
        assert_int_equal(chmod(key, 0640), 0);
        both[0] = set;
        assert_int_equal(settings_load(table, ARRAY_LEN(table), NULL, both, 2, &v, &error),
                         -EBADMSG);
        assert_non_null(strstr(error, "others may read it: chmod 600"));
        assert_null(strstr(error, "s3cret"));
        free(error);
        cleanup_free char *empty = write_file("empty", "\nx", 2, 0600);
        cleanup_free char *set_empty = xasprintf("key_file=%s", empty);
        assert_int_equal(load(NULL, set_empty, &v, &error), -EBADMSG);
        assert_non_null(strstr(error, "first line of"));
        free(error);
}

static void printing(void **state)
{
        char *text = NULL;
        size_t n;
        FILE *f = open_memstream(&text, &n);
        settings_print(table, ARRAY_LEN(table), f);
        (void) fclose(f);
        assert_non_null(
                strstr(text, "# Socket of the daemon.\n# absolute path; required\nsocket =\n"));
        assert_non_null(strstr(text, "# Number of workers.\n# whole number; 1 to 64; read again on "
                                     "SIGHUP\n#workers = 2\n"));
        assert_non_null(strstr(text, "#key_file =\n"));
        free(text);
}

static void reloading(void **state)
{
        struct values now, fresh;
        char *error = NULL, *kept = NULL;
        assert_int_equal(load(NULL, "socket=/a", &now, &error), 0);
        cleanup_free char *path = config("socket = /b\ntitle = other\nworkers = 9\ntimeout = 1s");
        assert_int_equal(load(path, NULL, &fresh, &error), 0);
        settings_take(table, ARRAY_LEN(table), &now, &fresh, &kept);
        assert_string_equal(now.socket, "/a");
        assert_string_equal(now.title, "other");
        assert_int_equal(now.workers, 9);
        assert_int_equal(now.timeout, 5 * USEC_PER_SEC);
        assert_string_equal(kept, "socket, timeout");
        free(kept);
        settings_release(table, ARRAY_LEN(table), &now);
        settings_release(table, ARRAY_LEN(table), &fresh);
}

static int setup(void **state)
{
        return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
        static const char *const names[] = { "test.conf", "large.conf", "key", "empty" };
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                cleanup_free char *path = xasprintf("%s/%s", folder, names[i]);
                (void) unlink(path);
        }
        return rmdir(folder);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(good),     cmocka_unit_test(errors),    cmocka_unit_test(secrets),
                cmocka_unit_test(printing), cmocka_unit_test(reloading),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
