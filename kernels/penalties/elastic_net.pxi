cdef void elastic_net_value(const real* p, double* terms, real l1, real l2, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double x
    for i in range(n):
        x = <double>p[i]
        terms[i] = <double>l1 * fabs(x) + <double>0.5 * <double>l2 * (x * x)


cdef void elastic_net_gradient(const real* p, real* g, real l1, real l2, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        g[i] = g[i] + (l1 * sign(p[i]) + l2 * p[i])


cdef void elastic_net_prox(real* p, const real* step, real l1, real l2, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = soft(p[i], step[i] * l1) / (<real>1 + step[i] * l2)
