"""Storage types: every pattern decoded, every float32 encoded, and what stochastic and remainder rounding keep."""

import ctypes
import shutil
import subprocess
import sysconfig
from fractions import Fraction

import numpy as np
import pytest

from pyopt.kernels.cpu import engine
from pyopt.kernels.cpu import isa as instruction_sets
from pyopt.kernels.numerics import codecs, philox
from support import ROOT
from support.helpers import refused, same_bits, wild

ml_dtypes = pytest.importorskip("ml_dtypes")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NaN and overflow, on purpose
HALVES = [np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)]
ALL = np.arange(1 << 16, dtype=np.uint16)
TILE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


@pytest.fixture(params=HALVES, ids=str)
def half(request):
    """Each storage type of 16 bits."""
    return request.param


def tile(isa, name, arrays, *scalars, sizes=()):
    """Run a tile function over whole arrays."""
    n = arrays[0].size
    sizes = (n, *sizes)
    engine.sweep(instruction_sets.tiles(isa), name, arrays, tuple(a.itemsize for a in arrays), sizes, scalars)


def encoded(isa, x, half):
    out = np.empty(x.shape, np.uint16)
    tile(isa, f"codecs.encode_{codecs.BY_NAME[half.name].short}", (x, out))
    return out.view(half)


# ---- decoding


def test_every_pattern_is_decoded(half, dtype, isa):
    """Against ml_dtypes and NumPy, which widen by their own tables."""
    x, out = ALL.view(half), np.empty(1 << 16, dtype)
    tile(isa, f"codecs.decode_{codecs.BY_NAME[half.name].short}", (out, x.view(np.uint16)), 1.0)
    same_bits(out, x.astype(dtype))
    same_bits(codecs.decode(x, dtype), x.astype(dtype))


def test_decoding_multiplies(half, dtype, isa):
    x, out = ALL.view(half), np.empty(1 << 16, dtype)
    tile(isa, f"codecs.decode_{codecs.BY_NAME[half.name].short}", (out, x.view(np.uint16)), 0.3)
    with np.errstate(all="ignore"):
        same_bits(out, x.astype(dtype) * dtype(0.3))


def test_decode_and_encode_are_inverse(half, dtype, isa):
    x = ALL.view(half)
    for there_and_back in (encoded(isa, codecs.decode(x, dtype), half), codecs.encode(codecs.decode(x, dtype), half)):
        same_bits(there_and_back.astype(np.float64), x.astype(np.float64))


# ---- encoding


@pytest.fixture(scope="session")
def encode_all(tmp_path_factory):
    """The walk over all float32 in C, compiled for this session."""
    compiler = sysconfig.get_config_var("CC").split()[0]
    if shutil.which(compiler) is None:
        pytest.fail(f"{compiler}, which built pyopt's kernels, is gone")
    library = tmp_path_factory.mktemp("encode") / "encode_all.so"
    source = ROOT / "tests" / "support" / "encode_all.c"
    subprocess.run([compiler, "-O3", "-shared", "-fPIC", "-o", library, source, "-lm"], check=True)
    return ctypes.CDLL(library).encode_all


def test_every_float32_is_encoded(encode_all, half):
    """All 2^32 of them, in C: to the nearest, ties to even, NaN to NaN."""
    names = instruction_sets.available()
    rows = [instruction_sets.tiles(name)[f"codecs.encode_{codecs.BY_NAME[half.name].short}"] for name in names]
    encoders = (ctypes.c_void_p * len(names))(*(row[0] for row in rows))
    wrong, first = (ctypes.c_uint64 * len(names))(), (ctypes.c_uint32 * len(names))()
    encode_all(encoders, len(names), 8 if half.name == "bfloat16" else 5, wrong, first)
    for name, count, bits in zip(names, wrong, first, strict=True):
        assert count == 0, f"{name}: {count} differ, the first is {bits:#x}"


def test_reference_encodes_as_numpy_does(half):
    x = wild(200_000, np.float32, 3)
    with np.errstate(all="ignore"):
        same_bits(codecs.encode(x, half).astype(np.float64), x.astype(half).astype(np.float64))


