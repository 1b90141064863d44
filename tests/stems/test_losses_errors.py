"""What a loss refuses, in words, before it writes anything."""

import numpy as np
import pytest

from pyopt import _losses
from pyopt.kernels.losses import ELEMENTWISE, LOSSES
from support.helpers import refused, tame
from support.losses import call, labels

Z, T = tame((6, 4), np.float32), labels(6, 4)
SOFT = np.full((6, 4), 0.25, np.float32)
ONES = np.ones((6, 4), np.float32)
READ_ONLY = np.zeros_like(Z)
READ_ONLY.flags.writeable = False
SHARED = np.ones((7, 4), np.float32)

SOFTMAX = [
    (ValueError, ("target[2] is 4", "[0, 4)", "ignore_index=-100"), {"target": np.array([0, 1, 4, 0, 9, 0])}),
    (ValueError, ("target[1] is -1", "[0, 4)"), {"target": np.array([0, -1, 2, 0, 0, 0], np.int8)}),
    (ValueError, ("target[0] is -100", "ignore_index=7"), {"target": np.full(6, -100), "ignore_index": 7}),
    (ValueError, ("18446744073709551615",), {"target": np.array([0, 2**64 - 1, 0, 0, 0, 0], np.uint64)}),
    (ValueError, ("target has shape (5,)", "(6,)"), {"target": T[:5]}),
    (ValueError, ("target has shape (6, 1)",), {"target": T[:, None]}),
    (TypeError, ("float64", "integers", "probabilities"), {"target": T.astype(float)}),
    (TypeError, ("bool", "integers"), {"target": T > 1}),
    (TypeError, ("masked",), {"target": np.ma.array(T)}),
    (TypeError, ("target", "float64", "float32"), {"target": SOFT.astype(np.float64)}),
    (ValueError, ("target has shape (6, 3)", "(6, 4)"), {"target": SOFT[:, :3].copy()}),
    (ValueError, ("target[0, 0] is 1.5", "[0, 1]"), {"target": 6 * SOFT}),
    (ValueError, ("target[0, 0] is -0.25", "[0, 1]"), {"target": -SOFT}),
    (ValueError, ("target[0, 0] is nan", "[0, 1]"), {"target": SOFT * np.nan}),
    (ValueError, ("ignore_index=2", "only for labels"), {"target": SOFT, "ignore_index": 2}),
    (TypeError, ("ignore_index=1.0", "integer"), {"ignore_index": 1.0}),
    (TypeError, ("ignore_index=True", "integer"), {"ignore_index": True}),
    (TypeError, ("ignore_index=None", "integer"), {"ignore_index": None}),
    (TypeError, ("logits", "list"), {"logits": [[1.0]]}),
    (TypeError, ("logits", "int64", "float64, float32, bfloat16 or float16"), {"logits": Z.astype(np.int64)}),
    (TypeError, ("logits", "masked"), {"logits": np.ma.array(Z)}),
    (ValueError, ("logits", "strides", "ascontiguousarray"), {"logits": np.asfortranarray(Z)}),
    (ValueError, ("logits has shape (6,)",), {"logits": Z[:, 0].copy()}),
    (ValueError, ("logits has shape (6, 0)",), {"logits": Z[:, :0].copy()}),
    (ValueError, ("reduction='all'", "mean, sum, none"), {"reduction": "all"}),
    (ValueError, ("label_smoothing=1.5", "[0, 1]"), {"label_smoothing": 1.5}),
    (ValueError, ("label_smoothing=nan", "[0, 1]"), {"label_smoothing": np.nan}),
    (TypeError, ("label_smoothing='x'",), {"label_smoothing": "x"}),
    (ValueError, ("class_weights has shape (6,)", "(4,)"), {"class_weights": np.ones(6)}),
    (ValueError, ("class_weights[1] is -1.0", "finite and >= 0"), {"class_weights": [1, -1, 1, 1]}),
    (ValueError, ("class_weights[3] is nan",), {"class_weights": [1, 1, 1, np.nan]}),
    (ValueError, ("class_weights[2] is inf",), {"class_weights": [1, 1, 1e300, 1]}),
    (TypeError, ("class_weights", "complex128", "real"), {"class_weights": np.ones(4) * 1j}),
    (ValueError, ("sample_weight has shape (4,)", "(6,)"), {"sample_weight": np.ones(4)}),
    (ValueError, ("sample_weight[5] is -2.0",), {"sample_weight": [1, 1, 1, 1, 1, -2]}),
    (TypeError, ("out", "float64", "float32"), {"out": Z.astype(np.float64)}),
    (TypeError, ("out", "list"), {"out": [1.0]}),
    (ValueError, ("out has shape (5, 4)", "(6, 4)"), {"out": Z[:5].copy()}),
    (ValueError, ("out", "read-only"), {"out": READ_ONLY}),
    (ValueError, ("out shares memory with logits",), {"out": Z}),
    (ValueError, ("out shares memory with target",), {"target": SOFT, "out": SOFT}),
    (ValueError, ("out shares memory with class_weights",), {"class_weights": ONES[0], "out": ONES}),
]


@pytest.mark.parametrize(("error", "words", "change"), SOFTMAX)
def test_softmax_cross_entropy_refuses(error, words, change):
    given = {"logits": Z, "target": T, "out": np.full_like(Z, 7), **change}
    with refused(error, *words, arrays=[Z, *given.values()]):
        call("softmax_cross_entropy", **given)


