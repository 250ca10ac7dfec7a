#include "sha.h"

#include <string.h>

/* FIPS 180-4, 5.3.1 and 5.3.3 */
static const uint32_t initial[SHAS][8] = {
    {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0},
    {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
static const size_t digest_words[SHAS] = {5, 8};

#if defined __x86_64__ && (defined __clang__ || __GNUC__ >= 7)

#include <cpuid.h>
#include <immintrin.h>

/* FIPS 180-4, 4.2.2 */
static const uint32_t sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

#define NAME(what) what##_avx512
#define TARGET __attribute__((target("avx512vl,avx512bw")))
#include "sha_wide.h"

#define NAME(what) what##_avx2
#define TARGET __attribute__((target("avx2")))
#include "sha_wide.h"

#define TARGET __attribute__((target("sha,sse4.1")))
#include "sha_alone.h"

unsigned sha_features(void) {
    unsigned a, b, c, d;
    bool sha = __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_SHA && __builtin_cpu_supports("sse4.1");
    bool avx512 = __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
    return (__builtin_cpu_supports("avx2") ? SHA_HAS_AVX2 : 0) | (avx512 ? SHA_HAS_AVX512 : 0) | (sha ? SHA_HAS_SHA : 0);
}

bool sha_way_of(struct sha_way *way, enum sha sha, unsigned features) {
    bool one = sha == SHA_1;
    *way = (struct sha_way){.sha = sha, .least = 1};
    if (features & SHA_HAS_SHA)
        way->alone = one ? sha1_alone : sha256_alone;
    if (features & SHA_HAS_AVX512)
        way->wide = one ? sha1_avx512 : sha256_avx512;
    else if (features & SHA_HAS_AVX2)
        way->wide = one ? sha1_avx2 : sha256_avx2;
    /* Measured on an AMD EPYC of 2023, where AVX2 takes as long for SHA-256 as the instructions for SHA do. */
    if (!way->wide || (way->alone && way->wide == sha256_avx2))
        way->least = SHA_WIDTH + 1; /* never */
    else if (way->alone)
        way->least = way->wide == sha1_avx512 ? 3 : way->wide == sha1_avx2 ? 5 : 6;
    return way->wide || way->alone;
}

#else /* on 64-bit ARM its instructions for SHA, which OpenSSL uses, are faster than four messages in a vector */

unsigned sha_features(void) { return 0; }

bool sha_way_of(struct sha_way *way, enum sha sha, unsigned features) {
    (void)way, (void)sha, (void)features;
    return false;
}

#endif

/* A message on its way through the steps. */
struct buffer {
    struct sha_message *message; /* NULL: none, this buffer rests */
    const unsigned char *next;   /* of `blocks` blocks that are still to do */
    size_t blocks;
    bool ending; /* whether those are the end: the last bytes, padding and the length */
    unsigned char end[2 * SHA_BLOCK];
};

static void store(unsigned char *place, uint64_t number, size_t size) {
    while (size--) {
        place[size] = (unsigned char)number; /* the highest byte comes first */
        number >>= 8;
    }
}

/* FIPS 180-4, 5.1.1 */
static void begin_end(struct buffer *buffer) {
    const struct sha_message *message = buffer->message;
    size_t rest = message->size % SHA_BLOCK;
    buffer->blocks = rest < SHA_BLOCK - 8 ? 1 : 2;
    buffer->next = buffer->end;
    buffer->ending = true;
    memset(buffer->end, 0, sizeof buffer->end);
    if (rest)
        memcpy(buffer->end, message->data + message->size - rest, rest);
    buffer->end[rest] = 0x80;
    store(buffer->end + buffer->blocks * SHA_BLOCK - 8, (message->hashed + message->size) * 8, 8);
}

/* Whether a buffer has blocks to do. */
static bool has_blocks(struct buffer *buffer) {
    if (!buffer->blocks && buffer->message->last && !buffer->ending)
        begin_end(buffer);
    return buffer->blocks;
}

static void count_done(struct buffer *buffer, size_t blocks) {
    buffer->next += blocks * SHA_BLOCK;
    buffer->blocks -= blocks;
}

static void end(struct buffer *buffer) {
    buffer->message->hashed += buffer->message->size;
    buffer->message = NULL;
}

/* Go through the blocks of all messages, until one of them has none left. */
static void hash_wide(const struct sha_way *way, struct buffer *buffers) {
    uint32_t state[8][SHA_WIDTH] = {{0}};
    const unsigned char *data[SHA_WIDTH];
    const struct buffer *shortest = NULL;
    for (size_t i = 0; i < SHA_WIDTH; i++)
        if (buffers[i].message && (!shortest || buffers[i].blocks < shortest->blocks))
            shortest = &buffers[i];
    size_t blocks = shortest->blocks;
    for (size_t i = 0; i < SHA_WIDTH; i++) { /* a buffer that rests goes through the blocks of another one */
        const struct buffer *buffer = buffers[i].message ? &buffers[i] : shortest;
        data[i] = buffer->next;
        for (size_t word = 0; word < 8; word++)
            state[word][i] = buffer->message->state[word];
    }
    way->wide(state, data, blocks);
    for (size_t i = 0; i < SHA_WIDTH; i++) {
        if (!buffers[i].message)
            continue;
        for (size_t word = 0; word < 8; word++)
            buffers[i].message->state[word] = state[word][i];
        count_done(&buffers[i], blocks);
    }
}

void sha_hash(const struct sha_way *way, struct sha_message *const *messages, size_t count) {
    struct buffer buffers[SHA_WIDTH];
    size_t begun = 0, busy;
    for (size_t i = 0; i < SHA_WIDTH; i++)
        buffers[i].message = NULL;
    do {
        busy = 0;
        for (size_t i = 0; i < SHA_WIDTH; i++) {
            struct buffer *buffer = &buffers[i];
            if (buffer->message && !has_blocks(buffer))
                end(buffer);
            while (!buffer->message && begun < count) {
                buffer->message = messages[begun++];
                buffer->next = buffer->message->data;
                buffer->blocks = buffer->message->size / SHA_BLOCK;
                buffer->ending = false;
                if (!has_blocks(buffer))
                    end(buffer);
            }
            busy += buffer->message != NULL;
        }
        if (busy && busy >= way->least) {
            hash_wide(way, buffers);
            continue;
        }
        for (size_t i = 0; i < SHA_WIDTH; i++) {
            while (buffers[i].message && has_blocks(&buffers[i])) {
                way->alone(buffers[i].message->state, buffers[i].next, buffers[i].blocks);
                count_done(&buffers[i], buffers[i].blocks);
            }
        }
    } while (busy);
}

void sha_begin(enum sha sha, struct sha_message *message) {
    *message = (struct sha_message){0};
    memcpy(message->state, initial[sha], sizeof initial[sha]);
}

size_t sha_digest(enum sha sha, const struct sha_message *message, unsigned char *digest) {
    for (size_t word = 0; word < digest_words[sha]; word++)
        store(digest + 4 * word, message->state[word], 4);
    return 4 * digest_words[sha];
}
