# The tile functions in one table; setup.py compiles this file once per instruction set, as _tiles_<isa>.
cdef extern from "cache.h":
    void prefetch(const void* array, size_t ahead, size_t bytes) noexcept nogil
    void prefetch_row(const void* array, size_t bytes) noexcept nogil
    size_t stream_store(void* to, const void* source, size_t bytes) noexcept nogil
    void store_fence() noexcept nogil

include "numerics/elementary.pxi"
include "step.pxi"
include "numerics/reductions.pxi"
include "numerics/philox.pxi"
include "numerics/codecs.pxi"
include "loss.pxi"
include "numerics/normal.pxi"
include "tables.pxi"        # written by setup.py: the other includes, one entry per tile function, and all_tiles()

TILES = all_tiles()
