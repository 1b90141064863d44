cdef void huber_l1_value(const real* p, double* terms, real alpha, real delta, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double x, inside, outside
    for i in range(n):
        x = fabs(<double>p[i])
        inside = <double>alpha * (x * x) / (2 * <double>delta)
        outside = <double>alpha * (x - <double>0.5 * <double>delta)
        terms[i] = inside if x <= <double>delta else outside


cdef void huber_l1_gradient(const real* p, real* g, real alpha, real delta, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real x, one = 1
    for i in range(n):
        x = p[i] / delta
        x = one if x > one else x
        x = -one if x < -one else x
        g[i] = g[i] + alpha * x


cdef void huber_l1_prox(real* p, const real* step, real alpha, real delta, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real t, inside, outside
    for i in range(n):
        t = step[i] * alpha
        inside = p[i] * (delta / (delta + t))
        outside = soft(p[i], t)
        p[i] = inside if magnitude(p[i]) <= delta + t else outside
