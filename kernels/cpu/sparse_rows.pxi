# A step that touches some rows of one tensor only: its gradient has a row for each of a list of indices.
cdef enum:
    AHEAD = 16                      # rows from the one that is stepped to the one that is prefetched

cdef struct RowIndex:                   # a row of the tensor, and where in the list it stands
    Py_ssize_t row, at

cdef struct Rows:
    RowIndex* picks                 # in the order of the rows, those of one row in the order of the list
    Py_ssize_t* first               # of the picks of each touched row, and their end
    Py_ssize_t touched, length      # length: elements of a row
    char* values
    char* sums                      # in the compute type, of each touched row that comes twice, or of all for the norm
    double* squares                 # the sum of the squares of each


cdef void sort_picks(RowIndex* x, RowIndex* other, Py_ssize_t n, Py_ssize_t largest) noexcept nogil:
    """Sort by row, 10 bits at a time from the lowest on; what is equal stays in order."""
    cdef Py_ssize_t[1024] start
    cdef Py_ssize_t i, total, count
    cdef RowIndex* old = x
    cdef RowIndex* new = other
    cdef int shift = 0
    while shift < 63 and largest >> shift:
        memset(start, 0, sizeof(start))
        for i in range(n):
            start[old[i].row >> shift & 1023] += 1
        total = 0
        for i in range(1024):
            count = start[i]
            start[i] = total
            total = total + count
        for i in range(n):
            new[start[old[i].row >> shift & 1023]] = old[i]
            start[old[i].row >> shift & 1023] += 1
        old, new = new, old
        shift = shift + 10
    if old is not x:
        memcpy(x, old, n * sizeof(RowIndex))


cdef void add_up(const StepContext* c, const Tensor* t, const Rows* r, Py_ssize_t j) noexcept nogil:
    """Sum the gradients of touched row ``j`` in the order of the list."""
    cdef const TileTable* of = &c.of[t.f64]
    cdef Py_ssize_t bytes = 8 if t.f64 else 4, i, k = 0, n
    cdef void* a[2]
    cdef char* out = r.sums + j * r.length * bytes
    while k < r.length:
        n = min(<Py_ssize_t>LEAF, r.length - k)
        for i in range(r.first[j], r.first[j + 1]):
            a[0], a[1] = out + k * bytes, r.values + (r.picks[i].at * r.length + k) * t.size[G]
            if i == r.first[j]:
                of.codec[t.kind[G]].decode(a, &of.unit, &n)
            else:
                of.codec[t.kind[G]].add(a, NULL, &n)
        k = k + n


cdef void measure_row(const StepContext* c, const Tensor* t, const Rows* r, Py_ssize_t j) noexcept nogil:
    """Sum the gradients of touched row ``j``, and their squares."""
    cdef void* a[2]
    cdef Py_ssize_t sizes[2]
    cdef uint64_t mode = ieee_mode()
    add_up(c, t, r, j)
    sizes[0], sizes[1] = 1, r.length
    a[0], a[1] = r.sums + j * r.length * (8 if t.f64 else 4), &r.squares[j]
    c.of[t.f64].row_squares(a, NULL, sizes)
    restore_mode(mode)


cdef bint finite_sums(const StepContext* c, const Tensor* t, const Rows* r) noexcept nogil:
    cdef Tensor u = t[0]
    u.data[G], u.kind[G], u.size[G] = r.sums, native(t), 8 if t.f64 else 4
    u.n = r.touched * r.length
    return all_finite(c, &u)


cdef inline void expect_row(const StepContext* c, const Tensor* t, const Rows* r, Py_ssize_t j) noexcept nogil:
    """Prefetch the arrays of touched row ``j``, which lies anywhere."""
    cdef const RowIndex* x = &r.picks[r.first[j]]
    expect(c, t, x.row * r.length, r.length)
    if not c.limited:
        prefetch_row(r.values + x.at * r.length * t.size[G], r.length * t.size[G])
    if t.decayed is not NULL:
        prefetch_row(&t.decayed[x.row], 8)


cdef void touch(const StepContext* c, const Tensor* t, const Work* w, const Rows* r, Py_ssize_t first, Py_ssize_t stop,
                double decayed, char* kept) noexcept nogil:
    """All stages for some touched rows, whose gradients are found where dense ones would have them."""
    cdef scratch_t scratch
    cdef Tensor u = t[0]
    cdef Py_ssize_t j, row, place
    cdef char* g
    cdef bint once
    cdef uint64_t mode = ieee_mode()
    u.aliases_4k = False                           # that was said of a dense gradient
    for j in range(first, min(first + AHEAD, stop)):
        expect_row(c, t, r, j)
    for j in range(first, stop):
        if j + AHEAD < stop:
            expect_row(c, t, r, j + AHEAD)
        once = r.first[j + 1] - r.first[j] == 1
        if not once and not c.limited:
            add_up(c, t, r, j)
        row, place, g = r.picks[r.first[j]].row, j, r.sums
        u.kind[G], u.size[G] = native(t), 8 if t.f64 else 4
        if once and not c.limited:              # the value is the sum
            place, g, u.kind[G], u.size[G] = r.picks[r.first[j]].at, r.values, t.kind[G], t.size[G]
        u.data[G] = <char*>(<uintptr_t>g + <uintptr_t>((place - row) * r.length * u.size[G]))
        if t.decayed is not NULL:
            put(&u.catch_up, t.decayed[t.rows] / t.decayed[row], t.f64)
            u.lags = not one(&u.catch_up, t.f64)
            t.decayed[row] = decayed
        walk(c, &u, w, row * r.length, (row + 1) * r.length, <char*>&scratch, kept)
    restore_mode(mode)


