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
from ..native import write
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
    int has_stack() noexcept nogil
    void prefetch(const void* array, size_t ahead, size_t bytes) noexcept nogil
    void prefetch_row(const void* array, size_t bytes) noexcept nogil
    uint64_t ieee_mode() noexcept nogil
    void restore_mode(uint64_t old) noexcept nogil

cdef extern from "Python.h":
    PyObject* PyTuple_GET_ITEM(PyObject* t, Py_ssize_t i) noexcept

cdef extern from "numpy/arrayobject.h":
    bint PyArray_CheckExact(PyObject* a) noexcept
    const int NPY_USERDEF

cnp.import_array()
watch_forks()

cdef cnp.dtype float32 = cnp.PyArray_DescrFromType(cnp.NPY_FLOAT)       # as good as all arrays share this object


include "structs.pxi"
include "threads.pxi"
include "arrays.pxi"
include "pipeline.pxi"
include "tensor_list.pxi"
include "works.pxi"
include "leaves.pxi"
include "grad_norm.pxi"
include "tensor_norms.pxi"
include "sparse_rows.pxi"
include "plan.pxi"
include "sweep.pxi"
include "per_model.pxi"


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
