/* Ends children without waiting for them. */
#include "children.h"

#include <signal.h>
#include <sys/wait.h>

#include "common/base/util.h"

static int on_end(sd_event_source *source, const siginfo_t *si, void *userdata)
{
        return sd_event_source_set_floating(source, false); /* collected; the source goes, too */
}

void child_end(sd_event *e, pid_t pid)
{
        sd_event_source *source = NULL;
        (void) kill(pid, SIGKILL);
        if (sd_event_add_child(e, &source, pid, WEXITED, on_end, NULL) < 0) {
                (void) waitpid(pid, NULL, WNOHANG);
                return;
        }
        /* The loop owns it until it has fired. */
        (void) sd_event_source_set_floating(source, true);
        sd_event_source_unref(source);
}
