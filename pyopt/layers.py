"""Layers: forward and backward as functions of arrays, without a graph and without hidden state.

Arrays are float32 or float64; all but those of batch norm may be bfloat16 (of ml_dtypes) or float16 as well, which are
computed with in float32: y, dx, dweight and dbias are rounded once, to the nearest.
"""

from __future__ import annotations

from . import validate
from .arrays.backend import Array
from .arrays.gpu import by_view
from .kernels import checks
from .kernels.hyper import Hyper
from .kernels.layers import batch_norm as _batch_norm
from .kernels.layers import bias_gelu as _bias_gelu
from .kernels.layers import bias_relu as _bias_relu
from .kernels.layers import dropout as _dropout
from .kernels.layers import layer_norm as _layer_norm

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "bias_gelu",
    "bias_gelu_backward",
    "bias_relu",
    "bias_relu_backward",
    "dropout",
    "layer_norm",
    "layer_norm_backward",
]


def __dir__() -> list[str]:
    """Return what users call."""
    return __all__


_MOMENTUM = Hyper("momentum", 0.1, high=1.0, closed=True)
_EPS = Hyper("eps", 1e-5, above=True)
_P = Hyper("p", 0.5, high=1.0)


@by_view("out", "running_mean", "running_var")
def batch_norm(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Return x with every channel normalised, and what ``batch_norm_backward`` needs besides x.

    Parameters
    ----------
    x : array (samples, channels) or (samples, channels, ...), float32 or float64, C-contiguous
    running_mean, running_var : arrays (channels,) of x's dtype
        In training, where they are given, the statistics of the batch are mixed in, as in torch; else they are used.
    weight, bias : arrays (channels,) of x's dtype, optional
        Ones and zeros where they are left out.
    training : bool
        Whether mean and variance are those of the batch.
    momentum : float in [0, 1]
        The share of the batch in the new running statistics.
    eps : float > 0
        Added to the variance.
    out : array like x, optional
        Takes y; it must not share memory with the others.

    Returns
    -------
    y : array like x
    mean, inv_std : float64 arrays (channels,)

    Raises
    ------
    TypeError, ValueError
        Before anything is touched: where an array does not fit, a number is out of range, there are no running
        statistics but ``training`` is False, or a channel has fewer than two numbers but ``training`` is True.

    See ``pyopt.kernels.layers.batch_norm`` for the equations.
    """
    planes = validate.planes(x)
    channels = (x.shape[1],)
    given = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    for name, a in given.items():
        if a is not None:
            validate.vector(a, x, name, channels)
    training, momentum, eps = validate.flag("training", training), _MOMENTUM.check(momentum), _EPS.check(eps)
    count = planes.shape[0] * planes.shape[2]
    if training and count < 2:
        raise ValueError(f"x has shape {x.shape}, {count} numbers a channel: training=True needs 2 at least")
    validate.running(running_mean, running_var, training, x=x, weight=weight, bias=bias)
    y = validate.out(out, x=x, **given)
    w, b = validate.ones(weight, x, channels), validate.zeros(bias, x, channels)
    moments = () if training else (running_mean, running_var)
    mean, variance, inv_std = _batch_norm.forward(planes, w, b, eps, y.reshape(planes.shape), *moments)
    if training and running_mean is not None:
        _batch_norm.running(planes, running_mean, running_var, momentum, mean, variance)
    return y, mean, inv_std


@by_view("out")
def batch_norm_backward(
    dy: Array,
    x: Array,
    mean: Array,
    inv_std: Array,
    weight: Array | None = None,
    *,
    training: bool,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Return the gradients of a loss with respect to x, weight and bias of ``batch_norm``.

    Parameters
    ----------
    dy : array like x
        The gradient of the loss with respect to y.
    x, weight, training
        As they were in ``batch_norm``.
    mean, inv_std : float64 arrays (channels,)
        What ``batch_norm`` returned.
    out : array like x, optional
        Takes dx; it must not share memory with the others.

    Returns
    -------
    dx : array like x
    dweight, dbias : arrays (channels,) of x's dtype

    Raises
    ------
    TypeError, ValueError
        Before anything is touched, where an array does not fit.
    """
    planes = validate.planes(x)
    validate.like(dy, x, "dy", "x")
    channels = (x.shape[1],)
    if weight is not None:
        validate.vector(weight, x, "weight", channels)
    validate.statistic(mean, "mean", channels)
    validate.statistic(inv_std, "inv_std", channels)
    training = validate.flag("training", training)
    dx = validate.out(out, x=x, dy=dy, mean=mean, inv_std=inv_std, weight=weight)
    w = validate.ones(weight, x, channels)
    slopes = dy.reshape(planes.shape), planes, w, mean, inv_std, dx.reshape(planes.shape)
    dweight, dbias = _batch_norm.backward(*slopes, given=not training)
    return dx, dweight, dbias


@by_view("out")
def layer_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5, out: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return x normalised over its last axis, and what ``layer_norm_backward`` needs besides x.

    Parameters
    ----------
    x : array (..., columns), C-contiguous
    weight, bias : arrays (columns,) of x's dtype, optional
        Ones and zeros where they are left out.
    eps : float > 0
        Added to the variance.
    out : array like x, optional
        Takes y; it must not share memory with the others.

    Returns
    -------
    y : array like x
    mean, inv_std : float64 arrays (...)

    Raises
    ------
    TypeError, ValueError
        Before anything is touched, where an array does not fit, or for rows without numbers.

    See ``pyopt.kernels.layers.layer_norm`` for the equations.
    """
    rows, columns = validate.normed(x)
    for name, a in (("weight", weight), ("bias", bias)):
        if a is not None:
            validate.vector(a, x, name, columns)
    eps = _EPS.check(eps)
    y = validate.out(out, x=x, weight=weight, bias=bias)
    w, b = validate.ones(weight, x, columns), validate.zeros(bias, x, columns)
    mean, inv_std = _layer_norm.forward(rows, w, b, eps, y.reshape(rows.shape))
    return y, mean.reshape(x.shape[:-1]), inv_std.reshape(x.shape[:-1])


@by_view("out")
def layer_norm_backward(
    dy: Array, x: Array, mean: Array, inv_std: Array, weight: Array | None = None, out: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return the gradients of a loss with respect to x, weight and bias of ``layer_norm``.

    Parameters
    ----------
    dy : array like x
        The gradient of the loss with respect to y.
    x, weight
        As they were in ``layer_norm``.
    mean, inv_std : float64 arrays (...)
        What ``layer_norm`` returned.
    out : array like x, optional
        Takes dx; it must not share memory with the others.

    Returns
    -------
    dx : array like x
    dweight, dbias : arrays (columns,) of x's dtype

    Raises
    ------
    TypeError, ValueError
        Before anything is touched, where an array does not fit.
    """
    rows, columns = validate.normed(x)
    validate.like(dy, x, "dy", "x")
    if weight is not None:
        validate.vector(weight, x, "weight", columns)
    validate.statistic(mean, "mean", x.shape[:-1])
    validate.statistic(inv_std, "inv_std", x.shape[:-1])
    dx = validate.out(out, x=x, dy=dy, mean=mean, inv_std=inv_std, weight=weight)
    slopes = dy.reshape(rows.shape), rows, validate.ones(weight, x, columns), mean.ravel(), inv_std.ravel()
    dweight, dbias = _layer_norm.backward(*slopes, dx.reshape(rows.shape))
    return dx, dweight, dbias


@by_view("out")
def dropout(x: Array, p: float, seed: int, step: int, layer: int = 0, out: Array | None = None) -> Array:
    """Return x with each number set to 0 with probability p, and the others scaled so that the mean stays.

    Which ones depends on seed, step, layer and the place in x alone. Backward is the same call with dy for x: no mask
    is kept.

    Parameters
    ----------
    x : array, C-contiguous
    p : float in [0, 1)
        Rounded to a multiple of 2^-16 below 1; the scale belongs to the rounded one.
    seed : int in [0, 2^64)
        One for a run.
    step : int in [0, 2^32)
        Another one for each forward pass.
    layer : int in [0, 2^24)
        Another one for each use of dropout within a step.
    out : array like x, optional
        Takes the result; it must not share memory with x.

    Returns
    -------
    y : array like x

    Raises
    ------
    TypeError, ValueError
        Before anything is touched, where an array does not fit or a number is out of range.

    See ``pyopt.kernels.layers.dropout`` for the equations.
    """
    checks.rows_array(x, "x", checks.STORED)
    p = _P.check(p)
    numbers = (
        validate.natural("seed", seed, 64),
        validate.natural("step", step, 32),
        validate.natural("layer", layer, 24),
    )
    y = validate.out(out, x=x)
    _dropout.compute(x, y, p, *numbers)
    return y


@by_view("out")
def bias_relu(x: Array, bias: Array, out: Array | None = None) -> Array:
    """Return max(x + bias, 0).

    Parameters
    ----------
    x : array (..., columns), C-contiguous
    bias : array (columns,) of x's dtype
    out : array like x, optional
        Takes the result; it must not share memory with the others.

    Returns
    -------
    y : array like x

    Raises
    ------
    TypeError, ValueError
        Before anything is touched, where an array does not fit.
    """
    rows, y = validate.biased(x, bias, out)
    _bias_relu.forward(rows, bias, y.reshape(rows.shape))
    return y


@by_view("out")
def bias_relu_backward(dy: Array, x: Array, bias: Array, out: Array | None = None) -> tuple[Array, Array]:
    """Return the gradients of a loss with respect to x and bias of ``bias_relu``.

    Parameters
    ----------
    dy : array like x
        The gradient of the loss with respect to y.
    x, bias
        As they were in ``bias_relu``.
    out : array like x, optional
        Takes dx; it must not share memory with the others.

    Returns
    -------
    dx : array like x
    dbias : array (columns,) of x's dtype

    Raises
    ------
    TypeError, ValueError
        Before anything is touched, where an array does not fit.
    """
    rows, dx = validate.biased(x, bias, out, dy)
    return dx, _bias_relu.backward(dy.reshape(rows.shape), rows, bias, dx.reshape(rows.shape))


@by_view("out")
def bias_gelu(x: Array, bias: Array, approximate: str = "none", out: Array | None = None) -> Array:
    """Return z * Phi(z) with z = x + bias and Phi the normal distribution.

    Parameters
    ----------
    x : array (..., columns), C-contiguous
    bias : array (columns,) of x's dtype
    approximate : "none" or "tanh"
        "tanh" is the form with a hyperbolic tangent in place of Phi, as in torch.
    out : array like x, optional
        Takes the result; it must not share memory with the others.

    Returns
    -------
    y : array like x

    Raises
    ------
    TypeError, ValueError
        Before anything is touched, where an array does not fit, or approximate is neither.

    See ``pyopt.kernels.layers.bias_gelu`` for the equations and the accuracy.
    """
    validate.one_of("approximate", approximate, _bias_gelu.FORMS)
    rows, y = validate.biased(x, bias, out)
    _bias_gelu.forward(rows, bias, y.reshape(rows.shape), approximate)
    return y


@by_view("out")
def bias_gelu_backward(
    dy: Array, x: Array, bias: Array, approximate: str = "none", out: Array | None = None
) -> tuple[Array, Array]:
    """Return the gradients of a loss with respect to x and bias of ``bias_gelu``.

    Parameters
    ----------
    dy : array like x
        The gradient of the loss with respect to y.
    x, bias, approximate
        As they were in ``bias_gelu``.
    out : array like x, optional
        Takes dx; it must not share memory with the others.

    Returns
    -------
    dx : array like x
    dbias : array (columns,) of x's dtype

    Raises
    ------
    TypeError, ValueError
        Before anything is touched, where an array does not fit, or approximate is neither.
    """
    validate.one_of("approximate", approximate, _bias_gelu.FORMS)
    rows, dx = validate.biased(x, bias, out, dy)
    return dx, _bias_gelu.backward(dy.reshape(rows.shape), rows, bias, dx.reshape(rows.shape), approximate)
