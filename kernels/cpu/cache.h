/* What engine and tiles tell the caches. */
#ifndef PYOPT_MEMORY_H
#define PYOPT_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef _MSC_VER
#include <intrin.h>
#define FETCH(a) _mm_prefetch((const char *)(a), _MM_HINT_T0)
#define FETCH_NEAR(a) _mm_prefetch((const char *)(a), _MM_HINT_T1)
#else
#define FETCH(a) __builtin_prefetch((a), 0, 3)
#define FETCH_NEAR(a) __builtin_prefetch((a), 0, 2)
#endif

#if defined(__AVX512F__)
#include <immintrin.h>
#define PUT_LINE(to, from) _mm512_stream_si512((__m512i *)(to), _mm512_loadu_si512(from))
#elif defined(__x86_64__) || defined(_M_X64)
#include <emmintrin.h>
#define PUT_QUARTER(to, from) _mm_stream_si128((__m128i *)(to), _mm_loadu_si128((const __m128i *)(from)))
#define PUT_LINE(to, from) \
    (PUT_QUARTER(to, from), PUT_QUARTER((to) + 16, (from) + 16), PUT_QUARTER((to) + 32, (from) + 32), \
     PUT_QUARTER((to) + 48, (from) + 48))
#endif

/* Bytes beyond the end of an array may be named: a prefetch never faults. The address is a number on the way,
   because a pointer far outside its array is undefined. */
static inline void prefetch(const void *array, size_t ahead, size_t bytes) {
    uintptr_t first = (uintptr_t)array + ahead;
    for (uintptr_t line = first & ~(uintptr_t)63; line < first + bytes; line += 64)
        FETCH((const char *)line);
}

/* The same into the second-level cache, which waits for more lines at a time than the first: for rows that lie anywhere. */
static inline void prefetch_row(const void *array, size_t bytes) {
    for (uintptr_t line = (uintptr_t)array & ~(uintptr_t)63; line < (uintptr_t)array + bytes; line += 64)
        FETCH_NEAR((const char *)line);
}

/* Write what goes to memory without first reading it from there, as a cache does: whole lines, past the caches. What
   stands before the first line of `to` is written as ever; what is left of a last one stays with the caller. Returns
   the number of bytes written. The caller ends with `store_fence`, before another thread may look. */
static inline size_t stream_store(void *to, const void *from, size_t bytes) {
#ifdef PUT_LINE
    char *out = (char *)to;
    const char *in = (const char *)from;
    size_t done = (size_t)(-(uintptr_t)to & 63);
    if (done > bytes)
        done = bytes;
    memcpy(out, in, done);
    for (; done + 64 <= bytes; done += 64)
        PUT_LINE(out + done, in + done);
    return done;
#else
    memcpy(to, from, bytes);
    return bytes;
#endif
}

static inline void store_fence(void) {
#ifdef PUT_LINE
    _mm_sfence();
#endif
}

#endif
