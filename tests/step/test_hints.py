"""Mistakes that everyone makes once: the error names what to write instead."""

import re

import numpy as np
import pytest

import pyopt
from support.helpers import refused


def test_a_hyper_parameter_is_written_to_its_group():
    w = np.ones(2)
    opt = pyopt.AdamW([w], lr=0.25)
    for name in ("lr", "betas", "ema_decay", "penalty", "state_dtype"):
        with refused(AttributeError, f"AdamW has no {name}", f"param_groups[0]['{name}']", opt=opt):
            setattr(opt, name, 0.5)
    opt.max_grad_norm, opt.skip_nonfinite, opt.tag = 0.5, True, "mine"
    assert (opt.max_grad_norm, opt.skip_nonfinite, opt.tag) == (0.5, True, "mine")
    opt.step([w.copy()])


def test_an_unknown_key_of_a_group_is_refused():
    w = np.ones(2)
    opt = pyopt.SGD([{"params": [w]}, {"params": [np.ones(3)]}], lr=0.25)
    opt.param_groups[1]["learning_rate"] = 1.0
    for call in (lambda: opt.step([w.copy(), None]), opt.state_dict, opt.write_hypers, lambda: opt.step_rows([], w, 0)):
        with refused(TypeError, "['learning_rate']", "'lr'", opt=opt, arrays=[w]):
            call()
    del opt.param_groups[1]["learning_rate"]
    opt.step([w.copy(), None])
    assert w.tolist() == [0.75, 0.75]


class Jax:
    """What an array of JAX looks like: in the memory of this process it has no CUDA interface, but its class does."""

    shape, dtype = (2,), np.dtype("float32")

    def __dlpack__(self):
        raise AssertionError("not to be called")

    @property
    def __cuda_array_interface__(self):
        raise AttributeError("__cuda_array_interface__ is only defined for GPU arrays")


@pytest.mark.parametrize("kind", [Jax, type("Array", (), {"__dlpack__": None, "shape": (2,)})])
def test_arrays_of_other_libraries_are_told_what_is_taken(kind):
    w = np.ones(2, np.float32)
    opt = pyopt.SGD([w], lr=0.5)
    for call in (
        lambda: pyopt.SGD([kind()]),
        lambda: opt.step([kind()]),
        lambda: opt.to([kind()]),
        lambda: pyopt.PolyakAverage([kind()]),
        lambda: pyopt.functional.sgd([kind()], [w], [w], [np.zeros(1)]),
        lambda: pyopt.losses.squared_error(kind(), kind()),
    ):
        with refused((TypeError, ValueError), opt=opt, arrays=[w]):
            call()
    with refused(TypeError, "params[0] is", "needed"):
        pyopt.SGD([kind()])


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_a_gradient_that_does_not_go_says_what_mends_it(dtype, order):
    w = np.ones((3, 4), dtype, order=order)
    opt = pyopt.SGD([w], lr=0.25)
    turned = np.ones((4, 3), dtype).T if order == "C" else np.ones((3, 4), dtype)
    for g in (turned, np.ones((4, 3), np.longdouble).T, *([turned.astype(np.float64)] * (dtype != np.float64))):
        with refused((TypeError, ValueError), "makes such a copy", opt=opt, arrays=[w]):
            opt.step([g])
        with pytest.raises((TypeError, ValueError)) as error:
            opt.step([g])
        mend = re.search(r"np\.asarray\(g,.*?order='.'\)", str(error.value))[0]
        opt.step([eval(mend, {"np": np, "g": g})])
