"""Dropout: the bits of the reference everywhere, the promised rate, and the same mask whenever it is asked for."""

import numpy as np
import pytest

import pyopt
from pyopt.kernels.layers import dropout
from pyopt.kernels.numerics import philox
from support.helpers import refused, same_bits, tame, wild

SHAPES = (
    (0,),
    (),
    (1,),
    (7,),
    (8,),
    (9,),
    (1023,),
    (1024,),
    (1025,),
    (5, 0, 3),
    (3, 5, 7),
    (16_384,),
    (70_001,),
    (211, 331),
)


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_of_the_reference(isa, storage, threads):
    pyopt.set_num_threads(threads)
    for i, shape in enumerate(SHAPES):
        for make in (tame, wild):
            x = make(int(np.prod(shape)), storage, i).reshape(shape)
            given = (0.07 * (i % 14), 2**64 - 1 - i if i % 2 else i, 2**32 - 1 - i, 2**24 - 1 - i)
            same_bits(pyopt.layers.dropout(x, *given), dropout.reference(x, *given), f"{make.__name__} {shape} {given}")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("offset", [0, 1, 5, 15])
def test_bits_past_the_caches(isa, storage, threads, offset, monkeypatch):
    """Lines go past the caches, and what stands before the first and after the last of them does not."""
    monkeypatch.setattr(dropout, "PAST_CACHES", 0)
    pyopt.set_num_threads(threads)
    for n in (1, 3, 16, 255, 256, 257, 300, 16_384 + 7, 70_001):
        room, x = np.full(n + 40, 9, storage), wild(n, storage, n)
        out = room[offset : offset + n]
        pyopt.layers.dropout(x, 0.3, 7, n, out=out)
        same_bits(out, dropout.reference(x, 0.3, 7, n), f"{n} numbers, {offset} from the start")
        assert (room[:offset] == 9).all()
        assert (room[offset + n :] == 9).all()


