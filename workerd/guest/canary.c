/* Process 1 of the small slot that a worker makes when it starts: tries to exceed every limit and
 * tells over the stream which of them held, one word per line. */
#include "helper.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Each is a few times the limit that slot-proof.c sets. */
#define TRY_MEMORY (128 * MIB)
#define TRY_PROCESSES 96
#define TRY_DISK (8 * MIB)
#define TRY_FILES 256
#define TRY_OPEN 256
#define SPIN_USEC (120 * USEC_PER_MSEC)
#define WATCH_MS 1500 /* time for a watchdog to see it */

static void eat_memory(void)
{
        int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        if (score >= 0)
                (void) !write(score, "1000", 4);
        char *at =
                mmap(NULL, TRY_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
                _exit(1);
        for (size_t i = 0; i < TRY_MEMORY; i += 4096)
                at[i] = 1;
        (void) poll(NULL, 0, WATCH_MS);
        _exit(0);
}

static bool memory_held(void)
{
        int status = 0;
        pid_t pid = fork();
        if (pid == 0)
                eat_memory();
        return pid > 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) &&
               WTERMSIG(status) == SIGKILL;
}

static bool processes_held(void)
{
        pid_t pids[TRY_PROCESSES];
        size_t n = 0;
        while (n < TRY_PROCESSES && (pids[n] = fork()) >= 0) {
                if (pids[n] == 0)
                        for (;;)
                                (void) pause();
                n++;
        }
        for (size_t i = 0; i < n; i++) {
                (void) kill(pids[i], SIGKILL);
                (void) waitpid(pids[i], NULL, 0);
        }
        return n < TRY_PROCESSES;
}

static bool disk_held(const char *path)
{
        static char block[64 * 1024];
        size_t done = 0;
        cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        ssize_t n = fd < 0 ? -1 : 0;
        while (n >= 0 && done < TRY_DISK) {
                n = write(fd, block, sizeof(block));
                done += n > 0 ? (size_t) n : 0;
        }
        bool full = fd >= 0 && n < 0 && errno == ENOSPC;
        (void) unlink(path);
        return full;
}

static bool files_held(const char *folder)
{
        int i = 0, fd = 0;
        char path[128];
        for (; i < TRY_FILES && fd >= 0; i++) {
                (void) snprintf(path, sizeof(path), "%s/n%d", folder, i);
                fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
                if (fd >= 0)
                        (void) close(fd);
        }
        return fd < 0 && errno == ENOSPC;
}

static bool open_files_held(void)
{
        int fds[TRY_OPEN];
        size_t n = 0;
        while (n < TRY_OPEN && (fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
                n++;
        bool held = n < TRY_OPEN && errno == EMFILE;
        for (size_t i = 0; i < n; i++)
                (void) close(fds[i]);
        return held;
}

/* A spinner must get clearly less than the whole processor. */
static bool cpu_held(void)
{
        struct timespec used;
        uint64_t begin = now_monotonic();
        struct timespec before;
        (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
        while (now_monotonic() < begin + SPIN_USEC)
                ;
        uint64_t wall = now_monotonic() - begin;
        (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
        uint64_t cpu = (uint64_t) (used.tv_sec - before.tv_sec) * USEC_PER_SEC +
                       (uint64_t) (used.tv_nsec - before.tv_nsec) / 1000;
        return cpu * 10 < wall * 6;
}

/* Neither the network (a documentation address) nor the host's loopback leads anywhere. */
static bool network_held(void)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(9) };
        a.sin_addr.s_addr = htonl(0xc0000201);
        cleanup_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        return fd >= 0 && connect(fd, (struct sockaddr *) &a, sizeof(a)) < 0 &&
               errno == ENETUNREACH;
}

static void tell(int stream, const char *what, bool held)
{
        char line[64];
        int n = snprintf(line, sizeof(line), "%s %s\n", what, held ? "held" : "broken");
        (void) !write(stream, line, (size_t) n);
}

void canary(int stream)
{
        tell(stream, "begin", true);
        tell(stream, "network", network_held());
        tell(stream, "open_files", open_files_held());
        tell(stream, "disk",
             disk_held("/home/agent/big") && disk_held("/tmp/big") && disk_held("/dev/shm/big"));
        tell(stream, "files", files_held("/home/agent") && files_held("/tmp"));
        tell(stream, "processes", processes_held());
        tell(stream, "memory", memory_held());
        tell(stream, "cpu", cpu_held());
        tell(stream, "end", true);
        _exit(0);
}
