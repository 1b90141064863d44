"""What ``pyopt train --save`` writes, and what ``pyopt predict`` makes of it."""

import csv
import json

import numpy as np
import pytest

for extra in ("matplotlib", "rich", "sklearn", "typer"):
    pytest.importorskip(extra)

from sklearn.datasets import load_breast_cancer, load_diabetes  # noqa: E402

from pyopt.cli import model  # noqa: E402
from pyopt.cli.training import Run, Settings  # noqa: E402

NETWORK = dict(model="mlp", hidden="12,5", batch_norm=True, dropout=0.1, ensemble=2)


def trained(**settings):
    run = Run(Settings(epochs=8, **settings))
    for _ in run.epochs():
        pass
    return run


@pytest.mark.parametrize("more", [{}, NETWORK], ids=["linear", "mlp"])
@pytest.mark.parametrize(
    ("data", "brought"),
    [("breast_cancer", load_breast_cancer), ("diabetes", load_diabetes)],
    ids=["classes", "numbers"],
)
def test_a_saved_model_predicts_the_same(tmp_path, data, brought, more):
    run = trained(data=data, **more)
    model.save(run.model(), tmp_path / "m.npz")
    found, x = model.load(tmp_path / "m.npz"), brought().data
    assert found.columns == run.rows.columns
    assert found.predict(x).tolist() == run.model().predict(x).tolist()
    held = run.splits[0][1]
    if data == "diabetes":
        assert np.corrcoef(found.predict(x)[held], brought().target[held])[0, 1] > 0.45
        assert abs(found.predict(x).mean() - brought().target.mean()) < 20
        with pytest.raises(AttributeError, match="classification"):
            found.predict_proba(x)
    else:
        p = found.predict_proba(x)
        assert p.sum(axis=1) == pytest.approx(1)
        assert (found.classes[p.argmax(axis=1)] == found.predict(x)).all()
        assert np.mean(found.predict(x)[held] == brought().target_names[brought().target[held]]) == run.score() > 0.8


def test_npz_is_arrays_with_names(tmp_path):
    run = trained(data="diabetes", model="mlp", hidden="7", batch_norm=True)
    model.save(run.model(), tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        a = dict(file)
    x = (load_diabetes().data - a["x_shift"]) / a["x_scale"]
    z = (x @ a["0/w1"] - a["0/mean1"]) / np.sqrt(a["0/variance1"] + 1e-5) * a["0/scale1"] + a["0/b1"]
    y = np.maximum(z, 0) @ a["0/w2"] + a["0/b2"]
    want = (y * a["y_scale"] + a["y_shift"])[:, 0]
    assert run.model().predict(load_diabetes().data) == pytest.approx(want, rel=1e-4)
    assert a["columns"].tolist() == load_diabetes().feature_names
    assert json.loads(a["header"].tobytes()) == {"format": "pyopt model", "version": 1, "activation": "relu"}


def test_the_command(command, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    rows = [f"{a},{b},{'up' if a > b else 'down'}" for a, b in x]
    (tmp_path / "train.csv").write_text("a,b,way\n" + "\n".join(rows))
    code, out, err = command("train", "--data", "train.csv", "--target", "way", "--save", "m.npz", "--epochs", 20)
    assert (code, err) == (0, "")
    assert "m.npz" in out
    (tmp_path / "new.csv").write_text("b,more,a\n0,x,3\n0,y,-3\n")  # in any order, and others beside them
    assert command("predict", "m.npz", "new.csv") == (0, "up\ndown\n", "")
    code, out, err = command("predict", "m.npz", "train.csv", "--target", "way", "--output", "p.csv")
    assert (code, out) == (0, "p.csv\n")
    assert err.startswith("accuracy 0.9")
    assert "on 200 rows" in err
    assert (tmp_path / "p.csv").read_text().splitlines()[:2] == ["prediction", rows[0].rpartition(",")[2]]


def test_predictions_of_words_with_commas(command, tmp_path):
    cells = ['new, "york"', "la\nx"]
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["a", "city"], *([i % 2, cells[i % 2]] for i in range(60))])
    assert command("train", "--data", "train.csv", "--target", "city", "--save", "m.npz", "--epochs", 20)[0] == 0
    assert command("predict", "m.npz", "train.csv", "--output", "p.csv")[0] == 0
    with (tmp_path / "p.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["prediction"], *([cell] for cell in cells * 30)]


def test_predicted_numbers_and_numbered_classes(command, tmp_path):
    assert command("train", "--data", "diabetes", "--save", "d.npz", "--epochs", 30)[0] == 0
    code, out, err = command("predict", "d.npz", "diabetes")
    assert (code, len(out.splitlines())) == (0, 442)
    assert float(err.split()[1]) > 0.4
    assert command("train", "--data", "digits", "--save", "n.npz", "--epochs", 2)[0] == 0
    code, out, err = command("predict", "n.npz", "digits")
    assert set(out.split()) == set("0123456789")
    assert float(err.split()[1]) > 0.9


def test_what_cannot_be_predicted(command, tmp_path):
    model.save(trained(data="diabetes").model(), tmp_path / "m.npz")
    (tmp_path / "text.npz").write_text("none")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with np.load(tmp_path / "m.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "shape.npz", **{**arrays, "0/b1": np.zeros((4, 5))})
    (tmp_path / "few.csv").write_text("age,sex\n1,2\n")
    (tmp_path / "nan.csv").write_text(",".join(arrays["columns"]) + "\n" + ",".join(["nan"] * 10))
    for args, words in (
        (["m.npz", "few.csv"], ["few.csv lacks columns", "'bmi'", "'bp'"]),
        (["m.npz", "nan.csv"], ["'age'", "NaN", "row 1"]),
        (["m.npz", "none.csv"], ["none.csv", "No such file"]),
        (["m.npz", "few.csv", "--target", "y"], ["target='y'", "'age', 'sex'"]),
        (["m.npz", "diabetes", "--output", "p.txt"], ["p.txt", ".csv"]),
        (["none.npz", "diabetes"], ["none.npz", "No such file"]),
        (["text.npz", "diabetes"], ["text.npz", "no model"]),
        (["other.npz", "diabetes"], ["other.npz", "no header", "older version"]),
        (["shape.npz", "diabetes"], ["shape.npz", "no model"]),
    ):
        code, out, err = command("predict", *args)
        assert (code, out, err.count("\n")) == (2, "", 1), args
        assert err.startswith("pyopt: ")
        assert [word for word in words if word not in err] == []
