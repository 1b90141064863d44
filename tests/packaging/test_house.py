"""Who may know whom: what is imported, inside functions too, and what each part of the compiled engine may name.

``EXCEPTIONS`` are what breaks a rule today; one that is gone has to be taken off the list.
"""

import ast
import re

import pytest

from pyopt.kernels.cpu import isa
from pyopt.kernels.cuda.device import grad_norm
from pyopt.kernels.numerics import codecs, philox, reductions
from support import ROOT

KERNELS = ROOT / "kernels"
FILES = {
    ".".join(("pyopt",) * (path.parts[len(ROOT.parts)] == "kernels") + path.relative_to(ROOT).with_suffix("").parts)
    .removesuffix(".__init__"): path
    for top in ("kernels", "pyopt")
    for path in sorted((ROOT / top).rglob("*.py"))
}  # fmt: skip
COMPILED = {"pyopt.kernels.native", "pyopt.kernels.cpu.engine"}

SWEEP = "kernels.cpu.engine kernels.cpu.isa"  # how arrays get to tiles outside of a step
STEM = f"kernels.spec kernels.numerics kernels.checks {SWEEP}"
DECLARED = "kernels.spec kernels.hyper kernels.rules kernels.penalty kernels.penalties kernels.step"
CHECKED = "kernels.hyper kernels.checks kernels.numerics arrays validate"
# A module belongs to the longest name that it lies in, and may import what lies in one of these, or in its own
MAY = {
    "kernels.native": "",
    "kernels.hyper": "",
    "kernels.spec": "kernels.hyper",
    "kernels.view": "kernels.numerics",
    "kernels.backend": "kernels.step",
    "kernels.reference": f"{DECLARED} kernels.numerics kernels.checks kernels.native",
    "kernels.numerics": "kernels.native",
    "kernels.checks": "kernels.numerics kernels.view",
    "kernels.rules": "kernels.hyper kernels.spec kernels.numerics",
    "kernels.penalty": f"kernels.hyper kernels.spec kernels.numerics kernels.checks {SWEEP}",
    "kernels.penalties": "kernels.penalty kernels.spec kernels.numerics",
    "kernels.step": f"{DECLARED} kernels.numerics kernels.checks kernels.native",
    "kernels.cpu": f"{DECLARED} kernels.numerics kernels.checks kernels.native kernels.view",
    "kernels.cuda": f"{DECLARED} kernels.numerics kernels.checks kernels.native kernels.view",
    "kernels.cuda.variant": f"{DECLARED} kernels.numerics kernels.view kernels.cuda.device",
    "kernels.cuda.device": "kernels.spec kernels.hyper kernels.numerics kernels.cuda.variant",
    **dict.fromkeys(("kernels.augment", "kernels.layers", "kernels.linear_models", "kernels.losses"), STEM),
    "kernels.loss": f"kernels.losses {STEM}",
    "kernels.sums": STEM,
    "kernels": "",
    "arrays": "kernels.backend kernels.reference kernels.cpu kernels.cuda kernels.step kernels.checks kernels.numerics "
    "kernels.native kernels.view",
    "validate": "kernels.hyper kernels.checks arrays",
    "optim": f"{DECLARED} {CHECKED} kernels.backend kernels.native training",
    "functional": f"{DECLARED} {CHECKED} kernels.sums optim",
    "schedules": "kernels.hyper kernels.native validate",
    "training": f"{CHECKED} kernels.sums kernels.native",
    **dict.fromkeys(("losses", "_losses"), f"{CHECKED} kernels.loss kernels.losses _losses"),
    "layers": f"{CHECKED} kernels.layers",
    "augment": f"{CHECKED} kernels.augment",
    "config": "kernels.cpu kernels.cuda.driver",
    "estimators": f"{CHECKED} {DECLARED} kernels.layers kernels.linear_models kernels.native losses optim training",
    "cli": f"{CHECKED} {DECLARED} kernels.cpu kernels.linear_models augment estimators optim schedules training pyopt",
    "pyopt": "augment config functional kernels layers losses optim schedules training",
}
FOREIGN = {  # who may import it; whatever else is in nobody's way
    "torch": "", "cupy": "", "jax": "",
    "numba": "kernels.cuda.device.intrinsics kernels.cuda.compiler kernels.cuda.entry_points",
    "llvmlite": "kernels.cuda.device.intrinsics",
    "cuda": "kernels.cuda.driver kernels.cuda.compiler",
    "sklearn": "estimators cli", "scipy": "estimators", "skops": "cli", "pyarrow": "cli",
    "typer": "cli", "rich": "cli estimators._progress", "matplotlib": "cli",
}  # fmt: skip
FAMILIES = {name.partition(".")[0] for name in isa.tiles()}
EXCEPTIONS = {
    "kernels.cuda.driver names torch": "the stream of a tensor; the engine gets a view of it, and no stream",
    "kernels.cuda.driver names cupy": "the same",
    "kernels.cuda.tensor_list names torch": "one call for the addresses of 1000 tensors, and not one for each",
}


def within(name, places):
    """Return the longest of some names, separated by spaces, that a module is or lies in, or None."""
    return max((p for p in places.split() if f"{name}.".startswith(f"{p}.")), key=len, default=None)


def imports(name):
    """Yield the modules that a module imports, the compiled ones among them."""
    path = FILES[name]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = name.split(".")[: len(name.split(".")) + (path.name == "__init__.py") - node.level]
            base = ".".join([*(start if node.level else []), *filter(None, [node.module])])
            for alias in node.names:
                inside = f"{base}.{alias.name}"
                yield inside if inside in FILES.keys() | COMPILED else base


