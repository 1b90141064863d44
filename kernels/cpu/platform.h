/* What the engine needs from the compiler, the CPU and the operating system, and nothing else does. */
#ifndef PYOPT_PLATFORM_H
#define PYOPT_PLATFORM_H

#include "cache.h"
#include "native.h"

#ifdef _OPENMP
#include <omp.h>
#define HAS_OPENMP 1
#else
#define HAS_OPENMP 0
#define omp_get_max_threads() 1
#endif

#define SCRATCH 5888 /* doubles: a leaf of terms, or all areas of a tile */
typedef struct {
#ifdef _MSC_VER
    __declspec(align(64)) double d[SCRATCH];
#else
    _Alignas(64) double d[SCRATCH]; /* compilers align the stack for it; unaligned scratch costs up to 15 % */
#endif
} scratch_t;

/* Scratch is on the stack, and threads may be made with little: whether there is room for it and for what is around it.
   The answer is asked for once in each thread, and again where it was no. */
#if defined(__linux__) && defined(__GLIBC__)
#include <pthread.h>
int pthread_getattr_np(pthread_t, pthread_attr_t *); /* which glibc declares with _GNU_SOURCE only */
static int has_stack(void) {
    static _Thread_local int known = 0;
    pthread_attr_t attributes;
    void *low;
    size_t size;
    if (!known && pthread_getattr_np(pthread_self(), &attributes) == 0) {
        if (pthread_attr_getstack(&attributes, &low, &size) == 0)
            known = (size_t)((uintptr_t)&attributes - (uintptr_t)low) > 2 * sizeof(scratch_t);
        pthread_attr_destroy(&attributes);
    }
    return known;
}
#else
static int has_stack(void) { return 1; }
#endif

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#if defined(_MSC_VER) && !defined(__clang__)
static int has_avx2(void) {
    int leaf[4];
    __cpuidex(leaf, 1, 0);
    if (!(leaf[2] >> 27 & 1) || (_xgetbv(0) & 6) != 6 || !(leaf[2] >> 12 & 1) || !(leaf[2] >> 29 & 1))
        return 0; /* OSXSAVE, the OS saves ymm, FMA, F16C */
    __cpuidex(leaf, 7, 0);
    return leaf[1] >> 5 & 1;
}
static int has_avx512(void) {
    int leaf[4];
    __cpuidex(leaf, 7, 0);
    return has_avx2() && (_xgetbv(0) & 0xE6) == 0xE6 && (leaf[1] & 0xD0030000) == 0xD0030000; /* F DQ CD BW VL */
}
#else
#include <cpuid.h>
/* Feature by feature: clang before 18 knows neither "x86-64-v3" nor "f16c" here. */
#define CAN(feature) (__builtin_cpu_supports(feature) != 0)
static int has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}
static int has_avx2(void) { return CAN("avx2") && CAN("fma") && CAN("bmi2") && has_f16c(); }
static int has_avx512(void) {
    return has_avx2() && CAN("avx512f") && CAN("avx512bw") && CAN("avx512cd") && CAN("avx512dq") && CAN("avx512vl");
}
#endif
static int has_neon(void) { return 0; }
#elif defined(__aarch64__)
static int has_avx2(void) { return 0; }
static int has_avx512(void) { return 0; }
static int has_neon(void) { return 1; } /* part of every 64-bit Arm */
#else
static int has_avx2(void) { return 0; }
static int has_avx512(void) { return 0; }
static int has_neon(void) { return 0; }
#endif

#endif
