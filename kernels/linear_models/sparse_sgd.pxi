cdef inline real row_product(const real* data, const int32_t* indices, const real* w, Py_ssize_t n) noexcept nogil:
    cdef real[4] lane
    cdef Py_ssize_t k = 0
    lane[0], lane[1], lane[2], lane[3] = 0, 0, 0, 0
    while k + 4 <= n:
        lane[0] = lane[0] + data[k] * w[indices[k]]
        lane[1] = lane[1] + data[k + 1] * w[indices[k + 1]]
        lane[2] = lane[2] + data[k + 2] * w[indices[k + 2]]
        lane[3] = lane[3] + data[k + 3] * w[indices[k + 3]]
        k += 4
    while k < n:
        lane[k & 3] = lane[k & 3] + data[k] * w[indices[k]]
        k += 1
    return (lane[0] + lane[2]) + (lane[1] + lane[3])


cdef inline void settle(const int32_t* indices, real* w, double* seen, double due, Py_ssize_t n) noexcept nogil:
    """Move the weights of a row by what has become due."""
    cdef Py_ssize_t k, j
    for k in range(n):
        j = indices[k]
        w[j] = soft(w[j], <real>(due - seen[j]))
        seen[j] = due


cdef inline void settle_all(real* w, double* seen, double due, double scale, real threshold,
                            Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    if threshold != 0:
        for j in range(n):
            w[j] = soft(w[j], <real>(due - seen[j])) * <real>scale
            seen[j] = 0
        return
    for j in range(n):
        w[j] = w[j] * <real>scale


cdef double descend_sparse(const real* data, const int32_t* indices, const int64_t* indptr, const int64_t* order,
                           real* w, real* b, const real* y, const real* weight, const real* rate, real* c,
                           double* seen, real two_alpha, real threshold, real intercept, bint logistic,
                           Py_ssize_t rows, Py_ssize_t features, Py_ssize_t batch) noexcept nogil:
    """An epoch of one model; the sum of the losses."""
    cdef double[64] lane
    cdef real[64] z, t, v               # of the row at place i: element i mod 64
    cdef real total, length, move
    cdef double due = 0, scale = 1
    cdef Py_ssize_t i = 0, k, stop, end, start, step = 0, row, first, j
    for k in range(64):
        lane[k] = 0
    for k in range(features):
        seen[k] = 0
    while i < rows:
        start, end = i, min(rows, i + batch)
        if threshold != 0:
            for k in range(start, end):
                first = indptr[order[k]]
                settle(indices + first, w, seen, due, indptr[order[k] + 1] - first)
        while i < end:
            stop = min(end, (i | 63) + 1)
            for k in range(i, stop):
                row = order[k]
                first = indptr[row]
                z[k & 63] = row_product(data + first, indices + first, w, indptr[row + 1] - first) * <real>scale + b[0]
                t[k & 63], v[k & 63] = y[row], weight[row]
                if k + 8 < rows:        # rows lie anywhere: this one comes from memory by the time it is needed
                    first = indptr[order[k + 8]]
                    j = indptr[order[k + 8] + 1] - first
                    prefetch(data + first, 0, j * sizeof(real))
                    prefetch(indices + first, 0, j * sizeof(int32_t))
            row_slopes(&z[i & 63], &t[i & 63], &v[i & 63], c + i - start, logistic, stop - i)
            if stop & 63 == 0 or stop == rows:
                add_row_losses(z, t, v, lane, logistic, stop - ((stop - 1) & ~<Py_ssize_t>63))
            i = stop
        scale = scale * (1.0 - <double>rate[step] * <double>two_alpha)
        if not scale >= 9.5367431640625e-07:            # 2^-20
            settle_all(w, seen, due, scale, threshold, features)
            due, scale = 0, 1
        length = <real>(<double>rate[step] / <double>(end - start) / scale)
        total = c[0]
        for k in range(end - start):
            if k:
                total = total + c[k]
            row, move = order[start + k], length * c[k]
            for j in range(indptr[row], indptr[row + 1]):
                w[indices[j]] = w[indices[j]] - move * data[j]
        due = due + <double>rate[step] * <double>threshold / scale
        b[0] = b[0] - intercept * rate[step] * (total * (<real>1.0 / <real>(end - start)))
        step += 1
    settle_all(w, seen, due, scale, threshold, features)
    return fold64(lane)


cdef void sparse_sgd_squared(const real* data, const int32_t* indices, const int64_t* indptr, const int64_t* order,
                             real* w, real* b, const real* y, const real* weight, const real* rate, real* c,
                             double* seen, double* loss, real two_alpha, real threshold, real intercept,
                             Py_ssize_t rows, Py_ssize_t features, Py_ssize_t batch) noexcept nogil:
    loss[0] = descend_sparse(data, indices, indptr, order, w, b, y, weight, rate, c, seen, two_alpha, threshold,
                             intercept, False, rows, features, batch)


cdef void sparse_sgd_logistic(const real* data, const int32_t* indices, const int64_t* indptr, const int64_t* order,
                              real* w, real* b, const real* y, const real* weight, const real* rate, real* c,
                              double* seen, double* loss, real two_alpha, real threshold, real intercept,
                              Py_ssize_t rows, Py_ssize_t features, Py_ssize_t batch) noexcept nogil:
    loss[0] = descend_sparse(data, indices, indptr, order, w, b, y, weight, rate, c, seen, two_alpha, threshold,
                             intercept, True, rows, features, batch)
