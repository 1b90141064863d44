cdef void binary_cross_entropy(const real* logits, const real* target, const real* pos_weight, real* gradient,
                               double* terms, real factor, real one, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real x, e, positive, negative, up, down
    cdef real[1024] soft                        # as many as a tile has at the most
    for i in range(n):                          # three loops: one long chain of operations would leave units idle
        gradient[i] = exp(-magnitude(logits[i]))
    for i in range(n):
        soft[i] = log1p(gradient[i])
    for i in range(n):
        x = logits[i]
        e = gradient[i]
        positive = pos_weight[i] * target[i]
        negative = one - target[i]
        up = negative if x > 0 else negative * e        # over 1 + e these are (1 - target) sigmoid(logits)
        down = positive * e if x > 0 else positive      # and pos_weight target sigmoid(-logits)
        gradient[i] = factor * ((up - down) / (one + e))
        up = negative if x > 0 else positive
        terms[i] = <double>((positive + negative) * soft[i] + weighted(up, magnitude(x)))
