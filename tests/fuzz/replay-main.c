/* Runs a fuzz target over files and folders of inputs when there is no fuzzer: a corpus is a test.
 *
 * Each input is given whole, and cut at every length up to 64 bytes and at some beyond, in memory
 * of its own size, so that a sanitizer sees every byte read too far. */
#include <dirent.h>
#include <sys/stat.h>

#include "common/base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t inputs;

static void run(const uint8_t *data, size_t size)
{
        uint8_t *copy = xmalloc(size ? size : 1);
        memcpy(copy, data, size);
        (void) LLVMFuzzerTestOneInput(copy, size);
        free(copy);
}

static int run_file(const char *path)
{
        cleanup_fclose FILE *file = fopen(path, "re");
        if (!file || fseek(file, 0, SEEK_END) < 0)
                return -errno;
        long n = ftell(file);
        if (n < 0)
                return -errno;
        rewind(file);
        cleanup_free uint8_t *data = xmalloc((size_t) n + 1);
        size_t size = fread(data, 1, (size_t) n, file);
        if (size != (size_t) n)
                return -EIO;
        run(data, size);
        for (size_t cut = 0; cut < size; cut += cut < 64 ? 1 : cut / 16)
                run(data, cut);
        inputs++;
        return 0;
}

static int run_folder(const char *path)
{
        struct dirent **names;
        int n = scandir(path, &names, NULL, alphasort), r = 0;
        if (n < 0)
                return -errno;
        for (int i = 0; i < n; i++) {
                if (names[i]->d_name[0] != '.' && r == 0) {
                        cleanup_free char *file = xasprintf("%s/%s", path, names[i]->d_name);
                        r = run_file(file);
                }
                free(names[i]);
        }
        free(names);
        return r;
}

int main(int argc, char **argv)
{
        for (int i = 1; i < argc; i++) {
                struct stat st;
                int r = stat(argv[i], &st) < 0 ? -errno
                        : S_ISDIR(st.st_mode)  ? run_folder(argv[i])
                                               : run_file(argv[i]);
                if (r < 0) {
                        (void) fprintf(stderr, "%s: %s\n", argv[i], strerrordesc_np(-r));
                        return 1;
                }
        }
        printf("%zu inputs\n", inputs);
        return inputs > 0 ? 0 : 1;
}
