"""Arrays that are unusual, and taken: classes of their own, from pickles, with metadata, in files."""

import pickle

import numpy as np
import pytest

import pyopt
from support.helpers import everything, make, run, same_bits, wild

pytestmark = pytest.mark.any_rule


class Named(np.ndarray):
    """A subclass without behaviour of its own."""


def from_pickle(a):
    return pickle.loads(pickle.dumps(a))


def with_metadata(a):
    b = np.empty(a.shape, np.dtype(a.dtype, metadata={"unit": "m"}))
    b[...] = a
    return b


def on_disk(a, path):
    b = np.memmap(path, a.dtype, "w+", shape=a.shape)
    b[...] = a
    return b


@pytest.mark.parametrize("kind", ["subclass", "matrix", "pickle", "metadata", "memmap", "buffer", "native spelling"])
@pytest.mark.parametrize("where", ["parameter", "gradient", "both"])
def test_unusual_but_fine(rule, dtype, kind, where, tmp_path):
    turn = {
        "subclass": lambda a: a.view(Named),
        "matrix": lambda a: a.view(np.matrix),
        "pickle": from_pickle,
        "metadata": with_metadata,
        "memmap": lambda a: on_disk(a, tmp_path / str(len(list(tmp_path.iterdir())))),
        "buffer": lambda a: np.frombuffer(bytearray(a.tobytes()), dtype).reshape(a.shape),
        "native spelling": lambda a: np.array(a, np.dtype(dtype).newbyteorder("=")),
    }[kind]
    p, g = wild(60, dtype).reshape(6, 10), wild(60, dtype, 1).reshape(6, 10)
    want = run(rule, [p], [[g]] * 2, **everything(rule))["p[0]"]
    p = turn(p) if where != "gradient" else p
    g = turn(g) if where != "parameter" else g
    opt = make(rule, [p], **everything(rule))
    for _ in range(2):
        opt.step([g])
    same_bits(np.asarray(p), want)


def test_memmap_reaches_the_file(tmp_path):
    w = on_disk(np.ones(5000), tmp_path / "w")
    pyopt.SGD([w], lr=0.5).step([np.ones(5000)])
    w.flush()
    assert (np.fromfile(tmp_path / "w") == 0.5).all()
