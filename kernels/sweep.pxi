# One tile function over the rows of a few arrays, without a plan: losses, values of penalties, layers.
cdef struct Sweep:
    tile_t run, leaf
    char* data[MAX_ARRAYS]
    Py_ssize_t stride[MAX_ARRAYS]   # bytes from one row to the next; 0: the whole array for every row
    Py_ssize_t sizes[MAX_SIZES]
    int arrays, first
    scalars_t k
    double* terms                   # a row's term each, where there is room for them


cdef double part(const Sweep* c, Py_ssize_t start, Py_ssize_t n, bint folds) noexcept nogil:
    cdef scratch_t terms
    cdef void* a[MAX_ARRAYS + 1]
    cdef Py_ssize_t sizes[MAX_SIZES]
    cdef double total = 0
    cdef int j
    cdef uint64_t mode = ieee_mode()
    for j in range(c.arrays):
        a[j] = c.data[j] + start * c.stride[j]
    a[c.arrays] = c.terms + start if c.terms is not NULL else terms.d
    for j in range(MAX_SIZES):
        sizes[j] = c.sizes[j]
    sizes[0] = n
    if c.first:
        sizes[c.first] = sizes[c.first] + start
    c.run(a, &c.k, sizes)
    if folds:
        a[0] = a[c.arrays]
        a[1] = &total
        c.leaf(a, NULL, sizes)
    restore_mode(mode)
    return total


cdef double fold(double* x, Py_ssize_t n) noexcept nogil:
    """Add leaves in pairs until one is left; an odd one is carried up."""
    cdef Py_ssize_t i
    while n > 1:
        for i in range(n // 2):
            x[i] = x[2 * i] + x[2 * i + 1]
        if n & 1:
            x[n // 2] = x[n - 1]
        n = (n + 1) // 2
    return x[0]


def sweep(dict table, str name, tuple arrays, tuple strides, tuple sizes, tuple scalars=(), bint total=False,
          Py_ssize_t block=0, int first=0):
    """Run tile ``name`` over ``sizes[0]`` rows of checked arrays of one dtype; return the sum of its terms if asked.

    ``strides[j]`` are the bytes of array j from one row to the next, 0 where every row sees the whole array. The sum
    has the bits of ``norms.tree_sum`` for any number of threads. A call of the tile gets ``block`` rows at most (0: some
    thousand elements); where ``first`` is not 0, ``sizes[first]`` counts rows: those before the block are added to it.
    """
    global active
    cdef Sweep c
    cdef Py_ssize_t i, j, rows = sizes[0], blocks, leaves = (rows + LEAF - 1) // LEAF
    cdef double* partial
    cdef double result = 0
    cdef int threads
    cdef bint wide, f64 = cnp.PyArray_TYPE(arrays[0]) == cnp.NPY_DOUBLE
    if len(arrays) > MAX_ARRAYS or len(sizes) > MAX_SIZES:
        raise ValueError(f"{len(arrays)} arrays, {len(sizes)} sizes: a tile takes {MAX_ARRAYS} and {MAX_SIZES} at most")
    memset(&c, 0, sizeof(Sweep))
    c.first = first
    c.run, c.leaf = tile_of(table, name, f64), tile_of(table, "norms.leaf", f64)
    c.arrays = len(arrays)
    for j in range(c.arrays):
        c.data[j] = <char*>cnp.PyArray_DATA(arrays[j])
        c.stride[j] = strides[j]
    for j in range(len(sizes)):
        c.sizes[j] = sizes[j]
    fill(&c.k, scalars, f64)
    wide = len(sizes) > 1 or block > 0          # long rows: smaller blocks, so that few of them are still shared out
    if block == 0:
        block = max(1, min(<Py_ssize_t>LEAF, 16384 // max(1, <Py_ssize_t>sizes[1]))) if wide else LEAF
    blocks = (rows + block - 1) // block
    partial = <double*>calloc((rows if wide and total else 0) + leaves + 1, sizeof(double))
    if partial is NULL:
        raise MemoryError
    if wide and total:
        c.terms = partial + leaves
    active += 1
    threads = claim(cnp.PyArray_SIZE(arrays[0]))
    with nogil:
        if threads == 1:
            for i in range(blocks):
                result = part(&c, i * block, min(block, rows - i * block), total and not wide)
                if not wide:
                    partial[i] = result
        else:
            for i in prange(blocks, num_threads=threads, schedule="static"):
                if wide:
                    part(&c, i * block, min(block, rows - i * block), False)
                else:
                    partial[i] = part(&c, i * block, min(block, rows - i * block), total)
        if total and wide:
            for i in range(leaves):
                fold_leaf(&c, i * LEAF, min(<Py_ssize_t>LEAF, rows - i * LEAF), &partial[i])
        result = fold(partial, leaves) if total else 0
    active -= 1
    free(partial)
    return result


cdef void fold_leaf(const Sweep* c, Py_ssize_t start, Py_ssize_t n, double* out) noexcept nogil:
    cdef void* a[2]
    a[0] = c.terms + start
    a[1] = out
    c.leaf(a, NULL, &n)
