cdef inline real logistic(real z, real* slope) noexcept nogil:
    """The share of z that the tanh form lets through, 1 / (1 + e^(-z * (a + b z^2))), and its derivative."""
    cdef real a, b, one = 1, u, e, r, q = z * z
    a = <real>1.5957691216057308                # 2 sqrt(2 / pi)
    b = <real>0.07135481627260025               # and times 0.044715
    u = z * (a + b * q)
    e = exp(u if u < 0 else -u)
    r = one / (one + e)
    slope[0] = ((e * r) * r) * (a + <real>0.21406444881780076 * q)
    return e * r if u < 0 else r


cdef void bias_gelu_forward(const real* x, const real* bias, real* y, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef real z, slope
    for i in range(rows):
        for j in range(columns):
            z = x[i * columns + j] + bias[j]
            y[i * columns + j] = z * normal(z, &slope)


cdef void bias_gelu_tanh_forward(const real* x, const real* bias, real* y, Py_ssize_t rows,
                                 Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef real z, slope
    for i in range(rows):
        for j in range(columns):
            z = x[i * columns + j] + bias[j]
            y[i * columns + j] = z * logistic(z, &slope)


cdef void bias_gelu_backward(const real* dy, const real* x, const real* bias, real* dx, double* sums, Py_ssize_t rows,
                             Py_ssize_t first, Py_ssize_t columns) noexcept nogil:
    """To sums[leaf], zeros at first, is added what the rows of a leaf have in dx."""
    cdef Py_ssize_t i, j, k
    cdef real z, d, slope
    cdef double* sum
    for i in range(rows):
        sum = sums + (first + i) // SAMPLES * columns
        k = i * columns
        for j in range(columns):
            z = x[k + j] + bias[j]
            d = normal(z, &slope)
            d = dy[k + j] * (d + z * slope)
            dx[k + j] = d
            sum[j] = sum[j] + <double>d


cdef void bias_gelu_tanh_backward(const real* dy, const real* x, const real* bias, real* dx, double* sums,
                                  Py_ssize_t rows, Py_ssize_t first, Py_ssize_t columns) noexcept nogil:
    """The same for the tanh form."""
    cdef Py_ssize_t i, j, k
    cdef real z, d, slope
    cdef double* sum
    for i in range(rows):
        sum = sums + (first + i) // SAMPLES * columns
        k = i * columns
        for j in range(columns):
            z = x[k + j] + bias[j]
            d = logistic(z, &slope)
            d = dy[k + j] * (d + z * slope)
            dx[k + j] = d
            sum[j] = sum[j] + <double>d
