"""A sample of each test's parameters: every value of every parameter, not every combination of them.

Rules x dtypes x instruction sets grow faster than what they find. Of a test with more than ``MANY`` items a plain
``pytest`` runs ``MANY``, and more only to keep each value of each parameter. A hash of their names and of a seed draws
them; the seed is another one after each commit, so that every combination has its turn.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable
from itertools import groupby

import pytest

from . import ROOT

MANY = 8
FEW = 2  # of a test where the rule is an example only


def seed_of(wanted: str | None) -> str:
    """Return the seed: as asked for, else the commit of a checkout, else always the same one."""
    if wanted:
        return wanted
    command = ["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return "0"
    return done.stdout.strip() if done.returncode == 0 else "0"


def any_rule(item: pytest.Item) -> bool:
    """Return whether the rule of a test is an example only: what all of them share is tested."""
    marked = item.get_closest_marker("any_rule")
    return marked is not None and marked.args != (False,)


def kinds(item: pytest.Item) -> set[tuple[object, ...]]:
    """Return the values of an item, one for each parameter; without its rule where any will do.

    What one ``parametrize`` names together is one parameter: of a table written by hand every row stays. Values are
    told apart by identity, as some cannot be compared; all items of a test share them.
    """
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return set()
    tables = [mark.args[0] for mark in item.iter_markers("parametrize")]
    together = [tuple(x.replace(" ", "").split(",") if isinstance(x, str) else x) for x in tables]
    alone = [(name,) for name in callspec.params if not any(name in names for names in together)]
    if any_rule(item):
        alone = [names for names in alone if names != ("rule",)]
    return {(*names, *(id(callspec.params.get(name)) for name in names)) for names in together + alone}


def sample(items: Iterable[pytest.Item], seed: str) -> set[str]:
    """Return the names of the items of one test that stay."""
    items = list(items)
    many = FEW if any_rule(items[0]) else MANY
    if len(items) <= many:
        return {item.nodeid for item in items}
    by_hash = sorted(items, key=lambda item: hashlib.sha256(f"{seed} {item.nodeid}".encode()).digest())
    seen: set[tuple[str, object]] = set()
    first, more = [], []
    for item in by_hash:
        (more if kinds(item) <= seen else first).append(item.nodeid)
        seen |= kinds(item)
    return {*first, *more[: max(many - len(first), 0)]}


# ---- the plugin


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --sample."""
    parser.addoption(
        "--sample",
        metavar="all|SEED",
        default=os.environ.get("PYOPT_SAMPLE"),
        help="which items of tests with many to run: all, or those of a seed; without it, the commit's hash. "
        "PYOPT_SAMPLE does the same.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed once: a worker of pytest-xdist has the options of the process that started it."""
    config.option.sample = seed_of(config.option.sample)


def pytest_report_header(config: pytest.Config) -> str:
    """Say how to run the same items again."""
    return f"sample: --sample {config.option.sample}"


@pytest.hookimpl(trylast=True)  # after -m and -k: what they leave is sampled
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not in the sample."""
    if config.option.sample == "all":
        return
    kept: set[str] = set()
    for _, group in groupby(items, key=lambda item: item.nodeid.partition("[")[0]):
        kept |= sample(group, config.option.sample)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]
