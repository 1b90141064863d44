"""The storage types of the GPU, in plain Python, one number after another, against NumPy."""

import numpy as np
import pytest

import storage
from helpers import same_bits, wild
from pyopt.kernels import codecs_cuda, philox

EDGES = np.array([0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFFFFFFF, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F7F7FFF,
                  0x7F7F8000, 0x00000001, 0x80000001, 0x007FFFFF, 0x00007FFF, 0x00008000, 0x00018000, 0x3F808000,
                  0x3F818000, 0x3F807FFF, 0x477FEFFF, 0x477FF000, 0x33000000, 0x33000001, 0x7F800001], np.uint32)  # fmt: skip
NUMBERS = np.concatenate([EDGES.view(np.float32), wild(3000, np.float32)])


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def each(function, *columns):
    """Return what a function of one number returns for each, as an array."""
    return np.array([function(*row) for row in zip(*columns, strict=True)])


def test_every_bf16_is_widened_and_narrowed_to_itself():
    every = np.arange(1 << 16, dtype=np.uint32)[::3]
    wide = each(codecs_cuda.widen_bf16, every)
    same_bits(wide, storage.widen(every.astype(np.uint16), "bf16"))
    back = each(codecs_cuda.narrow_bf16, wide)
    assert np.array_equal(back, np.where(np.isnan(wide), every | 0x40, every))


def test_bf16_is_the_nearest():
    got = each(codecs_cuda.narrow_bf16, NUMBERS)
    assert np.array_equal(got, storage.nearest(NUMBERS, "bf16"))
    ml_dtypes = pytest.importorskip("ml_dtypes")
    want = NUMBERS.astype(ml_dtypes.bfloat16)
    finite = ~np.isnan(NUMBERS)
    assert np.array_equal(got[finite], want.view(np.uint16)[finite])


def test_f16():
    every = np.arange(0, 1 << 16, 5, dtype=np.uint32)
    same_bits(each(codecs_cuda.widen_f16, every), storage.widen(every.astype(np.uint16).view(np.float16), "f16"))
    got = each(codecs_cuda.narrow_f16, NUMBERS).astype(np.uint16).view(np.float16)
    want = storage.nearest(NUMBERS, "f16")
    assert np.array_equal(np.isnan(got), np.isnan(want))
    assert np.array_equal(got.view(np.uint16)[~np.isnan(got)], want.view(np.uint16)[~np.isnan(got)])


@pytest.mark.parametrize("bits", ["random", 0, 0xFFFF])
def test_stochastic(bits):
    random = philox.bits16(7, 0, NUMBERS.size) if bits == "random" else np.full(NUMBERS.size, bits, np.uint32)
    got = each(codecs_cuda.stochastic_bf16, NUMBERS, random)
    assert np.array_equal(got, storage.stochastic(NUMBERS, random))
    wide = storage.widen(got.astype(np.uint16), "bf16")
    assert np.array_equal(np.isfinite(wide), np.isfinite(NUMBERS))
    assert np.array_equal(np.isnan(wide), np.isnan(NUMBERS))


def test_stochastic_rounding_has_the_right_mean():
    """A share of the numbers as large as what is cut off goes up."""
    x = np.full(20_000, np.float32(1) + np.float32(2.0**-9), np.float32)  # a quarter of the way
    got = storage.widen(each(codecs_cuda.stochastic_bf16, x, philox.bits16(3, 0, x.size)).astype(np.uint16), "bf16")
    assert set(got.tolist()) == {1.0, 1.0078125}
    assert abs((got > 1).mean() - 0.25) < 0.02


def test_a_remainder_keeps_every_bit():
    high, low = each(codecs_cuda.upper, NUMBERS), each(codecs_cuda.lower, NUMBERS)
    want = storage.split(NUMBERS)
    assert np.array_equal(high, want[0])
    assert np.array_equal(low, want[1])
    same_bits(each(codecs_cuda.joined, high, low), NUMBERS)
    same_bits(storage.join(*want), NUMBERS)


def test_random_bits_are_those_of_philox():
    seed, t, stream, tensor = 0x0123456789ABCDEF, 5, 3, 77
    u4, u8 = np.uint32, np.uint64
    for first in (0, 8, (1 << 35) + 16):
        want = philox.bits16(seed, first, 16, t, stream, tensor)
        got = []
        for i in range(first, first + 16):
            given = codecs_cuda.words(
                u8(i) >> u8(3), u4(t), u4((stream << 24) + tensor), u4(seed & 0xFFFFFFFF), u4(seed >> 32)
            )
            got.append(codecs_cuda.half(given, u4(i & 7)))
        assert np.array_equal(np.array(got), want)
