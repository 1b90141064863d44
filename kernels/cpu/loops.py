"""Write tables.pxi: the loops of all functions on one element, and the table of tile functions.

function   the Cython text of a case of an element (element.py), on one number
forms      how the arrays of a loop are stored: as they are computed with, some or all of them in bfloat16
loop       the Cython text of a tile: a loop for each case, which reads, calls the function, writes
table      all loops, the hand-written tiles of ``.pxi`` files, and the table of both

A tile of a ``.pxi`` file wins over the loop of its name that would be written here: the way out for what is faster as
several loops. setup.py imports this package by its folder, so it needs the standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .element import FAMILIES, Case, Element, cases, elements

SHARED = ("cpu", "numerics")  # folders whose .pxi files are no stems
SIGNATURE = re.compile(r"^cdef void (\w+)\(([^)]*)\) noexcept nogil:", re.MULTILINE)
PARAMETER = re.compile(r"(?:const )?(\w+)(\*?) (\w+)")


class Codec(NamedTuple):
    """How an array is stored: the C type of its elements, and how a number ``x`` is read and written."""

    memory: str
    read: str = "{x}"
    write: str = "{x}"


REAL, DOUBLE = Codec("{real}"), Codec("double")
BF16 = Codec("uint16_t", "wide_bf16({x})", "round_bf16({x})")
PAIR = Codec("pair_t", "{half}_bf16({x})", "near_bf16({x})")  # bfloat16, two neighbours in a word
RANDOM = Codec("pair_t", "{half}_bf16({x})", "drawn_bf16({x}, {bits})")  # the same, rounded by 16 random bits


class Form(NamedTuple):
    """A loop to write: the end of its name, the type it computes in, a codec for each array, further arrays."""

    suffix: str
    real: str
    codecs: list[Codec]
    random: list[str] = []  # noqa: RUF012  random words: "bits" for p and the first state, "bits2" for two more

    @property
    def pairs(self) -> bool:
        """Whether a turn of the loop takes two elements: to part and join halves of words is faster than to widen."""
        return self.codecs[0].memory == "pair_t"


def function(element: Element, case: Case, name: str) -> str:
    """Return the text of a case on one number."""
    arguments = [*case.taken, *(x for x in element.scalars if x not in element.flags)]
    kinds = [kind for _, kind in case.results.values()]
    kind = f"({', '.join(kinds)})" if len(kinds) > 1 else kinds[0]
    lines = [
        f"cdef inline {kind} {name}({', '.join(f'real {x}' for x in arguments)}) noexcept nogil:",
        *case.lines,
        f"return {', '.join(text for text, _ in case.results.values())}",
    ]
    return "\n    ".join(lines) + "\n"


def native(element: Element) -> Iterator[Form]:
    """Yield the forms for arrays of the type that is computed in."""
    codecs = [DOUBLE if x == "terms" else REAL for x in element.arrays]
    yield from (Form("_32", "float", codecs), Form("_64", "double", codecs))


def in_bfloat16(element: Element) -> Iterator[Form]:
    """Yield the forms of an update in float32 with p, g, its states, or two of these, in bfloat16; then with all.

    So no other loop decodes and encodes what is stored. Random bits are there for three states at the most.
    """
    parts = ["p", "g", *["s"] * (len(element.arrays) - 2)]
    for chosen in ("p", "g", "s", "pg", "ps", "gs"):
        yield Form(f"_bf16_{chosen}", "float", [BF16 if part in chosen else REAL for part in parts])
    yield Form("_bf16_pgs", "float", [PAIR for _ in parts])
    if len(parts) <= 5:
        yield Form("_bf16_random", "float", [RANDOM for _ in parts], ["bits", "bits2"])


def loop(element: Element, functions: list[tuple[str, Case]], form: Form) -> str:
    """Return the text of a tile: the function that the optional arrays and flags ask for, on each element."""
    codecs = dict(zip(element.arrays, form.codecs, strict=True))
    written = set(element.returned)
    words = form.random[: 1 + (len(element.returned) > 2)]
    lines = ["cdef Py_ssize_t i"]
    for place, x in enumerate([*element.arrays, *words]):
        memory = codecs[x].memory.format(real=form.real) if x in codecs else "pair_t"
        memory = memory if x in written else f"const {memory}"
        lines.append(f"cdef {memory}* {x}_tile = <{memory}*>arrays[{place}]")
    lines += [f"cdef {'double' if codec == DOUBLE else form.real} {x}" for x, codec in codecs.items()]
    lines += [f"cdef {form.real} {x} = (<const {form.real}*>scalars)[{k}]" for k, x in enumerate(element.scalars)]
    lines += [f"cdef uint32_t {x}_low" for x in element.returned * form.pairs] + [f"cdef uint32_t {x}" for x in words]
    for number, (name, case) in enumerate(functions):
        body = [f"for i in range(sizes[0]{' // 2' * form.pairs}):", *(f"    {x} = {x}_tile[i]" for x in words)]
        for half in ("low", "high") if form.pairs else ("",):
            body += [f"    {line}" for line in turn(element, name, case, form, codecs, half)]
        if len(functions) > 1:
            body = [f"{'el' * (number > 0)}if {condition(element, case)}:", *(f"    {line}" for line in body)]
        lines += body
    return "\n    ".join([head(element.name + form.suffix), *lines]) + "\n"


def head(name: str) -> str:
    """Return the signature that all functions of the table have."""
    return f"cdef void {name}(void** arrays, const void* scalars, const Py_ssize_t* sizes) noexcept nogil:"


def condition(element: Element, case: Case) -> str:
    """Return what is so where a loop has to take this case."""
    return " and ".join(
        f"{x} {'!=' if yes else '=='} 0" if x in element.flags else f"{x}_tile {'is not' if yes else 'is'} NULL"
        for x, yes in case.known.items()
    )


def turn(element: Element, name: str, case: Case, form: Form, codecs: dict[str, Codec], half: str) -> Iterator[str]:
    """Yield the lines that do one element: number i of the arrays, or one half of word i."""
    for x in case.taken:
        yield f"{x} = {codecs[x].read.format(x=f'{x}_tile[i]', half=half)}"
    given = [*case.taken, *(x for x in element.scalars if x not in element.flags)]
    yield f"{', '.join(case.results)} = {name}[{form.real}]({', '.join(given)})"
    for number, x in enumerate(element.returned):
        if x in case.results:  # element i of array number k has the random bits of element i ^ k: philox.py
            shifted = ">> 16" if (half == "high") != (number % 2 == 1) else "& 0xffff"
            value = codecs[x].write.format(x=x, bits=f"{'bits2' if number > 1 else 'bits'} {shifted}")
            joined = {"": value, "low": value, "high": f"both({x}_low, {value})"}[half]
            yield f"{x}_low = {joined}" if half == "low" else f"{x}_tile[i] = {joined}"


class Table:
    """The texts of tables.pxi, in order: functions on one element and tiles, then the rows of the table."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.rows: dict[str, str] = {}
        self.mixed: dict[str, str] = {}  # loops over arrays of two widths, of which AVX-512 alone is fast

    def add_elements(self, path: Path) -> None:
        """Add the loops of an ``X_element.py``."""
        for element in elements(path):
            taken = cases(element)
            ends = [str(number) for number in range(len(taken))] if len(taken) > 1 else [""]
            functions = [(f"{element.name}_element{end}", case) for end, case in zip(ends, taken, strict=True)]
            forms = [] if f"{element.family}.{element.name}" in self.rows else list(native(element))
            forms += in_bfloat16(element) if element.is_update else []
            if forms:
                self.texts += [function(element, case, name) for name, case in functions]
                self.texts += [loop(element, functions, form) for form in forms]
            for form in forms:
                name = element.name + form.suffix.removesuffix("_32")
                arrays = tuple(element.arrays + form.random)
                if form.suffix != "_64":
                    ends = ["_32", "_64"] if form.suffix == "_32" else [""]
                    rows = self.mixed if BF16 in form.codecs else self.rows
                    rows[f"{element.family}.{name}"] = row(name, ends, arrays, tuple(element.scalars))

    def add_tiles(self, family: str, path: Path) -> None:
        """Add the tiles that are written by hand in a ``.pxi``: for each, a float32 and a float64 function."""
        for name, inside in SIGNATURE.findall(path.read_text(encoding="utf-8")):
            parameters = PARAMETER.findall(inside)
            arrays = [(kind, label) for kind, star, label in parameters if star]
            scalars = [label for kind, star, label in parameters if not star and kind in ("real", "float")]
            sizes = [f"sizes[{i}]" for i in range(len(parameters) - len(arrays) - len(scalars))]
            fused = "real" in {kind for kind, _, _ in parameters}
            for suffix, real in (("_32", "float"), ("_64", "double")):
                pointers = [f"<{real if kind == 'real' else kind}*>arrays[{i}]" for i, (kind, _) in enumerate(arrays)]
                values = [f"(<const {real}*>scalars)[{i}]" for i in range(len(scalars))]
                called = f"{name}{f'[{real}]' if fused else ''}({', '.join(pointers + values + sizes)})"
                self.texts.append(f"{head(name + suffix)}\n    {called}\n")
            labels = tuple(label for _, label in arrays)
            self.rows[f"{family}.{name}"] = row(name, ["_32", "_64"], labels, tuple(scalars))


