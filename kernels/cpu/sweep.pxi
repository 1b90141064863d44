# One tile function over the rows of a few arrays, without a plan: losses, values of penalties, layers.
cdef enum:
    MAX_SPREAD = 2                  # arrays of a sweep that are repeated or stretched
    MAX_CODED = 3                   # that are of 16 bits, where rows have one element
    ROOM = 1024                     # elements in the largest tile
    TERMS = ROOM + 40               # terms of a tile, those left over from the tile before, and some for alignment

cdef struct Sweep:
    tile_t run, leaf, lanes, weigh, spread, rounded, encode
    tile_t decode[MAX_ARRAYS]       # of what is stored in 16 bits; else NULL
    char* data[MAX_ARRAYS]
    Py_ssize_t stride[MAX_ARRAYS]   # bytes from one row to the next; 0: the whole array for every row
    Py_ssize_t bytes[MAX_ARRAYS]    # in all
    Py_ssize_t each[MAX_ARRAYS]     # where not 0: row i sees a[i // each % period]
    Py_ssize_t period[MAX_ARRAYS]
    Py_ssize_t sizes[MAX_SIZES]
    int arrays, itemsize            # arrays: without the weights, which stand behind them
    int needs_codec                       # arrays of 16 bits
    int out                         # the one among them that the tile writes; -1: none
    int first                       # the size to which the rows before are added; 0: none
    bint total, weighed
    Py_ssize_t tile, ahead
    scalars_t k
    char* values                    # takes the terms, rounded, where there is a place for them
    Py_ssize_t value_size
    double* terms                   # a row's term each, where rows are long
    Py_ssize_t chunk                # of long rows, as many as are decoded at a time
    char* rooms                     # for them, one for each thread
    Py_ssize_t room                 # bytes of one
    scalar_t unit


cdef void put_arrays(const Sweep* c, Py_ssize_t start, Py_ssize_t n, char* scratch, void** a) noexcept nogil:
    """Point `a` to the rows from `start` on; what is repeated or stretched is written out in scratch."""
    cdef Py_ssize_t sizes[4]
    cdef void* pair[2]
    cdef int j
    for j in range(c.arrays + c.weighed):
        if c.each[j]:
            sizes[0], sizes[1], sizes[2], sizes[3] = c.each[j], c.period[j], start, n
            pair[0] = c.data[j]
            pair[1] = scratch
            c.spread(pair, NULL, sizes)
            a[j] = scratch
            scratch += ROOM * c.itemsize
        else:
            a[j] = c.data[j] + start * c.stride[j]
            if c.ahead and c.stride[j]:
                prefetch(a[j], c.ahead * c.stride[j], n * c.stride[j])
    unpack(c, start, n, scratch, a)


cdef inline Py_ssize_t area(const Sweep* c, int j, Py_ssize_t n) noexcept nogil:
    """Bytes that n rows of a decoded array take, in whole cache lines."""
    return (n * c.stride[j] * 2 + 63) // 64 * 64


cdef void unpack(const Sweep* c, Py_ssize_t start, Py_ssize_t n, char* scratch, void** a) noexcept nogil:
    """Decode what n rows have stored in 16 bits; let `a` point there, and the tile write there."""
    cdef void* pair[2]
    cdef Py_ssize_t count
    cdef int j
    if c.needs_codec == 0:
        return
    for j in range(c.arrays):
        if c.decode[j] is not NULL:
            if j != c.out:
                count = min(n * c.stride[j], c.bytes[j] - start * c.stride[j]) // 2     # the last row may be shorter
                pair[0] = scratch
                pair[1] = a[j]
                c.decode[j](pair, &c.unit, &count)
            a[j] = scratch
            scratch += area(c, j, n)


cdef void pack(const Sweep* c, Py_ssize_t start, Py_ssize_t n, void** a) noexcept nogil:
    """Encode what the tile has written to n rows."""
    cdef void* pair[2]
    cdef Py_ssize_t stride, count
    if c.out >= 0:
        stride = c.stride[c.out]
        count = min(n * stride, c.bytes[c.out] - start * stride) // 2
        pair[0] = a[c.out]
        pair[1] = c.data[c.out] + start * stride
        c.encode(pair, NULL, &count)


