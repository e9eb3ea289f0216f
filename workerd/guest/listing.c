/* Lists a folder of the slot, sorted, one or two levels deep. */
#include "helper.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES_MAX 1000

static uint32_t kind_of(mode_t mode)
{
        return S_ISREG(mode) ? 1 : S_ISDIR(mode) ? 2 : S_ISLNK(mode) ? 3 : 0;
}

static int keep_entry(const struct dirent *e)
{
        return !streq(e->d_name, ".") && !streq(e->d_name, "..") &&
               utf8_valid(e->d_name, strlen(e->d_name));
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
        return strcmp((*a)->d_name, (*b)->d_name);
}

/* Appends the entries of folder `fd`; `prefix` goes before their names. */
static int add_entries(int fd, const char *prefix, struct guest_entry *entries, size_t *n)
{
        struct dirent **found = NULL;
        int count = scandirat(fd, ".", &found, keep_entry, by_name);
        if (count < 0)
                return -errno;
        for (int i = 0; i < count; i++) {
                struct stat st;
                cleanup_free char *path = xasprintf("%s%s", prefix, found[i]->d_name);
                if (*n < ENTRIES_MAX && strlen(path) <= 4096 &&
                    fstatat(fd, found[i]->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
                        entries[(*n)++] = (struct guest_entry){
                                .path = TAKE_PTR(path),
                                .kind = kind_of(st.st_mode),
                                .size = (uint64_t) st.st_size,
                                .modified_us = (uint64_t) st.st_mtim.tv_sec * USEC_PER_SEC +
                                               (uint64_t) st.st_mtim.tv_nsec / 1000,
                        };
                free(found[i]);
        }
        free(found);
        return 0;
}

/* Second level: folders that are not hidden, after the first level. */
static void add_second_level(int fd, struct guest_entry *entries, size_t *n)
{
        size_t first = *n;
        for (size_t i = 0; i < first; i++) {
                if (entries[i].kind != 2 || entries[i].path[0] == '.')
                        continue;
                cleanup_close int sub = openat(fd, entries[i].path,
                                               O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                cleanup_free char *prefix = xasprintf("%s/", entries[i].path);
                if (sub >= 0)
                        (void) add_entries(sub, prefix, entries, n);
        }
}

void file_list(struct helper *h, const struct guest_list *m)
{
        struct guest_listing answer = { .call = m->call };
        cleanup_free struct guest_entry *entries = xnewn(struct guest_entry, ENTRIES_MAX);
        struct stat st;
        bool beneath = m->has_beneath && m->beneath;
        cleanup_close int at = file_open(m->path, beneath, O_PATH);
        if (at < 0 || fstat(at, &st) < 0)
                answer.error = at < 0 ? at : -errno;
        else {
                answer.kind = kind_of(st.st_mode);
                answer.size = (uint64_t) st.st_size;
        }
        if (answer.kind == 2) {
                cleanup_close int fd = file_open(m->path, beneath, O_RDONLY | O_DIRECTORY);
                answer.error = fd < 0 ? fd : add_entries(fd, "", entries, &answer.n_entries);
                if (fd >= 0 && m->depth > 1)
                        add_second_level(fd, entries, &answer.n_entries);
        }
        answer.entries = entries;
        helper_send(h, &wire_guest_listing, &answer);
        for (size_t i = 0; i < answer.n_entries; i++)
                free((char *) entries[i].path);
}
