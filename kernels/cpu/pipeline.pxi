# The step on the CPU: the stages of step.py in their order, a tile at a time.
cdef double LIFT = 18446744073709551616.0       # 2^64: see reductions.py, row_gradient


cdef inline int native(const Tensor* t) noexcept nogil:
    return F64 if t.f64 else F32


cdef inline char* at(const Tensor* t, int j, Py_ssize_t k) noexcept nogil:
    return t.data[j] + k * t.size[j]


cdef inline char* placed_like(const Tensor* t, Py_ssize_t k, char* scratch) noexcept nogil:
    """Return where scratch begins for a tile, so that it lies as states do: see pyopt/arrays/backend.py, placed_like."""
    return scratch + ((<size_t>at(t, P, k) - <size_t>scratch) & 448)


cdef inline void expect(const StepContext* c, const Tensor* t, Py_ssize_t k, Py_ssize_t n) noexcept nogil:
    """Prefetch part of p and the states."""
    cdef int j
    for j in range(c.arrays):
        if j != G and t.data[j] is not NULL:
            prefetch_row(at(t, j, k), n * t.size[j])


cdef inline void expect_all(const StepContext* c, const Tensor* t, Py_ssize_t k, Py_ssize_t n) noexcept nogil:
    """Prefetch part of all arrays, from memory while the processor computes."""
    cdef int j
    for j in range(MAX_ARRAYS):
        if t.data[j] is not NULL:
            prefetch_row(at(t, j, k), n * t.size[j])


cdef void load(const StepContext* c, const Tensor* t, int j, Py_ssize_t k, Py_ssize_t n, void* out) noexcept nogil:
    """Decode part of an array; p with the bits that were cut off, where they are kept."""
    cdef void* a[3]
    a[0], a[1] = out, at(t, j, k)
    if j == P and t.data[REST] is not NULL:
        a[2] = at(t, REST, k)
        c.join(a, NULL, &n)
    else:
        c.of[t.f64].codec[t.kind[j]].decode(a, &c.of[t.f64].unit, &n)


cdef char* random_bits(const StepContext* c, const Tensor* t, const Work* w, TileView* x, Py_ssize_t number,
                       char* room) noexcept nogil:
    """Return the random bits of a tile for array ``number``."""
    cdef void* a[2]
    cdef Py_ssize_t sizes[5]
    sizes[0], sizes[1] = (x.k + x.n + 7) // 8 - x.k // 8, x.k // 8     # all blocks of 8 elements that the tile touches
    a[1] = room + AREA_RANDOM * c.area
    if not x.drawn:
        sizes[2], sizes[3], sizes[4] = w.seed, w.t, t.index             # of stream 0
        c.words(&a[1], NULL, sizes)
        x.drawn = True
    a[0] = a[1]
    if number:
        a[0] = room + AREA_SWAPPED * c.area
        sizes[1] = number
        c.permute_halves(a, NULL, sizes)
    return <char*>a[0] + 2 * (x.k % 8)


cdef void store(const StepContext* c, const Tensor* t, const Work* w, TileView* x, int j, void* values,
                char* room) noexcept nogil:
    """Encode a tile of an array, rounded as the group wants it."""
    cdef void* a[3]
    a[0], a[1] = values, at(t, j, x.k)
    if j == P and t.data[REST] is not NULL:
        a[2] = at(t, REST, x.k)
        c.split(a, NULL, &x.n)
    elif w.rounding == STOCHASTIC and c.of[t.f64].codec[t.kind[j]].random is not NULL:
        a[2] = random_bits(c, t, w, x, 0 if j == P else RANDOM_EMA if j == EMA else RANDOM_STATE + j - FIRST_STATE, room)
        c.of[t.f64].codec[t.kind[j]].random(a, NULL, &x.n)
    else:
        c.of[t.f64].codec[t.kind[j]].encode(a, NULL, &x.n)


cdef inline bint staged(const Tensor* t, const Work* w) noexcept nogil:
    """Whether the rule sees another gradient than the one given."""
    return w.scaled or w.clipped or w.penalty[0] is not NULL or w.slope[0] is not NULL or t.aliases_4k


cdef inline int in_rule(const StepContext* c, const Tensor* t, const Work* w) noexcept nogil:
    """Return what the rule decodes and encodes itself, where it can: what no other stage has to see in between."""
    cdef int found = 0
    if not t.in_rule and t.kind[G] != BF16:      # as in most plans: at once
        return 0
    if w.rounding != REMAINDER and w.penalty[0] is NULL and w.prox[0] is NULL and not t.lags:
        found = t.in_rule
    if t.kind[G] == BF16 and not staged(t, w):
        found |= BF16_G
    if w.rounding == STOCHASTIC:
        found = BF16_STOCHASTIC if found == BF16_ALL else found & BF16_G
    return found if c.of[t.f64].rule[found] is not NULL else 0


