cdef void softmax_cross_entropy(const real* logits, const int64_t* target, real* gradient, double* terms, real factor,
                                Py_ssize_t rows, Py_ssize_t classes) noexcept nogil:
    cdef Py_ssize_t i, j, k, width
    cdef real top, total, c
    cdef real[32] lane
    cdef const real* z = logits
    cdef real* d = gradient
    for i in range(rows):
        for j in range(32):
            lane[j] = z[0]
        k = 0
        while k + 32 <= classes:
            for j in range(32):
                lane[j] = maximum(lane[j], z[k + j])
            k += 32
        for j in range(classes - k):
            lane[j] = maximum(lane[j], z[k + j])
        top = lane[0]
        for j in range(1, 32):
            top = maximum(top, lane[j])

        for j in range(classes):
            d[j] = exp(z[j] - top)
        for j in range(32):
            lane[j] = 0
        k = 0
        while k + 32 <= classes:
            for j in range(32):
                lane[j] = lane[j] + d[k + j]
            k += 32
        for j in range(classes - k):
            lane[j] = lane[j] + d[k + j]
        width = 16
        while width > 0:
            for j in range(width):
                lane[j] = lane[j] + lane[j + width]
            width = width // 2
        total = lane[0]

        k = target[i]
        terms[i] = log(<double>total) - (<double>z[k] - <double>top)
        c = factor / total
        for j in range(classes):
            d[j] = d[j] * c
        d[k] = d[k] - factor
        z += classes
        d += classes
