"""Hyper-parameters, schedules and groups out of range: refused with name, value and range, and nothing has changed."""

import math

import numpy as np
import pytest

import pyopt
from pyopt.kernels.hyper import Hyper
from support.helpers import (
    GRADIENTS,
    OPTIMIZERS,
    everything,
    make,
    outcome,
    own_hypers,
    refused,
    run,
    same,
    some_penalty,
    unusual,
    variants,
)

pytestmark = pytest.mark.any_rule

NUMBERS = [-1e-9, -1.0, math.nan, math.inf, -math.inf]
NO_NUMBERS = ["0.1", b"0.1", "fast", None, [], [0.1], 1j, np.complex64(1), True, np.array(True), {}, np.ones(2),
              np.timedelta64(1)]  # fmt: skip


def bad_values(hyper):
    """Return values that a hyper-parameter refuses, drawn from its kind and range."""
    if isinstance(hyper.default, bool):
        return [2, 0.5, "True", None, [True]]
    if isinstance(hyper.default, tuple):
        ends = [hyper.high, hyper.high + 0.1, *NUMBERS]
        bad = [(x, 0.5) for x in ends] + [(0.5, x) for x in ends] + [("a", 0.5), (None, 0.5), (True, 0.5)]
        return [*bad, 0.9, "ab", None, (), (0.9,), (0.9, 0.99, 0.999), {0.5, 0.25}, {0.5: 0, 0.25: 1}]
    no_numbers = [bad for bad in NO_NUMBERS if hyper.default is not None or bad is not None]
    return [*NUMBERS, *no_numbers, *([hyper.high, hyper.high + 1] if hyper.high < math.inf else [])]


def cases():
    """Yield each kind and range with all that it refuses, and each other hyper-parameter with one of those."""
    seen = set()
    for k, (rule, hyper) in enumerate(own_hypers()):
        kind = type(hyper.default), hyper.low, hyper.high, hyper.closed, hyper.above
        values = bad_values(hyper)
        for bad in [values[k % len(values)]] if kind in seen else values:
            yield pytest.param(rule, hyper, bad, id=f"{rule.name}-{hyper.name}-{bad!r}"[:60])
        seen.add(kind)


@pytest.mark.parametrize(("rule", "hyper", "bad"), list(cases()))
def test_out_of_range(rule, hyper, bad):
    p, g = np.ones(3), np.ones(3)
    quoted = f"{hyper.name}={bad!r}"
    with refused((ValueError, TypeError), quoted, "must be", arrays=[p]):
        make(rule, [p], **{hyper.name: bad})
    with refused((ValueError, TypeError), quoted, "must be", arrays=[p]):
        make(rule, [{"params": [p], hyper.name: bad}])
    opt = make(rule, [p], **everything(rule))
    opt.step([g])
    with refused((ValueError, TypeError), quoted, "must be", opt=opt, arrays=[p]):
        opt.add_param_group({"params": [np.ones(2)], hyper.name: bad})
    good = opt.param_groups[0][hyper.name]
    opt.param_groups[0][hyper.name] = bad
    with refused((ValueError, TypeError), quoted, "must be", opt=opt, arrays=[p, g]):
        opt.step([g], zero_grads=True)
    opt.param_groups[0][hyper.name] = good
    opt.step([g])
    same(
        outcome(opt),
        run(rule, [np.ones(3)], [[g], [g]], by="baseline", **everything(rule)),
        "a refused value was kept:",
    )


@pytest.mark.any_rule(False)
def test_ends_of_the_range_are_fine(rule):
    for hyper in rule.all_hypers:
        if not isinstance(hyper.default, bool):
            low = (hyper.low, hyper.low) if isinstance(hyper.default, tuple) else hyper.low
            if rule.check(rule.Values(**everything(rule) | {hyper.name: low})) is None:
                make(rule, [np.ones(3)], **everything(rule) | {hyper.name: low}).step([np.ones(3)])


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, int, np.array])
def test_numbers_of_any_kind(rule, kind):
    opt = make(rule, [np.ones(3)], lr=kind(1), maximize=np.bool_(True))
    opt.step([np.ones(3)])
    assert type(opt.param_groups[0]["lr"]) is float
    assert opt.param_groups[0]["maximize"] is True


