"""The moving average of the parameters, kept in the same pass."""

import contextlib

import numpy as np
import pytest

import pyopt
from pyopt.kernels.rules import RULES
from support.helpers import gradients, make, refused, run, same, same_bits, stepping, tame

pytestmark = pytest.mark.devices


def test_by_its_definition(isa):
    p = np.array([1.0, -2.0])
    expected = p.copy()
    with stepping(isa):
        opt = pyopt.SGD([p], lr=0.1, ema_decay=0.75)
        for _ in range(5):
            opt.step([2 * p])
            expected = 0.75 * expected + 0.25 * p
    np.testing.assert_allclose(opt.ema_params()[0], expected, rtol=1e-14)


def test_bits_are_those_of_the_reference(rule, dtype, isa):
    params = [tame(n, dtype, n) for n in (40_009, 129, 0, 1)]
    grads = gradients(params, 3)
    grads[1][1] = None
    for corrected in (False, True):
        options = {"ema_decay": 0.9, "ema_bias_correction": corrected}
        want = run(rule, params, grads, **options)
        assert "ema[0]" in want
        for threads in (1, 2):
            same(run(rule, params, grads, by=isa, threads=threads, **options), want, f"{threads} threads, {options}")


@pytest.mark.any_rule
def test_it_does_not_change_the_parameters(rule, dtype, isa):
    params = [tame(300, dtype)]
    grads = gradients(params, 2)
    with_ema = run(rule, params, grads, by=isa, ema_decay=0.9)
    without = run(rule, params, grads, by=isa)
    same({key: with_ema[key] for key in without}, without)


def test_swapped_for_evaluation(isa):
    p = tame((3, 4), np.float32)
    with stepping(isa):
        opt = pyopt.Adam([p], lr=0.1, ema_decay=0.5)
        opt.step([p + 1])
    trained, average = p.copy(), opt.ema_params()[0]
    assert not np.array_equal(trained, average)
    with contextlib.suppress(KeyError), opt.swapped_ema():
        same_bits(p, average)
        raise KeyError("an evaluation that fails")
    same_bits(p, trained)
    same_bits(opt.ema_params()[0], average)


@pytest.mark.parametrize(("stored", "averaged"), [("float32", "bfloat16"), ("float32", "float16"), ("bfloat16", None)])
def test_weights_and_averages_come_back_to_the_bit(stored, averaged):
    p = np.array([1.2245678, 70000.0, -3e-6]).astype(pyopt.kernels.numerics.codecs.dtype(stored))
    opt = pyopt.SGD([p], lr=0.25, ema_decay=0.75, state_dtype=averaged)
    opt.step([p.copy()])
    weights, average = p.tobytes(), opt.state[0]["ema"].tobytes()
    with opt.swapped_ema():
        assert p.tobytes() != weights
        np.testing.assert_allclose(p.astype("f4"), opt.state[0]["ema"].astype("f4"), rtol=2.0**-8)
        p[...] = 0
    assert (p.tobytes(), opt.state[0]["ema"].tobytes()) == (weights, average)


def test_nothing_else_while_swapped(isa):
    """A step would train the averages, a snapshot take the weights for them, and a second swap undo the first."""
    p, g = tame((3, 4), np.float32), tame((3, 4), np.float32, 1)
    with stepping(isa):
        opt = pyopt.SGD([p], lr=0.1, ema_decay=0.5)
        opt.step([g])
        saved, average = opt.state_dict(), opt.ema_params()[0]
        with opt.swapped_ema():
            for call in (
                lambda: opt.step([g]),
                lambda: opt.step_rows([0], g[:1]),
                opt.catch_up_rows,
                lambda: opt.swapped_ema().__enter__(),
                opt.ema_params,
                opt.state_dict,
                lambda: opt.load_state_dict(saved),
                lambda: opt.add_param_group({"params": [np.ones(3)]}),
                lambda: opt.to([p.copy()]),
            ):
                with refused(RuntimeError, "inside swapped_ema()", opt=opt, arrays=[p]):
                    call()
            same_bits(p, average)
        opt.step([g])


def test_it_is_saved_and_loaded(isa):
    rule = RULES["adamw"]
    first, second = tame(200, np.float32), tame(200, np.float32, 1)
    grads = gradients([first], 4, make=tame)
    with stepping(isa):
        opt = make(rule, [first], ema_decay=0.9)
        for g in grads[:2]:
            opt.step(g)
        other = make(rule, [second], ema_decay=0.5)
        second[...] = first
        other.load_state_dict(opt.state_dict())
        for g in grads[2:]:
            opt.step(g)
            other.step(g)
    same_bits(second, first)
    same_bits(other.ema_params()[0], opt.ema_params()[0])


def test_by_group_and_later():
    a, b = tame(5, np.float32), tame(5, np.float32, 1)
    opt = pyopt.SGD([{"params": [a], "ema_decay": 0.9}, {"params": [b]}])
    with refused(ValueError, "params[1] has no moving average", "ema_decay is None", opt=opt):
        opt.ema_params()
    opt.param_groups[1]["ema_decay"] = 0.5
    start = b.copy()
    opt.step([a.copy(), b.copy()])  # the average goes on from the present value
    np.testing.assert_allclose(opt.ema_params()[1], (start + b) / 2, rtol=1e-6)


@pytest.mark.parametrize("value", [1.0, -0.1, np.nan, "0.9", True])
def test_decay_out_of_range_is_refused(value):
    p = tame(3, np.float32)
    with refused((ValueError, TypeError), "ema_decay", "[0, 1)", arrays=[p]):
        pyopt.SGD([p], ema_decay=value)
