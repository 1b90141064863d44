# Run one tile function per model, models in parallel: whole epochs, whose rows cannot be split among threads.
cdef enum:
    MAX_GIVEN = 16                  # arrays, and sizes

cdef struct Each:
    tile_t run
    char* data[MAX_GIVEN]
    Py_ssize_t stride[MAX_GIVEN]    # bytes from one model to the next; 0: they share the array
    Py_ssize_t sizes[MAX_GIVEN]
    int arrays
    scalars_t k


cdef void take(const Each* c, Py_ssize_t model) noexcept nogil:
    cdef void* a[MAX_GIVEN]
    cdef int j
    cdef uint64_t mode = ieee_mode()
    for j in range(c.arrays):
        a[j] = c.data[j] + model * c.stride[j]
    c.run(a, &c.k, c.sizes)
    restore_mode(mode)


def each(dict table, str name, tuple arrays, tuple strides, tuple sizes, tuple scalars, Py_ssize_t models):
    """Call tile ``name`` for every model on checked arrays of one dtype, without the GIL, a model to a thread.

    ``strides[j]`` are the bytes of array j from one model to the next.
    """
    global active
    cdef Each c
    cdef Py_ssize_t i
    cdef int threads
    cdef bint f64 = cnp.PyArray_TYPE(arrays[0]) == cnp.NPY_DOUBLE
    if len(arrays) > MAX_GIVEN or len(sizes) > MAX_GIVEN:
        raise ValueError(f"{len(arrays)} arrays, {len(sizes)} sizes: a tile takes {MAX_GIVEN} at most")
    need_stack()
    memset(&c, 0, sizeof(Each))
    c.run, c.arrays = tile_of(table, name, f64), len(arrays)
    for i in range(c.arrays):
        c.data[i] = <char*>cnp.PyArray_DATA(arrays[i])
        c.stride[i] = strides[i]
    for i in range(len(sizes)):
        c.sizes[i] = sizes[i]
    fill(&c.k, scalars, f64)
    active += 1
    threads = claim(cnp.PyArray_SIZE(arrays[0])) if models > 1 else 1
    with nogil:
        if threads == 1:
            for i in range(models):
                take(&c, i)
        else:
            for i in prange(models, num_threads=threads, schedule="static"):
                take(&c, i)
    active -= 1