def test_float64_is_rounded_once(half, isa):
    """Midpoints of two neighbours and what lies next to them; half of them would be wrong if rounded twice."""
    rng = np.random.default_rng(0)
    low = rng.integers(0, 0x7F00 if half.name == "bfloat16" else 0x7B00, 4000).astype(np.uint16)
    down, up = (h.view(half).astype(np.float64) for h in (low, low + np.uint16(1)))
    middle = (down + up) / 2
    x = np.concatenate([middle, np.nextafter(middle, up), np.nextafter(middle, down), middle * (1 + 2.0**-30)])
    want = [
        b if Fraction(v) - Fraction(a) > Fraction(b) - Fraction(v) or (v == (a + b) / 2 and h & 1) else a
        for v, a, b, h in zip(x, np.tile(down, 4), np.tile(up, 4), np.tile(low, 4), strict=True)
    ]
    for sign in (1, -1):
        same_bits(encoded(isa, sign * x, half).astype(np.float64), sign * np.array(want))
        same_bits(codecs.encode(sign * x, half).astype(np.float64), sign * np.array(want))


def test_wild_float64(half, isa):
    x = wild(50_000, np.float64, 5)
    same_bits(encoded(isa, x, half).astype(np.float64), codecs.encode(x, half).astype(np.float64))
    out = np.empty(x.shape, np.float32)
    tile(isa, "codecs.encode_f32", (x, out))
    with np.errstate(all="ignore"):
        same_bits(out, x.astype(np.float32))


# ---- stochastic rounding


def rounded(isa, x, half, random):
    """Return ``x`` rounded by given bits, which the tile and the reference must agree on."""
    out = np.empty(x.shape, np.uint16)
    tile(isa, f"codecs.stochastic_{codecs.BY_NAME[half.name].short}", (x, out, random.astype(np.uint16)))
    want = codecs.stochastic(x, half, random.astype(np.uint32))
    same_bits(out.view(half).astype(np.float64), want.astype(np.float64))
    return want


def test_share_of_roundings_up_is_what_was_cut_off(half, isa):
    """Of all 65536 random words, as many round up as the distance to the lower neighbour says."""
    random = np.arange(1 << 16, dtype=np.uint32)
    for value in (1.001, 3.14159, 0.1, 1e-3, 6.0e-5, 5.9e-5, 1.3e-7, 2.0**-25, 1000.3):
        x = np.full(1 << 16, value, np.float32)
        got = rounded(isa, x, half, random).astype(np.float64)
        low = got.min()
        assert len(np.unique(got)) <= 2
        unit = np.abs(got - low).max()
        if unit:
            share = Fraction(float(x[0])) - Fraction(low)
            exact = share / Fraction(unit)
            # a normal float16 sees 13 bits of the random word, a subnormal one as many as there are
            assert abs(Fraction(int((got > low).sum()), 1 << 16) - exact) <= Fraction(1, 1 << 13), value
            assert abs(got.mean() - value) <= unit * 2.0**-13


def test_what_is_exact_stays(half, isa):
    x = ALL.view(half).astype(np.float32)
    for word in (0, 1, 0xFFFF):
        same_bits(rounded(isa, x, half, np.full(1 << 16, word)).astype(np.float32), x)


def test_finite_stays_finite_and_specials_stay(half, isa):
    largest = float(ml_dtypes.finfo(half).max)
    x = np.array([largest, largest * (1 + 2.0**-12), 3.4e38, np.inf, -np.inf, np.nan, -3.4e38, -0.0], np.float32)
    got = rounded(isa, x, half, np.full(8, 0xFFFF)).astype(np.float64)
    assert got[:3].tolist() == [largest] * 3
    assert got[3:5].tolist() == [np.inf, -np.inf]
    assert np.isnan(got[5])
    assert got[6] == -largest
    assert np.signbit(got[7])


def test_wild_stochastic(half, dtype, isa):
    x = wild(70_001, dtype, 1)
    rounded(isa, x, half, philox.bits16(7, 3, x.size, 11, 2, 5))


