cdef void binary_cross_entropy(const real* logits, const real* target, const real* pos_weight, real* gradient,
                               double* terms, real factor, real one, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real x, e, r, l, up, down, positive, negative
    for i in range(n):
        x = logits[i]
        e = exp(-magnitude(x))
        r = one / (one + e)
        l = log1p(e)
        up = r if x > 0 else e * r              # sigmoid(x) and sigmoid(-x): never a difference of near numbers
        down = e * r if x > 0 else r
        positive = pos_weight[i] * target[i]
        negative = one - target[i]
        gradient[i] = factor * (negative * up - positive * down)
        terms[i] = <double>(positive * (relu(-x) + l) + negative * (relu(x) + l))
