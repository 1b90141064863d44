from libc.stdint cimport int32_t
from libc.string cimport memset


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


cdef inline real lane_dot(const real* x, const real* z, real top, Py_ssize_t n) noexcept nogil:
    """The sum of x (z - top) over n numbers, in the lanes of lane_sum."""
    cdef real[32] lane
    cdef Py_ssize_t j, k = 0
    for j in range(32):
        lane[j] = 0
    while k + 128 <= n:
        for j in range(32):
            lane[j] = (((lane[j] + weighted(x[k + j], z[k + j] - top)) + weighted(x[k + 32 + j], z[k + 32 + j] - top))
                       + weighted(x[k + 64 + j], z[k + 64 + j] - top)) + weighted(x[k + 96 + j], z[k + 96 + j] - top)
        k += 128
    while k + 32 <= n:
        for j in range(32):
            lane[j] = lane[j] + weighted(x[k + j], z[k + j] - top)
        k += 32
    for j in range(n - k):
        lane[j] = lane[j] + weighted(x[k + j], z[k + j] - top)
    return lane_sum(lane, 32)


cdef void softmax_cross_entropy(const real* logits, const int64_t* target, const real* hot, const real* weight,
                                const real* share, real* gradient, double* terms, real factor, real share_sum,
                                Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t smooth) noexcept nogil:
    cdef Py_ssize_t i, j, n, label, first = 0, block = max(1, min(64, 1024 // classes))
    cdef real top, c, f
    cdef real[64] total
    cdef real[64] mass
    cdef const real* z = logits
    cdef real* d = gradient
    while first < rows:
        n = min(block, rows - first)
        for i in range(n):
            top = highest(z + i * classes, classes)
            label = max(0, target[first + i])
            terms[first + i] = weighted(<double>hot[first + i], <double>z[i * classes + label] - <double>top)
            if smooth:
                c = lane_dot(share, z + i * classes, top, classes)
                terms[first + i] = terms[first + i] + weighted(<double>weight[first + i], <double>c)
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
            mass[i] = hot[first + i] + weight[first + i] * share_sum if smooth else hot[first + i]
            c = (factor * mass[i]) / total[i]
            if smooth:
                f = factor * weight[first + i]
                for j in range(classes):
                    d[i * classes + j] = d[i * classes + j] * c - f * share[j]
            else:
                for j in range(classes):
                    d[i * classes + j] = d[i * classes + j] * c
            label = i * classes + max(0, target[first + i])
            d[label] = d[label] - factor * hot[first + i]
        for i in range(n):
            terms[first + i] = <double>mass[i] * log(<double>total[i]) - terms[first + i]
        for j in range(n):
            if target[first + j] < 0:       # an ignored row, whatever is in it
                terms[first + j] = 0
                memset(d + j * classes, 0, classes * sizeof(real))
        z += n * classes
        d += n * classes
        first += n


cdef void softmax_cross_entropy_soft(const real* logits, const real* target, const real* weight, const real* keep,
                                     const real* share, real* gradient, double* terms, real factor,
                                     Py_ssize_t rows, Py_ssize_t classes) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef real top, all, dot, total, c, f
    cdef const real* z = logits
    cdef const real* y = target
    cdef real* d = gradient
    for i in range(rows):
        top = highest(z, classes)
        for j in range(classes):
            d[j] = y[j] * keep[j] + share[j]
        all = lane_sum(d, classes)
        dot = lane_dot(d, z, top, classes)
        for j in range(classes):
            d[j] = exp(z[j] - top)
        total = lane_sum(d, classes)
        f = factor * weight[i]
        c = (f * all) / total
        for j in range(classes):
            d[j] = d[j] * c - f * (y[j] * keep[j] + share[j])
        dot = dot if weight[i] != 0 else 0      # a NaN still comes from total
        terms[i] = <double>weight[i] * (<double>all * log(<double>total) - <double>dot)
        z += classes
        y += classes
        d += classes