# ---- remainder


def test_halves_are_the_whole(isa):
    x = wild(100_000, np.float32, 2)
    bf16 = HALVES[0]
    high, low = codecs.split(x, bf16)
    same_bits(codecs.join(high, low), x)
    got_high, got_low, got = np.empty(x.shape, np.uint16), np.empty(x.shape, np.uint16), np.empty_like(x)
    tile(isa, "codecs.split", (x, got_high, got_low))
    np.testing.assert_array_equal(got_high, high.view(np.uint16))
    np.testing.assert_array_equal(got_low, low)
    tile(isa, "codecs.join", (got, got_high, got_low))
    same_bits(got, x)


def test_the_high_half_is_the_nearest():
    x = np.random.default_rng(1).normal(size=10_000).astype(np.float32)
    high, _ = codecs.split(x, HALVES[0])
    same_bits(high.astype(np.float32), x.astype(HALVES[0]).astype(np.float32))  # no ties among them


# ---- names


@pytest.mark.parametrize("wrong", ["bf16", "int8", np.int32, "float8", None, 3])
def test_no_storage_type(wrong):
    with refused(ValueError, repr(wrong), "float64, float32, bfloat16, float16"):
        codecs.dtype(wrong)


def test_storage_types_by_name_type_and_dtype():
    for given in ("bfloat16", ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16)):
        assert codecs.dtype(given) == HALVES[0]
    for given in ("float16", np.float16, np.dtype(np.float16)):
        assert codecs.dtype(given) == np.float16


def block_of_words(seed, block, t, stream):
    """Philox 4x32-7 on whole numbers, as its paper has it."""
    x = [block & 0xFFFFFFFF, block >> 32, t, stream]
    k = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(7):
        a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [b >> 32 ^ x[1] ^ k[0], b & 0xFFFFFFFF, a >> 32 ^ x[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return x


def test_random_words(isa):
    assert block_of_words(0, 0, 0, 0) == [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]  # of Random123's table
    words = TILE(instruction_sets.tiles(isa)["philox.words"][0])
    for seed, first, t, stream, tensor in ((0, 0, 0, 0, 0), ((1 << 64) - 3, (1 << 32) - 5, (1 << 32) - 1, 65, 9)):
        out = np.empty((11, 4), np.uint32)
        arrays = (ctypes.c_void_p * 1)(out.ctypes.data)
        words(arrays, None, (ctypes.c_ssize_t * 5)(11, first, ctypes.c_ssize_t(seed).value, t, (stream << 24) + tensor))
        np.testing.assert_array_equal(out, philox.words(seed, first, 11, t, stream, tensor))
        assert out.tolist() == [block_of_words(seed, first + i, t, (stream << 24) + tensor) for i in range(11)]


def test_words_as_each_array_takes_them(isa):
    words, out = philox.words(5, 0, 37), np.empty((37, 4), np.uint32)
    swapped = TILE(instruction_sets.tiles(isa)["philox.permute_halves"][0])
    for array in range(8):
        swapped((ctypes.c_void_p * 2)(out.ctypes.data, words.ctypes.data), None, (ctypes.c_ssize_t * 2)(37, array))
        np.testing.assert_array_equal(out.view(np.uint16).ravel(), philox.bits16(5, 0, 8 * 37, array=array))


def test_any_element_finds_its_bits():
    whole = philox.bits16(5, 0, 1000, 3, 1, 2)
    for first, n in ((0, 1), (7, 2), (8, 8), (13, 500), (999, 1)):
        np.testing.assert_array_equal(philox.bits16(5, first, n, 3, 1, 2), whole[first : first + n])
    for array in range(8):
        np.testing.assert_array_equal(philox.bits16(5, 0, 1000, 3, 1, 2, array), whole[np.arange(1000) ^ array])
    for other in ((6, 3, 1, 2), (5, 4, 1, 2), (5, 3, 2, 2), (5, 3, 1, 3)):
        seed, t, stream, tensor = other
        assert (philox.bits16(seed, 0, 1000, t, stream, tensor) != whole).mean() > 0.99
