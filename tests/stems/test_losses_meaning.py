"""Losses: the values and gradients of torch, of hand computation, and of finite differences; what is refused."""

import itertools

import numpy as np
import pytest

from pyopt.kernels import loss as stages
from pyopt.kernels.losses import ELEMENTWISE
from support.helpers import on_one, refused, same_bits, tame
from support.losses import AT_INFINITY, KNOWN, LN2, OPTIONS, call, inputs, labels, softmax_reference

TOLERANCE = {np.float32: dict(rtol=2e-5, atol=2e-6), np.float64: dict(rtol=1e-12, atol=1e-14)}
EVERY = [*sorted(ELEMENTWISE), "softmax_cross_entropy"]


def weights(*shape, seed=9, dtype=np.float64):
    """Return weights, one of them 0."""
    made = np.random.default_rng(seed).uniform(0.2, 2, shape).astype(dtype)
    made.flat[0] = 0
    return made


# ---- torch


def torch_loss(torch, name, x, y, reduction, weight=None, pos_weight=None, **options):
    """Return the loss of torch by ours name, from its own functions where it has one."""
    F = torch.nn.functional  # noqa: N806
    if name == "binary_cross_entropy":
        each = F.binary_cross_entropy_with_logits(x, y, reduction="none", pos_weight=pos_weight)
    elif name == "focal":
        p, alpha = torch.sigmoid(x), options["alpha"]
        right = p * y + (1 - p) * (1 - y)
        each = F.binary_cross_entropy_with_logits(x, y, reduction="none") * (1 - right) ** options["gamma"]
        each = each if alpha is None else each * (alpha * y + (1 - alpha) * (1 - y))
    elif name.endswith("hinge"):
        each = torch.clamp(1 - x * y, min=0) ** (2 if name.startswith("squared") else 1)
    else:
        function = {"squared_error": F.mse_loss, "absolute_error": F.l1_loss, "huber": F.huber_loss}
        each = function.get(name, F.poisson_nll_loss)(x, y, reduction="none", **options)
    each = each if weight is None else each * weight
    return {"mean": each.mean, "sum": each.sum, "none": lambda: each}[reduction]()


def compare(torch, loss, given, got, dtype, label):
    loss.sum().backward()
    np.testing.assert_allclose(got[0], loss.detach().numpy(), **TOLERANCE[dtype], err_msg=label)
    np.testing.assert_allclose(got[1], given.grad.numpy(), **TOLERANCE[dtype], err_msg=label)
    given.grad = None


@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_torch_agrees(name, dtype, torch):
    x, y = (a.reshape(40, 7) for a in inputs(name, 280, dtype))
    if name == "poisson":
        y = np.floor(np.abs(y) * 3)
    given, target = torch.from_numpy(x.copy()).requires_grad_(), torch.from_numpy(y)
    some = [None, weights(40, 7, dtype=dtype)]
    for options, reduction, weight in itertools.product(OPTIONS[name], ("mean", "sum", "none"), some):
        like = None if weight is None else torch.from_numpy(weight)
        want = torch_loss(torch, name, given, target, reduction, like, **options)
        got = call(name, x, y, reduction, sample_weight=weight, **options)
        compare(torch, want, given, got, dtype, f"{reduction} {options}")


def test_torch_agrees_on_pos_weight(dtype, torch):
    x, y = (a.reshape(40, 7) for a in inputs("binary_cross_entropy", 280, dtype))
    given, target = torch.from_numpy(x.copy()).requires_grad_(), torch.from_numpy(y)
    for pos in (3.0, weights(7), weights(40, 7)):
        like = torch.from_numpy(np.asarray(pos, dtype))
        want = torch_loss(torch, "binary_cross_entropy", given, target, "mean", pos_weight=like)
        compare(torch, want, given, call("binary_cross_entropy", x, y, pos_weight=pos), dtype, f"{pos}")


@pytest.mark.parametrize("soft", [False, True])
def test_torch_agrees_on_softmax_cross_entropy(dtype, soft, torch):
    for rows, classes in ((5, 3), (300, 10), (64, 1000)):
        z, target = tame((rows, classes), dtype) * dtype(4), labels(rows, classes)
        target[1::4] = 2
        if soft:
            target = np.random.default_rng(3).dirichlet(np.ones(classes), rows).astype(dtype)
        given, other = torch.from_numpy(z.copy()).requires_grad_(), torch.from_numpy(target)
        choices = ("mean", "sum", "none"), (0.0, 0.2), (None, weights(classes, dtype=dtype)), (-100, 2)
        for reduction, smoothing, weight, ignored in itertools.product(*choices):
            if soft and ignored == 2:
                continue
            like = None if weight is None else torch.from_numpy(weight)
            options = {"label_smoothing": smoothing, "ignore_index": ignored}
            want = torch.nn.functional.cross_entropy(given, other, weight=like, reduction=reduction, **options)
            got = call("softmax_cross_entropy", z, target, reduction, class_weights=weight, **options)
            compare(torch, want, given, got, dtype, f"{reduction} {options} {weight is None}")


