/* A real PostgreSQL for one test program: a new cluster in a temporary folder, Unix socket only. */
#pragma once

#include <sys/types.h>

#include "common/base/util.h"

struct cluster {
        char folder[64];
        char conninfo[160]; /* host, superuser and database of the cluster */
        char bin[128];
        pid_t postmaster;
};

/* Ends the program as skipped when the machine has no PostgreSQL. Call it first in main: TAP wants
 * that said before any plan. */
void cluster_require(void);
/* Dies on failure. As root the cluster runs as user postgres. It ends with the test program, also
 * when that is killed. */
void cluster_start(struct cluster *c);
void cluster_restart(struct cluster *c); /* after cluster_halt */
void cluster_halt(struct cluster *c);    /* stops the server, at once, keeps the data */
void cluster_stop(struct cluster *c);    /* and removes the folder */
