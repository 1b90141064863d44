# The stages around an elementwise loss; loss.py says what each is.
cdef void apply_sample_weight(real* gradient, double* terms, const real* weight, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        gradient[i] = gradient[i] * weight[i]
        terms[i] = terms[i] * <double>weight[i]


cdef void broadcast_rows(const real* x, real* out, Py_ssize_t each, Py_ssize_t period, Py_ssize_t start,
                 Py_ssize_t n) noexcept nogil:
    """Write x[i // each % period] for n indices i from `start` on, run by run."""
    cdef Py_ssize_t j, k, count
    cdef real value
    while n > 0:
        k = start // each % period
        if each == 1:
            count = min(n, period - k)
            memcpy(out, x + k, count * sizeof(real))
        else:
            count = min(n, each - start % each)
            value = x[k]
            for j in range(count):
                out[j] = value
        out += count
        start += count
        n -= count


cdef void not_a_label(const real* x, double* terms, real low, real high, Py_ssize_t n) noexcept nogil:
    """0 for a number that is `low` or `high`; above 0, or NaN, for any other."""
    cdef Py_ssize_t i
    for i in range(n):
        terms[i] = <double>magnitude((x[i] - low) * (x[i] - high))
