"""Linear over a sparse matrix: z = x w + b for some rows of x, and its gradients, in time that grows with the nonzeros.

x is CSR: row i has the values data[k] in the columns indices[k], k from indptr[i] to indptr[i + 1]. z is (rows,
outputs), w (inputs, outputs), b (outputs,). Every sum runs in the order of k, as in ``linear`` in the order of columns:
where x holds no zeros, z has the bits that ``linear`` gives for the dense matrix, unless a weight is infinite or NaN.

Ranges: data, w, b and dz float32 or float64 of one dtype, C-contiguous; indices int32, indptr and rows int64, within
the matrix. The caller checks them: this is the inside of ``pyopt.estimators``.
Source: I. Duff, R. Grimes, J. Lewis, "Sparse matrix test problems", 1989, https://doi.org/10.1145/62038.62043

>>> import numpy as np
>>> from pyopt.kernels.linear_models import sparse_linear
>>> x = np.array([2.0, 3.0]), np.array([1, 0], np.int32), np.array([0, 1, 2])
>>> w, b, rows = np.array([[10.0], [100.0]]), np.array([0.5]), np.array([1, 0])
>>> print(sparse_linear.forward(x, rows, w, b).ravel())
[ 30.5 200.5]
>>> print(sparse_linear.backward(x, rows, np.array([[1.0], [2.0]]), 2)[0].ravel())
[3. 4.]
"""

import numpy as np

from ..cpu import engine, isa


def reference_forward(x, rows, w, b):
    data, indices, indptr = x
    z = np.repeat(b[None], len(rows), axis=0)
    with np.errstate(all="ignore"):
        for i, row in enumerate(rows):
            for k in range(indptr[row], indptr[row + 1]):
                z[i] = z[i] + data[k] * w[indices[k]]
    return z


def reference_backward(x, rows, dz, inputs):
    data, indices, indptr = x
    dw, db = np.zeros((inputs, dz.shape[1]), dz.dtype), np.zeros(dz.shape[1], dz.dtype)
    with np.errstate(all="ignore"):
        for i, row in enumerate(rows):
            db = db + dz[i]
            for k in range(indptr[row], indptr[row + 1]):
                dw[indices[k]] = dw[indices[k]] + data[k] * dz[i]
    return dw, db


def forward(x, rows, w, b):
    """Return z of some rows."""
    z = np.empty((len(rows), len(b)), w.dtype)
    strides = (0, 0, 0, rows.itemsize, 0, 0, z.shape[1] * z.itemsize)
    engine.sweep(isa.tiles(), "linear_models.sparse_forward", (*x, rows, w, b, z), strides, z.shape)
    return z


def backward(x, rows, dz, inputs):
    """Return dw and db, for the same rows."""
    dw, db = np.empty((inputs, dz.shape[1]), dz.dtype), np.empty(dz.shape[1], dz.dtype)
    sizes = (1, len(rows), inputs, dz.shape[1])  # one call: rows meet in the same weights
    engine.sweep(isa.tiles(), "linear_models.sparse_backward", (*x, rows, dz, dw, db), (0,) * 7, sizes)
    return dw, db
