/* Measures the screen of a desktop against scrot and xdotool on the same X server in the same run.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/io/daemon.h"
#include "workerd/screen.h"

#define ROUNDS 200
#define PEER_ROUNDS 30

struct bench {
        sd_event *event;
        struct screen *screen;
        char folder[64];
        const char *decoder;
        pid_t server, terminal;
        bool ready, done;
        size_t bytes;
};

static void die(const char *what)
{
        (void) fprintf(stderr, "bench-screenshot: %s\n", what);
        exit(1);
}

static pid_t start(const char *const *argv, int in, int out)
{
        pid_t pid = fork();
        if (pid < 0)
                die("cannot fork");
        if (pid > 0)
                return pid;
        sigset_t none;
        sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        int null = open("/dev/null", O_RDWR);
        if (dup2(in >= 0 ? in : null, 0) < 0 || dup2(out >= 0 ? out : null, 1) < 0 ||
            dup2(null, 2) < 0)
                _exit(127);
        execvp(argv[0], (char *const *) argv);
        _exit(127);
}

static void run(const char *const *argv)
{
        int status;
        pid_t pid = start(argv, -1, -1);
        if (waitpid(pid, &status, 0) != pid || status != 0)
                die(argv[0]);
}

static void turn(struct bench *b, uint64_t usec)
{
        (void) sd_event_run(b->event, usec);
}

static void wait_flag(struct bench *b, const bool *flag)
{
        for (uint64_t until = now_monotonic() + 20 * USEC_PER_SEC; !*flag;) {
                if (now_monotonic() > until)
                        die("nothing happens any more");
                turn(b, 100000);
        }
}

static void on_ready(void *userdata)
{
        ((struct bench *) userdata)->ready = true;
}

static void on_end(void *userdata, const char *why)
{
        die(why);
}

static void on_done(void *userdata, int r)
{
        ((struct bench *) userdata)->done = true;
}

static void on_picture(void *userdata, int r, const void *png, size_t n, unsigned width,
                       unsigned height)
{
        struct bench *b = userdata;
        b->done = r == 0;
        b->bytes = n;
}

static void begin_server(struct bench *b)
{
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        (void) snprintf(a.sun_path, sizeof(a.sun_path), "%s/rfb", b->folder);
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), chosen[2];
        if (listener < 0 || bind(listener, (struct sockaddr *) &a, sizeof(a)) < 0 ||
            listen(listener, 4) < 0 || pipe2(chosen, O_CLOEXEC) < 0)
                die("no socket for the server");
        const char *const argv[] = {
                "Xvnc", "-displayfd",    "1",         "-inetd",   "-SecurityTypes",
                "None", "-AlwaysShared", "-geometry", "1280x800", "-depth",
                "24",   "-nolisten",     "tcp",       "-noreset", "-ac",
                NULL
        };
        b->server = start(argv, listener, chosen[1]);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *) &a, sizeof(a)) < 0)
                die("cannot connect to the server");
        struct screen_config c = { .event = b->event,
                                   .fd = fd,
                                   .decoder = b->decoder,
                                   .on_ready = on_ready,
                                   .on_end = on_end,
                                   .userdata = b };
        if (screen_new(&c, &b->screen) < 0)
                die("no screen");
        wait_flag(b, &b->ready);
        char display[16] = ":";
        struct pollfd p = { .fd = chosen[0], .events = POLLIN };
        ssize_t n = poll(&p, 1, 5000) > 0 ? read(chosen[0], display + 1, sizeof(display) - 2) : 0;
        if (n <= 0)
                die("the server does not say its display");
        display[strcspn(display, "\n")] = '\0';
        (void) setenv("DISPLAY", display, 1);
        (void) close(listener);
        (void) close(chosen[0]);
        (void) close(chosen[1]);
}

static void quiet(struct bench *b)
{
        b->done = false;
        if (screen_wait_quiet(b->screen, 150, 5000, on_done, b) < 0)
                die("cannot wait");
        wait_flag(b, &b->done);
}

/* Something to see: colours, text, and a program that answers keys. */
static void fill_screen(struct bench *b)
{
        const char *const argv[] = {
                "xterm",
                "-geometry",
                "158x50+0+0",
                "-fn",
                "8x13",
                "-bg",
                "#10161d",
                "-fg",
                "#e3e9ef",
                "-e",
                "sh",
                "-c",
                "ls -lR --color=always /usr/share | head -45; stty -echo -icanon; exec cat",
                NULL
        };
        uint64_t before = screen_generation(b->screen);
        const char *const paint[] = { "xsetroot", "-solid", "#35516b", NULL };
        run(paint);
        b->terminal = start(argv, -1, -1);
        for (uint64_t until = now_monotonic() + 10 * USEC_PER_SEC;
             screen_generation(b->screen) < before + 20;) {
                if (now_monotonic() > until)
                        die("the terminal does not show");
                turn(b, 50000);
        }
        quiet(b);
}

