# The stages of the step that are no rule and no penalty; step.py has their order.
cdef void scale(real* out, const real* g, real factor, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = g[i] * factor


cdef void decay(real* p, real factor, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = p[i] * factor
