# What the parts of the engine share: constants, structs, and how scalars and tiles get into them.
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
    MAX_TYPES = 16                  # rows of codecs.TYPES
    MAX_BLOCK = 256                 # elements that are encoded together: the smallest tile

cdef enum:                          # roles of arrays: their places in Tensor.data. States stand between G and EMA
    P, G, FIRST_STATE
    MAX_STATES = 5                  # philox.py has numbers for as many, and for the EMA
    EMA = FIRST_STATE + MAX_STATES
    SHADOW, REST, MAX_ARRAYS        # REST: the remainder

cdef enum:                          # areas of scratch; those of the states follow. A large tile uses the first two only
    AREA_G, AREA_STEPS, AREA_P, AREA_EMA, AREA_STATE
    AREA_RANDOM = AREA_G            # after the rule and the prox, or where the rule needs neither of these two
    AREA_SWAPPED = AREA_STEPS

cdef enum:
    NEAREST, STOCHASTIC, REMAINDER  # codecs.ROUNDINGS

cdef enum:                          # philox.py: numbers of arrays
    RANDOM_STATE = 1
    RANDOM_EMA = 7

cdef enum:                          # what a rule reads and writes in bfloat16 itself: see setup.py
    BF16_P = 1
    BF16_G = 2
    BF16_STATES = 4
    BF16_ALL = 7                  # two elements at a time
    BF16_STOCHASTIC = BF16_ALL | 8  # the same, rounded at random

cdef struct Type:                   # a row of codecs.TYPES, of the same number
    int number                      # of its dtype in NumPy; -1: of another package, and no array of it seen so far
    int remainder                   # the type of what rounding with remainder cuts off; -1: none
    int block, size                 # elements that are encoded together; bytes of one
    bint param, needs_codec               # may hold parameters; holds numbers that are decoded before use
    bint grad[2]                    # may hold gradients of a parameter computed in float32, in float64
    bint state[2]

cdef struct Tensor:                 # read by every thread: keep writes off this struct (false sharing)
    char* data[MAX_ARRAYS]          # p, g (another array each step; NULL: skipped), states... (NULL: off)
    unsigned char kind[MAX_ARRAYS]
    unsigned char size[MAX_ARRAYS]  # of an element
    bint f64, needs_codec                 # computed in float64; some array but g is stored as another type
    int in_rule                      # BF16_P: it is bfloat16, and nothing is made of it; BF16_STATES: none is not
    bint aliases_4k                    # 4K aliasing between g and p or a state
    void* p                         # the parameter and its dtype as they were when the plan was made
    void* descr
    Py_ssize_t n, work              # n: elements; work: the number of its Work and of its StepCount
    Py_ssize_t index                # of the tensor in the plan
    Py_ssize_t row                  # elements of a row, where a stage needs whole rows; else 0
    Py_ssize_t block                # the largest of its types: a tile begins and ends between blocks
    Py_ssize_t leaf                 # the number of leaves of the norm in the tensors before
    Py_ssize_t rows                 # that the first index counts
    double* decayed                 # what each row has been multiplied by and, at the end, should have been; or NULL
    scalar_t scale                  # used where its own norm is limited
    scalars_t* own                  # those of the rule, where it makes some of norms of the tensor; else NULL
    scalar_t catch_up               # of a row that lags
    bint lags

cdef struct StepCount:              # of the tensors that share a Work: of one group, after the same number of steps
    Py_ssize_t group, t             # t: steps taken
    Py_ssize_t tensors              # how many they are
    double carry
    bint f64, given                 # given: they have gradients in this step

cdef struct Work:                   # what the tiles of some tensors need besides their arrays
    bint f64, scaled, clipped
    int rounding
    bint scalar_prox_step                    # one step for the prox of all elements
    tile_t penalty[MAX_PENALTIES]
    tile_t slope[MAX_ROWS]          # penalties by row: what the gradient is, what the prox leaves
    tile_t prox[MAX_PENALTIES]
    tile_t shrink
    scalar_t scale, clip, ema
    scalars_t rule, steps, shrinks
    scalars_t penalties[MAX_PENALTIES]
    scalars_t slopes[MAX_ROWS]
    scalars_t proxes[MAX_PENALTIES]
    double factor, carry            # factor: the scale before it is rounded; carry: after this step
    double max_norm                 # of one tensor; infinite where there is no limit
    Py_ssize_t t, seed              # the number of this step

cdef struct Span:                   # `count` elements from `start` of `tensor` on, into the next tensors
    Py_ssize_t tensor, start, count

cdef struct Codec:                  # of a storage type
    tile_t decode, encode
    tile_t random                   # NULL: rounded to the nearest only
    tile_t add                      # NULL: holds no gradients

cdef struct TileTable:              # of one compute type
    Codec codec[MAX_TYPES]
    tile_t rule[BF16_STOCHASTIC + 1]  # for 0, each sum of BF16_P and the like, and BF16_STOCHASTIC; or NULL
    tile_t clip, add_row_gradient, decay, steps, fill, ema, squares, row_squares, nonfinite
    tile_t direction                # what a rule measures before it steps; NULL: nothing
    scalar_t unit

cdef struct StepContext:            # what all tiles of a plan need
    TileTable of[2]                 # for float32 and float64
    tile_t words, permute_halves, join, split, leaf
    int arrays                      # p, g and the states
    int step_arrays[MAX_ARRAYS]     # the places of what the steps of a rule are made of; -1: the steps
    int step_count
    bint zero, limited
    bint far                        # more than a cache holds
    Py_ssize_t tile, area           # in elements, in bytes
    char* rows                      # a row for each thread
    Py_ssize_t row_bytes

cdef struct TileView:               # n elements from element k on
    void* a[MAX_ARRAYS]             # in the compute type, but for what is in_rule
    Py_ssize_t k, n
    int in_rule
    bint drawn                      # there are random bits for it


cdef inline void put(scalar_t* out, double x, bint f64) noexcept nogil:
    """Round a float64 scalar once, to the compute type."""
    if f64:
        out.d = x
    else:
        out.f = <float>x


cdef inline bint one(const scalar_t* x, bint f64) noexcept nogil:
    return x.d == 1 if f64 else x.f == 1


cdef tile_t tile_of(dict table, str name, bint f64) except NULL:
    return <tile_t><size_t>table[name][1 if f64 else 0]


cdef void fill(scalars_t* out, tuple values, bint f64) except *:
    """Round the scalars of a tile, each once."""
    cdef Py_ssize_t i
    if len(values) > 16:
        raise ValueError(f"{len(values)} scalars: a tile takes 16 at most")
    for i in range(len(values)):
        if f64:
            out.d[i] = values[i]
        else:
            out.f[i] = values[i]
