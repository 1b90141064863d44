cdef void adagrad(real* p, const real* g, real* sum, real step_size, real eps, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real s
    for i in range(n):
        s = sum[i] + g[i] * g[i]
        p[i] = p[i] - step_size * (g[i] / (sqrt(s) + eps))
        sum[i] = flush(s)


cdef void adagrad_steps(real* steps, const real* sum, real step_size, real eps, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        steps[i] = step_size / (sqrt(sum[i]) + eps)
