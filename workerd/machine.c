/* Looks for what slots of the kind vm need, and keeps their templates. */
#include "machine.h"

#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "slot-tree.h"

/* What else decides whether a template fits: the machine's devices as slot-vm.c lists them. */
#define DEVICES_VERSION 1
#define VERSION_WAIT_MS 5000

/* The first line of "qemu --version", which a template depends on. */
static int ask_version(const char *qemu, char *ret, size_t size)
{
        int pair[2];
        if (pipe2(pair, O_CLOEXEC) < 0)
                return -errno;
        cleanup_close int in = pair[0], out = pair[1];
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                sigset_t none;
                char *const argv[] = { (char *) qemu, (char *) "--version", NULL };
                char *const env[] = { NULL };
                sigemptyset(&none);
                (void) sigprocmask(SIG_SETMASK, &none, NULL);
                if (dup2(out, 1) >= 0)
                        (void) execve(qemu, argv, env);
                _exit(126);
        }
        /* NOLINTNEXTLINE(clang-analyzer-deadcode.DeadStores): the cleanup reads it */
        out = fd_close(out);
        struct pollfd p = { .fd = in, .events = POLLIN };
        ssize_t n = poll(&p, 1, VERSION_WAIT_MS) > 0 ? read(in, ret, size - 1) : -1;
        (void) kill(pid, SIGKILL);
        (void) waitpid(pid, NULL, 0);
        if (n <= 0)
                return -EIO;
        ret[n] = '\0';
        ret[strcspn(ret, "\n")] = '\0';
        return 0;
}

static int hash_file(const char *path, char ret[static SHA256_HEX])
{
        cleanup_buf struct buf all = BUF_LIMIT(64 * MIB);
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        for (;;) {
                if (buf_reserve(&all, 256 * KIB) < 0)
                        return -EFBIG;
                ssize_t n = read(fd, buf_tail(&all), 256 * KIB);
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                buf_added(&all, (size_t) n);
        }
        sha256_hex(buf_head(&all), buf_pending(&all), ret);
        return 0;
}

static int make_key(struct machine *m, const char *helper)
{
        char version[200], helper_hash[SHA256_HEX], hash[SHA256_HEX];
        int r = ask_version(m->qemu, version, sizeof(version));
        if (r == 0)
                r = hash_file(helper, helper_hash);
        if (r < 0)
                return r;
        cleanup_free char *text = xasprintf(
                "%d\n%s\n%s\n%s\n%" PRIu64 "\n%ux%u\n%s\n", DEVICES_VERSION, m->image, version,
                helper_hash, m->memory_bytes, m->width, m->height, m->kvm ? "kvm" : "tcg");
        sha256_hex(text, strlen(text), hash);
        (void) snprintf(m->key, sizeof(m->key), "%.60s-%.12s", m->image, hash);
        return 0;
}

static int look(const struct machine *m, char **ret_why)
{
        static const char *const parts[] = { "vmlinuz", "initrd", "root.squashfs" };
        for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
                cleanup_free char *path = xasprintf("%s/%s", m->image_dir, parts[i]);
                if (access(path, R_OK) == 0)
                        continue;
                int r = -errno;
                *ret_why = xasprintf("the image of machines is missing (%s: %s); run: berthctl "
                                     "image build vm",
                                     path, strerror(-r));
                return r;
        }
        if (access(m->qemu, X_OK) < 0) {
                int r = -errno;
                *ret_why = xasprintf("QEMU is missing (%s: %s); run: apt-get install "
                                     "qemu-system-x86",
                                     m->qemu, strerror(-r));
                return r;
        }
        if (access(m->preload, R_OK) < 0) {
                int r = -errno;
                *ret_why = xasprintf("%s cannot be read: %s", m->preload, strerror(-r));
                return r;
        }
        if (access(m->templates, R_OK | W_OK | X_OK) < 0) {
                int r = -errno;
                *ret_why = xasprintf("the folder for templates of machines, %s, cannot be written "
                                     "by the worker: %s",
                                     m->templates, strerror(-r));
                return r;
        }
        return 0;
}

