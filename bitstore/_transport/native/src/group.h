/* Connections that carry plain GETs without ever blocking, driven by one thread at a time. No Python.

   A `job` is one GET. It is queued, carried by a connection, and ended; then `group_ended` gives it back. */
#ifndef BITSTORE_GROUP_H
#define BITSTORE_GROUP_H

#include <stdbool.h>
#include <stddef.h>

#include "job.h"

#define GROUP_SMALL (64 * 1024) /* bytes of an answer that are received into memory of the group's own */

struct group;

struct group *group_new(void);
/* Close all connections and free all jobs that were not given back; `release` is called with their tokens. */
void group_free(struct group *group, void (*release)(void *token));

int group_fd(const struct group *group); /* readable when `group_step` has something to do; -1: there is none */
size_t group_connections(const struct group *group);
size_t group_queued(const struct group *group);
size_t group_carried(const struct group *group);

/* Take a job with token, origin, message, sheet and algorithm. The group frees the message. NULL: no memory. */
struct job *group_begin(struct group *group, const struct job *job);

/* No request to an origin will come any more: close its idle connections, now or in the next `group_step`. */
void group_retire(struct origin *origin);

/* Whether a thread is in `group_step`; to be said before and after it, by callers of which one runs at a time. */
void group_enter(struct group *group, bool entered);
bool group_is_entered(const struct group *group);

/* End a job that has not ended, without an outcome. */
void group_abandon(struct group *group, struct job *job);

/* Do what can be done.

   limit: jobs carried at once. most: connections. portion, patience: return when so many jobs have ended, or some have
   and so many seconds are over. idle: seconds to wait if nothing can be done; 0: return at once. */
void group_step(struct group *group, size_t limit, size_t most, size_t portion, double patience, double idle);

bool group_has_ended(const struct group *group);

/* The next job that has ended, or NULL. It is the caller's, to be freed by `job_free`. */
struct job *group_ended(struct group *group);
void job_free(struct group *group, struct job *job);

/* The next job that needs memory for a large body, or NULL: set `large` and `large_size`, at least `body` bytes of it
   in use, and call `group_resume`; or `group_decline`. */
struct job *group_wanting(struct group *group);
size_t job_wants(const struct job *job); /* bytes */
void group_resume(struct group *group, struct job *job);
void group_decline(struct group *group, struct job *job);

/* Whether `group_step` has something to do that no socket will tell of. */
bool group_busy(const struct group *group);

/* Close connections that carry nothing until there are at most so many. */
void group_trim(struct group *group, size_t most);

double group_now(void); /* seconds on a clock that never goes back */

#endif
