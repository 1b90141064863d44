"""Every rule, penalty and loss is complete, and says what it is; an incomplete one is told what is missing."""

import doctest
import importlib
import inspect
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

import pyopt
from pyopt import kernels
from pyopt.kernels.cpu import isa
from pyopt.kernels.losses import ELEMENTWISE, LOSSES
from pyopt.kernels.penalties import PENALTIES
from pyopt.kernels.penalty import Projection
from pyopt.kernels.rules import RULES
from pyopt.optim.group import OPTIONS
from support import golden, losses
from support.contract import ELEMENT, ROW, WHOLE, broken, faults
from support.helpers import OPTIMIZERS

FOLDER = Path(kernels.__file__).parent


def rule_forms(rule):
    more = {"steps": rule.prox_steps, "direction": rule.direction}
    return {"reference": rule.kernel, **{form: f"{rule.kernel}_{form}" for form, has in more.items() if has}}


def penalty_forms(penalty):
    if issubclass(penalty, Projection):
        forms = {"shrink": "shrink"} if penalty.by_row else {"proximal": "prox"}
    elif penalty.by_row:
        forms = {"slope": "slope", "shrink": "shrink"}
    else:
        forms = {"terms": "value", "gradient": "gradient", "proximal": "prox"}
    return {reference: f"{penalty.stem}_{name}" for reference, name in forms.items()}


def test_rule(rule):
    exported = rule.name in OPTIMIZERS
    for tiles in map(isa.tiles, isa.available()):
        assert not faults(
            FOLDER / "rules",
            rule.name,
            rule.kernel,
            rule_forms(rule),
            tiles=tiles,
            exported=exported,
            golden=rule.name in golden.RULES,
        )


@pytest.mark.parametrize(("decay", "message"), [("both", "'coupled', 'decoup"), ("decoupled", "needs decay at")])
def test_a_rule_takes_the_decay_that_it_declares(decay, message):
    with pytest.raises(ValueError, match=message):
        replace(RULES["sgd"], decay=decay)


@pytest.mark.parametrize("penalty", PENALTIES.values())
def test_penalty(penalty):
    exported = penalty.__name__ in pyopt.__all__
    for tiles in map(isa.tiles, isa.available()):
        stem = penalty.stem
        assert not faults(
            FOLDER / "penalties",
            stem,
            stem,
            penalty_forms(penalty),
            files=ROW if penalty.by_row else ELEMENT,
            tiles=tiles,
            exported=exported,
            golden=stem in golden.PENALTIES,
        )


@pytest.mark.parametrize("stem", sorted(LOSSES))
def test_loss(stem):
    exported = inspect.isfunction(vars(pyopt.losses).get(stem))
    golden = stem in {row[0] for row in losses.KNOWN}
    assert stem in losses.OPTIONS or stem not in ELEMENTWISE, f"{stem}: no row in OPTIONS of tests/support/losses.py"
    for tiles in map(isa.tiles, isa.available()):
        assert not faults(
            FOLDER / "losses",
            stem,
            stem,
            {"reference": stem}
            | ({"reference_soft": f"{stem}_soft"} if hasattr(LOSSES[stem], "reference_soft") else {}),
            files=ELEMENT if stem in ELEMENTWISE else WHOLE,
            tiles=tiles,
            exported=exported,
            golden=golden,
        )


@pytest.mark.parametrize("stem", sorted(LOSSES))
def test_a_loss_names_its_options(stem):
    """Options have their range in the docstring of the kernel, and every loss takes the same arguments first."""
    parameters = inspect.signature(getattr(pyopt.losses, stem)).parameters
    assert list(parameters)[2:4] == ["reduction", "out"]
    assert list(parameters)[-1] == "sample_weight"
    ranges = re.search(r"^Ranges: (.*?)^Deviations:", LOSSES[stem].__doc__, re.MULTILINE | re.DOTALL).group(1)
    for name in [*list(parameters)[:2], *list(parameters)[4:-1]]:
        assert re.search(rf"\b{name}\b", ranges), f"{name} is not in Ranges:"
    for reference in [LOSSES[stem].reference] * (stem in ELEMENTWISE):
        assert next(iter(inspect.signature(reference).parameters)) == next(iter(parameters))


def test_nothing_is_left_over():
    """A golden without a rule, or a form without a stem, is a rule that was renamed or half removed."""
    assert {row[0] for row in losses.KNOWN} == set(LOSSES)
    assert set(golden.RULES) == set(RULES)
    assert set(golden.PENALTIES) == set(PENALTIES)
    ends = dict.fromkeys([stem for stem, kind in PENALTIES.items() if kind.by_row], ROW)
    ends |= dict.fromkeys(set(LOSSES) - set(ELEMENTWISE), WHOLE)
    for folder, stems in (("rules", RULES), ("penalties", PENALTIES), ("losses", LOSSES)):
        files = {path.name for path in (FOLDER / folder).iterdir() if path.suffix in {".py", ".pxi"}}
        allowed = {f"{stem}{end}" for stem in stems for end in (".py", *ends.get(stem, ELEMENT))}
        assert files - allowed == {"__init__.py"} | ({"binary_cross_entropy.pxi"} if folder == "losses" else set())


