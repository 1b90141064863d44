"""The norm pass: clipping of all gradients, of each and of each element, and the refusal of non-finite ones."""

import math

import numpy as np
import pytest

import pyopt
from pyopt.kernels.numerics import reductions
from pyopt.kernels.rules import RULES
from support.helpers import gradients, make, outcome, refused, run, same, same_bits, stepping, tame, wild

pytestmark = pytest.mark.devices

SIZES = (40_009, 4096, 4097, 129, 0, 1)  # leaves of 4096 that end with a tensor, just after it, and far before


def stepped_once(grads, by="reference", grad_scale=1.0, **options):
    """Return plain gradient descent with lr 1 after one step from 0: minus the gradient that reached the rule."""
    params = [np.zeros_like(g) for g in grads]
    with stepping(by):
        opt = pyopt.SGD(params, lr=1.0, **options)
        opt.step(grads, grad_scale=grad_scale)
    return opt, [-p for p in params]


def test_global_norm_against_its_definition(dtype, isa):
    grads = [tame(n, dtype, n) for n in SIZES]
    norm = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in grads)) / 8
    opt, reached = stepped_once(grads, isa, grad_scale=8.0, max_grad_norm=0.5)
    assert opt.grad_norm == pytest.approx(norm, rel=1e-12)
    left = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in reached))
    assert left == pytest.approx(0.5, rel=1e-5)
    for g, r in zip(grads, reached, strict=True):
        np.testing.assert_allclose(r, g / 8 * (0.5 / norm), rtol=3e-6)


def test_a_norm_below_the_limit_changes_nothing(dtype, isa):
    grads = [tame(n, dtype, n) for n in SIZES]
    for options in ({"max_grad_norm": 1e6}, {"max_tensor_norm": 1e6}, {"clip_value": 1e6}):
        _, reached = stepped_once(grads, isa, **options)
        for g, r in zip(grads, reached, strict=True):
            same_bits(r, g, str(options))


def test_tensor_norms_are_limited_one_by_one(dtype, isa):
    grads = [np.full(100, 3.0, dtype), np.full(4, 0.25, dtype)]  # norms 30 and 0.5
    _, (large, small) = stepped_once(grads, isa, max_tensor_norm=6.0)
    np.testing.assert_allclose(large, 0.6, rtol=1e-6)
    same_bits(small, grads[1])


def test_clip_by_value_follows_the_clipped_norm(dtype, isa):
    grads = [np.array([30.0, -40.0, 0.0, np.nan], dtype)]
    _, (reached,) = stepped_once([grads[0][:3]], isa, max_grad_norm=5.0, clip_value=3.5)
    np.testing.assert_allclose(reached, [3.0, -3.5, 0.0], rtol=1e-6)
    _, (reached,) = stepped_once(grads, isa, clip_value=3.5)
    np.testing.assert_array_equal(reached, np.array([3.5, -3.5, 0.0, np.nan], dtype))


def test_limits_follow_each_other(dtype, isa):
    grads = [np.full(100, 3.0, dtype), np.full(4, 20.0, dtype)]  # norms 30 and 40, 50 together
    _, (first, second) = stepped_once(grads, isa, max_grad_norm=5.0, max_tensor_norm=3.5)
    np.testing.assert_allclose(first, 0.3, rtol=1e-6)  # a norm of 3
    np.testing.assert_allclose(second, 1.75, rtol=1e-6)  # of 3.5, where 4 was left
    p = np.zeros((4, 4), dtype)
    with stepping(isa):
        pyopt.SGD([p], lr=1.0, max_grad_norm=5.0, max_tensor_norm=3.5).step_rows([2], grads[1][None])
    np.testing.assert_allclose(-p[2], 1.75, rtol=1e-6)


def test_limits_of_zero_stop_the_gradient(isa):
    for options in ({"max_grad_norm": 0.0}, {"max_tensor_norm": 0.0}, {"clip_value": 0.0}):
        _, (reached,) = stepped_once([tame(9, np.float32)], isa, **options)
        assert not reached.any(), options


@pytest.mark.parametrize("limit", [{"max_grad_norm": 0.7}, {"max_tensor_norm": 0.7}, {"clip_value": 0.01}])
def test_bits_are_those_of_the_reference(rule, dtype, isa, limit):
    params = [tame(n, dtype, n) for n in SIZES]
    grads = gradients(params, 3, make=tame)
    grads[1][0] = None
    want = run(rule, params, grads, grad_scale=4.0, **limit)
    for threads in (1, 2):
        same(run(rule, params, grads, by=isa, threads=threads, grad_scale=4.0, **limit), want, f"{threads} threads")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_grad_norm_has_the_bits_of_the_tree(dtype, isa, threads):
    params = [tame(n, dtype, n) for n in SIZES]
    grads = [tame(n, dtype, n + 1) for n in SIZES]
    leaves = [leaf for g in grads for leaf in reductions.squares(g)]
    with stepping(isa, threads):
        opt = make(RULES["sgd"], params, max_grad_norm=1.0)
        opt.step(grads)
    assert opt.grad_norm == math.sqrt(reductions.pairwise_sum(leaves))


