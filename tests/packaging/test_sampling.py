"""What a sample of a test's items keeps, and how to run the same one, or all, again."""

import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest

from support import ROOT, sampling

RULES, REALS, ISAS = [f"rule {i}" for i in range(12)], ["f32", "f64"], ["avx2", "neon", "baseline"]
TABLE = [(1, "low"), (1, "high"), (2, "low"), (2, "high")]


def items(*marks):
    """Return the items of one test: a product of three parameters and of a table with two columns."""
    marks = [pytest.mark.parametrize(("size", "end"), TABLE).mark, *marks]
    return [
        SimpleNamespace(
            nodeid=f"test_it[{rule}-{real}-{isa}-{size}-{end}]",
            callspec=SimpleNamespace(params={"rule": rule, "real": real, "isa": isa, "size": size, "end": end}),
            iter_markers=lambda name: [mark for mark in marks if mark.name == name],
            get_closest_marker=lambda name: next((mark for mark in marks if mark.name == name), None),
        )
        for rule, real, isa, (size, end) in itertools.product(RULES, REALS, ISAS, TABLE)
    ]


def columns(names):
    """Return the values that each parameter has in some items."""
    rule, real, isa, size, end = zip(*(re.search(r"\[(.*)\]", name).group(1).split("-") for name in names), strict=True)
    return {"rule": {*rule}, "real": {*real}, "isa": {*isa}, "table": {*zip(size, end, strict=True)}}


@pytest.mark.parametrize("seed", ["0", "1", "f00"])
def test_every_value_and_every_row_of_a_table_is_kept(seed):
    kept = sampling.sample(items(), seed)
    assert {key: len(found) for key, found in columns(kept).items()} == {"rule": 12, "real": 2, "isa": 3, "table": 4}
    assert len(kept) < 20


def test_where_any_rule_will_do_the_rest_is_kept():
    kept = sampling.sample(items(pytest.mark.any_rule.mark), "0")
    found = {key: len(values) for key, values in columns(kept).items()}
    assert found | {"rule": 0} == {"rule": 0, "real": 2, "isa": 3, "table": 4}
    assert len(kept) < 8
    assert len(columns(sampling.sample(items(pytest.mark.any_rule(False).mark), "0"))["rule"]) == 12


def test_few_items_are_all_kept():
    few = items()[: sampling.MANY]
    assert sampling.sample(few, "0") == {item.nodeid for item in few}


def test_a_seed_draws_the_same_and_another_seed_others():
    assert sampling.sample(items(), "0") == sampling.sample(reversed(items()), "0")
    drawn = Counter(name for seed in range(200) for name in sampling.sample(items(), str(seed)))
    assert len(drawn) == len(items()), "every combination has its turn"


def test_the_seed_is_the_commit(monkeypatch, tmp_path):
    assert sampling.seed_of("3") == "3"
    monkeypatch.setattr(sampling, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert sampling.seed_of(None) == "0", "there is no repository"
    git = ["git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x"]
    if subprocess.run([*git, "init", "-q"], check=False).returncode == 0:
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
        assert re.fullmatch("[0-9a-f]{12}", sampling.seed_of(None))


def collected(*arguments, **environment):
    command = [sys.executable, "-m", "pytest", "-n0", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {line for line in done.stdout.splitlines() if "::" in line}, done.stdout


def test_the_option():
    name = "tests/training/test_schedules.py::test_huge_steps"
    everything, _ = collected("--sample", "all", name)
    some, _ = collected("--sample", "3", name)
    again, _ = collected(name, PYOPT_SAMPLE="3")
    assert some == again
    assert some < everything
    one = max(everything - some)
    assert collected("--sample", "3", one)[0] == {one}, "what is named runs"
