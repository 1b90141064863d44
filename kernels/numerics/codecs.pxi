# How elements lie in memory, and how they become numbers of the compute type and back; codecs.py says what each does.
cdef extern from *:
    """
    #ifdef __AVX512BW__  /* elsewhere gcc's loops over arrays of two widths take longer than to decode them before */
    #define MIXED_WIDTHS 1
    #else
    #define MIXED_WIDTHS 0
    #endif
    #ifdef __GNUC__
    typedef uint32_t pair_t __attribute__((aligned(2), may_alias));
    #else
    typedef uint32_t pair_t;
    #endif
    """
    const bint MIXED_WIDTHS
    ctypedef uint32_t pair_t        # two neighbours of 16 bits, wherever they lie


cdef inline float from_bits(uint32_t bits) noexcept nogil:
    cdef float x
    memcpy(&x, &bits, 4)
    return x


cdef inline uint32_t to_bits(float x) noexcept nogil:
    cdef uint32_t bits
    memcpy(&bits, &x, 4)
    return bits


cdef inline float odd(real x) noexcept nogil:
    """x as a float: to the nearest if it fits, else to the odd neighbour, so that the next rounding is the only one."""
    cdef float y = <float>x
    cdef uint32_t bits
    if real is double:
        bits = to_bits(y)
        bits = bits - 1 if fabs(<double>y) > fabs(x) else bits
        y = y if <double>y == x else from_bits(bits | 1)
    return y


cdef inline float wide_bf16(uint16_t x) noexcept nogil:
    return from_bits(<uint32_t>x << 16)


cdef inline uint16_t narrow_bf16(float x) noexcept nogil:
    cdef uint32_t bits = to_bits(x), near = bits + 0x7fff + (bits >> 16 & 1)
    return <uint16_t>((near if x == x else bits | 0x400000) >> 16)


cdef inline uint16_t round_bf16(float x) noexcept nogil:
    """As narrow_bf16, of a result, whose NaNs are quiet; in halves of words, of which a vector holds twice as many."""
    cdef uint32_t bits = to_bits(x)
    cdef uint16_t high = <uint16_t>(bits >> 16), low = <uint16_t>bits
    cdef uint16_t half = 0x8000 - (high & 1)
    return high + (<uint16_t>(low > half) & <uint16_t>((high & 0x7fff) < 0x7f80))


cdef inline float low_bf16(uint32_t pair) noexcept nogil:
    return from_bits(pair << 16)


cdef inline float high_bf16(uint32_t pair) noexcept nogil:
    return from_bits(pair & 0xffff0000U)


cdef inline uint32_t near_bf16(float x) noexcept nogil:
    """x to the nearest, in the upper half of the result. A NaN must have a lower half of 0, as bfloat16 operands make it."""
    cdef uint32_t bits = to_bits(x)
    return bits + 0x7fff + (bits >> 16 & 1)


cdef inline uint32_t drawn_bf16(float x, uint32_t random) noexcept nogil:
    """As near_bf16, up or down by 16 random bits."""
    cdef float largest = from_bits(0x7f7f0000)
    return to_bits(x) + (random & (0 - <uint32_t>(fabsf(x) < largest)))     # never from finite to infinite


cdef inline uint32_t both(uint32_t low, uint32_t high) noexcept nogil:
    return low >> 16 | high & 0xffff0000U


cdef inline uint32_t narrow_f16(uint32_t bits) noexcept nogil:
    cdef uint32_t size = bits & 0x7fffffff
    cdef uint32_t normal = (size - 0x38000000U + 0xfff + (size >> 13 & 1)) >> 13
    cdef uint32_t small = to_bits(from_bits(size) + from_bits(0x3f000000)) - 0x3f000000     # + 0.5: units of 2^-24
    cdef uint32_t near = small if size < 0x38800000 else normal
    near = 0x7c00 if size >= 0x47800000 else near
    near = 0x7e00 if size > 0x7f800000 else near
    return near | (bits >> 16 & 0x8000)


