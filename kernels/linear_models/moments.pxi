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
    cdef double[16] lane
    cdef double d
    cdef Py_ssize_t i, j, k
    cdef const real* row
    for i in range(rows):
        row = x + i * columns
        k = 0
        for j in range(16):
            lane[j] = 0
        while k + 16 <= columns:
            for j in range(16):
                d = <double>(row[k + j] - centre[k + j])
                lane[j] = lane[j] + d * d
            k += 16
        for j in range(columns - k):
            d = <double>(row[k + j] - centre[k + j])
            lane[j] = lane[j] + d * d
        for j in range(8):
            lane[j] = lane[j] + lane[j + 8]
        for j in range(4):
            lane[j] = lane[j] + lane[j + 4]
        terms[i] = <double>weight[i] * ((lane[0] + lane[2]) + (lane[1] + lane[3]))
