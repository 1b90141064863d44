"""What an installation promises: imports that explain themselves, and pages that say what is true."""

import doctest
import os
import re
import runpy
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import pyopt
from support import ROOT

KERNELS = Path(pyopt.kernels.__file__).resolve().parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^(?:<!-- (\S+) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def python(code, folder, *flags, path=()):
    """Run ``code`` in ``folder``, which comes first on sys.path."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    if path:
        env["PYTHONPATH"] = os.pathsep.join(map(str, path))
    command = [sys.executable, *flags, "-c", code]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def complaint(done):
    """Return the last line that a failed run left, which must be an ImportError."""
    assert done.returncode == 1, done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: "), done.stderr
    return last


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Return a folder with the sources and nothing built."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("pyopt", "kernels"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a folder with the package as a wheel installs it."""
    folder = tmp_path_factory.mktemp("site")
    bare = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(Path(pyopt.__file__).parent, folder / "pyopt", ignore=bare)
    shutil.copytree(KERNELS, folder / "pyopt" / "kernels", ignore=bare)
    return folder


# ---- imports


def test_source_without_installation(clone):
    done = python("import pyopt", clone, "-S")  # -S: without site-packages
    assert "pip install -e ." in complaint(done)


def test_installed_package(site, tmp_path):
    path = [site, Path(np.__file__).parents[1]]
    done = python("import pyopt; print(pyopt.__file__)", tmp_path, "-S", path=path)
    assert Path(done.stdout.strip()) == site / "pyopt" / "__init__.py", done.stderr


def test_source_hides_installed_package(site, clone):
    done = python("import pyopt", clone, "-S", path=[site, Path(np.__file__).parents[1]])
    assert "start Python in another folder" in complaint(done)


def test_this_repository():
    """An editable installation works from here; any other is hidden by the source, which says so."""
    done = python("import pyopt; print(pyopt.kernels.cpu.engine.__file__)", ROOT)
    if ROOT / "kernels" == KERNELS:
        assert Path(done.stdout.strip()).parents[1] == KERNELS, done.stderr
    else:
        assert "pip install -e ." in complaint(done)


def test_another_clone(clone):
    """The kernels of one clone never serve the Python files of another one."""
    assert "pip install -e ." in complaint(python("import pyopt", clone))


@pytest.mark.parametrize("code", ["import kernels", "import kernels.spec", "from kernels import rules"])
def test_bare_kernels(clone, code):
    """Our folder must not pass for the package of that name: who wants it if it is there catches ImportError."""
    assert "pyopt.kernels" in complaint(python(code, clone))


def tmp_folder():
    """Return a folder without sources."""
    return Path(sys.executable).parent


def sys_path():
    """Return what a child needs to find this pyopt where it is no installation of this interpreter."""
    return [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []


# ---- the distribution


def test_extras():
    """Only the extra that says so brings torch or CUDA along."""
    try:
        needs = metadata.requires("pyopt-kernels") or []
    except metadata.PackageNotFoundError:
        pytest.skip("not installed as a distribution")
    heavy = [line for line in needs if re.match(r"torch\b|numba|cuda|nvidia|cupy", line)]
    assert heavy
    for line in heavy:
        assert re.search(r"extra == ['\"](torch|cuda12|cuda13)['\"]", line), line


def test_every_folder_is_a_package():
    """setuptools leaves out a folder without __init__.py, and everything in it."""
    for folder in {path.parent for path in (ROOT / "kernels").rglob("*.p*") if "__pycache__" not in path.parts}:
        assert (folder / "__init__.py").exists(), folder


def test_flags():
    """The flags that bits depend on; the build for sanitizers keeps the one that counts there."""
    text = (ROOT / "setup.py").read_text()
    assert text.count('"-ffp-contract=off"') == 2
    code = re.sub(r"#.*", "", text)
    assert "-fno-fast-math" in code
    for wrong in ("-ffast-math", "-fno-signed-zeros", "-fassociative-math", "-funsafe-math", "-Ofast", "-march=native"):
        assert wrong not in code


# ---- the pages


def test_readme_example():
    blocks = [
        (kind, text) for _, kind, text in FENCE.findall((ROOT / "README.md").read_text()) if kind in ("python", "text")
    ]
    assert [kind for kind, _ in blocks] == ["python", "text"]
    done = python(blocks[0][1], tmp_folder(), path=sys_path())
    assert done.stdout == blocks[1][1], done.stderr


def test_guide_examples():
    """Each example of a guide prints what stands below it."""
    for page in (ROOT / "docs" / "training.md",):
        blocks = [text for _, kind, text in FENCE.findall(page.read_text()) if kind == "python"]
        test = doctest.DocTestParser().get_doctest("".join(blocks), {}, page.name, str(page), 0)
        assert len(test.examples) >= len(blocks)
        assert doctest.DocTestRunner().run(test).failed == 0, page


def test_what_follows_from_the_rules():
    """The tables of README.md and bytes.md and the stubs say what the rules say."""
    script = runpy.run_path(str(ROOT / "docs" / "from_rules.py"))
    for name, made in script["WRITTEN"].items():
        text = (ROOT / name).read_text()
        assert all(rule in text or cls.__name__ in text for rule, cls in script["OPTIMIZERS"].items()), name
        assert made(text) == text, f"{name}: run `python docs/from_rules.py`"


def test_readme_names_every_penalty():
    for kind in pyopt.kernels.penalties.PENALTIES.values():
        assert f"`{kind.__name__}`" in (ROOT / "README.md").read_text(), kind.__name__


def test_contributing_excerpts():
    found = [(path, text) for path, _, text in FENCE.findall((ROOT / "CONTRIBUTING.md").read_text()) if path]
    assert {path for path, _ in found} == {f"kernels/rules/lion{end}" for end in (".py", "_element.py")}
    for path, text in found:
        assert text in (ROOT / path).read_text(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    """Every relative link leads to a file."""
    for target in re.findall(r"\]\(<?([^)>\s]+)", page.read_text()):
        if not re.match(r"\w+:", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_readme_commands():
    """The two commands, each on a line of its own; .ci/run takes the second one from there."""
    lines = (ROOT / "README.md").read_text().splitlines()
    assert "pip install -e '.[demo]' && pyopt train --data digits --optimizer adamw" in lines
    assert "pip install -e '.[test]' && pytest" in lines


def test_changelog_has_this_version():
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group(1)
    text = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{version}]" in text or "## [Unreleased]" in text
