cdef void non_negative_prox(real* p, const real* step, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real x
    for i in range(n):
        x = p[i]
        p[i] = 0 if x <= 0 else x
