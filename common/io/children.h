/* Child processes in the loop. */
#pragma once

#include <sys/types.h>
#include <systemd/sd-event.h>

/* Kills the child and lets the loop collect it, without waiting. The caller's own watch of it, if
 * any, must have been dropped before. With a loop that is over it stays a zombie until we end. */
void child_end(sd_event *e, pid_t pid);