cdef double flat(const Sweep* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Rows of one element: a leaf of the sum, tile by tile; the terms go to the leaf's lanes 32 at a time."""
    cdef scratch_t scratch
    cdef double lane[32]
    cdef double result = 0
    cdef double* terms = scratch.d
    cdef void* a[MAX_ARRAYS + 1]
    cdef void* some[3]
    cdef void* weights = NULL
    cdef Py_ssize_t k = start, left = 0, n, whole
    cdef int last = c.arrays - 1
    cdef uint64_t mode = ieee_mode()
    memset(lane, 0, sizeof(lane))
    while k < stop:
        n = min(c.tile, stop - k)
        if k == start and n == c.tile and c.stride[last] == c.itemsize:     # not where it is written in scratch
            n = n - (<size_t>(c.data[last] + k * c.itemsize) & 63) // c.itemsize    # the rest: on a cache line
            terms = terms + (8 - n % 8) % 8     # and their terms, behind those of this tile that are left over
        put_arrays(c, k, n, <char*>(scratch.d + TERMS), a)
        if c.weighed:
            weights = a[c.arrays]
        a[c.arrays] = terms + left
        c.run(a, &c.k, &n)
        if c.weighed:
            some[0] = a[last]
            some[1] = terms + left
            some[2] = weights
            c.weigh(some, NULL, &n)
        if c.values is not NULL:
            some[0] = terms + left
            some[1] = c.values + k * c.value_size
            c.rounded(some, NULL, &n)
        pack(c, k, n, a)
        k = k + n
        if c.total:
            left = left + n
            whole = left if k == stop else left & ~31
            some[0] = terms
            some[1] = lane
            c.lanes(some, NULL, &whole)
            left = left - whole
            memmove(terms, terms + whole, left * sizeof(double))
    if c.total:
        whole = 32
        some[0] = lane
        some[1] = &result
        c.leaf(some, NULL, &whole)
    restore_mode(mode)
    return result


cdef void long_rows(const Sweep* c, Py_ssize_t start, Py_ssize_t stop, char* room) noexcept nogil:
    """Rows of many elements: the tile itself goes through them, and the processor fetches them early enough."""
    cdef void* a[MAX_ARRAYS + 1]
    cdef Py_ssize_t sizes[MAX_SIZES]
    cdef int j
    cdef uint64_t mode = ieee_mode()
    for j in range(MAX_SIZES):
        sizes[j] = c.sizes[j]
    while start < stop:
        for j in range(c.arrays):
            a[j] = c.data[j] + start * c.stride[j]
        a[c.arrays] = c.terms + start
        sizes[0] = min(c.chunk, stop - start)
        if c.first:
            sizes[c.first] = c.sizes[c.first] + start
        unpack(c, start, sizes[0], room, a)
        c.run(a, &c.k, sizes)
        pack(c, start, sizes[0], a)
        start += sizes[0]
    restore_mode(mode)


cdef void pass_on(tile_t tile, void* first, void* second, Py_ssize_t n) noexcept nogil:
    cdef void* a[2]
    a[0] = first
    a[1] = second
    tile(a, NULL, &n)


cdef int describe(Sweep* c, dict table, str name, tuple arrays, tuple strides, tuple sizes, tuple scalars) except -1:
    """Fill in the tiles and the arrays; return how many arrays are repeated or stretched."""
    cdef int j, kind, spread = 0
    cdef bint f64 = cnp.PyArray_TYPE(arrays[0]) == cnp.NPY_DOUBLE
    if len(arrays) > MAX_ARRAYS or len(sizes) > MAX_SIZES:
        raise ValueError(f"{len(arrays)} arrays, {len(sizes)} sizes: a tile takes {MAX_ARRAYS} and {MAX_SIZES} at most")
    c.run = tile_of(table, name, f64)
    c.leaf, c.lanes = tile_of(table, "reductions.leaf", f64), tile_of(table, "reductions.lanes", f64)
    c.weigh, c.spread = tile_of(table, "loss.apply_sample_weight", f64), tile_of(table, "loss.broadcast_rows", f64)
    c.itemsize = 8 if f64 else 4
    put(&c.unit, 1, False)
    for j in range(len(arrays)):
        c.data[j] = <char*>cnp.PyArray_DATA(arrays[j])
        c.bytes[j] = cnp.PyArray_NBYTES(arrays[j])
        kind = stored(arrays[j])
        if kind >= 0 and types[kind].needs_codec:
            c.decode[j] = tile_of(table, "codecs.decode_" + codecs.TYPES[kind].short, False)
            c.needs_codec += 1
            if j == c.out:
                c.encode = tile_of(table, "codecs.encode_" + codecs.TYPES[kind].short, False)
        if isinstance(strides[j], tuple):
            c.each[j], c.period[j] = strides[j]
            spread += 1
        else:
            c.stride[j] = strides[j]
    for j in range(len(sizes)):
        c.sizes[j] = sizes[j]
    fill(&c.k, scalars, f64)
    return spread


cdef int take_values(Sweep* c, dict table, cnp.ndarray values) except -1:
    """Let the terms be rounded to an array."""
    c.rounded = tile_of(table, "codecs.encode_" + codecs.TYPES[stored(values)].short, True)
    c.values, c.value_size = <char*>cnp.PyArray_DATA(values), cnp.PyArray_ITEMSIZE(values)
    return 0


cdef int make_rooms(Sweep* c, int threads) except -1:
    """Take memory for long rows of 16 bits: as much for each thread as a tile has elsewhere, or one row."""
    cdef int j
    cdef Py_ssize_t longest = 2
    for j in range(c.arrays):
        if c.decode[j] is not NULL:
            longest = max(longest, c.stride[j])
    c.chunk = max(1, ROOM * 2 // longest)
    for j in range(c.arrays):
        if c.decode[j] is not NULL:
            c.room += area(c, j, c.chunk)
    c.room += 64                                # a line between the threads, and to start on one
    c.rooms = <char*>malloc(threads * c.room)
    if c.rooms is NULL:
        raise MemoryError
    return 0


cdef inline void one_block(const Sweep* c, double* partial, Py_ssize_t i, Py_ssize_t rows, Py_ssize_t block,
                           bint wide, int thread) noexcept nogil:
    cdef char* room = NULL
    if wide:
        if c.rooms is not NULL:
            room = <char*>((<uintptr_t>c.rooms + thread * c.room + 63) // 64 * 64)
        long_rows(c, i * block, min(rows, (i + 1) * block), room)
    else:
        partial[i] = flat(c, i * block, min(rows, (i + 1) * block))


cdef void run_blocks(const Sweep* c, double* partial, Py_ssize_t rows, Py_ssize_t block, int threads,
                     bint wide) noexcept nogil:
    """Share the rows out, a block at a time; the sum of each block of short rows goes to ``partial``."""
    cdef Py_ssize_t i, blocks = (rows + block - 1) // block
    if threads == 1:                            # without a parallel region, which costs more than a small sweep
        for i in range(blocks):
            one_block(c, partial, i, rows, block, wide, 0)
    else:
        for i in prange(blocks, num_threads=threads, schedule="static"):
            one_block(c, partial, i, rows, block, wide, threadid())


def sweep(dict table, str name, tuple arrays, tuple strides, tuple sizes, tuple scalars=(), bint total=False,
          bint weighed=False, values=None, Py_ssize_t block=0, int first=0,
          Py_ssize_t work=0, int out=-1):
    """Run tile ``name`` over ``sizes[0]`` rows of checked arrays of one dtype; return the sum of its terms if asked.

    Arrays of bfloat16 and float16 are decoded for the tile, which sees float32. If the tile writes one of them, ``out``
    is its number, and what was written is encoded.

    ``strides[j]`` are the bytes of array j from one row to the next, 0 where every row sees the whole array, or a pair
    (each, period) where row i sees ``a[i // each % period]``. Where ``weighed``, the last array has a weight for each
    row, by which the tile's last array, a gradient, and the terms are multiplied. ``values`` takes the terms, rounded.
    Pairs and weights are for rows of one element. A call of the tile gets ``block`` rows at most (0: some thousand
    elements); where ``first`` is not 0, ``sizes[first]`` counts rows: those before the block are added to it. ``work``
    says how many elements it is worth for the choice of threads, where that is more than there are. The sum has the
    bits of ``reductions.tree_sum`` for any number of threads.
    """
    global active
    cdef Sweep c
    cdef Py_ssize_t i, rows = sizes[0], row, leaves = (rows + LEAF - 1) // LEAF
    cdef double* partial
    cdef double result = 0
    cdef int threads
    cdef bint wide = len(sizes) > 1 or block > 0
    need_stack()
    memset(&c, 0, sizeof(Sweep))
    c.total, c.weighed, c.arrays, c.out = total, weighed, len(arrays) - weighed, out
    i = describe(&c, table, name, arrays, strides, sizes, scalars)
    if i > MAX_SPREAD or wide and (i or weighed) or not wide and c.needs_codec > MAX_CODED:
        raise ValueError(f"{i} arrays with a pair for a stride, weighed={weighed}, {c.needs_codec} arrays of 16 bits: more "
                         "than this sweep can do")
    if out >= 0 and c.encode is NULL:
        c.out = -1
    work = max(work, cnp.PyArray_SIZE(arrays[0]))
    row = 0                                     # bytes of a row
    for i in range(c.arrays):
        row += c.stride[i]
    c.tile = 256 if c.needs_codec else 128 if rows * row > 2 << 20 else ROOM
    c.ahead = 256 if rows * row > 2 << 20 else 0
    c.first, c.chunk = first, max(1, rows)
    if values is not None:
        take_values(&c, table, values)
    if not wide:
        block = LEAF
    elif block == 0:                            # long rows: smaller blocks, so that few of them are still shared out
        block = max(1, min(<Py_ssize_t>LEAF, 16384 // max(1, c.sizes[1])))
    if wide and c.needs_codec:
        make_rooms(&c, claim(work))
    partial = <double*>calloc((rows if wide else 0) + leaves + 1, sizeof(double))      # long_rows names each row's place
    if partial is NULL:
        free(c.rooms)
        raise MemoryError
    c.terms = partial + leaves
    active += 1
    threads = claim(work)
    with nogil:
        run_blocks(&c, partial, rows, block, threads, wide)
        if wide and c.values is not NULL:
            pass_on(c.rounded, c.terms, c.values, rows)
        if wide and total:
            for i in range(leaves):
                pass_on(c.leaf, c.terms + i * LEAF, &partial[i], min(<Py_ssize_t>LEAF, rows - i * LEAF))
        result = pairwise_sum(partial, leaves) if total else 0
    active -= 1
    free(partial)
    free(c.rooms)
    return result


def sweeps(dict table, list calls, *notes):
    """Sweep with each of these arguments, then update dicts, each given with its changes: as a whole, for Ctrl-C."""
    for call in calls:
        sweep(table, *call)
    for owner, changes in notes:
        (<dict>owner).update(<dict>changes)
