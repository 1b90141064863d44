cdef void bias_relu_forward(const real* x, const real* bias, real* y, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef real z
    for i in range(rows):
        for j in range(columns):
            z = x[i * columns + j] + bias[j]
            y[i * columns + j] = 0 if z <= 0 else z


cdef void bias_relu_backward(const real* dy, const real* x, const real* bias, real* dx, double* sums, Py_ssize_t rows,
                             Py_ssize_t first, Py_ssize_t columns) noexcept nogil:
    """To sums[leaf], zeros at first, is added what the rows of a leaf have in dx."""
    cdef Py_ssize_t i, j, k
    cdef real z, d
    cdef double* sum
    for i in range(rows):
        sum = sums + (first + i) // SAMPLES * columns
        k = i * columns
        for j in range(columns):
            z = x[k + j] + bias[j]
            d = dy[k + j]                   # before the select: one that loads is a branch where SSE is all
            d = 0 if z <= 0 else d
            dx[k + j] = d
            sum[j] = sum[j] + <double>d
