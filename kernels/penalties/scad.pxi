cdef void scad_value(const real* p, double* terms, real alpha, real gamma, real gamma1, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double x, a = alpha, c = gamma, d = gamma1, middle, outside
    for i in range(n):
        x = fabs(<double>p[i])
        middle = (2 * c * a * x - x * x - a * a) / (2 * d)
        outside = <double>0.5 * (a * a) * (c + 1) if x > c * a else middle
        terms[i] = a * x if x <= a else outside


cdef void scad_gradient(const real* p, real* g, real alpha, real gamma, real gamma1, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real size, slope
    for i in range(n):
        size = magnitude(p[i])
        slope = (gamma * alpha - size) / gamma1
        slope = alpha if size <= alpha else slope
        slope = slope * sign(p[i])
        g[i] = g[i] + (0 if size > gamma * alpha else slope)


cdef void scad_prox(real* p, const real* step, real alpha, real gamma, real gamma1, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real x, size, t, w
    for i in range(n):
        x = p[i]
        size = magnitude(x)
        t = step[i] * alpha
        w = alpha + (size - (alpha + t)) * (gamma1 / (gamma1 - step[i]))
        w = size if size < w else w             # a step just below gamma - 1 may round to it: 1 / 0
        w = size - t if size <= alpha + t else w
        w = -w if x < 0 else w
        w = x if t == 0 else w
        w = 0 if size <= t else w
        p[i] = x if size > gamma * alpha else w
