/* The vm kind: QEMU in a sandbox, a copy of a machine that has already started.
 *
 * Without a template the slot makes one first: the machine starts, says "ready" on the port
 * berth.setup before anything of a session is in it, is stopped and saved; then the slot starts
 * again as a copy of it, which takes the time of day and random bytes from that port and goes on.
 * QEMU has the machine's memory, disk and helper read-only, no network but the namespace's one
 * door, no files to write, and a system call filter of its own below the slot's. */
#include <assert.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slot-private.h"

#define BOOT_USEC (15 * 60 * USEC_PER_SEC) /* without KVM, on a machine with other work */
#define COPY_USEC (60 * USEC_PER_SEC)
#define SETTLE_QUIET_MS 40
#define SETTLE_MAX_MS 1000
#define SAID_MAX 256
/* QEMU hands the machine one key event after the other with this pause, keeps some 340 that wait
 * and drops what is more. The machine itself has room for 32 when its processor gets no time, which
 * without KVM is common. */
#define KEY_DELAY (2 * USEC_PER_MSEC)
#define KEY_DELAY_EMULATED (10 * USEC_PER_MSEC)

/* --- the command line ------------------------------------------------------------------------- */

struct line {
        char *argv[96];
        size_t n;
};

static void put(struct line *l, const char *option, const char *fmt, ...) printf_like(3, 4);
static void put(struct line *l, const char *option, const char *fmt, ...)
{
        va_list ap;
        char *value = NULL;
        assert(l->n + 3 <= ARRAY_LEN(l->argv));
        l->argv[l->n++] = xstrdup(option);
        va_start(ap, fmt);
        if (vasprintf(&value, fmt, ap) < 0)
                abort();
        va_end(ap);
        l->argv[l->n++] = value;
}

static void put_word(struct line *l, const char *word)
{
        assert(l->n + 2 <= ARRAY_LEN(l->argv));
        l->argv[l->n++] = xstrdup(word);
}

static void line_done(struct line *l)
{
        for (size_t i = 0; i < l->n; i++)
                free(l->argv[i]);
}

static uint64_t key_delay(const struct machine *m)
{
        return m->kvm ? KEY_DELAY : KEY_DELAY_EMULATED;
}

