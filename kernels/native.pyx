# What rules, schedules and every engine need from C, and no engine must be loaded for: powers, the floating-point mode,
# a guard. It knows nothing of arrays.
from libc.stdint cimport uint64_t

cdef extern from "ieee_mode.h":
    uint64_t ieee_mode() noexcept nogil
    void restore_mode(uint64_t old) noexcept nogil


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


cdef class Guard:
    """One thing at a time: a step, or a change of what is stepped. In C, so that Ctrl-C cannot leave it shut."""
    cdef bint busy
    cdef public bint swapped        # the parameters hold something else for a while: nothing may be done until then

    def run(self, function, *args):
        """Return ``function(*args)``; RuntimeError where another call of this guard is under way."""
        if self.busy:
            raise RuntimeError("this optimizer is in the middle of a step, in another thread or in its own schedule")
        self.unswapped()
        self.busy = True
        try:
            return function(*args)
        finally:
            self.busy = False

    cpdef unswapped(self):
        """RuntimeError where the parameters hold something else for a while."""
        if self.swapped:
            raise RuntimeError("inside swapped_ema(): the parameters hold their averages")
