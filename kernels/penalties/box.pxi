cdef void box_prox(real* p, const real* step, real low, real high, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real x
    for i in range(n):
        x = p[i]
        x = low if x <= low else x
        p[i] = high if x >= high else x
