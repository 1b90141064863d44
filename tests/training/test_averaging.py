"""Averages of weights and ensembles of snapshots: means, bits, what they keep, and what is refused."""

import contextlib
import doctest
import pickle

import numpy as np
import pytest

import pyopt
from pyopt.kernels.numerics.elementary import flush
from pyopt.schedules import Constant, CosineRestarts, Cyclic
from pyopt.training import averaging
from support.helpers import like, refused, same_bits, tame, wild

SIZES = (0, 1, 127, 1009, 40_009)


def by_reference(weights):
    """Return the running mean in NumPy, in the order of the kernel."""
    mean, real = weights[0].copy(), weights[0].dtype.type
    with np.errstate(all="ignore"):
        for n, p in enumerate(weights[1:], 1):
            mean = flush(mean + real(1.0 / (n + 1)) * (p - mean))
    return mean


def test_doctests():
    assert doctest.testmod(averaging) == (0, 11)


# ---- PolyakAverage


def test_bits_are_those_of_the_reference(isa, dtype):
    for threads in (1, 2):
        pyopt.set_num_threads(threads)
        params = [wild(n, dtype, n) for n in SIZES]
        mean, seen = pyopt.PolyakAverage(params), [[] for _ in SIZES]
        for t in range(5):
            for p, own in zip(params, seen, strict=True):
                p[...] = wild(p.size, dtype, 10 * t + p.size)
                own.append(p.copy())
            mean.update()
        for got, own in zip(mean.average_params(), seen, strict=True):
            same_bits(got, by_reference(own), f"{threads} threads")


def test_every_weight_counts_the_same():
    p = tame((7, 5), np.float64)
    mean, weights = pyopt.PolyakAverage([p], start=3, every=2), []
    for t in range(40):
        p[...] = tame((7, 5), np.float64, t)
        mean.update()
        weights.append(p.copy())
    want = np.mean(weights[3::2], axis=0)
    np.testing.assert_allclose(mean.average_params()[0], want, rtol=0, atol=1e-15)
    assert (mean.count, mean.updates) == (19, 40)


def test_like_torch(torch):
    layer = torch.nn.Linear(4, 3, dtype=torch.float64)
    theirs, mine = torch.optim.swa_utils.AveragedModel(layer), None
    params = [p.detach().numpy() for p in layer.parameters()]  # the same memory
    mine = pyopt.PolyakAverage(params)
    for t in range(20):
        for p in params:
            p[...] = tame(p.shape, p.dtype, t)
        theirs.update_parameters(layer)
        mine.update()
    for got, want in zip(mine.average_params(), theirs.module.parameters(), strict=True):
        np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_sixteen_bits_are_averaged_in_float32(name):
    if name == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need it")
    kind = pyopt.kernels.numerics.codecs.dtype(name)
    p = np.ones(9, kind)
    mean, weights = pyopt.PolyakAverage([p]), []
    for t in range(6):
        p[...] = tame(9, np.float32, t)
        weights.append(p.astype(np.float32))
        mean.update()
    last = p.copy()
    same_bits(mean.average_params()[0], by_reference(weights))
    with mean.swapped():
        assert p.tobytes() == by_reference(weights).astype(kind).tobytes()
    assert p.tobytes() == last.tobytes()


def test_any_order_in_memory():
    p = np.asfortranarray(tame((6, 5), np.float32))
    q = np.array(0.5)
    mean = pyopt.PolyakAverage([p, q.reshape(())])
    weights = []
    for t in range(3):
        p[...] = tame((6, 5), np.float32, t)
        weights.append(p.copy())
        mean.update()
    same_bits(mean.average_params()[0], by_reference(weights))
    assert mean.average_params()[1].shape == ()
    with mean.swapped():
        same_bits(p, by_reference(weights))


def test_swapped_for_evaluation():
    p = tame((3, 4), np.float32)
    mean = pyopt.PolyakAverage([p])
    mean.update()
    first = p.copy()
    p += 1
    mean.update()
    trained, average = p.copy(), mean.average_params()[0]
    np.testing.assert_allclose(average, first + 0.5, rtol=1e-6)
    with contextlib.suppress(KeyError), mean.swapped():
        same_bits(p, average)
        p[...] = 7
        raise KeyError("an evaluation that fails")
    same_bits(p, trained)
    same_bits(mean.average_params()[0], average)
    with mean.swapped():
        for call in (mean.update, lambda: mean.swapped().__enter__(), lambda: mean.load_state_dict(mean.state_dict())):
            with refused(RuntimeError, "inside swapped()", arrays=[p]):
                call()
    mean.update()
    assert mean.count == 3


