/* Vectors of passages: whether there are any, making them in the background, one for a query.
 *
 * They need two things: pgvector in the database and a worker that has an endpoint for embeddings.
 * Both may come later. Without them a search goes by words alone, and vectors_problem says why. */
#pragma once

#include "docserver.h"

struct vectors;
struct vectors *vectors_new(struct docserver *d) mustuse;
struct vectors *vectors_free(struct vectors *v);
DEFINE_CLEANUP(struct vectors, vectors_free)

void vectors_poke(struct vectors *v); /* there is room at a worker, or there are new passages */
const char *vectors_problem(const struct vectors *v); /* "" = they work */
const char *vectors_model(const struct vectors *v);   /* "" = none yet */
bool vectors_iterative(const struct vectors *v); /* the index can be asked to go on: pgvector 0.8 */

/* The query's vector as text, "[0.1,...]", or NULL when it cannot be had now: search by words then.
 */
typedef void (*vectors_query_fn)(void *userdata, const char *vector);
int vectors_query(struct vectors *v, const char *text, vectors_query_fn fn, void *userdata) mustuse;
