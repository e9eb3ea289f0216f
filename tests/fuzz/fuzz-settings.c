/* The settings file: any bytes are either loaded within the limits or refused with a sentence. */
#include <assert.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/io/settings.h"

struct values {
        char *text, *path, *key;
        uint64_t number, size, wait;
        bool flag;
};

static const struct setting table[] = {
        { "text", SETTING_STRING, offsetof(struct values, text), "", NULL, NULL, true, "T." },
        { "path", SETTING_PATH, offsetof(struct values, path), "/", NULL, NULL, true, "P." },
        { "number", SETTING_INT, offsetof(struct values, number), "1", "1", "9", true, "N." },
        { "size", SETTING_SIZE, offsetof(struct values, size), "1K", NULL, "1M", true, "S." },
        { "wait", SETTING_DURATION, offsetof(struct values, wait), "1s", NULL, "1h", true, "W." },
        { "flag", SETTING_BOOL, offsetof(struct values, flag), "no", NULL, NULL, true, "F." },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        static int fd = -1;
        static char file[32];
        if (fd < 0)
                fd = memfd_create("settings", MFD_CLOEXEC);
        (void) snprintf(file, sizeof(file), "/proc/self/fd/%d", fd);
        if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, data, n, 0) != (ssize_t) n)
                abort();
        struct values v = { 0 };
        cleanup_free char *error = NULL;
        if (settings_load(table, ARRAY_LEN(table), file, NULL, 0, &v, &error) < 0) {
                assert(error && *error && !v.text && !v.path);
                return 0;
        }
        assert(v.number >= 1 && v.number <= 9 && v.size <= MIB && v.wait <= 3600 * USEC_PER_SEC);
        assert(v.text && v.path && (!*v.path || *v.path == '/'));
        settings_release(table, ARRAY_LEN(table), &v);
        return 0;
}
