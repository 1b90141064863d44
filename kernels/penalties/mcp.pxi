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
    cdef real x
    for i in range(n):
        x = soft(p[i], step[i] * alpha) / (<real>1 - step[i] / gamma)
        p[i] = p[i] if magnitude(p[i]) > gamma * alpha else x