int machine_new(const struct machine_config *c, struct machine **ret, char **ret_why)
{
        CLEANUP(machine_freep) struct machine *m = xnew(struct machine);
        /* The name of an image is its content's: a link that leads to it is followed. */
        char *real = realpath(c->image_dir, NULL);
        m->image_dir = real ? real : xstrdup(c->image_dir);
        cleanup_free char *folder = xstrdup(m->image_dir);
        m->image = xstrdup(basename(folder));
        m->qemu = xstrdup(c->qemu);
        m->preload = xstrdup(c->preload);
        m->templates = xstrdup(c->templates);
        m->memory_bytes = c->memory_bytes;
        m->width = c->width;
        m->height = c->height;
        int r = look(m, ret_why);
        if (r < 0)
                return r;
        if (c->kvm)
                m->kvm =
                        machine_probe_kvm(MACHINE_KVM, c->identity, m->kvm_why, sizeof(m->kvm_why));
        else
                (void) snprintf(m->kvm_why, sizeof(m->kvm_why), "vm_kvm is off");
        r = make_key(m, c->helper);
        if (r < 0) {
                *ret_why = xasprintf("%s does not tell its version: %s", m->qemu, strerror(-r));
                return r;
        }
        *ret = TAKE_PTR(m);
        return 0;
}

struct machine *machine_free(struct machine *m)
{
        if (!m)
                return NULL;
        free(m->image_dir);
        free(m->image);
        free(m->qemu);
        free(m->preload);
        free(m->templates);
        free(m);
        return NULL;
}

bool machine_has_template(const struct machine *m)
{
        cleanup_free char *path = xasprintf("%s/%s", m->templates, m->key);
        return access(path, F_OK) == 0;
}

int machine_open_template(const struct machine *m, int *ret_ram, int *ret_state)
{
        cleanup_free char *ram_path = xasprintf("%s/%s/ram", m->templates, m->key);
        cleanup_free char *state_path = xasprintf("%s/%s/state", m->templates, m->key);
        cleanup_close int ram = open(ram_path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (ram < 0)
                return -errno;
        cleanup_close int state = open(state_path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (state < 0)
                return -errno;
        *ret_ram = TAKE_FD(ram);
        *ret_state = TAKE_FD(state);
        return 0;
}

/* The draft's folder and lock begin with a point, so that they are no template. */
static char *draft_name(const struct machine *m, const char *what)
{
        return xasprintf(".%s.%s", m->key, what);
}

int machine_draft_begin(const struct machine *m, struct machine_draft *ret)
{
        CLEANUP(machine_draft_done) struct machine_draft d = MACHINE_DRAFT_NONE;
        cleanup_free char *lock = draft_name(m, "lock");
        cleanup_free char *name = draft_name(m, "new");
        cleanup_close int top = open(m->templates, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (top < 0)
                return -errno;
        d.lock = openat(top, lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0660);
        if (d.lock < 0)
                return -errno;
        (void) fchmod(d.lock, 0660); /* for the other workers; only its maker may */
        if (flock(d.lock, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? -EAGAIN : -errno;
        if (faccessat(top, m->key, F_OK, 0) == 0)
                return -EAGAIN; /* it was finished just now: there to be opened */
        int r = tree_remove(top, name);
        if (r < 0)
                return r;
        if (mkdirat(top, name, 0700) < 0)
                return -errno;
        d.folder = openat(top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (d.folder < 0)
                return -errno;
        /* QEMU opens the memory by itself, under the slot's id: the folder keeps all others out. */
        d.ram = openat(d.folder, "ram", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (d.ram < 0 || fchmod(d.ram, 0666) < 0 || ftruncate(d.ram, (off_t) m->memory_bytes) < 0)
                return -errno;
        d.state = openat(d.folder, "state", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (d.state < 0)
                return -errno;
        *ret = d;
        /* NOLINTNEXTLINE(clang-analyzer-deadcode.DeadStores): the cleanup reads it */
        d = MACHINE_DRAFT_NONE;
        return 0;
}

int machine_draft_finish(const struct machine *m, struct machine_draft *d)
{
        cleanup_free char *from = draft_name(m, "new");
        cleanup_close int top = open(m->templates, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (top < 0)
                return -errno;
        if (fchmod(d->ram, 0444) < 0 || fchmod(d->state, 0444) < 0 || fchmod(d->folder, 0755) < 0)
                return -errno;
        if (renameat2(top, from, top, m->key, 1 /* RENAME_NOREPLACE */) < 0)
                return -errno;
        machine_draft_done(d);
        return 0;
}

void machine_draft_done(struct machine_draft *d)
{
        fd_close(d->ram);
        fd_close(d->state);
        fd_close(d->folder);
        fd_close(d->lock);
        *d = MACHINE_DRAFT_NONE;
}