def test_docstring_names_states_and_hyper_parameters(rule):
    states = re.search(r"^States: (.*?)^Ranges:", rule.doc, re.MULTILINE | re.DOTALL).group(1)
    ranges = re.search(r"^Ranges: (.*?)^Deviations:", rule.doc, re.MULTILINE | re.DOTALL).group(1)
    for state in rule.states:
        assert re.search(rf"\b{state.name}\b", states), f"{state.name} is not in States:"
        assert state.when is None or re.search(rf"\b{state.when}\b", states), f"{state.name} depends on {state.when}"
    for hyper in rule.hypers:
        if not isinstance(hyper.default, bool):
            assert re.search(rf"\b{hyper.name}\b", ranges), f"{hyper.name} is not in Ranges:"


@pytest.mark.parametrize("penalty", PENALTIES.values())
def test_docstring_of_a_penalty_says_what_it_has(penalty):
    doc = importlib.import_module(penalty.__module__).__doc__
    assert re.search(r"\bproximal\b", doc, re.IGNORECASE) or penalty.__name__ == "MaxNorm"
    assert issubclass(penalty, Projection) or re.search("^Gradient: ", doc, re.MULTILINE)
    for field in fields(penalty):
        assert re.search(rf"^Ranges:.*\b{field.name}\b", doc, re.MULTILINE | re.DOTALL)


def test_class_has_the_documentation_and_the_arguments_of_its_rule(rule):
    cls = OPTIMIZERS[rule.name]
    text, _, example = rule.doc.partition("\n>>> ")
    assert cls.__doc__.startswith(text.rstrip())
    assert cls.__doc__.endswith(example)
    for hyper in rule.all_hypers:
        assert re.search(rf"^(\w+, )*{hyper.name}(, \w+)* : ", cls.__doc__, re.MULTILINE), hyper.name
    for hyper in rule.hypers:
        entry = re.search(rf"^{hyper.name} : (.*)\n( +.*)?", cls.__doc__, re.MULTILINE)
        assert f"default {hyper.default}" in entry.group(1)
        assert hyper.range[1:] in (entry.group(2) or "rue or False")
    assert list(cls.__signature__.parameters) == [
        "params", *(hyper.name for hyper in rule.all_hypers), *OPTIONS, "max_grad_norm", "skip_nonfinite",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "module", [f"{folder}.{stem}" for folder, stems in (("rules", RULES), ("penalties", PENALTIES), ("losses", LOSSES))
               for stem in stems]
)  # fmt: skip
def test_example(module):
    result = doctest.testmod(importlib.import_module(f"pyopt.kernels.{module}"), raise_on_error=False)
    assert result.attempted >= 3
    assert result.failed == 0


# ---- the checker itself, on copies with one piece broken

