from libc.stdint cimport int32_t


cdef inline real lanes16(const real* x, const real* w, Py_ssize_t n) noexcept nogil:
    """The sum of x[j] * w[j] over 16 lanes."""
    cdef real[16] lane
    cdef Py_ssize_t j, k = 0
    for j in range(16):
        lane[j] = 0
    while k + 16 <= n:
        for j in range(16):
            lane[j] = lane[j] + x[k + j] * w[k + j]
        k += 16
    if k + 8 <= n:
        for j in range(8):
            lane[j] = lane[j] + x[k + j] * w[k + j]
        k += 8
    if k + 4 <= n:
        for j in range(4):
            lane[j] = lane[j] + x[k + j] * w[k + j]
        k += 4
    if k + 2 <= n:
        for j in range(2):
            lane[j] = lane[j] + x[k + j] * w[k + j]
        k += 2
    if k < n:
        lane[0] = lane[0] + x[k] * w[k]
    for j in range(8):
        lane[j] = lane[j] + lane[j + 8]
    for j in range(4):
        lane[j] = lane[j] + lane[j + 4]
    return (lane[0] + lane[2]) + (lane[1] + lane[3])


cdef inline void row_slopes(const real* z, const real* y, const real* weight, real* c, bint logistic,
                            Py_ssize_t n) noexcept nogil:
    """The slopes of the losses of n rows."""
    cdef Py_ssize_t i
    cdef real e, share
    if not logistic:
        for i in range(n):
            c[i] = weight[i] * (z[i] - y[i])
        return
    for i in range(n):
        e = exp(-z[i] if z[i] > 0 else z[i])
        share = <real>1.0 / (<real>1.0 + e)
        c[i] = weight[i] * ((share if z[i] > 0 else e * share) - y[i])


cdef inline void add_row_losses(const real* z, const real* y, const real* weight, double* lane, bint logistic,
                     Py_ssize_t n) noexcept nogil:
    """Add the losses of n rows to as many lanes."""
    cdef Py_ssize_t i
    cdef double d, e, top
    if not logistic:
        for i in range(n):
            d = <double>(z[i] - y[i])
            lane[i] = lane[i] + <double>weight[i] * (0.5 * (d * d))
        return
    for i in range(n):
        e = <double>exp(-z[i] if z[i] > 0 else z[i])
        d = <double>z[i]
        top = d if d > 0 else 0.0
        lane[i] = lane[i] + <double>weight[i] * ((top - <double>y[i] * d) + log(1.0 + e))


cdef double fold64(double* lane) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(32):
        lane[j] = lane[j] + lane[j + 32]
    return fold_lanes(lane)


cdef inline void add_rows(const real* x, const int64_t* rows, const real* c, real* g, bint first, Py_ssize_t features,
                 Py_ssize_t n) noexcept nogil:
    """g += c[i] * x[rows[i]] for n rows in order; where they are the first, g is what comes out."""
    cdef Py_ssize_t i = 0, j
    cdef const real* p
    cdef const real* q
    cdef const real* r
    cdef const real* s
    if first:
        p = x + rows[0] * features
        for j in range(features):
            g[j] = c[0] * p[j]
        i = 1
    while i + 4 <= n:
        p = x + rows[i] * features
        q = x + rows[i + 1] * features
        r = x + rows[i + 2] * features
        s = x + rows[i + 3] * features
        for j in range(features):
            g[j] = (((g[j] + c[i] * p[j]) + c[i + 1] * q[j]) + c[i + 2] * r[j]) + c[i + 3] * s[j]
        i += 4
    while i < n:
        p = x + rows[i] * features
        for j in range(features):
            g[j] = g[j] + c[i] * p[j]
        i += 1


cdef inline void step_weights(real* w, const real* g, real share, real rate, real two_alpha, real l1, real threshold,
                  Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    cdef real v
    if two_alpha == 0 and l1 == 0 and threshold == 0:
        for j in range(n):
            w[j] = w[j] - rate * (g[j] * share)
        return
    for j in range(n):
        v = w[j]
        w[j] = soft(v - rate * ((g[j] * share + two_alpha * v) + l1 * sign(v)), rate * threshold)


cdef double descend(const real* x, const int64_t* order, real* w, real* b, const real* y, const real* weight,
                    const real* rate, real* g, real two_alpha, real l1, real threshold, real intercept, bint logistic,
                    Py_ssize_t rows, Py_ssize_t features, Py_ssize_t batch) noexcept nogil:
    """An epoch of one model, 64 rows of a batch at a time; the sum of the losses."""
    cdef double[64] lane
    cdef real[64] z, t, v, c            # of the row at place i: element i mod 64
    cdef real total, share
    cdef Py_ssize_t i = 0, k, at, stop, end, start, step = 0, row
    for k in range(64):
        lane[k] = 0
    while i < rows:
        start, end, total = i, min(rows, i + batch), 0
        while i < end:
            stop, at = min(end, (i | 63) + 1), i & 63
            for k in range(i, stop):
                row = order[k]
                z[k & 63] = lanes16(x + row * features, w, features) + b[0]
                t[k & 63], v[k & 63] = y[row], weight[row]
                if k + 64 < rows:        # rows lie anywhere: they come from memory by the time they are needed
                    prefetch_row(x + order[k + 64] * features, features * sizeof(real))
                    prefetch_row(y + order[k + 64], sizeof(real))
                    prefetch_row(weight + order[k + 64], sizeof(real))
                if k + 8 < rows:
                    prefetch(x + order[k + 8] * features, 0, features * sizeof(real))
            row_slopes(&z[at], &t[at], &v[at], &c[at], logistic, stop - i)
            for k in range(at, at + stop - i):
                total = c[k] if i == start and k == at else total + c[k]
            if end - start > 1:
                add_rows(x, order + i, &c[at], g, i == start, features, stop - i)
            if stop & 63 == 0 or stop == rows:
                add_row_losses(z, t, v, lane, logistic, stop - ((stop - 1) & ~<Py_ssize_t>63))
            i = stop
        if end - start > 1:
            share = <real>1.0 / <real>(end - start)
            step_weights(w, g, share, rate[step], two_alpha, l1, threshold, features)
            total = total * share
        else:
            step_weights(w, x + order[start] * features, total, rate[step], two_alpha, l1, threshold, features)
        b[0] = b[0] - intercept * rate[step] * total
        step += 1
    return fold64(lane)


cdef void linear_sgd_squared(const real* x, const int64_t* order, real* w, real* b, const real* y, const real* weight,
                             const real* rate, real* work, double* loss, real two_alpha, real l1, real threshold,
                             real intercept, Py_ssize_t rows, Py_ssize_t features, Py_ssize_t batch) noexcept nogil:
    loss[0] = descend(x, order, w, b, y, weight, rate, work, two_alpha, l1, threshold, intercept, False, rows, features,
                      batch)


cdef void linear_sgd_logistic(const real* x, const int64_t* order, real* w, real* b, const real* y, const real* weight,
                              const real* rate, real* work, double* loss, real two_alpha, real l1, real threshold,
                              real intercept, Py_ssize_t rows, Py_ssize_t features, Py_ssize_t batch) noexcept nogil:
    loss[0] = descend(x, order, w, b, y, weight, rate, work, two_alpha, l1, threshold, intercept, True, rows, features,
                      batch)
