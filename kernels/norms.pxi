# Leaves of the reduction tree; norms.py describes the tree.
cdef inline double fold_lanes(double* lane) noexcept nogil:
    cdef Py_ssize_t j, width = 16
    while width > 0:
        for j in range(width):
            lane[j] = lane[j] + lane[j + width]
        width = width // 2
    return lane[0]


cdef void lanes(const double* terms, double* lane, Py_ssize_t n) noexcept nogil:
    """Add terms to their lanes: those before were a multiple of 32."""
    cdef Py_ssize_t i = 0, j
    while i + 128 <= n:                 # four terms a turn, because the lanes lie in memory between turns
        for j in range(32):
            lane[j] = (((lane[j] + terms[i + j]) + terms[i + 32 + j]) + terms[i + 64 + j]) + terms[i + 96 + j]
        i += 128
    while i + 32 <= n:
        for j in range(32):
            lane[j] = lane[j] + terms[i + j]
        i += 32
    for j in range(n - i):
        lane[j] = lane[j] + terms[i + j]


cdef void leaf(const double* terms, double* sum, Py_ssize_t n) noexcept nogil:
    cdef double[32] lane
    cdef Py_ssize_t j
    for j in range(32):
        lane[j] = 0
    lanes(terms, lane, n)
    sum[0] = fold_lanes(lane)


cdef inline double square_leaf(const real* x, Py_ssize_t n) noexcept nogil:
    cdef double[32] lane
    cdef double y
    cdef Py_ssize_t i = 0, j
    for j in range(32):
        lane[j] = 0
    while i + 32 <= n:
        for j in range(32):
            y = <double>x[i + j]
            lane[j] = lane[j] + y * y
        i += 32
    for j in range(n - i):
        y = <double>x[i + j]
        lane[j] = lane[j] + y * y
    return fold_lanes(lane)


cdef void squares(const real* x, double* sum, Py_ssize_t n) noexcept nogil:
    sum[0] = square_leaf(x, n)


cdef inline double tree_of_squares(const real* x, Py_ssize_t n) noexcept nogil:
    """The sum over the tree, which folds as the leaves come: each number of pairs of one height is joined at once."""
    cdef double[64] sum
    cdef int[64] height
    cdef int depth = 0
    cdef Py_ssize_t k = 0
    while k < n:
        sum[depth] = square_leaf(x + k, min(<Py_ssize_t>4096, n - k))
        height[depth] = 0
        depth = depth + 1
        while depth > 1 and height[depth - 1] == height[depth - 2]:
            depth = depth - 1
            sum[depth - 1] = sum[depth - 1] + sum[depth]
            height[depth - 1] = height[depth - 1] + 1
        k = k + 4096
    while depth > 1:
        depth = depth - 1
        sum[depth - 1] = sum[depth - 1] + sum[depth]
    return sum[0] if depth else 0


cdef void row_squares(const real* x, double* sums, Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        sums[i] = tree_of_squares(x + i * size, size)


cdef void nonfinite(const real* x, double* terms, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        terms[i] = <double>(x[i] - x[i])        # 0, or NaN where x is infinite or NaN
