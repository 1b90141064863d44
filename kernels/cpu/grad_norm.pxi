# The norm of the gradients, and what it limits.
cdef double clip_factor(double norm, double largest) noexcept:
    cdef double factor = largest / (norm + 1e-6)
    return 1 if largest == INFINITY or factor > 1 else factor


cdef void rescale(Work* w, double factor) noexcept nogil:
    """Let the norm's limit scale the gradients as well."""
    put(&w.scale, w.factor * factor, w.f64)
    w.scaled = w.max_norm != INFINITY or not one(&w.scale, w.f64)


cdef bint all_finite(const StepContext* c, const Tensor* t) noexcept nogil:
    """Look at each element: the squares of finite float64 numbers may overflow."""
    cdef Py_ssize_t k = 0, n
    cdef double found = 0
    cdef scratch_t decoded, terms
    cdef void* a[2]
    while k < t.n and found == 0:
        n = min(<Py_ssize_t>LEAF, t.n - k)
        load(c, t, G, k, n, decoded.d)
        a[0], a[1] = decoded.d, terms.d
        c.of[t.f64].nonfinite(a, NULL, &n)
        a[0], a[1] = terms.d, &found
        c.leaf(a, NULL, &n)
        k = k + n
    return found == 0


cdef class GradNorm:
    """The norms of the gradients of a list, and the limits that they have."""
    cdef TensorList list
    cdef WorkTable works
    cdef double* partial            # the sum of the squares of each leaf, and as much room

    def __cinit__(self, TensorList list, WorkTable works):
        self.list, self.works = list, works

    def __dealloc__(self):
        free(self.partial)

    cdef measure(self, const StepContext* c, int threads):
        """Read the gradients once: the sum of the squares of each leaf."""
        if self.partial is NULL:
            self.partial = <double*>calloc(2 * self.list.nleaves + 1, sizeof(double))
            if self.partial is NULL:
                raise MemoryError
        measure_all(c, self.list, self.works.works, self.partial, NULL, threads)

    cdef double folded(self, Py_ssize_t first, Py_ssize_t count) noexcept:
        """Return the sum of some leaves, which stay as they are."""
        return folded(self.partial + first, count, self.partial + self.list.nleaves)

    cdef bint finite(self, const StepContext* c, double total) noexcept:
        """Whether all gradients are finite."""
        cdef Py_ssize_t i
        if total - total == 0:
            return True
        for i in range(self.list.count):
            if self.list.tensors[i].data[G] is not NULL and not all_finite(c, &self.list.tensors[i]):
                return False
        return True

    cdef double limit(self, const StepContext* c, double max_norm, int threads) except? -1:
        """Return the norm of the gradients, and set what each is multiplied by."""
        cdef Py_ssize_t i
        cdef Tensor* t
        cdef Work* works = self.works.works
        cdef Work* w
        cdef double norm, factor, own
        self.measure(c, threads)
        norm = sqrt(self.folded(0, self.list.nleaves))
        for i in range(self.works.size):
            if self.works.counts[i].given:      # the scale of the loss is the same for all
                norm = norm * fabs(works[i].factor)
                break
        factor = clip_factor(norm, max_norm)
        for i in range(self.works.size):
            if self.works.counts[i].given:
                rescale(&works[i], factor)
        for i in range(self.list.count):
            t = &self.list.tensors[i]
            w = &works[t.work]
            if t.data[G] is not NULL and w.max_norm != INFINITY:
                own = sqrt(self.folded(t.leaf, (t.n + LEAF - 1) // LEAF)) * fabs(w.factor) * factor
                put(&t.scale, w.factor * factor * clip_factor(own, w.max_norm), t.f64)
        return norm
