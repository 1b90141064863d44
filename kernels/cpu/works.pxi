# The tiles and the scalars of a step. Tensors that go together have one step count and one Work.
cdef tuple ROUNDINGS = codecs.ROUNDINGS


cdef look_up(StepContext* c, dict table, rule, bint f64):
    """Look up the tiles of a compute type."""
    cdef TileTable* of = &c.of[f64]
    cdef int j
    cdef str name, key = rule.tile(), steps = rule.tile("steps")
    put(&of.unit, 1, f64)
    for j, row in enumerate(codecs.TYPES):
        if row.real:
            of.codec[j].decode = tile_of(table, "codecs.decode_" + row.short, f64)
            of.codec[j].encode = tile_of(table, "codecs.encode_" + row.short, f64)
        if row.stochastic:
            of.codec[j].random = tile_of(table, "codecs.stochastic_" + row.short, f64)
        if "grad" in row.holds:
            of.codec[j].add = tile_of(table, "codecs.add_" + row.short, f64)
    of.clip, of.add_row_gradient = tile_of(table, "step.clip", f64), tile_of(table, "step.add_row_gradient", f64)
    of.decay, of.ema = tile_of(table, "step.decay", f64), tile_of(table, "step.ema", f64)
    of.fill, of.rule[0] = tile_of(table, "step.fill", f64), tile_of(table, key, f64)
    for j in [*range(1, BF16_ALL + 1), BF16_STOCHASTIC]:
        name = "random" if j == BF16_STOCHASTIC else "p" * (j & 1) + "g" * (j >> 1 & 1) + "s" * (j >> 2)
        if not f64 and f"{key}_bf16_{name}" in table:
            of.rule[j] = tile_of(table, f"{key}_bf16_{name}", f64)
    of.squares = tile_of(table, "reductions.squares", f64)
    of.row_squares = tile_of(table, "reductions.row_squares", f64)
    of.nonfinite = tile_of(table, "reductions.nonfinite", f64)
    if rule.norms:
        of.direction = tile_of(table, rule.tile("direction"), f64)
    if steps in table:
        of.steps = tile_of(table, steps, f64)
        roles = table[key][2]
        wanted = table[steps][2]
        c.step_count = len(wanted)
        for j in range(c.step_count):
            c.step_arrays[j] = -1 if wanted[j] == "steps" else roles.index(wanted[j])


