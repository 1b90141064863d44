# Leaves of the tree of reductions.py, which cross tensors: the sums of the squares of what a step measures first.
cdef double pairwise_sum(double* x, Py_ssize_t n) noexcept nogil:
    """Add leaves in pairs until one is left; an odd one is carried up."""
    cdef Py_ssize_t i
    while n > 1:
        for i in range(n // 2):
            x[i] = x[2 * i] + x[2 * i + 1]
        if n & 1:
            x[n // 2] = x[n - 1]
        n = (n + 1) // 2
    return x[0]


cdef double folded(const double* leaves, Py_ssize_t count, double* room) noexcept nogil:
    """Return the sum of some leaves, which stay as they are."""
    memcpy(room, leaves, count * sizeof(double))
    return pairwise_sum(room, count) if count else 0


cdef void measure_gradient(const StepContext* c, const Tensor* t, Py_ssize_t start, Py_ssize_t n,
                           double* squares, char* decoded) noexcept nogil:
    """Sum the squares of part of a gradient, a leaf at most."""
    cdef void* a[2]
    a[0], a[1] = at(t, G, start), squares
    if t.kind[G] != native(t):
        load(c, t, G, start, n, decoded)
        a[0] = decoded
    c.of[t.f64].squares(a, NULL, &n)


cdef void measure_leaves(const StepContext* c, const Tensor* tensors, Py_ssize_t count, const Work* works,
                         double* squares, double* updates, Py_ssize_t first, Py_ssize_t stop) noexcept nogil:
    """Fill the leaves `first` to `stop`; 0 for a tensor without a gradient.

    With sums of squares of the gradients, or, where there is room for those of `updates`, of p and of its updates.
    """
    cdef Py_ssize_t low = 0, high = count, middle, start, n
    cdef const Tensor* t
    cdef scratch_t scratch, kept
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
        n = min(<Py_ssize_t>LEAF, t.n - start)
        squares[first] = 0
        if t.data[G] is not NULL:
            if updates is NULL:
                measure_gradient(c, t, start, n, &squares[first], <char*>&kept)
            else:
                measure(c, t, &works[t.work], start, n, &squares[first], &updates[first],
                        <char*>&scratch, <char*>&kept)
        first = first + 1
    restore_mode(mode)


cdef measure_all(const StepContext* c, TensorList list, const Work* works, double* squares, double* updates,
                 int threads):
    """Fill all leaves: see measure_leaves."""
    cdef Py_ssize_t i, count = list.count, leaves = list.nleaves
    cdef const Tensor* tensors = list.tensors
    with nogil:
        if threads == 1:
            measure_leaves(c, tensors, count, works, squares, updates, 0, leaves)
        else:                                   # each thread reads what it will step, as far as the leaves are even
            for i in prange(threads, num_threads=threads, schedule="static"):
                measure_leaves(c, tensors, count, works, squares, updates, leaves * i // threads,
                               leaves * (i + 1) // threads)
