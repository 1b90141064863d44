# How many threads a step takes.
cdef int limit = 0                  # set_threads; 0: as many as OpenMP says
cdef int active = 0                 # steps under way, counted under the GIL: they share the CPUs


def set_threads(int n):
    """Use ``n`` threads from now on; 0 returns to OpenMP's number."""
    global limit
    limit = n


def threads():
    """Return how many threads the next large step takes."""
    return claim(SERIAL)


def has_openmp():
    """Say whether this build has OpenMP; without it every step is serial."""
    return bool(HAS_OPENMP)


cdef int claim(Py_ssize_t elements) noexcept:
    cdef int n
    if not HAS_OPENMP or forked or elements < SERIAL:
        return 1
    n = omp_get_max_threads()
    if limit > 0:
        n = limit
    return max(1, n // max(1, active))