/* Microseconds until a pixel differs from generation `from`. */
static uint64_t until_change(struct bench *b, uint64_t from, uint64_t begin)
{
        while (screen_generation(b->screen) == from) {
                if (now_monotonic() > begin + 5 * USEC_PER_SEC)
                        die("no change on the screen");
                turn(b, 100000);
        }
        return now_monotonic() - begin;
}

static int by_value(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
        return x < y ? -1 : x > y;
}

static double report(const char *what, uint64_t *times, size_t n)
{
        qsort(times, n, sizeof(*times), by_value);
        double p50 = (double) times[n / 2] / 1000;
        printf("%-44s p50 %8.2f ms   p99 %8.2f ms   (n=%zu)\n", what, p50,
               (double) times[n * 99 / 100] / 1000, n);
        return p50;
}

static void ratio(const char *what, double ours, double theirs)
{
        printf("%-44s %.1f times as fast\n\n", what, theirs / ours);
}

static void move(struct bench *b, int i)
{
        struct screen_point p = { 100 + (unsigned) (i * 37 % 1000),
                                  100 + (unsigned) (i * 53 % 500) };
        uint64_t from = screen_generation(b->screen), begin = now_monotonic();
        if (screen_move(b->screen, 0, p, NULL, NULL) < 0)
                die("cannot move");
        (void) until_change(b, from, begin);
}

static uint64_t cpu_time(void)
{
        struct timespec t;
        if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) < 0)
                return 0;
        return (uint64_t) t.tv_sec * USEC_PER_SEC + (uint64_t) t.tv_nsec / 1000;
}

static double pictures(struct bench *b, const char *what, unsigned width, unsigned height)
{
        uint64_t times[ROUNDS], cpu[ROUNDS];
        for (int i = 0; i < ROUNDS; i++) {
                move(b, i); /* another picture each time */
                uint64_t begin = now_monotonic(), cpu_begin = cpu_time();
                b->done = false;
                if (screen_capture(b->screen, NULL, width, height, on_picture, b) < 0)
                        die("cannot capture");
                while (!b->done)
                        turn(b, 100000);
                times[i] = now_monotonic() - begin;
                cpu[i] = cpu_time() - cpu_begin;
        }
        double p50 = report(what, times, ROUNDS);
        (void) report("  its own processor time", cpu, ROUNDS);
        printf("%-44s %zu bytes\n", "", b->bytes);
        return p50;
}

static double scrot(struct bench *b)
{
        uint64_t times[PEER_ROUNDS];
        char path[100];
        struct stat st = { 0 };
        (void) snprintf(path, sizeof(path), "%s/shot.png", b->folder);
        const char *const argv[] = { "scrot", "-p", "-o", path, NULL };
        for (int i = 0; i < PEER_ROUNDS; i++) {
                move(b, i);
                uint64_t begin = now_monotonic();
                run(argv);
                times[i] = now_monotonic() - begin;
        }
        double p50 = report("scrot -p, 1280x800 to a file", times, PEER_ROUNDS);
        (void) stat(path, &st);
        printf("%-44s %lld bytes\n", "", (long long) st.st_size);
        (void) unlink(path);
        return p50;
}

