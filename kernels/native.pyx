# What rules, schedules and every engine need from C, and no engine must be loaded for: powers, the floating-point mode,
# and what happens as a whole. Python sees Ctrl-C between two of its own operations, never inside a call from here.
from libc.stdint cimport uint64_t
cimport numpy as cnp

cdef extern from "native.h":
    int forked
    void watch_forks()
    uint64_t ieee_mode() noexcept nogil
    void restore_mode(uint64_t old) noexcept nogil

cnp.import_array()
watch_forks()


def enter_mode():
    """Let this thread compute in the default floating-point mode; return what ``leave_mode`` takes."""
    return ieee_mode()


def leave_mode(uint64_t old):
    """Return to the mode of the caller."""
    restore_mode(old)


def power(double x, Py_ssize_t n):
    """Return ``x**n`` for n >= 0 by repeated squaring: ``pow`` of libm and of a GPU differ in the last bits."""
    cdef double y = 1
    while n > 0:
        if n & 1:
            y = y * x
        x = x * x
        n = n >> 1
    return y


def write(given, *notes):
    """Copy arrays into others of their shapes and dtypes, pairs (to, array), then update dicts, each given with its changes.

    ValueError before anything is touched where an array does not go into another.
    """
    cdef list pairs = list(given)
    cdef cnp.ndarray to, a
    for i, (x, y) in enumerate(pairs):
        fits(i, x, y)
    for to, a in pairs:
        cnp.PyArray_CopyInto(to, a)
    for owner, changes in notes:
        (<dict>owner).update(<dict>changes)


cdef fits(i, cnp.ndarray to, cnp.ndarray a):
    """Raise where one array cannot be copied into another."""
    if not cnp.PyArray_CHKFLAGS(to, cnp.NPY_ARRAY_WRITEABLE):
        raise ValueError(f"params[{i}] is read-only: it is updated in place")
    if not cnp.PyArray_SAMESHAPE(to, a) or not cnp.PyArray_EquivArrTypes(to, a):
        raise ValueError(f"params[{i}] is {(<object>to).dtype} of shape {(<object>to).shape}: must be "
                         f"{(<object>a).dtype} of shape {(<object>a).shape}, as the weights that were kept")


cdef class Guard:
    """Non-reentrant guard around a step or a mutation; in C, so that Ctrl-C cannot leave it locked."""
    cdef str what, block
    cdef int busy                   # in the middle of something: 1 and as many as `forked` was; or 0
    cdef bint lent                  # the parameters hold something else for a while: nothing may be done until then

    def __init__(self, str what="this optimizer", str block="swapped_ema()"):
        self.what, self.block = what, block

    def run(self, function, *args):
        """Return ``function(*args)``; RuntimeError where another call of this guard is under way."""
        self.enter()
        try:
            return function(*args)
        finally:
            self.busy = 0

    cdef enter(self):
        cdef int busy = self.busy
        if busy == forked + 1:
            raise RuntimeError(f"{self.what} is in the middle of a step, in another thread or in its own schedule")
        if busy:
            self.busy = 0
            raise RuntimeError(f"{self.what} was in the middle of a step of another thread when this process was "
                               "forked, and some weights may have taken it: the next call goes on from there")
        self.closed()
        self.busy = forked + 1

    cpdef closed(self):
        """RuntimeError where the parameters hold something else for a while."""
        if self.lent:
            raise RuntimeError(f"inside {self.block}: the parameters hold other values until it ends")


cdef class Loan:
    """Lets parameters hold other values inside a ``with`` block.

    ``values()`` returns these and copies of the parameters, ``put(values)`` writes. Where Ctrl-C comes before the block
    has begun, or in the middle of its end, the guard stays shut until this object dies, and its death restores.
    """
    cdef Guard guard
    cdef object values, put, kept

    def __init__(self, Guard guard, values, put):
        self.guard, self.values, self.put = guard, values, put

    def __enter__(self):
        self.guard.enter()
        try:
            values, kept = self.values()
            self.kept, self.guard.lent = kept, True
            try:
                self.put(values)
            except BaseException:
                self.restore()
                raise
        finally:
            self.guard.busy = 0

    def __exit__(self, *error):
        self.restore()

    def __del__(self):
        self.restore()

    cdef restore(self):
        if self.kept is not None:
            self.put(self.kept)
            self.kept, self.guard.lent = None, False
