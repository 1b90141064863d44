"""The generator of the tiles' loops: what it writes for a function on one element, and what it refuses."""

import ast
from pathlib import Path

import pytest

from pyopt import kernels
from pyopt.kernels.cpu.element import Element, ElementError, cases
from pyopt.kernels.cpu.loops import Table, function, in_bfloat16, loop, native

FOLDER = Path(kernels.__file__).parent
LION = """\
cdef inline (real, real) lion_element(real p, real g, real exp_avg, real lr, real one_minus_beta1, \
real one_minus_beta2, real decay) noexcept nogil:
    p = p * decay - lr * sign(exp_avg + one_minus_beta1 * (g - exp_avg))
    return p, flush(exp_avg + one_minus_beta2 * (g - exp_avg))

cdef void lion_32(void** arrays, const void* scalars, const Py_ssize_t* sizes) noexcept nogil:
    cdef Py_ssize_t i
    cdef float* p_tile = <float*>arrays[0]
    cdef const float* g_tile = <const float*>arrays[1]
    cdef float* exp_avg_tile = <float*>arrays[2]
    cdef float p
    cdef float g
    cdef float exp_avg
    cdef float lr = (<const float*>scalars)[0]
    cdef float one_minus_beta1 = (<const float*>scalars)[1]
    cdef float one_minus_beta2 = (<const float*>scalars)[2]
    cdef float decay = (<const float*>scalars)[3]
    for i in range(sizes[0]):
        p = p_tile[i]
        g = g_tile[i]
        exp_avg = exp_avg_tile[i]
        p, exp_avg = lion_element[float](p, g, exp_avg, lr, one_minus_beta1, one_minus_beta2, decay)
        p_tile[i] = p
        exp_avg_tile[i] = exp_avg
"""
RANDOM = """\
    for i in range(sizes[0] // 2):
        bits = bits_tile[i]
        p = low_bf16(p_tile[i])
        g = low_bf16(g_tile[i])
        exp_avg = low_bf16(exp_avg_tile[i])
        p, exp_avg = lion_element[float](p, g, exp_avg, lr, one_minus_beta1, one_minus_beta2, decay)
        p_low = drawn_bf16(p, bits & 0xffff)
        exp_avg_low = drawn_bf16(exp_avg, bits >> 16)
        p = high_bf16(p_tile[i])
        g = high_bf16(g_tile[i])
        exp_avg = high_bf16(exp_avg_tile[i])
        p, exp_avg = lion_element[float](p, g, exp_avg, lr, one_minus_beta1, one_minus_beta2, decay)
        p_tile[i] = both(p_low, drawn_bf16(p, bits >> 16))
        exp_avg_tile[i] = both(exp_avg_low, drawn_bf16(exp_avg, bits & 0xffff))
"""


def element(text, path="rules/some_element.py"):
    """Return the first function of a source."""
    return Element(Path(path), ast.parse(text).body[0])


def bodies(text, path="rules/some_element.py"):
    """Return what each case knows, and its lines with the return."""
    return [
        (case.known, [*case.lines, ", ".join(text for text, _ in case.results.values())])
        for case in cases(element(text, path))
    ]


def lines_of(text):
    return [line.strip() for line in text.splitlines()]


def test_a_loop_as_a_whole():
    table = Table()
    table.add_elements(FOLDER / "rules/lion_element.py")
    assert "\n".join(table.texts[:2]) == LION
    assert table.texts[2] == LION.partition("\n\n")[2].replace("lion_32", "lion_64").replace("float", "double")
    arguments = "('p', 'g', 'exp_avg'), ('lr', 'one_minus_beta1', 'one_minus_beta2', 'decay')"
    assert table.rows["rules.lion"] == f"(<size_t>&lion_32, <size_t>&lion_64, {arguments})"
    assert table.rows["rules.lion_bf16_pgs"] == f"(<size_t>&lion_bf16_pgs, 0, {arguments})"
    assert set(table.mixed) == {f"rules.lion_bf16_{form}" for form in ("p", "g", "s", "pg", "ps", "gs")}


