# The stages of the step that are no rule and no penalty; step.py has their order.
cdef void decay(real* p, real factor, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = p[i] * factor


cdef void clip(real* g, real bound, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real x
    for i in range(n):
        x = g[i]
        x = bound if x > bound else x
        g[i] = -bound if x < -bound else x


cdef void ema(real* e, const real* p, real one_minus_decay, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        e[i] = flush(e[i] + one_minus_decay * (p[i] - e[i]))


cdef void add_row_gradient(const real* p, real* g, real slope, real lift, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        g[i] = g[i] + slope * (p[i] * lift)


cdef void fill(real* out, real x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = x
