cdef void log_sum_value(const real* p, double* terms, real alpha, real eps, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        terms[i] = <double>alpha * log(1 + fabs(<double>p[i]) / <double>eps)


cdef void log_sum_gradient(const real* p, real* g, real alpha, real eps, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        g[i] = g[i] + alpha * sign(p[i]) / (magnitude(p[i]) + eps)


cdef void log_sum_prox(real* p, const real* step, real alpha, real eps, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real size, t, under, root
    for i in range(n):
        size = magnitude(p[i])
        t = step[i] * alpha
        under = relu((size + eps) * (size + eps) - <real>4 * t)
        root = ((size - eps) + sqrt(under)) / <real>2 * sign(p[i])
        root = root if p[i] == p[i] else p[i]
        p[i] = 0 if size <= t / eps else root