def test_loops_over_bfloat16():
    rule = element((FOLDER / "rules/lion_element.py").read_text().partition("\n\n\n")[2], "rules/lion_element.py")
    named = [("lion_element", case) for case in cases(rule)]
    made = {form.suffix: loop(rule, named, form) for form in in_bfloat16(rule)}
    assert made["_bf16_random"].endswith(RANDOM)
    assert "cdef const pair_t* bits_tile = <const pair_t*>arrays[3]\n" in made["_bf16_random"]
    near = RANDOM.replace("        bits = bits_tile[i]\n", "").replace("drawn_", "near_")
    for bits in (", bits & 0xffff", ", bits >> 16"):
        near = near.replace(bits, "")
    assert made["_bf16_pgs"].endswith(near)
    mixed = lines_of(made["_bf16_ps"])
    assert "cdef const float* g_tile = <const float*>arrays[1]" in mixed
    assert "exp_avg = wide_bf16(exp_avg_tile[i])" in mixed
    assert "exp_avg_tile[i] = round_bf16(exp_avg)" in mixed


def test_a_fourth_array_takes_the_second_word_of_random_bits():
    rule = element("def some(p, g, m, v, w, /, lr):\n    return p - lr * g, m, v, w")
    form = list(in_bfloat16(rule))[-1]
    lines = lines_of(loop(rule, [("some_element", *cases(rule))], form))
    low = [line.partition(", ")[2] for line in lines if "_low = drawn" in line]
    assert low == ["bits & 0xffff)", "bits >> 16)", "bits2 & 0xffff)", "bits2 >> 16)"]
    more = element("def some(p, g, m, v, w, x, /, lr):\n    return p - lr * g, m, v, w, x")
    assert [form.suffix for form in in_bfloat16(more)][-1] == "_bf16_pgs"


def test_optional_arrays_and_flags_become_cases():
    text = """def some(p, g, m, /, lr, fast: bool):
    if m is None:
        step, new = g, None
    else:
        new = m + g
        step = new + g if fast else new
    return p - lr * step, new"""
    assert bodies(text) == [
        ({"m": False}, ["cdef real step = g", "p - lr * step"]),
        ({"m": True, "fast": True}, ["cdef real new = m + g", "cdef real step = new + g", "p - lr * step, new"]),
        ({"m": True, "fast": False}, ["cdef real new = m + g", "cdef real step = new", "p - lr * step, new"]),
    ]
    rule = element(text)
    named = [(f"some_element{k}", case) for k, case in enumerate(cases(rule))]
    lines = lines_of(loop(rule, named, next(native(rule))))
    assert [line for line in lines if "if " in line] == [
        "if m_tile is NULL:",
        "elif m_tile is not NULL and fast != 0:",
        "elif m_tile is not NULL and fast == 0:",
    ]
    assert "p = some_element0[float](p, g, lr)" in lines
    assert "p, m = some_element1[float](p, g, m, lr)" in lines


def test_both_sides_of_a_select_are_computed():
    text = "def some_prox(p, step, /, a):\n    return zero(p) if p < a or not p == step else -p / a"
    (_, lines), *_ = bodies(text, "penalties/some_element.py")
    assert lines == ["select((p < a) | (not p == step), <real>(0), -p / a)"]


def test_double_is_inferred():
    text = """def some(x, y, /, factor):
    d = y * half(double(y)) - double(x)
    d, e = maximum(d, one(d)), x - y
    return d * e, factor * e"""
    (_, lines), *_ = bodies(text, "losses/some_element.py")
    assert lines == [
        "cdef double d = y * <double>(0.5) - <double>(x)",
        "cdef real e",
        "d, e = maximum(d, <double>(1)), x - y",
        "d * e, factor * e",
    ]
    loss = element(text, "losses/some_element.py")
    assert loss.arrays == ["x", "y", "gradient", "terms"]
    assert function(loss, cases(loss)[0], "f").startswith("cdef inline (double, real) f(real x, real y, real factor)")
    assert "cdef double* terms_tile = <double*>arrays[3]" in loop(loss, [("f", cases(loss)[0])], next(native(loss)))


