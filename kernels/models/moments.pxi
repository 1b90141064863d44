cdef void weighted_sums(const real* x, const real* weight, double* terms, Py_ssize_t rows,
                   Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef double total
    for i in range(rows):
        total = 0
        for j in range(columns):
            total = total + <double>x[i * columns + j]
        terms[i] = <double>weight[i] * total


cdef void weighted_squares(const real* x, const real* centre, const real* weight, double* terms, Py_ssize_t rows,
                      Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef double total, d
    for i in range(rows):
        total = 0
        for j in range(columns):
            d = <double>(x[i * columns + j] - centre[j])
            total = total + d * d
        terms[i] = <double>weight[i] * total
