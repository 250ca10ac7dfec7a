/* One plain GET: what is asked, and what has come of the answer. */
#ifndef BITSTORE_JOB_H
#define BITSTORE_JOB_H

#include <openssl/evp.h>

#include "head.h"
#include "origin.h"
#include "sha.h"
#include "sign.h"

struct jobs;

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
    int64_t most; /* bytes of the body; 0: no limit */
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
    const struct sha_way *way; /* by which the body is hashed together with others, see digest.c; NULL: by itself */
    struct sha_message sha;
    EVP_MD_CTX *hashing; /* of a large body that is hashed by itself */
    unsigned char digest[64];
    size_t digest_size; /* 0: none */
};

/* A list of jobs; a job is in one at most. */
struct jobs {
    struct job *first, *last;
    size_t count;
};

void jobs_append(struct jobs *jobs, struct job *job);
void jobs_remove(struct job *job); /* from the list that it is in, if any */
struct job *jobs_take_first(struct jobs *jobs);

/* Whether the body is received into the caller's memory. */
bool job_is_large(const struct job *job);

#endif