cdef void gather(const StepContext* c, const Tensor* t, TileView* x, char* row, char* room) noexcept nogil:
    """Let ``x`` point to the arrays in the compute type, ``row`` to the decoded row, if there is one."""
    cdef int j, to = native(t)
    for j in range(c.arrays):
        x.a[j] = at(t, j, x.k) if t.data[j] is not NULL else NULL
    if t.needs_codec:
        for j in range(c.arrays):
            if (x.a[j] is not NULL and t.kind[j] != to and j != G and (j != P or row is NULL)
                    and not x.in_rule & (BF16_P if j == P else BF16_STATES)):
                x.a[j] = room + (AREA_P if j == P else AREA_STATE + j - FIRST_STATE) * c.area
                load(c, t, j, x.k, x.n, x.a[j])
    if row is not NULL:
        x.a[P] = row
    elif t.lags:
        c.of[t.f64].decay(x.a, &t.catch_up, &x.n)


cdef inline void prepare(const StepContext* c, const Tensor* t, const Work* w, TileView* x, const scalars_t* slopes,
                         char* room) noexcept nogil:
    """The stages of the gradient: let ``x`` point to the one that the rule sees."""
    cdef const TileTable* of = &c.of[t.f64]
    cdef void* pair[2]
    cdef int i = 0
    pair[0], pair[1] = room + AREA_G * c.area, x.a[G]
    if staged(t, w) or (t.kind[G] != native(t) and not x.in_rule & BF16_G):
        # The first stage copies, the next work in place: out and in are never the same, or the compiler's alias check
        # picks a scalar loop.
        of.codec[t.kind[G]].decode(pair, &t.scale if w.max_norm != INFINITY else &w.scale, &x.n)
        x.a[G] = pair[0]
        if w.clipped:
            of.clip(pair, &w.clip, &x.n)
        pair[0], pair[1] = x.a[P], x.a[G]
        while i < MAX_PENALTIES and w.penalty[i] is not NULL:
            w.penalty[i](pair, &w.penalties[i], &x.n)
            i = i + 1
        for i in range(MAX_ROWS):
            if w.slope[i] is not NULL:
                of.add_row_gradient(pair, &slopes[i], &x.n)


cdef void before(const StepContext* c, const Tensor* t, const Work* w, TileView* x, const scalars_t* slopes,
                 char* room) noexcept nogil:
    """The stages from the gradient to the new p: all that see each element alone."""
    cdef const TileTable* of = &c.of[t.f64]
    cdef void* pair[2]
    cdef void* a[MAX_ARRAYS]
    cdef int i, j, to = native(t)
    prepare(c, t, w, x, slopes, room)
    if x.in_rule == BF16_STOCHASTIC:               # those of p and the first state, then those of two more
        x.a[c.arrays] = random_bits(c, t, w, x, 0, room)
        x.a[c.arrays + 1] = random_bits(c, t, w, x, RANDOM_STATE + 1, room) if c.arrays > FIRST_STATE + 1 else NULL
    of.rule[x.in_rule](x.a, &w.rule if t.own is NULL else t.own, &x.n)
    if w.prox[0] is not NULL:
        pair[0], pair[1] = x.a[P], room + AREA_STEPS * c.area
        if w.scalar_prox_step:
            of.fill(&pair[1], &w.steps, &x.n)
        else:
            for j in range(c.step_count):
                a[j] = pair[1] if c.step_arrays[j] < 0 else x.a[c.step_arrays[j]]
            of.steps(a, &w.steps, &x.n)
        i = 0
        while i < MAX_PENALTIES and w.prox[i] is not NULL:
            w.prox[i](pair, &w.proxes[i], &x.n)
            i = i + 1
    if t.needs_codec and not x.in_rule & BF16_STATES:
        for j in range(FIRST_STATE, c.arrays):
            if x.a[j] is not NULL and t.kind[j] != to:
                store(c, t, w, x, j, x.a[j], room)


