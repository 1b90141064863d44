cdef void lion(real* p, const real* g, real* exp_avg, real lr, real one_minus_beta1, real one_minus_beta2,
               real decay, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real m
    for i in range(n):
        m = exp_avg[i]
        p[i] = p[i] * decay - lr * sign(m + one_minus_beta1 * (g[i] - m))
        exp_avg[i] = flush(m + one_minus_beta2 * (g[i] - m))
