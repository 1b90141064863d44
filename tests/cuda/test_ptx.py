"""What the GPU is given to run, without one: instructions counted in PTX, registers by ptxas."""

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter

import pytest

from pyopt.kernels.cuda import compiler
from pyopt.kernels.cuda.device.intrinsics import SIZES
from pyopt.kernels.cuda.entry_points import CatchUp, Lag, Leaves, Norms, Prologue, Rows, Scale, Sums, Update
from pyopt.kernels.cuda.variant import Operand, ScalarLayout, Variant
from pyopt.kernels.penalties import PENALTIES
from pyopt.kernels.rules import RULES
from support import ROOT
from support.helpers import GRADIENTS, everything

pytestmark = pytest.mark.compiled

HOPPER = (9, 0)
VERSIONS = {(12, 8): "8.7", (12, 9): "8.8", (13, 0): "9.0"}  # of PTX, by that of the toolkit
KERNELS = sorted({rule.kernel for rule in RULES.values()})
STORAGE = {"f32": ("f32", "f32", "f32"), "f64": ("f64", "f64", "f64"), "bf16": ("bf16", "bf16", "f32"),
           "f16": ("f16", "f16", "bf16"), "bf16 g": ("f32", "bf16", "f32")}  # fmt: skip


def variant(stem, storage, **stages):
    """Return the variant of a rule with most of its states, and these stages."""
    rule = RULES[stem]
    p, g, s = STORAGE[storage]
    hypers = everything(rule)
    on = [state.when is None or bool(hypers[state.when]) for state in rule.states]
    states = tuple(Operand(x.name, s) if there else None for x, there in zip(rule.states, on, strict=True))
    return Variant(rule, Operand("p", p, stages.pop("rounding", "nearest")), Operand("g", g), states, **stages)


def adam(storage, **stages):
    """Return Adam with its two states."""
    c = variant("adam", storage, **stages)
    return c._replace(states=(*c.states[:2], None))


def full():
    """Return stages that add the most."""
    return {"ema": Operand("ema", "f32"), "penalties": tuple(GRADIENTS.values()), "clip": True, "zero": True}


def ptx_of(kernel, cc=HOPPER):
    """Return the PTX of a kernel, linked as its machine code is."""
    text = compiler.link(kernel, cc, "ptx").decode().rstrip("\0")
    assert len(re.findall(r"\.entry", text)) == 1
    return text


def instructions(ptx):
    """Return how often each instruction stands in the kernel."""
    body = ptx[ptx.index(".entry") :]
    return Counter(re.findall(r"^\s+(?:@!?%\S+\s+)?([a-z]+[a-z0-9_.:]*)", body, re.MULTILINE))


def sums(found, pattern):
    """Return how many instructions match, in all."""
    return sum(count for name, count in found.items() if re.fullmatch(pattern, name))


def version():
    """Return the version of PTX that the toolkit here writes."""
    from cuda.bindings import nvjitlink

    return VERSIONS[nvjitlink.version()]


def clean(ptx, cc=HOPPER):
    """Assert what holds of every kernel, and return its instructions."""
    found = instructions(ptx)
    assert re.search(rf"^\.version {re.escape(version())}$", ptx, re.MULTILINE)
    assert re.search(rf"^\.target sm_{cc[0]}{cc[1]}$", ptx, re.MULTILINE)
    assert "__local_depot" not in ptx
    assert ".local" not in re.sub(r"_ZN\w+", "", ptx)
    assert not sums(found, r"call.*|fma.*|mad\.(rn|rz|rm|rp|f).*"), found
    assert not sums(found, r"(ld|st)\.(?!global|shared|param).*"), found  # generic
    assert sums(found, r"div\.(?!rn\.|[us]\d+).*|sqrt\.(?!rn\.).*|rcp\.(?!rn\.).*|rsqrt.*|.*approx.*|.*ftz.*") == 0, (
        found
    )
    return found


def parameters(ptx):
    """Return the types of the parameters of the kernel."""
    return re.findall(r"\.param \.(\w+)", ptx[ptx.index(".entry") : ptx.index("{", ptx.index(".entry"))])


