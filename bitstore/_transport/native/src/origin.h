/* Where requests of one profile go: one scheme, host and port. */
#ifndef BITSTORE_ORIGIN_H
#define BITSTORE_ORIGIN_H

#include <stdatomic.h>
#include <stdint.h>

#include "channel.h"

struct connection;
struct group;

/* Several may hold it: `origin_hold` and `origin_drop` by each. Only one group uses it. */
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
    struct group *group;    /* NULL: no request has come yet */
    struct origin *next;    /* of the group */
};

struct origin *origin_new(SSL_CTX *trust, const char *server_name);
void origin_drop(struct origin *origin);
struct origin *origin_hold(struct origin *origin);

#endif
