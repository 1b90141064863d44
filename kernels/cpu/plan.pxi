# A plan: spans and threads over all tensors of an optimizer, and the step over them.
cdef class Plan:
    """All tensors of an optimizer: a ``backend.Plan``. ``table`` is a ``TILES``; see there for the other arguments."""
    cdef TensorList list
    cdef WorkTable works
    cdef GradNorm grad_norm
    cdef TensorNorms norms          # None where the rule needs none
    cdef SparseRows sparse
    cdef Span* spans
    cdef Py_ssize_t nspans
    cdef int rows                   # threads that have room for one
    cdef StepContext c
    cdef readonly object norm       # of the gradients of the last step, or None where it was not needed
    cdef readonly bint skipped      # the last step was none, because of an infinite or NaN gradient

    def __cinit__(self, dict table, names, params, beside, groups, members, steps, carries):
        cdef Py_ssize_t i
        cdef object rule = groups[0].rule
        self.sparse = SparseRows()
        self.list = TensorList(table[rule.tile()][2], names, params, beside)
        self.works = WorkTable(table, self.list, groups, members, steps, carries)
        self.grad_norm = GradNorm(self.list, self.works)
        self.norms = TensorNorms(self.list, self.works, rule) if rule.norms else None
        for i in range(2):
            look_up(&self.c, table, rule, i)
        self.c.words, self.c.permute_halves = tile_of(table, "philox.words", 0), tile_of(table, "philox.permute_halves", 0)
        self.c.leaf = tile_of(table, "reductions.leaf", 0)
        self.c.join, self.c.split = tile_of(table, "codecs.join", 0), tile_of(table, "codecs.split", 0)
        self.c.arrays = self.list.narrays
        self.c.far = self.list.bytes > 32 << 20
        self.c.tile = 256 if self.c.far else 512 if self.list.needs_codec else 1024
        self.c.area = 8 * self.c.tile + 512     # a multiple of 512: see pyopt/arrays/backend.py, placed_like
        for i in range(self.list.count):
            if groups[members[i]].stages.rows:
                self.by_row(&self.list.tensors[i])
        self.cut()

    def __dealloc__(self):
        free(self.spans)
        free(self.c.rows)

    cdef by_row(self, Tensor* t):
        """Let all rows of a tensor stay whole; a row is what the first index selects."""
        cdef cnp.ndarray p = <cnp.ndarray>t.p
        checks.rows_array(p, self.list.names[t.index], checks.STORED)
        self.list.whole_blocks(t)
        t.row = max(1, t.n // max(1, cnp.PyArray_DIM(p, 0))) if cnp.PyArray_NDIM(p) else 1
        if t.kind[P] != native(t):
            self.c.row_bytes = max(self.c.row_bytes, (t.row * (8 if t.f64 else 4) + 127) // 64 * 64)

    cdef cut(self):
        """Cut all elements into equal spans, which cross tensors: as much work for each thread, whatever the sizes."""
        cdef Py_ssize_t k = 0, start = 0, left, take, unit, span, total = self.list.total
        span = total // (16 * (total // (16 * SPAN) + 1))      # as many for each of 2, 4, 8 or 16 threads
        span = (span // 64 + 1) * 64
        self.spans = <Span*>calloc(total // span + 2, sizeof(Span))
        if self.spans is NULL:
            raise MemoryError
        while k < self.list.count:
            if start == self.list.tensors[k].n:
                k, start = k + 1, 0
                continue
            self.spans[self.nspans] = Span(k, start, 0)
            left = span
            while left > 0 and k < self.list.count:
                take = min(left, self.list.tensors[k].n - start)
                unit = max(self.list.tensors[k].row, self.list.tensors[k].block)    # one that has begun is done by the same
                take = min((take + unit - 1) // unit * unit, self.list.tensors[k].n - start)    # thread
                self.spans[self.nspans].count += take
                left -= take
                start += take
                if left > 0:
                    k, start = k + 1, 0
            self.nspans += 1

    def step(self, grads, request):
        """Step every tensor whose gradient is not None."""
        global active
        cdef tuple hold = tuple(grads)          # another thread may empty the caller's list without the GIL
        cdef uint64_t mode = ieee_mode()        # a caller's flush-to-zero would round scalars otherwise
        cdef bint zero, skip
        cdef double grad_scale, max_norm
        cdef int threads
        cdef list given
        need_stack()
        active += 1
        try:
            groups, grad_scale, zero, max_norm, skip, notes, still = request
            threads = claim(self.list.total)
            self.list.present(hold)
            given = self.works.ask(groups, grad_scale)      # before the check: a schedule may do anything to arrays
            if still is not None:
                still()
            self.list.check(hold, zero)
            self.works.assign(given)
            self.keep_rows(threads)
            if self.list.sparse:
                self.catch_up_some(True)
            self.measure(max_norm, skip, given, threads)
            if notes:                           # what may raise has been done
                write(*notes)
            self.run(zero, threads)
        finally:
            active -= 1
            restore_mode(mode)

    def check(self, grads, bint zero):
        """Raise where ``step`` cannot take these gradients."""
        cdef tuple hold = tuple(grads)
        self.list.present(hold)
        self.list.check(hold, zero)

    cdef keep_rows(self, int threads):
        """Make room for a decoded row in each thread, where rows stay whole."""
        if self.c.row_bytes and threads > self.rows:
            free(self.c.rows)
            self.c.rows, self.rows = <char*>malloc(threads * self.c.row_bytes), 0
            if self.c.rows is NULL:
                raise MemoryError
            self.rows = threads

    def catch_up(self):
        """Decay all rows by what they missed in ``step_rows``."""
        need_stack()
        self.catch_up_some(False)

    cdef catch_up_some(self, bint given):
        """Decay all rows by what they missed, or those of tensors that are ``given`` a gradient."""
        cdef Py_ssize_t i, row
        cdef Tensor* t
        cdef Work w
        memset(&w, 0, sizeof(Work))             # rounded to the nearest
        for i in range(self.list.count):
            t = &self.list.tensors[i]
            if t.decayed is not NULL and not (given and t.data[G] is NULL):
                self.list.same(t)
                for row in range(t.rows):
                    catch_up(&self.c, t, &w, row)
                for row in range(t.rows + 1):
                    t.decayed[row] = 1

    cdef limit(self, double max_norm, bint skip):
        """Note whether this step needs a norm."""
        cdef Py_ssize_t i
        self.c.limited = skip or max_norm != INFINITY
        for i in range(self.works.size):
            self.c.limited |= self.works.counts[i].given and self.works.works[i].max_norm != INFINITY

    cdef measure(self, double max_norm, bint skip, list given, int threads):
        """Find the norms that the step needs, and whether it is none."""
        self.limit(max_norm, skip)
        self.norm = None
        if self.c.limited:
            self.norm = self.grad_norm.limit(&self.c, max_norm, threads)
        self.skipped = skip and not self.grad_norm.finite(&self.c, self.norm)
        if self.norms is not None and not self.skipped:
            self.norms.measure(&self.c, given, threads)

    cdef run(self, bint zero, int threads):
        """Take all tensors through the stages."""
        cdef Py_ssize_t i, count = self.list.count
        cdef const Tensor* tensors = self.list.tensors
        cdef const Work* works = self.works.works
        self.c.zero = zero
        with nogil:
            if self.skipped:
                for i in range(count if zero else 0):
                    if tensors[i].data[G] is not NULL:
                        memset(tensors[i].data[G], 0, tensors[i].n * tensors[i].size[G])
            elif threads == 1:
                for i in range(self.nspans):
                    run_span(&self.c, tensors, works, self.spans[i], 0)
            else:
                for i in prange(self.nspans, num_threads=threads, schedule="static"):
                    run_span(&self.c, tensors, works, self.spans[i], threadid())
        if not self.skipped:
            self.works.advance()

    def step_rows(self, Py_ssize_t i, indices, values, request, double lazy):
        """Step the rows ``indices`` of tensor ``i`` with the rows of ``values`` as gradients.

        ``lazy`` is what the step multiplies all other rows by: noted in row_decay, and done when they are touched.
        """
        global active
        cdef uint64_t mode = ieee_mode()
        cdef Tensor* t = &self.list.tensors[i]
        cdef const StepCount* x
        cdef int threads
        need_stack()
        active += 1
        try:
            x = self.works.alone(t)
            given = request.groups[x.group].work(x.t + 1, x.carry, request.grad_scale)
            if request.still is not None:
                request.still()
            self.check_rows(i, indices, values)
            t.kind[G], t.size[G] = stored(values), cnp.PyArray_ITEMSIZE(values)
            t.data[G] = <char*>cnp.PyArray_DATA(values)
            self.works.renew(t.work, given)
            threads = claim(cnp.PyArray_SIZE(values))
            self.keep_rows(threads)
            self.c.limited = (request.skip or request.max_norm != INFINITY
                              or self.works.works[t.work].max_norm != INFINITY)
            self.sparse.pick(t, indices, self.c.limited)
            if request.notes:
                write(*request.notes)
            self.run_rows(t, lazy, request.max_norm, request.skip, threads)
        finally:
            active -= 1
            t.data[G] = NULL
            restore_mode(mode)

    def check_rows(self, Py_ssize_t i, indices, values):
        """Raise where ``step_rows`` cannot take these."""
        cdef const Tensor* t = &self.list.tensors[i]
        self.list.same(t)
        self.list.same_rows(t)
        self.list.whole_blocks(t)
        if not fit(t, indices, values):
            checks.row_gradient(indices, values, <object>t.p, self.list.names[i], self.list.allowed(t, G))
        self.list.apart_from(values, i)

    cdef run_rows(self, Tensor* t, double lazy, double max_norm, bint skip, int threads):
        cdef Py_ssize_t j
        cdef const Rows* r = &self.sparse.r
        cdef StepContext c = self.c
        cdef Work* w = &self.works.works[t.work]
        cdef double total = 0, factor, decayed = 1 if t.decayed is NULL else t.decayed[t.rows] * lazy
        self.norm = None
        if c.limited:
            with nogil:
                for j in prange(r.touched, num_threads=threads, schedule="static"):
                    measure_row(&c, t, r, j)
            total = sum_of(&c, r.squares, r.touched)
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
        self.works.counts[t.work].t, self.works.counts[t.work].carry = w.t, w.carry

    def progress(self):
        """Return the step counts and the carries."""
        return self.works.progress()

    def refresh(self, groups):
        """Do nothing: no step is repeated without a call."""
