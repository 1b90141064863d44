cdef inline void multiply(const real* x, Py_ssize_t down, Py_ssize_t along, const real* w, real* z, Py_ssize_t rows,
                          Py_ssize_t inner, Py_ssize_t outputs) noexcept nogil:
    """z[i] += x[i * down + k * along] * w[k] for every k in order, 4 rows by 16 columns of z at a time."""
    cdef Py_ssize_t i, j, k, r, n, m, first, start
    cdef Py_ssize_t[4] row
    cdef real[64] sum
    cdef real[4096] strip               # 256 rows of w by 16 columns
    cdef real a, b, c, d
    memset(sum, 0, sizeof(sum))
    memset(strip, 0, sizeof(strip))
    for first in range(0, outputs, 16):
        n = min(<Py_ssize_t>16, outputs - first)        # only the last one is short: the rest of strip does not matter
        for start in range(0, inner, 256):
            m = min(<Py_ssize_t>256, inner - start)
            for k in range(m):
                memcpy(&strip[16 * k], &w[(start + k) * outputs + first], n * sizeof(real))
            for i in range(0, rows, 4):
                for r in range(4):
                    row[r] = min(i + r, rows - 1)       # the last row again, to the same numbers
                    memcpy(&sum[16 * r], &z[row[r] * outputs + first], n * sizeof(real))
                for k in range(m):
                    a = x[row[0] * down + (start + k) * along]
                    b = x[row[1] * down + (start + k) * along]
                    c = x[row[2] * down + (start + k) * along]
                    d = x[row[3] * down + (start + k) * along]
                    for j in range(16):
                        sum[j] = sum[j] + a * strip[16 * k + j]
                        sum[16 + j] = sum[16 + j] + b * strip[16 * k + j]
                        sum[32 + j] = sum[32 + j] + c * strip[16 * k + j]
                        sum[48 + j] = sum[48 + j] + d * strip[16 * k + j]
                for r in range(4):
                    memcpy(&z[row[r] * outputs + first], &sum[16 * r], n * sizeof(real))


cdef void linear_forward(const real* x, const real* w, const real* b, real* z, Py_ssize_t rows, Py_ssize_t inputs,
                         Py_ssize_t outputs) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(outputs):
            z[i * outputs + j] = b[j]
    multiply(x, inputs, 1, w, z, rows, inputs, outputs)


cdef void linear_backward(const real* x, const real* dz, real* dw, Py_ssize_t features, Py_ssize_t inputs,
                          Py_ssize_t rows, Py_ssize_t outputs) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(features * outputs):
        dw[i] = 0
    multiply(x, 1, inputs, dz, dw, features, rows, outputs)
