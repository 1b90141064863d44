# One leaf of the reduction tree; norms.py describes the tree.
cdef void leaf(const double* terms, double* sum, Py_ssize_t n) noexcept nogil:
    cdef double[32] lane
    cdef Py_ssize_t i = 0, j, width = 16
    for j in range(32):
        lane[j] = 0
    while i + 32 <= n:
        for j in range(32):
            lane[j] = lane[j] + terms[i + j]
        i += 32
    for j in range(n - i):
        lane[j] = lane[j] + terms[i + j]
    while width > 0:
        for j in range(width):
            lane[j] = lane[j] + lane[j + width]
        width = width // 2
    sum[0] = lane[0]
