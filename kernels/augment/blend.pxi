cdef inline void blend_sample(const pixel* a, const pixel* b, const real* weight, const int32_t* box, pixel* out,
                            Py_ssize_t size, Py_ssize_t channels, Py_ssize_t height, Py_ssize_t width,
                            Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t i, c, y, step = channels if last else 1, planes = 1 if last else channels
    cdef real z, mine = weight[0], other = weight[1]
    if mine == 1:
        memcpy(out, a, size * sizeof(pixel))
    else:
        for i in range(size):
            z = <real>a[i] * mine + <real>b[i] * other
            if pixel is uint8_t:
                z = z if z > 0 else 0
                z = z if z < 255 else 255
                out[i] = <uint8_t><int32_t>(z + <real>0.5)
            else:
                out[i] = z
    if box[3] > box[1]:
        for c in range(planes):
            for y in range(box[0], box[2]):
                i = ((c * height + y) * width + box[1]) * step
                memcpy(&out[i], &b[i], (box[3] - box[1]) * step * sizeof(pixel))


cdef void blend(const real* images, const real* pool, const int64_t* partners, const real* weights, const int32_t* boxes,
              real* out, Py_ssize_t samples, Py_ssize_t size, Py_ssize_t channels, Py_ssize_t height,
              Py_ssize_t width, Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t n
    for n in range(samples):
        blend_sample(images + n * size, pool + partners[n] * size, weights + 2 * n, boxes + 4 * n, out + n * size, size,
                   channels, height, width, last)


cdef void blend_bytes(const uint8_t* images, const uint8_t* pool, const int64_t* partners, const float* weights,
                    const int32_t* boxes, uint8_t* out, Py_ssize_t samples, Py_ssize_t size, Py_ssize_t channels,
                    Py_ssize_t height, Py_ssize_t width, Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t n
    for n in range(samples):
        blend_sample(images + n * size, pool + partners[n] * size, weights + 2 * n, boxes + 4 * n, out + n * size, size,
                   channels, height, width, last)
