from libc.stdint cimport uint16_t


cdef void dropout(const real* x, real* y, real scale, Py_ssize_t n, Py_ssize_t first, Py_ssize_t threshold,
                  Py_ssize_t seed, Py_ssize_t step, Py_ssize_t stream) noexcept nogil:
    """`first` is a multiple of 8, the number of x[0] among all; `stream` is stream * 2^24 + layer."""
    cdef uint32_t[128] random
    cdef uint16_t[256] bits
    cdef uint32_t limit = <uint32_t>threshold
    cdef real kept
    cdef Py_ssize_t i = 0, j, m
    while i < n:
        m = min(<Py_ssize_t>256, n - i)
        prefetch(x + i, 256 * sizeof(real), m * sizeof(real))       # the next ones come while these bits are made
        prefetch(y + i, 256 * sizeof(real), m * sizeof(real))
        words(random, (m + 7) // 8, (first + i) // 8, seed, step, stream)
        memcpy(bits, random, 2 * m)                     # the low half of a word comes first, in memory too
        for j in range(m):
            kept = x[i + j] * scale                     # before the select: one that loads is a branch in SSE
            y[i + j] = kept if bits[j] >= limit else 0
        i = i + m
