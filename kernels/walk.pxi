# The step on the CPU: the stages of step.py in their order, a tile at a time.
cdef struct Tensor:
    char* data[MAX_ARRAYS]          # p, g (another array each step; NULL: skipped), the states and the EMA (NULL: off)
    void* p                         # the parameter and its dtype as they were when the plan was made
    void* descr
    Py_ssize_t n, t, group, work
    Py_ssize_t leaf                 # the number of leaves of the norm in the tensors before
    double carry
    scalar_t scale                  # used where norms are limited: each tensor may have a factor of its own

cdef struct Work:                   # what the tiles of some tensors need besides their arrays
    bint scaled, clipped, decayed
    tile_t penalty[MAX_PENALTIES]
    scalar_t scale, clip, decay, ema
    scalars_t rule
    scalars_t penalties[MAX_PENALTIES]
    double factor, carry            # factor: the scale before it is rounded
    double max_norm                 # of one tensor; infinite where there is no limit

cdef struct Span:                   # `count` elements from `start` of `tensor` on, into the next tensors
    Py_ssize_t tensor, start, count

cdef struct Step:                   # what all tiles of a plan need
    tile_t scale, clip, decay, rule, ema
    int arrays, itemsize            # arrays: with the EMA, which is the last one
    bint zero, limited
    Py_ssize_t tile, ahead


cdef void measure_leaves(tile_t squares, const Tensor* tensors, Py_ssize_t count, double* partial, Py_ssize_t first,
                         Py_ssize_t stop, int itemsize) noexcept nogil:
    """Fill the leaves `first` to `stop` of the norm, which cross tensors; 0 for a tensor without a gradient."""
    cdef Py_ssize_t low = 0, high = count, middle, start, n
    cdef const Tensor* t
    cdef void* a[2]
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
        partial[first] = 0
        if t.data[1] is not NULL:
            a[0] = t.data[1] + start * itemsize
            a[1] = &partial[first]
            squares(a, NULL, &n)
        first = first + 1
    restore_mode(mode)


cdef double clip_factor(double norm, double largest) noexcept:
    cdef double factor = largest / (norm + 1e-6)
    return 1 if largest == INFINITY or factor > 1 else factor


cdef void walk(const Step* c, const Tensor* t, const Work* w, Py_ssize_t start, Py_ssize_t stop,
               char* scratch) noexcept nogil:
    """The stages of step.py, one tile of one tensor after another."""
    cdef Py_ssize_t k = start, n, i
    cdef void* a[MAX_ARRAYS]
    cdef void* pair[2]
    cdef char* p
    cdef char* g
    cdef int j
    while k < stop:
        n = min(c.tile, stop - k)
        p = t.data[0] + k * c.itemsize
        g = t.data[1] + k * c.itemsize
        if k == start and n == c.tile:          # a short first tile: the rest starts on a cache line
            n = n - (<size_t>p & 63) // c.itemsize
        a[0] = p
        a[1] = g
        for j in range(2, c.arrays):
            a[j] = NULL if t.data[j] is NULL else t.data[j] + k * c.itemsize
        if c.ahead:
            for j in range(c.arrays):
                if a[j] is not NULL:
                    prefetch(a[j], c.ahead * c.itemsize, n * c.itemsize)
        if w.scaled or c.limited or w.clipped or w.penalty[0] is not NULL:
            pair[0] = scratch                   # the first stage copies, the next work in place: out and in are
            pair[1] = g                         # never the same, or the compiler's alias check picks a scalar loop
            c.scale(pair, &t.scale if c.limited else &w.scale, &n)
            a[1] = scratch
            if w.clipped:
                c.clip(pair, &w.clip, &n)
            pair[0] = p
            pair[1] = scratch
            i = 0
            while i < MAX_PENALTIES and w.penalty[i] is not NULL:
                w.penalty[i](pair, &w.penalties[i], &n)
                i = i + 1
        if w.decayed:
            c.decay(a, &w.decay, &n)
        c.rule(a, &w.rule, &n)
        if a[c.arrays - 1] is not NULL:
            pair[0] = a[c.arrays - 1]
            pair[1] = p
            c.ema(pair, &w.ema, &n)
        if c.zero:
            memset(g, 0, n * c.itemsize)
        k = k + n


cdef void run_span(const Step* c, const Tensor* tensors, const Work* works, Span s) noexcept nogil:
    cdef scratch_t scratch                      # on the stack of the thread that runs this span
    cdef Py_ssize_t left = s.count, start = s.start, k = s.tensor, n
    cdef uint64_t mode = ieee_mode()
    while left > 0:
        n = min(left, tensors[k].n - start)
        if tensors[k].data[1] is not NULL:
            walk(c, &tensors[k], &works[tensors[k].work], start, start + n, <char*>&scratch)
        left = left - n
        start = 0
        k = k + 1
    restore_mode(mode)