def test_weights_of_samples_are_counts():
    """A row of weight 2 is a row that stands there twice; the divisor is still the number of rows."""
    z, target, y = tame((6, 4), np.float64), labels(6, 4), tame((6, 4), np.float64, 5)
    times = np.array([2, 1, 0, 1, 3, 1])
    for name, other in (("softmax_cross_entropy", target), ("squared_error", y), ("poisson", y)):
        total, gradient = call(name, z, other, "sum", sample_weight=times)
        repeated = call(name, np.repeat(z, times, axis=0), np.repeat(other, times, axis=0), "sum")
        assert total == pytest.approx(repeated[0], rel=1e-14)
        mean = call(name, z, other, "mean", sample_weight=times)
        count = 6 if name == "softmax_cross_entropy" else 24
        assert mean[0] == pytest.approx(total / count, rel=1e-14)
        np.testing.assert_allclose(mean[1], gradient / count, rtol=1e-13)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8])
@pytest.mark.parametrize("options", [{}, {"class_weights": weights(3)}], ids=["plain", "weighted"])
def test_ignored_labels_of_any_integer_dtype(kind, options):
    """Of those that are ignored the kernel sees -1, which unsigned numbers do not have."""
    z, target = tame((5, 3), np.float64), np.array([0, 127, 2, 1, 127])
    want = call("softmax_cross_entropy", z, target, "none", ignore_index=127, **options)
    got = call("softmax_cross_entropy", z, target.astype(kind), "none", ignore_index=127, **options)
    assert got[0].tolist() == want[0].tolist()
    assert got[1].tolist() == want[1].tolist()


# ---- slopes and known values


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", EVERY)
def test_gradients_are_the_slopes_of_the_value(name, reduction):
    step = 1e-6
    if name == "softmax_cross_entropy":
        z, target = tame((4, 5), np.float64), labels(4, 5)
        options = {"label_smoothing": 0.2, "class_weights": weights(5), "sample_weight": weights(4, seed=2)}
    else:
        z, target = (a.reshape(4, 5) for a in inputs(name, 20, np.float64))
        options = {**OPTIONS[name][-1], "sample_weight": weights(4, 5)}
        if name == "binary_cross_entropy":
            options["pos_weight"] = weights(5)
    gradient = call(name, z, target, reduction, **options)[1]
    assert np.count_nonzero(gradient) > 5
    for i in np.ndindex(z.shape):
        high, low = z.copy(), z.copy()
        high[i] += step
        low[i] -= step
        ends = [call(name, x, target, reduction, **options)[0] for x in (high, low)]
        assert np.sum(ends[0] - ends[1]) / (2 * step) == pytest.approx(gradient[i], rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(("name", "x", "y", "options", "value", "gradient"), KNOWN)
def test_known_values(name, x, y, options, value, gradient):
    y = np.array(y) if isinstance(y[0], int) else np.array(y, np.float64)
    got = call(name, np.array(x), y, "sum", **options)
    assert got[0] == pytest.approx(value, rel=2e-15)
    if gradient is not None:
        np.testing.assert_allclose(got[1], gradient, rtol=2e-15, atol=1e-16)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "x", "y", "options", "values", "gradient"), AT_INFINITY)
