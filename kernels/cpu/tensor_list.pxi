# The tensors of an optimizer: record where their arrays lie, check at each step that they still do.
cdef struct Interval:
    uintptr_t low, high
    Py_ssize_t tensor
    int array                       # place in Tensor.data


cdef int compare(const void* a, const void* b) noexcept nogil:
    cdef uintptr_t x = (<const Interval*>a).low, y = (<const Interval*>b).low
    return (x > y) - (x < y)


cdef class TensorList:
    """Parameters, what stands beside them and, at each step, their gradients: every write path is checked here."""
    cdef Tensor* tensors
    cdef Interval* owned            # parameters and states in the order of their addresses: none overlaps another
    cdef Interval* given            # room for the gradients
    cdef Py_ssize_t count, nowned, nleaves, total, bytes
    cdef int narrays                # p, g and the states of the rule
    cdef bint needs_codec, sparse         # some tensor is, or has rows that may lag
    cdef bint separate, zeroed      # the gradients of the last step shared no memory with the rest, with each other
    cdef bint mixed                 # since they were put together a gradient has come or gone
    cdef tuple names, params, beside
    cdef dict roles                 # their names

    def __cinit__(self, tuple arrays, names, params, beside):
        cdef Py_ssize_t i
        self.names, self.params, self.beside = tuple(names), tuple(params), tuple(beside)
        self.narrays = len(arrays)
        if self.narrays > EMA:
            raise ValueError(f"a rule of {self.narrays - FIRST_STATE} states: at most {MAX_STATES} are possible")
        self.roles = {**dict(enumerate(arrays)), EMA: "ema", SHADOW: "shadow", REST: "remainder"}
        check_parameters(self.names, self.params)
        self.count = len(self.params)
        self.tensors = <Tensor*>calloc(self.count + 1, sizeof(Tensor))
        if self.tensors is NULL:
            raise MemoryError
        for i in range(self.count):
            self.tensors[i].index = i
            self.record(&self.tensors[i], self.params[i], self.beside[i])
        self.mixed = True
        self.own()

    def __dealloc__(self):
        free(self.tensors)
        free(self.owned)
        free(self.given)

    cdef record(self, Tensor* t, cnp.ndarray p, own):
        """Write down where a parameter is, and what stands beside it."""
        cdef int j
        t.p, t.descr, t.n = <void*>p, <void*>cnp.PyArray_DESCR(p), cnp.PyArray_SIZE(p)
        t.kind[P] = stored(p)
        t.f64 = t.kind[P] == F64
        t.rows = rows_of(p)
        checks.beside(own, self.narrays - FIRST_STATE, self.names[t.index])
        self.place(t, P, p)
        t.kind[G], t.size[G] = t.kind[P], t.size[P]
        for j, state in enumerate(own.states, FIRST_STATE):
            self.state(t, j, state)
        self.state(t, EMA, own.ema)
        self.state(t, SHADOW, own.shadow)
        self.state(t, REST, own.remainder)
        if t.kind[P] == BF16 and t.data[EMA] is NULL and t.data[SHADOW] is NULL:
            t.in_rule = BF16_P
        kinds = {t.kind[j] for j in range(FIRST_STATE, self.narrays) if t.data[j] is not NULL}
        if kinds == {BF16} or (not kinds and t.in_rule):
            t.in_rule |= BF16_STATES
        if own.row_decay is not None:
            checks.row_decay(own.row_decay, t.rows, f"row_decay of {self.names[t.index]}")
            self.sparse = True
            t.decayed = <double*>cnp.PyArray_DATA(own.row_decay)
        self.total += t.n
        t.leaf = self.nleaves
        self.nleaves += (t.n + LEAF - 1) // LEAF
        self.bytes += t.n * t.size[G]
        self.needs_codec |= t.needs_codec

    cdef state(self, Tensor* t, int j, a):
        """Write down a state, where it is on. It is not checked again: nobody resizes an array that pyopt made."""
        if a is None:
            return
        cdef int kind = stored(a) if isinstance(a, cnp.ndarray) else -1
        cdef bint fits = kind >= 0 and (kind == types[t.kind[P]].remainder if j == REST else types[kind].state[t.f64])
        if not fits or not alike(a, <cnp.ndarray>t.p) or not a.flags.writeable:
            checks.reject(a, <object>t.p, f"{self.roles[j]} of {self.names[t.index]}", self.allowed(t, j), True)
        t.kind[j] = kind
        self.place(t, j, a)

    cdef tuple allowed(self, const Tensor* t, int j):
        """Return the names of the types that an array may be stored in."""
        cdef str role = "remainder" if j == REST else "grad" if j == G else "state"
        rows = codecs.allowed(role, None if j == REST else "f64" if t.f64 else "f32")
        return tuple([row.name for row in rows])

    cdef place(self, Tensor* t, int j, cnp.ndarray a):
        t.data[j], t.size[j] = <char*>cnp.PyArray_DATA(a), cnp.PyArray_ITEMSIZE(a)
        self.bytes += t.n * t.size[j]
        t.needs_codec |= t.kind[j] != native(t) and j != SHADOW
        t.block = max(t.block, types[t.kind[j]].block)

    cdef whole_blocks(self, const Tensor* t):
        """Raise where a step by rows would split what is encoded together."""
        cdef Py_ssize_t length = t.n // max(1, t.rows)
        if length % t.block:
            raise ValueError(f"{self.names[t.index]} has rows of {length} elements, and a state in blocks of {t.block}: "
                             "a step by rows needs rows of whole blocks")

    cdef own(self):
        """Sort the memory of parameters and states, and refuse overlaps."""
        cdef Py_ssize_t i, n = 0
        cdef int j
        self.owned = <Interval*>calloc(self.count * MAX_ARRAYS + 1, sizeof(Interval))
        self.given = <Interval*>calloc(self.count + 1, sizeof(Interval))
        if self.owned is NULL or self.given is NULL:
            raise MemoryError
        for i in range(self.count):
            for j in range(MAX_ARRAYS):
                if j != G and self.tensors[i].data[j] is not NULL and self.tensors[i].n > 0:
                    self.owned[n] = self.interval(i, j)
                    n += 1
        self.nowned = n
        self.sort(self.owned, n)

    cdef Interval interval(self, Py_ssize_t i, int j) noexcept:
        cdef uintptr_t low = <uintptr_t>self.tensors[i].data[j]
        return Interval(low, low + self.tensors[i].n * self.tensors[i].size[j], i, j)

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
            if self.tensors[i].data[G] is NULL or self.tensors[i].n == 0:
                continue
            x = self.interval(i, G)
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

    cdef apart_from(self, cnp.ndarray a, Py_ssize_t i):
        """Refuse an array that shares memory with what a step writes."""
        cdef uintptr_t low = <uintptr_t>cnp.PyArray_DATA(a)
        cdef Interval x = Interval(low, low + cnp.PyArray_NBYTES(a), i, G)
        cdef Py_ssize_t k
        for k in range(self.nowned):
            if self.owned[k].low < x.high and x.low < self.owned[k].high:
                self.clash(self.owned[k], x)

    cdef clash(self, Interval a, Interval b):
        raise ValueError(f"{self.label(a)} and {self.label(b)} share memory: "
                         "an update in place needs arrays of their own")

    cdef label(self, Interval x):
        if x.array == P:
            return self.names[x.tensor]
        return f"the {'gradient' if x.array == G else self.roles[x.array]} of {self.names[x.tensor]}"

    cdef present(self, tuple grads):
        """Note which tensors have a gradient in this step; where it is, ``check`` finds out."""
        cdef Py_ssize_t i
        cdef Tensor* t
        cdef bint there
        if len(grads) != self.count:
            checks.count(grads, self.count)
        for i in range(self.count):
            t = &self.tensors[i]
            there = PyTuple_GET_ITEM(<PyObject*>grads, i) is not <PyObject*>None
            if there != (t.data[G] is not NULL):
                t.data[G] = t.data[P] if there else NULL
                self.mixed, self.separate = True, False

    cdef check(self, tuple grads, bint zero):
        """Check every array; on return data[G] of each tensor points to its gradient. Nothing else has changed."""
        cdef Py_ssize_t i
        cdef int kind, size
        cdef bint moved = not self.separate
        cdef Tensor* t
        cdef char* data
        cdef PyObject* g                        # borrowed: a reference more on each array would write to its memory
        self.separate = False                   # until all is found well
        for i in range(self.count):
            t = &self.tensors[i]
            if i + 8 < self.count:              # objects lie anywhere, and a large step pushes them out of the caches
                prefetch(self.tensors[i + 8].p, 0, 80)
                prefetch(PyTuple_GET_ITEM(<PyObject*>grads, i + 8), 0, 80)
            self.same(t)
            data = NULL
            g = PyTuple_GET_ITEM(<PyObject*>grads, i)
            if g is not <PyObject*>None:
                if not PyArray_CheckExact(g) and isinstance(<object>g, View):
                    kind = self.viewed(t, <tuple>g, zero, &data)
                    size = types[kind].size
                else:
                    if not PyArray_CheckExact(g):
                        if not isinstance(<object>g, cnp.ndarray) or checks.masked(<object>g):
                            self.refuse(t, <object>g, False)
                    kind = stored(<cnp.ndarray>g)
                    if (not fits_gradient(t, kind) or not alike(<cnp.ndarray>g, <cnp.ndarray>t.p)
                            or zero and not cnp.PyArray_FLAGS(<cnp.ndarray>g) & cnp.NPY_ARRAY_WRITEABLE):
                        self.refuse(t, <object>g, zero)
                    data, size = <char*>cnp.PyArray_DATA(<cnp.ndarray>g), cnp.PyArray_ITEMSIZE(<cnp.ndarray>g)
                if kind != t.kind[G]:
                    moved = True
                    t.kind[G], t.size[G] = kind, size
            if data != t.data[G]:
                moved = True
                t.data[G] = data
                t.aliases_4k = self.aliases_4k(t)
        if moved or zero and not self.zeroed:
            self.apart(zero)
        self.separate, self.zeroed = True, zero

    cdef refuse(self, const Tensor* t, g, bint zero):
        """Raise the error that says why a gradient does not go with its parameter."""
        checks.reject(g, <object>t.p, f"the gradient of {self.names[t.index]}", self.allowed(t, G), zero)

    cdef int viewed(self, const Tensor* t, tuple v, bint zero, char** data) except -1:
        """Return the storage type of a gradient that comes as a View, and where it lies."""
        cdef uintptr_t address = v[0]
        cdef int kind = number_of(v[3]) if v[3] in codecs.BY_SHORT else -1
        if (not fits_gradient(t, kind) or address % types[kind].size or zero and v[4]
                or not alike_view(v[1], v[2], <cnp.ndarray>t.p)):
            checks.reject_view(v, <object>t.p, f"the gradient of {self.names[t.index]}", self.allowed(t, G), zero)
        data[0] = <char*>address
        return kind

    cdef bint aliases_4k(self, const Tensor* t) noexcept:
        """Whether each read of g would wait for a write to another array; see pyopt/arrays/backend.py, placed_like."""
        cdef int j
        for j in range(self.narrays):
            if j != G and t.data[j] is not NULL and ((t.data[j] - t.data[G] - 1) & 4095) < 256:
                return True
        return False

    cdef inline same(self, const Tensor* t):
        """Raise where a parameter is no longer what it was when the plan was made."""
        cdef int writeable = cnp.NPY_ARRAY_WRITEABLE | cnp.NPY_ARRAY_ALIGNED
        cdef cnp.ndarray p = <cnp.ndarray>t.p
        if (<char*>cnp.PyArray_DATA(p) != t.data[P] or size_of(p) != t.n
                or <void*>cnp.PyArray_DESCR(p) != t.descr and stored(p) != t.kind[P]
                or cnp.PyArray_FLAGS(p) & writeable != writeable or not dense(p)):
            checks.changed(p, self.names[t.index])
        if t.row:
            self.same_rows(t)

    cdef inline same_rows(self, const Tensor* t):
        """Raise where a parameter no longer has the rows that it had when the plan was made."""
        if rows_of(<cnp.ndarray>t.p) != t.rows:
            checks.changed(<cnp.ndarray>t.p, self.names[t.index])
