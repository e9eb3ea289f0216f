/* Removes folders with hostile contents in bounded steps and without recursion. */
#include "slot-tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_dots(const char *name)
{
        return streq(name, ".") || streq(name, "..");
}

static int open_folder(int parent, const char *name)
{
        int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0) {
                (void) fchmod(fd, 0700);
                return fd;
        }
        if (errno != EACCES)
                return -errno;
        /* Its owner is ours, its mode is not: a symbolic link would have given ELOOP before. */
        cleanup_close int path =
                openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (path < 0)
                return -errno;
        char self[64];
        (void) snprintf(self, sizeof(self), "/proc/self/fd/%d", path);
        if (chmod(self, 0700) < 0)
                return -errno;
        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int tree_lift(int from, const char *name, int top)
{
        for (int tries = 0; tries < 8; tries++) {
                uint64_t random;
                char fresh[32];
                random_bytes(&random, sizeof(random));
                (void) snprintf(fresh, sizeof(fresh), "t%016" PRIx64, random);
                if (renameat2(from, name, top, fresh, 1 /* RENAME_NOREPLACE */) == 0)
                        return 0;
                if (errno == EACCES) {
                        /* Moving a folder rewrites its "..", which needs leave to write in it. */
                        cleanup_close int fd = open_folder(from, name);
                        if (fd < 0)
                                return fd;
                } else if (errno != EEXIST)
                        return -errno;
        }
        return -EEXIST;
}

/* Empties the folder `name` of `top`: files go, folders move up. Then removes it. */
static int empty_folder(int top, const char *name, unsigned *budget)
{
        int fd = open_folder(top, name);
        if (fd < 0)
                return fd;
        DIR *d = fdopendir(fd);
        if (!d) {
                fd_close(fd);
                return -ENOMEM;
        }
        int r = 0;
        for (struct dirent *e; r == 0 && *budget > 0 && (e = readdir(d));) {
                if (is_dots(e->d_name))
                        continue;
                (*budget)--;
                if (unlinkat(fd, e->d_name, 0) < 0)
                        r = errno == EISDIR || errno == EPERM ? tree_lift(fd, e->d_name, top)
                                                              : -errno;
        }
        closedir(d);
        if (r == 0 && *budget > 0 && unlinkat(top, name, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY)
                r = -errno;
        return r;
}

int tree_remove_some(int top, unsigned budget)
{
        int copy = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = copy < 0 ? NULL : fdopendir(copy);
        if (!d) {
                fd_close(copy);
                return -errno;
        }
        int r = 0;
        unsigned met = 0, left = budget;
        for (struct dirent *e; r == 0 && left > 0 && (e = readdir(d));) {
                if (is_dots(e->d_name))
                        continue;
                met++;
                left--;
                if (unlinkat(top, e->d_name, 0) < 0)
                        r = errno == EISDIR || errno == EPERM ? empty_folder(top, e->d_name, &left)
                                                              : -errno;
        }
        closedir(d);
        return r < 0 ? r : met > 0;
}

int tree_remove(int parent, const char *name)
{
        int opened = open_folder(parent, name);
        if (opened < 0)
                return opened == -ENOENT ? 0 : opened;
        cleanup_close int top = opened;
        int r;
        do
                r = tree_remove_some(top, 100000);
        while (r > 0);
        if (r == 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0)
                r = -errno;
        return r;
}
