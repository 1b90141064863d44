# What an array is, found out in C at every step; checks.py says it in words.
cdef Type types[MAX_TYPES]


cdef int number_of(str short) except -1:
    """Return the number of a storage type, as Tensor.kind has it."""
    return codecs.TYPES.index(codecs.BY_SHORT[short])


cdef int take_types() except -1:
    """Fill in `types`."""
    cdef int kind, f64
    cdef Type* x
    if len(codecs.TYPES) > MAX_TYPES:
        raise ImportError(f"{len(codecs.TYPES)} storage types: at most {MAX_TYPES} are possible")
    for kind in range(MAX_TYPES):
        types[kind].number = -1
    for kind, row in enumerate(codecs.TYPES):
        if row.block > MAX_BLOCK or row.block & (row.block - 1):
            raise ImportError(f"{row.name}: blocks of {row.block}: must be a power of two, at most {MAX_BLOCK}")
        x = &types[kind]
        x.block, x.size = row.block, row.size
        x.number = -1 if row.package else row.dtype.num
        x.remainder = number_of(row.remainder) if row.remainder else -1
        x.param, x.needs_codec = "param" in row.holds, row.real and not row.native
        for f64, real in enumerate(("f32", "f64")):
            x.grad[f64], x.state[f64] = (row in codecs.allowed(role, real) for role in ("grad", "state"))
    return 0


take_types()
# Those that the engine knows by name: it computes in two, and has forms of the rules for the third.
cdef int F64 = number_of("f64"), F32 = number_of("f32"), BF16 = number_of("bf16")


cdef inline Py_ssize_t size_of(cnp.ndarray a) noexcept:
    cdef Py_ssize_t size = 1
    cdef int i
    for i in range(cnp.PyArray_NDIM(a)):
        size = size * cnp.PyArray_DIM(a, i)
    return size


cdef inline Py_ssize_t rows_of(cnp.ndarray a) noexcept:
    """How many the first index counts."""
    return cnp.PyArray_DIM(a, 0) if cnp.PyArray_NDIM(a) else 1


cdef inline bint dense(cnp.ndarray a) noexcept:
    """Whether the elements fill their memory without gaps, in whatever order of axes."""
    cdef int i, j, nd = cnp.PyArray_NDIM(a)
    cdef Py_ssize_t want = cnp.PyArray_ITEMSIZE(a)
    cdef bint found
    if cnp.PyArray_FLAGS(a) & (cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS):
        return True
    for i in range(nd):
        if cnp.PyArray_DIM(a, i) == 1:
            continue
        found = False
        for j in range(nd):
            if cnp.PyArray_STRIDE(a, j) == want and cnp.PyArray_DIM(a, j) > 1:
                want = want * cnp.PyArray_DIM(a, j)
                found = True
                break
        if not found:
            return False
    return True


cdef int unusual(cnp.ndarray a):
    """Return the storage type of what `stored` does not know at once, -1 for none."""
    cdef int kind, number = cnp.PyArray_TYPE(a)
    if not cnp.PyArray_ISNOTSWAPPED(a):
        return -1
    for kind in range(MAX_TYPES):
        if types[kind].number == number:
            return kind
    if number >= NPY_USERDEF and a.dtype.name in codecs.BY_NAME:    # the first array of a package's dtype
        kind = codecs.TYPES.index(codecs.BY_NAME[a.dtype.name])
        types[kind].number = number
        return kind
    return -1


cdef inline int stored(cnp.ndarray a):
    """Return the storage type of `a`, -1 for none."""
    if <void*>cnp.PyArray_DESCR(a) == <void*>float32:
        return F32
    return unusual(a)


cdef inline bint fits_gradient(const Tensor* t, int kind) noexcept:
    """Whether the gradient of a tensor may be stored so: in a type that its compute type keeps all bits of."""
    return kind >= 0 and types[kind].grad[t.f64]


cdef inline bint alike(cnp.ndarray a, cnp.ndarray p) noexcept:
    """Whether `a` has the shape of `p`, lies in memory in the same order, and is aligned."""
    cdef int i, nd = cnp.PyArray_NDIM(p)
    cdef Py_ssize_t mine = cnp.PyArray_ITEMSIZE(a), its = cnp.PyArray_ITEMSIZE(p)
    if cnp.PyArray_NDIM(a) != nd or not cnp.PyArray_FLAGS(a) & cnp.NPY_ARRAY_ALIGNED:
        return False
    for i in range(nd):
        if cnp.PyArray_DIM(a, i) != cnp.PyArray_DIM(p, i):
            return False
    for i in range(nd):
        if cnp.PyArray_STRIDE(a, i) * its != cnp.PyArray_STRIDE(p, i) * mine and cnp.PyArray_DIM(p, i) > 1:
            return size_of(p) == 0
    return True


cdef bint alike_view(tuple shape, tuple strides, cnp.ndarray p) except -1:
    """Whether an array of these shape and strides, in elements, lies in memory as `p` does."""
    cdef int i, nd = cnp.PyArray_NDIM(p)
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(p), length, stride
    if len(shape) != nd or len(strides) != nd:
        return False
    for i in range(nd):
        length = shape[i]
        if length != cnp.PyArray_DIM(p, i):
            return False
    for i in range(nd):
        stride = strides[i]
        if stride * size != cnp.PyArray_STRIDE(p, i) and cnp.PyArray_DIM(p, i) > 1:
            return size_of(p) == 0
    return True


def check_parameters(names, params):
    """Raise where one of the arrays cannot be updated in place."""
    cdef int writeable = cnp.NPY_ARRAY_WRITEABLE | cnp.NPY_ARRAY_ALIGNED
    cdef int kind
    cdef bint fine = len(params) > 0
    for p in params:
        if type(p) is not cnp.ndarray or not cnp.PyArray_CHKFLAGS(p, writeable) or not dense(p):
            fine = False
            break
        kind = stored(p)
        if kind < 0 or not types[kind].param:
            fine = False
            break
    if not fine:
        checks.parameters(names, params)        # finds what is wrong, or that a subclass of ndarray is all right
