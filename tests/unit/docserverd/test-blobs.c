/* The blob store on a real file system: whole or absent, also after a kill at any step. */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "docserverd/blobs.h"

#define HELLO_SHA256 "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

struct fixture {
        char dir[64];
        struct blob_store *store;
};

static void reopen(struct fixture *f)
{
        cleanup_free char *error = NULL;
        f->store = blob_store_free(f->store);
        assert_int_equal(blob_store_open(f->dir, &f->store, &error), 0);
}

static int setup(void **state)
{
        struct fixture *f = xnew(struct fixture);
        strcpy(f->dir, "/tmp/berth-blobs-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        reopen(f);
        *state = f;
        return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
        return remove(path);
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        blob_store_free(f->store);
        assert_int_equal(nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
        free(f);
        return 0;
}

/* What an uploader does: it has a descriptor of its own and closes it. */
static struct blob_file write_file(struct fixture *f, const void *data, size_t n)
{
        struct blob_file file;
        assert_int_equal(blob_file_new(f->store, &file), 0);
        int fd = dup(file.fd);
        assert_int_equal(write(fd, data, n), (ssize_t) n);
        close(fd);
        return file;
}

static void hash_file(const struct blob_file *file, size_t slice, char checksum[static SHA256_HEX])
{
        CLEANUP(blob_hash_freep) struct blob_hash *h = blob_hash_new();
        int r;
        while ((r = blob_hash_step(h, file->fd, slice, checksum)) == 1)
                ;
        assert_int_equal(r, 0);
}

static void store_text(struct fixture *f, const char *text, char checksum[static SHA256_HEX])
{
        struct blob_file file = write_file(f, text, strlen(text));
        assert_int_equal(blob_seal(f->store, &file, strlen(text)), 0);
        hash_file(&file, 4096, checksum);
        assert_int_equal(blob_publish(f->store, &file, checksum), 0);
        assert_int_equal(file.fd, -1);
}

static void assert_blob(struct fixture *f, const char *checksum, const void *data, size_t n)
{
        cleanup_close int fd = -1;
        uint64_t size;
        assert_int_equal(blob_open(f->store, checksum, &fd, &size), 0);
        assert_int_equal(size, n);
        cleanup_free char *got = xmalloc(n + 1);
        assert_int_equal(read(fd, got, n + 1), (ssize_t) n);
        assert_memory_equal(got, data, n);
        assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
}

static size_t walk(struct fixture *f, uint64_t before)
{
        CLEANUP(blob_walk_freep) struct blob_walk *w = blob_walk_new(f->store, before);
        struct blob_names names = { 0 };
        int r;
        while ((r = blob_walk_step(w, &names)) == 1)
                ;
        assert_int_equal(r, 0);
        size_t n = names.n;
        blob_names_done(&names);
        return n;
}

static size_t count_tmp(struct fixture *f)
{
        char path[80];
        (void) snprintf(path, sizeof(path), "%s/tmp", f->dir);
        DIR *d = opendir(path);
        assert_non_null(d);
        size_t n = 0;
        for (struct dirent *e; (e = readdir(d));)
                n += e->d_name[0] != '.';
        closedir(d);
        return n;
}

static void blob_path(struct fixture *f, const char *checksum, char path[static 160])
{
        (void) snprintf(path, 160, "%s/%.2s/%.2s/%s", f->dir, checksum, checksum + 2, checksum);
}

static void test_round_trip(void **state)
{
        struct fixture *f = *state;
        char checksum[SHA256_HEX], path[160];
        struct stat st;
        store_text(f, "hello", checksum);
        assert_string_equal(checksum, HELLO_SHA256);
        assert_blob(f, checksum, "hello", 5);
        blob_path(f, checksum, path);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0400);

        store_text(f, "", checksum);
        assert_blob(f, checksum, "", 0);
        assert_int_equal(count_tmp(f), 0);
}

static void test_hash_in_slices(void **state)
{
        struct fixture *f = *state;
        size_t n = 3 * MIB + 17;
        cleanup_free char *data = xmalloc(n);
        random_bytes(data, n);
        char want[SHA256_HEX], got[SHA256_HEX];
        sha256_hex(data, n, want);
        for (size_t slice = 1; slice <= 16 * MIB; slice *= 64) {
                struct blob_file file = write_file(f, data, n);
                hash_file(&file, slice, got);
                assert_string_equal(got, want);
                blob_file_done(f->store, &file);
        }
}

static void test_seal_refuses(void **state)
{
        struct fixture *f = *state;
        struct blob_file file = write_file(f, "hello", 5);
        int writer = dup(file.fd);
        assert_int_equal(blob_seal(f->store, &file, 5), -EBUSY);
        close(writer);
        blob_file_done(f->store, &file);

        const uint64_t sizes[] = { 0, 4, 6, UINT64_MAX };
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
                file = write_file(f, "hello", 5);
                assert_int_equal(blob_seal(f->store, &file, sizes[i]), -EMSGSIZE);
                blob_file_done(f->store, &file);
        }
}

static void test_same_bytes_are_one_file(void **state)
{
        struct fixture *f = *state;
        char checksum[SHA256_HEX], path[160];
        struct stat first, second;
        store_text(f, "hello", checksum);
        blob_path(f, checksum, path);
        assert_int_equal(stat(path, &first), 0);
        store_text(f, "hello", checksum);
        assert_int_equal(stat(path, &second), 0);
        assert_int_equal(first.st_ino, second.st_ino);
        /* Named again is young again: the sweep leaves it alone. */
        assert_true(second.st_ctim.tv_sec > first.st_ctim.tv_sec ||
                    second.st_ctim.tv_nsec > first.st_ctim.tv_nsec);
}

