# Elementary functions of tiles; numerics.py says what each is.
from libc.float cimport DBL_MIN, FLT_MIN
from libc.math cimport fabs, fabsf
from libc.math cimport sqrt as sqrt64
from libc.math cimport sqrtf as sqrt32
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

ctypedef fused real:
    float
    double


cdef inline real sqrt(real x) noexcept nogil:
    if real is float:
        return sqrt32(x)                # the double form would turn the whole expression to double
    else:
        return sqrt64(x)


cdef inline real sign(real x) noexcept nogil:
    return <real>(x > 0) - <real>(x < 0)


cdef inline real maximum(real a, real b) noexcept nogil:
    return b if b > a else a


cdef inline real flush(real x) noexcept nogil:
    if real is float:
        return 0 if fabsf(x) < FLT_MIN else x
    else:
        return 0 if fabs(x) < DBL_MIN else x


cdef inline real exp(real x) noexcept nogil:
    """e^x for x <= 0, where softmax needs it: x = k ln 2 + r, a polynomial in r, k into the exponent bits."""
    cdef real k, r, y, magic
    cdef uint32_t bits32
    cdef uint64_t bits64
    if real is float:
        magic = <float>12582912.0       # 1.5 * 2^23: adding it rounds to an integer, which stands in its low bits
        k = x * <float>1.4426950408889634 + magic
        memcpy(&bits32, &k, 4)
        k = k - magic
        r = (x - k * <float>0.693359375) - k * <float>-2.12194440e-4
        y = <float>0.0013814540110662062
        y = y * r + <float>0.008368745111447203
        y = y * r + <float>0.04166839078565286
        y = y * r + <float>0.16666520399016177
        y = y * r + <float>0.49999993432113976
        y = (y * r) * r + r
        y = y + <float>1.0
        bits32 = (bits32 << 23) + 0x3f800000U
        memcpy(&k, &bits32, 4)
        return 0 if x < <float>-87.0 else y * k
    else:
        magic = 6755399441055744.0      # 1.5 * 2^52
        k = x * 1.4426950408889634 + magic
        memcpy(&bits64, &k, 8)
        k = k - magic
        r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10
        y = 2.5000549356466628e-08
        y = y * r + 2.763031829960557e-07
        y = y * r + 2.7557585235057476e-06
        y = y * r + 2.4801492911096425e-05
        y = y * r + 0.00019841269507356738
        y = y * r + 0.001388888894380203
        y = y * r + 0.00833333333349435
        y = y * r + 0.04166666666652955
        y = y * r + 0.16666666666666413
        y = y * r + 0.5000000000000011
        y = (y * r) * r + r
        y = y + 1.0
        bits64 = (bits64 << 52) + 0x3ff0000000000000ULL
        memcpy(&k, &bits64, 8)
        return 0 if x < -708.0 else y * k


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
    return x if x != x else e * 0.693147180369123816490 + (y + e * 1.90821492927058770002e-10)
