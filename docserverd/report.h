/* What docserverd says of itself for /status: a row that it writes every few seconds. */
#pragma once

#include "docserver.h"

struct report;
struct report *report_new(struct docserver *d) mustuse;
struct report *report_free(struct report *r);
DEFINE_CLEANUP(struct report, report_free)
