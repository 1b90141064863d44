cdef inline void take_bytes(const pixel* source, const int32_t* place, real* p, int32_t start,
                            int32_t stop) noexcept nogil:
    cdef int32_t x
    for x in range(start, stop):
        p[x] = <real>source[place[x]]


cdef inline void put(const pixel* z, pixel* out, Py_ssize_t step, int32_t n) noexcept nogil:
    cdef int32_t x
    if step == 1:
        memcpy(out, z, n * sizeof(pixel))
        return
    for x in range(n):
        out[x * step] = z[x]


# One strip of a row of the result at a time. First where each pixel comes from, then for each channel the four pixels
# around it and their mean. Along a row u and v run one way, so that the pixels with all four neighbours in the image
# stand together: they need no selects.
cdef struct Geometry:
    Py_ssize_t channels, height, width, rows, columns, last, edge

cdef struct Strip:                  # in one piece, so that gcc sees that its arrays do not overlap
    int32_t[128] o00, o01, o10, o11, k00, k01, k10, k11, column, row
    int32_t n, begin, end           # pixels; from `begin` to `end` all four neighbours are in the image


cdef inline void locate(Strip* a, real* share, const real* m, const Geometry* of, Py_ssize_t y, Py_ssize_t first,
                        int32_t step, int32_t line) noexcept nogil:
    """Find the upper left neighbour of each pixel; `share` takes how far to the right of it, then how far below."""
    cdef int32_t x, i, j, inside, start, stop, n = a.n, begin = n, end = 0
    cdef int32_t high = of.height, wide = of.width
    cdef real u, v, left, top, m0 = m[0], m3 = m[3], du = m[1] * <real>y + m[2], dv = m[4] * <real>y + m[5]
    cdef real low = -2, u_high = <real>(wide + 1), v_high = <real>(high + 1)
    for x in range(n):
        left = <real>(<int32_t>first + x)
        u = m0 * left + du
        v = m3 * left + dv
        u = u if u > low else low
        v = v if v > low else low
        u = u if u < u_high else u_high
        v = v if v < v_high else v_high
        left = floor(u)
        top = floor(v)
        share[x] = u - left
        share[128 + x] = v - top
        i = <int32_t>left
        j = <int32_t>top
        inside = (i >= 0) & (i < wide - 1) & (j >= 0) & (j < high - 1)
        a.column[x] = i
        a.row[x] = j
        a.o00[x] = j * line + i * step
        start = x if inside else n
        stop = x + 1 if inside else 0
        begin = start if start < begin else begin
        end = stop if stop > end else end
    a.begin = begin if end > 0 else 0
    a.end = end


cdef inline void look_beyond(Strip* a, const Geometry* of, int32_t start, int32_t stop, int32_t step,
                             int32_t line) noexcept nogil:
    """For pixels near a border: the places of all four neighbours, and which of them count."""
    cdef int32_t x, i, j, i1, j1, high = of.height, wide = of.width, any_place = of.edge
    for x in range(start, stop):
        i, j = a.column[x], a.row[x]
        i1, j1 = i + 1, j + 1
        a.k00[x] = any_place | ((i >= 0) & (i < wide) & (j >= 0) & (j < high))
        a.k01[x] = any_place | ((i1 >= 0) & (i1 < wide) & (j >= 0) & (j < high))
        a.k10[x] = any_place | ((i >= 0) & (i < wide) & (j1 >= 0) & (j1 < high))
        a.k11[x] = any_place | ((i1 >= 0) & (i1 < wide) & (j1 >= 0) & (j1 < high))
        i = i if i > 0 else 0
        i = i if i < wide else wide - 1
        j = j if j > 0 else 0
        j = j if j < high else high - 1
        i1 = i1 if i1 > 0 else 0
        i1 = i1 if i1 < wide else wide - 1
        j1 = j1 if j1 > 0 else 0
        j1 = j1 if j1 < high else high - 1
        a.o00[x] = j * line + i * step
        a.o01[x] = j * line + i1 * step
        a.o10[x] = j1 * line + i * step
        a.o11[x] = j1 * line + i1 * step


