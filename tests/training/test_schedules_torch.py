"""Schedules against those of torch.optim.lr_scheduler."""

import numpy as np
import pytest

from pyopt import schedules as s

IN_TORCH = {
    "InverseTime": (s.InverseTime(0.3, 0.5, 4), lambda t, o: t.LambdaLR(o, lambda k: 1 / (1 + 0.5 * (k / 4))), 40),
    "InverseTime, staircase": (
        s.InverseTime(0.3, 0.5, 4, True),
        lambda t, o: t.LambdaLR(o, lambda k: 1 / (1 + 0.5 * (k // 4))),
        40,
    ),
    "Exponential": (s.Exponential(0.3, 0.9), lambda t, o: t.ExponentialLR(o, 0.9), 40),
    "Step": (s.Step(0.3, 7, 0.5), lambda t, o: t.StepLR(o, 7, 0.5), 40),
    "Step, defaults": (s.Step(0.3, 7), lambda t, o: t.StepLR(o, 7), 40),
    "MultiStep": (s.MultiStep(0.3, [4, 9, 10], 0.5), lambda t, o: t.MultiStepLR(o, [4, 9, 10], 0.5), 40),
    "MultiStep, defaults": (s.MultiStep(0.3, [30]), lambda t, o: t.MultiStepLR(o, [30]), 40),
    "Polynomial": (s.Polynomial(0.3, 25, 1.5), lambda t, o: t.PolynomialLR(o, 25, 1.5), 40),
    "Polynomial, defaults": (s.Polynomial(0.3, 25), lambda t, o: t.PolynomialLR(o, 25), 40),
    "Cosine": (s.Cosine(0.3, 40, 0.01), lambda t, o: t.CosineAnnealingLR(o, 40, 0.01), 41),
    "CosineRestarts": (
        s.CosineRestarts(0.3, 5, 3, 0.01),
        lambda t, o: t.CosineAnnealingWarmRestarts(o, 5, 3, 0.01),
        70,
    ),
    "CosineRestarts, even": (s.CosineRestarts(0.3, 6), lambda t, o: t.CosineAnnealingWarmRestarts(o, 6), 40),
    "LinearWarmup": (
        s.LinearWarmup(s.Constant(0.3), 8, 0.25),
        lambda t, o: t.LinearLR(o, 0.25, total_iters=8),
        40,
    ),
    "LinearWarmup of Exponential": (
        s.LinearWarmup(s.Exponential(0.3, 0.9), 8, 0.25),
        lambda t, o: t.SequentialLR(o, [t.LinearLR(o, 0.25, total_iters=8), t.ExponentialLR(o, 0.9)], [8]),
        40,
    ),
    "Join": (
        s.Join([s.Constant(0.15), s.Exponential(0.3, 0.9), s.Step(0.3, 4)], [7, 19]),
        lambda t, o: t.SequentialLR(o, [t.ConstantLR(o, 0.5, 1000), t.ExponentialLR(o, 0.9), t.StepLR(o, 4)], [7, 19]),
        40,
    ),
    "WarmupStableDecay": (
        s.WarmupStableDecay(0.3, 5, 10, 12, 0.03),
        lambda t, o: t.LambdaLR(o, lambda k: min(k / 5, 1.0) * (1 - 0.9 * min(max(k - 15, 0) / 12, 1))),
        40,
    ),
    "InverseSqrt": (
        s.InverseSqrt(0.3, 8),
        lambda t, o: t.LambdaLR(o, lambda k: 8**0.5 * min((k + 1) ** -0.5, (k + 1) * 8**-1.5)),
        40,
    ),
}
MOVING = {
    "OneCycle": (s.OneCycle(0.3, 40), dict(max_lr=0.3, total_steps=40)),
    "OneCycle, linear": (
        s.OneCycle(0.3, 41, 0.4, "linear", 0.6, 0.7, 5.0, 10.0),
        dict(max_lr=0.3, total_steps=41, pct_start=0.4, anneal_strategy="linear", base_momentum=0.6, max_momentum=0.7,
             div_factor=5.0, final_div_factor=10.0),
    ),
    "OneCycle, three phases": (
        s.OneCycle(0.3, 40, three_phase=True), dict(max_lr=0.3, total_steps=40, three_phase=True),
    ),
    "OneCycle, no rise": (s.OneCycle(0.3, 40, 0.0), dict(max_lr=0.3, total_steps=40, pct_start=0.0)),
    "OneCycle, no fall": (s.OneCycle(0.3, 40, 1.0), dict(max_lr=0.3, total_steps=40, pct_start=1.0)),
    "Cyclic": (s.Cyclic(0.1, 0.3, 4, 7), dict(base_lr=0.1, max_lr=0.3, step_size_up=4, step_size_down=7)),
    "Cyclic, triangular2": (
        s.Cyclic(0.1, 0.3, 4, mode="triangular2", base_momentum=0.5, max_momentum=0.7),
        dict(base_lr=0.1, max_lr=0.3, step_size_up=4, mode="triangular2", base_momentum=0.5, max_momentum=0.7),
    ),
    "Cyclic, exp_range": (
        s.Cyclic(0.1, 0.3, 4, mode="exp_range", gamma=0.95),
        dict(base_lr=0.1, max_lr=0.3, step_size_up=4, mode="exp_range", gamma=0.95),
    ),
    "Cyclic, defaults": (s.Cyclic(0.1, 0.3), dict(base_lr=0.1, max_lr=0.3)),
}  # fmt: skip


def torch_path(torch, make, steps, adam=False):
    """Return torch's rates and momenta."""
    p = torch.nn.Parameter(torch.ones(1))
    kind = torch.optim.Adam if adam else torch.optim.SGD
    opt = kind([p], lr=0.3, **({} if adam else {"momentum": 0.9}))
    scheduler = make(torch.optim.lr_scheduler, opt)
    rates, momenta = [], []
    for t in range(steps):
        group = opt.param_groups[0]
        rates.append(group["lr"])
        momenta.append(group["betas"][0] if adam else group["momentum"])
        opt.step()
        if t < steps - 1:
            scheduler.step()
    return rates, momenta


@pytest.mark.parametrize("name", IN_TORCH)
def test_like_torch(torch, name):
    schedule, make, steps = IN_TORCH[name]
    rates, _ = torch_path(torch, make, steps)
    np.testing.assert_allclose([schedule(t) for t in range(steps)], rates, rtol=1e-12, atol=1e-14)
    assert len(set(rates)) > 1


@pytest.mark.parametrize("adam", [False, True], ids=["sgd", "adam"])
@pytest.mark.parametrize("name", MOVING)
def test_rate_and_momentum_like_torch(torch, name, adam):
    schedule, arguments = MOVING[name]
    kind = "OneCycleLR" if "OneCycle" in name else "CyclicLR"
    rates, momenta = torch_path(torch, lambda t, o: getattr(t, kind)(o, **arguments), 40, adam)
    for got, want in ((schedule, rates), (schedule.momentum, momenta)):
        np.testing.assert_allclose([got(t) for t in range(40)], want, rtol=1e-12, atol=1e-15)
    assert len(set(momenta)) > 1
