"""What the tests of files and signals share: a run that has begun, and what a refused command looks like."""

import json

import numpy as np

from pyopt.cli.training import Run, Settings

OUTPUTS = {"save": None, "plot": "curves.png"}


def trained(epochs=2, **settings):
    """Return a run that has been trained for a while."""
    run = Run(Settings(epochs=4, **settings))
    for _ in zip(range(epochs), run.epochs(), strict=False):
        pass
    return run


def refused(done, *words):
    """Check that a command was refused in one line with these words."""
    code, out, err = done
    assert (code, out, err.count("\n")) == (2, "", 1), done
    assert err.startswith("pyopt: ")
    assert [word for word in words if word not in err] == [], err


def rewritten(path, header, arrays):
    """Write a file with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    np.savez(path, header=np.frombuffer(text, np.uint8), **arrays)


def parts(path):
    """Return header and arrays of a file."""
    with np.load(path) as file:
        arrays = dict(file)
    return json.loads(arrays.pop("header").tobytes()), arrays
