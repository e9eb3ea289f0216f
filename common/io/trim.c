/* Gives back the memory that only starting needed: code of libraries, free heap. */
#include "trim.h"

#include <malloc.h>
#include <sys/mman.h>

#include "common/base/util.h"

/* Only text: mapped from a file, not writable, executable. Pages of it are never changed, unlike
 * those that the loader relocated, so the file has all that is dropped. */
static void drop_text(const char *line)
{
        unsigned long from, to, inode;
        char mode[5];

        /* NOLINTNEXTLINE(cert-err34-c): the kernel wrote it */
        if (sscanf(line, "%lx-%lx %4s %*s %*s %lu", &from, &to, mode, &inode) == 4 && inode > 0 &&
            streq(mode, "r-xp"))
                /* NOLINTNEXTLINE(performance-no-int-to-ptr) */
                (void) madvise((void *) from, to - from, MADV_DONTNEED);
}

void trim_after_start(void)
{
        FILE *maps = fopen("/proc/self/maps", "re");
        cleanup_free char *line = NULL;
        size_t size = 0;

        while (maps && getline(&line, &size, maps) > 0)
                drop_text(line);
        if (maps)
                (void) fclose(maps);
        (void) malloc_trim(0);
}
