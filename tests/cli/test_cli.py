"""The command line: results, one line for every error, the same bits everywhere; in a process where that counts."""

import os
import re
import subprocess
import sys

import pytest

from pyopt.kernels.cpu import isa

for extra in ("matplotlib", "rich", "sklearn", "typer"):
    pytest.importorskip(extra)

import numpy as np  # noqa: E402

from pyopt.cli import report  # noqa: E402
from pyopt.cli.training import Run, Settings  # noqa: E402
from pyopt.optim import OPTIMIZERS  # noqa: E402


def call(folder, *args, **environment):
    """Run ``pyopt`` in ``folder`` and return what became of it."""
    command = [sys.executable, "-m", "pyopt.cli", *args]
    env = {**os.environ, "COLUMNS": "160", **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False)


def figures(code, out, err):
    """Return the rows of the table that a run prints."""
    assert (code, err) == (0, "")
    rows = (re.split(r"\s*│\s*", line)[1:3] for line in out.splitlines() if line.startswith("│"))
    return dict(rows)


def test_digits_with_defaults(tmp_path):
    done = call(tmp_path, "train")
    found = figures(done.returncode, done.stdout, done.stderr)
    assert "digits: classification of 10 classes, linear by adam, lr auto" in done.stdout
    assert float(found["accuracy, held out"]) >= 0.95
    assert 0 < float(found["loss, training rows"]) < 0.2
    assert found["weights of both"] == "identical bits"
    assert re.fullmatch("[0-9a-f]{16}", found["SHA-256 of the weights"])
    assert re.match(r"\d+\.\d us \(.*\d threads at most\)", found["optimizer step, pyopt"])
    assert re.match(r"\d+\.\d us \(\d+\.\dx\)", found["optimizer step, NumPy reference"])
    assert found["curves"] == "curves.png"
    png = (tmp_path / "curves.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert len(png) > 10_000


def test_diabetes_with_penalties_and_full_batches(command, tmp_path):
    text = "--data diabetes --optimizer momentum --set momentum=0.8 --set nesterov=true --lr 0.01"
    args = f"{text} --batch-size full --epochs 200 --plot d.png".split()
    plain = figures(*command("train", *args))
    ridge = figures(*command("train", *args, "--penalty", "l2:0.05", "--penalty", "elastic_net:0.02,0.5"))
    assert float(plain["R^2, held out"]) > 0.4
    assert plain["penalty"] == "0"
    assert float(ridge["penalty"]) > 0
    assert float(ridge["loss, training rows"]) > float(plain["loss, training rows"])
    assert (tmp_path / "d.png").stat().st_size > 10_000


def test_epochs_are_whole_numbers_in_a_plot_of_one(command, tmp_path, monkeypatch):
    drawn = []

    class Kept(report.Figure):
        def __init__(self, **options):
            super().__init__(**options)
            drawn.append(self)

    monkeypatch.setattr(report, "Figure", Kept)
    figures(*command("train", "--epochs", "1"))
    for axes in drawn[0].axes:
        low, high = axes.get_xlim()
        assert [x for x in axes.get_xticks() if low <= x <= high] == [1.0]


NETWORK = ["--model", "mlp", "--hidden", "700,20", "--batch-norm", "--dropout", "0.2", "--augment", "rotate=9"]
NETWORK += ["--augment", "mixup=0.2", "--optimizer", "adamw", "--schedule", "warmup-cosine", "--early-stopping"]
NETWORK += ["--prox", "l1:1e-5"]


@pytest.mark.parametrize("more", [["--penalty", "l1:1e-4", "--schedule", "one-cycle"], NETWORK], ids=["linear", "mlp"])
def test_the_same_weights_on_every_instruction_set_and_thread_count(command, more):
    args = ["train", "--epochs", "2", "--batch-size", "700", *more]  # 700 * 64 numbers and more: two threads
    found = {}
    for name in isa.available():
        for threads in (1, 2):
            with isa.use(name):
                found[name, threads] = figures(*command(*args, "--threads", threads))
    assert len({row["SHA-256 of the weights"] for row in found.values()}) == 1
    for (name, threads), row in found.items():
        assert f"({name}, {threads} threads" in row["optimizer step, pyopt"]
        assert row["weights of both"] == "identical bits"
    other = figures(*command(*args, "--seed", 1))
    assert other["SHA-256 of the weights"] != found[name, threads]["SHA-256 of the weights"]


def finished(**settings):
    """Return a run that has been trained."""
    run = Run(Settings(**settings))
    for _ in run.epochs():
        pass
    return run


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("model", "data", "enough"),
    [
        ("linear", "digits", 0.95),
        ("linear", "diabetes", 0.4),
        ("linear", "breast_cancer", 0.95),
        ("mlp", "digits", 0.95),
    ],
)
def test_every_optimizer_learns_with_its_default_rate(optimizer, model, data, enough):
    run = finished(optimizer=optimizer, model=model, data=data)
    (course,) = run.courses
    assert len(course.train_loss) == len(course.held_loss) == len(course.held_score) == 30
    assert run.race().identical
    assert run.score() == pytest.approx(course.held_score[-1])
    assert run.score() >= enough


