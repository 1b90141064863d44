cdef void group_lasso_value(const real* p, double* terms, real alpha, Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        terms[i] = <double>alpha * sqrt(<double>size) * sqrt(tree_of_squares(p + i * size, size))


cdef void group_lasso_slope(const double* squares, double* factor, real alpha, Py_ssize_t n,
                            Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    cdef double x
    for i in range(n):
        x = <double>alpha * sqrt(<double>size) / sqrt(squares[i])
        factor[i] = x if squares[i] > 0 else 0


cdef void group_lasso_shrink(const double* squares, double* factor, real step, real alpha, Py_ssize_t n,
                             Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    cdef double threshold = <double>step * <double>alpha * sqrt(<double>size), norm, x
    for i in range(n):
        norm = sqrt(squares[i])
        x = 1 - threshold / norm
        factor[i] = 0 if norm <= threshold else x