def test_resumed_average_has_the_same_bits():
    p, q = tame(50, np.float32), np.zeros(50, np.float32)
    mean, other = pyopt.PolyakAverage([p], 2, 3), pyopt.PolyakAverage([q])
    for t in range(20):
        if t == 9:
            saved = mean.state_dict()
            before = pickle.dumps(saved)
            other.load_state_dict(pickle.loads(before))
        p[...] = q[...] = tame(50, np.float32, t)
        mean.update()
        if t >= 9:
            other.update()
    same_bits(other.average_params()[0], mean.average_params()[0])
    assert (other.count, other.updates, other.start, other.every) == (mean.count, 20, 2, 3)
    assert pickle.dumps(saved) == before
    empty = pyopt.PolyakAverage([p], start=5)
    empty.load_state_dict(pyopt.PolyakAverage([q], start=5).state_dict())
    assert empty.count == 0


def test_what_is_no_average():
    p = tame(3, np.float32)
    for bad, words in ((p, "list of arrays"), ([], "empty"), ([1.0], "params[0]"), ([np.arange(3)], "params[0]")):
        with refused((TypeError, ValueError), words):
            pyopt.PolyakAverage(bad)
    with refused(TypeError, "masked"):
        pyopt.PolyakAverage([np.ma.masked_array([1.0])])
    for name, bad, low in (("start", -1, 0), ("start", 0.5, 0), ("every", 0, 1), ("every", True, 1)):
        with refused((TypeError, ValueError), f"{name}={bad!r}", f">= {low}"):
            pyopt.PolyakAverage([p], **{name: bad})
    mean = pyopt.PolyakAverage([p], start=2)
    mean.update()
    with refused(ValueError, "no average yet", "1 updates", "start=2"):
        mean.average_params()
    with refused(ValueError, "no average yet"), mean.swapped():
        pass


def test_arrays_that_changed():
    p = tame((4, 3), np.float32)
    mean = pyopt.PolyakAverage([p])
    mean.update()
    p.resize((3, 4), refcheck=False)
    with refused(ValueError, "params[0]", "was reshaped, resized"):
        mean.update()
    with refused(ValueError, "params[0]", "was reshaped, resized"), mean.swapped():
        pass
    p.resize((4, 3), refcheck=False)
    p.flags.writeable = False
    with refused(ValueError, "params[0]", "read-only"), mean.swapped():
        pass
    mean.update()
    assert mean.count == 2


def test_no_state_dict_of_an_average():
    p = tame(3, np.float32)
    mean = pyopt.PolyakAverage([p], every=2)
    for _ in range(4):
        mean.update()
    good = mean.state_dict()
    for bad, words in (
        ({}, "keys"),
        (None, "keys"),
        (good | {"count": 3}, "count=3: must be 2"),
        (good | {"updates": -1}, "updates=-1"),
        (good | {"every": 0}, "every=0"),
        (good | {"start": "1"}, "start='1'"),
        (good | {"averages": []}, "averages are []: must be ['float32[3]']"),
        (good | {"averages": [p.astype(np.float64)]}, "averages are ['float64[3]']"),
        (good | {"averages": [p[:2]]}, "averages are ['float32[2]']"),
        (good | {"averages": p}, "averages is ndarray"),
        (good | {"count": 0, "updates": 0}, "must be []"),
    ):
        with refused((TypeError, ValueError), words):
            mean.load_state_dict(bad)
    assert mean.count == 2
    same_bits(mean.average_params()[0], p)


# ---- SnapshotEnsemble


def ensemble(steps=8, **kwargs):
    """Return an ensemble of two arrays after some steps, and them."""
    params = [np.zeros((2, 3), np.float32), np.zeros(2)]
    found = pyopt.SnapshotEnsemble(params, CosineRestarts(0.1, T_0=2, T_mult=2), **kwargs)
    for t in range(steps):
        for p in params:
            p[...] = like(p, t + np.arange(p.size).reshape(p.shape))
        assert found.update() is (t in (1, 5, 13))
    return found, params


