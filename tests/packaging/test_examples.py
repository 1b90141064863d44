"""The programs in docs/examples run, and what docs/examples.md says of them is so."""

import re
import sys

import numpy as np
import pytest

from support import ROOT

pytest.importorskip("sklearn")

DOCS = ROOT / "docs"
PAGE = (DOCS / "examples.md").read_text()
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def program(monkeypatch):
    """Return a function that imports an example by its name."""
    monkeypatch.syspath_prepend(DOCS / "examples")

    def load(name):
        sys.modules.pop(name, None)
        return __import__(name)

    return load


def row(start):
    """Return the numbers of a row of the page's tables."""
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {start}"))
    return [float(cell) for cell in map(str.strip, line.split("|")[2:]) if cell]


def is_png(path):
    data = path.read_bytes()
    return data[:8] == b"\x89PNG\r\n\x1a\n" and 10_000 < len(data) < 100_000


def test_overfitting(program, tmp_path):
    story = program("overfitting")
    data = story.digits()
    found = {name: story.curves(remedy, data) for name, remedy in story.REMEDIES.items()}
    starts = {"no penalty": "no penalty", "L2": "`penalty=", "L1, as a prox": "`prox=pyopt.L1(5", "dropout": "`dropout",
              "augmentation": "`augment"}  # fmt: skip
    for name, rows in found.items():
        told = row(starts[name])
        measured = [rows[-1, 0], rows[-1, 1], rows[:, 1].min(), rows[-1, 2]]
        np.testing.assert_allclose(measured, told, atol=6e-4, err_msg=name)
    end, best = ({name: f(rows[:, 1]) for name, rows in found.items()} for f in (lambda a: a[-1], np.min))
    assert end["no penalty"] > 1.2 * best["no penalty"]
    assert end["L2"] < 1.1 * best["L2"]
    assert end["L1, as a prox"] < 1.1 * best["L1, as a prox"]
    assert best["dropout"] < best["no penalty"] < end["dropout"]
    assert min(end, key=end.get) == "augmentation"
    epoch, estimator = story.stopped_early(data)
    assert f"the weights after {epoch} epochs" in PAGE
    assert [round(estimator.score(data[1], data[3]), 3)] == row("`early_stopping")[1:]
    pytest.importorskip("matplotlib")
    story.draw(found, epoch, tmp_path)
    assert is_png(tmp_path / "overfitting.png")
    assert is_png(DOCS / "examples" / "overfitting.png")


def test_sparse_recovery(program, tmp_path):
    story = program("sparse_recovery")
    x, y, w = story.problem()
    paths = {name: story.path(make, x, y) for name, make in story.PENALTIES.items()}
    for name, weights in paths.items():
        distance, wrong = story.facts(weights, w)
        best = distance.argmin()
        right = np.count_nonzero(weights[best, w != 0])
        told = [story.ALPHAS[best], distance[best], wrong[best], right]
        np.testing.assert_allclose(told, row(f"`pyopt.{name}(alpha"), atol=6e-4, err_msg=name)
    pytest.importorskip("matplotlib")
    story.draw(paths, w, tmp_path)
    assert is_png(tmp_path / "sparse_recovery.png")
    assert is_png(DOCS / "examples" / "sparse_recovery.png")


def test_training_loop(program):
    history, accuracy = program("training_loop").train()
    assert history[-1] < 0.4 * history[0]
    assert accuracy > 0.965


def test_excerpts():
    found = re.findall(r"^<!-- (\S+) -->\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    for path, text in found:
        assert text in (DOCS.parent / path).read_text(), path