cdef void* enough(void* old, size_t bytes) except NULL:
    """Return room of so many bytes at least, in place of an old one, whose content is lost."""
    cdef void* room = realloc(old, bytes + 64)
    if room is NULL:
        raise MemoryError
    return room


cdef bint fit(const Tensor* t, indices, values) except -1:
    """Whether ``values`` are gradients of the rows ``indices``; False where only ``checks`` can tell."""
    cdef cnp.ndarray p = <cnp.ndarray>t.p, a, v
    cdef int needed = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED, i
    cdef Py_ssize_t k
    if type(indices) is not cnp.ndarray or type(values) is not cnp.ndarray or cnp.PyArray_NDIM(p) == 0:
        return False
    a, v = indices, values
    if (cnp.PyArray_TYPE(a) != cnp.NPY_INT64 or cnp.PyArray_NDIM(a) != 1 or not cnp.PyArray_ISNOTSWAPPED(a)
            or cnp.PyArray_NDIM(v) != cnp.PyArray_NDIM(p) or cnp.PyArray_DIM(v, 0) != cnp.PyArray_DIM(a, 0)
            or not fits_gradient(t, stored(v)) or cnp.PyArray_FLAGS(a) & cnp.PyArray_FLAGS(v) & needed != needed
            or not cnp.PyArray_FLAGS(p) & cnp.NPY_ARRAY_C_CONTIGUOUS):
        return False
    for i in range(1, cnp.PyArray_NDIM(p)):
        if cnp.PyArray_DIM(v, i) != cnp.PyArray_DIM(p, i):
            return False
    for k in range(cnp.PyArray_DIM(a, 0)):
        if not 0 <= (<int64_t*>cnp.PyArray_DATA(a))[k] < t.rows:
            return False
    return True


cdef double sum_of(const StepContext* c, double* terms, Py_ssize_t n) except? -1:
    """Return the sum of some numbers over the tree of reductions.py."""
    cdef Py_ssize_t k, m, leaves = (n + LEAF - 1) // LEAF
    cdef double* sums = <double*>calloc(leaves + 1, sizeof(double))
    cdef double total
    cdef void* a[2]
    if sums is NULL:
        raise MemoryError
    for k in range(leaves):
        a[0], a[1], m = terms + k * LEAF, &sums[k], min(<Py_ssize_t>LEAF, n - k * LEAF)
        c.leaf(a, NULL, &m)
    total = pairwise_sum(sums, leaves) if leaves else 0
    free(sums)
    return total


cdef class SparseRows:
    """The rows of a step, grouped by index. Buffers are reused: allocating costs more than the step."""
    cdef Rows r
    cdef Py_ssize_t picked, summed  # indices and bytes of sums that there is room for

    def __dealloc__(self):
        free(self.r.picks)
        free(self.r.first)
        free(self.r.squares)
        free(self.r.sums)

    cdef make_room(self, Py_ssize_t n):
        """Make room for so many indices."""
        if n > self.picked:
            self.picked = 0
            self.r.picks = <RowIndex*>enough(self.r.picks, 2 * n * sizeof(RowIndex))
            self.r.first = <Py_ssize_t*>enough(self.r.first, (n + 1) * sizeof(Py_ssize_t))
            self.r.squares = <double*>enough(self.r.squares, n * sizeof(double))
            self.picked = n

    cdef pick(self, const Tensor* t, cnp.ndarray indices, bint limited):
        """Group the indices by row; make room for sums where a row comes twice or the norm is asked for."""
        cdef Py_ssize_t j, n = cnp.PyArray_SIZE(indices), bytes
        cdef const int64_t* row = <const int64_t*>cnp.PyArray_DATA(indices)
        cdef Rows* r = &self.r
        self.make_room(n)
        r.values, r.length, r.touched = t.data[G], t.n // max(1, t.rows), 0
        for j in range(n):
            r.picks[j] = RowIndex(row[j], j)
        sort_picks(r.picks, r.picks + n, n, t.rows - 1)
        for j in range(n):
            if j == 0 or r.picks[j].row != r.picks[j - 1].row:
                r.first[r.touched] = j
                r.touched += 1
        if n:
            r.first[r.touched] = n
        bytes = r.touched * r.length * (8 if t.f64 else 4)
        if (r.touched < n or limited) and bytes > self.summed:
            self.summed = 0
            r.sums = <char*>enough(r.sums, bytes)
            self.summed = bytes