def test_a_tile_written_by_hand_wins(tmp_path):
    table = Table()
    (tmp_path / "losses").mkdir()
    (tmp_path / "losses/some.pxi").write_text("cdef void some(const real* x, real k, Py_ssize_t n) noexcept nogil:\n")
    (tmp_path / "losses/some_element.py").write_text("def some(x, /, k):\n    return double(x), k * x\n")
    table.add_tiles("losses", tmp_path / "losses/some.pxi")
    table.add_elements(tmp_path / "losses/some_element.py")
    assert table.rows == {"losses.some": "(<size_t>&some_32, <size_t>&some_64, ('x',), ('k',))"}
    assert lines_of(table.texts[0])[1] == "some[float](<float*>arrays[0], (<const float*>scalars)[0], sizes[0])"
    assert len(table.texts) == 2


HEAD = "def some(p, g, m, /, lr, fast: bool):\n    "
REFUSED = [  # after HEAD, where the line that is wrong comes first; or, from a def on, a whole function
    ("if p > lr:\n        return p, m", 2, "if p > lr: only `x is None` and flags choose statements; for numbers"),
    ("for i in lr:\n        pass", 2, "for i in lr: only `x = ...`, `if x is None` and return are allowed"),
    ("while lr:\n        pass", 2, "while lr: only"),
    ("p += lr", 2, "p += lr: only `x = ...`"),
    ("p = q = g", 2, "p = q = g: only `x = ...`"),
    ("p, q = g", 2, "p, q = g: names to the left, as many values to the right"),
    ("p = 0.5 * p\n    return p, m", 2, "the literal 0.5: a constant is a scalar, or zero(x), one(x) or half(x)"),
    ("p = np.exp(p)", 2, "np.exp(p): only these may be called: zero(x), one(x), half(x), double(x)"),
    ("p = exp(x=p)", 2, "exp(x=p): only these may be called"),
    ("p = soft(p)", 2, "soft(p): only these may be called"),
    ("p = q * g", 2, "q is no number that is known here"),
    ("p = p ** g", 2, "p ** g: only names, + - * /, `a if c else b` and calls make a number"),
    ("p = p[lr]", 2, "p[lr]: only names"),
    ("p = p if lr < p < g else g", 2, "lr < p < g: one comparison at a time"),
    ("p = p if g else g", 2, "g: a condition compares numbers, or asks for None or a flag"),
    ("p = p if lr is None else g", 2, "lr is None: an array before the slash may be None, no scalar"),
    ("p = fast * p", 2, "fast is no number that is known here"),
    ("fast = p", 2, "fast is a flag: nothing may be assigned to it"),
    ("p = maximum(p, double(g))", 2, "maximum(p, double(g)): real and double() mixed"),
    ("p = log(p)", 2, "log(p): log is there for a double(x) only"),
    ("p = double(p)", 2, "p is real before and double here"),
    ("if m is None:\n        p = m * g\n    return p, m", 3, "m may be None here"),
    ("if m is None:\n        m = p\n    return p, m", 4, "m is real: what is returned for m must be none here"),
    ("return double(p), m", 2, "double(p) is double: what is returned for p must be real here"),
    ("return p", 2, "it returns 1 values, not one for each of p, m"),
    ("return p, m\n    return g, m", 3, "nothing may stand behind a return"),
    ("p = g", 1, "def some: it must end with one return"),
    ("def some(p, g, lr):\n    return p", 1, "def some: no slash behind the elements of arrays"),
    ("def some(p, g, /, lr=p):\n    return p", 1, "def some: no decorator, default, * or ** is allowed"),
    ("@f\ndef some(p, g, /):\n    return p", 2, "def some: no decorator"),
    ("def some(p, g: bool, /):\n    return p", 1, "g: bool: only a scalar may be annotated, as bool"),
    ("def some(p, g, /, bits):\n    return p", 1, "bits: no argument may have this name"),
    ("def other(p, g, /):\n    return p", 1, "def other: must be called some or some_steps"),
    ("K = 2", 1, "only `from ... import` and functions are allowed here"),
]


def test_refused(tmp_path):
    path = tmp_path / "rules" / "some_element.py"
    path.parent.mkdir()
    for text, line, message in REFUSED:
        path.write_text(text if text.startswith(("def ", "@", "K")) else HEAD + text)
        with pytest.raises(ElementError) as refused:
            Table().add_elements(path)
        assert str(refused.value).startswith(f"{path}:{line}: {message}")
