/* The digests of answers. Where the processor can, what has come of several answers is hashed together. */
#include "inside.h"

#include <openssl/crypto.h>
#include <openssl/err.h>

#define TOGETHER 64 /* answers that are hashed by one call */

static const char *const names[ALGORITHMS] = {NULL, "MD5", "SHA1", "SHA256", "SHA512"};

/* OpenSSL 3 looks for the implementation with each use of a digest that was not fetched. */
static const EVP_MD *fetched(const char *name) {
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    const EVP_MD *digest = name ? EVP_MD_fetch(NULL, name, NULL) : NULL;
    ERR_clear_error();
    return digest;
#else
    return name ? EVP_get_digestbyname(name) : NULL;
#endif
}

/* Whether only validated code may compute digests. */
static bool is_fips(void) {
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    return EVP_default_properties_is_fips_enabled(NULL) == 1;
#else
    return FIPS_mode() != 0;
#endif
}

bool digests_open(struct group *group) {
    for (enum algorithm algorithm = NO_DIGEST; algorithm < ALGORITHMS; algorithm++)
        group->digests[algorithm] = fetched(names[algorithm]);
    unsigned features = is_fips() ? 0 : sha_features();
    for (enum sha sha = 0; sha < SHAS; sha++)
        group->has_way[sha] = sha_way_with_openssl(&group->ways[sha], sha, features);
    group->context = EVP_MD_CTX_new();
    return group->context;
}

void digests_close(struct group *group) {
    EVP_MD_CTX_free(group->context);
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    for (enum algorithm algorithm = NO_DIGEST; algorithm < ALGORITHMS; algorithm++)
        EVP_MD_free((EVP_MD *)group->digests[algorithm]);
#endif
}

/* NULL: there is none to compute, or OpenSSL refuses it here. */
static const EVP_MD *digest_of(const struct group *group, const struct job *job) {
    return job->head.status == 200 ? group->digests[job->algorithm] : NULL;
}

bool digest_begin(struct group *group, struct job *job) {
    enum sha sha = job->algorithm == WITH_SHA1 ? SHA_1 : job->algorithm == WITH_SHA256 ? SHA_256 : SHAS;
    const EVP_MD *digest = digest_of(group, job);
    if (digest && sha < SHAS && group->has_way[sha]) {
        job->way = &group->ways[sha];
        sha_begin(sha, &job->sha);
    } else if (digest && job_is_large(job)) {
        job->hashing = EVP_MD_CTX_new();
        return job->hashing && EVP_DigestInit_ex(job->hashing, digest, NULL);
    }
    return true;
}

bool digest_take(struct group *group, struct job *job, const char *data, size_t size) {
    group->unhashed += job->way ? size : 0;
    return !job->hashing || EVP_DigestUpdate(job->hashing, data, size);
}

void digest_end(struct group *group, struct job *job) {
    unsigned size = 0;
    const EVP_MD *digest = digest_of(group, job);
    bool done = false;
    if (job->hashing)
        done = EVP_DigestFinal_ex(job->hashing, job->digest, &size);
    else if (digest && !job->way)
        done = EVP_DigestInit_ex(group->context, digest, NULL) &&
               EVP_DigestUpdate(group->context, job->small + job->head.size, job->body) &&
               EVP_DigestFinal_ex(group->context, job->digest, &size);
    job->digest_size = done ? size : 0; /* without: the caller computes it */
}

/* Jobs of one way, to be hashed together. */
struct batch {
    const struct sha_way *way;
    struct job *jobs[TOGETHER];
    size_t count;
};

static void flush(struct batch *batch) {
    struct sha_message *messages[TOGETHER];
    for (size_t i = 0; i < batch->count; i++)
        messages[i] = &batch->jobs[i]->sha;
    sha_hash(batch->way, messages, batch->count);
    for (size_t i = 0; i < batch->count; i++) {
        struct job *job = batch->jobs[i];
        if (job->sha.last)
            job->digest_size = sha_digest(batch->way->sha, &job->sha, job->digest);
    }
    batch->count = 0;
}

/* Add what has come of a body and is not hashed. */
static void add(struct batch *batch, struct job *job, bool whole) {
    const char *body = job->large ? job->large : job->small + job->head.size;
    size_t size = job->body - job->sha.hashed;
    if (job->way != batch->way || job->digest_size || (!whole && size < SHA_BLOCK))
        return;
    job->sha.data = (const unsigned char *)body + job->sha.hashed;
    job->sha.size = whole ? size : size - size % SHA_BLOCK;
    job->sha.last = whole;
    batch->jobs[batch->count++] = job;
    if (batch->count == TOGETHER)
        flush(batch);
}

void digests_settle(struct group *group) {
    for (enum sha sha = 0; sha < SHAS; sha++) {
        struct batch batch = {.way = &group->ways[sha]};
        for (struct job *job = group->ended.first; job; job = job->next)
            if (job->outcome == ANSWERED)
                add(&batch, job, true);
        if (group->unhashed)
            for (struct connection *each = group->connections; each; each = each->next)
                if (each->job && each->job->large)
                    add(&batch, each->job, false);
        if (batch.count)
            flush(&batch);
    }
    group->unhashed = 0;
}