@pytest.mark.parametrize(
    "combination",
    [{"nesterov": True}, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}],
)
def test_combination(combination):
    with refused(ValueError, "nesterov=True", "momentum", "dampening"):
        pyopt.SGD([np.ones(3)], **combination)
    p = np.ones(3)
    opt = pyopt.SGD([p], lr=0.5, momentum=0.9, nesterov=True)
    opt.param_groups[0].update({"momentum": 0.0, "dampening": 0.0} | combination | {"lr": 7.0})
    with refused(ValueError, "nesterov=True", opt=opt, arrays=[p]):
        opt.step([np.ones(3)])
    opt.param_groups[0].update(lr=0.5, momentum=0.9, nesterov=True, dampening=0.0)
    opt.step([np.ones(3)])
    assert p[0] == 1 - 0.5 * 1.9


def test_one_bad_group_stops_all(rule):
    """Groups are looked at one after another: none may keep what another one's error put an end to."""
    params, theirs = [np.ones(3), np.ones(4)], [np.ones(3), np.ones(4)]
    start, later = variants(rule)[0], everything(rule)
    starts = {name for state in rule.states if isinstance(name := state.start, str)}
    later = {name: value for name, value in later.items() if name not in starts}
    grads = [np.ones(3), np.ones(4)]
    opt, other = (make(rule, [{"params": [p]} for p in ps], **start) for ps in (params, theirs))
    for each in (opt, other):
        each.step(grads)
    opt.param_groups[0].update(later)
    opt.param_groups[1]["lr"] = -1.0
    with refused(ValueError, "lr=-1.0", arrays=params):
        opt.step(grads)
    opt.param_groups[1]["lr"] = start["lr"]
    other.param_groups[0].update(later)
    for _ in range(2):
        for each in (opt, other):
            each.step(grads)
    same(outcome(opt), outcome(other))


def test_unknown_names(rule):
    with pytest.raises(TypeError, match="learning_rate"):
        make(rule, [np.ones(3)], learning_rate=0.1)
    with refused(TypeError, "learning_rate", "lr"):
        make(rule, [{"params": [np.ones(3)], "learning_rate": 0.1}])
    with pytest.raises(TypeError):
        make(rule, [np.ones(3)], *[0.1] * 20)
    opt = make(rule, [np.ones(3)])
    with refused(TypeError, "learning_rate", "lr", opt=opt):
        opt.add_param_group({"params": [np.ones(2)], "learning_rate": 0.1})
    with refused(TypeError, "params", opt=opt):
        opt.add_param_group({"lr": 0.1})
    with refused(TypeError, "params", opt=opt):
        opt.add_param_group([np.ones(2)])


def test_names_of_parameters(rule):
    w, b = np.ones(3), np.ones(2)
    opt = make(rule, [("w", w), ("b", b)])
    assert opt.param_groups[0]["param_names"] == ("w", "b")
    with refused(ValueError, "the gradient of b", opt=opt):
        opt.step([np.ones(3), np.ones(3)])
    with refused(ValueError, "'w'", "twice"):
        make(rule, [("w", w), ("w", b)])
    with refused(ValueError, "'w'", "twice", opt=opt):
        opt.add_param_group({"params": [("w", np.ones(1))]})
    with refused(TypeError, "w is"):
        make(rule, [("w", [1.0])])


@pytest.mark.parametrize("bad", ["x", 1.0, [pyopt.L1(0.1), 0.5], pyopt.L1, {}], ids=range(5))
def test_penalty_that_is_none(rule, bad):
    p, g = np.ones(3), np.ones(3)
    with refused(TypeError, "penalty=", "must be a Penalty"):
        make(rule, [p], penalty=bad)
    opt = make(rule, [p], lr=0.25)
    opt.param_groups[0].update(penalty=bad, lr=7.0)
    with refused(TypeError, "penalty=", opt=opt, arrays=[p]):
        opt.step([g])
    opt.param_groups[0].update(penalty=None, lr=0.25)
    opt.step([g])
    same(outcome(opt), run(rule, [np.ones(3)], [[g]], by="baseline", lr=0.25), "a refused value was kept:")


