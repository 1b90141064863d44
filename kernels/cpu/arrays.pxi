# What an array is, found out in C at every step; checks.py says it in words.
cdef tuple SHORT = tuple(codecs.SHORT.values())      # the storage types in the names of tiles, in the order of the enum
cdef int[RAW + 1] SIZE = [8, 4, 2, 2, 2]             # bytes of an element


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


cdef int bfloat16 = -1                          # its number in NumPy, when an array of it has been seen


cdef int unusual(cnp.ndarray a):
    """Return the storage type of what `stored` does not know at once: bfloat16 and dtypes that were unpickled."""
    global bfloat16
    cdef int number = cnp.PyArray_TYPE(a)
    if not cnp.PyArray_ISNOTSWAPPED(a):
        return -1
    if number == cnp.NPY_FLOAT:
        return F32
    if number == cnp.NPY_DOUBLE:
        return F64
    if number == NPY_HALF:
        return F16
    if number == cnp.NPY_USHORT:
        return RAW
    if bfloat16 < 0 and number >= NPY_USERDEF and a.dtype.name == "bfloat16":
        bfloat16 = number
    return BF16 if number == bfloat16 else -1


cdef inline int stored(cnp.ndarray a):
    """Return the storage type of `a`, -1 for none."""
    if <void*>cnp.PyArray_DESCR(a) == <void*>float32:
        return F32
    return unusual(a)


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
        if kind < 0 or kind == RAW:
            fine = False
            break
    if not fine:
        checks.parameters(names, params)        # finds what is wrong, or that a subclass of ndarray is all right
