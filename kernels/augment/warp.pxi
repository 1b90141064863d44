cdef inline void take_bytes(const pixel* source, const int32_t* place, real* p, int32_t start,
                            int32_t stop) noexcept nogil:
    cdef int32_t x
    for x in range(start, stop):
        p[x] = <real>source[place[x]]


cdef inline void scatter(const pixel* z, pixel* out, Py_ssize_t step, int32_t n) noexcept nogil:
    cdef int32_t x
    for x in range(n):
        out[x * step] = z[x]


# One strip of a row of the result at a time. First where each pixel comes from, then for each channel the four pixels
# around it and their mean. Along a row u and v run one way, so that the pixels with all four neighbours in the image
# stand together: they need no selects. Everything passes through arrays of the function's own, which no pointer
# reaches: else gcc must think that a store changes what the next gather reads.
cdef inline void warp_sample(const pixel* image, const real* m, const real* colour, const int32_t* box,
                             const real* fill, pixel* out, const Py_ssize_t* shape) noexcept nogil:
    cdef Py_ssize_t channels = shape[0], height = shape[1], width = shape[2], rows = shape[3], columns = shape[4]
    cdef Py_ssize_t last = shape[5], edge = shape[6], y, c, first, out_step = channels if last else 1
    cdef Py_ssize_t out_plane = 1 if last else rows * columns, plane = 1 if last else height * width
    cdef int32_t step = channels if last else 1, line = width * step, high = height, wide = width, any_place = edge
    cdef int32_t x, n, i, j, i1, j1, inside, begin, end, start, stop, part, left, right
    cdef int32_t[128] o00, o01, o10, o11, k00, k01, k10, k11, column, row
    cdef real[128] s, t, p00, p01, p10, p11, z
    cdef uint8_t[128] byte
    cdef real u, v, r, du, dv, m0 = m[0], m3 = m[3], gain = colour[0], shift = colour[1], beyond, top
    cdef real low = -2, u_high = <real>(width + 1), v_high = <real>(height + 1)
    cdef const pixel* source
    cdef pixel* target
    for y in range(rows):
        du = m[1] * <real>y + m[2]
        dv = m[4] * <real>y + m[5]
        for first in range(0, columns, 128):
            n = min(<Py_ssize_t>128, columns - first)
            begin, end = n, 0
            for x in range(n):
                r = <real>(<int32_t>first + x)
                u = m0 * r + du
                v = m3 * r + dv
                u = u if u > low else low
                v = v if v > low else low
                u = u if u < u_high else u_high
                v = v if v < v_high else v_high
                r = floor(u)
                top = floor(v)
                s[x] = u - r
                t[x] = v - top
                i = <int32_t>r
                j = <int32_t>top
                inside = (i >= 0) & (i < wide - 1) & (j >= 0) & (j < high - 1)
                column[x] = i
                row[x] = j
                o00[x] = j * line + i * step
                start = x if inside else n
                stop = x + 1 if inside else 0
                begin = start if start < begin else begin
                end = stop if stop > end else end
            if end == 0:
                begin = 0
            for part in range(2):               # the two sides of the inner part
                start = end if part else 0
                stop = n if part else begin
                for x in range(start, stop):
                    i, j = column[x], row[x]
                    i1, j1 = i + 1, j + 1
                    k00[x] = any_place | ((i >= 0) & (i < wide) & (j >= 0) & (j < high))
                    k01[x] = any_place | ((i1 >= 0) & (i1 < wide) & (j >= 0) & (j < high))
                    k10[x] = any_place | ((i >= 0) & (i < wide) & (j1 >= 0) & (j1 < high))
                    k11[x] = any_place | ((i1 >= 0) & (i1 < wide) & (j1 >= 0) & (j1 < high))
                    i = i if i > 0 else 0
                    i = i if i < wide else wide - 1
                    j = j if j > 0 else 0
                    j = j if j < high else high - 1
                    i1 = i1 if i1 > 0 else 0
                    i1 = i1 if i1 < wide else wide - 1
                    j1 = j1 if j1 > 0 else 0
                    j1 = j1 if j1 < high else high - 1
                    o00[x] = j * line + i * step
                    o01[x] = j * line + i1 * step
                    o10[x] = j1 * line + i * step
                    o11[x] = j1 * line + i1 * step
            left = max(<Py_ssize_t>0, min(<Py_ssize_t>n, box[1] - first)) if box[0] <= y < box[2] else 0
            right = max(<Py_ssize_t>0, min(<Py_ssize_t>n, box[3] - first)) if box[0] <= y < box[2] else 0
            for c in range(channels):
                source = image + c * plane
                target = out + c * out_plane + (y * columns + first) * out_step
                beyond = fill[c]
                for part in range(2):
                    start = end if part else 0
                    stop = n if part else begin
                    if pixel is uint8_t:
                        take_bytes(source, o00, p00, start, stop)
                        take_bytes(source, o01, p01, start, stop)
                        take_bytes(source, o10, p10, start, stop)
                        take_bytes(source, o11, p11, start, stop)
                    else:
                        for x in range(start, stop):
                            p00[x] = source[o00[x]]
                            p01[x] = source[o01[x]]
                            p10[x] = source[o10[x]]
                            p11[x] = source[o11[x]]
                    for x in range(start, stop):
                        p00[x] = p00[x] if k00[x] != 0 else beyond
                        p01[x] = p01[x] if k01[x] != 0 else beyond
                        p10[x] = p10[x] if k10[x] != 0 else beyond
                        p11[x] = p11[x] if k11[x] != 0 else beyond
                if pixel is uint8_t:
                    take_bytes(source, o00, p00, begin, end)
                    take_bytes(source + step, o00, p01, begin, end)
                    take_bytes(source + line, o00, p10, begin, end)
                    take_bytes(source + line + step, o00, p11, begin, end)
                else:
                    for x in range(begin, end):
                        p00[x] = source[o00[x]]
                        p01[x] = source[o00[x] + step]
                        p10[x] = source[o00[x] + line]
                        p11[x] = source[o00[x] + line + step]
                for x in range(n):
                    u = p00[x] + s[x] * (p01[x] - p00[x])
                    v = p10[x] + s[x] * (p11[x] - p10[x])
                    z[x] = (u + t[x] * (v - u)) * gain + shift
                for x in range(left, right):
                    z[x] = beyond
                if pixel is uint8_t:
                    for x in range(n):
                        u = z[x] if z[x] > 0 else 0
                        u = u if u < 255 else 255
                        byte[x] = <uint8_t><int32_t>(u + <real>0.5)
                    if out_step == 1:
                        memcpy(target, byte, n)
                    else:
                        scatter(<const pixel*>byte, target, out_step, n)
                elif out_step == 1:
                    memcpy(target, z, n * sizeof(pixel))
                else:
                    scatter(<const pixel*>z, target, out_step, n)