static void test_damaged_blob_is_replaced(void **state)
{
        struct fixture *f = *state;
        char checksum[SHA256_HEX], path[160];
        store_text(f, "hello", checksum);
        blob_path(f, checksum, path);
        assert_int_equal(truncate(path, 3), 0);
        store_text(f, "hello", checksum);
        assert_blob(f, checksum, "hello", 5);
        assert_int_equal(count_tmp(f), 0);
}

static void test_named_files(void **state)
{
        struct fixture *f = *state;
        char checksum[SHA256_HEX];
        blob_store_set_named(f->store, true);
        struct blob_file file = write_file(f, "gone", 4);
        assert_int_equal(count_tmp(f), 1);
        blob_file_done(f->store, &file);
        assert_int_equal(count_tmp(f), 0);
        store_text(f, "hello", checksum);
        store_text(f, "hello", checksum);
        assert_blob(f, checksum, "hello", 5);
        assert_int_equal(count_tmp(f), 0);
}

static void test_unlink(void **state)
{
        struct fixture *f = *state;
        char checksum[SHA256_HEX];
        int fd;
        uint64_t size;
        store_text(f, "hello", checksum);
        assert_int_equal(blob_unlink(f->store, checksum), 0);
        assert_int_equal(blob_unlink(f->store, checksum), 0);
        assert_int_equal(blob_open(f->store, checksum, &fd, &size), -ENOENT);
        static const char *const bad[] = { "", "../../etc/passwd", "ABCD", HELLO_SHA256 "0",
                                           "2cf2" };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                struct blob_file file = write_file(f, "x", 1);
                assert_false(blob_checksum_valid(bad[i]));
                assert_int_equal(blob_unlink(f->store, bad[i]), -EINVAL);
                assert_int_equal(blob_open(f->store, bad[i], &fd, &size), -EINVAL);
                assert_int_equal(blob_publish(f->store, &file, bad[i]), -EINVAL);
                blob_file_done(f->store, &file);
        }
}

static void test_walk_sees_only_the_old(void **state)
{
        struct fixture *f = *state;
        char checksum[SHA256_HEX], text[16], path[160];
        assert_int_equal(walk(f, UINT64_MAX), 0);
        for (int i = 0; i < 40; i++) {
                (void) snprintf(text, sizeof(text), "blob %d", i);
                store_text(f, text, checksum);
        }
        assert_int_equal(walk(f, UINT64_MAX), 40);
        assert_int_equal(walk(f, now_realtime() - 60 * USEC_PER_SEC), 0);

        /* What is not a blob is left alone. */
        blob_path(f, checksum, path);
        strcat(path, ".note");
        cleanup_close int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(walk(f, UINT64_MAX), 40);
}

static void test_one_process_at_a_time(void **state)
{
        struct fixture *f = *state;
        struct blob_store *second = NULL;
        cleanup_free char *error = NULL;
        assert_int_equal(blob_store_open(f->dir, &second, &error), -EBUSY);
        assert_non_null(strstr(error, "in use"));
}

static void test_folder_that_cannot_be(void **state)
{
        struct blob_store *s = NULL;
        cleanup_free char *error = NULL;
        assert_int_equal(blob_store_open("/dev/null/blobs", &s, &error), -ENOTDIR);
        assert_non_null(strstr(error, "/dev/null/blobs"));
}

/* A process does the first `steps` steps of storing "hello" and is killed by SIGKILL. */
static void killed_after(struct fixture *f, int steps, bool named)
{
        f->store = blob_store_free(f->store);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                struct fixture child = *f;
                char checksum[SHA256_HEX];
                reopen(&child);
                blob_store_set_named(child.store, named);
                struct blob_file file = write_file(&child, "hello", 5);
                if (steps > 1)
                        assert_int_equal(blob_seal(child.store, &file, 5), 0);
                if (steps > 2)
                        hash_file(&file, 4096, checksum);
                if (steps > 3)
                        assert_int_equal(blob_publish(child.store, &file, checksum), 0);
                (void) kill(getpid(), SIGKILL);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_killed_at_each_step(void **state)
{
        struct fixture *f = *state;
        for (int named = 0; named < 2; named++)
                for (int steps = 1; steps <= 4; steps++) {
                        killed_after(f, steps, named);
                        reopen(f);
                        assert_int_equal(count_tmp(f), 0);
                        assert_int_equal(walk(f, UINT64_MAX), steps == 4 ? 1 : 0);
                        if (steps == 4)
                                assert_blob(f, HELLO_SHA256, "hello", 5);
                        assert_int_equal(blob_unlink(f->store, HELLO_SHA256), 0);
                }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_round_trip),
                TEST(test_hash_in_slices),
                TEST(test_seal_refuses),
                TEST(test_same_bytes_are_one_file),
                TEST(test_damaged_blob_is_replaced),
                TEST(test_named_files),
                TEST(test_unlink),
                TEST(test_walk_sees_only_the_old),
                TEST(test_one_process_at_a_time),
                TEST(test_folder_that_cannot_be),
                TEST(test_killed_at_each_step),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
