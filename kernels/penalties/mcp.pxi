cdef void mcp_value(const real* p, double* terms, real alpha, real gamma, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double x, a = alpha, c = gamma, inside
    for i in range(n):
        x = fabs(<double>p[i])
        inside = a * x - (x * x) / (2 * c)
        terms[i] = <double>0.5 * c * (a * a) if x > c * a else inside


cdef void mcp_gradient(const real* p, real* g, real alpha, real gamma, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real slope
    for i in range(n):
        slope = (alpha - magnitude(p[i]) / gamma) * sign(p[i])
        g[i] = g[i] + (0 if magnitude(p[i]) > gamma * alpha else slope)


cdef void mcp_prox(real* p, const real* step, real alpha, real gamma, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real x, size, t, w
    for i in range(n):
        x = p[i]
        size = magnitude(x)
        t = step[i] * alpha
        w = (size - t) / ((gamma - step[i]) / gamma)
        w = size if size < w else w             # a step just below gamma may round to it: 1 / 0
        w = -w if x < 0 else w
        w = 0 if size <= t else w
        p[i] = x if size > gamma * alpha else w
