from libc.stdint cimport uint16_t
from libc.string cimport memmove


cdef void dropout(const real* x, real* y, real scale, Py_ssize_t n, Py_ssize_t first, Py_ssize_t threshold,
                  Py_ssize_t seed, Py_ssize_t step, Py_ssize_t stream, Py_ssize_t past) noexcept nogil:
    """`first` is a multiple of 8, the number of x[0] among all; `past`: y goes to memory past the caches."""
    cdef uint32_t[128] random
    cdef uint16_t[256] bits
    cdef real[272] made                                 # with up to a line that is left of the turn before
    cdef uint32_t limit = <uint32_t>threshold
    cdef real kept
    cdef Py_ssize_t i = 0, j, m, done, left = 0
    while i < n:
        m = min(<Py_ssize_t>256, n - i)
        prefetch(x + i, 256 * sizeof(real), m * sizeof(real))       # the next ones come while these bits are made
        if not past:
            prefetch(y + i, 256 * sizeof(real), m * sizeof(real))
        words(random, (m + 7) // 8, (first + i) // 8, seed, step, stream)
        memcpy(bits, random, 2 * m)                     # the low half of a word comes first, in memory too
        for j in range(m):
            kept = x[i + j] * scale                     # before the select: one that loads is a branch in SSE
            made[left + j] = kept if bits[j] >= limit else 0
        if past:
            done = stream_store(y + i - left, made, (left + m) * sizeof(real)) // sizeof(real)
            left = left + m - done
            memmove(made, made + done, left * sizeof(real))
        else:
            memcpy(y + i, made, m * sizeof(real))
        i = i + m
    memcpy(y + n - left, made, left * sizeof(real))
    if past:
        store_fence()
