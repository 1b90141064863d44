"""The face of an engine: every plan has it, and what stands beside a parameter has names."""

import functools
import inspect
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from pyopt import L1, L2, GroupLasso
from pyopt.arrays.multi_device import MultiDevicePlan
from pyopt.kernels import backend
from pyopt.kernels.cpu import engine, isa
from pyopt.kernels.cuda import plan as cuda_plan
from pyopt.kernels.cuda.variant import Operand, Variant
from pyopt.kernels.numerics import codecs
from pyopt.kernels.reference import plan as reference_plan
from pyopt.kernels.rules import RULES
from pyopt.kernels.step import SLOTS, Beside, Request
from pyopt.kernels.view import View, of
from pyopt.optim.group import OPTIONS, ParamGroup
from support.device import Emulated, Foreign, plan_of
from support.helpers import like, refused, same_bits, tame

PLANS = {"reference": reference_plan.Plan, "cpu": engine.Plan, "cuda": cuda_plan.Plan, "devices": MultiDevicePlan}
MADE_OF = ["names", "params", "beside", "groups", "members", "steps", "carries"]


def public(kind):
    return {name for name in vars(kind) if not name.startswith("_")}


def parameters(method):
    """Return the names of a method's parameters; Cython writes them at the head of its text."""
    if inspect.isfunction(method):
        return list(inspect.signature(method).parameters)
    inside = re.match(r"[\w.]+\((.*)\)", method.__doc__).group(1)
    return [re.match(r".*?(\w+)$", part).group(1) for part in inside.split(", ")]


@pytest.mark.parametrize("kind", PLANS.values(), ids=PLANS)
def test_every_plan_has_the_face_of_an_engine(kind):
    """The names and the parameters of each method; what is read without a call may be set by a step."""
    for name in public(backend.Plan):
        want = vars(backend.Plan)[name]
        if isinstance(want, property):
            assert hasattr(kind, name) or name in kind.__init__.__code__.co_names, name
            assert not callable(getattr(kind, name, None)), name
        else:
            assert parameters(getattr(kind, name)) == parameters(want), name


@pytest.mark.parametrize(("kind", "ahead"), [("reference", []), ("cuda", ["device"])])
def test_every_engine_is_given_the_same(kind, ahead):
    assert list(inspect.signature(PLANS[kind]).parameters) == [*ahead, *MADE_OF]


def test_slots_keep_their_names_whatever_stands_before_them():
    own = Beside((1, 2), (3, None), ema=4, row_decay=7)
    assert own.flat() == (1, 2, 3, None, 4, None, None, 7)
    assert own.map(lambda a, b: (a, b), own).row_decay == (7, 7)
    assert own.map(lambda a: a and a + 1) == Beside((2, 3), (4, None), 5, None, None, 8)
    assert own._fields[2:] == SLOTS


def test_a_variant_is_a_key_that_lasts():
    """It goes to other processes, and its text names a file of the cache; rules that share an update share it."""
    rule = RULES["adamw"]
    made = Variant(rule.update, Operand("p", "bf16"), Operand("g", "f32"), (None,), penalties=(L1,), shrink=GroupLasso)
    assert pickle.loads(pickle.dumps(made)) == made
    assert made == made._replace(rule=RULES["adam"])
    assert len({made, made._replace(rule=RULES["lion"]), made._replace(penalties=(L2,))}) == 3
    assert "0x" not in repr(made)
    with pytest.raises(TypeError, match="adamw"):
        pickle.dumps(replace(rule, decay="coupled"))


def group_of(name, **hypers):
    rule = RULES[name]
    return ParamGroup(rule, {**OPTIONS, **rule.Values(**hypers)._asdict()})


def on_cpu(*args):
    return engine.Plan(isa.tiles(), *args)


