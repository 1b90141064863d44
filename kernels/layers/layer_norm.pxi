cdef inline void add_weighted(const real* dy, const real* x, const real* weight, double mean, double* lane,
                              Py_ssize_t n) noexcept nogil:
    """Add dy * weight to 32 lanes, and that times x - mean to 32 more: element j to lane j mod 32."""
    cdef double a, b
    cdef Py_ssize_t j, k = 0
    while k + 64 <= n:
        for j in range(32):
            a = <double>dy[k + j] * <double>weight[k + j]
            b = <double>dy[k + 32 + j] * <double>weight[k + 32 + j]
            lane[j] = (lane[j] + a) + b
            a = a * (<double>x[k + j] - mean)
            b = b * (<double>x[k + 32 + j] - mean)
            lane[32 + j] = (lane[32 + j] + a) + b
        k += 64
    while k + 32 <= n:
        for j in range(32):
            a = <double>dy[k + j] * <double>weight[k + j]
            lane[j] = lane[j] + a
            lane[32 + j] = lane[32 + j] + a * (<double>x[k + j] - mean)
        k += 32
    for j in range(n - k):
        a = <double>dy[k + j] * <double>weight[k + j]
        lane[j] = lane[j] + a
        lane[32 + j] = lane[32 + j] + a * (<double>x[k + j] - mean)


cdef void layer_norm_forward(const real* x, const real* weight, const real* bias, real* y, double* mean,
                             double* inv_std, const double* eps, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    cdef double[64] lane
    cdef double shift, average, v, count = <double>columns
    cdef real high, low, scale
    cdef Py_ssize_t i, j, k
    for i in range(rows):
        k = i * columns
        shift = <double>x[k] if x[k] - x[k] == 0 else 0.0
        memset(lane, 0, sizeof(lane))
        add_squares(x + k, shift, lane, columns)
        lane[0] = fold_lanes(lane)
        lane[32] = fold_lanes(lane + 32)
        average = lane[0] / count
        v = (lane[32] - lane[0] * average) / count
        mean[i] = shift + average
        inv_std[i] = 1.0 / sqrt64((0.0 if v < 0 else v) + eps[0])
        high = <real>mean[i]
        low = <real>(mean[i] - <double>high)
        scale = <real>inv_std[i]
        for j in range(columns):
            y[k + j] = (((x[k + j] - high) - low) * scale) * weight[j] + bias[j]


cdef void layer_norm_backward(const real* dy, const real* x, const real* weight, const double* mean,
                              const double* inv_std, real* dx, double* sums, Py_ssize_t rows, Py_ssize_t first,
                              Py_ssize_t columns) noexcept nogil:
    """To sums[leaf], zeros at first, is added what the rows of a leaf have in dy, then in dy * (x - mean) * inv_std."""
    cdef double[64] lane
    cdef double m, inv, count = <double>columns
    cdef double* sum
    cdef real high, low, scale, share, slope
    cdef Py_ssize_t i, j, k
    for i in range(rows):
        sum = sums + (first + i) // SAMPLES * 2 * columns
        k = i * columns
        m = mean[i]
        inv = inv_std[i]
        memset(lane, 0, sizeof(lane))
        add_weighted(dy + k, x + k, weight, m, lane, columns)
        share = <real>(fold_lanes(lane) / count)
        slope = <real>(fold_lanes(lane + 32) * inv * inv / count)
        high = <real>m
        low = <real>(m - <double>high)
        scale = <real>inv
        for j in range(columns):
            sum[j] = sum[j] + <double>dy[k + j]
            sum[columns + j] = sum[columns + j] + <double>dy[k + j] * ((<double>x[k + j] - m) * inv)
        for j in range(columns):
            dx[k + j] = ((dy[k + j] * weight[j] - share) - ((x[k + j] - high) - low) * slope) * scale
