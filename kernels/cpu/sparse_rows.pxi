# A step that touches some rows of one tensor only: its gradient has a row for each of a list of indices.
cdef enum:
    AHEAD = 16                      # rows from the one that is stepped to the one that is prefetched

cdef struct Pick:                   # a row of the tensor, and where in the list it stands
    Py_ssize_t row, at

cdef struct Rows:
    Pick* picks                     # in the order of the rows, those of one row in the order of the list
    Py_ssize_t* first               # of the picks of each touched row, and their end
    Py_ssize_t touched, length      # length: elements of a row
    char* values
    char* sums                      # in the compute type, of each touched row that comes twice, or of all for the norm
    double* squares                 # the sum of the squares of each


cdef void sort_picks(Pick* x, Pick* other, Py_ssize_t n, Py_ssize_t largest) noexcept nogil:
    """Sort by row, 10 bits at a time from the lowest on; what is equal stays in order."""
    cdef Py_ssize_t[1024] start
    cdef Py_ssize_t i, total, count
    cdef Pick* old = x
    cdef Pick* new = other
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
        memcpy(x, old, n * sizeof(Pick))


cdef void add_up(const Step* c, const Tensor* t, const Rows* r, Py_ssize_t j) noexcept nogil:
    """Sum the gradients of touched row ``j`` in the order of the list."""
    cdef const Tiles* of = &c.of[t.f64]
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


cdef void measure_row(const Step* c, const Tensor* t, const Rows* r, Py_ssize_t j) noexcept nogil:
    """Sum the gradients of touched row ``j``, and their squares."""
    cdef void* a[2]
    cdef Py_ssize_t sizes[2]
    cdef uint64_t mode = ieee_mode()
    add_up(c, t, r, j)
    sizes[0], sizes[1] = 1, r.length
    a[0], a[1] = r.sums + j * r.length * (8 if t.f64 else 4), &r.squares[j]
    c.of[t.f64].row_squares(a, NULL, sizes)
    restore_mode(mode)


cdef bint finite_sums(const Step* c, const Tensor* t, const Rows* r) noexcept nogil:
    cdef Tensor u = t[0]
    u.data[G], u.kind[G], u.size[G] = r.sums, native(t), 8 if t.f64 else 4
    u.n = r.touched * r.length
    return all_finite(c, &u)


cdef inline void expect_row(const Step* c, const Tensor* t, const Rows* r, Py_ssize_t j) noexcept nogil:
    """Prefetch the arrays of touched row ``j``, which lies anywhere."""
    cdef const Pick* x = &r.picks[r.first[j]]
    expect(c, t, x.row * r.length, r.length)
    if not c.limited:
        prefetch_row(r.values + x.at * r.length * t.size[G], r.length * t.size[G])
    if t.decayed is not NULL:
        prefetch_row(&t.decayed[x.row], 8)


cdef void touch(const Step* c, const Tensor* t, const Work* w, const Rows* r, Py_ssize_t first, Py_ssize_t stop,
                double decayed, char* kept) noexcept nogil:
    """All stages for some touched rows, whose gradients are found where dense ones would have them."""
    cdef scratch_t scratch
    cdef Tensor u = t[0]
    cdef Py_ssize_t j, row, place
    cdef char* g
    cdef bint once
    cdef uint64_t mode = ieee_mode()
    u.crowded = False                           # that was said of a dense gradient
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


