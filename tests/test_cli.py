"""The command line in processes of its own: results, one line for every error, the same bits everywhere."""

import os
import re
import subprocess
import sys

import pytest

import pyopt
from pyopt.kernels import isa

for extra in ("matplotlib", "rich", "sklearn", "typer"):
    pytest.importorskip(extra)

from pyopt import train  # noqa: E402


def call(folder, *args, **environment):
    """Run ``pyopt`` in ``folder`` and return what became of it."""
    command = [sys.executable, "-m", "pyopt.cli", *args]
    env = {**os.environ, "COLUMNS": "160", **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def figures(done):
    """Return the rows of the table that a run prints."""
    assert (done.returncode, done.stderr) == (0, "")
    rows = (re.split(r"\s*│\s*", line)[1:3] for line in done.stdout.splitlines() if line.startswith("│"))
    return dict(rows)


def test_digits_with_defaults(tmp_path):
    done = call(tmp_path, "train")
    found = figures(done)
    assert "digits: multinomial logistic regression by adam" in done.stdout
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


def test_diabetes_with_penalties_and_full_batches(tmp_path):
    text = "--data diabetes --optimizer momentum --set momentum=0.8 --set nesterov=true --lr 0.01"
    args = f"{text} --batch-size full --epochs 200 --output d.png".split()
    plain = figures(call(tmp_path, "train", *args))
    ridge = figures(call(tmp_path, "train", *args, "--penalty", "l2:0.05", "--penalty", "elastic_net:0.02,0.5"))
    assert float(plain["R^2, held out"]) > 0.4
    assert plain["penalty"] == "0"
    assert float(ridge["penalty"]) > 0
    assert float(ridge["loss, training rows"]) > float(plain["loss, training rows"])
    assert (tmp_path / "d.png").stat().st_size > 10_000


def test_the_same_weights_on_every_instruction_set_and_thread_count(tmp_path):
    args = ["train", "--epochs", "2", "--batch-size", "700", "--penalty", "l1:1e-4"]  # 700 * 64 pixels: two threads
    found = {}
    for name in isa.available():
        for threads in ("1", "2"):
            found[name, threads] = figures(call(tmp_path, *args, PYOPT_ISA=name, OMP_NUM_THREADS=threads))
    assert len({row["SHA-256 of the weights"] for row in found.values()}) == 1
    for (name, threads), row in found.items():
        assert f"({name}, {threads} threads" in row["optimizer step, pyopt"]
    other = figures(call(tmp_path, *args, "--seed", "1", "--threads", "2"))
    assert other["SHA-256 of the weights"] != found[name, threads]["SHA-256 of the weights"]


@pytest.mark.parametrize("optimizer", train.OPTIMIZERS)
@pytest.mark.parametrize(("data", "enough"), [("digits", 0.95), ("diabetes", 0.4)])
def test_every_optimizer_learns_with_its_default_rate(optimizer, data, enough):
    assert set(train.RATES[data]) == set(train.OPTIMIZERS)
    *_, result = train.fit(train.load(data, 0), optimizer, {"lr": train.RATES[data][optimizer]}, epochs=30)
    assert len(result.train_loss) == len(result.held_loss) == len(result.held_score) == 30
    assert result.identical
    assert result.held_score[-1] >= enough


def test_stochastic_steps():
    rows = train.load("diabetes", 0)
    *_, result = train.fit(rows, "sgd", {"lr": 1e-3}, epochs=3, batch_size=1)
    assert result.identical
    assert result.held_score[-1] > 0.4


def test_data_is_split_by_seed():
    first, again, other = (train.load("digits", seed) for seed in (0, 0, 1))
    assert (first.x.shape, first.held_x.shape) == ((1438, 64), (359, 64))
    assert first.x.tobytes() == again.x.tobytes()
    assert first.x.tobytes() != other.x.tobytes()
    rows = train.load("diabetes", 0)
    assert abs(rows.x.mean(axis=0)).max() < 1e-6
    assert abs(rows.x.std(axis=0) - 1).max() < 1e-5


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data", "iris"], ["iris", "digits, diabetes"]),
        (["--optimizer", "adan"], ["adan", "sgd", "lion"]),
        (["--lr", "fast"], ["--lr"]),
        (["--lr", "nan"], ["lr=nan", ">= 0"]),
        (["--lr", "-1"], ["lr=-1.0", ">= 0"]),
        (["--penalty", "l3:1"], ["l3", "elastic_net, group_lasso"]),
        (["--penalty", "l1"], ["coefficient", "l1:1e-4"]),
        (["--penalty", "l1:x"], ["'x' is not a number"]),
        (["--penalty", "l1:1,2"], ["2 coefficients", "l1"]),
        (["--penalty", "elastic_net:1,2"], ["l1_ratio", "[0, 1]"]),
        (["--penalty", "l2:nan"], ["alpha=nan"]),
        (["--set", "momentum=0.9"], ["momentum=0.9", "betas"]),
        (["--set", "betas=0.9"], ["betas", "two numbers"]),
        (["--set", "lr=1"], ["lr=1", "name=value"]),
        (["--batch-size", "0"], ["'0'", "[1, 1438]"]),
        (["--batch-size", "1439"], ["1439", "[1, 1438]"]),
        (["--batch-size", "some"], ["some", "full"]),
        (["--epochs", "0"], ["--epochs"]),
        (["--seed", "-1"], ["--seed"]),
        (["--threads", "0"], ["--threads"]),
        (["--output", "no/such/folder.png"], ["folder.png", "No such file"]),
        (["--output", "curves.jpg"], ["curves.jpg", ".png"]),
        (["--colour"], ["--colour"]),
    ],
)
def test_bad_options_are_one_line(tmp_path, monkeypatch, capsys, args, words):
    from pyopt import cli

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", *args])
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out == ""
    assert err.startswith("pyopt: ")
    assert err.count("\n") == 1
    assert [word for word in words if word not in err] == []
    assert list(tmp_path.iterdir()) == []


def test_a_bad_option_in_a_process(tmp_path):
    done = call(tmp_path, "train", "--data", "iris")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "Traceback" not in done.stderr


def test_an_output_that_exists_is_left_alone_by_a_refused_run(tmp_path):
    (tmp_path / "curves.png").write_bytes(b"before")
    assert call(tmp_path, "train", "--lr", "nan").returncode == 2
    assert (tmp_path / "curves.png").read_bytes() == b"before"


def test_divergence_is_said(tmp_path):
    done = call(tmp_path, "train", "--data", "diabetes", "--optimizer", "sgd", "--lr", "100", "--epochs", "5")
    assert done.returncode == 0
    assert "smaller --lr" in done.stderr


def test_config(tmp_path):
    done = call(tmp_path, "config", PYOPT_ISA="baseline")
    assert done.returncode == 0
    assert re.search(r"instruction set +baseline", done.stdout)


@pytest.mark.parametrize("missing", ["typer", "rich", "sklearn", "matplotlib"])
def test_a_missing_extra_is_one_line(tmp_path, missing):
    code = f"import sys; sys.modules[{missing!r}] = None; from pyopt.cli import main; main(['train', '--epochs', '1'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"pyopt: {missing} is missing: pip install 'pyopt-kernels[demo]'\n"


def test_import_brings_none_of_the_extras(tmp_path):
    code = "import sys, pyopt; print({'typer', 'rich', 'sklearn', 'matplotlib', 'torch', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert pyopt.__name__ == "pyopt"