def faults(name):
    """Yield what a module breaks by what it imports and names."""
    short = name.removeprefix("pyopt.")
    room = within(short, " ".join(MAY))
    for other in imports(name):
        top, inside = other.partition(".")[0], other.removeprefix("pyopt.")
        if top == "pyopt" and not within(inside, f"{MAY[room]} {room}"):
            yield f"{short} imports {inside}"
        if top in FOREIGN and not within(short, FOREIGN[top]):
            yield f"{short} imports {top}"
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "sys.modules" and room != "arrays":
            if (package := getattr(node.slice, "value", "")) in FOREIGN:
                yield f"{short} names {package}"
        elif isinstance(node, ast.Constant) and not room.startswith("kernels"):
            family = str(node.value).partition(".")[0]
            if node.value in isa.tiles() or (node.value == f"{family}." and family in FAMILIES):
                yield f"{short} names tiles of {family}"


def test_imports():
    """Who may import whom, what of other packages, and that tiles are named in kernels/ only."""
    assert {within(name.removeprefix("pyopt."), " ".join(MAY)) for name in FILES} >= set(MAY) - {"kernels.native"}
    found = {fault for name in FILES for fault in faults(name)}
    assert found - set(EXCEPTIONS) == set()
    assert set(EXCEPTIONS) - found == set(), "no longer so: take it off EXCEPTIONS"


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("pyopt.kernels.spec", "def f():\n    from .cpu import engine", "kernels.spec imports kernels.cpu.engine"),
        ("pyopt.kernels.cpu.isa", "from ..cuda import plan", "kernels.cpu.isa imports kernels.cuda.plan"),
        (
            "pyopt.kernels.cuda.device.operands",
            "from .. import plan",
            "kernels.cuda.device.operands imports kernels.cuda.plan",
        ),
        ("pyopt.kernels.step", "import pyopt.optim", "kernels.step imports optim"),
        ("pyopt.optim.group", "from ..kernels.cpu import engine", "optim.group imports kernels.cpu.engine"),
        ("pyopt.losses", "def f():\n    import torch.nn", "losses imports torch"),
        ("pyopt.training.averaging", "sweep('step.ema')", "training.averaging names tiles of step"),
    ],
)
def test_imports_are_seen(name, text, fault, tmp_path, monkeypatch):
    (tmp_path / "module.py").write_text(text)
    monkeypatch.setitem(FILES, name, tmp_path / "module.py")
    assert list(faults(name)) == [fault]


# ---- the compiled engine: an extension is one text, in which only the order of its parts keeps them apart


def code(path):
    """Return a Cython file without comments, docstrings and texts."""
    return re.sub(r'"""(?:.|\n)*?"""|"[^"\n]*"|#.*', "", path.read_text())


def defined(text):
    """Return the functions, types and constants of an enum that a part defines."""
    names = set(re.findall(r"^(?:cdef|cpdef|def)\b[^\n(=]*?\b(\w+)\(", text, re.MULTILINE))
    names |= set(re.findall(r"^(?:cdef class|(?:cdef|ctypedef) (?:struct|union|enum)) (\w+)", text, re.MULTILINE))
    for block in re.findall(r"^cdef enum[^\n]*:\n((?: +[^\n]*\n)+)", text, re.MULTILINE):
        names |= set(re.findall(r"\b[A-Z]\w+\b", block))
    return names


def late(parts):
    """Yield each function, type and constant that a part names and a later one defines."""
    place = {}
    for i, (_, text) in enumerate(parts):
        place |= dict.fromkeys(defined(text) - set(place), i)
    for i, (title, text) in enumerate(parts):
        used = re.findall(r"(?<![\w.])(\w+)\(|&(\w+)\b|\b([A-Z]\w+)\b", text)
        for name in sorted({name for names in used for name in names if place.get(name, -1) > i}):
            yield f"{title} names {name} of {parts[place[name]][0]}"


def parts_of(main):
    """Return what an extension is made of, in order: its head, and what it includes; stems where their table is."""
    head, *rest = re.split(r'^include "([\w/]+\.pxi)".*\n', main.read_text(), flags=re.MULTILINE)
    stems = sorted(p for p in KERNELS.glob("*/*.pxi") if p.parent.name not in {"cpu", "cuda", "numerics"})
    found = [(main.name, re.sub(r'"""(?:.|\n)*?"""|#.*', "", head))]
    for name, after in zip(rest[::2], rest[1::2], strict=True):
        at = [main.parent / name, KERNELS / name]
        found += [(p.name, code(p)) for p in ([p for p in at if p.exists()] or stems)]
        found.append((f"{main.name} after {name}", after))
    return found


@pytest.mark.parametrize("main", ["engine.pyx", "tiles.pyx"])
def test_a_part_names_only_what_comes_before(main):
    parts = parts_of(KERNELS / "cpu" / main)
    assert len(parts) > 10
    assert list(late(parts)) == []


def test_late_names_are_seen():
    parts = [("a", "cdef f():\n    g(&h, Tile)\n"), ("b", "cdef g():\ncdef void h() nogil:\ncdef class Tile:\n")]
    assert list(late(parts)) == ["a names Tile of b", "a names g of b", "a names h of b"]
    assert list(late(parts[::-1])) == []


def test_constants_of_the_engine_are_those_of_python():
    structs = re.sub(r"#.*", "", (KERNELS / "cpu/structs.pxi").read_text())
    constants = {name: int(value) for name, value in re.findall(r"^    (\w+) = (\d+)\s*$", structs, re.MULTILINE)}
    assert constants["LEAF"] == reductions.LEAF == grad_norm.LEAF
    assert (constants["RANDOM_STATE"], constants["RANDOM_EMA"]) == (philox.STATES, philox.EMA)
    assert f"    {', '.join(codecs.ROUNDINGS).upper()}" in structs
