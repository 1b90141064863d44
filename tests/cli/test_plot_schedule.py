"""``pyopt plot-schedule``: what it reads, what it draws, and one line for every error."""

import re

import pytest

for extra in ("matplotlib", "rich", "sklearn", "typer"):
    pytest.importorskip(extra)

from rich.console import Console  # noqa: E402

from pyopt import cli  # noqa: E402
from pyopt import schedules as s  # noqa: E402
from pyopt.cli import plot_schedule, schedule_text  # noqa: E402


def command(capsys, monkeypatch, *args, columns=80, colour=False):
    """Run the command and return its exit code and output."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    if colour:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(SystemExit) as stop:
        cli.main(["plot-schedule", *args])
    return stop.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Cosine(1e-3, 1000)", s.Cosine(1e-3, 1000)),
        (" Cosine( T_max=1_000, lr=+0.5 ) ", s.Cosine(0.5, 1000)),
        ("Step(0.1, 3, gamma=0.5)", s.Step(0.1, 3, 0.5)),
        ("MultiStep(0.1, [1, 5])", s.MultiStep(0.1, [1, 5])),
        ("MultiStep(0.1, (1, 5))", s.MultiStep(0.1, [1, 5])),
        ("OneCycle(1, 9, 0.2, 'linear', three_phase=True)", s.OneCycle(1, 9, 0.2, "linear", three_phase=True)),
        ("Cosine((1 + 0.5 - 1) / 2, 2 * 10 // 3)", s.Cosine(0.25, 6)),
        ("OneCycle(0.1, 9).momentum", s.OneCycle(0.1, 9).momentum),
        ("Cyclic(0.1, 0.2, 5, None).momentum", s.Cyclic(0.1, 0.2, 5).momentum),
        ("LinearWarmup(LinearWarmup(Cosine(1, 5), 3), 2)", s.LinearWarmup(s.LinearWarmup(s.Cosine(1, 5), 3), 2)),
        ("Join([0.5, Step(1, 3), Cosine(1, 2)], [3, 5])", s.Join([0.5, s.Step(1, 3), s.Cosine(1, 2)], [3, 5])),
    ],
)  # fmt: skip
def test_what_is_read(text, want):
    found, usual = schedule_text.parse(text)
    assert found == want
    assert schedule_text.parse(usual) == (want, usual)


def test_short_names_and_formulas():
    for name in schedule_text.SHORT:
        curve = schedule_text.Scheduled(name)(0.5, 90)
        values = [curve(t) for t in range(90)]
        assert 0.4 < max(values) <= 0.5, name
        assert values[89] <= 0.11 * max(values), name
        assert schedule_text.Scheduled(name)(0.5, 1)(0) >= 0, name
    assert schedule_text.Scheduled("Step(2 * lr, steps // 3)")(0.25, 10) == s.Step(0.5, 3)


def test_every_schedule_can_be_drawn():
    names = {name for name in s.__all__ if name not in ("Schedule", "MomentumOf", "ReduceOnPlateau")}
    assert set(schedule_text.KINDS) == names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Cosine(1e-3)", ["Cosine(0.001)", "'T_max'", "Cosine(lr, T_max, eta_min=0.0)"]),
        ("Cosine(1e-3, 10, 0, 0)", ["too many", "Cosine(lr, T_max, eta_min=0.0)"]),
        ("Cosine(1e-3, 10, min=1)", ["'min'", "eta_min"]),
        ("Cosine(1e-3, 0)", ["T_max=0", "integer >= 1"]),
        ("Cosine('1', 10)", ["lr='1'", "finite and >= 0"]),
        ("Cosine(1e-3, 10", ["cannot be read", "Cosine(1e-3, 1000)"]),
        ("", ["cannot be read"]),
        ("x = Cosine(1, 2)", ["cannot be read"]),
        ("(" * 5000, ["cannot be read"]),
        ("1" + " + 1" * 50_000, []),
        ("cosine(1, 2)", ["'cosine'", "Cosine, CosineRestarts"]),
        ("Schedule()", ["'Schedule'", "no schedule"]),
        ("ReduceOnPlateau(1)", ["'ReduceOnPlateau'", "no schedule"]),
        ("3", ["'3'", "no schedule"]),
        ("[Constant(1)]", ["no schedule"]),
        ("Constant", ["'Constant'", "not allowed"]),
        ("Constant(1).lr", ["'Constant(1).lr'", "not allowed"]),
        ("Constant(1).momentum", ["Constant(1).momentum", "OneCycle and Cyclic"]),
        ("Constant(1)(2)", ["'Constant(1)'", "no schedule"]),
        ("Constant(1 ** 3)", ["'1 ** 3'", "not allowed"]),
        ("Constant(1 // 0)", ["'1 // 0'", "divides by 0"]),
        ("Constant('a' * 3)", ["must be numbers"]),
        ("Constant(lr)", ["'lr'", "not allowed"]),
        ("MultiStep(1, [1] * 9)", ["[1] * 9", "must be numbers"]),
        ("Cosine(1, 9223372036854775807 * 9 * 9)", ["must be numbers"]),
        ("Constant(1j)", ["'1j'", "not allowed"]),
        ("Constant(-'a')", ["not allowed"]),
        ("Constant(not 1)", ["not allowed"]),
        ("Constant(*[1])", ["not allowed"]),
        ("Constant(**{'lr': 1})", ["**", "not allowed"]),
        ("Constant(open('x'))", ["'open'", "no schedule"]),
        ("__import__('os').system('touch x')", ["__import__('os').system", "no schedule"]),
        ("Constant(lr := 1)", ["not allowed"]),
        ("[Constant(1) for x in 'ab'][0]", ["not allowed"]),
        ("Cosine(1, 1" + "0" * 400 + ")", ["T_max=", "< 2**63"]),
        ("Constant(1e400)", ["lr=inf"]),
        ("Constant(-1)", ["lr=-1"]),
        ("Exponential(1, 2)", ["'Exponential(1, 2)' is inf at step 1024", "fewer steps"]),
    ],
)
def test_errors_are_one_line(capsys, monkeypatch, tmp_path, text, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(capsys, monkeypatch, "--steps", "2000", "--", "Constant(1)", text)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("pyopt: ")
    assert [word for word in words if word not in err] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ["schedules"]),
        (["Constant(1)", "--steps", "1"], ["--steps", "2"]),
        (["Constant(1)", "--steps", "x"], ["--steps"]),
        (["Constant(1)", "--output", "a.txt"], ["output='a.txt'", ".png or .svg or .pdf"]),
        (["Constant(1)", "--output", "no/such/a.png"], ["output='no/such/a.png'", "No such file"]),
    ],
)
def test_bad_options_are_one_line(capsys, monkeypatch, tmp_path, args, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(capsys, monkeypatch, *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert [word for word in words if word not in err] == []
    assert list(tmp_path.iterdir()) == []


def test_a_line_on_the_terminal(capsys, monkeypatch):
    code, out, err = command(capsys, monkeypatch, "Polynomial(0.5, 15)", "--steps", "16", columns=39)
    assert (code, err) == (0, "")
    rows = out.splitlines()
    assert rows[0] == "learning rate"
    assert [row.split()[0] for row in (rows[1], rows[9], rows[16])] == ["0.5", "0.25", "0"]
    drawn = [re.split("[│└]", row)[1] for row in rows[1:17]]
    filled = [{i for i, mark in enumerate(row) if mark != " "} for row in drawn]
    assert all(filled)
    assert [min(row) for row in filled] == sorted(min(row) for row in filled), "it does not fall from left to right"
    assert (min(filled[0]), max(filled[-1])) == (0, 31)
    assert set("".join(drawn)) <= set(plot_schedule.QUADRANTS)
    assert rows[18].split() == ["0", "15"]
    assert "Polynomial(0.5, 15): 0.5 to 0" in rows[19]


def test_a_value_holds_until_the_next_step(capsys, monkeypatch):
    """Where the columns are more than the steps."""
    _, out, _ = command(capsys, monkeypatch, "MultiStep(1, [5], 0.5)", "--steps", "10", columns=66)
    drawn = [re.split("[│└]", row)[1] for row in out.splitlines()[1:17]]
    assert drawn[0] == 33 * "▀"
    assert drawn[8] == 33 * " " + 27 * "▀"
    assert all(row == "" for row in drawn[1:8] + drawn[9:])


def test_a_jump_within_a_column_is_a_wall(capsys, monkeypatch):
    _, out, _ = command(capsys, monkeypatch, "MultiStep(1, [500], 0.5)", columns=66)
    drawn = [re.split("[│└]", row)[1] for row in out.splitlines()[1:17]]
    assert drawn[0] == 29 * "▀" + "▜"
    assert all(row == 29 * " " + "▐" for row in drawn[1:8])
    assert drawn[8] == 29 * " " + "▝" + 30 * "▀"
    assert all(row == "" for row in drawn[9:])


def test_a_cell_belongs_to_the_later_curve():
    curves = [plot_schedule.curve(text, 10) for text in ("Constant(1)", "Constant(0.66)")]
    found = plot_schedule._cells(curves, 3, 2, 0.0, 1.0)
    assert found == {(0, column): (4 + 8, 1) for column in range(3)}


def test_several_without_colours_have_marks(capsys, monkeypatch):
    texts = ["Constant(0.5)", "Constant(1.0)", "OneCycle(0.1, 99).momentum"]
    _, out, _ = command(capsys, monkeypatch, *texts, "--steps", "50")
    rows = out.splitlines()
    assert rows[0] == "learning rate"
    assert "o" * 70 in rows[1]
    assert sum("*" * 70 in row for row in rows) == 1
    assert [row for row in rows if "** Constant(0.5)" in row]
    assert [row for row in rows if "oo Constant(1.0)" in row]
    second = rows.index("momentum")
    assert [rows[second + k].split()[0] for k in (1, 16)] == ["0.95", "0.85"]
    assert "momentum: 0.95 to 0.8697" in rows[-1]


def test_colours(capsys, monkeypatch):
    _, out, _ = command(capsys, monkeypatch, "Constant(0.5)", "Constant(1.0)", colour=True)
    assert "\x1b[36m" in out
    assert "\x1b[35m" in out
    assert "*" not in out


def test_terminals_without_unicode(capsys):
    class Ascii(Console):
        @property
        def encoding(self):
            return "ascii"

    plot_schedule.draw([plot_schedule.curve("Cosine(1, 10)", 10)], Ascii(width=60))
    out = capsys.readouterr().out
    assert out.isascii()
    assert "*" in out
    assert "+----" in out


def test_many_steps_are_sampled_from_end_to_end():
    curve = plot_schedule.curve("Cosine(1, 1000000)", 10**9)
    assert len(curve.steps) == plot_schedule.POINTS
    assert (curve.steps[0], curve.steps[-1]) == (0, 10**9 - 1)
    assert plot_schedule.curve("Constant(0)", 2).values == [0.0, 0.0]


@pytest.mark.parametrize("text", ["Constant(0)", "Cyclic(0.1, 0.2, max_momentum=0.8).momentum"])
def test_flat_lines(capsys, monkeypatch, text):
    code, out, _ = command(capsys, monkeypatch, text)
    assert code == 0
    assert "▀" * 60 in out or "▄" * 60 in out


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF")])
def test_files(capsys, monkeypatch, tmp_path, name, start):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(capsys, monkeypatch, "OneCycle(0.1, 99)", "OneCycle(0.1, 99).momentum", "--output", name)
    assert (code, out, err) == (0, f"{name}\n", "")
    data = (tmp_path / name).read_bytes()
    assert data.startswith(start)
    assert len(data) > 5000


def test_what_is_in_a_file(monkeypatch, tmp_path):
    """Each curve is drawn with its values, in the panel that it belongs to."""
    figures = []
    real = plot_schedule.Figure
    monkeypatch.setattr(plot_schedule, "Figure", lambda *a, **k: figures.append(real(*a, **k)) or figures[-1])
    texts = ["Cosine(1.0, 20)", "Cyclic(0.1, 0.2, 5).momentum", "Constant(0.5)"]
    plot_schedule.save([plot_schedule.curve(text, 30) for text in texts], tmp_path / "a.png")
    rates, momenta = figures[0].axes
    assert [line.get_label() for line in rates.lines] == ["Cosine(1.0, 20)", "Constant(0.5)"]
    assert list(rates.lines[0].get_ydata()) == [s.Cosine(1.0, 20)(t) for t in range(30)]
    assert list(momenta.lines[0].get_xdata()) == list(range(30))
    assert (rates.get_ylabel(), momenta.get_ylabel()) == ("learning rate", "momentum")
    assert rates.get_ylim()[0] <= 0
    assert rates.get_ylim()[1] > 1
