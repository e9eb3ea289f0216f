/* Questions of agents whose time is over although no worker holds their session.
 *
 * A worker that holds the session keeps the time itself. Where none does (its slot was given away,
 * the worker died), the session is woken when its question's "until" is past by the database's
 * clock, and the worker that takes it answers the call with "nobody answered in time". */
#pragma once

struct coordinator;

void questions_tick(struct coordinator *c); /* once a second */
