cdef void sgd(real* p, const real* g, real* momentum_buffer, real lr, real momentum, real one_minus_dampening,
              real nesterov, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real b
    if momentum_buffer is NULL:
        for i in range(n):
            p[i] = p[i] - lr * g[i]
    elif nesterov > 0:
        for i in range(n):
            b = momentum * momentum_buffer[i] + one_minus_dampening * g[i]
            p[i] = p[i] - lr * (g[i] + momentum * b)
            momentum_buffer[i] = flush(b)
    else:
        for i in range(n):
            b = momentum * momentum_buffer[i] + one_minus_dampening * g[i]
            p[i] = p[i] - lr * b
            momentum_buffer[i] = flush(b)