cdef class WorkTable:
    """Step counts and scalars of all tensors; ``members[i]`` is the number of the group of tensor i."""
    cdef TensorList list
    cdef StepCount* counts          # of those that share a Work: the first `size`
    cdef Work* works
    cdef Py_ssize_t size, room      # room: for works
    cdef dict table
    cdef list stages, keys          # of each group: its Stages, and the keys of their tiles

    def __cinit__(self, dict table, TensorList list, groups, members, steps, carries):
        cdef Py_ssize_t i
        self.table, self.list, self.stages, self.keys = table, list, [], []
        for group in groups:
            self.stage(group.stages)
        self.counts = <StepCount*>calloc(list.count + 1, sizeof(StepCount))
        if self.counts is NULL:
            raise MemoryError
        for i in range(list.count):
            list.tensors[i].work = i
            self.counts[i] = StepCount(members[i], steps[i], 1, carries[i], list.tensors[i].f64, False)
        self.size = list.count

    def __dealloc__(self):
        free(self.counts)
        free(self.works)

    cdef stage(self, stages):
        """Take over the stages of a group."""
        if max(len(stages.penalties), len(stages.proxes)) > MAX_PENALTIES or len(stages.slopes) > MAX_ROWS:
            raise ValueError(f"{stages}: at most {MAX_PENALTIES} penalties and {MAX_ROWS} by row are possible")
        self.stages.append(stages)
        self.keys.append((
            tuple([penalty.tile("gradient") for penalty in stages.penalties]),
            tuple([penalty.tile("slope") for penalty in stages.slopes]),
            tuple([penalty.tile("prox") for penalty in stages.proxes]),
            None if stages.shrink is None else stages.shrink.tile("shrink"),
        ))

    cdef list ask(self, groups, double grad_scale):
        """Ask the groups once for tensors that go together."""
        cdef Py_ssize_t k
        cdef StepCount* x
        cdef list given = []
        if self.list.mixed:
            self.regroup()
        for k in range(self.size):            # an error leaves all as it was
            x = &self.counts[k]
            given.append(groups[x.group].work(x.t + 1, x.carry, grad_scale) if x.given else None)
        return given

    cdef assign(self, list given):
        """Round the scalars that the groups have given."""
        cdef Py_ssize_t k
        for k in range(self.size):
            if self.counts[k].given:
                self.renew(k, given[k])

    cdef regroup(self):
        """Let tensors go together that are of one group and type, have taken the same steps, and a gradient or none."""
        cdef Py_ssize_t i, k = -1
        cdef Tensor* t
        cdef StepCount x
        cdef StepCount* y = NULL                 # of the tensor before, mostly the same
        cdef StepCount* old = self.counts
        cdef StepCount* new = <StepCount*>calloc(self.list.count + 1, sizeof(StepCount))
        cdef dict seen = {}
        if new is NULL:
            raise MemoryError
        for i in range(self.list.count):
            t = &self.list.tensors[i]
            x = old[t.work]
            x.given, x.tensors = t.data[G] is not NULL, 0
            if (y is NULL or x.group != y.group or x.t != y.t or x.carry != y.carry or x.f64 != y.f64
                    or x.given != y.given):
                k = seen.setdefault((x.group, x.t, x.carry, x.f64, x.given), len(seen))
                y = &new[k]
                x.tensors = y.tensors
                y[0] = x
            y.tensors += 1
            t.work = k
        free(old)
        self.counts, self.size, self.list.mixed = new, len(seen), False

    cdef renew(self, Py_ssize_t k, given):
        """Round the scalars of the next step for the tensors of a count."""
        cdef const StepCount* x = &self.counts[k]
        cdef Work* w
        cdef bint f64 = x.f64
        cdef object stages = self.stages[x.group]
        cdef tuple penalties, slopes, rule, steps, proxes, shrink, gradient_keys, slope_keys, prox_keys
        cdef double scale, max_norm, bound, ema, carry
        scale, max_norm, bound, penalties, slopes, rule, steps, proxes, shrink, ema, seed, carry, _ = given
        gradient_keys, slope_keys, prox_keys, shrink_key = self.keys[x.group]
        if k >= self.room:
            w = <Work*>realloc(self.works, (2 * k + 4) * sizeof(Work))
            if w is NULL:
                raise MemoryError
            self.works, self.room = w, 2 * k + 4
        w = &self.works[k]
        memset(w, 0, sizeof(Work))
        w.factor, w.max_norm, w.carry = scale, max_norm, carry
        w.t, w.seed = x.t + 1, <Py_ssize_t><uint64_t>seed
        w.rounding, w.scalar_prox_step = ROUNDINGS.index(stages.rounding), stages.scalar_prox_step
        put(&w.scale, scale, f64)
        put(&w.clip, bound, f64)
        put(&w.ema, ema, f64)
        fill(&w.rule, rule, f64)
        fill(&w.steps, steps, f64)
        fill(&w.shrinks, shrink, f64)
        w.f64, w.scaled = f64, not one(&w.scale, f64)
        w.clipped = bound != INFINITY
        self.chain(w.penalty, w.penalties, gradient_keys, penalties, f64)
        self.chain(w.slope, w.slopes, slope_keys, slopes, f64)
        self.chain(w.prox, w.proxes, prox_keys, proxes, f64)
        if shrink_key is not None:
            w.shrink = tile_of(self.table, shrink_key, f64)

    cdef chain(self, tile_t* tiles, scalars_t* scalars, tuple keys, tuple given, bint f64):
        """Set the tiles of stages of one kind that follow each other."""
        cdef Py_ssize_t i
        for i in range(len(keys)):
            tiles[i] = tile_of(self.table, keys[i], f64)
            fill(&scalars[i], given[i], f64)

    cdef StepCount* alone(self, Tensor* t):
        """Let a tensor go on its own from now on, without a gradient of all rows."""
        cdef StepCount* x = &self.counts[t.work]
        if x.tensors > 1:                       # then there is room for one more
            x.tensors -= 1
            self.counts[self.size] = x[0]
            t.work, self.size = self.size, self.size + 1
            x = &self.counts[t.work]
            x.tensors = 1
        x.given = False
        return x

    cdef advance(self):
        """Count the step that was taken. No Python code runs here: Ctrl-C finds all or none."""
        cdef Py_ssize_t i
        for i in range(self.size):
            if self.counts[i].given:
                self.counts[i].t, self.counts[i].carry = self.works[i].t, self.works[i].carry

    cdef tuple progress(self):
        """Return the step counts and the carries, a list each."""
        cdef Py_ssize_t i
        return ([self.counts[self.list.tensors[i].work].t for i in range(self.list.count)],
                [self.counts[self.list.tensors[i].work].carry for i in range(self.list.count)])