def test_stochastic_and_full_batches():
    assert finished(data="diabetes", optimizer="sgd", lr=1e-3, batch_size="1", epochs=3).score() > 0.4
    assert finished(data="diabetes", batch_size="full", epochs=300).score() > 0.4


@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_every_setting_changes_the_weights(model):
    """None is ignored."""
    base = dict(epochs=2, data="digits", model=model)
    more = [dict(optimizer="sgd"), dict(lr=0.5), dict(schedule="cosine"), dict(set_=("betas=0.8,0.9",)),
            dict(penalty=("l2:1e-2",)), dict(prox="l1:1e-2"), dict(epochs=3), dict(batch_size="64"),
            dict(early_stopping=True), dict(ensemble=2), dict(seed=3), dict(cv=3)]  # fmt: skip
    if model == "mlp":
        more += [dict(hidden="50,40"), dict(dropout=0.3), dict(batch_norm=True), dict(augment=("flip=0.5",)),
                 dict(augment=("mixup=1",))]  # fmt: skip
    hashes = [finished(**base).sha256, *(finished(**{**base, **each}).sha256 for each in more)]
    assert len(set(hashes)) == len(hashes)


def test_prox_makes_zeros():
    run = finished(prox="l1:0.02")
    assert 0.05 < np.mean(run.courses[0].estimator.coef_ == 0) < 0.95
    assert run.penalty() > 0
    assert (finished(data="diabetes", prox="non_negative").courses[0].estimator.coef_ >= 0).all()


def test_early_stopping_keeps_the_epoch_with_the_least_loss_watched():
    settings = dict(model="mlp", hidden="200", lr=0.01, epochs=60, patience=3, data="breast_cancer")
    run = finished(**settings, early_stopping=True)
    (course,) = run.courses
    assert course.epoch == course.kept + 1 + 3 < 60
    same = finished(**{**settings, "epochs": course.kept + 1, "patience": 10})
    assert same.courses[0].held_score != course.held_score[: course.kept + 1], "no row was left out to be watched"
    again = Run(Settings(**settings, early_stopping=True))
    for step in again.epochs():
        if step.epoch == course.kept + 1:
            break
    assert again.sha256 == run.sha256
    assert run.score() == pytest.approx(course.held_score[course.kept])


