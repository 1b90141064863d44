# How many threads a step takes; threads.py has the policy.
cdef int wanted = 0                 # what the user said; 0: nothing
cdef int ceiling = 0                # what the container allows; 0: no limit
cdef int active = 0                 # steps under way, counted under the GIL: they share the CPUs


def set_threads(int n):
    """Use ``n`` threads from now on; 0 returns to OpenMP's number."""
    global wanted
    wanted = n


def set_ceiling(int n):
    """Never take more than ``n`` threads of OpenMP's number; 0: no limit."""
    global ceiling
    ceiling = n


def threads():
    """Return how many threads the next large step takes."""
    return claim(SERIAL)


def has_openmp():
    """Say whether this build has OpenMP; without it every step is serial."""
    return bool(HAS_OPENMP)


cdef int need_stack() except -1:
    """Raise where this thread has no room for scratch."""
    if not has_stack():
        raise RuntimeError("the stack of this thread is too small: 256 KiB are needed, as threading.stack_size sets")
    return 0


cdef int claim(Py_ssize_t elements) noexcept:
    cdef int n
    if not HAS_OPENMP or forked or elements < SERIAL:
        return 1
    n = wanted
    if n == 0:
        n = omp_get_max_threads()
        if 0 < ceiling < n:
            n = ceiling
    return max(1, n // max(1, active))
