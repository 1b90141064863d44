/* What every engine needs from the processor and the operating system.

   The floating-point mode of a thread. torch.set_flush_denormal and fast-math libraries set flush-to-zero in one thread
   and not in the others, which would make one thread differ from two: every thread computes in the default mode and
   restores the caller's. */
#ifndef PYOPT_NATIVE_H
#define PYOPT_NATIVE_H

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
static inline uint64_t ieee_mode(void) {
    unsigned old = _mm_getcsr();
    _mm_setcsr(0x1F80);
    return old;
}
static inline void restore_mode(uint64_t old) { _mm_setcsr((unsigned)old); }
#elif defined(__aarch64__)
static inline uint64_t ieee_mode(void) {
    uint64_t old;
    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return old;
}
static inline void restore_mode(uint64_t old) { __asm__ volatile("msr fpcr, %0" : : "r"(old)); }
#else
static inline uint64_t ieee_mode(void) { return 0; }
static inline void restore_mode(uint64_t old) { (void)old; }
#endif

/* libgomp's threads do not exist in a forked child: a region of two threads would wait for them for ever. */
static int forked = 0; /* how often on the way to this process */
#ifdef _WIN32
static void watch_forks(void) {}
#else
#include <pthread.h>
static void in_child(void) { forked++; }
static void watch_forks(void) { pthread_atfork(NULL, NULL, in_child); }
#endif

#endif
