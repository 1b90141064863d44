# What the files of this engine share: enumerations and structs.
cdef enum:                          # storage types, those of codecs.NAMES in their order
    F64, F32, BF16, F16, RAW        # RAW: 16 bits without a codec

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
    DIRECT_P = 1
    DIRECT_G = 2
    DIRECT_STATES = 4
    DIRECT_ALL = 7                  # two elements at a time
    DIRECT_RANDOM = DIRECT_ALL | 8  # the same, rounded at random

cdef struct Tensor:                 # all threads read it, and wait for what one has written: a step writes what it must
    char* data[MAX_ARRAYS]          # p, g (another array each step; NULL: skipped), states... (NULL: off)
    unsigned char kind[MAX_ARRAYS]
    unsigned char size[MAX_ARRAYS]  # of an element
    bint f64, coded                 # computed in float64; some array but g is stored as another type
    int direct                      # DIRECT_P: it is bfloat16, and nothing is made of it; DIRECT_STATES: none is not
    bint crowded                    # g is read, modulo 4096, where p or a state was written just before
    void* p                         # the parameter and its dtype as they were when the plan was made
    void* descr
    Py_ssize_t n, work              # n: elements; work: the number of its Work and of its StepCount
    Py_ssize_t index                # of the tensor in the plan
    Py_ssize_t row                  # elements of a row, where a stage needs whole rows; else 0
    Py_ssize_t leaf                 # the number of leaves of the norm in the tensors before
    Py_ssize_t rows                 # that the first index counts
    double* decayed                 # what each row has been multiplied by and, at the end, should have been; or NULL
    scalar_t scale                  # used where its own norm is limited
    scalar_t catch_up               # of a row that lags
    bint lags

cdef struct StepCount:               # of the tensors that share a Work: of one group, after the same number of steps
    Py_ssize_t group, t             # t: steps taken
    Py_ssize_t tensors              # how many they are
    double carry
    bint f64, given                 # given: they have gradients in this step

cdef struct Work:                   # what the tiles of some tensors need besides their arrays
    bint f64, scaled, clipped
    int rounding
    bint uniform                    # one step for the prox of all elements
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

cdef struct TileTable:                  # of one compute type
    tile_t decode[RAW]
    tile_t encode[RAW]
    tile_t random[RAW]
    tile_t sum[RAW]
    tile_t rule[DIRECT_RANDOM + 1]  # for 0, each sum of DIRECT_P and the like, and DIRECT_RANDOM; or NULL
    tile_t clip, add, decay, steps, fill, ema, squares, row_squares, nonfinite
    scalar_t unit

cdef struct StepContext:                   # what all tiles of a plan need
    TileTable of[2]                 # for float32 and float64
    tile_t words, swapped, join, split, leaf
    int arrays                      # p, g and the states
    int step_arrays[MAX_ARRAYS]     # the places of what the steps of a rule are made of; -1: the steps
    int step_count
    bint zero, limited
    bint far                        # more than a cache holds
    Py_ssize_t tile, area           # in elements, in bytes
    char* rows                      # a row for each thread
    Py_ssize_t row_bytes

cdef struct TileView:                   # n elements from element k on
    void* a[MAX_ARRAYS]             # in the compute type, but for what is direct
    Py_ssize_t k, n
    int direct
    bint drawn                      # there are random bits for it
