/* What engine and tiles tell the caches. */
#ifndef PYOPT_MEMORY_H
#define PYOPT_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#ifdef _MSC_VER
#include <intrin.h>
#define FETCH(a) _mm_prefetch((const char *)(a), _MM_HINT_T0)
#else
#define FETCH(a) __builtin_prefetch((a), 0, 3)
#endif

/* Bytes beyond the end of an array may be named: a prefetch never faults. The address is a number on the way,
   because a pointer far outside its array is undefined. */
static inline void prefetch(const void *array, size_t ahead, size_t bytes) {
    uintptr_t first = (uintptr_t)array + ahead;
    for (uintptr_t line = first; line < first + bytes; line += 64)
        FETCH((const char *)line);
}

#endif
