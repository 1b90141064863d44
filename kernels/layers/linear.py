"""Linear: z = x w + b, and its gradients.

.. math::

    z_{ij} &= b_j + sum_k x_{ik} * w_{kj}

    dw_{kj} &= sum_i x_{ik} * dz_{ij},    db_j = sum_i dz_{ij}

z is (rows, outputs), x (rows, inputs), w (inputs, outputs), b (outputs,). The gradients of a loss with the gradient dz
are dw = x^T dz and db, the sum of the rows of dz.

BLAS is not used: the order of its sums changes with instruction set, number of threads and version, and with it the
bits. Here every sum runs in the order of its index, one multiplication and one addition at a time in the arrays' own
dtype, so that the bits are the same everywhere.

Ranges: float32 or float64 arrays of one dtype, C-contiguous, with shapes that fit. TypeError or ValueError else.
Deviations: none.
Source: D. Rumelhart, G. Hinton, R. Williams, "Learning representations by back-propagating errors", 1986,
https://doi.org/10.1038/323533a0

>>> import numpy as np
>>> from pyopt.kernels.layers import linear
>>> x, w, b = np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([0.5])
>>> print(linear.forward(x, w, b))
[[11.5]]
>>> print(linear.backward(x, np.array([[1.0]]))[0].ravel())
[1. 2.]
"""

import numpy as np

from .. import checks
from ..cpu import engine, isa


def reference_forward(x, w, b):
    with np.errstate(all="ignore"):
        z = np.repeat(b[None], len(x), axis=0)
        for k in range(len(w)):
            z = z + x[:, k : k + 1] * w[k]
        return z


def reference_backward(x, dz):
    dw, db = np.zeros((x.shape[1], dz.shape[1]), x.dtype), np.zeros(dz.shape[1], x.dtype)
    with np.errstate(all="ignore"):
        for i in range(len(x)):
            dw = dw + x[i][:, None] * dz[i]
            db = db + dz[i]
    return dw, db


def forward(x, w, b, out=None):
    """Return z, in ``out`` where it is given."""
    _check(x=x, w=w, b=b)
    if x.ndim != 2 or w.ndim != 2 or b.shape != w.shape[1:] or x.shape[1] != len(w):
        raise ValueError(
            f"x has shape {x.shape}, w {w.shape}, b {b.shape}: must be (rows, inputs), (inputs, outputs), (outputs,)"
        )
    (rows, inputs), outputs, size = x.shape, w.shape[1], x.itemsize
    z = np.empty((rows, outputs), x.dtype) if out is None else out
    if out is not None:
        _check(x=x, out=out)
        if out.shape != (rows, outputs) or not out.flags.writeable:
            raise ValueError(f"out has shape {out.shape}: must be {(rows, outputs)} and writable")
        if any(np.may_share_memory(out, a) for a in (x, w, b)):
            raise ValueError("out shares memory with x, w or b")
    strides, sizes = (inputs * size, 0, 0, outputs * size), (rows, inputs, outputs)
    block, work = _cut(rows, inputs * outputs)
    engine.sweep(isa.tiles(), "layers.linear_forward", (x, w, b, z), strides, sizes, block=block, work=work)
    return z


def backward(x, dz, bias=True):
    """Return dw and db; None for db without ``bias``."""
    _check(x=x, dz=dz)
    if x.ndim != 2 or dz.ndim != 2 or len(x) != len(dz):
        raise ValueError(f"x has shape {x.shape}, dz {dz.shape}: must be (rows, inputs), (rows, outputs)")
    db = _gradient(np.ones((len(x), 1), x.dtype), dz)[0] if bias else None  # 1 * dz is exact
    return _gradient(x, dz), db


def _gradient(x, dz):
    (rows, inputs), outputs, size = x.shape, dz.shape[1], x.itemsize
    dw = np.empty((inputs, outputs), x.dtype)
    strides, sizes = (size, 0, outputs * size), (inputs, inputs, rows, outputs)
    block, work = _cut(inputs, rows * outputs)
    engine.sweep(isa.tiles(), "layers.linear_backward", (x, dz, dw), strides, sizes, block=block, work=work)
    return dw


def _cut(rows, products):
    """Return the rows of a block, four at a time, and the elements that they are worth, at 16 products an element.

    There is one block, or an even number of blocks of 2^18 products or more.
    """
    parts = 2 * (rows * products >> 19) or 1
    return max(4, -(-rows // (4 * parts)) * 4), rows * products // 16


def _check(x, **others):
    checks.rows_array(x, "x")
    for name, a in others.items():
        checks.rows_array(a, name)
        if a.dtype != x.dtype:
            raise TypeError(f"{name} has dtype {a.dtype}, x {x.dtype}: they must agree")
