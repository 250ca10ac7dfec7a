#include "origin.h"

#include <stdlib.h>
#include <string.h>

struct origin *origin_new(SSL_CTX *trust, const char *server_name) {
    struct origin *origin = calloc(1, sizeof *origin);
    if (!origin)
        return NULL;
    origin->holders = 1;
    origin->server_name = strdup(server_name ? server_name : "");
    if (!origin->server_name) {
        free(origin);
        return NULL;
    }
    if (trust)
        SSL_CTX_up_ref(origin->trust = trust);
    return origin;
}

void origin_drop(struct origin *origin) {
    if (atomic_fetch_sub(&origin->holders, 1) > 1)
        return;
    SSL_SESSION_free(origin->session);
    SSL_CTX_free(origin->trust);
    free(origin->server_name);
    free(origin);
}

struct origin *origin_hold(struct origin *origin) {
    atomic_fetch_add(&origin->holders, 1);
    return origin;
}