# What is gathered stays in arrays of the function's own, which no pointer reaches: else gcc must think that a store
# changes what the next gather reads.
cdef inline void sample(const Strip* a, const real* share, const pixel* source, pixel* out, const real* colour,
                        real fill, int32_t left, int32_t right, Py_ssize_t out_step, int32_t step,
                        int32_t line) noexcept nogil:
    """A strip of one channel; the pixels from `left` to `right` are cut out."""
    cdef int32_t x, part, start, stop, n = a.n, begin = a.begin, end = a.end
    cdef real[128] p00, p01, p10, p11, z
    cdef uint8_t[128] byte
    cdef real u, v, gain = colour[0], shift = colour[1], beyond = (fill - shift) / gain
    for part in range(2):                       # the two sides of the inner part
        start = end if part else 0
        stop = n if part else begin
        if pixel is uint8_t:
            take_bytes(source, a.o00, p00, start, stop)
            take_bytes(source, a.o01, p01, start, stop)
            take_bytes(source, a.o10, p10, start, stop)
            take_bytes(source, a.o11, p11, start, stop)
        else:
            for x in range(start, stop):
                p00[x] = source[a.o00[x]]
                p01[x] = source[a.o01[x]]
                p10[x] = source[a.o10[x]]
                p11[x] = source[a.o11[x]]
        for x in range(start, stop):
            p00[x] = p00[x] if a.k00[x] != 0 else beyond
            p01[x] = p01[x] if a.k01[x] != 0 else beyond
            p10[x] = p10[x] if a.k10[x] != 0 else beyond
            p11[x] = p11[x] if a.k11[x] != 0 else beyond
    if pixel is uint8_t:
        take_bytes(source, a.o00, p00, begin, end)
        take_bytes(source + step, a.o00, p01, begin, end)
        take_bytes(source + line, a.o00, p10, begin, end)
        take_bytes(source + line + step, a.o00, p11, begin, end)
    else:
        for x in range(begin, end):
            p00[x] = source[a.o00[x]]
            p01[x] = source[a.o00[x] + step]
            p10[x] = source[a.o00[x] + line]
            p11[x] = source[a.o00[x] + line + step]
    for x in range(n):
        u = p00[x] + share[x] * (p01[x] - p00[x])
        v = p10[x] + share[x] * (p11[x] - p10[x])
        z[x] = (u + share[128 + x] * (v - u)) * gain + shift
    for x in range(left, right):
        z[x] = fill
    if pixel is uint8_t:
        for x in range(n):
            u = z[x] if z[x] > 0 else 0
            u = u if u < 255 else 255
            byte[x] = <uint8_t><int32_t>(u + <real>0.5)
        put(<const pixel*>byte, out, out_step, n)
    else:
        put(<const pixel*>z, out, out_step, n)


cdef inline void warp_sample(const pixel* image, const real* m, const real* colour, const int32_t* box,
                             const real* fill, pixel* out, const Geometry* of) noexcept nogil:
    cdef Strip strip
    cdef real[256] share
    cdef Py_ssize_t y, c, first, out_step = of.channels if of.last else 1
    cdef Py_ssize_t out_plane = 1 if of.last else of.rows * of.columns, plane = 1 if of.last else of.height * of.width
    cdef int32_t step = of.channels if of.last else 1, line = of.width * step, left, right
    for y in range(of.rows):
        for first in range(0, of.columns, 128):
            strip.n = min(<Py_ssize_t>128, of.columns - first)
            locate(&strip, share, m, of, y, first, step, line)
            look_beyond(&strip, of, 0, strip.begin, step, line)
            look_beyond(&strip, of, strip.end, strip.n, step, line)
            left = max(<Py_ssize_t>0, min(<Py_ssize_t>strip.n, box[1] - first)) if box[0] <= y < box[2] else 0
            right = max(<Py_ssize_t>0, min(<Py_ssize_t>strip.n, box[3] - first)) if box[0] <= y < box[2] else 0
            for c in range(of.channels):
                sample(&strip, share, image + c * plane, out + c * out_plane + (y * of.columns + first) * out_step,
                       colour, fill[c], left, right, out_step, step, line)


cdef void warp(const real* images, const real* matrices, const real* colours, const int32_t* boxes, const real* fill,
               real* out, Py_ssize_t samples, Py_ssize_t size, Py_ssize_t channels, Py_ssize_t height,
               Py_ssize_t width, Py_ssize_t out_height, Py_ssize_t out_width, Py_ssize_t last,
               Py_ssize_t edge) noexcept nogil:
    cdef Py_ssize_t n
    cdef Geometry shape
    shape.channels, shape.height, shape.width, shape.rows = channels, height, width, out_height
    shape.columns, shape.last, shape.edge = out_width, last, edge
    for n in range(samples):
        warp_sample(images + n * (channels * height * width), matrices + 6 * n, colours + 2 * n, boxes + 4 * n, fill,
                    out + n * size, &shape)


cdef void warp_bytes(const uint8_t* images, const float* matrices, const float* colours, const int32_t* boxes,
                     const float* fill, uint8_t* out, Py_ssize_t samples, Py_ssize_t size, Py_ssize_t channels,
                     Py_ssize_t height, Py_ssize_t width, Py_ssize_t out_height, Py_ssize_t out_width, Py_ssize_t last,
                     Py_ssize_t edge) noexcept nogil:
    cdef Py_ssize_t n
    cdef Geometry shape
    shape.channels, shape.height, shape.width, shape.rows = channels, height, width, out_height
    shape.columns, shape.last, shape.edge = out_width, last, edge
    for n in range(samples):
        warp_sample(images + n * (channels * height * width), matrices + 6 * n, colours + 2 * n, boxes + 4 * n, fill,
                    out + n * size, &shape)
