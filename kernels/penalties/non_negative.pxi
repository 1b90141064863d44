cdef void non_negative_prox(real* p, const real* step, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = relu(p[i])