cdef void after(const StepContext* c, const Tensor* t, const Work* w, TileView* x, char* room) noexcept nogil:
    """The stages that see the finished p."""
    cdef const TileTable* of = &c.of[t.f64]
    cdef void* pair[2]
    cdef Py_ssize_t k = x.k, n = x.n
    cdef int to = native(t)
    if t.data[EMA] is not NULL:
        pair[0], pair[1] = at(t, EMA, k), x.a[P]
        if t.kind[EMA] != to:
            pair[0] = room + AREA_EMA * c.area
            load(c, t, EMA, k, n, pair[0])
        of.ema(pair, &w.ema, &n)
        if t.kind[EMA] != to:
            store(c, t, w, x, EMA, pair[0], room)
    if t.kind[P] != to and not x.in_rule & BF16_P:
        store(c, t, w, x, P, x.a[P], room)
    if t.data[SHADOW] is not NULL:
        pair[0], pair[1] = x.a[P], at(t, SHADOW, k)
        of.codec[t.kind[SHADOW]].encode(pair, NULL, &n)
    if c.zero:
        memset(at(t, G, k), 0, n * t.size[G])


cdef double row_factor(const StepContext* c, const Tensor* t, char* row, tile_t of, const scalars_t* k,
                       double lift) noexcept nogil:
    """Let ``of`` make a factor of the sum of squares of a row that is multiplied by ``lift``."""
    cdef double squares, factor
    cdef void* a[2]
    cdef Py_ssize_t sizes[2]
    sizes[0], sizes[1] = 1, t.row
    a[0], a[1] = row, &squares
    c.of[t.f64].row_squares(a, NULL, sizes)
    squares = squares * lift * lift
    a[0], a[1] = &squares, &factor
    of(a, k, sizes)
    return factor


cdef void row_slope(const StepContext* c, const Tensor* t, char* row, tile_t of, const scalars_t* k,
                    scalars_t* out) noexcept nogil:
    """Fill in a row's slope and 1; where it overflows, the slope of the row multiplied by LIFT, and LIFT."""
    cdef double lift = 1, slope = row_factor(c, t, row, of, k, lift)
    if (slope if t.f64 else <float>slope) == INFINITY:
        lift = LIFT
        slope = row_factor(c, t, row, of, k, lift)
    if t.f64:
        out.d[0], out.d[1] = slope, lift
    else:
        out.f[0], out.f[1] = <float>slope, <float>lift


cdef void walk_row(const StepContext* c, const Tensor* t, const Work* w, Py_ssize_t start, bint ahead, char* scratch,
                   char* kept) noexcept nogil:
    """One row through all stages, twice where its norm is needed at the end: it is in a cache then, if it fits.

    ``ahead``: fetch the next row meanwhile.
    """
    cdef TileView x
    cdef char* row = at(t, P, start)
    cdef char* room
    cdef Py_ssize_t bytes = 8 if t.f64 else 4, stop = start + t.row, n = t.row
    cdef scalar_t factor
    cdef scalars_t[MAX_ROWS] slopes
    cdef int i
    cdef void* a[1]
    if t.kind[P] != native(t):
        row = kept                              # not rounded before the row is done
        load(c, t, P, start, n, row)
    if t.lags:
        a[0] = row
        c.of[t.f64].decay(a, &t.catch_up, &n)
    for i in range(MAX_ROWS):
        if w.slope[i] is not NULL:
            row_slope(c, t, row, w.slope[i], &w.slopes[i], &slopes[i])
    x.k, x.in_rule = start, 0
    while x.k < stop:
        x.n, x.drawn = min(c.tile, stop - x.k), False
        if ahead:
            expect_all(c, t, x.k + t.row, x.n)
        room = placed_like(t, x.k, scratch)
        gather(c, t, &x, row + (x.k - start) * bytes, room)
        before(c, t, w, &x, slopes, room)
        x.k = x.k + x.n
    if w.shrink is not NULL:
        put(&factor, row_factor(c, t, row, w.shrink, &w.shrinks, 1), t.f64)
        if not one(&factor, t.f64):
            a[0] = row
            c.of[t.f64].decay(a, &factor, &n)
    x.k = start
    while x.k < stop:
        x.n, x.drawn = min(c.tile, stop - x.k), False
        x.a[P] = row + (x.k - start) * bytes
        after(c, t, w, &x, placed_like(t, x.k, scratch))
        x.k = x.k + x.n