def test_cross_validation_and_ensembles(command):
    found = figures(*command("train", "--cv", 3, "--epochs", 4))
    each = [float(x) for x in found["accuracy, 3 folds"].split()]
    assert len(each) == 3
    assert min(each) > 0.9
    mean, _, spread = found["accuracy, mean"].split()
    assert float(mean) == pytest.approx(np.mean(each), abs=1e-4)
    assert float(spread) == pytest.approx(np.std(each), abs=2e-4)
    run = Run(Settings(cv=3))
    assert sorted(np.concatenate([held for _, held in run.splits]).tolist()) == list(range(1797))
    assert all(not set(train) & set(held) for train, held in run.splits)
    args = ["--data", "diabetes", "--ensemble", "3", "--model", "mlp", "--epochs", "4"]
    found = figures(*command("train", *args))
    assert len(set(found["R^2, members"].split())) == 3
    run = finished(data="diabetes", ensemble=3, model="mlp", epochs=4)
    x, _ = run.part(0).held
    mean = np.mean([course.estimator.predict(x) for course in run.courses], axis=0)
    assert run.model().outputs(x)[:, 0] == pytest.approx(mean, abs=1e-5)
    assert float(found["R^2, held out"]) == pytest.approx(run.score(), abs=1e-4)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data", "iris"], ["iris", "digits, breast_cancer, diabetes"]),
        (["--data", "none.csv", "--target", "y"], ["none.csv", "No such file"]),
        (["--target", "y"], ["target='y'"]),
        (["--task", "guess"], ["'guess'", "auto, classification, regression"]),
        (["--model", "tree"], ["'tree'", "linear, mlp"]),
        (["--optimizer", "adan"], ["adan", "sgd", "lion"]),
        (["--lr", "fast"], ["--lr"]),
        (["--lr", "nan"], ["lr=nan", ">= 0"]),
        (["--lr", "-1"], ["lr=-1.0", ">= 0"]),
        (["--penalty", "l3:1"], ["l3", "elastic_net, group_lasso"]),
        (["--penalty", "box:0,1"], ["box", "elastic_net, group_lasso"]),
        (["--penalty", "l1"], ["0 coefficients", "l1:alpha"]),
        (["--penalty", "l1:x"], ["'x' is not a number"]),
        (["--penalty", "l1:1,2"], ["2 coefficients", "l1:alpha"]),
        (["--penalty", "elastic_net:1,2"], ["l1_ratio", "[0, 1]"]),
        (["--penalty", "l2:nan"], ["alpha=nan"]),
        (["--prox", "l3:1"], ["prox='l3'", "box"]),
        (["--prox", "non_negative:1"], ["1 coefficients", "must be non_negative"]),
        (["--prox", "mcp:1,2", "--lr", "10", "--optimizer", "sgd"], ["MCP", "step of 10.0"]),
        (["--set", "momentum=0.9"], ["momentum=0.9", "betas"]),
        (["--set", "betas=0.9"], ["betas", "two numbers"]),
        (["--set", "lr=1"], ["lr=1", "name=value"]),
        (["--schedule", "fast"], ["'fast'", "cosine, linear", "Cosine(lr, steps)"]),
        (["--schedule", "Cosine(lr)"], ["T_max"]),
        (["--batch-size", "0"], ["'0'", "[1, 1438]"]),
        (["--batch-size", "1439"], ["1439", "[1, 1438]"]),
        (["--batch-size", "some"], ["some", "full"]),
        (["--epochs", "0"], ["--epochs"]),
        (["--seed", "-1"], ["--seed"]),
        (["--threads", "0"], ["--threads"]),
        (["--cv", "1"], ["cv=1", ">= 2"]),
        (["--cv", "1000"], ["cv=1000"]),
        (["--cv", "3", "--save", "m.npz"], ["--save", "--cv"]),
        (["--ensemble", "0"], ["--ensemble"]),
        (["--patience", "3"], ["--patience", "--early-stopping"]),
        (["--dropout", "0.5"], ["--dropout", "--model mlp"]),
        (["--batch-norm"], ["--batch-norm", "--model mlp"]),
        (["--augment", "flip=1"], ["--augment", "--model mlp"]),
        (["--hidden", "5"], ["--hidden", "--model mlp"]),
        (["--model", "mlp", "--dropout", "1"], ["dropout=1.0", "[0, 1)"]),
        (["--model", "mlp", "--hidden", "5,0"], ["'5,0'", ">= 1"]),
        (["--model", "mlp", "--batch-norm", "--batch-size", "1"], ["batch_size=1", "batch norm"]),
        (["--model", "mlp", "--augment", "turn=3"], ["'turn=3'", "rotate"]),
        (["--model", "mlp", "--augment", "rotate=300"], ["rotate=300", "[0, 180]"]),
        (["--model", "mlp", "--augment", "flip=1", "--data", "breast_cancer"], ["--augment", "--image-shape"]),
        (["--model", "mlp", "--augment", "mixup=1", "--data", "diabetes"], ["mixup", "classification"]),
        (["--image-shape", "8,x"], ["'8,x'"]),
        (["--plot", "no/such/folder.png"], ["folder.png", "No such file"]),
        (["--plot", "curves.jpg"], ["curves.jpg", ".png"]),
        (["--save", "model.pkl"], ["model.pkl", "must end in .npz"]),
        (["--save", "model.skops"], ["model.skops", "older versions"]),
        (["--checkpoint", "c.pkl"], ["c.pkl", ".npz"]),
        (["--resume", "c.npz"], ["c.npz", "No such file"]),
        (["--data", "diabetes", "--optimizer", "sgd", "--lr", "100"], ["the loss is", "smaller learning rate"]),
        (["--colour"], ["--colour"]),
    ],
)
def test_bad_options_are_one_line(command, tmp_path, args, words):
    code, out, err = command("train", *args)
    assert (code, out) == (2, "")
    assert err.startswith("pyopt: ")
    assert err.count("\n") == 1
    assert [word for word in words if word not in err] == []
    assert list(tmp_path.iterdir()) == []


def test_a_bad_option_in_a_process(tmp_path):
    done = call(tmp_path, "train", "--data", "iris")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "Traceback" not in done.stderr


def test_an_output_that_exists_is_left_alone_by_a_refused_run(command, tmp_path):
    (tmp_path / "curves.png").write_bytes(b"before")
    assert command("train", "--lr", "nan")[0] == 2
    assert (tmp_path / "curves.png").read_bytes() == b"before"


def test_config(tmp_path):
    done = call(tmp_path, "config", PYOPT_ISA="baseline")
    assert done.returncode == 0
    assert re.search(r"instruction set +baseline", done.stdout)


@pytest.mark.parametrize("missing", ["typer", "rich", "sklearn", "matplotlib"])
def test_a_missing_extra_is_one_line(tmp_path, missing):
    without = f"import sys; sys.modules[{missing!r}] = None"
    command = [sys.executable, "-c", f"{without}; from pyopt.cli import main; main(['train', '--epochs', '1'])"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"pyopt: {missing} is missing: pip install 'pyopt-kernels[demo]'\n"
