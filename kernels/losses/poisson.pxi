cdef void poisson(const real* log_rate, const real* target, real* gradient, double* terms, real factor,
                  Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real e
    for i in range(n):
        e = exp_any(log_rate[i])
        gradient[i] = factor * (e - target[i])
        terms[i] = <double>e - <double>target[i] * <double>log_rate[i]