RULE = ("rules", "lion", {"reference": "lion"}, ELEMENT)
ADAGRAD = ("rules", "adagrad", {"reference": "adagrad", "steps": "adagrad_steps"}, ELEMENT)
PENALTY = ("penalties", "l1", {"terms": "l1_value", "gradient": "l1_gradient", "proximal": "l1_prox"}, ELEMENT)
BOX = ("penalties", "box", {"proximal": "box_prox"}, ELEMENT)
GROUP = ("penalties", "group_lasso", {"slope": "group_lasso_slope", "shrink": "group_lasso_shrink"}, ROW)
LOSS = ("losses", "huber", {"reference": "huber"}, ELEMENT)
LOOPS = ("losses", "binary_cross_entropy", {"reference": "binary_cross_entropy"}, ELEMENT)
ROWS = ("losses", "softmax_cross_entropy", {"reference": "softmax_cross_entropy"}, WHOLE)
BROKEN = [
    (RULE, "lion_element.py", None, "no file lion_element.py"),
    (RULE, "lion.py", None, "no file lion.py"),
    (RULE, "lion_element.py", ("(p, g, exp_avg,", "(p, g, m,"), "lion in lion_element.py takes ['p', 'g', 'm', '/',"),
    (RULE, "lion_element.py", ("lr, one_minus_beta1", "one_minus_beta1, lr"), "lion in lion_element.py takes"),
    (RULE, "lion_element.py", ("exp_avg, /, lr", "exp_avg, lr, /"), "['p', 'g', 'exp_avg', 'lr', '/',"),
    (RULE, "lion_element.py", (" /,", ""), "lion in lion_element.py takes ['/', 'p',"),
    (RULE, "lion_element.py", ("def lion(", "def tiger("), "no lion in lion_element.py"),
    (RULE, "lion.py", ("def reference(p, g, exp_avg, lr,", "def reference(p, g, exp_avg, rate,"), "as compiled takes"),
    (RULE, "lion.py", ("def reference(", "def other("), "no reference in lion.py"),
    (RULE, "lion.py", (".. math::", ".. code::"), "no equation"),
    (RULE, "lion.py", ("States: ", "Memory: "), "no section States:"),
    (RULE, "lion.py", ("Ranges: ", "Limits: "), "no section Ranges:"),
    (RULE, "lion.py", ("Deviations: ", "Else: "), "no section Deviations:"),
    (RULE, "lion.py", ("Source: ", "From: "), "no section Source:"),
    (RULE, "lion.py", ("https://", "see "), "no URL"),
    (RULE, "lion.py", (" 2023,", ","), "no year"),
    (RULE, "lion.py", ("[ 0.8 -1.8]", ""), "no example"),
    (RULE, "lion.py", ('"""Lion: ', '"""\nLion: '), "summary of one line"),
    (PENALTY, "l1_element.py", ("alpha):", "weight):"), "l1_gradient in l1_element.py takes"),
    (PENALTY, "l1.py", ("def gradient(p, g, alpha)", "def gradient(p, g, a)"), "gradient in l1.py takes"),
    (PENALTY, "l1_element.py", ("step, /, alpha):", "alpha, /, step):"), "l1_prox in l1_element.py takes"),
    (PENALTY, "l1.py", ("def proximal(", "def prox("), "no proximal in l1.py"),
    (PENALTY, "l1_element.py", ("def l1_prox(", "def prox("), "no l1_prox in l1_element.py"),
    (PENALTY, "l1_element.py", ("def l1_value(", "def l1_worth("), "no l1_value in l1_element.py"),
    (PENALTY, "l1.py", ("def terms(", "def shares("), "no terms in l1.py"),
    (PENALTY, "l1.py", ("Source: ", "From: "), "no section Source:"),
    (BOX, "box_element.py", ("low, high", "high, low"), "box_prox in box_element.py takes"),
    (GROUP, "group_lasso.pxi", None, "no file group_lasso.pxi"),
    (
        GROUP,
        "group_lasso.pxi",
        ("real step, real alpha", "real alpha, real step"),
        "group_lasso_shrink in group_lasso.pxi",
    ),
    (
        GROUP,
        "group_lasso_cuda.py",
        ("def group_lasso_slope(", "def slope("),
        "no group_lasso_slope in group_lasso_cuda.py",
    ),
    (ADAGRAD, "adagrad_element.py", ("steps(sum, /", "steps(total, /"), "adagrad_steps in adagrad_element.py"),
    (LOSS, "huber_element.py", None, "no file huber_element.py"),
    (LOSS, "huber_element.py", ("delta, half)", "half, delta)"), "huber in huber_element.py takes"),
    (LOSS, "huber.py", ("factor, delta, half)", "factor, width, half)"), "as compiled takes"),
    (LOSS, "huber.py", (".. math::", ".. code::"), "no equation"),
    (LOSS, "huber.py", ("Deviations: ", "Else: "), "no section Deviations:"),
    (LOSS, "huber.py", (" 1964,", ","), "no year"),
    (LOOPS, "binary_cross_entropy.pxi", ("real one,", "real unit,"), "in binary_cross_entropy.pxi takes"),
    (ROWS, "softmax_cross_entropy.pxi", None, "no file softmax_cross_entropy.pxi"),
    (ROWS, "softmax_cross_entropy.py", ("Ranges: ", "Limits: "), "no section Ranges:"),
]


@pytest.mark.parametrize(("which", "file", "change", "message"), BROKEN)
def test_checker_names_what_is_broken(tmp_path, which, file, change, message):
    family, stem, forms, files = which
    complete = {"files": files, "tiles": isa.tiles(), "exported": True, "golden": True}
    assert faults(FOLDER / family, stem, stem, forms, **complete) == []
    found = faults(broken(FOLDER / family, tmp_path, file, change), stem, stem, forms, **complete)
    assert any(message in fault and fault.startswith(f"{stem}: ") for fault in found)


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ({"exported": False}, "lion: not exported in pyopt"),
        ({"golden": False}, "lion: no row in tests/support/golden.py"),
        ({"tiles": {}}, "lion: no rules.lion as compiled"),
    ],
)
def test_checker_names_what_is_missing_elsewhere(lacking, message):
    complete = {"tiles": isa.tiles(), "exported": True, "golden": True}
    assert faults(FOLDER / "rules", "lion", "lion", {"reference": "lion"}, **(complete | lacking)) == [message]


def test_checker_names_all_pieces_of_a_rule(tmp_path):
    (tmp_path / "rules").mkdir()
    assert faults(tmp_path / "rules", "new", "new", {"reference": "new"}, tiles={}, exported=False, golden=False) == [
        "new: not exported in pyopt",
        "new: no row in tests/support/golden.py",
        "new: no file new.py",
        "new: no file new_element.py",
        "new: no rules.new as compiled",
    ]
