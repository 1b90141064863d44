"""Ctrl-C at any moment of a call: all is as before it or as after it, or the next call refuses; never between."""

import sys
from pathlib import Path

import numpy as np
import pytest

import pyopt
from pyopt.estimators import LinearClassifier, LinearRegressor, MLPClassifier
from pyopt.schedules import CosineRestarts, ReduceOnPlateau
from support.helpers import outcome, tame

MOMENTS = 40  # of each call
ROOT = Path(pyopt.__file__).parents[1]  # kernels/ and the tests among it
RNG = np.random.default_rng(0)
X = RNG.normal(size=(9, 3))
Y = X @ [1.0, -2.0, 0.5]


class Interrupting:
    """Raises KeyboardInterrupt before operation ``at`` of Python in the block, or counts them all where it is None."""

    def __init__(self, at=None):
        self.at, self.count = at, 0

    def trace(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(str(ROOT)):
            return None
        frame.f_trace_opcodes = True
        if event in ("call", "opcode"):
            self.count += 1
            if self.count - 1 == self.at:
                raise KeyboardInterrupt
        return self.trace

    def __call__(self, call):
        before = sys.gettrace()
        sys.settrace(self.trace)
        try:
            call()
        except KeyboardInterrupt:
            assert self.at is not None
        finally:
            sys.settrace(before)


def optimizer(**options):
    params = [tame((4, 3), np.float32), tame(5, np.float32, 1)]
    options = {"lr": 0.1, "betas": (0.7, 0.8), "ema_decay": 0.75, "state_dtype": {"ema": "bfloat16"}, **options}
    opt = pyopt.AdamW(params, **options)
    opt.step([p + 1 for p in params])
    return opt, params, [p - 1 for p in params]


def of_optimizer(call, **options):
    """Return what makes a call, and what looks at all that it may change."""

    def made():
        opt, params, grads = optimizer(**options)

        def look():
            held = [p for group in opt.param_groups for p in group["params"]]
            return outcome(opt), [group["lr"] for group in opt.state_dict()["param_groups"]], [*params, *held]

        return (lambda: call(opt, params, grads)), look

    return made


def stepping_in_bfloat16(opt, params, grads):
    opt.param_groups[0]["state_dtype"] = "bfloat16"
    opt.step(grads)


def lending(of):
    with of:
        pass


def load(opt, params, grads):
    other = optimizer(lr=0.5)[0]
    other.step(grads)
    opt.load_state_dict(other.state_dict())


def moved(params):
    for p in params:
        np.add(p, 1, out=p)


def weights():
    return [tame((4, 3), np.float32), tame(5, np.float64, 1)]


def of_average(call, updates=1):
    def made():
        params = weights()
        average = pyopt.PolyakAverage(params)
        for _ in range(updates):
            average.update()
            moved(params)
        return (lambda: call(average)), lambda: (average.state_dict(), params)

    return made


def of_ensemble(call):
    def made():
        params = weights()
        ensemble = pyopt.SnapshotEnsemble(params, CosineRestarts(0.1, T_0=1), max_members=2)
        for _ in range(2):
            ensemble.update()
            moved(params)
        return (lambda: call(ensemble)), lambda: (ensemble.state_dict(), params)

    return made


def of_stopper(call):
    def made():
        params = weights()
        stopper = pyopt.EarlyStopping(patience=1, restore_best_weights=True)
        stopper.update(2.0, params)
        moved(params)
        return (lambda: call(stopper, params)), lambda: (stopper.state_dict(), params)

    return made


def of_estimator(make, y):
    def made():
        estimator = make().partial_fit(X, y, **({"classes": [0, 1]} if y.dtype == bool else {}))

        def look():
            model = estimator._model
            return (
                model.state, estimator.n_iter_, estimator.t_, estimator.history_, estimator.predict(X),
                estimator._rng.bit_generator.state["state"]["state"],
                [] if estimator._optimizer is None else outcome(estimator._make_optimizer()),
            )  # fmt: skip

        return (lambda: estimator.partial_fit(X, y)), look

    return made


def functional():
    p, m, v, t = tame(5, np.float32), np.zeros(5, np.float32), np.zeros(5, np.float32), np.array([3])
    g = p + 1
    call = pyopt.functional.adam
    return (lambda: call([p], [g], [m], [v], [None], t, beta1=0.7, beta2=0.8, lr=0.1)), lambda: [p, m, v, t]


def functional_lamb():
    """Between the norms of one tensor and of the next, Python code runs."""
    lists = params, grads, means, squares = [[tame(n, np.float32, k + n) ** 2 for n in (4, 5)] for k in range(4)]
    t = np.array([3, 3])
    call = pyopt.functional.lamb
    return (lambda: call(params, grads, means, squares, t, lr=0.1, weight_decay=0.2)), lambda: (lists, t)


def accumulation():
    totals, grads = ([tame(5, np.float32, k), tame((2, 3), np.float64, k + 1)] for k in (0, 2))
    return (lambda: pyopt.functional.accumulate(totals, grads)), lambda: totals


def plateau():
    opt = pyopt.SGD([{"params": [np.ones(3)]}, {"params": [np.ones(2)], "lr": 0.5}], lr=0.1)
    schedule = ReduceOnPlateau(opt, patience=0, cooldown=2)
    schedule.step(1.0)
    return (lambda: schedule.step(2.0)), lambda: (schedule.state_dict(), [group["lr"] for group in opt.param_groups])


CALLS = {
    "step": of_optimizer(lambda opt, params, grads: opt.step(grads, zero_grads=True)),
    "step in another state_dtype": of_optimizer(stepping_in_bfloat16),
    "step_rows": of_optimizer(lambda opt, params, grads: opt.step_rows([2, 0], grads[0][:2], 0), weight_decay=0.25),
    "swapped_ema": of_optimizer(lambda opt, params, grads: lending(opt.swapped_ema())),
    "load_state_dict": of_optimizer(load),
    "add_param_group": of_optimizer(lambda opt, params, grads: opt.add_param_group({"params": [params[1] + 1]})),
    "to": of_optimizer(lambda opt, params, grads: opt.to([p.copy() for p in params])),
    "PolyakAverage.update, the first": of_average(lambda average: average.update(), 0),
    "PolyakAverage.update": of_average(lambda average: average.update()),
    "PolyakAverage.swapped": of_average(lambda average: lending(average.swapped())),
    "PolyakAverage.load_state_dict": of_average(lambda average: average.load_state_dict(average.state_dict()), 2),
    "SnapshotEnsemble.update": of_ensemble(lambda ensemble: ensemble.update()),
    "SnapshotEnsemble.swapped": of_ensemble(lambda ensemble: lending(ensemble.swapped(0))),
    "EarlyStopping.update, a better one": of_stopper(lambda stopper, params: stopper.update(1.0, params)),
    "EarlyStopping.update, the last": of_stopper(lambda stopper, params: stopper.update(3.0, params)),
    "EarlyStopping.restore": of_stopper(lambda stopper, params: stopper.restore()),
    "ReduceOnPlateau.step": plateau,
    "functional.adam": functional,
    "functional.lamb": functional_lamb,
    "functional.accumulate": accumulation,
    "LinearRegressor.partial_fit": of_estimator(lambda: LinearRegressor("adam", batch_size=4, random_state=0), Y),
    "LinearClassifier.partial_fit": of_estimator(lambda: LinearClassifier("sgd", batch_size=4, random_state=0), Y > 0),
    "MLPClassifier.partial_fit": of_estimator(
        lambda: MLPClassifier((3,), batch_size=5, batch_norm=True, random_state=0), Y > 0
    ),
}


def plain(found):
    """Return what ``look`` found in a form that can be compared."""
    if isinstance(found, np.ndarray):
        return found.dtype.name, found.shape, found.tobytes()
    if isinstance(found, dict):
        return [(key, plain(value)) for key, value in found.items()]
    return [plain(x) for x in found] if isinstance(found, (list, tuple)) else found


@pytest.mark.parametrize("name", CALLS)
def test_before_or_after(name):
    CALLS[name]()[0]()  # fills caches
    call, look = CALLS[name]()
    before = plain(look())
    every = Interrupting()
    every(call)
    after = plain(look())
    seen = set()
    first = np.linspace(0, every.count - 1, MOMENTS // 2).astype(int)  # and the last ones, where all is written
    for at in sorted({*first.tolist(), *range(max(0, every.count - MOMENTS // 2), every.count)}):
        call, look = CALLS[name]()
        interrupt = Interrupting(at)
        interrupt(call)
        assert interrupt.count == at + 1
        found = plain(look())
        assert found in (before, after), f"operation {at} of {every.count}"
        seen.add(found == after)
    assert seen == {True, False} or before == after
