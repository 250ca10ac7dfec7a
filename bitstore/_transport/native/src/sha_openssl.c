/* One message from any state on, by OpenSSL: for processors with wide vectors and without instructions for SHA. */
#define OPENSSL_SUPPRESS_DEPRECATED /* no other functions of OpenSSL begin at a state */

#include <openssl/sha.h>
#include <string.h>

#include "sha.h"

#ifndef OPENSSL_NO_DEPRECATED_3_0

static void sha1_openssl(uint32_t *state, const unsigned char *data, size_t count) {
    SHA_CTX context = {.h0 = state[0], .h1 = state[1], .h2 = state[2], .h3 = state[3], .h4 = state[4]};
    SHA1_Update(&context, data, count * SHA_BLOCK);
    const uint32_t after[] = {context.h0, context.h1, context.h2, context.h3, context.h4};
    memcpy(state, after, sizeof after);
}

static void sha256_openssl(uint32_t *state, const unsigned char *data, size_t count) {
    SHA256_CTX context = {.md_len = SHA256_DIGEST_LENGTH};
    memcpy(context.h, state, sizeof context.h);
    SHA256_Update(&context, data, count * SHA_BLOCK);
    memcpy(state, context.h, sizeof context.h);
}

bool sha_way_with_openssl(struct sha_way *way, enum sha sha, unsigned features) {
    if (!sha_way_of(way, sha, features))
        return false;
    if (!way->alone) { /* a vector with one message in it takes up to twice as long */
        way->alone = sha == SHA_1 ? sha1_openssl : sha256_openssl;
        way->least = features & SHA_HAS_AVX512 ? 2 : 3;
    }
    return true;
}

#else

bool sha_way_with_openssl(struct sha_way *way, enum sha sha, unsigned features) {
    return sha_way_of(way, sha, features) && way->alone;
}

#endif
