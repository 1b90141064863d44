"""Disks that are full, signals, and names that terminals obey: one line each, and nothing is lost."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

for extra in ("matplotlib", "rich", "sklearn", "typer"):
    pytest.importorskip(extra)

from pyopt.cli import checkpoint, files, model, training  # noqa: E402
from support.cli_runs import parts, refused, rewritten, trained  # noqa: E402

# ---- disks that are full


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def written(path, text, then=lambda: None):
    with files.replaced("x", path) as file:
        file.write(text)
        then()


def interrupted():
    raise KeyboardInterrupt


def test_a_file_is_whole_or_what_it_was(tmp_path, monkeypatch):
    path, link = tmp_path / "a.npz", tmp_path / "link.npz"
    path.write_bytes(b"before")
    path.chmod(0o640)
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(ValueError, match=r"x='.*npz' cannot be written: No space"):
            written(name, b"half", full)
        with pytest.raises(KeyboardInterrupt):
            written(name, b"half", interrupted)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(ValueError, match="No space"):
                written(name, b"all of it, which does not reach the disk")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.npz", "link.npz"]
    assert path.read_bytes() == b"before"
    written(link, b"one", lambda: written(path, b"other"))  # two runs in one folder
    assert path.read_bytes() == b"one"
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert len(list(tmp_path.iterdir())) == 2


def test_a_device_stays_one(tmp_path):
    link = tmp_path / "full.csv"
    link.symlink_to("/dev/full")
    files.check("x", link, (".csv",))
    with pytest.raises(ValueError, match="cannot be written: No space"):
        written(link, b"text")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_every_command_on_a_full_disk(command, tmp_path, monkeypatch):
    assert command("train", "--epochs", 1, "--save", "m.npz")[0] == 0
    for name in ("m.npz", "p.csv", "s.svg", "p.png"):
        (tmp_path / name).touch()
    model.save(trained().model(), tmp_path / "good.npz")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls = [0]

    def after(number):
        def sync(file):
            calls[0] += 1
            if calls[0] > number:
                full()

        return sync  # fmt: skip

    monkeypatch.setattr(os, "fsync", after(0))
    refused(command("train", "--epochs", 1, "--save", "m.npz"), "save='m.npz'", "No space")
    refused(command("train", "--epochs", 1, "--plot", "p.png"), "plot='p.png'", "No space")
    refused(command("predict", "good.npz", "digits", "--output", "p.csv"), "output='p.csv'", "No space")
    refused(command("plot-schedule", "Cosine(1, 9)", "--output", "s.svg"), "output='s.svg'", "No space")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    calls[0] = 0
    monkeypatch.setattr(os, "fsync", after(2))  # the model's file and its folder
    refused(command("train", "--epochs", 1, "--save", "m.npz", "--plot", "p.png"), "plot='p.png'", "No space")
    assert len(model.load("m.npz").members) == 1
    assert (tmp_path / "p.png").read_bytes() == b""


def test_results_do_not_replace_the_data(command, tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(30.0), y=np.arange(30.0) ** 2)
    for option in ("--save", "--checkpoint"):
        refused(command("train", "--data", "a.npz", "--target", "y", option, "./a.npz"), "a.npz", "this is the data")


def test_limits_of_the_system(tmp_path):
    """The disk itself refuses, not a stand-in for it."""
    pyopt = f'"{sys.executable}" -m pyopt.cli'
    model.save(trained().model(), tmp_path / "old.npz")
    before = (tmp_path / "old.npz").read_bytes()
    for line, said in (
        (f"ulimit -f 1; {pyopt} train --epochs 1 --save old.npz", "save='old.npz' cannot be written: File too large"),
        (f"{pyopt} predict old.npz digits > /dev/full", "the output cannot be written: No space left on device"),
    ):
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (2, f"pyopt: {said}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["old.npz"]
    assert (tmp_path / "old.npz").read_bytes() == before


# ---- signals


@pytest.fixture
def signalled(command, monkeypatch):
    """Yield a function like ``command``, in which a signal comes during an epoch, and ``meanwhile`` is called."""
    advance = training.Course.advance

    def run(number, *args, epoch=2, meanwhile=lambda: None):
        def interrupted(course, *given):
            advance(course, *given)
            if course.epoch == epoch:
                meanwhile()
                for _ in range(1 if number == signal.SIGINT else 2):  # two, as where a terminal is closed
                    os.kill(os.getpid(), number)

        with monkeypatch.context() as patched:
            patched.setattr(training.Course, "advance", interrupted)
            return command("train", *args)

    every = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(each, signal.default_int_handler) for each in every]  # the tests may run with some ignored
    yield run
    for each, handler in zip(every, before, strict=True):
        signal.signal(each, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_saves_and_the_hint_gives_what_was_asked_for(command, signalled, tmp_path, number):
    args = ["--epochs", 5, "--schedule", "cosine"]
    asked = ["--save", "my model.npz", "--plot", "p.png"]
    code, out, err = signalled(number, *args, *asked)
    assert (code, out) == (128 + number, "")
    hint = "pyopt train --resume checkpoint.npz --plot p.png --save 'my model.npz'"
    assert err.splitlines()[-1] == f"pyopt: stopped; go on with: {hint}"
    code, _, err = signalled(number, "--resume", "checkpoint.npz", epoch=4)  # the same file, and one only
    assert (code, err.splitlines()[-1]) == (128 + number, f"pyopt: stopped; go on with: {hint}")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.npz"]
    assert checkpoint.load(tmp_path / "checkpoint.npz")[0].courses[0].epoch == 4
    assert command("train", "--resume", "checkpoint.npz")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my model.npz", "p.png"]
    assert command("train", *args, "--save", "whole.npz")[0] == 0
    assert (tmp_path / "whole.npz").read_bytes() == (tmp_path / "my model.npz").read_bytes()


def test_what_resume_is_given_goes_before_what_was_asked_for(command, signalled, tmp_path):
    assert signalled(signal.SIGINT, "--epochs", 4, "--save", "a.npz", "--checkpoint", "k.npz")[0] == 130
    _, _, err = signalled(signal.SIGINT, "--resume", "k.npz", "--save", "b.npz", epoch=3)
    assert err.splitlines()[-1].endswith("pyopt train --resume k.npz --save b.npz")
    assert command("train", "--resume", "k.npz")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.npz", "curves.png"]


def test_a_signal_when_the_folder_is_gone(signalled, tmp_path):
    (tmp_path / "gone").mkdir()
    done = signalled(signal.SIGINT, "--checkpoint", "gone/c.npz", meanwhile=(tmp_path / "gone").rmdir)
    assert done[:2] == (2, "")
    assert done[2].splitlines()[-1] == "pyopt: checkpoint='gone/c.npz' cannot be written: No such file or directory"


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    text = "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); from pyopt.cli import training, main; "
    text += "advance = training.Course.advance; training.Course.advance = lambda *given: (advance(*given), "
    text += "signal.raise_signal(signal.SIGHUP)); main(['train', '--epochs', '2'])"
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ---- names that terminals obey


ODD = "[red]a :star: $x_$ \x1b[31m\x07\u202e"


def test_names_are_shown_and_not_obeyed(command, tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{a},{b},{'[/b]up' if a > b else ODD}" for a, b in rng.normal(size=(60, 2))]
    names = {ending: f"{ODD}{ending}" for ending in (".csv", ".npz", ".png", ".svg")}
    (tmp_path / names[".csv"]).write_text(f"{ODD},b,way\n" + "\n".join(rows), encoding="utf-8")
    said = ODD.replace("\x1b", r"\x1b").replace("\x07", r"\x07").replace("\u202e", r"\u202e")
    args = ["--data", names[".csv"], "--target", "way", "--epochs", 3, "--checkpoint", "c.npz"]
    code, out, err = command("train", *args, "--save", names[".npz"], "--plot", names[".png"])
    assert (code, err) == (0, "")
    assert all(c.isprintable() or c == "\n" for c in out)
    assert [name for ending in (".csv", ".npz", ".png") if (name := f"{said}{ending}") not in out] == []
    outputs = [
        command("predict", names[".npz"], names[".csv"]),
        command("predict", names[".npz"], names[".csv"], "--output", names[".csv"]),
        command("predict", names[".npz"], "digits"),
        command("plot-schedule", "Cosine(1, 9)", "--output", names[".svg"]),
        command("train", *args[:2], "--target", ODD),
        command("train", "--optimizer", ODD),
        command("train", f"--{ODD}"),
    ]
    assert set(outputs[0][1].splitlines()) == {"[/b]up", said}
    assert [code for code, _, _ in outputs] == [0, 0, 2, 0, 2, 2, 2]
    for _, out, err in outputs:
        assert all(c.isprintable() or c == "\n" for c in out + err), (out, err)
        assert r"\x1b[31m" in out + err


def test_predictions_in_a_file_are_as_they_were_read(tmp_path, command):
    model.save(trained(data="breast_cancer").model(), tmp_path / "m.npz")
    header, arrays = parts(tmp_path / "m.npz")
    rewritten(tmp_path / "m.npz", header, {**arrays, "classes": np.array(["\x1b[31m", "\x1b[32m"])})
    assert command("predict", "m.npz", "breast_cancer", "--output", "p.csv")[0] == 0
    assert set((tmp_path / "p.csv").read_text().splitlines()[1:]) == {"\x1b[31m", "\x1b[32m"}