def test_too_many_penalties(rule):
    with refused(ValueError, "8 penalties"):
        make(rule, [np.ones(3)], penalty=[pyopt.L1(0.1)] * 12)


def test_penalty_written_later(rule, penalty):
    """A new penalty acts from the next step on, whichever way it is written, and leaves again."""
    kinds = [some_penalty(kind) for kind in GRADIENTS.values()]
    p, q, g = np.ones(3), np.ones(3), np.ones(3)
    opt, other = make(rule, [p], lr=0.5), make(rule, [q], lr=0.5)
    for written, put in [
        ([some_penalty(penalty)], "list"),
        (some_penalty(penalty, 2), "one"),
        (kinds, "list"),
        (None, ""),
    ]:
        opt.param_groups[0]["penalty"] = written
        other.param_groups[0]["penalty"] = tuple(written) if put == "list" else written
        opt.step([g])
        other.step([g])
        same(outcome(opt), outcome(other))
    mine = [some_penalty(penalty)]
    opt.param_groups[0]["penalty"] = mine
    opt.step([g])
    mine.append(some_penalty(penalty, 5))  # neither in force nor in a snapshot, until it is written
    assert len(opt.state_dict()["param_groups"][0]["penalty"]) == 1
    assert len(opt.param_groups[0]["penalty"]) == 1


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, "2", None, [2.0], 1e-320, 1e-39, True])
def test_grad_scale(rule, bad):
    p, g = np.ones(3), np.ones(3)
    opt = make(rule, [p], **everything(rule))
    with refused((ValueError, TypeError), f"grad_scale={bad!r}", "must be", opt=opt, arrays=[p, g]):
        opt.step([g], grad_scale=bad, zero_grads=True)


# ---- schedules


def lr_of(rule):
    return unusual(Hyper("lr", rule.hyper("lr").default))


def test_schedule_is_called_with_the_steps_taken(rule):
    seen = []
    params = [np.ones(3), np.ones(3)]

    def schedule(t):
        seen.append(t)
        return 0.1 / (t + 1)

    opt = make(rule, params, lr=schedule)
    for row in ([np.ones(3)] * 2, [np.ones(3), None], [np.ones(3)] * 2):
        opt.step(row)
    assert seen == [0, 1, 2, 1]
    assert opt.param_groups[0]["lr"] is schedule


def test_schedule_has_the_bits_of_rates_written_by_hand(rule):
    hypers = everything(rule)
    p, q = np.ones(50), np.ones(50)
    opt, other = make(rule, [p], **hypers | {"lr": lambda t: 0.1 * 0.9**t}), make(rule, [q], **hypers)
    for t in range(5):
        other.param_groups[0]["lr"] = 0.1 * 0.9**t
        for each in (opt, other):
            each.step([np.ones(50)])
    same(outcome(opt), outcome(other))


@pytest.mark.parametrize("bad", [math.nan, -0.1, math.inf, "x", None, (0.1, 0.2)], ids=str)
def test_schedule_returns_nonsense(rule, bad):
    p, q, g = np.ones(3), np.ones(4), np.ones(3)
    opt = make(rule, [{"params": [p]}, {"params": [q], "lr": lambda t: bad if t == 1 else 0.1}], **everything(rule))
    opt.step([g, np.ones(4)])
    with refused((ValueError, TypeError), f"lr={bad!r}", "must be", opt=opt, arrays=[p, q, g]):
        opt.step([g, np.ones(4)], zero_grads=True)


def test_schedule_raises(rule):
    def schedule(t):
        if t == 1:
            raise KeyError("the schedule's own error")
        return 0.1

    p = np.ones(3)
    opt = make(rule, [p], lr=schedule)
    opt.step([np.ones(3)])
    with refused(KeyError, "the schedule's own error", opt=opt, arrays=[p]):
        opt.step([np.ones(3)])
    opt.param_groups[0]["lr"] = 0.1
    opt.step([np.ones(3)])
    same(outcome(opt), run(rule, [np.ones(3)], [[np.ones(3)]] * 2, by="baseline", lr=0.1))


