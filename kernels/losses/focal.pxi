cdef void focal(const real* logits, const real* target, real* gradient, double* terms, real factor, real positive,
                real negative, real gamma, real one, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef real y, s, u, e, r, l, p, q, miss, f
    for i in range(n):
        y = target[i]
        s = y + y - one
        u = s * logits[i]
        e = exp(-magnitude(u))
        r = one / (one + e)
        l = log1p(e)
        p = r if u > 0 else e * r               # the probability of the right class, and of the wrong one
        q = e * r if u > 0 else r
        miss = relu(-u) + l                     # -ln p; relu(u) + l is -ln q
        f = (y * positive + (one - y) * negative) * exp(-(gamma * (relu(u) + l)))
        gradient[i] = -factor * (s * (f * (gamma * (p * miss) + q)))
        terms[i] = <double>(f * miss)
