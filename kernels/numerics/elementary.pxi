# Elementary functions of tiles; elementary.py says what each is.
from libc.float cimport DBL_MIN, FLT_MIN
from libc.math cimport INFINITY, fabs, fabsf
from libc.math cimport floor as floor64
from libc.math cimport floorf as floor32
from libc.math cimport sqrt as sqrt64
from libc.math cimport sqrtf as sqrt32
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

ctypedef fused real:
    float
    double

ctypedef fused pixel:
    uint8_t
    float
    double

cdef inline real sqrt(real x) noexcept nogil:
    if real is float:
        return sqrt32(x)                # the double form would turn the whole expression to double
    else:
        return sqrt64(x)


cdef inline real floor(real x) noexcept nogil:
    if real is float:
        return floor32(x)
    else:
        return floor64(x)


cdef inline real sign(real x) noexcept nogil:
    return <real>(x > 0) - <real>(x < 0)


cdef inline real maximum(real a, real b) noexcept nogil:
    return b if b > a else a


cdef inline real flush(real x) noexcept nogil:
    if real is float:
        return 0 if fabsf(x) < FLT_MIN else x
    else:
        return 0 if fabs(x) < DBL_MIN else x


cdef inline real magnitude(real x) noexcept nogil:
    if real is float:
        return fabsf(x)
    else:
        return fabs(x)


cdef inline real select(bint which, real a, real b) noexcept nogil:
    return a if which else b


cdef inline real relu(real x) noexcept nogil:
    return 0 if x < 0 else x


cdef inline real soft(real x, real threshold) noexcept nogil:
    cdef real moved = x - threshold if x > 0 else x + threshold
    return 0 if magnitude(x) <= threshold else moved


cdef inline real gate(real x, real y) noexcept nogil:
    return 0 if x <= 0 else y


cdef inline real weighted(real weight, real x) noexcept nogil:
    cdef real y = weight * x
    return 0 if weight == 0 else y


cdef inline real exp_core(real x, real* power) noexcept nogil:
    """e^r, where x = k ln 2 + r, as a polynomial; the low bits of `power` hold the integer k."""
    cdef real k, r, y, z, magic
    if real is float:
        magic = <float>12582912.0       # 1.5 * 2^23: adding it rounds to an integer, which stands in its low bits
        k = x * <float>1.4426950408889634 + magic
        power[0] = k
        k = k - magic
        r = (x - k * <float>0.693359375) - k * <float>-2.12194440e-4
        z = r * r                       # two coefficients a turn: a shorter chain, so that fewer units wait
        y = <float>0.0013814540110662062
        y = y * z + (<float>0.008368745111447203 * r + <float>0.04166839078565286)
        y = y * z + (<float>0.16666520399016177 * r + <float>0.49999993432113976)
        y = y * z + r
        return y + <float>1.0
    else:
        magic = 6755399441055744.0      # 1.5 * 2^52
        k = x * 1.4426950408889634 + magic
        power[0] = k
        k = k - magic
        r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10
        z = r * r
        y = 2.5000549356466628e-08 * r + 2.763031829960557e-07
        y = y * z + (2.7557585235057476e-06 * r + 2.4801492911096425e-05)
        y = y * z + (0.00019841269507356738 * r + 0.001388888894380203)
        y = y * z + (0.00833333333349435 * r + 0.04166666666652955)
        y = y * z + (0.16666666666666413 * r + 0.5000000000000011)
        y = y * z + r
        return y + 1.0


cdef inline real exp(real x) noexcept nogil:
    """e^x for x <= 0."""
    cdef real k, y = exp_core(x, &k)
    cdef uint32_t bits32
    cdef uint64_t bits64
    if real is float:
        memcpy(&bits32, &k, 4)
        bits32 = (bits32 << 23) + 0x3f800000U
        memcpy(&k, &bits32, 4)
        return 0 if x < <float>-87.0 else y * k
    else:
        memcpy(&bits64, &k, 8)
        bits64 = (bits64 << 52) + 0x3ff0000000000000ULL
        memcpy(&k, &bits64, 8)
        return 0 if x < -708.0 else y * k


cdef inline real exp_any(real x) noexcept nogil:
    """e^x for every x. For x > 0 it is 2 y 2^(k - 1): 2^k itself may be too large where e^x is not."""
    cdef real k, y = exp_core(x, &k)
    cdef uint32_t bits32
    cdef uint64_t bits64
    y = y + y if x > 0 else y
    if real is float:
        memcpy(&bits32, &k, 4)
        bits32 = (bits32 << 23) + (0x3f000000U if x > 0 else 0x3f800000U)
        memcpy(&k, &bits32, 4)
        y = <float>INFINITY if x > <float>88.72283 else y * k
        return 0 if x < <float>-87.0 else y
    else:
        memcpy(&bits64, &k, 8)
        bits64 = (bits64 << 52) + (0x3fe0000000000000ULL if x > 0 else 0x3ff0000000000000ULL)
        memcpy(&k, &bits64, 8)
        y = <double>INFINITY if x > 709.782712893384 else y * k
        return 0 if x < -708.0 else y


cdef inline real log1p(real x) noexcept nogil:
    """ln(1 + x) for x in [0, 1]: 2 artanh(s) with s = x / (2 + x), a polynomial in s^2."""
    cdef real s, z, y
    if real is float:
        s = x / (<float>2.0 + x)
        z = s * s
        y = <float>0.1400597653696556
        y = y * z + <float>0.14000906705534446
        y = y * z + <float>0.2001076332345323
        y = y * z + <float>0.33333208148946414
    else:
        s = x / (2.0 + x)
        z = s * s
        y = 0.08504878185018328
        y = y * z + 0.041724862822261526
        y = y * z + 0.060524722309037306
        y = y * z + 0.06650560727693067
        y = y * z + 0.07693274193038216
        y = y * z + 0.09090872239677222
        y = y * z + 0.1111111197682139
        y = y * z + 0.14285714274058948
        y = y * z + 0.20000000000077559
        y = y * z + 0.33333333333333155
    s = s + s
    return s + s * (z * y)


cdef inline double log(double x) noexcept nogil:
    """ln x for x >= 1: x = m 2^e with m in [0.71, 1.42), and ln m = 2 artanh((m - 1) / (m + 1)) as its series."""
    cdef double m, e, s, z, y
    cdef uint64_t bits, biased
    memcpy(&bits, &x, 8)
    biased = (bits + (0x3ff0000000000000ULL - 0x3fe6a09e667f3bcdULL)) >> 52
    bits = bits - ((biased - 1023) << 52)
    memcpy(&m, &bits, 8)
    bits = biased | 0x4330000000000000ULL       # 2^52 + biased: SSE2 and AVX2 have no conversion of 64-bit integers
    memcpy(&e, &bits, 8)
    e = e - 4503599627371519.0                  # 2^52 + 1023
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    y = 1.0 / 21.0
    y = y * z + 1.0 / 19.0
    y = y * z + 1.0 / 17.0
    y = y * z + 1.0 / 15.0
    y = y * z + 1.0 / 13.0
    y = y * z + 1.0 / 11.0
    y = y * z + 1.0 / 9.0
    y = y * z + 1.0 / 7.0
    y = y * z + 1.0 / 5.0
    y = y * z + 1.0 / 3.0
    y = 2.0 * s + (2.0 * s) * (z * y)
    return x if x - x != 0 else e * 0.693147180369123816490 + (y + e * 1.90821492927058770002e-10)
