/* Loaded into the QEMU of a slot: the memory of its template is opened for reading only.
 *
 * QEMU opens the file behind memory-backend-file for writing even when it maps it privately (7.2;
 * 8.2 has a property against it), so the file could not be kept read-only and one machine could
 * change the memory of all. With this it is: the file's mode refuses everything else. */
#include <linux/fcntl.h> /* not the C library's: it has opinions on these names */
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define RAM "/proc/self/fd/10" /* SANDBOX_FD_RAM */

int open64(const char *path, int flags, ...);
int __open64_2(const char *path, int flags); /* NOLINT: what calls without a mode become */

static int open_as(const char *path, int flags, mode_t mode)
{
        if (strcmp(path, RAM) == 0 && (flags & O_ACCMODE) == O_RDWR)
                flags = (flags & ~O_ACCMODE) | O_RDONLY;
        return (int) syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
        va_list ap;
        va_start(ap, flags);
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
        va_end(ap);
        return open_as(path, flags, mode);
}

int __open64_2(const char *path, int flags) /* NOLINT */
{
        return open_as(path, flags, 0);
}
