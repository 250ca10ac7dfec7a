/* Connections that carry plain GETs without ever blocking, driven by one thread at a time. No Python.

   A `job` is one GET. It is queued, carried by a connection, and ended; then `group_ended` gives it back. */
#ifndef BITSTORE_GROUP_H
#define BITSTORE_GROUP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "channel.h"
#include "head.h"
#include "sign.h"

#define GROUP_SMALL (64 * 1024) /* bytes of an answer that are received into memory of the group's own */

struct connection;
struct group;
struct jobs;

/* The way to one scheme, host and port for requests of one profile. Several may hold it; `origin_drop` by each. */
struct origin {
    atomic_int holders;
    atomic_bool unused; /* no request will come any more */
    SSL_CTX *trust;     /* NULL: plain HTTP */
    char *server_name;
    struct address address;
    double known_until;     /* seconds: until then connections may be made */
    double connect_timeout; /* seconds */
    double stall_timeout;   /* seconds */
    int64_t most;           /* bytes of a body; 0: no limit */
    SSL_SESSION *session;   /* of the last handshake */
    struct connection *idle; /* the last used first */
    struct origin *next;    /* of the group */
    bool listed;            /* whether it is in that list */
};

struct origin *origin_new(SSL_CTX *trust, const char *server_name);
void origin_drop(struct origin *origin);

/* The digests that can be computed on the way. */
enum algorithm { NO_DIGEST, WITH_MD5, WITH_SHA1, WITH_SHA256, WITH_SHA512, ALGORITHMS };

enum outcome {
    ANSWERED,
    DECLINED,    /* this answer is not for this transport */
    UNREACHABLE, /* no connection can be made as it was made before */
    UNCLEAR,     /* this server does not speak plainly */
    TOO_LARGE,
    CUT, /* the connection ended within the answer, or before it */
    BROKEN, /* by an error of the system; `error` */
    STALLED
};

struct job {
    void *token; /* the caller's */
    struct origin *origin;
    char *message; /* the request, until it is sent; or, with a sheet, its path */
    size_t message_size;
    struct sheet *sheet;
    enum algorithm algorithm;
    struct connection *connection; /* that carries it; NULL: queued or ended */
    struct job *next, *before;     /* in one of the group's lists */
    struct jobs *list;             /* that list; NULL: none */
    /* The answer */
    enum outcome outcome;
    int error;
    struct head head; /* `status` 0: incomplete */
    char *small;      /* head and body, or the head alone if there is a large body */
    size_t capacity;  /* bytes of `small` */
    char *large;      /* the caller's memory for the body, see `group_wanting` */
    size_t large_size;
    size_t received; /* bytes, the head included */
    size_t body;     /* bytes of the body so far */
    struct chunks chunks;
    EVP_MD_CTX *hashing; /* of a large body */
    unsigned char digest[64];
    size_t digest_size; /* 0: none */
};

struct group *group_new(void);
/* Close all connections and free all jobs that were not given back; `release` is called with their tokens. */
void group_free(struct group *group, void (*release)(void *token));

int group_fd(const struct group *group); /* readable when `group_step` has something to do */
size_t group_connections(const struct group *group);
size_t group_queued(const struct group *group);
size_t group_carried(const struct group *group);

/* Take a job with token, origin, message, sheet and algorithm. The group frees the message. NULL: no memory. */
struct job *group_begin(struct group *group, const struct job *job);

/* End a job that has not ended, without an outcome. */
void group_abandon(struct group *group, struct job *job);

/* Do what can be done.

   limit: jobs carried at once. most: connections. portion, patience: return when so many jobs have ended, or some have
   and so many seconds are over. idle: seconds to wait if nothing can be done; 0: return at once. */
void group_step(struct group *group, size_t limit, size_t most, size_t portion, double patience, double idle);

bool group_has_ended(const struct group *group);
bool group_has_wanting(const struct group *group);

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
