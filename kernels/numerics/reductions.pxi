# Leaves of the reduction tree; reductions.py describes the tree.
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


cdef enum:
    SAMPLES = 64                    # in a leaf of a sum over a batch


cdef void fold_rows(double* sums, Py_ssize_t columns, Py_ssize_t rows, Py_ssize_t step) noexcept nogil:
    """Add up rows in pairs, an odd one is carried up; the sum of each column is in the first row."""
    cdef Py_ssize_t i, j, apart = 1
    cdef double* a
    cdef const double* b
    while apart < rows:
        i = 0
        while i + apart < rows:
            a = sums + i * step
            b = a + apart * step
            for j in range(columns):
                a[j] = a[j] + b[j]
            i = i + 2 * apart
        apart = 2 * apart


cdef inline void add_squares(const real* x, double shift, double* lane, Py_ssize_t n) noexcept nogil:
    """Add x - shift to 32 lanes, and its square to 32 more: element j to lane j mod 32."""
    cdef double a, b, c, d
    cdef Py_ssize_t j, k = 0
    while k + 128 <= n:             # four numbers a turn, because the lanes lie in memory between turns
        for j in range(32):
            a = <double>x[k + j] - shift
            b = <double>x[k + 32 + j] - shift
            c = <double>x[k + 64 + j] - shift
            d = <double>x[k + 96 + j] - shift
            lane[j] = (((lane[j] + a) + b) + c) + d
            lane[32 + j] = (((lane[32 + j] + a * a) + b * b) + c * c) + d * d
        k += 128
    while k + 32 <= n:
        for j in range(32):
            a = <double>x[k + j] - shift
            lane[j] = lane[j] + a
            lane[32 + j] = lane[32 + j] + a * a
        k += 32
    for j in range(n - k):
        a = <double>x[k + j] - shift
        lane[j] = lane[j] + a
        lane[32 + j] = lane[32 + j] + a * a


cdef inline void add_products(const real* x, const real* y, double shift, double* lane, Py_ssize_t n) noexcept nogil:
    """Add y to 32 lanes, and y * (x - shift) to 32 more: element j to lane j mod 32."""
    cdef double a, b
    cdef Py_ssize_t j, k = 0
    while k + 64 <= n:
        for j in range(32):
            a = <double>y[k + j]
            b = <double>y[k + 32 + j]
            lane[j] = (lane[j] + a) + b
            a = a * (<double>x[k + j] - shift)
            b = b * (<double>x[k + 32 + j] - shift)
            lane[32 + j] = (lane[32 + j] + a) + b
        k += 64
    while k + 32 <= n:
        for j in range(32):
            a = <double>y[k + j]
            lane[j] = lane[j] + a
            lane[32 + j] = lane[32 + j] + a * (<double>x[k + j] - shift)
        k += 32
    for j in range(n - k):
        a = <double>y[k + j]
        lane[j] = lane[j] + a
        lane[32 + j] = lane[32 + j] + a * (<double>x[k + j] - shift)