def row(name: str, ends: list[str], arrays: tuple[str, ...], scalars: tuple[str, ...]) -> str:
    """Return the row of a tile: its functions for float32 and float64 (0 where there is none), its arguments."""
    addresses = [f"<size_t>&{name}{end}" for end in ends] + ["0"] * (2 - len(ends))
    return f"({', '.join(addresses)}, {arrays!r}, {scalars!r})"


def table(kernels: Path, tiles: Path) -> str:
    """Return the text of tables.pxi, which ``tiles`` includes: includes of stems, all loops, and ``all_tiles()``."""
    made = Table()
    common = [kernels / name for name in re.findall(r'^include "([\w/]+\.pxi)"', tiles.read_text(), re.MULTILINE)]
    stems = sorted(path for path in kernels.glob("*/*.pxi") if path.parent.name not in SHARED)
    for path in [*(p for p in common if p.exists()), *stems]:
        made.add_tiles(path.stem if path in common else path.parent.name, path)
    for path in sorted(p for family in FAMILIES for p in (kernels / family).glob("*_element.py")):
        made.add_elements(path)
    returned = ["cdef dict all_tiles():", "    cdef dict tiles = {"]
    returned += [f'        "{key}": {text},' for key, text in made.rows.items()]
    returned += ["    }", "    if MIXED_WIDTHS:", "        tiles |= {"]
    returned += [f'            "{key}": {text},' for key, text in made.mixed.items()]
    returned += ["        }", "    return tiles", ""]
    includes = [f'include "{path.relative_to(kernels).as_posix()}"' for path in stems]
    return "\n".join([*includes, "", *made.texts, *returned])