static void put_machine(struct line *l, const struct machine *m, bool draft)
{
        const uint64_t mib = m->memory_bytes / MIB;
        put_word(l, "-nodefaults");
        put_word(l, "-no-user-config");
        put(l, "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        put(l, "-machine", "q35,hpet=off,memory-backend=ram");
        put(l, "-accel", m->kvm ? "kvm" : "tcg,thread=multi,tb-size=256");
        put(l, "-cpu", m->kvm ? "host" : "max");
        put(l, "-smp", m->kvm ? "2" : "1"); /* without KVM a second one makes it slower */
        put(l, "-m", "%" PRIu64 "M", mib);
        put(l, "-object",
            "memory-backend-file,id=ram,size=%" PRIu64 "M,mem-path=/proc/self/fd/%d,"
            "share=%s",
            mib, SANDBOX_FD_RAM, draft ? "on" : "off");
        put(l, "-kernel", SANDBOX_IMAGE "/vmlinuz");
        put(l, "-initrd", SANDBOX_IMAGE "/initrd");
        put(l, "-append", "console=ttyS0 quiet panic=-1 mitigations=off");
        if (!draft)
                put(l, "-incoming", "defer");
}

/* A template fits as long as these are the same: DEVICES_VERSION of machine.c. */
static void put_devices(struct line *l, const struct machine *m)
{
        put(l, "-drive",
            "if=none,id=disk,format=raw,readonly=on,file=" SANDBOX_IMAGE "/root.squashfs");
        put(l, "-device", "virtio-blk-pci,drive=disk");
        put(l, "-drive", "if=none,id=helper,format=raw,readonly=on,file=" SANDBOX_HELPER);
        put(l, "-device", "virtio-blk-pci,drive=helper");
        put(l, "-device", "virtio-vga,xres=%u,yres=%u", m->width, m->height);
        put(l, "-device", "virtio-tablet-pci");
        put(l, "-device", "virtio-keyboard-pci");
        put(l, "-device", "virtio-rng-pci");
        put(l, "-device",
            "vmgenid,guid=auto"); /* its change makes the kernel's random numbers new */
        put(l, "-netdev", "user,id=net,ipv6=off");
        put(l, "-device", "virtio-net-pci,netdev=net,romfile=");
        put(l, "-device", "virtio-serial-pci");
        put(l, "-chardev", "socket,id=stream,fd=3");
        put(l, "-device", "virtserialport,chardev=stream,name=berth.stream");
        put(l, "-chardev", "socket,id=setup,fd=%d", SANDBOX_FD_SETUP);
        put(l, "-device", "virtserialport,chardev=setup,name=berth.setup");
        put(l, "-chardev", "socket,id=qmp,fd=%d", SANDBOX_FD_QMP);
        put(l, "-mon", "chardev=qmp,mode=control");
        put(l, "-chardev", "stdio,id=console,signal=off");
        put(l, "-serial", "chardev:console");
        put(l, "-vnc", "none,share=force-shared,key-delay-ms=%" PRIu64,
            key_delay(m) / USEC_PER_MSEC);
}

static int start(struct slot *s, int stream, int gate)
{
        struct slot_vm *vm = &s->vm;
        const struct machine *m = s->config.machine;
        CLEANUP(line_done) struct line l = { .n = 0 };
        put_word(&l, m->qemu);
        put_machine(&l, m, vm->drafting);
        put_devices(&l, m);
        struct sandbox_machine machine = { .argv = l.argv,
                                           .preload = vm->drafting ? NULL : m->preload,
                                           .qmp = vm->theirs[0],
                                           .setup = vm->theirs[1],
                                           .ram = vm->drafting ? vm->draft.ram : vm->ram,
                                           .kvm = m->kvm };
        struct sandbox_config c = { .bwrap = s->config.bwrap,
                                    .image_dir = m->image_dir,
                                    .helper = s->config.helper,
                                    .profile = SANDBOX_TOOL,
                                    .stream = stream,
                                    .listener = -1,
                                    .gate = gate,
                                    .limits = s->config.limits,
                                    .identity = s->config.host ? &s->config.host->identity : NULL,
                                    .cgroup = &s->cgroup,
                                    .machine = &machine };
        /* The memory of a template is one file. */
        c.limits.file_bytes = MAX(c.limits.file_bytes, m->memory_bytes);
        int r = sandbox_start(&c, &s->sandbox);
        vm->theirs[0] = fd_close(vm->theirs[0]);
        vm->theirs[1] = fd_close(vm->theirs[1]);
        return r;
}

/* --- QEMU's side ------------------------------------------------------------------------------ */

static const char *description(const json_t *error)
{
        const char *text = json_string_value(json_object_get(error, "desc"));
        return text ? text : "it did not say why";
}

/* For commands of which only a failure is of interest. */
static void on_done(void *userdata, int r, const json_t *result)
{
        if (r == -EIO)
                slot_fail(userdata, "QEMU refuses to go on: %s", description(result));
}

static void call(struct slot *s, const char *command, json_t *arguments, int fd)
{
        int r = qmp_call(s->vm.qmp, command, arguments, fd, on_done, s);
        if (r < 0)
                slot_fail(s, "QEMU cannot be asked for %s: %s", command, strerror(-r));
}

static void ask_capabilities(struct slot *s)
{
        call(s, "migrate-set-capabilities",
             json_pack("{s:[{s:s,s:b},{s:s,s:b}]}", "capabilities", "capability", "x-ignore-shared",
                       "state", 1, "capability", "events", "state", 1),
             -1);
}

/* Time of day, what makes the random numbers of this copy its own, and how many processes steps may
 * have. */
static void tell_setup(struct slot *s)
{
        uint8_t random[32];
        char hex[2 * sizeof(random) + 1], line[SAID_MAX];
        random_bytes(random, sizeof(random));
        hex_encode(random, sizeof(random), hex);
        uint64_t now = now_realtime();
        int n = snprintf(line, sizeof(line), "go %" PRIu64 ".%06u %s %" PRIu64 "\n",
                         now / USEC_PER_SEC, (unsigned) (now % USEC_PER_SEC), hex,
                         s->config.limits.processes);
        if (send(s->vm.setup, line, (size_t) n, MSG_DONTWAIT | MSG_NOSIGNAL) != n)
                slot_fail(s, "the machine cannot be told the time");
}

static void finish_draft(struct slot *s)
{
        uint64_t took = now_monotonic() - s->vm.started;
        int r = machine_draft_finish(s->config.machine, &s->vm.draft);
        if (r < 0) {
                slot_fail(s, "the template of the machine cannot be kept: %s", strerror(-r));
                return;
        }
        log_notice("slot %s: the template %s of the machine was made in %" PRIu64 " s",
                   s->config.id, s->config.machine->key, took / USEC_PER_SEC);
        slot_restart(s, "the template is made");
}

static void on_migration(struct slot *s, const char *status)
{
        if (streq(status, "failed"))
                slot_fail(s, s->vm.drafting ? "the machine's state cannot be saved"
                                            : "the machine does not fit its template");
        if (!streq(status, "completed"))
                return;
        if (s->vm.drafting) {
                finish_draft(s);
                return;
        }
        tell_setup(s);
        if (s->phase == SLOT_PHASE_STARTING)
                call(s, "cont", NULL, -1);
}

static void on_event(void *userdata, const char *name, const json_t *data)
{
        struct slot *s = userdata;
        const char *status = json_string_value(json_object_get(data, "status"));
        if (streq(name, "MIGRATION") && status && s->phase == SLOT_PHASE_STARTING)
                on_migration(s, status);
        else if (streq(name, "SHUTDOWN"))
                slot_fail(s, "the machine switched itself off: %s",
                          s->said[0] ? strstrip(s->said) : "it said nothing");
}

static void on_qmp_end(void *userdata, const char *why)
{
        struct slot *s = userdata;
        /* Its exit, with its last words, tells more and follows at once. */
        log_debug("slot %s: %s", s->config.id, why);
}

/* --- making a template ------------------------------------------------------------------------ */

static void save(struct slot *s)
{
        int fd = fcntl(s->vm.draft.state, F_DUPFD_CLOEXEC, 3);
        call(s, "stop", NULL, -1);
        call(s, "getfd", json_pack("{s:s}", "fdname", "state"), fd);
        call(s, "migrate", json_pack("{s:s}", "uri", "fd:state"), -1);
}

static int on_setup(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct slot *s = userdata;
        struct slot_vm *vm = &s->vm;
        ssize_t n =
                recv(fd, vm->said + vm->n_said, sizeof(vm->said) - 1 - vm->n_said, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0) {
                vm->setup_io = sd_event_source_disable_unref(vm->setup_io);
                return 0;
        }
        vm->n_said += (size_t) n;
        vm->said[vm->n_said] = '\0';
        if (!strchr(vm->said, '\n') && vm->n_said + 1 < sizeof(vm->said))
                return 0;
        vm->setup_io = sd_event_source_disable_unref(vm->setup_io);
        if (str_starts(vm->said, "ready ready"))
                save(s);
        else
                slot_fail(s, "the machine's desktop did not come up");
        return 0;
}

/* --- a slot ----------------------------------------------------------------------------------- */

static int begin_copy(struct slot *s, int state)
{
        ask_capabilities(s);
        call(s, "getfd", json_pack("{s:s}", "fdname", "state"), state);
        call(s, "migrate-incoming", json_pack("{s:s}", "uri", "fd:state"), -1);
        return s->phase == SLOT_PHASE_STARTING ? 0 : -EIO;
}

static int begin_draft(struct slot *s)
{
        int r = sd_event_add_io(s->config.event, &s->vm.setup_io, s->vm.setup, EPOLLIN, on_setup,
                                s);
        if (r < 0)
                return r;
        log_notice("slot %s: the machine starts for the first time and its template is made; this "
                   "takes a minute or, without KVM, some minutes",
                   s->config.id);
        ask_capabilities(s);
        return 0;
}

static int make_links(struct slot *s)
{
        struct slot_vm *vm = &s->vm;
        int qmp[2], setup[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp) < 0)
                return -errno;
        vm->theirs[0] = qmp[1];
        struct qmp_config c = { .event = s->config.event,
                                .fd = qmp[0],
                                .on_event = on_event,
                                .on_end = on_qmp_end,
                                .userdata = s };
        int r = qmp_new(&c, &vm->qmp);
        if (r < 0)
                return r;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, setup) < 0)
                return -errno;
        vm->setup = setup[0];
        vm->theirs[1] = setup[1];
        return 0;
}

