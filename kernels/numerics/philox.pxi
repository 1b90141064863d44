# Random bits; philox.py says which.
cdef extern from "philox.h":
    Py_ssize_t philox_lanes(uint32_t* out, Py_ssize_t n, uint64_t first, uint64_t seed, uint32_t t,
                            uint32_t stream) noexcept nogil


cdef inline void mix(uint32_t* x0, uint32_t* x1, uint32_t* x2, uint32_t* x3, uint64_t key, uint32_t turn) noexcept nogil:
    cdef uint64_t a = <uint64_t>0xD2511F53U * x0[0], b = <uint64_t>0xCD9E8D57U * x2[0]
    x0[0] = <uint32_t>(b >> 32) ^ x1[0] ^ (<uint32_t>key + turn * <uint32_t>0x9E3779B9U)
    x1[0] = <uint32_t>b
    x2[0] = <uint32_t>(a >> 32) ^ x3[0] ^ (<uint32_t>(key >> 32) + turn * <uint32_t>0xBB67AE85U)
    x3[0] = <uint32_t>a


cdef void words(uint32_t* out, Py_ssize_t n, Py_ssize_t first, Py_ssize_t seed, Py_ssize_t t,
                Py_ssize_t stream) noexcept nogil:
    """Fill ``out`` with the 4 words of each of n blocks; ``stream`` is stream * 2^24 + tensor."""
    cdef Py_ssize_t i
    cdef uint64_t block, key = <uint64_t>seed
    cdef uint32_t x0, x1, x2, x3
    for i in range(philox_lanes(out, n, <uint64_t>first, key, <uint32_t>t, <uint32_t>stream), n):
        block = <uint64_t>(first + i)
        x0 = <uint32_t>block
        x1 = <uint32_t>(block >> 32)
        x2 = <uint32_t>t
        x3 = <uint32_t>stream
        mix(&x0, &x1, &x2, &x3, key, 0)
        mix(&x0, &x1, &x2, &x3, key, 1)
        mix(&x0, &x1, &x2, &x3, key, 2)
        mix(&x0, &x1, &x2, &x3, key, 3)
        mix(&x0, &x1, &x2, &x3, key, 4)
        mix(&x0, &x1, &x2, &x3, key, 5)
        mix(&x0, &x1, &x2, &x3, key, 6)
        out[4 * i] = x0
        out[4 * i + 1] = x1
        out[4 * i + 2] = x2
        out[4 * i + 3] = x3


cdef void permute_halves(uint64_t* out, const uint64_t* words, Py_ssize_t n, Py_ssize_t array) noexcept nogil:
    """The words of n blocks, two of them at a time, as array number ``array`` takes them."""
    cdef Py_ssize_t i
    cdef uint64_t low = 0xFFFF0000FFFFULL
    if array & 2:
        for i in range(2 * n):
            out[i] = words[i] << 32 | words[i] >> 32
    else:
        memcpy(out, words, 16 * n)
    if array & 1:
        for i in range(2 * n):
            out[i] = (out[i] & low) << 16 | out[i] >> 16 & low
    if array & 4:
        for i in range(n):
            out[2 * i], out[2 * i + 1] = out[2 * i + 1], out[2 * i]