cdef void warp(const real* images, const real* matrices, const real* colours, const int32_t* boxes, const real* fill,
               real* out, Py_ssize_t samples, Py_ssize_t size, Py_ssize_t channels, Py_ssize_t height,
               Py_ssize_t width, Py_ssize_t out_height, Py_ssize_t out_width, Py_ssize_t last,
               Py_ssize_t edge) noexcept nogil:
    cdef Py_ssize_t n
    cdef Py_ssize_t[7] shape
    shape[0], shape[1], shape[2], shape[3] = channels, height, width, out_height
    shape[4], shape[5], shape[6] = out_width, last, edge
    for n in range(samples):
        warp_sample(images + n * (channels * height * width), matrices + 6 * n, colours + 2 * n, boxes + 4 * n, fill,
                    out + n * size, shape)


cdef void warp_bytes(const uint8_t* images, const float* matrices, const float* colours, const int32_t* boxes,
                     const float* fill, uint8_t* out, Py_ssize_t samples, Py_ssize_t size, Py_ssize_t channels,
                     Py_ssize_t height, Py_ssize_t width, Py_ssize_t out_height, Py_ssize_t out_width, Py_ssize_t last,
                     Py_ssize_t edge) noexcept nogil:
    cdef Py_ssize_t n
    cdef Py_ssize_t[7] shape
    shape[0], shape[1], shape[2], shape[3] = channels, height, width, out_height
    shape[4], shape[5], shape[6] = out_width, last, edge
    for n in range(samples):
        warp_sample(images + n * (channels * height * width), matrices + 6 * n, colours + 2 * n, boxes + 4 * n, fill,
                    out + n * size, shape)