def vectors(c, columns):
    """Return how many 16-byte accesses move one vector of some columns."""
    return sum(-(-c.width * x.size // 16) * (2 if x.rounding == "remainder" else 1) for x in columns)


def check_update(c):
    """Assert the exact number of accesses; LLVM may split a loop by a choice of the rule, which doubles its own."""
    ptx = ptx_of(Update(c))
    found = clean(ptx)
    assert parameters(ptx) == ["u64"] * 3
    each = 16 // SIZES[c.real]  # scalars in one access
    scalars = ScalarLayout(c).count
    unused = c.real == "f64" and c.ema is None and not c.clip  # two neighbours
    fixed = 1 + c.record // 2 + 2 + 1 + scalars // each - unused  # chunk, static words, gradient, head and body of row
    clear = -(-c.width * c.g.size // 16) if c.zero else 0
    loads = sums(found, r"ld\.global\.(v4\.[fub]32|v2\.[fub]64)") - fixed
    stores = sums(found, r"st\.global\.(v4\.[fub]32|v2\.[fub]64)") - clear  # zeros where the step is none
    copies = 1 + (loads > vectors(c, c.read))
    assert loads == copies * vectors(c, c.read), (c.name, found)
    assert stores == copies * (vectors(c, c.written) + clear), (c.name, found)
    rest = scalars % each  # one by one
    if c.proxes and not c.scalar_prox_step:
        rest -= ScalarLayout(c).step >= scalars - rest  # of which Adam needs no step: it has one for each element
    narrow = sums(found, r"ld\.global\.([fubs]\d+|v2\.[fub]32)")
    single = len(c.read) + (c.p.rounding == "remainder")
    assert narrow - rest in (single, 2 * single), (c.name, found)
    if c.real == "f32":
        assert not sums(found, r".*f64.*"), (c.name, found)


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("stem", KERNELS)
def test_update(stem, storage):
    check_update(variant(stem, storage))


@pytest.mark.parametrize("stem", KERNELS)
def test_update_with_all_stages(stem):
    check_update(variant(stem, "f32", **full()))


@pytest.mark.parametrize("stem", [stem for stem, kind in PENALTIES.items() if not kind.by_row])
def test_update_with_a_proximal_form(stem):
    """In the step of each element where the form takes any, else in one step for all."""
    check_update(adam("f32", proxes=(PENALTIES[stem],), scalar_prox_step=stem in ("mcp", "scad", "log_sum")))


@pytest.mark.parametrize("rounding", ["stochastic", "remainder"])
def test_rounding(rounding):
    check_update(adam("bf16", rounding=rounding, shadow=None, **full()))


def test_random_bits_are_drawn_once_for_all_arrays():
    """The numbers of the arrays pick their bits from one block: the linker sees that it is the same."""
    few = adam("bf16", rounding="stochastic")
    states = (Operand("exp_avg", "bf16", "stochastic", 1), Operand("exp_avg_sq", "bf16", "stochastic", 2))
    found = [
        len(re.findall(r"mul\.\w+\.\w+\s[^;]*, (3528531795|-766435501);", ptx_of(Update(c))))
        for c in (few, few._replace(states=(*states, None)))
    ]
    assert found[0] == found[1] >= 7, found


ROWS = {"slopes": (PENALTIES["group_lasso"],), "shrink": PENALTIES["max_norm"]}


@pytest.mark.parametrize("by_index", [False, True])
@pytest.mark.parametrize("storage", ["f32", "f64", "bf16"])
def test_rows(storage, by_index):
    c = adam(storage, by_index=by_index, lagging=by_index, **ROWS)
    ptx = ptx_of(Rows(c))
    found = clean(ptx)
    assert sums(found, r"st\.global\.(v4\.[fub]32|v2\.[fub]64)") == vectors(c, c.written)
    fours = (c.p, *c.read)  # read for the sums: before the step, and for that of the new weights
    fixed = 1 + ScalarLayout(c).count // (16 // SIZES[c.real]) - (c.real == "f64")  # of a row; two are not used
    loads = sums(found, r"ld\.global\.(v4\.[fub]32|v2\.f64)") - fixed
    assert loads == vectors(c, c.read) + sum(4 * x.size // 16 for x in fours), found
    assert sums(found, r"ld\.global\.v2\.[fub]32") == sum(x.size == 2 for x in fours), found
    assert parameters(ptx) == ["u64"] * 4
    assert sums(found, r"bar.*|barrier.*") > 0
    assert sums(found, r"(ld|st)\.shared\.f64") > 0


@pytest.mark.parametrize(
    ("kernel", "barriers", "moved"),
    [(Sums("bf16", "f32"), True, 2), (Sums("f64", "f64"), True, 1), (Lag(), True, 0),
     (Leaves("f64", squared=False), True, 0), (CatchUp(Operand("p", "bf16", "remainder")), False, 2),
     (CatchUp(Operand("p", "f64")), False, 1)],
    ids=lambda x: x.name if hasattr(x, "name") else "",
)  # fmt: skip
def test_what_steps_of_rows_need(kernel, barriers, moved):
    """``moved`` is in how many pieces of 16 bytes a vector is written; LLVM may write a loop out twice."""
    ptx = ptx_of(kernel)
    found = clean(ptx)
    assert parameters(ptx) == ["u64"] * kernel.arguments
    assert bool(sums(found, r"bar.*|barrier.*")) == barriers
    assert sums(found, r"st\.global\.(v4\.[fub]32|v2\.f64)") in (moved, 2 * moved)


def test_shadow():
    check_update(adam("f32", shadow=Operand("shadow", "bf16")))


def operations(stem):
    """Return how many divisions and square roots the reference of a rule is written with."""
    found = list(ast.walk(ast.parse(inspect.getsource(RULES[stem].reference))))
    roots = [node for node in found if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "sqrt"]
    return sum(isinstance(node, ast.Div) for node in found), len(roots)


@pytest.mark.parametrize("stem", KERNELS)
def test_divisions_and_roots_are_those_of_the_rule(stem):
    """One of each for a lane of a vector and one more for the elements that come one by one."""
    c = variant(stem, "f32")
    found = instructions(ptx_of(Update(c)))
    got = sums(found, r"div\.rn\.f32"), sums(found, r"sqrt\.rn\.f32")
    assert got == tuple(n * (c.width + 1) for n in operations(stem)), got


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("stem", sorted(RULES))
def test_prepare(stem, limited):
    rule = RULES[stem]
    ptx = ptx_of(Prologue(rule, limited))
    found = clean(ptx)
    assert parameters(ptx) == ["u64"] * 7
    assert sums(found, r"bar.*|barrier.*") > 0 if limited else not sums(found, r"bar.*|barrier.*")


@pytest.mark.parametrize("kind", ["f32", "f64", "bf16", "f16"])
def test_leaves(kind):
    ptx = ptx_of(Leaves(kind))
    found = clean(ptx)
    assert parameters(ptx) == ["u64"] * 6
    width = {"f32": r"ld\.global\.v4\.[fub]32", "f64": r"ld\.global\.v2\.f64"}.get(kind, r"ld\.global\.v2\.[ub]32")
    assert sums(found, width) > 0
    assert sums(found, r"mul\.rn\.f64|add\.rn\.f64") > 0


@pytest.mark.parametrize("storage", STORAGE)
def test_norms_of_tensors(storage):
    """Four elements of each array are read at a time, and nothing is written but the sums."""
    c = variant("lamb", storage, clip=True, penalties=tuple(GRADIENTS.values()))
    ptx = ptx_of(Norms(c))
    found = clean(ptx)
    assert parameters(ptx) == ["u64"] * 7
    assert sums(found, r"bar.*|barrier.*") > 0
    assert sums(found, r"st\.global.*") == 2
    wide = r"ld\.global\.v2\.f64" if c.real == "f64" else r"ld\.global\.v4\.[fub]32"
    assert sums(found, wide) >= sum(x.size * 4 // 16 for x in c.read), found
    assert sums(found, r"ld\.global\.v2\.[fub]32") >= sum(x.size == 2 for x in c.read), found


def test_what_is_made_of_norms():
    ptx = ptx_of(Scale(RULES["lamb"]))
    found = clean(ptx)
    assert parameters(ptx) == ["u64"] * 4
    assert sums(found, r"bar.*|barrier.*") > 0
    assert (sums(found, r"sqrt\.rn\.f64"), sums(found, r"div\.rn\.f64")) == (2, 1)


def registers(kernel, cc):
    """Return how many registers a kernel takes, by the assembler inside nvJitLink; nothing is kept elsewhere."""
    from cuda.bindings import nvjitlink

    code, told = compiler.ltoir(kernel, cc), [*compiler.options(kernel, cc), "-verbose"]
    handle = nvjitlink.create(len(told), told)
    nvjitlink.add_data(handle, nvjitlink.InputType.LTOIR, code, len(code), "kernel")
    nvjitlink.complete(handle)
    said = bytearray(nvjitlink.get_info_log_size(handle))
    nvjitlink.get_info_log(handle, said)
    nvjitlink.destroy(handle)
    said = said.decode()
    assert re.search(r"\b0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads", said), said
    return int(re.search(r"Used (\d+) registers", said).group(1))


@pytest.mark.parametrize("cc", [(7, 5), (8, 0), (9, 0), (12, 0)], ids=str)
@pytest.mark.parametrize(
    ("what", "most"),
    [("adam f32", 56), ("adam bf16", 64), ("norm", 32), ("prepare", 72), ("limited", 72), ("rows", 80),
     ("rows f64", 136), ("some rows", 88), ("some rows f64", 152), ("sums", 80), ("catch up", 40),
     ("all f32", 64), ("all bf16", 80), ("norms", 80), ("norms f64", 120), ("scale", 48)],
)  # fmt: skip
def test_registers(what, most, cc):
    kernel = {
        "adam f32": lambda: Update(adam("f32")),
        "adam bf16": lambda: Update(adam("bf16")),
        "norm": lambda: Leaves("f32"),
        "prepare": lambda: Prologue(RULES["adam"], False),
        "limited": lambda: Prologue(RULES["adam"], True),
        "rows": lambda: Rows(adam("f32", **ROWS)),
        "rows f64": lambda: Rows(adam("f64", **ROWS)),
        "some rows": lambda: Rows(adam("f32", by_index=True, lagging=True, **ROWS)),
        "some rows f64": lambda: Rows(adam("f64", by_index=True, lagging=True, **ROWS)),
        "norms": lambda: Norms(variant("lamb", "f32", clip=True)),
        "norms f64": lambda: Norms(variant("lamb", "f64", clip=True)),
        "scale": lambda: Scale(RULES["lamb"]),
        "sums": lambda: Sums("bf16", "f32"),
        "catch up": lambda: CatchUp(Operand("p", "bf16", "remainder")),
        "all f32": lambda: Update(adam("f32", **full())),
        "all bf16": lambda: Update(adam("bf16", rounding="stochastic", **full())),
    }[what]()
    assert registers(kernel, cc) <= most


@pytest.mark.parametrize("cc", [(7, 5), (9, 0)], ids=str)
@pytest.mark.parametrize("stem", KERNELS)
def test_registers_of_all_rules(stem, cc):
    """64 let a multiprocessor be full at 7.5, and half full at 9.0."""
    assert registers(Update(variant(stem, "f32")), cc) <= 64


def test_the_check_finds_what_it_looks_for():
    """A kernel that divides approximately, spills to local memory or calls something would be seen."""
    ptx = ptx_of(Leaves("f32"))
    for old, new in (("mul.rn.f64", "fma.rn.f64"), ("ld.global.v4.f32", "ld.v4.f32"), ("add.rn.f64", "div.approx.f32"),
                     (f".version {version()}", ".version 9.4")):  # fmt: skip
        assert old in ptx
        with pytest.raises(AssertionError):
            clean(ptx.replace(old, new))


def test_numpy_2_5_will_do():
    """Numba wants a name that it no longer has; nothing else sees that it had it for a while."""
    code = """
import numpy
vars(numpy).pop("row_stack", None)
from pyopt.kernels.cuda import compiler, entry_points
assert compiler.ltoir(entry_points.Lag(), (9, 0))
assert "row_stack" not in vars(numpy)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_same_code_in_every_process(tmp_path):
    """Two processes write the same bytes, or the cache would depend on who came first."""
    code = """
import hashlib
from pyopt.kernels.cuda import compiler, entry_points
code = compiler.link(entry_points.Leaves("f32"), (9, 0))
print(hashlib.sha256(code).hexdigest())
"""
    made = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           cwd=ROOT).stdout for _ in range(2)}  # fmt: skip
    assert len(made) == 1
