"""Callers that change arrays, settings or threads under a call: an error or the right result, and never a crash."""

import io
import os
import threading

import joblib
import numpy as np
import pytest
from scipy import sparse

import pyopt
from pyopt.estimators import LinearClassifier, LinearRegressor, MLPRegressor
from support.helpers import refused, same_bits, tame

X = np.random.default_rng(0).normal(size=(60, 4))
Y = X @ [1.0, -2.0, 0.5, 0.0]


def locked(w, g):
    w.flags.writeable = False


def resized(w, g):
    g.resize(1, refcheck=False)


@pytest.mark.parametrize(("change", "words"), [(locked, "read-only"), (resized, "shape")])
def test_schedules_run_before_the_check(change, words):
    for call in (lambda opt, g: opt.step([g]), lambda opt, g: opt.step_rows([1, 0, 2], g)):
        w, g = tame((3, 2), np.float32), tame((3, 2), np.float32, 1)
        before = w.copy()
        opt = pyopt.SGD([w], lr=lambda t, w=w, g=g: change(w, g) or 0.5, momentum=0.5)
        with pytest.raises(ValueError, match=words):
            call(opt, g)
        same_bits(w, before)
        assert opt.state[0]["step"] == 0


def test_states_cannot_be_resized():
    w = tame((30, 2), np.float32)
    opt = pyopt.AdamW([w], lr=0.1, ema_decay=0.5, weight_decay=0.25, shadow_dtype="float16")
    opt.step_rows([1], w[:1].copy())
    for name in ("row_decay", "exp_avg", "ema", "shadow"):
        with pytest.raises(ValueError, match="resize"):
            opt.state[0][name].resize(10**6, refcheck=False)
    opt.load_state_dict(opt.state_dict())
    with pytest.raises(ValueError, match="resize"):
        opt.state[0]["row_decay"].resize(10**6, refcheck=False)
    opt.step_rows([1], w[:1].copy())


def test_classes_that_say_something_else_of_their_memory():
    class Large(np.ndarray):
        @property
        def shape(self):
            return (1 << 40,)

    class Writeable(np.ndarray):
        @property
        def flags(self):
            return np.zeros(1).flags

    plain = np.ones(4)
    calls = (
        lambda odd: pyopt.L1(1.0).value(odd),
        lambda odd: pyopt.losses.squared_error(odd, plain),
        lambda odd: pyopt.losses.squared_error(plain, odd),
        lambda odd: pyopt.layers.bias_relu(plain.reshape(1, 4), odd),
        lambda odd: pyopt.SGD([odd]),
        lambda odd: pyopt.functional.accumulate([odd], [plain]),
        lambda odd: pyopt.PolyakAverage([odd]),
    )
    for kind in (Large, Writeable):
        for call in calls:
            with refused(TypeError, kind.__name__, "view(np.ndarray)", arrays=[plain]):
                call(plain.view(kind))
    mapped = plain.view(np.matrix)  # says what is so
    assert pyopt.L1(0.5).value(mapped) == 2.0


