/* Does KVM work here? The device's being there says little: in a machine or a container it can
 * refuse, or hang for ever. So a child makes the smallest machine there is and lets it halt. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine.h"
#include "slot-stage.h"

#define PROBE_WAIT_MS 2000
#define PROBE_KILL_MS 500
#define PAGE 4096U

/* The step that failed, NULL = the machine ran and halted. */
static const char *run(const char *device)
{
        int kvm = open(device, O_RDWR | O_CLOEXEC);
        if (kvm < 0)
                return MACHINE_KVM " cannot be opened by a slot's user";
        if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
                return "KVM has another version";
        int vm = ioctl(kvm, KVM_CREATE_VM, 0);
        if (vm < 0)
                return "KVM makes no machine";
        unsigned char *memory =
                mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
                return "no memory";
        memory[0] = 0xf4; /* hlt */
        struct kvm_userspace_memory_region region = { .guest_phys_addr = PAGE,
                                                      .memory_size = PAGE,
                                                      .userspace_addr = (uintptr_t) memory };
        int cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
        int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
        if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 || cpu < 0 || size < (int) PAGE)
                return "KVM makes no processor";
        struct kvm_run *state =
                mmap(NULL, (size_t) size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
        struct kvm_sregs sregs;
        struct kvm_regs regs = { .rip = PAGE, .rflags = 2 };
        if (state == MAP_FAILED || ioctl(cpu, KVM_GET_SREGS, &sregs) < 0)
                return "KVM shows no processor";
        sregs.cs.base = 0;
        sregs.cs.selector = 0;
        if (ioctl(cpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(cpu, KVM_SET_REGS, &regs) < 0 ||
            ioctl(cpu, KVM_RUN, 0) < 0)
                return "KVM runs no machine";
        return state->exit_reason == KVM_EXIT_HLT ? NULL : "KVM runs machines wrongly";
}

static __attribute__((noreturn)) void child(const char *device, const struct stage *stage, int out)
{
        const char *failed = stage ? stage_enter(stage) : NULL;
        if (!failed)
                failed = run(device);
        if (failed)
                (void) !write(out, failed, strlen(failed));
        _exit(failed ? 1 : 0);
}

bool machine_probe_kvm(const char *device, struct identity *identity, char *why, size_t why_size)
{
        const char *const used[] = { device, NULL };
        struct slot_limits limits = { 0 };
        struct stage stage;
        int pair[2], status = 0;
        slot_limits_default(&limits);
        (void) snprintf(why, why_size, "there is no " MACHINE_KVM);
        if (access(device, F_OK) < 0)
                return false;
        (void) snprintf(why, why_size, "KVM cannot be tried");
        if (stage_plan(identity, NULL, &limits, used, &stage) < 0 || pipe2(pair, O_CLOEXEC) < 0)
                return false;
        cleanup_close int in = pair[0], out = pair[1];
        pid_t pid = fork();
        if (pid == 0)
                child(device, &stage, out);
        cleanup_close int process = pid < 0 ? -1 : pidfd_open(pid, 0);
        struct pollfd p = { .fd = process, .events = POLLIN };
        bool ended = process >= 0 && poll(&p, 1, PROBE_WAIT_MS) > 0;
        if (pid > 0) {
                (void) kill(pid, SIGKILL);
                /* One that hangs in the kernel may not even go then: it is not waited for. */
                (void) waitpid(pid, &status, ended || poll(&p, 1, PROBE_KILL_MS) > 0 ? 0 : WNOHANG);
        }
        /* NOLINTNEXTLINE(clang-analyzer-deadcode.DeadStores): the cleanup reads it */
        out = fd_close(out);
        if (!ended) {
                (void) snprintf(why, why_size, "KVM hangs");
                return false;
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
                *why = '\0';
                return true;
        }
        ssize_t n = read(in, why, why_size - 1);
        if (n > 0)
                why[n] = '\0';
        return false;
}
