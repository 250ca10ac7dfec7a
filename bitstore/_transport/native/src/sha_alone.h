/* The steps of FIPS 180-4 for one message, by the processor's own instructions for SHA; sha.c includes this with TARGET.

   SHA1RNDS4 does four steps, SHA256RNDS2 two; Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2. */

TARGET static inline __m128i four_words(const unsigned char *data) {
    const __m128i swap = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    return _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)data), swap);
}

/* By `STEPS`, which does four. */
#define FIRST_64 \
    STEPS(0); \
    STEPS(1); \
    STEPS(2); \
    STEPS(3); \
    STEPS(4); \
    STEPS(5); \
    STEPS(6); \
    STEPS(7); \
    STEPS(8); \
    STEPS(9); \
    STEPS(10); \
    STEPS(11); \
    STEPS(12); \
    STEPS(13); \
    STEPS(14); \
    STEPS(15)

#define BACKWARD 0x1b /* the order of four words, the last one first */

TARGET static void sha1_alone(uint32_t *state, const unsigned char *data, size_t count) {
    __m128i abcd = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state), BACKWARD);
    __m128i e = _mm_set_epi32((int)state[4], 0, 0, 0);
/* Steps 4 * t to 4 * t + 3. The first word is in the highest place. */
#define STEPS(t) \
    do { \
        __m128i word = (t) < 4 ? _mm_shuffle_epi32(four_words(data + 16 * ((t) & 3)), BACKWARD) \
                               : _mm_sha1msg2_epu32(_mm_xor_si128(_mm_sha1msg1_epu32(w[(t) & 3], w[((t) + 1) & 3]), \
                                                                  w[((t) + 2) & 3]), \
                                                    w[((t) + 3) & 3]); \
        w[(t) & 3] = word; \
        __m128i sum = (t) ? _mm_sha1nexte_epu32(before, word) : _mm_add_epi32(e, word); \
        before = abcd; \
        abcd = _mm_sha1rnds4_epu32(abcd, sum, (t) / 5); \
    } while (0)
    for (; count; count--, data += SHA_BLOCK) {
        __m128i w[4], before = abcd, first = abcd;
        FIRST_64;
        STEPS(16);
        STEPS(17);
        STEPS(18);
        STEPS(19);
        e = _mm_sha1nexte_epu32(before, e);
        abcd = _mm_add_epi32(abcd, first);
    }
#undef STEPS
    _mm_storeu_si128((__m128i *)(void *)state, _mm_shuffle_epi32(abcd, BACKWARD));
    state[4] = (uint32_t)_mm_extract_epi32(e, 3);
}

TARGET static void sha256_alone(uint32_t *state, const unsigned char *data, size_t count) {
    const __m128i *constants = (const __m128i *)(const void *)sha256_constants;
    __m128i abcd = _mm_loadu_si128((const __m128i *)(const void *)state);
    __m128i efgh = _mm_loadu_si128((const __m128i *)(const void *)(state + 4));
    /* The instructions take a, b, e, f in one and c, d, g, h in the other one, the first word in the highest place. */
    __m128i abef = _mm_shuffle_epi32(_mm_unpacklo_epi64(abcd, efgh), 0xb1);
    __m128i cdgh = _mm_shuffle_epi32(_mm_unpackhi_epi64(abcd, efgh), 0xb1);
    abef = _mm_shuffle_epi32(abef, 0x4e);
    cdgh = _mm_shuffle_epi32(cdgh, 0x4e);
/* Steps 4 * t to 4 * t + 3. */
#define STEPS(t) \
    do { \
        __m128i word = (t) < 4 ? four_words(data + 16 * ((t) & 3)) \
                               : _mm_sha256msg2_epu32( \
                                     _mm_add_epi32(_mm_sha256msg1_epu32(w[(t) & 3], w[((t) + 1) & 3]), \
                                                   _mm_alignr_epi8(w[((t) + 3) & 3], w[((t) + 2) & 3], 4)), \
                                     w[((t) + 3) & 3]); \
        w[(t) & 3] = word; \
        __m128i sum = _mm_add_epi32(word, _mm_loadu_si128(constants + (t))); \
        cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum); \
        abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e)); \
    } while (0)
    for (; count; count--, data += SHA_BLOCK) {
        __m128i w[4], first = abef, second = cdgh;
        FIRST_64;
        abef = _mm_add_epi32(abef, first);
        cdgh = _mm_add_epi32(cdgh, second);
    }
#undef STEPS
    abef = _mm_shuffle_epi32(abef, BACKWARD); /* a, b, e, f from the lowest place on: a */
    cdgh = _mm_shuffle_epi32(cdgh, BACKWARD);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_unpacklo_epi64(abef, cdgh));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_unpackhi_epi64(abef, cdgh));
}

#undef FIRST_64
#undef BACKWARD
#undef TARGET
