cdef void squared_hinge(const real* prediction, const real* target, real* gradient, double* terms, real factor,
                        real one, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real m, h
    for i in range(n):
        m = one - target[i] * prediction[i]
        h = relu(m)
        gradient[i] = gate(m, factor * (h * -target[i]))
        terms[i] = <double>h * <double>h
