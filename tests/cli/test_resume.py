"""Ctrl-C in a terminal, what it saves, and going on to the same bits; what people see in terminals and pipes."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

for extra in ("matplotlib", "rich", "sklearn", "typer"):
    pytest.importorskip(extra)
pty = pytest.importorskip("pty")

from pyopt.cli import checkpoint, main  # noqa: E402
from pyopt.cli.model import load  # noqa: E402
from pyopt.cli.training import Run, Settings  # noqa: E402

PYOPT = [sys.executable, "-m", "pyopt.cli"]
OUTPUTS = {"save": None, "plot": "curves.png"}


COUNTED = rb" [1-9]\d*/\d+"  # an epoch


def terminal(folder, *args, columns=80, press_at=()):
    """Run ``pyopt`` in a terminal, press Ctrl-C as each pattern is seen in turn, and return exit code and output."""
    child, master = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ.update(COLUMNS=str(columns), TERM="xterm")
        for each in (signal.SIGHUP, signal.SIGINT):  # which whatever runs the tests may ignore, and so all its children
            signal.signal(each, signal.SIG_DFL)
        os.execv(sys.executable, [*PYOPT, *args])
    seen, until, press_at, status = b"", time.monotonic() + 600, list(press_at), None
    try:
        while time.monotonic() < until:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    part = os.read(master, 65536)
                except OSError:  # Linux says so that the other side is closed
                    break
                if not part:
                    break
                seen += part
            if press_at and re.search(press_at[0], seen):
                os.write(master, b"\x03")  # a real one: the terminal makes SIGINT of it
                del press_at[0]
        else:
            pytest.fail(f"still running: {seen.decode()}")
        status = os.waitpid(child, 0)[1]
    finally:
        if status is None:  # whatever ended the test ends the child too
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(master)
    return os.waitstatus_to_exitcode(status), re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode())


def pipe(folder, *args):
    return subprocess.run([*PYOPT, *args], cwd=folder, capture_output=True, text=True, timeout=600, check=False)


def sha(text):
    return re.search(r"SHA-256 of the weights\s*│ ([0-9a-f]{16})", text)[1]


def test_ctrl_c_saves_what_resume_continues_to_the_same_bits(command, tmp_path):
    args = ["train", "--model", "mlp", "--epochs", "12", "--batch-size", "8", "--dropout", "0.1"]
    args += ["--schedule", "cosine"]
    code, seen = terminal(tmp_path, *args, press_at=[COUNTED])
    assert code == 130
    assert "stopping after this epoch" in seen
    assert "pyopt: stopped; go on with: pyopt train --resume checkpoint.npz" in seen
    assert "Traceback" not in seen
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.npz"]
    assert 1 <= checkpoint.load(tmp_path / "checkpoint.npz")[0].courses[0].epoch < 12
    code, resumed, err = command("train", "--resume", "checkpoint.npz")
    assert (code, err) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    assert sha(resumed) == sha(command(*args)[1])


def test_a_finished_run_removes_the_checkpoint_that_it_went_on_from_and_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run(Settings(epochs=2))
    next(run.epochs())
    for name in ("mine.npz", "other.npz", "both.npz"):
        checkpoint.save(run, Path(name), OUTPUTS)

    def code(*args):
        with pytest.raises(SystemExit) as left:
            main(["train", "--resume", *args])
        return left.value.code

    assert code("mine.npz", "--checkpoint", "other.npz") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both.npz", "curves.png", "other.npz"]
    assert code("both.npz", "--save", "both.npz") == 0
    assert len(load("both.npz").members) == 1
    assert code("other.npz", "--plot", "nowhere/curves.png") == 2
    assert Path("other.npz").exists()


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    args = ["train", "--model", "mlp", "--hidden", "3000,3000", "--epochs", "40", "--optimizer", "sgd"]  # long epochs
    code, seen = terminal(tmp_path, *args, press_at=[b" 0/40", b"stopping after"])
    assert code == 130
    assert "stopping after this epoch" in seen
    assert "go on with" not in seen
    assert "Traceback" not in seen
    assert list(tmp_path.iterdir()) == []


RUNS = [
    dict(optimizer="adam", penalty=("l2:1e-3",), early_stopping=True, patience=2, epochs=30),
    dict(
        model="mlp", hidden="20", batch_norm=True, augment=("mixup=0.5",), cv=2, ensemble=2, optimizer="lion", epochs=3
    ),
    dict(data="diabetes", optimizer="sgd", batch_size="1", prox="l1:1e-3", schedule="step", epochs=4),
    dict(data="breast_cancer", optimizer="momentum", set_=("nesterov=true",), early_stopping=True, epochs=5),
]


@pytest.mark.parametrize("settings", RUNS, ids=lambda settings: settings["optimizer"])
def test_resumed_after_any_epoch(tmp_path, settings):
    whole = Run(Settings(**settings))
    total = sum(1 for _ in whole.epochs())
    for cut in sorted({1, 2, total // 2, total - 1}):
        run = Run(Settings(**settings))
        for _ in zip(range(cut), run.epochs(), strict=False):
            pass
        checkpoint.save(run, tmp_path / "c.npz", OUTPUTS)
        other, outputs = checkpoint.load(tmp_path / "c.npz")
        assert outputs == OUTPUTS
        assert sum(1 for _ in other.epochs()) == total - cut
        assert other.sha256 == whole.sha256
        for mine, theirs in zip(other.courses, whole.courses, strict=True):
            assert mine.held_loss == theirs.held_loss
            assert mine.kept == theirs.kept
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


def test_resume_goes_on_as_it_began_or_not_at_all(command, tmp_path):
    (tmp_path / "a.csv").write_text("a,b,y\n" + "\n".join(f"{i % 7},{i % 5},{i}" for i in range(30)))
    run = Run(Settings(data=str(tmp_path / "a.csv"), target="y", epochs=4))
    next(iter(run.epochs()))
    checkpoint.save(run, tmp_path / "c.npz", OUTPUTS)
    for args, words in (
        (["--epochs", "5"], ["--epochs 5", "has 4"]),
        (["--penalty", "l1:1"], ["--penalty", "has ()"]),
        (["--optimizer", "sgd"], ["--optimizer sgd", "has adam"]),
    ):
        code, _, err = command("train", "--resume", "c.npz", *args)
        assert (code, err.count("\n")) == (2, 1)
        assert [word for word in words if word not in err] == []
    assert command("train", "--resume", "c.npz", "--epochs", 4, "--plot", "p.png")[0] == 0
    assert (tmp_path / "p.png").exists()
    checkpoint.save(run, tmp_path / "c.npz", OUTPUTS)  # which the finished run has removed
    with (tmp_path / "a.csv").open("a") as file:
        file.write("\n1,2,3")
    code, _, err = command("train", "--resume", "c.npz")
    assert code == 2
    assert "a.csv is not what it was" in err


@pytest.mark.parametrize("columns", [40, 100])
def test_progress_on_a_terminal(tmp_path, columns):
    code, seen = terminal(tmp_path, "train", "--epochs", "60", "--optimizer", "lion", columns=columns)
    assert code == 0
    assert re.search(r"lion .* ?\d+/60 .*accuracy 0\.\d{3}", seen)
    assert ("━" in seen) == (columns == 100)
    table = seen[seen.index("┌") :]
    assert max(map(len, table.splitlines())) <= columns


def test_no_progress_in_a_pipe(tmp_path):
    done = pipe(tmp_path, "train", "--epochs", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout


def test_a_reader_that_goes_away(command, tmp_path):
    assert command("train", "--epochs", 1, "--save", "m.npz")[0] == 0
    command = f'"{sys.executable}" -m pyopt.cli predict m.npz digits | true'
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
