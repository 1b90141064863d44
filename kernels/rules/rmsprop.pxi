cdef void rmsprop(real* p, const real* g, real* square_avg, real* grad_avg, real* momentum_buffer, real lr, real alpha,
                  real one_minus_alpha, real eps, real momentum, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real v, m, b
    if grad_avg is NULL and momentum_buffer is NULL:
        for i in range(n):
            v = alpha * square_avg[i] + one_minus_alpha * (g[i] * g[i])
            p[i] = p[i] - lr * (g[i] / (sqrt(v) + eps))
            square_avg[i] = flush(v)
    elif momentum_buffer is NULL:
        for i in range(n):
            v = alpha * square_avg[i] + one_minus_alpha * (g[i] * g[i])
            m = grad_avg[i] + one_minus_alpha * (g[i] - grad_avg[i])
            p[i] = p[i] - lr * (g[i] / (sqrt(v - m * m) + eps))
            square_avg[i] = flush(v)
            grad_avg[i] = flush(m)
    elif grad_avg is NULL:
        for i in range(n):
            v = alpha * square_avg[i] + one_minus_alpha * (g[i] * g[i])
            b = momentum * momentum_buffer[i] + g[i] / (sqrt(v) + eps)
            p[i] = p[i] - lr * b
            square_avg[i] = flush(v)
            momentum_buffer[i] = flush(b)
    else:
        for i in range(n):
            v = alpha * square_avg[i] + one_minus_alpha * (g[i] * g[i])
            m = grad_avg[i] + one_minus_alpha * (g[i] - grad_avg[i])
            b = momentum * momentum_buffer[i] + g[i] / (sqrt(v - m * m) + eps)
            p[i] = p[i] - lr * b
            square_avg[i] = flush(v)
            grad_avg[i] = flush(m)
            momentum_buffer[i] = flush(b)


cdef void rmsprop_steps(real* steps, const real* square_avg, const real* grad_avg, real eps, real step,
                        Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if grad_avg is NULL:
        for i in range(n):
            steps[i] = step / (sqrt(square_avg[i]) + eps)
    else:
        for i in range(n):
            steps[i] = step / (sqrt(square_avg[i] - grad_avg[i] * grad_avg[i]) + eps)
