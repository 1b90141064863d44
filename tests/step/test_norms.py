"""Rules that need norms of a whole tensor before they step it."""

from dataclasses import replace

import numpy as np
import pytest

import pyopt
from pyopt.kernels.numerics import codecs
from pyopt.kernels.rules import RULES
from pyopt.kernels.spec import Rule
from support.helpers import GRADIENTS, gradients, like, refused, run, same, some_penalty, stepping, tame

pytestmark = pytest.mark.devices

LAMB = RULES["lamb"]
SIZES = (0, 1, 4095, 4096, 4097, 70_001)  # around a leaf of the tree, and where a second thread is used
HYPERS = {"lr": 0.1, "betas": (0.7, 0.8), "eps": 0.05, "weight_decay": 0.3}
STAGES = {
    "penalty": [some_penalty(kind, i) for i, kind in enumerate(GRADIENTS.values())],
    "prox": (pyopt.L1(0.1), pyopt.NonNegative()),
    "metric": "lr",
    "max_grad_norm": 3.0,
    "max_tensor_norm": 2.5,
    "clip_value": 0.1,
    "ema_decay": 0.9,
    "maximize": True,
    "grad_scale": 3.0,
    "zero_grads": True,
}


def paper(p, grads, lr, betas, eps, weight_decay, largest=np.inf):
    """Return the weights after algorithm 2 of the paper, as it is written there, with a bound of the ratio."""
    (b1, b2), m, v = betas, np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        r = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        u = r + weight_decay * p
        length, update = np.linalg.norm(p), np.linalg.norm(u)
        ratio = length / update if length > 0 and update > 0 else 1.0
        p = p - lr * min(ratio, largest) * u
    return p


@pytest.mark.parametrize("by", ["reference", "cpu"])
@pytest.mark.parametrize("trust_clip", [False, True])
def test_against_the_paper(by, isa, trust_clip):
    """Of weights with a large norm and a small one, with and without a decay, and of none at all."""
    params = [8 * tame((30, 201), np.float64), 0.01 * tame(77, np.float64, 1), np.zeros(5)]
    grads = [[tame(p.shape, np.float64, 10 * t + i) for i, p in enumerate(params)] for t in range(4)]
    for decay in (0.3, 0.0):
        hypers = HYPERS | {"weight_decay": decay}
        found = run(LAMB, params, grads, by="reference" if by == "reference" else isa, trust_clip=trust_clip, **hypers)
        for i, p in enumerate(params):
            want = paper(p, [row[i] for row in grads], **hypers, largest=1.0 if trust_clip else np.inf)
            np.testing.assert_allclose(found[f"p[{i}]"], want, rtol=1e-12, atol=1e-14)


def test_norms_of_0_leave_the_learning_rate(isa):
    """Weights of 0 begin to move, and an update of 0 is no division by 0."""
    with stepping(isa):
        p, q = np.zeros(3), np.ones(3)
        pyopt.LAMB([p, q], **HYPERS | {"weight_decay": 0.0}).step([np.full(3, 2.0), np.zeros(3)])
    np.testing.assert_allclose(p, -0.1 * 2 / (2 + 0.05), rtol=1e-14)
    np.testing.assert_array_equal(q, 1)


@pytest.mark.parametrize("options", [{}, STAGES], ids=["alone", "all stages"])
def test_bits_with_any_number_of_threads(dtype, isa, options):
    params = [tame(n, dtype, n) for n in SIZES]
    grads = gradients(params, 2, make=tame)
    want = run(LAMB, params, grads, **HYPERS, **options)
    for threads in (1, 2, 3):
        same(run(LAMB, params, grads, by=isa, threads=threads, **HYPERS, **options), want, f"{threads} threads")


