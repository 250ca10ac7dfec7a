/* The steps of FIPS 180-4 for SHA_WIDTH messages; sha.c includes this once for each set of instructions, with NAME and
   TARGET. There is no loop over steps, so that the compiler keeps all of it in registers. */

#define VECTOR NAME(vector)
typedef uint32_t VECTOR __attribute__((vector_size(4 * SHA_WIDTH)));

/* Eight words of each message, as numbers: word i of all of them in words[i]. */
TARGET static inline void NAME(load)(VECTOR words[8], const unsigned char *const data[SHA_WIDTH], size_t at) {
    const __m256i swap = _mm256_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11,
                                         4, 5, 6, 7, 0, 1, 2, 3);
#define ROW(i) _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(const void *)(data[i] + at)), swap)
/* Words 0, 1, 4 and 5 of two rows, or 2, 3, 6 and 7; then of four rows one word each. */
#define PAIRS(i) __m256i row##i = ROW(i), next##i = ROW(i + 1), low##i = _mm256_unpacklo_epi32(row##i, next##i), \
                         high##i = _mm256_unpackhi_epi32(row##i, next##i)
    PAIRS(0);
    PAIRS(2);
    PAIRS(4);
    PAIRS(6);
#define WORDS(i, half, which) \
    do { \
        __m256i first = _mm256_unpack##half##_epi64(which##0, which##2); \
        __m256i second = _mm256_unpack##half##_epi64(which##4, which##6); \
        words[i] = (VECTOR)_mm256_permute2x128_si256(first, second, 0x20); \
        words[i + 4] = (VECTOR)_mm256_permute2x128_si256(first, second, 0x31); \
    } while (0)
    WORDS(0, lo, low);
    WORDS(1, hi, low);
    WORDS(2, lo, high);
    WORDS(3, hi, high);
#undef ROW
#undef PAIRS
#undef WORDS
}

#define LEFT(x, n) ((x) << (n) | (x) >> (32 - (n)))
#define RIGHT(x, n) LEFT(x, 32 - (n))
#define CHOICE(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define PARITY(x, y, z) ((x) ^ (y) ^ (z))
#define MAJORITY(x, y, z) (((x) & (y)) | ((z) & ((x) | (y))))

TARGET static void NAME(sha1)(uint32_t state[][SHA_WIDTH], const unsigned char *const data[SHA_WIDTH],
                              size_t count) {
    VECTOR start[5], w[16];
    memcpy(start, state, sizeof start);
#define LATER(t) LEFT(w[((t) + 13) & 15] ^ w[((t) + 8) & 15] ^ w[((t) + 2) & 15] ^ w[(t) & 15], 1)
#define WORD(t) ((t) < 16 ? w[(t) & 15] : (w[(t) & 15] = LATER(t)))
#define STEP(a, b, c, d, e, f, k, t) \
    do { \
        e += LEFT(a, 5) + f(b, c, d) + k + WORD(t); \
        b = LEFT(b, 30); \
    } while (0)
#define FIVE(f, k, t) \
    do { \
        STEP(a, b, c, d, e, f, k, t); \
        STEP(e, a, b, c, d, f, k, t + 1); \
        STEP(d, e, a, b, c, f, k, t + 2); \
        STEP(c, d, e, a, b, f, k, t + 3); \
        STEP(b, c, d, e, a, f, k, t + 4); \
    } while (0)
#define TWENTY(f, k, t) \
    do { \
        FIVE(f, k, t); \
        FIVE(f, k, t + 5); \
        FIVE(f, k, t + 10); \
        FIVE(f, k, t + 15); \
    } while (0)
    for (size_t at = 0; at < 64 * count; at += 64) {
        NAME(load)(w, data, at);
        NAME(load)(w + 8, data, at + 32);
        VECTOR a = start[0], b = start[1], c = start[2], d = start[3], e = start[4];
        TWENTY(CHOICE, 0x5a827999u, 0);
        TWENTY(PARITY, 0x6ed9eba1u, 20);
        TWENTY(MAJORITY, 0x8f1bbcdcu, 40);
        TWENTY(PARITY, 0xca62c1d6u, 60);
        start[0] += a, start[1] += b, start[2] += c, start[3] += d, start[4] += e;
    }
    memcpy(state, start, sizeof start);
#undef LATER
#undef WORD
#undef STEP
#undef FIVE
#undef TWENTY
}

TARGET static void NAME(sha256)(uint32_t state[][SHA_WIDTH], const unsigned char *const data[SHA_WIDTH],
                                size_t count) {
    VECTOR start[8], w[16];
    memcpy(start, state, sizeof start);
#define EARLY(x) (RIGHT(x, 7) ^ RIGHT(x, 18) ^ (x) >> 3)
#define LATE(x) (RIGHT(x, 17) ^ RIGHT(x, 19) ^ (x) >> 10)
#define LATER(t) w[((t) + 9) & 15] + EARLY(w[((t) + 1) & 15]) + LATE(w[((t) + 14) & 15])
#define WORD(t) ((t) < 16 ? w[(t) & 15] : (w[(t) & 15] += LATER(t)))
#define STEP(a, b, c, d, e, f, g, h, t) \
    do { \
        h += (RIGHT(e, 6) ^ RIGHT(e, 11) ^ RIGHT(e, 25)) + CHOICE(e, f, g) + sha256_constants[t] + WORD(t); \
        d += h; \
        h += (RIGHT(a, 2) ^ RIGHT(a, 13) ^ RIGHT(a, 22)) + MAJORITY(a, b, c); \
    } while (0)
#define EIGHT(t) \
    do { \
        STEP(a, b, c, d, e, f, g, h, t); \
        STEP(h, a, b, c, d, e, f, g, t + 1); \
        STEP(g, h, a, b, c, d, e, f, t + 2); \
        STEP(f, g, h, a, b, c, d, e, t + 3); \
        STEP(e, f, g, h, a, b, c, d, t + 4); \
        STEP(d, e, f, g, h, a, b, c, t + 5); \
        STEP(c, d, e, f, g, h, a, b, t + 6); \
        STEP(b, c, d, e, f, g, h, a, t + 7); \
    } while (0)
    for (size_t at = 0; at < 64 * count; at += 64) {
        NAME(load)(w, data, at);
        NAME(load)(w + 8, data, at + 32);
        VECTOR a = start[0], b = start[1], c = start[2], d = start[3], e = start[4], f = start[5], g = start[6], h = start[7];
        EIGHT(0);
        EIGHT(8);
        EIGHT(16);
        EIGHT(24);
        EIGHT(32);
        EIGHT(40);
        EIGHT(48);
        EIGHT(56);
        start[0] += a, start[1] += b, start[2] += c, start[3] += d;
        start[4] += e, start[5] += f, start[6] += g, start[7] += h;
    }
    memcpy(state, start, sizeof start);
#undef EARLY
#undef LATE
#undef LATER
#undef WORD
#undef STEP
#undef EIGHT
}

#undef VECTOR
#undef LEFT
#undef RIGHT
#undef CHOICE
#undef PARITY
#undef MAJORITY
#undef NAME
#undef TARGET