@pytest.mark.parametrize("made", [reference_plan.Plan, on_cpu], ids=["reference", "cpu"])
@pytest.mark.parametrize("own", [Beside((None,)), Beside((None, None), (np.ones(1), None))], ids=["states", "scales"])
def test_what_does_not_stand_beside_a_parameter_is_refused(made, own):
    group = group_of("rmsprop").group
    with pytest.raises(ValueError, match=r"for w: 3 states without scales"):
        made(["w"], [np.ones(3)], [own], [group], [0], [0], [0.0])


@pytest.mark.parametrize(("made", "as_array"), [
    (reference_plan.Plan, np.asarray), (on_cpu, np.asarray), (functools.partial(cuda_plan.Plan, Emulated()), Foreign),
], ids=["reference", "cpu", "cuda"])  # fmt: skip
def test_a_check_is_no_step(made, as_array):
    p, group = tame((4, 3), np.float32), group_of("sgd", lr=0.5)
    plan = plan_of(made, [as_array(p)], [group])
    for given, zero, error in (
        ([], False, ValueError),
        ([np.ones((3, 4), np.float32)], False, ValueError),
        ([np.ones((4, 3))], False, TypeError),
    ):
        with refused(error, arrays=[p, *given]):
            plan.check([as_array(g) for g in given], zero)
    before = p.copy()
    plan.check([as_array(np.ones((4, 3), np.float32))], True)
    same_bits(p, before)
    assert plan.progress() == ([0], [0.0])


# ---- views in the place of arrays


@pytest.mark.parametrize("kind", codecs.NAMES[1:])
def test_a_gradient_by_its_address_gives_the_same_bits(kind):
    """In Fortran's order, so that strides matter; the first of two tensors comes as an array."""
    params = [tame(5, np.float32, 1), np.asfortranarray(tame((7, 11), np.float32, 2))]
    grads = [codecs.encode(tame(5, np.float32, 3), codecs.dtype(kind)), None]
    grads[1] = like(params[1].astype(grads[0].dtype), codecs.encode(tame((7, 11), np.float32, 4), grads[0].dtype))
    group, got = group_of("lion", lr=0.3, weight_decay=0.2), []
    for by_view in (False, True):
        own = [p.copy(order="K") for p in params]
        moments = [[np.zeros_like(p)] for p in own]
        given = [g.copy(order="K") for g in grads]
        plan = plan_of(on_cpu, own, [group], moments)
        for _ in range(2):
            plan.step([given[0], of(given[1]) if by_view else given[1]], Request([group.group], 2.0, zero=True))
        assert not any(g.any() for g in given)
        got.append([*own, *(m for (m,) in moments)])
    for a, b in zip(*got, strict=True):
        same_bits(a, b)


@pytest.mark.parametrize(("change", "error", "word"), [
    ({"kind": "f64"}, TypeError, "f64"),
    ({"kind": "u16"}, TypeError, "u16"),
    ({"shape": (3, 4)}, ValueError, "shape (3, 4)"),
    ({"shape": (12,), "strides": (1,)}, ValueError, "shape (12,)"),
    ({"strides": (1, 4)}, ValueError, "strides (1, 4)"),
    ({"readonly": True}, ValueError, "read-only"),
    ({"address": 2}, ValueError, "aligned"),
])  # fmt: skip
def test_a_view_that_does_not_go_with_its_parameter(change, error, word):
    p, g, group = tame((4, 3), np.float32), tame((4, 3), np.float32, 1), group_of("sgd")
    plan, view = plan_of(on_cpu, [p], [group]), of(g)
    with refused(error, "gradient of p0", word, arrays=[p, g]):
        plan.step([View(**{**view._asdict(), **change})], Request([group.group], zero=True))
    plan.step([view], Request([group.group], zero=True))
    assert not g.any()


def test_a_view_of_what_is_stepped_is_refused():
    p, group = tame(5, np.float32), group_of("sgd")
    plan = plan_of(on_cpu, [p], [group])
    with refused(ValueError, "share memory", arrays=[p]):
        plan.step([of(p)], Request([group.group]))
