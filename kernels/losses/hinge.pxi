cdef void hinge(const real* prediction, const real* target, real* gradient, double* terms, real factor, real one,
                Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real m
    for i in range(n):
        m = one - target[i] * prediction[i]
        gradient[i] = gate(m, factor * -target[i])
        terms[i] = <double>relu(m)
