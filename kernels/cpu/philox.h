/* Blocks of Philox, several at a time, each in a lane of 64 bits. gcc does not find the multiplication of the low halves
   of such lanes by itself: it makes shifts and additions of it, or three multiplications. philox.py says which bits. */
#ifndef PYOPT_PHILOX_H
#define PYOPT_PHILOX_H

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define BLOCKS 8
typedef __m512i lanes_t;
#define LANES(x) _mm512_set1_epi64((int64_t)(x))
#define COUNT _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0)
#define ADD(a, b) _mm512_add_epi64(a, b)
#define MULTIPLY(a, b) _mm512_mul_epu32(a, b)
#define HIGH(a) _mm512_srli_epi64(a, 32)
#define XOR3(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x96)
#define PAIR(a, b) _mm512_mask_blend_epi32(0xAAAA, a, _mm512_slli_epi64(b, 32))
static inline void put_blocks(uint32_t *out, lanes_t low, lanes_t high) {
    const lanes_t first = _mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0), second = _mm512_set_epi64(15, 7, 14, 6, 13, 5, 12, 4);
    _mm512_storeu_si512(out, _mm512_permutex2var_epi64(low, first, high));
    _mm512_storeu_si512(out + 16, _mm512_permutex2var_epi64(low, second, high));
}
#elif defined(__AVX2__)
#include <immintrin.h>
#define BLOCKS 4
typedef __m256i lanes_t;
#define LANES(x) _mm256_set1_epi64x((int64_t)(x))
#define COUNT _mm256_set_epi64x(3, 2, 1, 0)
#define ADD(a, b) _mm256_add_epi64(a, b)
#define MULTIPLY(a, b) _mm256_mul_epu32(a, b)
#define HIGH(a) _mm256_srli_epi64(a, 32)
#define XOR3(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
#define PAIR(a, b) _mm256_blend_epi32(a, _mm256_slli_epi64(b, 32), 0xAA)
static inline void put_blocks(uint32_t *out, lanes_t low, lanes_t high) {
    lanes_t even = _mm256_unpacklo_epi64(low, high), odd = _mm256_unpackhi_epi64(low, high);
    _mm256_storeu_si256((lanes_t *)out, _mm256_permute2x128_si256(even, odd, 0x20));
    _mm256_storeu_si256((lanes_t *)(out + 8), _mm256_permute2x128_si256(even, odd, 0x31));
}
#elif defined(__SSE4_1__)
#include <smmintrin.h>
#define BLOCKS 2
typedef __m128i lanes_t;
#define LANES(x) _mm_set1_epi64x((int64_t)(x))
#define COUNT _mm_set_epi64x(1, 0)
#define ADD(a, b) _mm_add_epi64(a, b)
#define MULTIPLY(a, b) _mm_mul_epu32(a, b)
#define HIGH(a) _mm_srli_epi64(a, 32)
#define XOR3(a, b, c) _mm_xor_si128(_mm_xor_si128(a, b), c)
#define PAIR(a, b) _mm_blend_epi16(a, _mm_slli_epi64(b, 32), 0xCC)
static inline void put_blocks(uint32_t *out, lanes_t low, lanes_t high) {
    _mm_storeu_si128((lanes_t *)out, _mm_unpacklo_epi64(low, high));
    _mm_storeu_si128((lanes_t *)(out + 4), _mm_unpackhi_epi64(low, high));
}
#endif

#ifdef BLOCKS
/* Fill `out` with the 4 words of blocks from `first` on; return how many blocks of the n that were. The upper halves of
   the lanes hold what is left over from a round: nothing reads it. */
static inline ptrdiff_t philox_lanes(uint32_t *out, ptrdiff_t n, uint64_t first, uint64_t seed, uint32_t t,
                                     uint32_t stream) {
    const lanes_t m0 = LANES(0xD2511F53U), m1 = LANES(0xCD9E8D57U);
    ptrdiff_t i = 0;
    for (; i + BLOCKS <= n; i += BLOCKS) {
        lanes_t x0 = ADD(LANES(first + (uint64_t)i), COUNT), x1 = HIGH(x0), x2 = LANES(t), x3 = LANES(stream), a, b;
        uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
        for (int round = 0; round < 7; round++) {
            a = MULTIPLY(m0, x0);
            b = MULTIPLY(m1, x2);
            x0 = XOR3(HIGH(b), x1, LANES(k0));
            x1 = b;
            x2 = XOR3(HIGH(a), x3, LANES(k1));
            x3 = a;
            k0 += 0x9E3779B9U;
            k1 += 0xBB67AE85U;
        }
        put_blocks(out + 4 * i, PAIR(x0, x1), PAIR(x2, x3));
    }
    return i;
}
#else
static inline ptrdiff_t philox_lanes(uint32_t *out, ptrdiff_t n, uint64_t first, uint64_t seed, uint32_t t,
                                     uint32_t stream) {
    (void)out, (void)n, (void)first, (void)seed, (void)t, (void)stream;
    return 0;
}
#endif

#endif
