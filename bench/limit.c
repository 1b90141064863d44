/* The limit of the memory: reads some arrays, writes the first of them, and hardly computes. The arrays keep their values:
   `one` and `zero` are what they say, and the compiler does not know it. */
#include <omp.h>
#include <stddef.h>
#include <stdint.h>

enum { TILE = 128, LINE = 16, MOST = 8 };

static inline __attribute__((always_inline)) void piece(float *const *arrays, const int reads, const int writes,
                                                        ptrdiff_t start, ptrdiff_t stop, ptrdiff_t ahead, float one,
                                                        float zero) {
    float *a[MOST];
    for (int j = 0; j < reads; j++)
        a[j] = arrays[j];
    while (start < stop) {
        /* a short first tile: the rest starts on a cache line */
        ptrdiff_t end = start + TILE - (ptrdiff_t)(((uintptr_t)(a[0] + start) & 63) / sizeof(float));
        if (end > stop)
            end = stop;
        if (ahead)
            for (int j = 0; j < reads; j++)
                for (ptrdiff_t i = start; i < end; i += LINE)
                    __builtin_prefetch(a[j] + i + ahead, 0, 3);
#pragma omp simd
        for (ptrdiff_t i = start; i < end; i++) {
            float sum = 0;
            for (int j = 0; j < reads; j++)
                sum += a[j][i];
            for (int j = 0; j < writes; j++)
                a[j][i] = a[j][i] * one + sum * zero;
        }
        start = end;
    }
}

/* arrays holds `reads` pointers for each of `count` tensors, those written first. Returns -1 where no loop was made. */
int stream(float *const *arrays, const ptrdiff_t *sizes, ptrdiff_t count, int reads, int writes, ptrdiff_t ahead,
           int threads, float one, float zero) {
    ptrdiff_t total = 0;
    for (ptrdiff_t k = 0; k < count; k++)
        total += sizes[k];
    if (reads * 10 + writes != 55 && reads * 10 + writes != 43 && reads * 10 + writes != 32 && reads * 10 + writes != 31 && reads * 10 + writes != 21)
        return -1;
#pragma omp parallel num_threads(threads)
    {
        ptrdiff_t low = total * omp_get_thread_num() / omp_get_num_threads();
        ptrdiff_t high = total * (omp_get_thread_num() + 1) / omp_get_num_threads();
        ptrdiff_t first = 0; /* of the elements of tensor k, among all */
        for (ptrdiff_t k = 0; k < count && first < high; first += sizes[k], k++) {
            ptrdiff_t start = low > first ? low - first : 0;
            ptrdiff_t stop = high - first < sizes[k] ? high - first : sizes[k];
            float *const *a = arrays + k * reads;
            if (reads == 5)
                piece(a, 5, 5, start, stop, ahead, one, zero);
            else if (reads == 4)
                piece(a, 4, 3, start, stop, ahead, one, zero);
            else if (reads == 3 && writes == 1)
                piece(a, 3, 1, start, stop, ahead, one, zero);
            else if (reads == 3)
                piece(a, 3, 2, start, stop, ahead, one, zero);
            else
                piece(a, 2, 1, start, stop, ahead, one, zero);
        }
    }
    return 0;
}

/* A plain read of one array of each tensor: its sum, in as many accumulators as hide the additions. */
float scan(float *const *arrays, const ptrdiff_t *sizes, ptrdiff_t count, int threads) {
    ptrdiff_t total = 0;
    float all = 0;
    for (ptrdiff_t k = 0; k < count; k++)
        total += sizes[k];
#pragma omp parallel num_threads(threads) reduction(+ : all)
    {
        ptrdiff_t low = total * omp_get_thread_num() / omp_get_num_threads();
        ptrdiff_t high = total * (omp_get_thread_num() + 1) / omp_get_num_threads();
        ptrdiff_t first = 0;
        float sum[128] = {0};
        for (ptrdiff_t k = 0; k < count && first < high; first += sizes[k], k++) {
            ptrdiff_t i = low > first ? low - first : 0;
            ptrdiff_t stop = high - first < sizes[k] ? high - first : sizes[k];
            const float *a = arrays[k];
            for (; i + 128 <= stop; i += 128)
#pragma omp simd
                for (int j = 0; j < 128; j++)
                    sum[j] += a[i + j];
            for (; i < stop; i++)
                sum[0] += a[i];
        }
        for (int j = 0; j < 128; j++)
            all += sum[j];
    }
    return all;
}
