cdef void max_norm_shrink(const double* squares, double* factor, real step, real radius, Py_ssize_t n,
                          Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    cdef double norm, x
    for i in range(n):
        norm = sqrt(squares[i])
        x = <double>radius / norm
        factor[i] = x if norm > <double>radius else 1
