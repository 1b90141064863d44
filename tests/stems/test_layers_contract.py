"""Every layer is complete, and its GPU form in plain Python gives the bits of its reference."""

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest

from pyopt import kernels, layers
from pyopt.kernels.cpu import isa
from pyopt.kernels.cuda.device.intrinsics import Host
from pyopt.kernels.layers import LAYERS, batch_norm, bias_gelu, bias_relu, dropout, layer_norm, linear
from pyopt.kernels.numerics import normal, philox, reductions
from support.contract import broken, layer_faults
from support.helpers import same_bits, wild

FOLDER = Path(kernels.__file__).parent / "layers"
N = 400


@pytest.mark.parametrize("stem", sorted(LAYERS))
def test_layer(stem):
    exported = stem in vars(layers) or stem == "linear"  # has checks of its own
    for tiles in map(isa.tiles, isa.available()):
        assert layer_faults(FOLDER, stem, tiles, exported=exported) == []


def test_nothing_is_left_over():
    files = {path.name for path in FOLDER.iterdir() if path.suffix in {".py", ".pxi"}}
    assert files == {f"{stem}{suffix}" for stem in LAYERS for suffix in (".py", ".pxi", "_cuda.py")} | {"__init__.py"}


@pytest.mark.parametrize("stem", sorted(LAYERS))
def test_example(stem):
    result = doctest.testmod(LAYERS[stem], raise_on_error=False)
    assert result.attempted >= 3
    assert result.failed == 0


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("dropout.pxi", None, "no file dropout.pxi"),
        ("dropout_cuda.py", None, "no file dropout_cuda.py"),
        ("dropout_cuda.py", ("def dropout(", "def drop("), "no dropout in dropout_cuda.py"),
        ("dropout.pxi", ("cdef void dropout(", "cdef void dropout_more("), "no layers.dropout_more as compiled"),
        ("dropout.pxi", ("cdef void dropout(", "cdef void drop("), "the tile drop is not named after dropout"),
        ("dropout.pxi", ("cdef void dropout(", "cdef inline void dropout("), "no tile in dropout.pxi"),
        ("dropout.py", ("Deviations: ", "Else: "), "no section Deviations:"),
        ("dropout.py", (".. math::", ".. code::"), "no equation"),
    ],
)
def test_checker_names_what_is_broken(tmp_path, file, change, message):
    assert layer_faults(FOLDER, "dropout", isa.tiles(), exported=True) == []
    found = layer_faults(broken(FOLDER, tmp_path, file, change), "dropout", isa.tiles(), exported=True)
    assert f"dropout: {message}" in "\n".join(found)


def test_checker_names_a_layer_that_is_not_exported():
    found = layer_faults(FOLDER, "dropout", isa.tiles(), exported=False)
    assert found == ["dropout: not exported in pyopt.layers"]


# ---- the GPU forms, one NumPy scalar after another


def device(stem, name=None):
    return getattr(importlib.import_module(f"pyopt.kernels.{stem}_cuda"), name or stem.rpartition(".")[2])


def each(form, dtype, *columns):
    """Return a form's result for each row of the columns; where it returns several, an array of each."""
    rows = [form(*row) for row in zip(*(c if np.ndim(c) else [c] * N for c in columns), strict=True)]
    parts = list(zip(*rows, strict=True)) if isinstance(rows[0], tuple) else [rows]
    assert {type(x) for part in parts for x in part} == {dtype}
    return [np.array(part) for part in parts]


@pytest.fixture
def columns(dtype):
    """Return columns of wild numbers."""
    return [wild(N, dtype, i) for i in range(8)]


pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflow and NaN, on purpose


def test_gpu_form_of_the_normal_distribution(dtype):
    x = np.concatenate([wild(N - 100, dtype, 1), np.linspace(-100, 0, 100).astype(dtype)])
    x = np.where(x > 0, -x, x)
    for got, want in zip(each(device("numerics.normal"), dtype, -x), normal.normal(-x), strict=True):
        same_bits(got, want)


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["bias_gelu", "bias_gelu_tanh"])
def test_gpu_forms_of_gelu_compile(dtype, columns, name):
    dy, x, b = columns[:3]
    more = (dtype(0), dtype(1), *map(dtype, bias_gelu.TANH)) if name == "bias_gelu_tanh" else ()
    form = Host().adopt(device("layers.bias_gelu", f"{name}_backward"))
    got = [form(*row, *more) for row in zip(dy, x, b, strict=True)]
    assert form.nopython_signatures[0].return_type.name == dtype.__name__
    kind = "tanh" if more else "none"
    same_bits(np.array(got, dtype), bias_gelu.reference_backward(dy[None], x[None], b, kind)[0][0])


