# A step that touches some rows of one tensor only: its gradient has a row for each of a list of indices.
cdef struct Pick:                   # a row of the tensor, and where in the list it stands
    Py_ssize_t row, at

cdef struct Rows:
    Pick* picks                     # in the order of the rows, those of one row in the order of the list
    Py_ssize_t* first               # of the picks of each touched row, and their end
    Py_ssize_t touched, length      # length: elements of a row
    char* values
    char* sums                      # a row in the compute type for each touched one; NULL where values are enough
    double* squares                 # the sum of the squares of each


cdef void sort_picks(Pick* x, Pick* other, Py_ssize_t n, Py_ssize_t largest) noexcept nogil:
    """Sort by row, 11 bits at a time from the lowest on; what is equal stays in order."""
    cdef Py_ssize_t[2048] start
    cdef Py_ssize_t i, total, count
    cdef Pick* old = x
    cdef Pick* new = other
    cdef int shift = 0
    while shift < 63 and largest >> shift:
        memset(start, 0, sizeof(start))
        for i in range(n):
            start[old[i].row >> shift & 2047] += 1
        total = 0
        for i in range(2048):
            count = start[i]
            start[i] = total
            total = total + count
        for i in range(n):
            new[start[old[i].row >> shift & 2047]] = old[i]
            start[old[i].row >> shift & 2047] += 1
        old, new = new, old
        shift = shift + 11
    if old is not x:
        memcpy(x, old, n * sizeof(Pick))


cdef void add_up(const Step* c, const Tensor* t, const Rows* r, Py_ssize_t j) noexcept nogil:
    """Sum the gradients of touched row ``j`` in the order of the list, and their squares."""
    cdef const Tiles* of = &c.of[t.f64]
    cdef Py_ssize_t bytes = 8 if t.f64 else 4, i, k = 0, n
    cdef void* a[2]
    cdef Py_ssize_t sizes[2]
    cdef char* out = r.sums + j * r.length * bytes
    cdef uint64_t mode = ieee_mode()
    while k < r.length:
        n = min(<Py_ssize_t>LEAF, r.length - k)
        for i in range(r.first[j], r.first[j + 1]):
            a[0], a[1] = out + k * bytes, r.values + (r.picks[i].at * r.length + k) * t.size[G]
            if i == r.first[j]:
                of.decode[t.kind[G]](a, &of.unit, &n)
            else:
                of.sum[t.kind[G]](a, NULL, &n)
        k = k + n
    sizes[0], sizes[1] = 1, r.length
    a[0], a[1] = out, &r.squares[j]
    of.row_squares(a, NULL, sizes)
    restore_mode(mode)


cdef bint finite_sums(const Step* c, const Tensor* t, const Rows* r) noexcept nogil:
    cdef Tensor u = t[0]
    u.data[G], u.kind[G], u.size[G] = r.sums, native(t), 8 if t.f64 else 4
    u.n = r.touched * r.length
    return all_finite(c, &u)


cdef void touch(const Step* c, const Tensor* t, const Work* w, const Rows* r, Py_ssize_t j, char* kept) noexcept nogil:
    """All stages for touched row ``j``, whose gradient is found where a dense one would have it."""
    cdef scratch_t scratch
    cdef Tensor u = t[0]
    cdef Py_ssize_t row = r.picks[r.first[j]].row, at_ = r.picks[r.first[j]].at, later
    cdef uint64_t mode = ieee_mode()
    cdef int i
    if j + 4 < r.touched:                       # rows lie anywhere
        later = r.picks[r.first[j + 4]].row * r.length
        for i in range(c.arrays):
            if i != G and t.data[i] is not NULL:
                prefetch(at(t, i, later), 0, r.length * t.size[i])
    if r.sums is NULL:
        u.data[G] = <char*>(<uintptr_t>r.values + <uintptr_t>((at_ - row) * r.length * t.size[G]))
    else:
        u.kind[G], u.size[G] = native(t), 8 if t.f64 else 4
        u.data[G] = <char*>(<uintptr_t>r.sums + <uintptr_t>((j - row) * r.length * u.size[G]))
    if t.decayed is not NULL:
        put(&u.catch_up, t.decayed[t.rows] / t.decayed[row], t.f64)
        u.lags = not one(&u.catch_up, t.f64)
    walk(c, &u, w, row * r.length, (row + 1) * r.length, <char*>&scratch, kept)
    restore_mode(mode)


cdef void catch_up(const Step* c, const Tensor* t, const Work* w, Py_ssize_t row) noexcept nogil:
    """Decay a row by what it has missed."""
    cdef scratch_t scratch
    cdef scalar_t factor
    cdef Py_ssize_t length = t.n // t.rows, k = row * length, stop = k + length, n
    cdef void* a[1]
    cdef uint64_t mode
    if t.decayed[row] == t.decayed[t.rows]:
        return
    mode = ieee_mode()
    put(&factor, t.decayed[t.rows] / t.decayed[row], t.f64)
    while k < stop:
        n = min(c.tile, stop - k)
        a[0] = at(t, P, k)
        if t.kind[P] != native(t):
            a[0] = <char*>scratch.d + AREA_P * c.area
            load(c, t, P, k, n, a[0])
        c.of[t.f64].decay(a, &factor, &n)
        if t.kind[P] != native(t):
            store(c, t, w, P, k, n, a[0], <char*>scratch.d)
        k = k + n
    t.decayed[row] = t.decayed[t.rows]
    restore_mode(mode)
