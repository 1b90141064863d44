"""Every layer is complete: its files, its documentation, its tiles."""

import doctest
from pathlib import Path

import pytest

from pyopt import kernels, layers
from pyopt.kernels.cpu import isa
from pyopt.kernels.layers import LAYERS
from support.contract import broken, layer_faults

FOLDER = Path(kernels.__file__).parent / "layers"
N = 400


@pytest.mark.parametrize("stem", sorted(LAYERS))
def test_layer(stem):
    exported = stem in vars(layers) or stem == "linear"  # has checks of its own
    for tiles in map(isa.tiles, isa.available()):
        assert layer_faults(FOLDER, stem, tiles, exported=exported) == []


def test_nothing_is_left_over():
    files = {path.name for path in FOLDER.iterdir() if path.suffix in {".py", ".pxi"}}
    assert files == {f"{stem}{suffix}" for stem in LAYERS for suffix in (".py", ".pxi")} | {"__init__.py"}


@pytest.mark.parametrize("stem", sorted(LAYERS))
def test_example(stem):
    result = doctest.testmod(LAYERS[stem], raise_on_error=False)
    assert result.attempted >= 3
    assert result.failed == 0


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("dropout.pxi", None, "no file dropout.pxi"),
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