@pytest.mark.parametrize("rounding", codecs.ROUNDINGS)
@pytest.mark.parametrize("grad", ["bfloat16", "float32"])
def test_bits_of_weights_and_states_in_16_bits(isa, rounding, grad):
    """The norm is that of the weights with the bits that are kept beside them."""
    pytest.importorskip("ml_dtypes")
    own, given = codecs.dtype("bfloat16"), codecs.dtype(grad)
    params = [codecs.encode(tame(n, np.float32, n), own) for n in (1, 4097, 70_001)]
    grads = [[codecs.encode(tame(p.size, np.float32, 10 * t + i), given) for i, p in enumerate(params)]
             for t in range(3)]  # fmt: skip
    options = {**HYPERS, "rounding": rounding, "seed": 5, "state_dtype": "bfloat16", "shadow_dtype": "float16"}
    want = run(LAMB, params, grads, **options)
    for threads in (1, 2):
        same(run(LAMB, params, grads, by=isa, threads=threads, **options), want, f"{threads} threads")


def test_bits_of_any_order_of_memory(dtype, isa):
    """Sums go by the place in memory, so that they are those of the same elements as a vector."""
    p = tame((20, 30, 10), dtype).transpose(2, 0, 1)
    grads = [[like(p, tame(p.shape, dtype, t))] for t in range(2)]
    got = run(LAMB, [p], grads, by=isa, **HYPERS)
    same(got, run(LAMB, [p], grads, **HYPERS))
    flat = run(LAMB, [p.ravel("K")], [[g.ravel("K")] for (g,) in grads], by=isa, **HYPERS)
    same({"p": got["p[0]"]}, {"p": flat["p[0]"].reshape(20, 30, 10).transpose(2, 0, 1)})


def test_each_step_asks_a_schedule_once(isa):
    asked = []
    with stepping(isa):
        p = np.ones(4)
        opt = pyopt.LAMB([p], lr=lambda t: asked.append(t) or 0.1 / (t + 1), weight_decay=0.2)
        for _ in range(3):
            opt.step([np.ones(4)])
    assert asked == [0, 1, 2]
    assert p[0] == pytest.approx(1 * 0.9 * 0.95 * (1 - 0.1 / 3), rel=1e-14)  # of equal elements the ratio is |p| / |u|


def test_what_needs_another_norm_or_step_is_refused():
    p = np.ones((3, 2))
    with refused(ValueError, "GroupLasso(alpha=0.1)", "lamb", "prox="):
        pyopt.LAMB([p], penalty=pyopt.GroupLasso(0.1))
    with refused(ValueError, "L1(alpha=0.1)", "lamb", "metric='lr'"):
        pyopt.LAMB([p], prox=pyopt.L1(0.1))
    opt = pyopt.LAMB([p], prox=pyopt.Box(-1.0, 1.0))
    with refused(ValueError, "step_rows", "lamb", "use step", opt=opt, arrays=[p]):
        opt.step_rows([1], np.ones((1, 2)))


def longer(p, g, exp_avg, exp_avg_sq, inv_correction1):
    """Take other scalars than the reference."""


@pytest.mark.parametrize(
    ("change", "message"),
    [({"norm_scalars": lambda h, grad_norm: ()}, r"\['grad_norm'\]: the norms are"),
     ({"direction": None}, "norms need a direction"), ({"norm_scalars": lambda h: ()}, "direction needs norm"),
     ({"direction": longer}, "direction takes"), ({"direction": LAMB.reference}, "direction takes")],
    ids=["no norm", "no direction", "no scalars", "other scalars", "none left"],
)  # fmt: skip
def test_a_declaration_must_go_together(change, message):
    with pytest.raises(ValueError, match=message):
        replace(LAMB, **change)


def test_a_rule_with_norms_takes_no_decay_at_the_end():
    lion = RULES["lion"]
    given: dict = {name: getattr(lion, name) for name in ("reference", "scalars", "states", "hypers", "decay")}
    with pytest.raises(ValueError, match="lars: a rule that needs norms has its decay inside"):
        Rule("lars", **given, direction=lambda p, g, exp_avg: g, norm_scalars=lambda h, param_norm: (1.0,))