def test_gpu_forms_of_bias_layers(dtype, columns):
    dy, x, b = columns[:3]
    zero, one = dtype(0), dtype(1)
    tanh = (zero, one, *map(dtype, bias_gelu.TANH))
    cases = [("bias_relu", bias_relu, (), (zero,)), ("bias_gelu", bias_gelu, ("none",), ())]
    for name, module, form, more in [*cases, ("bias_gelu_tanh", bias_gelu, ("tanh",), tanh)]:
        stem = f"layers.{module.__name__.rpartition('.')[2]}"
        want = np.array([module.reference_forward(x[i : i + 1], b[i], *form)[0] for i in range(N)])
        same_bits(each(device(stem, f"{name}_forward"), dtype, x, b, *more)[0], want, name)
        want = module.reference_backward(dy[None], x[None], b, *form)[0][0]
        same_bits(each(device(stem, f"{name}_backward"), dtype, dy, x, b, *more)[0], want, name)


def test_gpu_form_of_dropout(dtype, columns):
    threshold, scale = dropout.settings(0.3)
    bits = philox.bits16(5, 0, N, 2, philox.DROPOUT, 1)
    got = each(device("layers.dropout"), dtype, columns[0], bits, threshold, dtype(scale), dtype(0))[0]
    same_bits(got, dropout.reference(columns[0], 0.3, 5, 2, 1))


def test_gpu_forms_of_norms(dtype, columns):
    dy, x, weight, bias = (c.reshape(1, N) for c in columns[:4])
    wide = [c.astype(np.float64) for c in (dy, x)]
    mean, inv_std = np.array([0.3]), np.array([1.7])
    high, low, scale = (a[0] for a in batch_norm.factors(np.ones(1, dtype), mean, inv_std))
    planes = [a.reshape(1, 1, N) for a in (dy, x)]
    w, b = dtype(0.7), bias[0, :1]
    factors = [a[0] for a in batch_norm.factors(np.array([w]), mean, inv_std)]
    var = np.array([0.2])
    want = batch_norm.reference_forward(planes[1], np.array([w]), b, 0.1, mean, var)
    mine = [a[0] for a in batch_norm.factors(np.array([w]), mean, want[3])]
    same_bits(each(device("layers.batch_norm", "batch_norm_forward"), dtype, x[0], *mine, b[0])[0], want[0][0, 0])
    want = batch_norm.reference_backward(*planes, np.array([w]), mean, inv_std)
    total = reductions.row_sum(wide[0])
    product = reductions.row_sum(wide[0] * (wide[1] - mean)) * inv_std
    shares = [a[0] for a in batch_norm.shares(planes[1], total, product, inv_std)]
    got = each(device("layers.batch_norm", "batch_norm_backward"), dtype, dy[0], x[0], *factors, *shares)[0]
    same_bits(got, want[0][0, 0])
    got = each(device("layers.batch_norm", "batch_norm_scale"), dtype, dy[0], factors[2])[0]
    same_bits(got, batch_norm.reference_backward(*planes, np.array([w]), mean, inv_std, True)[0][0, 0])
    form = device("layers.batch_norm", "batch_norm_squares")
    d, squares = each(form, np.float64, wide[1][0], np.float64(0.3))
    same_bits(d, wide[1][0] - 0.3)
    same_bits(squares, d * d)
    terms = each(device("layers.batch_norm", "batch_norm_products"), np.float64, wide[0][0], wide[1][0], mean[0])
    same_bits(terms[1], wide[0][0] * (wide[1][0] - 0.3))
    form = device("layers.layer_norm", "layer_norm_backward")
    want = layer_norm.reference_backward(dy, x, weight[0], mean, inv_std)[0][0]
    g = wide[0] * weight.astype(np.float64)
    share = (reductions.row_sum(g) / N).astype(dtype)[0]
    slope = (reductions.row_sum(g * (wide[1] - mean)) * inv_std * inv_std / N).astype(dtype)[0]
    same_bits(each(form, dtype, dy[0], x[0], weight[0], high, low, scale, share, slope)[0], want)
    even = np.resize(np.array([1.0, -1.0], dtype), (1, N))  # mean 0, variance 1
    want = layer_norm.reference_forward(even, weight[0], bias[0], 3.0)
    assert (want[1][0], want[2][0]) == (0, 0.5)
    form = device("layers.layer_norm", "layer_norm_forward")
    same_bits(each(form, dtype, even[0], dtype(0), dtype(0), dtype(0.5), weight[0], bias[0])[0], want[0][0])


def test_gpu_forms_of_linear(dtype, columns):
    x, w, b = columns[:3]
    want = linear.reference_forward(x[:, None], w[:1, None], b[:1])[:, 0]
    same_bits(each(device("layers.linear", "linear_forward"), dtype, b[0], x, w[0])[0], want)
    want = linear.reference_backward(x[None], w[None, :1])[0][:, 0]
    same_bits(each(device("layers.linear", "linear_backward"), dtype, dtype(0), x, w[0])[0], want)
