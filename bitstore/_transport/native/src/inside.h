/* What the parts of a group know of each other. */
#ifndef BITSTORE_INSIDE_H
#define BITSTORE_INSIDE_H

#include "group.h"

#define SPARE_BUFFERS 64
#define WAITER_MOST 256 /* connections that are heard at once */

enum state { CONNECTING, ASKED, IDLE };

struct connection {
    struct channel channel;
    struct origin *origin;
    struct job *job;
    struct connection *next, *before;           /* of the group */
    struct connection *idle_next, *idle_before; /* of the origin */
    struct connection *more;                    /* that may have more to say, or are closed */
    enum state state;
    bool used;     /* whether it has carried a job to its end */
    bool speaking; /* whether it is among those that may have more to say */
    double since;  /* idle, dialled or with progress: seconds on `group_now` */
    size_t moved;  /* bytes of the job's answer by then */
    bool watched;  /* whether `since` counts for this job */
};

struct group {
    int waiter;    /* of epoll; -1: there is none */
    pid_t process; /* that has opened it */
    struct jobs queue, ended, wanting;
    size_t carried, count; /* jobs, connections */
    struct connection *connections, *speaking, *closed;
    struct origin *origins;
    char *buffers[SPARE_BUFFERS];
    size_t spare;
    char *message;
    size_t message_capacity;
    EVP_MD_CTX *context;
    const EVP_MD *digests[ALGORITHMS];
    struct sha_way ways[SHAS];
    bool has_way[SHAS];
    size_t unhashed; /* bytes of large bodies, about */
    double now, watch_at;
    size_t most;     /* connections */
    bool unfinished; /* whether the last step was left before it had heard all */
    bool entered;    /* see `group_enter` */
};

/* waiter.c */

bool waiter_open(struct group *group);
void waiter_close(struct group *group);
bool waiter_add(struct group *group, struct connection *connection);
/* To be called before its socket is closed. */
void waiter_remove(struct group *group, struct connection *connection);
/* Wait until connections have something new, for at most so many seconds; returns how many are in `heard`. */
int waiter_wait(struct group *group, struct connection *heard[WAITER_MOST], double seconds);

/* connection.c */

/* Close a connection that carries nothing any more. Its memory is freed later: events of it may be at hand. */
void connection_shut(struct group *group, struct connection *connection);
void connection_free_closed(struct group *group);
void connection_shut_idle_of(struct group *group, struct origin *origin);
struct connection *connection_dial(struct group *group, struct origin *origin); /* NULL: none can be had */
/* A kept connection that can carry a job, or NULL. */
struct connection *connection_kept(struct group *group, struct origin *origin);
void connection_idle(struct connection *connection); /* it has nothing to carry */
void connection_keep_session(struct connection *connection); /* of TLS, for the next one */

/* exchange.c */

/* Carry a job by a kept connection, unless `fresh`, or a new one. */
void exchange_carry(struct group *group, struct job *job, bool fresh);
/* The job of a connection is carried no more. */
void exchange_release(struct group *group, struct job *job);
/* A connection is of no use any more: the outcome of its job, or another connection for it. */
void exchange_fail(struct group *group, struct connection *connection, enum outcome outcome, int error);
/* Send the request: there is a connection. */
void exchange_ask(struct group *group, struct connection *connection);
/* Have a connection heard that may have more to say. */
void exchange_speak(struct group *group, struct connection *connection);
/* The answer of a job is whole. */
void exchange_complete(struct group *group, struct connection *connection);

/* digest.c */

bool digests_open(struct group *group); /* False: no memory */
void digests_close(struct group *group);
/* The head of an answer is whole. False: no memory. */
bool digest_begin(struct group *group, struct job *job);
/* Bytes of a large body are in their place. False: OpenSSL failed. */
bool digest_take(struct group *group, struct job *job, const char *data, size_t size);
/* The answer is whole. */
void digest_end(struct group *group, struct job *job);
/* Hash what has come and is to be hashed together: after this, each job that has ended has its digest. */
void digests_settle(struct group *group);

/* answer.c */

/* Take what a connection has to say. */
void answer_hear(struct group *group, struct connection *connection);
/* Count `size` bytes of the body, which are in their place. False: the connection is not to be read any further. */
bool answer_take_body(struct group *group, struct connection *connection, size_t size);

#endif
