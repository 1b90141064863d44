cdef inline real highest(const real* x, Py_ssize_t n) noexcept nogil:
    """The largest of n numbers, compared as integers of the same order, which vectorises; with a NaN, any number."""
    cdef Py_ssize_t j
    cdef int32_t bits32, top32 = -0x7fffffff
    cdef int64_t bits64, top64 = -0x7fffffffffffffffLL
    cdef real top
    if real is float:
        for j in range(n):
            memcpy(&bits32, &x[j], 4)
            bits32 = bits32 ^ ((bits32 >> 31) & 0x7fffffff)
            top32 = bits32 if bits32 > top32 else top32
        top32 = top32 ^ ((top32 >> 31) & 0x7fffffff)
        memcpy(&top, &top32, 4)
    else:
        for j in range(n):
            memcpy(&bits64, &x[j], 8)
            bits64 = bits64 ^ ((bits64 >> 63) & 0x7fffffffffffffffLL)
            top64 = bits64 if bits64 > top64 else top64
        top64 = top64 ^ ((top64 >> 63) & 0x7fffffffffffffffLL)
        memcpy(&top, &top64, 8)
    return top


cdef inline real lane_sum(const real* x, Py_ssize_t n) noexcept nogil:
    """The sum of n numbers: number j goes to lane j mod 32, lanes fold by halves."""
    cdef real[32] lane
    cdef Py_ssize_t j, k = 0
    for j in range(32):
        lane[j] = 0
    while k + 128 <= n:                 # four numbers a turn, because the lanes lie in memory between turns
        for j in range(32):
            lane[j] = (((lane[j] + x[k + j]) + x[k + 32 + j]) + x[k + 64 + j]) + x[k + 96 + j]
        k += 128
    while k + 32 <= n:
        for j in range(32):
            lane[j] = lane[j] + x[k + j]
        k += 32
    for j in range(n - k):
        lane[j] = lane[j] + x[k + j]
    for j in range(16):
        lane[j] = lane[j] + lane[j + 16]
    for j in range(8):
        lane[j] = lane[j] + lane[j + 8]
    for j in range(4):
        lane[j] = lane[j] + lane[j + 4]
    return (lane[0] + lane[2]) + (lane[1] + lane[3])


cdef void softmax_cross_entropy(const real* logits, const int64_t* target, real* gradient, double* terms, real factor,
                                Py_ssize_t rows, Py_ssize_t classes) noexcept nogil:
    cdef Py_ssize_t i, j, k, n, first = 0, block = max(1, min(64, 1024 // classes))
    cdef real top, c
    cdef real[64] total
    cdef const real* z = logits
    cdef real* d = gradient
    while first < rows:
        n = min(block, rows - first)
        for i in range(n):
            top = highest(z + i * classes, classes)
            terms[first + i] = <double>z[i * classes + target[first + i]] - <double>top
            if classes < 64:                # short rows: one loop over all of them, below
                for j in range(classes):
                    d[i * classes + j] = z[i * classes + j] - top
            else:
                for j in range(classes):
                    d[i * classes + j] = exp(z[i * classes + j] - top)
        if classes < 64:
            for j in range(n * classes):
                d[j] = exp(d[j])
        for i in range(n):
            total[i] = lane_sum(d + i * classes, classes)
            c = factor / total[i]
            for j in range(classes):
                d[i * classes + j] = d[i * classes + j] * c
            k = i * classes + target[first + i]
            d[k] = d[k] - factor
        for i in range(n):
            terms[first + i] = log(<double>total[i]) - terms[first + i]
        z += n * classes
        d += n * classes
        first += n