cdef void walk(const StepContext* c, const Tensor* t, const Work* w, Py_ssize_t start, Py_ssize_t stop, char* scratch,
               char* kept) noexcept nogil:
    """All stages, one tile or one row of one tensor after another."""
    cdef TileView x
    cdef char* room
    cdef int form
    cdef bint pairs
    cdef Py_ssize_t tile
    if t.row:
        while start < stop:
            walk_row(c, t, w, start, c.far and start + t.row < stop, scratch, kept)
            start = start + t.row
        return
    x.k, form = start, in_rule(c, t, w)
    pairs = form & BF16_ALL == BF16_ALL
    tile = 2 * c.tile if pairs else c.tile      # only random bits take scratch
    while x.k < stop:
        x.n, x.in_rule, x.drawn = min(tile, stop - x.k), form, False
        if x.k - start < 2 and x.n == tile and t.block == 1:    # a short first tile: the rest starts on a cache line
            x.n = x.n - (<size_t>at(t, P, x.k) & 63) // t.size[P]
        if pairs:                               # an even number from an even one on; what is left over by itself
            if x.k % 2 or x.n == 1:
                x.n, x.in_rule = 1, 0
            else:
                x.n = x.n & ~1
        if c.far and x.k + x.n + tile < stop:   # the tile after the next
            expect_all(c, t, x.k + x.n + tile, min(tile, stop - x.k - x.n - tile))
        room = placed_like(t, x.k, scratch)
        gather(c, t, &x, NULL, room)
        before(c, t, w, &x, NULL, room)
        after(c, t, w, &x, room)
        x.k = x.k + x.n


cdef void measure(const StepContext* c, const Tensor* t, const Work* w, Py_ssize_t start, Py_ssize_t n, double* squares,
                  double* updates, char* scratch, char* update) noexcept nogil:
    """Sum the squares of part of p, a leaf at most, and of where its update points. Nothing of the tensor is written.

    ``update`` is room for that of a leaf.
    """
    cdef TileView x
    cdef char* room
    cdef char* row = at(t, P, start)
    cdef Py_ssize_t bytes = 8 if t.f64 else 4, stop = start + n
    cdef void* a[2]
    if t.kind[P] != native(t):                  # in float32: there is room for both
        row = update + LEAF * bytes
        load(c, t, P, start, n, row)
    x.k, x.in_rule = start, 0
    while x.k < stop:
        x.n, x.drawn = min(c.tile, stop - x.k), False
        if c.far and x.k + 3 * c.tile <= t.n:   # the tile after the next
            expect_all(c, t, x.k + 2 * c.tile, c.tile)
        room = placed_like(t, x.k, scratch)
        gather(c, t, &x, row + (x.k - start) * bytes, room)
        prepare(c, t, w, &x, NULL, room)
        x.a[c.arrays] = update + (x.k - start) * bytes
        c.of[t.f64].direction(x.a, &w.rule, &x.n)
        x.k = x.k + x.n
    a[0], a[1] = row, squares
    c.of[t.f64].squares(a, NULL, &n)
    a[0], a[1] = update, updates
    c.of[t.f64].squares(a, NULL, &n)


cdef void run_span(const StepContext* c, const Tensor* tensors, const Work* works, Span s, int thread) noexcept nogil:
    cdef scratch_t scratch                      # on the stack of the thread that runs this span
    cdef Py_ssize_t left = s.count, start = s.start, k = s.tensor, n
    cdef uint64_t mode = ieee_mode()
    while left > 0:
        n = min(left, tensors[k].n - start)
        if tensors[k].data[G] is not NULL:
            walk(c, &tensors[k], &works[tensors[k].work], start, start + n, <char*>&scratch,
                 c.rows + thread * c.row_bytes)
        left = left - n
        start = 0
        k = k + 1
    restore_mode(mode)


cdef void catch_up(const StepContext* c, const Tensor* t, const Work* w, Py_ssize_t row) noexcept nogil:
    """Decay a row by what it has missed."""
    cdef scratch_t scratch
    cdef scalar_t factor
    cdef Py_ssize_t length = t.n // t.rows, stop = (row + 1) * length
    cdef TileView x
    cdef void* a[1]
    cdef uint64_t mode
    if t.decayed[row] == t.decayed[t.rows]:
        return
    mode = ieee_mode()
    put(&factor, t.decayed[t.rows] / t.decayed[row], t.f64)
    x.k = row * length
    while x.k < stop:
        x.n, x.drawn = min(c.tile, stop - x.k), False
        a[0] = at(t, P, x.k)
        if t.kind[P] != native(t):
            a[0] = <char*>scratch.d + AREA_P * c.area
            load(c, t, P, x.k, x.n, a[0])
        c.of[t.f64].decay(a, &factor, &x.n)
        if t.kind[P] != native(t):
            store(c, t, w, &x, P, a[0], <char*>scratch.d)
        x.k = x.k + x.n
    restore_mode(mode)
