cdef void absolute_error(const real* prediction, const real* target, real* gradient, double* terms, real factor,
                         Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real d
    for i in range(n):
        d = prediction[i] - target[i]
        gradient[i] = factor * sign(d)
        terms[i] = <double>magnitude(d)