def test_zero_times_the_logarithm_of_zero(isa, dtype, name, x, y, options, values, gradient):
    options = {key: np.array(value, dtype) if isinstance(value, list) else value for key, value in options.items()}
    x, y = np.array(x, dtype), np.array(y) if isinstance(y[0], int) else np.array(y, dtype)
    got = call(name, x, y, "none", **options)
    np.testing.assert_allclose(got[0], values, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(got[1], gradient, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
    if name == "softmax_cross_entropy":
        want = softmax_reference(x, y, "none", **options)
    else:
        more = [np.full_like(x, options.pop("pos_weight"))] if "pos_weight" in options else []
        want = stages.reference(name, (x, y, *more), 1.0, options)[1:]
        form = on_one("losses", name, name)
        scalars = [dtype(s) for s in ELEMENTWISE[name].scalars(1.0, **options)]
        for i in range(len(x)):
            same_bits(np.array(form(x[i], y[i], *(a[i] for a in more), *scalars)[0], dtype), want[0][i])
    for a, b in zip(got, want, strict=True):
        same_bits(a, b)


def test_the_loss_of_a_sure_row_is_rounded_as_a_sum_near_1(dtype):
    value, gradient = call("softmax_cross_entropy", np.array([[0.0, 20.7]], dtype), np.array([1]), "sum")
    assert value == pytest.approx(np.exp(-20.7), rel=1e-6) if dtype == np.float64 else value == gradient[0, 1] == 0
    assert gradient[0, 0] == pytest.approx(np.exp(-20.7), rel=1e-5)


def test_defaults_are_those_of_torch_and_of_the_papers():
    x, y = np.array([3.0, -1.0]), np.array([1.0, 0.0])
    for name, options in (
        ("huber", {"delta": 1.0}),
        ("focal", {"alpha": 0.25, "gamma": 2.0}),
        ("binary_cross_entropy", {"pos_weight": 1.0}),
    ):
        assert call(name, x, y)[0] == call(name, x, y, "mean", **options)[0]
    z = np.array([[0.0, 1.0], [2.0, 0.0]])
    want = call("softmax_cross_entropy", z[:1], np.array([1]))[0]
    assert call("softmax_cross_entropy", z, np.array([1, -100]))[0] == want


def test_logits_of_ten_thousand(dtype):
    big, one = np.array([1e4, -1e4, 1e4, -1e4], dtype), np.array([1.0, 1.0, 0.0, 0.0], dtype)
    value, gradient = call("binary_cross_entropy", big, one, "none")
    assert value.tolist() == [0.0, 1e4, 1e4, 0.0]
    assert gradient.tolist() == [0.0, -1.0, 1.0, 0.0]
    value, gradient = call("focal", big, one, "none")
    assert value.tolist() == [0.0, 2500.0, 7500.0, 0.0]
    assert gradient.tolist() == [0.0, -0.25, 0.75, 0.0]
    value, gradient = call("poisson", big, one, "none")
    assert value.tolist() == [np.inf, 1e4, np.inf, 0.0]
    assert gradient.tolist() == [np.inf, -1.0, np.inf, 0.0]
    for target in (np.array([1, 0]), np.array([[0, 1], [1, 0]], dtype)):
        value, gradient = call("softmax_cross_entropy", np.array([[1e4, -1e4], [1e4, -1e4]], dtype), target, "none")
        assert value.tolist() == [20000.0, 0.0]
        assert gradient.tolist() == [[1.0, -1.0], [0.0, 0.0]]
    smooth = call("softmax_cross_entropy", np.array([[1e4, -1e4]], dtype), np.array([0]), "sum", label_smoothing=0.5)
    assert smooth[0] == 5000.0
    assert smooth[1].tolist() == [[0.25, -0.25]]


def test_far_in_the_tails_nothing_is_lost():
    """The gradient of a right answer keeps its digits: it is e^-|x|, not 1 minus a number near 1."""
    x = np.array([40.0, -40.0])
    value, gradient = call("binary_cross_entropy", x, np.array([1.0, 0.0]), "none")
    np.testing.assert_allclose(value, np.exp(-40.0), rtol=1e-15)
    np.testing.assert_allclose(gradient, [-np.exp(-40.0), np.exp(-40.0)], rtol=1e-15)


# ---- arguments


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64, ">i4"])
def test_labels_of_any_integer_dtype(kind):
    z, target = tame((9, 4), np.float32), labels(9, 4)
    want = call("softmax_cross_entropy", z, target)
    value, gradient = call("softmax_cross_entropy", z, np.repeat(target, 2).astype(kind)[::2])
    assert value == want[0]
    same_bits(gradient, want[1])


@pytest.mark.parametrize("name", EVERY)
def test_out_takes_the_gradient(name, dtype):
    z, target = tame((9, 4), dtype), labels(9, 4)
    if name != "softmax_cross_entropy":
        z, target = (a.reshape(9, 4) for a in inputs(name, 36, dtype))
    for reduction in ("mean", "sum", "none"):
        out = np.full_like(z, np.nan)
        value, gradient = call(name, z, target, reduction, out)
        want = call(name, z, target, reduction)
        assert gradient is out
        same_bits(value, want[0])
        same_bits(out, want[1])
        assert isinstance(value, np.ndarray if reduction == "none" else float)


@pytest.mark.parametrize("name", EVERY)
def test_the_mean_of_nothing_is_refused_and_its_sum_is_zero(name, dtype):
    nothing = np.empty((0, 3), dtype)
    other = np.empty(0, np.int64) if name == "softmax_cross_entropy" else nothing
    value, gradient = call(name, nothing, other, "sum")
    assert (value, gradient.shape, gradient.dtype) == (0.0, (0, 3), dtype)
    value, _ = call(name, nothing, other, "none", sample_weight=np.empty(0))
    assert (value.shape, value.dtype) == (other.shape, dtype)
    with refused(ValueError, "mean", "empty"):
        call(name, nothing, other)


def test_a_mean_without_weight_is_refused():
    z = tame((3, 4), np.float32)
    with refused(ValueError, "every row is ignored"):
        call("softmax_cross_entropy", z, np.full(3, -100))
    with refused(ValueError, "class weights of all labels are 0"):
        call("softmax_cross_entropy", z, np.array([1, 1, -100]), class_weights=[1, 0, 1, 1])
    assert call("softmax_cross_entropy", z, np.full(3, -100), "sum")[0] == 0.0


def test_zero_dimensions():
    value, gradient = call("squared_error", np.array(3.0), np.array(1.0), "none", sample_weight=2.0)
    assert (value.shape, value[()], gradient[()]) == ((), 8.0, 8.0)
    value, gradient = call("binary_cross_entropy", np.array(0.0), np.array(1.0), pos_weight=2.0)
    assert (value, gradient[()]) == (pytest.approx(2 * LN2), -1.0)