def test_the_norm_of_float32_does_not_overflow(isa):
    opt, _ = stepped_once([np.full(5000, 3e38, np.float32)], isa, max_grad_norm=1.0)
    assert opt.grad_norm == pytest.approx(3e38 * math.sqrt(5000), rel=1e-6)


def test_like_torch(torch):
    grads = [tame(n, np.float64, n) for n in SIZES if n]
    tensors = [torch.nn.Parameter(torch.zeros(g.size, dtype=torch.float64)) for g in grads]
    for tensor, g in zip(tensors, grads, strict=True):
        tensor.grad = torch.from_numpy(g.copy())
    norm = torch.nn.utils.clip_grad_norm_(tensors, 0.3)
    opt, reached = stepped_once(grads, max_grad_norm=0.3)
    assert opt.grad_norm == pytest.approx(norm.item(), rel=1e-12)
    for tensor, r in zip(tensors, reached, strict=True):
        np.testing.assert_allclose(r, tensor.grad.numpy(), rtol=1e-12)


# ---- non-finite gradients


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 4096, 40_008])
@pytest.mark.any_rule
def test_a_non_finite_gradient_makes_the_step_none(rule, dtype, isa, wrong, place):
    params = [tame(n, dtype, n) for n in (7, 40_009)]
    good, bad = gradients(params, 2, make=tame)
    bad[1][place] = wrong
    with stepping(isa):
        opt = make(rule, params, skip_nonfinite=True, ema_decay=0.9)
        opt.step(good)
        assert not opt.skipped
        before = outcome(opt)
        opt.step(bad, zero_grads=True)
    assert opt.skipped
    same(outcome(opt), before)
    assert not any(g.any() for g in bad), "gradients are zeroed all the same"


def test_without_skip_it_goes_through(isa):
    opt, (reached,) = stepped_once([np.array([1.0, np.nan], np.float32)], isa)
    assert not opt.skipped
    same_bits(reached, np.array([1.0, np.nan], np.float32))


def test_large_float64_numbers_are_finite(isa):
    grads = [np.full(5000, 1e200)]  # their squares overflow
    opt, (reached,) = stepped_once(grads, isa, skip_nonfinite=True)
    assert not opt.skipped
    assert opt.grad_norm == np.inf
    same_bits(reached, grads[0])


def test_skips_as_the_reference_does(dtype, isa):
    params = [wild(n, dtype, n) for n in (300, 4097)]
    grads = [*gradients(params, 2, make=tame), *gradients(params, 1), *gradients(params, 1, seed=9, make=tame)]
    options = {"skip_nonfinite": True, "max_grad_norm": 1.0, "zero_grads": True}
    want = run(RULES["adamw"], params, grads, **options)
    assert want["step[0]"] == 3, "one of the four is skipped"
    same(run(RULES["adamw"], params, grads, by=isa, **options), want)


# ---- what is asked for


def test_the_norm_is_read_only_where_it_is_needed():
    opt, _ = stepped_once([tame(9, np.float32)], "reference")
    assert opt.grad_norm is None


@pytest.mark.parametrize("name", ["max_grad_norm", "max_tensor_norm", "clip_value"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, "1"])
def test_limits_out_of_range_are_refused(name, value):
    p = tame(3, np.float32)
    with refused((ValueError, TypeError), name, repr(value), "None or", arrays=[p]):
        pyopt.SGD([p], **{name: value})


def test_limits_can_be_written_between_steps(isa):
    g = np.full(4, 3.0, np.float32)
    p = np.zeros(4, np.float32)
    with stepping(isa):
        opt = pyopt.SGD([p], lr=1.0)
        opt.max_grad_norm = 3.0
        opt.step([g])
        np.testing.assert_allclose(p, -1.5, rtol=1e-6)
        opt.max_grad_norm, opt.param_groups[0]["clip_value"] = None, 0.5
        opt.step([g])
        assert opt.grad_norm is None
        np.testing.assert_allclose(p, -2.0, rtol=1e-6)
        opt.max_grad_norm = -1.0
        with refused(ValueError, "max_grad_norm=-1.0", opt=opt, arrays=[g]):
            opt.step([g])
