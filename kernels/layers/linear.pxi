cdef void linear_forward(const real* x, const real* w, const real* b, real* z, Py_ssize_t rows, Py_ssize_t inputs,
                         Py_ssize_t outputs) noexcept nogil:
    cdef Py_ssize_t i, k, j
    cdef real a
    for i in range(rows):
        for j in range(outputs):
            z[j] = b[j]
        for k in range(inputs):
            a = x[k]
            for j in range(outputs):
                z[j] = z[j] + a * w[k * outputs + j]
        x += inputs
        z += outputs


cdef void linear_backward(const real* x, const real* dz, real* dw, Py_ssize_t features, Py_ssize_t rows,
                          Py_ssize_t inputs, Py_ssize_t outputs) noexcept nogil:
    cdef Py_ssize_t i, k, j
    cdef real a
    for k in range(features * outputs):
        dw[k] = 0
    for i in range(rows):
        for k in range(features):
            a = x[k]
            for j in range(outputs):
                dw[k * outputs + j] = dw[k * outputs + j] + a * dz[j]
        x += inputs
        dz += outputs