cdef class Plan(WholePlan):
    """All tensors of an optimizer, ready to step as a whole or by rows."""
    cdef Rows r                     # its room is kept: new memory costs more than to step the rows
    cdef Py_ssize_t picked, summed  # indices and bytes of sums that there is room for

    def __dealloc__(self):
        free(self.r.picks)
        free(self.r.first)
        free(self.r.squares)
        free(self.r.sums)

    def step_rows(self, Py_ssize_t i, indices, values, work, double lazy, double max_norm=INFINITY, bint skip=False,
                  tuple news=()):
        """Step the rows ``indices`` of tensor ``i`` with the rows of ``values`` as gradients; see Optimizer.step_rows.

        ``lazy`` is what the step multiplies all other rows by: noted in row_decay, and done when they are touched.
        """
        global active
        cdef uint64_t mode = ieee_mode()
        cdef Tensor* t = &self.tensors[i]
        cdef const Progress* x
        cdef int threads
        need_stack()
        active += 1
        try:
            x = self.alone(t)
            given = work(x.group, x.t + 1, x.carry)     # before the check: a schedule may do anything to arrays
            self.check_rows(i, indices, values)
            t.kind[G], t.size[G] = stored(values), cnp.PyArray_ITEMSIZE(values)
            t.data[G] = <char*>cnp.PyArray_DATA(values)
            self.renew(t.work, given)
            threads = claim(cnp.PyArray_SIZE(values))
            self.keep_rows(threads)
            self.c.limited = skip or max_norm != INFINITY or self.works[t.work].max_norm != INFINITY
            self.pick(t, indices)
            if news:
                write(*news)
            self.run_rows(t, lazy, max_norm, skip, threads)
        finally:
            active -= 1
            t.data[G] = NULL
            restore_mode(mode)

    cdef Progress* alone(self, Tensor* t):
        """Let a tensor go on its own from now on, without a gradient of all rows."""
        cdef Progress* x = &self.taken[t.work]
        if x.tensors > 1:                       # then there is room for one more
            x.tensors -= 1
            self.taken[self.ntaken] = x[0]
            t.work, self.ntaken = self.ntaken, self.ntaken + 1
            x = &self.taken[t.work]
            x.tensors = 1
        x.given = False
        return x

    def check_rows(self, Py_ssize_t i, indices, values):
        """Raise where ``step_rows`` cannot take these."""
        cdef const Tensor* t = &self.tensors[i]
        self.same(t)
        self.same_rows(t)
        self.whole_blocks(t)
        if not self.fit(t, indices, values):
            checks.row_gradient(indices, values, <object>t.p, self.names[i], self.allowed(t, G))
        self.apart_from(values, i)

    cdef bint fit(self, const Tensor* t, indices, values):
        """Whether all is as it should be; False where only ``checks`` can tell."""
        cdef cnp.ndarray p = <cnp.ndarray>t.p, a, v
        cdef int needed = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED, i
        cdef Py_ssize_t k
        if type(indices) is not cnp.ndarray or type(values) is not cnp.ndarray or cnp.PyArray_NDIM(p) == 0:
            return False
        a, v = indices, values
        if (cnp.PyArray_TYPE(a) != cnp.NPY_INT64 or cnp.PyArray_NDIM(a) != 1 or cnp.PyArray_NDIM(v) != cnp.PyArray_NDIM(p)
                or not cnp.PyArray_ISNOTSWAPPED(a) or cnp.PyArray_DIM(v, 0) != cnp.PyArray_DIM(a, 0)
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

    cdef make_room(self, Py_ssize_t n):
        """Make room for so many indices."""
        if n > self.picked:
            self.picked = 0
            self.r.picks = <Pick*>enough(self.r.picks, 2 * n * sizeof(Pick))
            self.r.first = <Py_ssize_t*>enough(self.r.first, (n + 1) * sizeof(Py_ssize_t))
            self.r.squares = <double*>enough(self.r.squares, n * sizeof(double))
            self.picked = n

    cdef pick(self, const Tensor* t, cnp.ndarray indices):
        """Group the indices by row; make room for sums where a row comes twice or the norm is asked for."""
        cdef Py_ssize_t j, n = cnp.PyArray_SIZE(indices), bytes
        cdef const int64_t* row = <const int64_t*>cnp.PyArray_DATA(indices)
        cdef Rows* r = &self.r
        self.make_room(n)
        r.values, r.length, r.touched = t.data[G], t.n // max(1, t.rows), 0
        for j in range(n):
            r.picks[j] = Pick(row[j], j)
        sort_picks(r.picks, r.picks + n, n, t.rows - 1)
        for j in range(n):
            if j == 0 or r.picks[j].row != r.picks[j - 1].row:
                r.first[r.touched] = j
                r.touched += 1
        if n:
            r.first[r.touched] = n
        bytes = r.touched * r.length * (8 if t.f64 else 4)
        if (r.touched < n or self.c.limited) and bytes > self.summed:
            self.summed = 0
            r.sums = <char*>enough(r.sums, bytes)
            self.summed = bytes

    cdef run_rows(self, Tensor* t, double lazy, double max_norm, bint skip, int threads):
        cdef Py_ssize_t j
        cdef const Rows* r = &self.r
        cdef Step c = self.c
        cdef Work* w = &self.works[t.work]
        cdef double total = 0, factor, decayed = 1 if t.decayed is NULL else t.decayed[t.rows] * lazy
        self.norm = None
        if c.limited:
            with nogil:
                for j in prange(r.touched, num_threads=threads, schedule="static"):
                    measure_row(&c, t, r, j)
            total = self.sum_of(r.squares, r.touched)
            self.norm = sqrt(total) * fabs(w.factor)
            factor = clip_factor(self.norm, max_norm)
            rescale(w, factor * clip_factor(self.norm * factor, w.max_norm))
            t.scale = w.scale
        self.skipped = skip and not (total - total == 0) and not finite_sums(&c, t, r)
        if self.skipped:
            return
        c.zero = False
        with nogil:
            for j in prange(threads, num_threads=threads, schedule="static"):
                touch(&c, t, w, r, r.touched * j // threads, r.touched * (j + 1) // threads,
                      decayed, c.rows + threadid() * c.row_bytes)
        if t.decayed is not NULL:
            t.decayed[t.rows] = decayed
            if not decayed > 1e-200:            # before it is too small for a number
                self.catch_up()
        self.taken[t.work].t, self.taken[t.work].carry = w.t, w.carry

    cdef double sum_of(self, double* terms, Py_ssize_t n) except? -1:
        """Return the sum of some numbers over the tree of reductions.py."""
        cdef Py_ssize_t k, m, leaves = (n + LEAF - 1) // LEAF
        cdef double* sums = <double*>calloc(leaves + 1, sizeof(double))
        cdef double total
        cdef void* a[2]
        if sums is NULL:
            raise MemoryError
        for k in range(leaves):
            a[0], a[1], m = terms + k * LEAF, &sums[k], min(<Py_ssize_t>LEAF, n - k * LEAF)
            self.c.leaf(a, NULL, &m)
        total = fold(sums, leaves) if leaves else 0
        free(sums)
        return total
