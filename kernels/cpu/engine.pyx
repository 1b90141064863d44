# The CPU engine: what is checked, who runs which part, in which order. It knows no instruction set and does no
# arithmetic on elements: tile functions come as pointers from _tiles_<isa>.
from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY, fabs, sqrt
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcpy, memmove, memset
from cpython.ref cimport PyObject
cimport numpy as cnp

from .. import checks
from ..numerics import codecs
from ..view import View

cdef extern from "platform.h":
    ctypedef struct scratch_t:
        double d[1]
    const int HAS_OPENMP
    int forked
    int omp_get_max_threads() noexcept nogil
    int has_avx2()
    int has_avx512()
    int has_neon()
    void watch_forks()
    void prefetch(const void* array, size_t ahead, size_t bytes) noexcept nogil
    void prefetch_row(const void* array, size_t bytes) noexcept nogil
    uint64_t ieee_mode() noexcept nogil
    void restore_mode(uint64_t old) noexcept nogil

cdef extern from "Python.h":
    PyObject* PyTuple_GET_ITEM(PyObject* t, Py_ssize_t i) noexcept

cdef extern from "numpy/arrayobject.h":
    bint PyArray_CheckExact(PyObject* a) noexcept
    const int NPY_HALF
    const int NPY_USERDEF

ctypedef void (*tile_t)(void** arrays, const void* scalars, const Py_ssize_t* sizes) noexcept nogil

ctypedef union scalar_t:            # a scalar in the compute type
    float f
    double d

ctypedef union scalars_t:           # those of one tile
    float f[16]
    double d[16]

cdef enum:
    MAX_SIZES = 12                  # of a tile: rows, and the lengths of other axes
    MAX_PENALTIES = 8
    MAX_ROWS = 2                    # of them by row
    LEAF = 4096                     # terms in a leaf of the reduction tree
    SERIAL = 32768                  # below so many elements in all, a second thread costs more than it brings
    SPAN = 65536                    # elements that a thread takes at a time, at most

cnp.import_array()
watch_forks()

cdef cnp.dtype float32 = cnp.PyArray_DescrFromType(cnp.NPY_FLOAT)       # as good as all arrays share this object


cdef inline void put(scalar_t* out, double x, bint f64) noexcept nogil:
    """Round a float64 scalar once, to the compute type."""
    if f64:
        out.d = x
    else:
        out.f = <float>x


cdef inline bint one(const scalar_t* x, bint f64) noexcept nogil:
    return x.d == 1 if f64 else x.f == 1


include "threads.pxi"
include "types.pxi"
include "arrays.pxi"
include "pipeline.pxi"
include "tensor_list.pxi"
include "works.pxi"
include "grad_norm.pxi"
include "sweep.pxi"
include "per_model.pxi"
include "sparse_rows.pxi"
include "plan.pxi"


def features():
    """Return the instruction sets that this CPU runs, the best first."""
    cdef list found = []
    if has_neon():
        found.append("neon")
    if has_avx512():
        found.append("avx512")
    if has_avx2():
        found.append("avx2")
    return [*found, "baseline"]


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
