# A plan: spans and scalars of all tensors of an optimizer, and the step over them.
cdef tuple ROUNDINGS = codecs.ROUNDINGS


cdef void rescale(Work* w, double factor) noexcept nogil:
    """Let the norm's limit scale the gradients as well."""
    put(&w.scale, w.factor * factor, w.f64)
    w.scaled = w.max_norm != INFINITY or not one(&w.scale, w.f64)


cdef class WholePlan(Memory):
    """All tensors of an optimizer, ready to step as a whole; ``Plan`` adds single rows.

    ``table`` is a ``TILES``; ``rule`` a key of it; ``names`` and ``params`` belong together; ``states[i]`` holds an
    array or None per state of the rule, then EMA, shadow, remainder and row_decay or None; ``groups[i]`` is the group
    of tensor i and ``stages[group]`` its ``step.Stages``; ``steps`` and ``carries`` are what each starts from.
    """
    cdef Span* spans
    cdef Work* works
    cdef double* partial            # a leaf of the norm each
    cdef Py_ssize_t nspans, room    # room: for works
    cdef int rows                   # threads that have room for one
    cdef Step c
    cdef dict table
    cdef list stages
    cdef readonly object norm       # of the gradients of the last step, or None where it was not needed
    cdef readonly bint skipped      # the last step was none, because of an infinite or NaN gradient

    def __cinit__(self, dict table, str rule, names, params, states, groups, stages, steps, carries):
        cdef Py_ssize_t i
        self.table, self.stages = table, list(stages)
        for group in self.stages:
            if max(len(group.penalties), len(group.proxes)) > MAX_PENALTIES or len(group.slopes) > MAX_ROWS:
                raise ValueError(f"{group}: at most {MAX_PENALTIES} penalties and {MAX_ROWS} by row are possible")
        for i in range(2):
            self.tiles(&self.c.of[i], rule, i)
        self.c.words, self.c.swapped = tile_of(table, "philox.words", 0), tile_of(table, "philox.swapped", 0)
        self.c.leaf = tile_of(table, "reductions.leaf", 0)
        self.c.join, self.c.split = tile_of(table, "codecs.join", 0), tile_of(table, "codecs.split", 0)
        self.c.arrays = self.narrays
        self.c.far = self.bytes > 32 << 20
        self.c.tile = 256 if self.c.far else 512 if self.coded else 1024
        self.c.area = 8 * self.c.tile + 512     # a multiple of 512: see _arrays.beside
        for i in range(self.count):
            if self.stages[groups[i]].rows:
                self.by_row(&self.tensors[i])
        self.cut()

    def __dealloc__(self):
        free(self.spans)
        free(self.works)
        free(self.partial)
        free(self.c.rows)

    cdef tiles(self, Tiles* of, str rule, bint f64):
        """Look up the tiles of a compute type."""
        cdef int j
        cdef str name
        put(&of.unit, 1, f64)
        for j, row in enumerate(codecs.TYPES):
            if row.real:
                of.codec[j].decode = tile_of(self.table, "codecs.decode_" + row.short, f64)
                of.codec[j].encode = tile_of(self.table, "codecs.encode_" + row.short, f64)
            if row.stochastic:
                of.codec[j].random = tile_of(self.table, "codecs.stochastic_" + row.short, f64)
            if "grad" in row.holds:
                of.codec[j].add = tile_of(self.table, "codecs.add_" + row.short, f64)
        of.clip, of.add = tile_of(self.table, "step.clip", f64), tile_of(self.table, "penalties.l2_gradient", f64)
        of.decay, of.ema = tile_of(self.table, "step.decay", f64), tile_of(self.table, "step.ema", f64)
        of.fill, of.rule[0] = tile_of(self.table, "step.fill", f64), tile_of(self.table, rule, f64)
        for j in [*range(1, DIRECT_ALL + 1), DIRECT_RANDOM]:
            name = "random" if j == DIRECT_RANDOM else "p" * (j & 1) + "g" * (j >> 1 & 1) + "s" * (j >> 2)
            if not f64 and f"{rule}_bf16_{name}" in self.table:
                of.rule[j] = tile_of(self.table, f"{rule}_bf16_{name}", f64)
        of.squares = tile_of(self.table, "reductions.squares", f64)
        of.row_squares = tile_of(self.table, "reductions.row_squares", f64)
        of.nonfinite = tile_of(self.table, "reductions.nonfinite", f64)
        if rule + "_steps" in self.table:
            of.steps = tile_of(self.table, rule + "_steps", f64)
            roles = self.table[rule][2]
            wanted = self.table[rule + "_steps"][2]
            self.c.step_count = len(wanted)
            for j in range(self.c.step_count):
                self.c.step_arrays[j] = -1 if wanted[j] == "steps" else roles.index(wanted[j])

    cdef by_row(self, Tensor* t):
        """Let all rows of a tensor stay whole; a row is what the first index selects."""
        cdef cnp.ndarray p = <cnp.ndarray>t.p
        checks.rows_array(p, self.names[t.index], checks.STORED)
        self.whole_blocks(t)
        t.row = max(1, t.n // max(1, cnp.PyArray_DIM(p, 0))) if cnp.PyArray_NDIM(p) else 1
        if t.kind[P] != native(t):
            self.c.row_bytes = max(self.c.row_bytes, (t.row * (8 if t.f64 else 4) + 127) // 64 * 64)

    cdef cut(self):
        """Cut all elements into equal spans, which cross tensors: as much work for each thread, whatever the sizes."""
        cdef Py_ssize_t k = 0, start = 0, left, take, unit, span
        span = self.total // (16 * (self.total // (16 * SPAN) + 1))      # as many for each of 2, 4, 8 or 16 threads
        span = (span // 64 + 1) * 64
        self.spans = <Span*>calloc(self.total // span + 2, sizeof(Span))
        if self.spans is NULL:
            raise MemoryError
        while k < self.count:
            if start == self.tensors[k].n:
                k, start = k + 1, 0
                continue
            self.spans[self.nspans] = Span(k, start, 0)
            left = span
            while left > 0 and k < self.count:
                take = min(left, self.tensors[k].n - start)
                unit = max(self.tensors[k].row, self.tensors[k].block)  # one that has begun is done by the same thread
                take = min((take + unit - 1) // unit * unit, self.tensors[k].n - start)
                self.spans[self.nspans].count += take
                left -= take
                start += take
                if left > 0:
                    k, start = k + 1, 0
            self.nspans += 1

    cdef list ask(self, work):
        """Ask `work` once for tensors that go together."""
        cdef Py_ssize_t k
        cdef Progress* x
        cdef list given = []
        if self.mixed:
            self.regroup()
        for k in range(self.ntaken):            # an error leaves all as it was
            x = &self.taken[k]
            given.append(work(x.group, x.t + 1, x.carry) if x.given else None)
        return given

    cdef regroup(self):
        """Let tensors go together that are of one group and type, have taken the same steps, and a gradient or none."""
        cdef Py_ssize_t i, k = -1
        cdef Tensor* t
        cdef Progress x
        cdef Progress* y = NULL                 # of the tensor before, mostly the same
        cdef Progress* old = self.taken
        cdef Progress* new = <Progress*>calloc(self.count + 1, sizeof(Progress))
        cdef dict seen = {}
        if new is NULL:
            raise MemoryError
        for i in range(self.count):
            t = &self.tensors[i]
            x = old[t.work]
            x.given, x.tensors = t.data[G] is not NULL, 0
            if (y is NULL or x.group != y.group or x.t != y.t or x.carry != y.carry or x.f64 != y.f64
                    or x.given != y.given):
                k = seen.setdefault((x.group, x.t, x.carry, x.f64, x.given), len(seen))
                y = &new[k]
                x.tensors = y.tensors
                y[0] = x
            y.tensors += 1
            t.work = k
        free(old)
        self.taken, self.ntaken, self.mixed = new, len(seen), False

    cdef renew(self, Py_ssize_t k, given):
        """Round the scalars of the next step for the tensors of a progress."""
        cdef const Progress* x = &self.taken[k]
        cdef Work* w
        cdef bint f64 = x.f64
        cdef object stages = self.stages[x.group]
        cdef tuple penalties, slopes, rule, steps, proxes, shrink
        cdef double scale, max_norm, bound, ema, carry
        scale, max_norm, bound, penalties, slopes, rule, steps, proxes, shrink, ema, seed, carry = given
        if k >= self.room:
            w = <Work*>realloc(self.works, (2 * k + 4) * sizeof(Work))
            if w is NULL:
                raise MemoryError
            self.works, self.room = w, 2 * k + 4
        w = &self.works[k]
        memset(w, 0, sizeof(Work))
        w.factor, w.max_norm, w.carry = scale, max_norm, carry
        w.t, w.seed = x.t + 1, <Py_ssize_t><uint64_t>seed
        w.rounding, w.uniform = ROUNDINGS.index(stages.rounding), stages.uniform
        put(&w.scale, scale, f64)
        put(&w.clip, bound, f64)
        put(&w.ema, ema, f64)
        fill(&w.rule, rule, f64)
        fill(&w.steps, steps, f64)
        fill(&w.shrinks, shrink, f64)
        w.f64, w.scaled = f64, not one(&w.scale, f64)
        w.clipped = bound != INFINITY
        self.chain(w.penalty, w.penalties, stages.penalties, penalties, f64)
        self.chain(w.slope, w.slopes, stages.slopes, slopes, f64)
        self.chain(w.prox, w.proxes, stages.proxes, proxes, f64)
        if stages.shrink is not None:
            w.shrink = tile_of(self.table, stages.shrink, f64)

    cdef chain(self, tile_t* tiles, scalars_t* scalars, tuple names, tuple given, bint f64):
        """Set the tiles of stages of one kind that follow each other."""
        cdef Py_ssize_t i
        for i in range(len(names)):
            tiles[i] = tile_of(self.table, names[i], f64)
            fill(&scalars[i], given[i], f64)

    cdef measure(self, int threads):
        """Read the gradients once: the sum of the squares of each leaf."""
        cdef Py_ssize_t i
        if self.partial is NULL:
            self.partial = <double*>calloc(2 * self.nleaves + 1, sizeof(double))
            if self.partial is NULL:
                raise MemoryError
        with nogil:
            if threads == 1:
                measure_leaves(&self.c, self.tensors, self.count, self.partial, 0, self.nleaves)
            else:                               # each thread reads what it will step, as far as the leaves are even
                for i in prange(threads, num_threads=threads, schedule="static"):
                    measure_leaves(&self.c, self.tensors, self.count, self.partial, self.nleaves * i // threads,
                                   self.nleaves * (i + 1) // threads)

    cdef double folded(self, Py_ssize_t first, Py_ssize_t count) noexcept:
        """Return the sum of some leaves, which stay as they are."""
        memcpy(self.partial + self.nleaves, self.partial + first, count * sizeof(double))
        return fold(self.partial + self.nleaves, count) if count else 0

    cdef bint finite(self, double total) noexcept:
        """Whether all gradients are finite."""
        cdef Py_ssize_t i
        if total - total == 0:
            return True
        for i in range(self.count):
            if self.tensors[i].data[G] is not NULL and not all_finite(&self.c, &self.tensors[i]):
                return False
        return True

    cdef measured(self, double max_norm, int threads):
        """Set the norm of the gradients and what each is multiplied by."""
        cdef Py_ssize_t i
        cdef Tensor* t
        cdef Work* w
        cdef double norm, factor, own
        self.measure(threads)
        norm = sqrt(self.folded(0, self.nleaves))
        for i in range(self.ntaken):
            if self.taken[i].given:             # the scale of the loss is the same for all
                norm = norm * fabs(self.works[i].factor)
                break
        self.norm = norm
        factor = clip_factor(norm, max_norm)
        for i in range(self.ntaken):
            if self.taken[i].given:
                rescale(&self.works[i], factor)
        for i in range(self.count):
            t = &self.tensors[i]
            w = &self.works[t.work]
            if t.data[G] is not NULL and w.max_norm != INFINITY:
                own = sqrt(self.folded(t.leaf, (t.n + LEAF - 1) // LEAF)) * fabs(w.factor) * factor
                put(&t.scale, w.factor * factor * clip_factor(own, w.max_norm), t.f64)

    cdef list ready(self, tuple grads, work, bint zero):
        """Return the scalars, asked for before the arrays are checked: a schedule may do anything to them."""
        cdef list given
        self.present(grads)
        given = self.ask(work)
        self.check(grads, zero)
        return given

    def step(self, grads, work, bint zero=False, double max_norm=INFINITY, bint skip=False, tuple news=()):
        """Step every tensor whose gradient is not None; an error leaves everything as it was.

        ``work(group, t, carry)`` returns a ``step.Work``. ``max_norm`` limits the norm of all gradients together; with
        ``skip`` an infinite or NaN gradient makes the step none, but for the zeroing. ``news``, the arguments of ``write``,
        becomes true together with the step.
        """
        global active
        cdef tuple hold = tuple(grads)          # another thread may empty the caller's list without the GIL
        cdef uint64_t mode = ieee_mode()        # a caller's flush-to-zero would round scalars otherwise
        cdef int threads
        cdef list given
        cdef Py_ssize_t k
        need_stack()
        active += 1
        try:
            threads = claim(self.total)
            given = self.ready(hold, work, zero)
            if news:
                write(*news)
            for k in range(self.ntaken):
                if self.taken[k].given:
                    self.renew(k, given[k])
            self.keep_rows(threads)
            if self.sparse:
                self.catch_up(given=True)
            self.run(zero, max_norm, skip, threads)
        finally:
            active -= 1
            restore_mode(mode)

    cdef keep_rows(self, int threads):
        """Make room for a decoded row in each thread, where rows stay whole."""
        if self.c.row_bytes and threads > self.rows:
            free(self.c.rows)
            self.c.rows, self.rows = <char*>malloc(threads * self.c.row_bytes), 0
            if self.c.rows is NULL:
                raise MemoryError
            self.rows = threads

    def catch_up(self, bint given=False):
        """Decay all rows by what they missed in ``step_rows``, or those of tensors that are ``given`` a gradient."""
        cdef Py_ssize_t i, row
        cdef Tensor* t
        cdef Work w
        need_stack()
        memset(&w, 0, sizeof(Work))             # rounded to the nearest
        for i in range(self.count):
            t = &self.tensors[i]
            if t.decayed is not NULL and not (given and t.data[G] is NULL):
                self.same(t)
                for row in range(t.rows):
                    catch_up(&self.c, t, &w, row)
                for row in range(t.rows + 1):
                    t.decayed[row] = 1

    cdef limit(self, double max_norm, bint skip):
        """Note whether this step needs a norm."""
        cdef Py_ssize_t i
        self.c.limited = skip or max_norm != INFINITY
        for i in range(self.ntaken):
            self.c.limited |= self.taken[i].given and self.works[i].max_norm != INFINITY

    cdef run(self, bint zero, double max_norm, bint skip, int threads):
        cdef Py_ssize_t i
        self.limit(max_norm, skip)
        self.norm = None
        if self.c.limited:
            self.measured(max_norm, threads)
        self.skipped = skip and not self.finite(self.norm)
        self.c.zero = zero
        with nogil:
            if self.skipped:
                for i in range(self.count if zero else 0):
                    if self.tensors[i].data[G] is not NULL:
                        memset(self.tensors[i].data[G], 0, self.tensors[i].n * self.tensors[i].size[G])
            elif threads == 1:
                for i in range(self.nspans):
                    run_span(&self.c, self.tensors, self.works, self.spans[i], 0)
            else:
                for i in prange(self.nspans, num_threads=threads, schedule="static"):
                    run_span(&self.c, self.tensors, self.works, self.spans[i], threadid())
        for i in range(0 if self.skipped else self.ntaken):     # no Python code from here: Ctrl-C finds all or none
            if self.taken[i].given:
                self.taken[i].t, self.taken[i].carry = self.works[i].t, self.works[i].carry

    def progress(self):
        """Return the step counts and the carries, a list each."""
        cdef Py_ssize_t i
        return ([self.taken[self.tensors[i].work].t for i in range(self.count)],
                [self.taken[self.tensors[i].work].carry for i in range(self.count)])
