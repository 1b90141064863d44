"""The sweep of a tile over rows: where a block starts, and what it refuses."""

import numpy as np
import pytest

import pyopt
from pyopt.kernels.cpu import engine, isa
from pyopt.kernels.numerics import philox, reductions
from support.helpers import same_bits, tame


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("block", [8, 4096, 16_384, 100_000])
def test_a_tile_knows_its_first_row(isa, threads, block):
    pyopt.set_num_threads(threads)
    x = np.ones(70_001, np.float32)
    y = np.empty_like(x)
    sizes = (x.size, 24, 20_000, 5, 6, 7)
    engine.sweep(tiles(isa), "layers.dropout", (x, y), (4, 4), sizes, (2.0,), block=block, first=1)
    same_bits(y, np.where(philox.bits16(5, 24, x.size, 6, 0, 7) >= 20_000, np.float32(2), np.float32(0)))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("block", [0, 7, 1000])
def test_blocks_do_not_change_a_sum(isa, threads, block):
    pyopt.set_num_threads(threads)
    x, y = tame(40_009, np.float64, 1), tame(40_009, np.float64, 2)
    got = engine.sweep(
        tiles(isa), "losses.squared_error", (x, y, np.empty_like(x)), (8, 8, 8), (x.size,), (1.0,), True, block=block
    )
    assert got == reductions.tree_sum((x - y) * (x - y))


def test_rows_fold_in_pairs(isa):
    for rows in (0, 1, 2, 3, 5, 64, 67):
        sums = tame((max(rows, 1), 11), np.float64, rows)
        want = reductions.pairwise_sum(list(sums.copy()))
        engine.sweep(tiles(isa), "reductions.fold_rows", (sums,), (8,), (11, rows, 11), block=4)
        same_bits(sums[0], want, f"{rows} rows")


def test_more_than_a_tile_takes_is_refused():
    x = np.ones(4)
    with pytest.raises(ValueError, match="11 arrays, 1 sizes"):
        engine.sweep(isa.tiles(), "reductions.nonfinite", (x,) * 11, (8,) * 11, (4,))
    with pytest.raises(ValueError, match="1 arrays, 13 sizes"):
        engine.sweep(isa.tiles(), "reductions.nonfinite", (x,), (8,), (4,) * 13)


def test_more_arrays_of_16_bits_than_there_is_room_for_are_refused():
    x = np.ones(4, np.float16)
    with pytest.raises(ValueError, match="4 arrays of 16 bits"):
        engine.sweep(isa.tiles(), "losses.binary_cross_entropy", (x,) * 4, (2,) * 4, (4,), (1.0, 1.0), out=3)


def tiles(name):
    """Return the table of an instruction set; the fixture hides the module."""
    return isa.tiles(name)
