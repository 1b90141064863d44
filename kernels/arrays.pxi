# What an array is, found out in C at every step; checks.py says it in words.
cdef inline Py_ssize_t size_of(cnp.ndarray a) noexcept:
    cdef Py_ssize_t size = 1
    cdef int i
    for i in range(cnp.PyArray_NDIM(a)):
        size = size * cnp.PyArray_DIM(a, i)
    return size


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


cdef inline bint native(cnp.ndarray a, int kind) noexcept:
    """Whether `a` has the type `kind` in the byte order of this machine. An unpickled dtype is an object of its own."""
    return cnp.PyArray_TYPE(a) == kind and cnp.PyArray_ISNOTSWAPPED(a)


cdef inline bint alike(cnp.ndarray a, cnp.ndarray p) noexcept:
    """Whether `a` has the shape, the dtype and the strides of `p`, and is aligned."""
    cdef int i, nd = cnp.PyArray_NDIM(p)
    if cnp.PyArray_NDIM(a) != nd or not cnp.PyArray_FLAGS(a) & cnp.NPY_ARRAY_ALIGNED:
        return False
    if cnp.PyArray_DESCR(a) is not cnp.PyArray_DESCR(p) and not native(a, cnp.PyArray_TYPE(p)):
        return False
    for i in range(nd):
        if cnp.PyArray_DIM(a, i) != cnp.PyArray_DIM(p, i):
            return False
    for i in range(nd):
        if cnp.PyArray_STRIDE(a, i) != cnp.PyArray_STRIDE(p, i) and cnp.PyArray_DIM(p, i) > 1:
            return size_of(p) == 0
    return True


def check_parameters(names, params):
    """Raise where one of the arrays cannot be updated in place; return whether all are float64."""
    cdef int writeable = cnp.NPY_ARRAY_WRITEABLE | cnp.NPY_ARRAY_ALIGNED
    cdef int kind = 0
    cdef bint fine = len(params) > 0
    for p in params:
        if type(p) is not cnp.ndarray or not cnp.PyArray_CHKFLAGS(p, writeable) or not dense(p):
            fine = False
            break
        kind = kind or cnp.PyArray_TYPE(p)
        if not native(p, kind) or kind != cnp.NPY_FLOAT and kind != cnp.NPY_DOUBLE:
            fine = False
            break
    if not fine:
        checks.parameters(names, params)        # finds what is wrong, or that a subclass of ndarray is all right
    return cnp.PyArray_TYPE(params[0]) == cnp.NPY_DOUBLE