/* One click elsewhere: the pointer shows there. */
static double clicks(struct bench *b, bool peer)
{
        uint64_t times[ROUNDS];
        int n = peer ? PEER_ROUNDS : ROUNDS;
        for (int i = 0; i < n; i++) {
                char x[16], y[16];
                struct screen_point p = { 60 + (unsigned) (i * 41 % 1000),
                                          60 + (unsigned) (i * 59 % 500) };
                (void) snprintf(x, sizeof(x), "%u", p.x);
                (void) snprintf(y, sizeof(y), "%u", p.y);
                quiet(b);
                const char *const argv[] = { "xdotool", "mousemove", x, y, "click", "1", NULL };
                uint64_t from = screen_generation(b->screen), begin = now_monotonic();
                if (peer)
                        run(argv);
                else if (screen_click(b->screen, 0, SCREEN_LEFT, 1, &p, NULL, NULL, NULL) < 0)
                        die("cannot click");
                times[i] = until_change(b, from, begin);
        }
        return report(peer ? "xdotool mousemove click, until it shows" : "click, until it shows",
                      times, (size_t) n);
}

/* One character, until the terminal shows it. */
static double keys(struct bench *b, bool peer)
{
        uint64_t times[ROUNDS];
        int n = peer ? PEER_ROUNDS : ROUNDS;
        for (int i = 0; i < n; i++) {
                const char *const argv[] = { "xdotool", "key", "x", NULL };
                uint64_t from = screen_generation(b->screen), begin = now_monotonic();
                if (peer)
                        run(argv);
                else if (screen_key(b->screen, 0, "x", 1, NULL, NULL) < 0)
                        die("cannot press a key");
                times[i] = until_change(b, from, begin);
                quiet(b);
        }
        return report(peer ? "xdotool key, until the terminal shows it"
                           : "key, until the terminal shows it",
                      times, (size_t) n);
}

/* A sentence of 200 characters. */
static double typing(struct bench *b, bool peer)
{
        static char text[201];
        uint64_t times[10];
        for (int i = 0; i < 200; i++)
                text[i] = "The quick brown Fox jumps over the lazy Dog. "[i % 45];
        for (size_t i = 0; i < ARRAY_LEN(times); i++) {
                const char *const argv[] = { "xdotool", "type", text, NULL };
                uint64_t begin = now_monotonic();
                b->done = false;
                if (peer)
                        run(argv);
                else if (screen_type(b->screen, 0, text, 200, on_done, b) < 0)
                        die("cannot type");
                else
                        wait_flag(b, &b->done);
                times[i] = now_monotonic() - begin;
                quiet(b);
        }
        return report(peer ? "xdotool type, 200 characters" : "type, 200 characters", times,
                      ARRAY_LEN(times));
}

int main(void)
{
        struct bench b = { 0 };
        (void) snprintf(b.folder, sizeof(b.folder), "/tmp/bench-screenshot-XXXXXX");
        if (!mkdtemp(b.folder) || sd_event_new(&b.event) < 0)
                die("cannot begin");
        (void) signal(SIGPIPE, SIG_IGN);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
        b.decoder = getenv("BERTH_DECODER");
        if (!b.decoder)
                die("BERTH_DECODER names no decoder");
        begin_server(&b);
        fill_screen(&b);

        double model = pictures(&b, "picture for the model, 1280x800 to 1024x768", 1024, 768);
        double whole = pictures(&b, "picture as it is, 1280x800", 0, 0);
        double theirs = scrot(&b);
        ratio("picture for the model against scrot", model, theirs);
        (void) whole;
        double ours = clicks(&b, false);
        ratio("click against xdotool", ours, clicks(&b, true));
        ours = keys(&b, false);
        ratio("key against xdotool", ours, keys(&b, true));
        ours = typing(&b, false);
        ratio("typing against xdotool", ours, typing(&b, true));
        printf("goal: picture for the model p50 <= 8 ms: %s\n", model <= 8 ? "met" : "MISSED");

        screen_free(b.screen);
        loop_defer_flush(b.event);
        sd_event_unref(b.event);
        (void) kill(b.terminal, SIGTERM);
        (void) kill(b.server, SIGTERM);
        (void) waitpid(b.server, NULL, 0);
        char path[100];
        (void) snprintf(path, sizeof(path), "%s/rfb", b.folder);
        (void) unlink(path);
        (void) rmdir(b.folder);
        return model <= 8 ? 0 : 1;
}
