# What a rule makes of norms of whole tensors, before the first element is stepped.
cdef class TensorNorms:
    """The norms of each tensor and of its update that a rule needs, and its scalars with what it makes of them."""
    cdef TensorList list
    cdef WorkTable works
    cdef object rule
    cdef double* squares            # of each leaf of p, of each leaf of its update, and room to fold the leaves
    cdef scalars_t* own             # of each tensor

    def __cinit__(self, TensorList list, WorkTable works, rule):
        cdef Py_ssize_t i
        self.list, self.works, self.rule = list, works, rule
        self.squares = <double*>calloc(3 * list.nleaves + 1, sizeof(double))
        self.own = <scalars_t*>calloc(list.count + 1, sizeof(scalars_t))
        if self.squares is NULL or self.own is NULL:
            raise MemoryError
        for i in range(list.count):
            list.tensors[i].own = &self.own[i]

    def __dealloc__(self):
        free(self.squares)
        free(self.own)

    cdef measure(self, const StepContext* c, list given, int threads):
        """Set the scalars of each tensor that has a gradient; ``given`` is what the groups gave for each Work."""
        cdef Py_ssize_t i, leaves = self.list.nleaves
        cdef const Tensor* t
        measure_all(c, self.list, self.works.works, self.squares, self.squares + leaves, threads)
        for i in range(self.list.count):
            t = &self.list.tensors[i]
            if t.data[G] is not NULL:
                of = {"param_norm": self.norm(t, 0), "update_norm": self.norm(t, leaves)}
                found = self.rule.norm_scalars(given[t.work].h, *[of[name] for name in self.rule.norms])
                fill(t.own, (*given[t.work].rule, *found), t.f64)

    cdef double norm(self, const Tensor* t, Py_ssize_t first) noexcept:
        """Return the norm of a tensor whose leaves stand from ``first`` on."""
        return sqrt(folded(self.squares + first + t.leaf, (t.n + LEAF - 1) // LEAF,
                           self.squares + 2 * self.list.nleaves))
