cdef void l2_value(const real* p, double* terms, real two_alpha, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double x
    for i in range(n):
        x = <double>p[i]
        terms[i] = <double>0.5 * <double>two_alpha * (x * x)


cdef void l2_gradient(const real* p, real* g, real two_alpha, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        g[i] = g[i] + two_alpha * p[i]


cdef void l2_prox(real* p, const real* step, real two_alpha, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = p[i] / (<real>1 + step[i] * two_alpha)
