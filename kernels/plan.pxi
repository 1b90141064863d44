# A plan: pointers, sizes, spans and scalars of all tensors of an optimizer, and the step over them.
cdef struct Interval:
    uintptr_t low, high
    Py_ssize_t tensor
    int array                       # index in Tensor.data


cdef int compare(const void* a, const void* b) noexcept nogil:
    cdef uintptr_t x = (<const Interval*>a).low, y = (<const Interval*>b).low
    return (x > y) - (x < y)


cdef class Guard:
    """One thing at a time: a step, or a change of what is stepped. In C, so that Ctrl-C cannot leave it shut."""
    cdef bint busy

    def run(self, function, *args):
        """Return ``function(*args)``; RuntimeError where another call of this guard is under way."""
        if self.busy:
            raise RuntimeError("this optimizer is in the middle of a step, in another thread or in its own schedule")
        self.busy = True
        try:
            return function(*args)
        finally:
            self.busy = False


cdef class Plan:
    """All tensors of an optimizer, ready to step.

    ``table`` is a ``TILES``; ``rule`` a key of it; ``names`` and ``params`` belong together; ``states[i]`` holds an
    array or None per state of the rule, and the EMA or None; ``groups[i]`` is the group of tensor i and
    ``stages[group]`` the keys of its penalty gradients; ``steps`` and ``carries`` are the step counts and carries to
    start from.
    """
    cdef Tensor* tensors
    cdef Span* spans
    cdef Work* works
    cdef Interval* owned            # parameters and states in the order of their addresses: none overlaps another
    cdef Interval* given            # room for the gradients
    cdef double* partial            # a leaf of the norm each
    cdef Py_ssize_t count, nspans, nworks, nowned, nleaves, room, total
    cdef Step c
    cdef tile_t squares, nonfinite, leaf
    cdef int kind
    cdef bint f64
    cdef bint separate, zeroed      # the gradients of the last step shared no memory with the rest, with each other
    cdef tuple names, params, states, roles
    cdef list stages
    cdef readonly object norm       # of the gradients of the last step, or None where it was not needed
    cdef readonly bint skipped      # the last step was none, because of an infinite or NaN gradient

    def __cinit__(self, dict table, str rule, names, params, states, groups, stages, steps, carries):
        cdef Py_ssize_t i, j, size, streams = 1
        self.names, self.params, self.states = tuple(names), tuple(params), tuple(map(tuple, states))
        self.roles = (*table[rule][2], "ema")
        self.count = len(self.params)
        self.f64 = check_parameters(self.names, self.params)
        self.kind = cnp.NPY_DOUBLE if self.f64 else cnp.NPY_FLOAT
        self.c.rule = tile_of(table, rule, self.f64)
        self.c.scale, self.c.clip = tile_of(table, "step.scale", self.f64), tile_of(table, "step.clip", self.f64)
        self.c.decay, self.c.ema = tile_of(table, "step.decay", self.f64), tile_of(table, "step.ema", self.f64)
        self.squares = tile_of(table, "norms.squares", self.f64)
        self.nonfinite = tile_of(table, "norms.nonfinite", self.f64)
        self.leaf = tile_of(table, "norms.leaf", self.f64)
        self.c.itemsize = 8 if self.f64 else 4
        self.c.arrays = len(self.roles)
        self.stages = [[table[name][1 if self.f64 else 0] for name in names] for names in stages]
        if self.c.arrays > MAX_ARRAYS or max(map(len, self.stages)) > MAX_PENALTIES:
            raise ValueError(f"at most {MAX_ARRAYS - 3} states and {MAX_PENALTIES} penalties are possible")
        self.tensors = <Tensor*>calloc(self.count + 1, sizeof(Tensor))
        if self.tensors is NULL:
            raise MemoryError
        for i in range(self.count):
            self.tensors[i].n = cnp.PyArray_SIZE(self.params[i])
            self.tensors[i].group, self.tensors[i].t, self.tensors[i].carry = groups[i], steps[i], carries[i]
            self.total += self.tensors[i].n
            self.tensors[i].leaf = self.nleaves
            self.nleaves += (self.tensors[i].n + LEAF - 1) // LEAF
            self.tensors[i].p = <void*>self.params[i]
            self.tensors[i].descr = <void*>cnp.PyArray_DESCR(self.params[i])
            self.tensors[i].data[0] = <char*>cnp.PyArray_DATA(self.params[i])
            if len(self.states[i]) != self.c.arrays - 2:
                raise ValueError(f"{len(self.states[i])} states for {self.names[i]}: {rule} has {self.roles[2:]}")
            for j in range(2, self.c.arrays):
                state = self.states[i][j - 2]
                if state is not None:
                    self.tensors[i].data[j] = self.state(state, i, j)
                    streams = max(streams, j)
        size = self.total * (streams + 1) * self.c.itemsize
        self.c.tile, self.c.ahead = (128, 256) if size > 2 << 20 else (1024, 0)
        self.cut()
        self.own()

    def __dealloc__(self):
        free(self.tensors)
        free(self.spans)
        free(self.works)
        free(self.owned)
        free(self.given)
        free(self.partial)

    cdef char* state(self, a, Py_ssize_t i, int j) except NULL:
        """Return the address of a state. It is not checked again: nobody resizes an array that pyopt made."""
        if not isinstance(a, cnp.ndarray) or not alike(a, self.params[i]) or not a.flags.writeable:
            checks.reject(a, self.params[i], f"{self.roles[j]} of {self.names[i]}", True)
        return <char*>cnp.PyArray_DATA(a)

    cdef cut(self):
        """Cut all elements into equal spans, which cross tensors: as much work for each thread, whatever the sizes."""
        cdef Py_ssize_t i, k = 0, start = 0, left, take, span
        span = min(SPAN, max(<Py_ssize_t>LEAF, self.total // 16 // LEAF * LEAF))
        self.nspans = (self.total + span - 1) // span
        self.spans = <Span*>calloc(self.nspans + 1, sizeof(Span))
        if self.spans is NULL:
            raise MemoryError
        for i in range(self.nspans):
            left = min(span, self.total - i * span)
            while start == self.tensors[k].n:
                k += 1
                start = 0
            self.spans[i] = Span(k, start, left)
            while left > 0:
                take = min(left, self.tensors[k].n - start)
                left -= take
                start += take
                if start == self.tensors[k].n and left > 0:
                    k += 1
                    start = 0

    cdef own(self):
        """Sort the memory of parameters and states, and refuse overlaps."""
        cdef Py_ssize_t i, n = 0
        cdef int j
        self.owned = <Interval*>calloc(self.count * self.c.arrays + 1, sizeof(Interval))
        self.given = <Interval*>calloc(self.count + 1, sizeof(Interval))
        if self.owned is NULL or self.given is NULL:
            raise MemoryError
        for i in range(self.count):
            for j in range(self.c.arrays):
                if j != 1 and self.tensors[i].data[j] is not NULL and self.tensors[i].n > 0:
                    self.owned[n] = self.interval(i, j)
                    n += 1
        self.nowned = n
        self.sort(self.owned, n)

    cdef Interval interval(self, Py_ssize_t i, int j) noexcept:
        cdef uintptr_t low = <uintptr_t>self.tensors[i].data[j]
        return Interval(low, low + self.tensors[i].n * self.c.itemsize, i, j)

    cdef sort(self, Interval* list, Py_ssize_t n):
        cdef Py_ssize_t i
        qsort(list, n, sizeof(Interval), compare)
        for i in range(1, n):
            if list[i - 1].high > list[i].low:
                self.clash(list[i - 1], list[i])

    cdef apart(self, bint zero):
        """Refuse a gradient that shares memory with what the step writes."""
        cdef Py_ssize_t i, low, high, middle, n = 0
        cdef Interval x
        for i in range(self.count):
            if self.tensors[i].data[1] is NULL or self.tensors[i].n == 0:
                continue
            x = self.interval(i, 1)
            low, high = 0, self.nowned          # the last owned interval that begins before x ends
            while low < high:
                middle = (low + high) // 2
                if self.owned[middle].low < x.high:
                    low = middle + 1
                else:
                    high = middle
            if low > 0 and self.owned[low - 1].high > x.low:
                self.clash(self.owned[low - 1], x)
            self.given[n] = x
            n += 1
        if zero:
            self.sort(self.given, n)

    cdef clash(self, Interval a, Interval b):
        raise ValueError(f"{self.label(a)} and {self.label(b)} share memory: "
                         "an update in place needs arrays of their own")

    cdef label(self, Interval x):
        if x.array == 0:
            return self.names[x.tensor]
        return f"the {'gradient' if x.array == 1 else self.roles[x.array]} of {self.names[x.tensor]}"

    cdef check(self, tuple grads, bint zero):
        """Check every array; on return data[1] of each tensor points to its gradient. Nothing else has changed."""
        cdef Py_ssize_t i
        cdef int writeable = cnp.NPY_ARRAY_WRITEABLE | cnp.NPY_ARRAY_ALIGNED
        cdef bint moved = not self.separate
        cdef Tensor* t
        cdef char* data
        cdef PyObject* g                        # borrowed: a reference more on each array would write to its memory
        self.separate = False                   # until all is found well
        if len(grads) != self.count:
            raise ValueError(f"{len(grads)} gradients for {self.count} parameters: give one each, or None to skip one")
        for i in range(self.count):
            t = &self.tensors[i]
            if i + 8 < self.count:              # objects lie anywhere, and a large step pushes them out of the caches
                prefetch(self.tensors[i + 8].p, 0, 80)
                prefetch(PyTuple_GET_ITEM(<PyObject*>grads, i + 8), 0, 80)
            if (<char*>cnp.PyArray_DATA(<cnp.ndarray>t.p) != t.data[0] or size_of(<cnp.ndarray>t.p) != t.n
                    or <void*>cnp.PyArray_DESCR(<cnp.ndarray>t.p) != t.descr and not native(<cnp.ndarray>t.p, self.kind)
                    or cnp.PyArray_FLAGS(<cnp.ndarray>t.p) & writeable != writeable or not dense(<cnp.ndarray>t.p)):
                checks.changed(<object>t.p, self.names[i])
            data = NULL
            g = PyTuple_GET_ITEM(<PyObject*>grads, i)
            if g is not <PyObject*>None:
                if not PyArray_CheckExact(g):
                    if not isinstance(<object>g, cnp.ndarray) or checks.masked(<object>g):
                        checks.reject(<object>g, <object>t.p, f"the gradient of {self.names[i]}")
                if (not alike(<cnp.ndarray>g, <cnp.ndarray>t.p)
                        or zero and not cnp.PyArray_FLAGS(<cnp.ndarray>g) & cnp.NPY_ARRAY_WRITEABLE):
                    checks.reject(<object>g, <object>t.p, f"the gradient of {self.names[i]}", zero)
                data = <char*>cnp.PyArray_DATA(<cnp.ndarray>g)
            moved |= data != t.data[1]
            t.data[1] = data
        if moved or zero and not self.zeroed:
            self.apart(zero)
        self.separate, self.zeroed = True, zero

    cdef assign(self, work):
        """Ask `work` once for each combination of group, step count and carry, and round its scalars."""
        cdef Py_ssize_t i, last = -1
        cdef Tensor* t
        cdef Tensor* u = NULL
        cdef dict seen = {}
        self.nworks = 0
        for i in range(self.count):
            t = &self.tensors[i]
            if t.data[1] is NULL:
                continue
            if u is NULL or t.group != u.group or t.t != u.t or t.carry != u.carry:
                key = (t.group, t.t, t.carry)
                if key not in seen:
                    seen[key] = self.add(t.group, work(t.group, t.t + 1, t.carry))
                last = seen[key]
                u = t
            t.work = last

    cdef Py_ssize_t add(self, Py_ssize_t group, given) except -1:
        cdef Work* w
        cdef Py_ssize_t i
        cdef tuple penalties, rule
        cdef double scale, max_norm, bound, decay, ema, carry
        scale, max_norm, bound, penalties, decay, rule, ema, carry = given
        if self.nworks == self.room:
            w = <Work*>realloc(self.works, (2 * self.room + 4) * sizeof(Work))
            if w is NULL:
                raise MemoryError
            self.works, self.room = w, 2 * self.room + 4
        w = &self.works[self.nworks]
        memset(w, 0, sizeof(Work))
        w.factor, w.max_norm, w.carry = scale, max_norm, carry
        put(&w.scale, scale, self.f64)
        put(&w.clip, bound, self.f64)
        put(&w.decay, decay, self.f64)
        put(&w.ema, ema, self.f64)
        fill(&w.rule, rule, self.f64)
        w.scaled = not one(&w.scale, self.f64)
        w.clipped = bound != INFINITY
        w.decayed = not one(&w.decay, self.f64)
        for i in range(len(penalties)):
            w.penalty[i] = <tile_t><size_t>self.stages[group][i]
            fill(&w.penalties[i], penalties[i], self.f64)
        self.nworks += 1
        return self.nworks - 1

    cdef measure(self, int threads):
        """Read the gradients once: the sum of the squares of each leaf."""
        cdef Py_ssize_t i, blocks = (self.nleaves + 15) // 16
        if self.partial is NULL:
            self.partial = <double*>calloc(2 * self.nleaves + 1, sizeof(double))
            if self.partial is NULL:
                raise MemoryError
        with nogil:
            if threads == 1:
                measure_leaves(self.squares, self.tensors, self.count, self.partial, 0, self.nleaves, self.c.itemsize)
            else:
                for i in prange(blocks, num_threads=threads, schedule="static"):
                    measure_leaves(self.squares, self.tensors, self.count, self.partial, 16 * i,
                                   min(16 * i + 16, self.nleaves), self.c.itemsize)

    cdef double folded(self, Py_ssize_t first, Py_ssize_t count) noexcept:
        """Return the sum of some leaves, which stay as they are."""
        memcpy(self.partial + self.nleaves, self.partial + first, count * sizeof(double))
        return fold(self.partial + self.nleaves, count) if count else 0

    cdef bint finite(self, double total) noexcept:
        """Whether all gradients are finite; the squares of finite float64 numbers may still overflow."""
        cdef Py_ssize_t i, k, n
        cdef double found = 0
        cdef scratch_t terms
        cdef void* a[2]
        if total - total == 0:
            return True
        for i in range(self.count):
            for k in range(0, self.tensors[i].n if self.tensors[i].data[1] is not NULL else 0, LEAF):
                n = min(<Py_ssize_t>LEAF, self.tensors[i].n - k)
                a[0], a[1] = self.tensors[i].data[1] + k * self.c.itemsize, terms.d
                self.nonfinite(a, NULL, &n)
                a[0], a[1] = terms.d, &found
                self.leaf(a, NULL, &n)
                if found != 0:
                    return False
        return True

    cdef measured(self, double max_norm, int threads):
        """Set the norm of the gradients and what each is multiplied by."""
        cdef Py_ssize_t i
        cdef Tensor* t
        cdef Work* w
        cdef double norm, factor, own
        self.measure(threads)
        norm = sqrt(self.folded(0, self.nleaves)) * (fabs(self.works[0].factor) if self.nworks else 1)
        self.norm = norm
        factor = clip_factor(norm, max_norm)
        for i in range(self.count):
            t = &self.tensors[i]
            if t.data[1] is not NULL:
                w = &self.works[t.work]
                own = 1
                if w.max_norm != INFINITY:
                    own = sqrt(self.folded(t.leaf, (t.n + LEAF - 1) // LEAF)) * fabs(w.factor)
                    own = clip_factor(own, w.max_norm)
                put(&t.scale, w.factor * factor * own, self.f64)

    def step(self, grads, work, bint zero=False, double max_norm=INFINITY, bint skip=False):
        """Step every tensor whose gradient is not None; an error leaves everything as it was.

        ``work(group, t, carry)`` returns a ``step.Work``. ``max_norm`` limits the norm of all gradients together; with
        ``skip`` an infinite or NaN gradient makes the step none, but for the zeroing.
        """
        global active
        cdef tuple hold = tuple(grads)          # another thread may empty the caller's list without the GIL
        cdef uint64_t mode = ieee_mode()        # a caller's flush-to-zero would round scalars otherwise
        active += 1
        try:
            self.check(hold, zero)
            self.assign(work)
            self.run(zero, max_norm, skip, claim(self.total))
        finally:
            active -= 1
            restore_mode(mode)

    cdef run(self, bint zero, double max_norm, bint skip, int threads):
        cdef Py_ssize_t i
        self.c.limited = skip or max_norm != INFINITY
        for i in range(self.nworks):
            self.c.limited |= self.works[i].max_norm != INFINITY
        self.norm = None
        if self.c.limited:
            self.measured(max_norm, threads)
        self.skipped = skip and not self.finite(self.norm)
        self.c.zero = zero
        with nogil:
            if self.skipped:
                for i in range(self.count if zero else 0):
                    if self.tensors[i].data[1] is not NULL:
                        memset(self.tensors[i].data[1], 0, self.tensors[i].n * self.c.itemsize)
            elif threads == 1:
                for i in range(self.nspans):
                    run_span(&self.c, self.tensors, self.works, self.spans[i])
            else:
                for i in prange(self.nspans, num_threads=threads, schedule="static"):
                    run_span(&self.c, self.tensors, self.works, self.spans[i])
        for i in range(self.count):             # no Python code runs from here on: Ctrl-C finds all or nothing
            if self.tensors[i].data[1] is not NULL and not self.skipped:
                self.tensors[i].t += 1
                self.tensors[i].carry = self.works[self.tensors[i].work].carry

    def progress(self):
        """Return the step counts and the carries, a list each."""
        cdef Py_ssize_t i
        return [self.tensors[i].t for i in range(self.count)], [self.tensors[i].carry for i in range(self.count)]
