cdef void huber(const real* prediction, const real* target, real* gradient, double* terms, real factor, real delta,
                real half, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real d, a, slope
    for i in range(n):
        d = prediction[i] - target[i]
        a = magnitude(d)
        slope = delta if a > delta else a
        terms[i] = <double>slope * (<double>a - <double>half * <double>slope)
        slope = -delta if d < -delta else d
        slope = delta if slope > delta else slope
        gradient[i] = factor * slope
