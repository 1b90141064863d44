"""A few steps of every kind over small arrays, for the sanitizers of CUDA: ``python -m bench.gpu.small``."""

from __future__ import annotations

import numpy as np

import pyopt
from pyopt.kernels import view
from pyopt.kernels.cuda import arrays as gpu_arrays
from pyopt.kernels.cuda import driver


def put(values: np.ndarray) -> gpu_arrays.Array:
    """Return a copy on the GPU."""
    kind = view.KINDS[values.dtype.name]
    made = gpu_arrays.Array(driver.find(0), values.shape, view.contiguous(values.shape), kind)
    made.set(values)
    return made


def main() -> None:
    """Step whole arrays, whole rows and some rows."""
    rng = np.random.default_rng(0)
    shapes = ((1000, 37), (3, 9001), (5,))

    def arrays(dtype: type) -> list[gpu_arrays.Array]:
        return [put(rng.normal(size=shape).astype(dtype)) for shape in shapes]

    for dtype in (np.float32, np.float64, np.float16):
        options = {"max_grad_norm": 1.0, "max_tensor_norm": 0.5, "ema_decay": 0.9, "skip_nonfinite": True}
        pyopt.AdamW(arrays(dtype), penalty=pyopt.L1(1e-3), **options).step(arrays(dtype), zero_grads=True)
        rows = pyopt.Lion(arrays(dtype), prox=pyopt.MaxNorm(1.0), penalty=pyopt.GroupLasso(1e-3), weight_decay=0.1)
        rows.step(arrays(dtype))
        values = put(rng.normal(size=(500, 37)).astype(dtype))
        rows.step_rows(rng.integers(0, 1000, 500), values, 0)
        rows.catch_up_rows()
        assert all(np.isfinite(p.get()).all() for p in rows.param_groups[0]["params"])


if __name__ == "__main__":
    main()