def test_the_bits_are_those_of_the_counter():
    """Element i is dropped where the 16 bits of word i % 8 // 2 of block i // 8 are below the threshold."""
    x = np.ones(40_000, np.float32)
    y = pyopt.layers.dropout(x, 0.25, seed=2**63 + 11, step=3, layer=4)
    words = philox.words(2**63 + 11, 0, 5000, 3, philox.DROPOUT, 4)
    for i in (0, 1, 7, 8, 1023, 1024, 16_383, 16_384, 39_999):
        half = int(words[i // 8, i % 8 // 2]) >> (16 * (i % 2)) & 0xFFFF
        assert (y[i] == 0) == (half < 16384), f"element {i}"


@pytest.mark.parametrize("p", [0.0, 1e-6, 0.1, 0.5, 0.9, 0.999, 1 - 1e-9])
def test_rate_and_scale(p):
    n = 1 << 21
    y = pyopt.layers.dropout(np.ones(n), p, seed=5, step=1)
    threshold = min(65535, round(p * 65536))
    rate = threshold / 65536
    assert abs(rate - p) <= 2.0**-16
    kept = np.count_nonzero(y)
    assert abs(kept - n * (1 - rate)) <= 5 * np.sqrt(n * rate * (1 - rate))
    assert set(np.unique(y)) <= {0.0, 65536 / (65536 - threshold)}
    assert y.max(initial=0) * (1 - rate) == pytest.approx(1, rel=1e-15)


def test_no_place_is_dropped_more_often_than_another():
    """Over steps, every place in every block is dropped at the same rate, and neighbours independently."""
    x, steps = np.ones(4096, np.float32), 400
    dropped = np.stack([pyopt.layers.dropout(x, 0.5, seed=9, step=t) == 0 for t in range(steps)]).astype(float)
    assert np.abs(dropped.mean(axis=0) - 0.5).max() < 6 * 0.5 / np.sqrt(steps)
    lanes = dropped.reshape(steps, -1, 8).mean(axis=(0, 1))
    assert np.abs(lanes - 0.5).max() < 5 * 0.5 / np.sqrt(steps * 512)
    signs = 2 * dropped - 1
    for other in (signs[:, 1:] * signs[:, :-1], signs[1:] * signs[:-1], signs[:, 8:] * signs[:, :-8]):
        assert abs(other.mean()) < 5 / np.sqrt(other.size)


def test_seed_step_and_layer_each_give_another_mask():
    x = np.ones(512, np.float32)
    masks = [
        pyopt.layers.dropout(x, 0.5, *given).tobytes()
        for given in ((1, 1, 0), (2, 1, 0), (1, 2, 0), (1, 1, 1), (1 + 2**32, 1, 0), (1, 1 + 2**16, 0), (1, 1, 2**16))
    ]
    assert len(set(masks)) == len(masks)
    assert pyopt.layers.dropout(x, 0.5, 1, 1).tobytes() == masks[0]


def test_backward_has_the_mask_of_forward(isa, dtype):
    x, dy = tame(70_001, dtype, 1), tame(70_001, dtype, 2)
    pyopt.set_num_threads(1)
    y = pyopt.layers.dropout(x, 0.3, seed=7, step=2, layer=1)
    pyopt.set_num_threads(2)
    dx = pyopt.layers.dropout(dy, 0.3, seed=7, step=2, layer=1)
    assert np.array_equal(y == 0, dx == 0)
    scale = dtype(dropout.settings(0.3)[1])
    same_bits(dx[y != 0], (dy * scale)[y != 0])


def test_dtypes_and_shapes_share_the_mask():
    x = np.ones((64, 33))
    want = pyopt.layers.dropout(x, 0.4, 1, 2) == 0
    assert np.array_equal(pyopt.layers.dropout(x.astype(np.float32), 0.4, 1, 2) == 0, want)
    assert np.array_equal(pyopt.layers.dropout(x.reshape(33, 64), 0.4, 1, 2) == 0, want.reshape(33, 64))
    assert np.array_equal(pyopt.layers.dropout(x[:40].copy(), 0.4, 1, 2) == 0, want[:40])


def test_special_numbers(dtype):
    x = np.resize(np.array([np.nan, np.inf, -np.inf, -0.0], dtype), 400)
    y = pyopt.layers.dropout(x, 0.5, 1, 1)
    dropped = pyopt.layers.dropout(np.ones(400, dtype), 0.5, 1, 1) == 0
    same_bits(y[dropped], np.zeros(dropped.sum(), dtype))
    same_bits(y[~dropped], x[~dropped])
    same_bits(pyopt.layers.dropout(x, 0.0, 1, 1), x)


def test_out_takes_the_result(dtype):
    x = tame((9, 5), dtype)
    out = np.full_like(x, np.nan)
    assert pyopt.layers.dropout(x, 0.5, 1, np.int64(2), out=out) is out
    same_bits(out, pyopt.layers.dropout(x, 0.5, 1, 2))


X = tame((6, 4), np.float32)
READ_ONLY = np.zeros_like(X)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (ValueError, ("p=1", "[0, 1)"), {"p": 1}),
        (ValueError, ("p=-0.1",), {"p": -0.1}),
        (ValueError, ("p=nan",), {"p": np.nan}),
        (TypeError, ("p=None",), {"p": None}),
        (TypeError, ("p=True",), {"p": True}),
        (ValueError, ("seed=-1", "[0, 2^64)"), {"seed": -1}),
        (ValueError, ("seed=18446744073709551616",), {"seed": 2**64}),
        (TypeError, ("seed=1.0", "integer"), {"seed": 1.0}),
        (ValueError, ("step=4294967296", "[0, 2^32)"), {"step": 2**32}),
        (ValueError, ("step=True",), {"step": True}),
        (ValueError, ("layer=16777216", "[0, 2^24)"), {"layer": 2**24}),
        (TypeError, ("x is list",), {"x": [1.0]}),
        (TypeError, ("x has dtype", "int64"), {"x": np.arange(4)}),
        (ValueError, ("x has strides",), {"x": X[:, ::2]}),
        (ValueError, ("out has shape (4, 6)", "(6, 4)"), {"out": X.reshape(4, 6).copy()}),
        (TypeError, ("out has dtype float64",), {"out": X.astype(np.float64)}),
        (ValueError, ("out is read-only",), {"out": READ_ONLY}),
        (ValueError, ("out shares memory with x",), {"out": X}),
        (ValueError, ("out has strides",), {"out": np.asfortranarray(X)}),
    ],
)
def test_bad_arguments(error, words, change):
    given = {"x": X, "p": 0.5, "seed": 1, "step": 2, **change}
    with refused(error, *words, arrays=[X, *given.values()]):
        pyopt.layers.dropout(**given)
