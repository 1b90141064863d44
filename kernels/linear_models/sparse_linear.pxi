from libc.stdint cimport int32_t


cdef void sparse_forward(const real* data, const int32_t* indices, const int64_t* indptr, const int64_t* order,
                         const real* w, const real* b, real* z, Py_ssize_t rows, Py_ssize_t outputs) noexcept nogil:
    cdef Py_ssize_t i, j, k
    cdef const real* from_w
    cdef real* to
    for i in range(rows):
        to = z + i * outputs
        for j in range(outputs):
            to[j] = b[j]
        for k in range(indptr[order[i]], indptr[order[i] + 1]):
            from_w = w + indices[k] * outputs
            for j in range(outputs):
                to[j] = to[j] + data[k] * from_w[j]


cdef void sparse_backward(const real* data, const int32_t* indices, const int64_t* indptr, const int64_t* order,
                          const real* dz, real* dw, real* db, Py_ssize_t calls, Py_ssize_t rows, Py_ssize_t inputs,
                          Py_ssize_t outputs) noexcept nogil:
    cdef Py_ssize_t i, j, k
    cdef const real* d
    cdef real* to
    for j in range(inputs * outputs):
        dw[j] = 0
    for j in range(outputs):
        db[j] = 0
    for i in range(rows):
        d = dz + i * outputs
        for j in range(outputs):
            db[j] = db[j] + d[j]
        for k in range(indptr[order[i]], indptr[order[i] + 1]):
            to = dw + indices[k] * outputs
            for j in range(outputs):
                to[j] = to[j] + data[k] * d[j]