def test_members_are_the_weights_at_the_ends_of_cycles():
    found, params = ensemble()
    assert (len(found), found.updates) == (2, 8)
    for t, member in zip((1, 5), found, strict=True):
        for a, p in zip(member, params, strict=True):
            same_bits(a, like(p, t + np.arange(p.size).reshape(p.shape)))
            assert not a.flags.writeable
    same_bits(found[-1][1], list(found)[1][1])
    with pytest.raises(IndexError):
        found[2]
    last, _ = ensemble(20, max_members=2)
    assert [float(member[1][0]) for member in last] == [5.0, 13.0]


def test_a_cyclic_schedule():
    p = np.zeros(1)
    found = pyopt.SnapshotEnsemble([p], Cyclic(0.1, 0.2, 1, 2))
    assert [t for t in range(9) if found.update()] == [2, 5, 8]


def test_prediction_is_the_mean(dtype):
    found, params = ensemble(20)
    x = tame((5, 3), dtype)
    outputs = [x @ member[0].T.astype(dtype) for member in found]
    got = found.predict(lambda weights: x @ weights[0].T.astype(dtype))
    same_bits(got, by_reference(outputs))
    np.testing.assert_allclose(got, np.mean(outputs, axis=0), rtol=1e-5, atol=1e-5)
    assert [p.flat[0] for p in params] == [19, 19]
    assert found.predict(lambda weights: float(weights[1][0])).item() == pytest.approx((1 + 5 + 13) / 3)
    turned = found.predict(lambda weights: np.asfortranarray(x @ weights[0].T.astype(dtype)))
    same_bits(turned, got)
    assert found.predict(lambda weights: np.float16(weights[1][:1])).dtype == np.float32


def test_a_function_that_reuses_its_array():
    found, _ = ensemble(20)
    out = np.zeros(1)

    def function(weights):
        out[...] = weights[1][:1]
        return out

    assert found.predict(function).tolist() == pytest.approx([19 / 3])


def test_bad_predictions():
    found, _ = ensemble(2)
    with refused(TypeError, "the result of function", "int64"):
        found.predict(lambda weights: np.arange(3))
    found, _ = ensemble(8)
    shapes = iter([2, 3])
    with refused(ValueError, "shape (3,) for member 1", "shape (2,)"):
        found.predict(lambda weights: np.zeros(next(shapes)))
    with refused(ValueError, "no members"):
        ensemble(1)[0].predict(lambda weights: 1.0)


def test_a_member_swapped_in():
    found, params = ensemble(8)
    with contextlib.suppress(KeyError), found.swapped(0):
        assert [p.flat[0] for p in params] == [1, 1]
        raise KeyError
    assert [p.flat[0] for p in params] == [7, 7]
    with pytest.raises(IndexError), found.swapped(5):
        pass


def test_resumed_ensemble():
    found, _ = ensemble(8)
    saved = pickle.loads(pickle.dumps(found.state_dict()))
    other, params = ensemble(0)
    other.load_state_dict(saved)
    saved["members"][0][0][...] = -1
    for t in range(8, 20):
        for p in params:
            p[...] = t
        other.update()
    assert [float(member[1][0]) for member in other] == [1.0, 5.0, 13.0]
    assert not other[0][0].flags.writeable
    capped, _ = ensemble(0, max_members=1)
    capped.load_state_dict(found.state_dict())
    assert [float(member[1][0]) for member in capped] == [5.0]
    good = found.state_dict()
    for bad, words in (
        ({}, "keys"),
        (good | {"updates": 1.5}, "updates=1.5"),
        (good | {"members": [[np.zeros(2)]]}, "params are"),
        (good | {"members": [np.zeros(2)]}, "members[0] is ndarray"),
    ):
        with refused((TypeError, ValueError), words):
            found.load_state_dict(bad)
    assert (len(found), found.updates) == (2, 8)


def test_what_is_no_ensemble():
    p = np.zeros(2)
    with refused(TypeError, "schedule=Constant(lr=0.1)", "ends_cycle"):
        pyopt.SnapshotEnsemble([p], Constant(0.1))
    for bad in (0, -1, 1.5, True):
        with refused((TypeError, ValueError), f"max_members={bad!r}", ">= 1"):
            pyopt.SnapshotEnsemble([p], CosineRestarts(0.1, 2), max_members=bad)
    with refused(ValueError, "empty"):
        pyopt.SnapshotEnsemble([], CosineRestarts(0.1, 2))
    with refused(TypeError, "list of arrays"):
        pyopt.SnapshotEnsemble(p, CosineRestarts(0.1, 2))
