/* berth-decoder: the reader of a slot's display (decoder.h). Started by workerd, ends with it. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "decoder.h"

#define HEAP_BYTES (512UL * 1024 * 1024) /* pictures of the largest screen need some 300 MiB */

static void limit(void)
{
        const struct rlimit none = { 0, 0 }, files = { DECODER_MEMORY + 1, DECODER_MEMORY + 1 },
                            memory = { DECODER_MEMORY_BYTES + HEAP_BYTES,
                                       DECODER_MEMORY_BYTES + HEAP_BYTES };
        (void) setrlimit(RLIMIT_CORE, &none);
        (void) setrlimit(RLIMIT_FSIZE, &none);
        (void) setrlimit(RLIMIT_NPROC, &none);
        (void) setrlimit(RLIMIT_NOFILE, &files);
        if (!DECODER_SANITIZED)
                (void) setrlimit(RLIMIT_AS, &memory);
}

int main(void)
{
        void *memory = mmap(NULL, DECODER_MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                            DECODER_MEMORY, 0);
        if (memory == MAP_FAILED)
                return 2;
        (void) close(DECODER_MEMORY);
        (void) prctl(PR_SET_DUMPABLE, 0);
        (void) prctl(PR_SET_NAME, "berth-decoder"); /* started by descriptor it has none */
        limit();
        /* The log of the worker is not for it either. */
        if (!DECODER_SANITIZED && dup2(0, 2) < 0)
                return 2;
        if (decoder_confine() < 0)
                return 3;
        decoder_serve(DECODER_CONTROL, DECODER_SERVER, memory);
}
