/* SHA-1 and SHA-256 of several messages at once, on processors of x86-64.

   Each step of SHA waits for the one before it, so that one message leaves most of a processor idle, with its own
   instructions for SHA as well. A vector has a step of SHA_WIDTH messages ("multi-buffer hashing"). */
#ifndef BITSTORE_SHA_H
#define BITSTORE_SHA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA_WIDTH 8  /* messages */
#define SHA_BLOCK 64 /* bytes */

enum sha { SHA_1, SHA_256, SHAS };

/* What a processor can have. */
enum { SHA_HAS_AVX2 = 1, SHA_HAS_AVX512 = 2, SHA_HAS_SHA = 4 };

/* How messages are hashed. */
struct sha_way {
    enum sha sha;
    size_t least; /* messages with which `wide` is faster than one after another */
    /* Go through `count` blocks of each message; NULL: there is none. `state[i]` has word i of each. */
    void (*wide)(uint32_t state[][SHA_WIDTH], const unsigned char *const data[SHA_WIDTH], size_t count);
    /* Go through `count` blocks of one message; NULL: there is none. */
    void (*alone)(uint32_t *state, const unsigned char *data, size_t count);
};

/* A message, as far as it has come. */
struct sha_message {
    uint32_t state[8];
    uint64_t hashed;           /* bytes */
    const unsigned char *data; /* what follows */
    size_t size;               /* bytes of it; unless it is the last part, a multiple of SHA_BLOCK */
    bool last;
};

/* What this processor has. */
unsigned sha_features(void);

/* The best way of a processor that has `features`. False: there is none. */
bool sha_way_of(struct sha_way *way, enum sha sha, unsigned features);

/* That way, whose `alone` is OpenSSL's where the processor has no instructions for SHA. False: there is none. */
bool sha_way_with_openssl(struct sha_way *way, enum sha sha, unsigned features);

void sha_begin(enum sha sha, struct sha_message *message);

/* Hash what follows in each message, and count it as hashed. */
void sha_hash(const struct sha_way *way, struct sha_message *const *messages, size_t count);

/* Write the digest of a message whose last part is hashed; returns its bytes. */
size_t sha_digest(enum sha sha, const struct sha_message *message, unsigned char *digest);

#endif
