cdef void momentum(real* p, const real* g, real* velocity, real lr, real momentum, real nesterov,
                   Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real v
    if nesterov > 0:
        for i in range(n):
            v = momentum * velocity[i] + lr * g[i]
            p[i] = p[i] - (momentum * v + lr * g[i])
            velocity[i] = flush(v)
    else:
        for i in range(n):
            v = momentum * velocity[i] + lr * g[i]
            p[i] = p[i] - v
            velocity[i] = flush(v)