ANY = [
    (TypeError, ("target", "float64", "float32"), {"y": ONES.astype(np.float64)}),
    (TypeError, ("target", "int64"), {"y": ONES.astype(np.int64)}),
    (TypeError, ("target", "masked"), {"y": np.ma.array(ONES)}),
    (ValueError, ("target has shape (6,)", "(6, 4)"), {"y": ONES[:, 0].copy()}),
    (ValueError, ("target", "strides"), {"y": np.asfortranarray(ONES)}),
    (ValueError, ("strides", "ascontiguousarray"), {"x": np.ones((6, 8), np.float32)[:, ::2]}),
    (TypeError, ("int64", "float64, float32, bfloat16 or float16"), {"x": Z.astype(np.int64)}),
    (TypeError, ("NumPy array",), {"x": [1.0]}),
    (ValueError, ("reduction=None", "mean, sum, none"), {"reduction": None}),
    (ValueError, ("out", "shape (5, 4)"), {"out": ONES[:5].copy()}),
    (ValueError, ("out", "read-only"), {"out": READ_ONLY}),
    (ValueError, ("out shares memory with target",), {"out": ONES}),
    (ValueError, ("out shares memory with sample_weight",), {"sample_weight": SHARED[1:], "out": SHARED[:6]}),
    (ValueError, ("sample_weight has shape (4,)", "(6, 4) or (6,)"), {"sample_weight": np.ones(4)}),
    (ValueError, ("sample_weight[3] is nan",), {"sample_weight": [1, 1, 1, np.nan, 1, 1]}),
    (ValueError, ("sample_weight[0, 0] is -1.0", "finite and >= 0"), {"sample_weight": -ONES}),
    (ValueError, ("sample_weight[0, 0] is inf",), {"sample_weight": ONES.astype(np.float64) * 1e39}),
    (TypeError, ("sample_weight", "masked"), {"sample_weight": np.ma.array(ONES)}),
    (TypeError, ("sample_weight", "<U1"), {"sample_weight": ["a"]}),
]


@pytest.mark.parametrize(("error", "words", "change"), ANY)
@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_every_elementwise_loss_refuses(name, error, words, change):
    given = {"x": Z, "y": ONES, "reduction": "mean", "out": np.full_like(Z, 7), **change}
    arrays = [READ_ONLY, *given.values()]
    with refused(error, *words, arrays=arrays):
        call(name, given.pop("x"), given.pop("y"), **given)


@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_out_over_the_prediction_is_refused(name):
    x = Z.copy()
    with refused(ValueError, "out shares memory with", arrays=[x]):
        call(name, x, ONES, out=x)


@pytest.mark.parametrize("name", sorted(name for name in ELEMENTWISE if hasattr(LOSSES[name], "LABELS")))
def test_a_target_that_is_no_label_is_refused(name, dtype):
    known = LOSSES[name].LABELS
    for bad in (0.5, 2.0, -1.5, np.nan, np.inf, 7.0):
        y = np.full((1001, 5), known[1], dtype)
        y[::2] = known[0]
        y[700, 3] = bad
        out = np.full_like(y, 7)
        with refused(ValueError, "target[700, 3] is", f"must be {known[0]:g} or {known[1]:g}", arrays=[y, out]):
            call(name, np.zeros_like(y), y, out=out)


@pytest.mark.parametrize(
    ("name", "error", "words", "options"),
    [
        ("huber", ValueError, ("delta=0", "> 0"), {"delta": 0}),
        ("huber", ValueError, ("delta=-1.0",), {"delta": -1.0}),
        ("huber", ValueError, ("delta=inf",), {"delta": np.inf}),
        ("huber", ValueError, ("delta=1e-50", "> 0", "float32"), {"delta": 1e-50}),
        ("huber", ValueError, ("delta=1e+50", "finite", "float32"), {"delta": 1e50}),
        ("huber", TypeError, ("delta=None",), {"delta": None}),
        ("focal", ValueError, ("gamma=-0.5", ">= 0"), {"gamma": -0.5}),
        ("focal", ValueError, ("gamma=nan",), {"gamma": np.nan}),
        ("focal", ValueError, ("gamma=1e+40", "float32"), {"gamma": 1e40}),
        ("focal", ValueError, ("alpha=1.5", "[0, 1]"), {"alpha": 1.5}),
        ("focal", ValueError, ("alpha=-1", "None or"), {"alpha": -1}),
        ("focal", TypeError, ("alpha='half'",), {"alpha": "half"}),
        ("binary_cross_entropy", ValueError, ("pos_weight is -1.0", "finite and >= 0"), {"pos_weight": -1}),
        ("binary_cross_entropy", ValueError, ("pos_weight[1] is nan",), {"pos_weight": [1, np.nan, 1, 1]}),
        ("binary_cross_entropy", ValueError, ("pos_weight has shape (6,)", "() or"), {"pos_weight": np.ones(6)}),
        ("binary_cross_entropy", ValueError, ("out shares memory with pos_weight",), {"pos_weight": SHARED[0],
                                                                                     "out": SHARED[:6]}),
    ],
)  # fmt: skip
def test_options_out_of_range(name, error, words, options):
    out = options.get("out", np.full_like(Z, 7))
    with refused(error, *words, arrays=[out]):
        call(name, Z, ONES, **{**options, "out": out})


def test_labels_are_looked_at_once():
    """Another thread may fill the array of labels anew while a kernel finds its way by them."""
    target = np.array([0, 2, 1])
    assert not np.may_share_memory(_losses.labels(target, 3, 3, -100), target)