static int prepare(struct slot *s)
{
        const struct machine *m = s->config.machine;
        cleanup_close int state = -1;
        /* We are slower than that, so that no key waits behind another, or behind a click. */
        s->desktop =
                (struct slot_desktop){ .log = BUF_INIT, .key_gap = key_delay(m) + USEC_PER_MSEC };
        s->vm = SLOT_VM_NONE;
        int r = machine_open_template(m, &s->vm.ram, &state);
        if (r == -ENOENT) {
                r = machine_draft_begin(m, &s->vm.draft);
                s->vm.drafting = true;
        }
        /* Another worker may be making it: as long as it does, so long is waited. */
        slot_limit_start(s, s->vm.drafting ? BOOT_USEC : COPY_USEC);
        if (r < 0)
                return r;
        s->vm.started = now_monotonic();
        r = make_links(s);
        if (r < 0)
                return r;
        return s->vm.drafting ? begin_draft(s) : begin_copy(s, TAKE_FD(state));
}

/* QEMU is given one end of a new pair as one more viewer; its greeting waits in the other. */
static int connect_display(struct slot *s, int *ret_fd)
{
        int pair[2];
        char name[32];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        cleanup_close int ours = pair[0];
        (void) snprintf(name, sizeof(name), "display%u", ++s->vm.viewers);
        int r = qmp_call(s->vm.qmp, "getfd", json_pack("{s:s}", "fdname", name), pair[1], NULL,
                         NULL);
        if (r == 0)
                r = qmp_call(s->vm.qmp, "add_client",
                             json_pack("{s:s,s:s,s:b}", "protocol", "vnc", "fdname", name,
                                       "skipauth", 1),
                             -1, NULL, NULL);
        if (r < 0)
                return r;
        *ret_fd = TAKE_FD(ours);
        return 0;
}

