# Row number r of these tiles is channel r % channels of a leaf of samples, or of a sample.
cdef void batch_norm_squares(const real* x, const double* shift, double* sums, Py_ssize_t rows, Py_ssize_t first,
                             Py_ssize_t channels, Py_ssize_t samples, Py_ssize_t pixels) noexcept nogil:
    """sums[leaf]: those of x - shift for all channels, then those of its square."""
    cdef double[1024] lane
    cdef double a, b
    cdef Py_ssize_t c, i, j, k, n, leaf, stop, step = channels * pixels
    cdef const real* row
    cdef const double* s
    cdef double* out
    while rows > 0:
        leaf, c = first // channels, first % channels
        n = min(min(rows, channels - c), <Py_ssize_t>512 if pixels == 1 else 16)
        i, stop = SAMPLES * leaf, min(SAMPLES * leaf + SAMPLES, samples)
        s = shift + c
        out = sums + 2 * leaf * channels + c
        memset(lane, 0, sizeof(lane))
        if pixels == 1:
            while i + 2 <= stop:                # two samples a turn: the sums lie in memory between turns
                row = x + i * step + c
                for j in range(n):
                    a = <double>row[j] - s[j]
                    b = <double>row[step + j] - s[j]
                    lane[j] = (lane[j] + a) + b
                    lane[512 + j] = (lane[512 + j] + a * a) + b * b
                i = i + 2
            if i < stop:
                row = x + i * step + c
                for j in range(n):
                    a = <double>row[j] - s[j]
                    lane[j] = lane[j] + a
                    lane[512 + j] = lane[512 + j] + a * a
            memcpy(out, lane, n * sizeof(double))
            memcpy(out + channels, lane + 512, n * sizeof(double))
        else:
            for i in range(i, stop):
                for k in range(n):
                    add_squares(x + i * step + (c + k) * pixels, s[k], lane + 64 * k, pixels)
            for k in range(n):
                out[k] = fold_lanes(lane + 64 * k)
                out[channels + k] = fold_lanes(lane + 64 * k + 32)
        first = first + n
        rows = rows - n


cdef void batch_norm_products(const real* dy, const real* x, const double* mean, double* sums, Py_ssize_t rows,
                              Py_ssize_t first, Py_ssize_t channels, Py_ssize_t samples,
                              Py_ssize_t pixels) noexcept nogil:
    """sums[leaf]: those of dy for all channels, then those of dy * (x - mean)."""
    cdef double[1024] lane
    cdef double a
    cdef Py_ssize_t c, i, j, k, n, at, leaf, stop, step = channels * pixels
    cdef const double* m
    cdef double* out
    while rows > 0:
        leaf, c = first // channels, first % channels
        n = min(min(rows, channels - c), <Py_ssize_t>512 if pixels == 1 else 16)
        stop = min(SAMPLES * leaf + SAMPLES, samples)
        m = mean + c
        out = sums + 2 * leaf * channels + c
        memset(lane, 0, sizeof(lane))
        for i in range(SAMPLES * leaf, stop):
            at = i * step + c * pixels
            if pixels == 1:
                for j in range(n):
                    a = <double>dy[at + j]
                    lane[j] = lane[j] + a
                    lane[512 + j] = lane[512 + j] + a * (<double>x[at + j] - m[j])
            else:
                for k in range(n):
                    add_products(x + at + k * pixels, dy + at + k * pixels, m[k], lane + 64 * k, pixels)
        if pixels == 1:
            memcpy(out, lane, n * sizeof(double))
            memcpy(out + channels, lane + 512, n * sizeof(double))
        else:
            for k in range(n):
                out[k] = fold_lanes(lane + 64 * k)
                out[channels + k] = fold_lanes(lane + 64 * k + 32)
        first = first + n
        rows = rows - n


cdef void batch_norm_forward(const real* x, real* y, const real* high, const real* low, const real* scale,
                             const real* bias, Py_ssize_t rows, Py_ssize_t first, Py_ssize_t channels,
                             Py_ssize_t pixels) noexcept nogil:
    cdef Py_ssize_t i = 0, j, c, n
    while i < rows:
        c = (first + i) % channels
        if pixels == 1:
            n = min(rows - i, channels - c)
            for j in range(n):
                y[i + j] = ((x[i + j] - high[c + j]) - low[c + j]) * scale[c + j] + bias[c + j]
        else:
            n = 1
            centre(x + i * pixels, y + i * pixels, high[c], low[c], scale[c], bias[c], pixels)
        i = i + n


cdef inline void centre(const real* x, real* y, real high, real low, real scale, real bias,
                        Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        y[j] = ((x[j] - high) - low) * scale + bias


cdef void batch_norm_backward(const real* dy, const real* x, real* dx, const real* high, const real* low,
                              const real* scale, const real* share, const real* slope, Py_ssize_t rows,
                              Py_ssize_t first, Py_ssize_t channels, Py_ssize_t pixels) noexcept nogil:
    cdef Py_ssize_t i = 0, j, k, c, n
    while i < rows:
        c = (first + i) % channels
        if pixels == 1:
            n = min(rows - i, channels - c)
            for j in range(n):
                k = c + j
                dx[i + j] = ((dy[i + j] - share[k]) - ((x[i + j] - high[k]) - low[k]) * slope[k]) * scale[k]
        else:
            n = 1
            k = i * pixels
            centre_slope(dy + k, x + k, dx + k, high[c], low[c], scale[c], share[c], slope[c], pixels)
        i = i + n


cdef inline void centre_slope(const real* dy, const real* x, real* dx, real high, real low, real scale, real share,
                              real slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        dx[j] = ((dy[j] - share) - ((x[j] - high) - low) * slope) * scale


cdef void batch_norm_scale(const real* dy, real* dx, const real* scale, Py_ssize_t rows, Py_ssize_t first,
                           Py_ssize_t channels, Py_ssize_t pixels) noexcept nogil:
    """The slope with given moments."""
    cdef Py_ssize_t i = 0, j, c, n
    while i < rows:
        c = (first + i) % channels
        if pixels == 1:
            n = min(rows - i, channels - c)
            for j in range(n):
                dx[i + j] = dy[i + j] * scale[c + j]
        else:
            n = 1
            times(dy + i * pixels, dx + i * pixels, scale[c], pixels)
        i = i + n


cdef inline void times(const real* x, real* y, real factor, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        y[j] = x[j] * factor
