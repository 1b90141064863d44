cdef void softmax_forward(const real* z, real* p, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef real top, total, e, x
    if columns == 1:
        for i in range(rows):
            x = z[i]
            e = exp(-x if x > 0 else x)
            total = <real>1.0 / (<real>1.0 + e)
            e = e * total
            p[2 * i] = e if x > 0 else total
            p[2 * i + 1] = total if x > 0 else e
        return
    for i in range(rows):
        top = z[i * columns]
        for j in range(1, columns):
            top = z[i * columns + j] if z[i * columns + j] > top else top
        for j in range(columns):
            p[i * columns + j] = exp(z[i * columns + j] - top)
        total = p[i * columns]
        for j in range(1, columns):
            total = total + p[i * columns + j]
        for j in range(columns):
            p[i * columns + j] = p[i * columns + j] / total