def test_step_counts_have_memory_of_their_own():
    p, m, v, g = np.ones(4), np.zeros(4), np.zeros(4), np.full(4, 2.0)
    two = np.array([3.0, 3.0])
    hypers = {"beta1": 0.7, "lr": 0.1}
    for params, steps, words in (
        ([p], [p[1:2]], "params[0]"), ([p], [v[3:]], "exp_avg_sqs[0]"), ([p], [g[:1]], "grads[0]"),
        ([p, np.ones(4)], [two[:1], two[:1]], "state_steps[1]"),
    ):  # fmt: skip
        n = len(params)
        states = [m, np.zeros(4)][:n], [v, np.zeros(4)][:n], [None] * n
        with refused(ValueError, "share memory", "state_steps[0]", words, arrays=[p, m, v, g, two]):
            pyopt.functional.adam(params, [g, np.ones(4)][:n], *states, steps, **hypers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forked_while_another_thread_steps():
    inside, go = threading.Event(), threading.Event()

    def rate(t):
        inside.set()
        go.wait(10)
        return 0.5

    w = np.ones(3)
    opt = pyopt.SGD([w], lr=rate, momentum=0.5)
    thread = threading.Thread(target=lambda: opt.step([np.ones(3)]))
    thread.start()
    inside.wait(10)
    child = os.fork()
    if child == 0:
        try:
            opt.param_groups[0]["lr"] = 0.25
            with pytest.raises(RuntimeError, match="another thread when this process was forked"):
                opt.step([np.ones(3)])
            opt.step([np.ones(3)])
            os._exit(0 if w.tolist() == [0.75] * 3 else 1)
        finally:
            os._exit(2)
    go.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert w.tolist() == [0.5] * 3


def test_settings_of_numpy_play_no_part():
    def results():
        p = np.array([1e-30, 70000.0, np.nan, -3e38], np.float32)
        opt = pyopt.SGD([p], lr=0.5, momentum=0.5, ema_decay=0.5, state_dtype="float16", shadow_dtype="float16")
        opt.step([p.copy()])
        opt.param_groups[0]["state_dtype"] = "bfloat16"
        opt.step([p.copy()])
        with opt.swapped_ema():
            held = p.copy()
        opt.load_state_dict(opt.state_dict())
        q = p.view(np.float16)
        mean = pyopt.PolyakAverage([q])
        mean.update()
        mean.update()
        with mean.swapped():
            average = q.copy()
        loss = pyopt.losses.huber(p, p[::-1].copy(), "sum", delta=1e-3, sample_weight=np.full(4, 1e-300))[1]
        return [p, held, q, average, loss, opt.state[0]["ema"], *opt.shadow_params()]

    with np.errstate(all="ignore"):
        want = results()
    with np.errstate(all="raise"):
        got = results()
    for a, b in zip(got, want, strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_thread_with_a_small_stack():
    w, noted = np.ones(4), []

    def run():
        for call in (lambda: opt.step([np.ones(4)]), lambda: pyopt.losses.squared_error(w, w), opt.catch_up_rows):
            try:
                noted.append(call())
            except RuntimeError as error:
                noted.append(str(error))

    opt = pyopt.SGD([w], lr=0.5)
    before = threading.stack_size(64 << 10)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        threading.stack_size(1 << 20)
        thread = threading.Thread(target=lambda: noted.append(opt.step([np.ones(4)])))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    *small, large = noted
    assert len(small) == 3
    assert all("256 KiB" in text for text in small)
    assert large is None
    assert w.tolist() == [0.5] * 4


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_the_shadow_goes_on_from_a_state_dict(stored):
    p = tame(50, np.float32).astype(pyopt.kernels.numerics.codecs.dtype(stored))
    opt = pyopt.SGD([p], lr=0.3, momentum=0.5, shadow_dtype="float16")
    opt.step([tame(50, np.float32, 1)])
    q = p.copy()
    other = pyopt.SGD([q], lr=0.1, shadow_dtype="float16")
    other.load_state_dict(opt.state_dict())
    same_bits(other.shadow_params()[0], opt.shadow_params()[0])
    saved = opt.state_dict()
    del saved["state"][0]["shadow"]  # as it was not saved once
    other.load_state_dict(saved)
    opt.param_groups[0]["shadow_dtype"] = None
    other.load_state_dict(opt.state_dict())
    assert "shadow" not in opt.state_dict()["state"][0]


# ---- estimators and images


@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_models_that_are_mapped_read_only(tmp_path, rule, kind):
    """joblib maps them so, also by itself where it starts workers, and gives each use of an array memory of its own."""
    x = kind(X)
    first = LinearRegressor(rule, lr=0.05, batch_size=20, random_state=0).partial_fit(x, Y)
    joblib.dump(first, tmp_path / "model")
    loaded = joblib.load(tmp_path / "model", mmap_mode="r")
    read = [a.copy() for a in (loaded.coef_, *loaded._model.state)]
    kept = [loaded.coef_, *loaded._model.state]
    for _ in range(3):
        first.partial_fit(x, Y)
        loaded.partial_fit(x, Y)
    same_bits(loaded.coef_, first.coef_)
    assert loaded.predict(x).tolist() == first.predict(x).tolist()
    for a, b in zip(kept, read, strict=True):
        same_bits(np.asarray(a), b)


def test_networks_and_weights_that_were_locked():
    first = MLPRegressor((3,), batch_norm=True, batch_size=20, random_state=0).partial_fit(X, Y)
    stream = io.BytesIO()
    joblib.dump(first, stream)
    stream.seek(0)
    other = joblib.load(stream)
    for a in first._model.state:
        a.flags.writeable = False
    for _ in range(2):
        first.partial_fit(X, Y)
        other.partial_fit(X, Y)
    assert first.predict(X).tolist() == other.predict(X).tolist()


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_schedules_that_write_to_a_sparse_matrix(rule):
    x = sparse.csr_matrix(X)
    want = LinearClassifier(rule, lr=0.25, max_iter=3, tol=None, random_state=0).fit(sparse.csr_matrix(X), Y > 0)

    def rate(t):
        x.indices[:] = 1 << 30
        return 0.25

    got = LinearClassifier(rule, lr=rate, max_iter=3, tol=None, random_state=0).fit(x, Y > 0)
    same_bits(got.coef_, want.coef_)


def test_partners_are_copied():
    from pyopt.augment._batch import Batch

    images, partners = np.zeros((3, 1, 2, 2), np.float32), np.array([2, 0, 1])
    taken = Batch(images, "NCHW").integers("partners", partners)
    assert not np.may_share_memory(taken, partners)
    assert taken.tolist() == [2, 0, 1]
