cdef void l1_value(const real* p, double* terms, real alpha, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        terms[i] = <double>alpha * fabs(<double>p[i])


cdef void l1_gradient(const real* p, real* g, real alpha, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        g[i] = g[i] + alpha * sign(p[i])


cdef void l1_prox(real* p, const real* step, real alpha, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = soft(p[i], step[i] * alpha)
