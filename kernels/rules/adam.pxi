cdef void adam(real* p, const real* g, real* exp_avg, real* exp_avg_sq, real* max_exp_avg_sq, real one_minus_beta1,
               real beta2, real one_minus_beta2, real step_size, real inv_sqrt_correction2, real eps, real decay,
               Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real m, v, largest
    if max_exp_avg_sq is NULL:
        for i in range(n):
            m = exp_avg[i] + one_minus_beta1 * (g[i] - exp_avg[i])
            v = beta2 * exp_avg_sq[i] + one_minus_beta2 * (g[i] * g[i])
            p[i] = p[i] * decay - step_size * (m / (sqrt(v) * inv_sqrt_correction2 + eps))
            exp_avg[i] = flush(m)
            exp_avg_sq[i] = flush(v)
    else:
        for i in range(n):
            m = exp_avg[i] + one_minus_beta1 * (g[i] - exp_avg[i])
            v = beta2 * exp_avg_sq[i] + one_minus_beta2 * (g[i] * g[i])
            largest = maximum(max_exp_avg_sq[i], v)
            p[i] = p[i] * decay - step_size * (m / (sqrt(largest) * inv_sqrt_correction2 + eps))
            exp_avg[i] = flush(m)
            exp_avg_sq[i] = flush(v)
            max_exp_avg_sq[i] = flush(largest)


cdef void adam_steps(real* steps, const real* exp_avg_sq, const real* max_exp_avg_sq, real step_size,
                     real inv_sqrt_correction2, real eps, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef const real* largest = exp_avg_sq if max_exp_avg_sq is NULL else max_exp_avg_sq
    for i in range(n):
        steps[i] = step_size / (sqrt(largest[i]) * inv_sqrt_correction2 + eps)
