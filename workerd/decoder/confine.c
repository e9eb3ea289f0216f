/* The decoder's system call filter. */
#include <seccomp.h>

#include "decoder.h"

/* All it can do from now on: talk over what it has, wait, use memory, end. A sanitizer wants to
 * know more when it reports; it is refused instead of killed. */
int decoder_confine(void)
{
        static const int allowed[] = {
                SCMP_SYS(recvfrom),        SCMP_SYS(sendto),  SCMP_SYS(poll),
                SCMP_SYS(ppoll),           SCMP_SYS(munmap),  SCMP_SYS(mremap),
                SCMP_SYS(madvise),         SCMP_SYS(brk),     SCMP_SYS(futex),
                SCMP_SYS(rt_sigreturn),    SCMP_SYS(exit),    SCMP_SYS(exit_group),
                SCMP_SYS(restart_syscall), SCMP_SYS(sysinfo), /* how much memory a sort may take */
        };
        scmp_filter_ctx filter =
                seccomp_init(DECODER_SANITIZED ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_KILL_PROCESS);
        int r = filter ? 0 : -ENOMEM;
        for (size_t i = 0; r == 0 && i < ARRAY_LEN(allowed); i++) {
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
                r = r == -EDOM ? 0 : r; /* this machine does not have that call */
        }
        /* Memory of its own that is not code. */
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2,
                                     SCMP_A2(SCMP_CMP_MASKED_EQ, 4 /* PROT_EXEC */, 0),
                                     SCMP_A4(SCMP_CMP_MASKED_EQ, UINT32_MAX, UINT32_MAX));
        if (r == 0 && DECODER_SANITIZED)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(write), 1,
                                     SCMP_A0(SCMP_CMP_EQ, 2));
        if (r == 0 && DECODER_SANITIZED)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sigaltstack), 0);
        if (r == 0)
                r = seccomp_load(filter);
        seccomp_release(filter);
        return r;
}
