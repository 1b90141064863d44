"""The storage types of the GPU, in plain Python, one number after another, against NumPy."""

import numpy as np
import pytest

from pyopt.kernels.numerics import codecs, codecs_cuda, philox
from support.helpers import same_bits, wild

EDGES = np.array([0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFFFFFFF, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F7F7FFF,
                  0x7F7F8000, 0x00000001, 0x80000001, 0x007FFFFF, 0x00007FFF, 0x00008000, 0x00018000, 0x3F808000,
                  0x3F818000, 0x3F807FFF, 0x477FEFFF, 0x477FF000, 0x33000000, 0x33000001, 0x7F800001, 0x38800000,
                  0x387FFFFF, 0xB87FFFFF, 0x477FE000], np.uint32)  # fmt: skip
NUMBERS = np.concatenate([EDGES.view(np.float32), wild(3000, np.float32)])


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def each(function, *columns):
    """Return what a function of one number returns for each, as an array."""
    return np.array([function(*row) for row in zip(*columns, strict=True)])


STORED = ["bfloat16", "float16"]
FORMS = {
    "bfloat16": (codecs_cuda.widen_bf16, codecs_cuda.narrow_bf16, codecs_cuda.stochastic_bf16),
    "float16": (codecs_cuda.widen_f16, codecs_cuda.narrow_f16, codecs_cuda.stochastic_f16),
}


def halves(words, kind):
    """Return words of 16 bits as numbers of a storage type."""
    return words.astype(np.uint16).view(kind)


@pytest.fixture(params=STORED)
def kind(request):
    if request.param == "bfloat16":
        pytest.importorskip("ml_dtypes")
    return codecs.dtype(request.param)


def test_every_number_is_widened_and_narrowed_to_itself(kind):
    every = np.arange(1 << 16, dtype=np.uint32)[::3]
    widen, narrow, _ = FORMS[kind.name]
    wide = each(widen, every)
    same_bits(wide, codecs.decode(halves(every, kind), np.float32))
    same_bits(halves(each(narrow, wide), kind), halves(every, kind))


def test_the_nearest(kind):
    same_bits(halves(each(FORMS[kind.name][1], NUMBERS), kind), codecs.encode(NUMBERS, kind))


def test_float64_is_rounded_once(kind):
    """Between two neighbours: what float32 would round to the middle first goes to its own side."""
    _, narrow, stochastic = FORMS[kind.name]
    middle = np.float64(1 + (2.0**-8 if kind.name == "bfloat16" else 2.0**-11))
    wide = np.concatenate([wild(2000, np.float64), NUMBERS, middle * (1 + np.array([-1, 0, 1]) * 2.0**-40)])
    same_bits(halves(each(narrow, each(codecs_cuda.round_to_odd, wide)), kind), codecs.encode(wide, kind))
    random = philox.bits16(7, 0, wide.size)
    got = each(stochastic, each(codecs_cuda.round_to_odd, wide), random)
    same_bits(halves(got, kind), codecs.stochastic(wide, kind, random))


@pytest.mark.parametrize("bits", ["random", 0, 0xFFFF])
def test_stochastic(kind, bits):
    random = philox.bits16(7, 0, NUMBERS.size) if bits == "random" else np.full(NUMBERS.size, bits, np.uint32)
    got = halves(each(FORMS[kind.name][2], NUMBERS, random), kind)
    same_bits(got, codecs.stochastic(NUMBERS, kind, random))
    assert np.array_equal(np.isfinite(codecs.decode(got, np.float32)), np.isfinite(NUMBERS))


def test_a_remainder_keeps_every_bit():
    kind = np.dtype(np.uint16)
    high, low = each(codecs_cuda.upper, NUMBERS), each(codecs_cuda.lower, NUMBERS)
    want = codecs.split(NUMBERS, kind)
    assert np.array_equal(high, want[0])
    assert np.array_equal(low, want[1])
    same_bits(each(codecs_cuda.joined, high, low), NUMBERS)
    same_bits(codecs.join(*want), NUMBERS)


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