static void on_settled(void *userdata, int r)
{
        if (r >= 0)
                slot_set_ready(userdata);
}

static void settle(struct slot *s)
{
        /* The first frame of a QEMU is black, the machine's own comes at its next look. */
        int r = screen_wait_quiet(s->desktop.screen, SETTLE_QUIET_MS, SETTLE_MAX_MS, on_settled, s);
        if (r < 0)
                slot_fail(s, "the screen cannot be watched: %s", strerror(-r));
}

static void on_sized(void *userdata, const struct guest_status *status)
{
        struct slot *s = userdata;
        if (s->phase == SLOT_PHASE_ENDING)
                return;
        if (status->code != 0)
                log_warning("slot %s: the machine's screen does not take the size", s->config.id);
        if (s->phase == SLOT_PHASE_STARTING)
                settle(s);
}

/* By a program inside: the display itself only tells the machine that it would like to. */
static int resize(struct slot *s, unsigned width, unsigned height)
{
        char w[12], h[12];
        struct guest_command *command;
        const char *const argv[] = { "/usr/local/lib/berth/vm-size", w, h, NULL };
        struct guest_command_config c = {
                .argv = argv, .quiet = true, .on_exit = on_sized, .userdata = s
        };
        if (MIN(width, height) < SCREEN_SIDE_MIN || MAX(width, height) > SCREEN_SIDE_MAX)
                return -ERANGE;
        (void) snprintf(w, sizeof(w), "%u", width);
        (void) snprintf(h, sizeof(h), "%u", height);
        return guest_spawn(s->guest, s->epoch, &c, &command);
}

static void on_screen_ready(void *userdata)
{
        struct slot *s = userdata;
        const struct machine *m = s->config.machine;
        if (s->phase != SLOT_PHASE_STARTING)
                return; /* another decoder */
        if (s->config.width == m->width && s->config.height == m->height) {
                settle(s);
                return;
        }
        int r = resize(s, s->config.width, s->config.height);
        if (r < 0)
                slot_fail(s, "the screen cannot be made that size: %s", strerror(-r));
}

static void guest_up(struct slot *s)
{
        int r = slot_open_screen(s);
        if (r < 0)
                slot_fail(s, "the screen cannot be opened: %s", strerror(-r));
}

static void end(struct slot *s)
{
        struct slot_vm *vm = &s->vm;
        s->desktop.screen = screen_free(s->desktop.screen);
        s->desktop.pasted = NULL;
        vm->qmp = qmp_free(vm->qmp);
        vm->setup_io = sd_event_source_disable_unref(vm->setup_io);
        fd_close(vm->setup);
        fd_close(vm->theirs[0]);
        fd_close(vm->theirs[1]);
        fd_close(vm->ram);
        machine_draft_done(&vm->draft);
        *vm = SLOT_VM_NONE;
}

char *slot_progress(const struct slot *s)
{
        if (s->phase != SLOT_PHASE_STARTING || s->config.kind != SLOT_KIND_VM || !s->vm.drafting)
                return NULL;
        if (s->vm.started == 0)
                return xstrdup("another worker makes the template of the machine");
        return xasprintf("the template of the machine is made, since %" PRIu64 " s",
                         (now_monotonic() - s->vm.started) / USEC_PER_SEC);
}

static void hold(struct slot *s, bool hold)
{
        call(s, hold ? "stop" : "cont", NULL, -1);
}

const struct slot_ops slot_vm_ops = {
        .profile = SANDBOX_TOOL,
        .display = ":1",
        .prepare = prepare,
        .start = start,
        .guest_up = guest_up,
        .connect = connect_display,
        .screen_ready = on_screen_ready,
        .no_spare_keys = true,
        .resize = resize,
        .hold = hold,
        .end = end,
};