cdef inline float wide_f16(uint16_t x) noexcept nogil:
    cdef uint32_t size = x & 0x7fff
    cdef float small = <float><int32_t>size * from_bits(0x33800000)         # subnormal: units of 2^-24
    cdef uint32_t bits = to_bits(small) if size < 0x400 else (size << 13) + 0x38000000
    bits = size << 13 | 0x7f800000 if size >= 0x7c00 else bits
    return from_bits(bits | <uint32_t>(x & 0x8000) << 16)


cdef void decode_f64(real* out, const double* x, real factor, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = <real>x[i] * factor


cdef void decode_f32(real* out, const float* x, real factor, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = <real>x[i] * factor


cdef void decode_bf16(real* out, const uint16_t* x, real factor, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = <real>wide_bf16(x[i]) * factor


cdef void decode_f16(real* out, const uint16_t* x, real factor, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = <real>wide_f16(x[i]) * factor


cdef void add_f64(real* total, const double* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        total[i] = total[i] + <real>x[i]


cdef void add_f32(real* total, const float* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        total[i] = total[i] + <real>x[i]


cdef void add_bf16(real* total, const uint16_t* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        total[i] = total[i] + <real>wide_bf16(x[i])


cdef void add_f16(real* total, const uint16_t* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        total[i] = total[i] + <real>wide_f16(x[i])


cdef void encode_f64(const real* x, double* out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = <double>x[i]


cdef void encode_f32(const real* x, float* out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = <float>x[i]


cdef void encode_bf16(const real* x, uint16_t* out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = narrow_bf16(odd(x[i]))


cdef void encode_f16(const real* x, uint16_t* out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = <uint16_t>narrow_f16(to_bits(odd(x[i])))


cdef void stochastic_bf16(const real* x, uint16_t* out, const uint16_t* random, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint32_t bits, added
    cdef float y, largest = from_bits(0x7f7f0000)
    for i in range(n):
        y = odd(x[i])
        bits = to_bits(y)
        added = random[i] & (0 - <uint32_t>(fabsf(y) < largest))            # never from finite to infinite
        out[i] = <uint16_t>((bits + added | <uint32_t>(y != y) << 22) >> 16)


cdef void stochastic_f16(const real* x, uint16_t* out, const uint16_t* random, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint32_t bits, size, small, rounded, largest
    cdef int32_t whole
    cdef float y, rest
    for i in range(n):
        bits = to_bits(odd(x[i]))
        size = bits & 0x7fffffff
        small = 0 - <uint32_t>(size < 0x38800000)                           # a mask: gcc makes jumps of selects here
        y = from_bits(size & small) * from_bits(0x4b800000)                 # in units of 2^-24, the subnormal ones
        whole = <int32_t>y
        rest = (y - <float>whole) * from_bits(0x47800000)                   # of 65536
        whole = whole + <int32_t>(rest > <float><int32_t>random[i])
        rounded = (size - 0x38000000U + (random[i] >> 3)) >> 13
        rounded = (<uint32_t>whole & small) | (rounded & ~small)
        # never from finite to infinite; infinity and NaN, too large as well, have ends of their own
        largest = 0x7bff + <uint32_t>(size >= 0x7f800000) + (<uint32_t>(size > 0x7f800000) << 9)
        rounded = largest if rounded > 0x7bff else rounded
        out[i] = <uint16_t>(rounded | (bits >> 16 & 0x8000))


cdef void join(float* out, const uint16_t* high, const uint16_t* low, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = from_bits((<uint32_t>high[i] << 16) + <uint32_t><int32_t><int16_t>low[i])


cdef void split(const float* x, uint16_t* high, uint16_t* low, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint32_t bits
    for i in range(n):
        bits = to_bits(x[i])
        bits = (bits & 0xffff0000U) | 0x400000 if (bits & 0x7fffffff) > 0x7f800000 else bits
        high[i] = <uint16_t>((bits + 0x8000) >> 16)
        low[i] = <uint16_t>bits
