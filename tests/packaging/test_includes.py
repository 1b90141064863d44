"""The parts of the CPU engine: each names only what those before it define, and numbers are those of Python."""

import re

import pytest

from pyopt.kernels.cuda.device import grad_norm
from pyopt.kernels.numerics import codecs, philox, reductions

FUNCTION = re.compile(r"^(?:cdef|cpdef|def) .*?(\w+)\(", re.MULTILINE)  # no other word stands before a parenthesis
NAMED = re.compile(r"^(?:ctypedef .*|cdef (?:enum|struct|union|class) )(\w+)(?=[(:]|\)\()", re.MULTILINE)
CONSTANT = re.compile(r"\b[A-Z][A-Z0-9_]*\b(?=,|$| = |\s*#)", re.MULTILINE)


@pytest.fixture
def parts(pytestconfig):
    """The names of engine.pyx's includes, in order, and their text without comments and docstrings; then its own."""
    folder = pytestconfig.rootpath / "kernels/cpu"
    _, *includes = re.split(r'^include "(\w+\.pxi)"', (folder / "engine.pyx").read_text(), flags=re.MULTILINE)
    texts = [(name, (folder / name).read_text()) for name in includes[::2]] + [("engine.pyx", includes[-1])]
    return [(name, re.sub(r'(?s:""".*?""")|#.*', "", text)) for name, text in texts]


def test_a_part_names_what_stands_before_it(parts):
    later = {}
    for name, text in reversed(parts):
        enums = "".join(re.findall(r"^cdef enum:.*\n((?:    .*\n)+)", text, re.MULTILINE))
        functions = {f"{word}(" for word in FUNCTION.findall(text)}
        others = {*NAMED.findall(text), *CONSTANT.findall(enums)}
        used = {*re.findall(r"(?<![\w.])\w+\(", text), *re.findall(r"(?<![\w.])\w+", text)}
        too_soon = {word: where for word, where in later.items() if word in used - functions - others}
        assert not too_soon, f"{name} uses what a later part defines: {too_soon}"
        later |= dict.fromkeys(functions | others, name)
    assert {"Tensor", "MAX_STATES", "BF16_ALL", "tile_of(", "walk("} <= set(later)


def test_constants_are_those_of_python(parts):
    structs = dict(parts)["structs.pxi"]
    constants = {name: int(value) for name, value in re.findall(r"^    (\w+) = (\d+)\s*$", structs, re.MULTILINE)}
    assert constants["LEAF"] == reductions.LEAF == grad_norm.LEAF
    assert (constants["RANDOM_STATE"], constants["RANDOM_EMA"]) == (philox.STATES, philox.EMA)
    assert f"    {', '.join(codecs.ROUNDINGS).upper()}" in structs
