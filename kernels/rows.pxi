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


cdef void touch(const Step* c, const Tensor* t, const Work* w, const Rows* r, Py_ssize_t first, Py_ssize_t stop,
                char* kept) noexcept nogil:
    """All stages for some touched rows, whose gradients are found where dense ones would have them."""
    cdef scratch_t scratch
    cdef Tensor u = t[0]
    cdef Py_ssize_t j, row, place, later
    cdef uint64_t mode = ieee_mode()
    cdef int i
    if r.sums is not NULL:
        u.kind[G], u.size[G] = native(t), 8 if t.f64 else 4
    for j in range(first, stop):
        if j + 8 < stop:                        # rows lie anywhere
            later = r.picks[r.first[j + 8]].row * r.length
            for i in range(c.arrays):
                if i != G and t.data[i] is not NULL:
                    prefetch(at(t, i, later), 0, r.length * t.size[i])
        row, place = r.picks[r.first[j]].row, j
        if r.sums is NULL:
            place = r.picks[r.first[j]].at
        u.data[G] = <char*>(<uintptr_t>(r.values if r.sums is NULL else r.sums)
                            + <uintptr_t>((place - row) * r.length * u.size[G]))
        if t.decayed is not NULL:
            put(&u.catch_up, t.decayed[t.rows] / t.decayed[row], t.f64)
            u.lags = not one(&u.catch_up, t.f64)
        walk(c, &u, w, row * r.length, (row + 1) * r.length, <char*>&scratch, kept)
    restore_mode(mode)


cdef class Plan(WholePlan):
    """All tensors of an optimizer, ready to step as a whole or by rows."""

    def step_rows(self, Py_ssize_t i, indices, values, work, double lazy, double max_norm=INFINITY, bint skip=False):
        """Step the rows ``indices`` of tensor ``i`` with the rows of ``values`` as gradients; see Optimizer.step_rows.

        ``lazy`` is what the step multiplies all other rows by: noted in row_decay, and done when they are touched.
        """
        global active
        cdef uint64_t mode = ieee_mode()
        cdef Tensor* t = &self.tensors[i]
        cdef Rows r
        cdef int threads
        memset(&r, 0, sizeof(Rows))
        active += 1
        try:
            self.check_rows(i, indices, values)
            self.separate = False               # data[G] changes
            t.kind[G], t.size[G] = stored(values), cnp.PyArray_ITEMSIZE(values)
            t.data[G] = <char*>cnp.PyArray_DATA(values)
            self.nworks = 0
            t.work = self.add(self.stages[t.group], t.f64, work(t.group, t.t + 1, t.carry))
            threads = claim(cnp.PyArray_SIZE(values))
            self.keep_rows(threads)
            self.pick(&r, t, indices, max_norm, skip)
            self.run_rows(&r, t, lazy, max_norm, skip, threads)
        finally:
            active -= 1
            t.data[G] = NULL
            free(r.picks)
            free(r.first)
            free(r.sums)
            free(r.squares)
            restore_mode(mode)

    def check_rows(self, Py_ssize_t i, indices, values):
        """Raise where ``step_rows`` cannot take these."""
        cdef const Tensor* t = &self.tensors[i]
        self.same(t)
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
                or not native(t) <= stored(v) <= F16 or cnp.PyArray_FLAGS(a) & cnp.PyArray_FLAGS(v) & needed != needed
                or not cnp.PyArray_FLAGS(p) & cnp.NPY_ARRAY_C_CONTIGUOUS):
            return False
        for i in range(1, cnp.PyArray_NDIM(p)):
            if cnp.PyArray_DIM(v, i) != cnp.PyArray_DIM(p, i):
                return False
        for k in range(cnp.PyArray_DIM(a, 0)):
            if not 0 <= (<int64_t*>cnp.PyArray_DATA(a))[k] < t.rows:
                return False
        return True

    cdef pick(self, Rows* r, const Tensor* t, cnp.ndarray indices, double max_norm, bint skip):
        """Group the indices by row; make room for sums where a row comes twice or the norm is asked for."""
        cdef Py_ssize_t j, n = cnp.PyArray_SIZE(indices)
        cdef const int64_t* row = <const int64_t*>cnp.PyArray_DATA(indices)
        cdef bint limited = skip or max_norm != INFINITY or self.works[t.work].max_norm != INFINITY
        r.values, r.length = t.data[G], t.n // max(1, t.rows)
        r.picks, r.first = <Pick*>malloc((2 * n + 1) * sizeof(Pick)), <Py_ssize_t*>malloc((n + 1) * sizeof(Py_ssize_t))
        if r.picks is NULL or r.first is NULL:
            raise MemoryError
        for j in range(n):
            r.picks[j] = Pick(row[j], j)
        sort_picks(r.picks, r.picks + n, n, t.rows - 1)
        for j in range(n):
            if j == 0 or r.picks[j].row != r.picks[j - 1].row:
                r.first[r.touched] = j
                r.touched += 1
        r.first[r.touched] = n
        if limited or r.touched < n:
            r.sums = <char*>malloc(r.touched * r.length * (8 if t.f64 else 4) + 64)
            r.squares = <double*>calloc(r.touched + 1, sizeof(double))
            if r.sums is NULL or r.squares is NULL:
                raise MemoryError

    cdef run_rows(self, Rows* r, Tensor* t, double lazy, double max_norm, bint skip, int threads):
        cdef Py_ssize_t j, parts = 8 * threads
        cdef Step c = self.c
        cdef const Work* w = &self.works[t.work]
        cdef double factor, total = 0
        if r.sums is not NULL:
            with nogil:
                for j in prange(r.touched, num_threads=threads, schedule="static"):
                    add_up(&c, t, r, j)
        c.limited = skip or max_norm != INFINITY or w.max_norm != INFINITY
        self.norm = None
        if c.limited:
            total = self.sum_of(r.squares, r.touched)
            self.norm = sqrt(total) * fabs(w.factor)
            factor = clip_factor(self.norm, max_norm) * clip_factor(self.norm, w.max_norm)
            put(&t.scale, w.factor * factor, t.f64)
        self.skipped = skip and not (total - total == 0) and not finite_sums(&c, t, r)
        if self.skipped:
            return
        c.zero, c.ahead = False, 0
        with nogil:
            for j in prange(parts, num_threads=threads, schedule="static"):
                touch(&c, t, w, r, r.touched * j // parts, r.touched * (j + 1) // parts,
                      c.rows + threadid() * c.row_bytes)
        if t.decayed is not NULL:
            t.decayed[t.rows] *= lazy
            for j in range(r.touched):
                t.decayed[r.picks[r.first[j]].row] = t.decayed[t.rows]
            if not t.decayed[t.rows] > 1e-200:  # before it is too small for a number
                self.catch_up()
        t.t += 1
        t.carry = w.carry

    cdef double sum_of(self, double* terms, Py_ssize_t n) except? -1:
        """Return the sum of some numbers over the tree of norms.py."""
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