@pytest.mark.parametrize("inner", ["step", "add", "load", "structure"])
def test_schedule_that_meddles(rule, inner):
    """A schedule is called in the middle of a step, where the optimizer cannot be stepped or changed."""
    p, g = np.ones(3), np.ones(3)

    def schedule(t):
        if inner == "add":
            opt.add_param_group({"params": [np.ones(2)]})
        elif inner == "load":
            opt.load_state_dict(saved)
        else:
            if inner == "structure":
                opt.param_groups[0]["penalty"] = pyopt.L1(0.1)
            opt.step([g])
        return 0.1

    opt = make(rule, [p], **everything(rule))
    opt.step([g])
    saved = opt.state_dict()
    opt.param_groups[0]["lr"] = schedule
    with refused(RuntimeError, "in the middle of a step", opt=opt, arrays=[p]):
        opt.step([g])
    opt.param_groups[0].update(lr=everything(rule)["lr"], penalty=None)
    opt.step([g])
    same(outcome(opt), run(rule, [np.ones(3)], [[g]] * 2, by="baseline", **everything(rule)))


def test_params_of_a_group_replaced(rule):
    p = np.ones(3)
    opt = make(rule, [p])
    own = opt.param_groups[0]["params"]
    for other in ([p], (p,), [np.ones(3)], []):
        opt.param_groups[0]["params"] = other
        with refused(ValueError, "'params'", "add_param_group", arrays=[p]):
            opt.step([np.ones(3)])
    opt.param_groups[0]["params"] = own
    opt.step([np.ones(3)])
    assert opt.state[0]["step"] == 1


def test_group_without_a_hyper_parameter(rule):
    p = np.ones(3)
    opt = make(rule, [p])
    del opt.param_groups[0]["lr"]
    with refused(ValueError, "no 'lr'", "put it back", opt=opt, arrays=[p]):
        opt.step([np.ones(3)])


def test_list_of_groups_changed(rule):
    p = np.ones(3)
    opt = make(rule, [p])
    own = opt.param_groups
    for other in ([], [*own, {}], [*own, {"params": [np.ones(2)]}]):
        opt.param_groups = other
        with refused(ValueError, f"{len(other)} parameter groups", "made of 1", "add_param_group", arrays=[p]):
            opt.step([np.ones(3)])
    opt.param_groups = [{**own[0]}]
    opt.step([np.ones(3)])
    assert opt.state[0]["step"] == 1


def test_a_dict_of_storage_types_may_be_written_to():
    opt = pyopt.AdamW([np.ones(3)], state_dtype={"exp_avg": "float16"})
    opt.param_groups[0]["state_dtype"]["exp_avg"] = "float32"
    opt.step([np.ones(3)])
    assert opt.state[0]["exp_avg"].dtype == np.float32


def test_the_base_class_is_no_optimizer():
    with refused(TypeError, "Optimizer", "pyopt.SGD"):
        pyopt.optim.Optimizer([np.ones(3)])


def test_arguments_of_another_name(rule):
    with refused(TypeError, "learning_rate", f"{OPTIMIZERS[rule.name].__name__}()"):
        make(rule, [np.ones(3)], learning_rate=0.1)


@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [
        ("state_dtype", "int8", ["state_dtype='int8'", "float64, float32, bfloat16, float16"]),
        ("state_dtype", {"exp_avg": "foo"}, ["state_dtype={'exp_avg': 'foo'}", "float64, float32, bfloat16, float16"]),
        ("shadow_dtype", "x", ["shadow_dtype='x'", "bfloat16, float16 or None"]),
        ("shadow_dtype", 1, ["shadow_dtype=1", "bfloat16, float16 or None"]),
        ("metric", "LR", ["metric='LR'", "None or 'lr'"]),
    ],
)
def test_options_out_of_range(name, bad, words):
    with refused(ValueError, *words, "must be"):
        pyopt.AdamW([np.ones(3)], **{name: bad})
