# The norm of the gradients: leaves of the tree of reductions.py, which cross tensors.
cdef void measure_leaves(const StepContext* c, const Tensor* tensors, Py_ssize_t count, double* partial,
                         Py_ssize_t first, Py_ssize_t stop) noexcept nogil:
    """Fill the leaves `first` to `stop` with sums of squares; 0 for a tensor without a gradient."""
    cdef Py_ssize_t low = 0, high = count, middle, start, n
    cdef const Tensor* t
    cdef void* a[2]
    cdef scratch_t decoded
    cdef uint64_t mode = ieee_mode()
    while low < high:                           # the last tensor whose leaves begin at or before `first`
        middle = (low + high) // 2
        if tensors[middle].leaf <= first:
            low = middle + 1
        else:
            high = middle
    t = &tensors[low - 1]
    while first < stop:
        start = (first - t.leaf) * LEAF
        if start >= t.n:
            t = t + 1
            continue
        partial[first] = 0
        if t.data[G] is not NULL:
            n = min(<Py_ssize_t>LEAF, t.n - start)
            a[0] = at(t, G, start)
            if t.kind[G] != native(t):
                load(c, t, G, start, n, decoded.d)
                a[0] = decoded.d
            a[1] = &partial[first]
            c.of[t.f64].squares(a, NULL, &n)
        first = first + 1
    restore_mode(mode)


cdef bint all_finite(const StepContext* c, const Tensor* t) noexcept nogil:
    """Look at each element: the squares of finite float64 numbers may overflow."""
    cdef Py_ssize_t k = 0, n
    cdef double found = 0
    cdef scratch_t decoded, terms
    cdef void* a[2]
    while k < t.n and found == 0:
        n = min(<Py_ssize_t>LEAF, t.n - k)
        load(c, t, G, k, n, decoded.d)
        a[0], a[1] = decoded.d, terms.d
        c.of[t.f64].nonfinite(a, NULL, &n)
        a[0], a[1] = terms.d, &found
        c.leaf(a, NULL, &n)
        k = k + n
    return found == 0


cdef double clip_factor(double norm, double largest) noexcept:
    cdef double factor = largest / (norm + 1e-6)
    return 1 if largest == INFINITY or factor > 1 else factor
