cdef void log_sum_value(const real* p, double* terms, real alpha, real eps, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double x, y, z
    for i in range(n):
        x = fabs(<double>p[i]) / <double>eps
        y = 1 + x                               # not 1 + x in its last digits; y - 1 is what log sees
        z = log(y) * (x / (y - 1))
        z = z if y > 1 else x
        z = z if y - y == 0 else x              # inf and NaN stay
        terms[i] = <double>alpha * z


cdef void log_sum_gradient(const real* p, real* g, real alpha, real eps, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        g[i] = g[i] + alpha * sign(p[i]) / (magnitude(p[i]) + eps)


cdef void log_sum_prox(real* p, const real* step, real alpha, real eps, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real x, size, t, most, excess, v, d, w, w_near
    for i in range(n):
        x = p[i]
        size = magnitude(x)
        t = step[i] * alpha
        most = eps if size < eps else size
        excess = size - t / eps
        v = (eps - size) / most
        d = sqrt(v * v + <real>4 * ((eps / most) * (excess / most)))
        w_near = <real>2 * excess / (v + d)
        w = size * ((d - v) / <real>2)
        w = w_near if size < eps else w         # one root: neither form cancels
        w = size if size < w else w
        w = -w if x < 0 else w
        w = x if t == 0 else w
        w = w if size - size == 0 else x        # inf and NaN stay
        p[i] = 0 if size <= t / eps else w
