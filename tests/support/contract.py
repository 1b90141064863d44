"""What belongs to a rule, a penalty, a loss, a layer and an augmentation, and what is missing from one."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

SECTIONS = {
    "rules": ("States", "Ranges", "Deviations", "Source"),
    "penalties": ("Ranges", "Source"),
    "losses": ("Ranges", "Deviations", "Source"),
    "layers": ("Ranges", "Deviations", "Source"),
    "augment": ("Ranges", "Deviations", "Source"),
}
# what only some forms name: where a tile writes to, a length, a flag that a tile has among its lengths
ONLY = {
    "rules": ("steps", "direction"),
    "penalties": ("factor", "size", "terms"),
    "losses": ("gradient", "terms", "smooth"),
}
ELEMENT = ("_element.py",)  # beside X.py, of what works element by element
ROW = (".pxi", "_cuda.py")  # of a stage of the step that looks at rows
WHOLE = (".pxi",)  # and of what only the CPU has
PXI = re.compile(r"^cdef void (\w+)\(([^)]*)\) noexcept nogil:", re.MULTILINE)


def faults(folder: Path, stem: str, kernel: str, forms: Mapping[str, str], *, files: Sequence[str] = ELEMENT,
           tiles: Mapping, exported: bool, golden: bool) -> list[str]:  # fmt: skip
    """Return all that is missing from a stem, or disagrees between its forms; an empty list for a complete one.

    ``kernel`` is the stem of the other forms: a rule may be another's update under another decay. ``forms`` are the
    functions in its .py and what they are called elsewhere; ``files`` are the ends of the files that it has beside
    its .py; ``tiles`` is the table of compiled functions.
    """
    found = [] if exported else ["not exported in pyopt"]
    found += [] if golden else ["no row in tests/support/golden.py"]
    paths = [folder / f"{stem}.py", *(folder / f"{kernel}{end}" for end in files)]
    found += [f"no file {path.name}" for path in paths if not path.exists()]
    if paths[0].exists():
        found += docstring_faults(paths[0], folder.name)
    for reference, name in forms.items():
        found += signature_faults(folder, kernel, reference, name, files, tiles)
    return [f"{stem}: {fault}" for fault in found]


def docstring_faults(path: Path, family: str) -> list[str]:
    """Return what is missing from the docstring of a stem."""
    text = (ast.get_docstring(ast.parse(path.read_text()), clean=False) or "").rstrip()
    lines = text.splitlines() or [""]
    found = []
    if not re.match(r"\S.*[.:]( |$)", lines[0]) or (len(lines) > 1 and lines[1]):
        found.append("the docstring does not start with a summary of one line")
    if family not in ("penalties", "augment") and not re.search(r"^\.\. math::\n\n    \S.* &?= ", text, re.MULTILINE):
        found.append("no equation (.. math::) in the docstring")
    for name in SECTIONS[family]:
        if not re.search(rf"^{name}: \S", text, re.MULTILINE):
            found.append(f"no section {name}: in the docstring")
    source = re.search(r"^Source: (.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    source = source.group(1) if source else ""
    if "https://" not in source:
        found.append("no URL in the section Source:")
    if not re.search(r"\b(18|19|20)\d\d\b", re.sub(r"https://\S+", "", source)):
        found.append("no year in the section Source:")
    example = re.search(r"^>>> .*\Z", text, re.MULTILINE | re.DOTALL)
    if (
        example is None
        or not 4 <= len(example.group().splitlines()) <= 8
        or not re.search(r"\n[^>]+\Z", example.group())
    ):
        found.append("no example of about 5 lines with its output at the end of the docstring")
    return found


def signature_faults(folder: Path, kernel: str, reference: str, name: str, files: Sequence[str],
                     tiles: Mapping) -> list[str]:  # fmt: skip
    """Return how the forms of a function differ in their arguments, but for what only a tile needs.

    Where two forms tell arrays from scalars, the slash between these is compared as well.
    """
    paths = [path for path in (folder / f"{kernel}{end}" for end in (".py", *files, ".pxi")) if path.exists()]
    row = tiles.get(f"{folder.name}.{name}")
    given = {f"{folder.name}.{name} as compiled": None if row is None else [*row[2], "/", *row[3]]}
    for path in paths:
        called = reference if path.name == f"{kernel}.py" else name
        given[f"{called} in {path.name}"] = (pxi_arguments if path.suffix == ".pxi" else arguments)(path, called)
    found = [f"no {form}" for form, args in given.items() if args is None]
    only = ONLY[folder.name]
    there = {form: [x for x in args if x not in only] for form, args in given.items() if args is not None}
    first, want = next(iter(there.items()), ("", []))
    for form, args in there.items():
        slash = {"/"} if not ("/" in args and "/" in want) else set()
        if [x for x in args if x not in slash] != [x for x in want if x not in slash]:
            found.append(f"{form} takes {args}, {first} takes {want}")
    return found


def augment_faults(folder: Path, stem: str, tiles: Mapping, *, exported: bool) -> list[str]:
    """Return what is missing from a stem of augmentation, or which of its forms disagree in their arrays.

    The reference takes the arrays and then lengths, the tile the arrays and ``out``; another tile, for bytes, takes the
    same.
    """
    found = [] if exported else [f"{stem}: not exported in pyopt.augment"]
    missing = missing_files(folder, stem)
    if missing:
        return found + missing
    found += [f"{stem}: {fault}" for fault in docstring_faults(folder / f"{stem}.py", "augment")]
    want = (pxi_arguments(folder / f"{stem}.pxi", stem) or ["nothing"])[:-1]
    rows = {name: tiles.get(f"augment.{name}") for name in (stem, f"{stem}_bytes")}
    forms = {
        f"reference in {stem}.py": arguments(folder / f"{stem}.py", "reference"),
        f"{stem}_bytes in {stem}.pxi": pxi_arguments(folder / f"{stem}.pxi", f"{stem}_bytes"),
        **{f"augment.{name} as compiled": None if row is None else list(row[2]) for name, row in rows.items()},
    }
    return found + [
        f"{stem}: {form} takes {given}, {stem} in {stem}.pxi takes {want}"
        for form, given in forms.items()
        if given is None or given[: len(want)] != want
    ]


def layer_faults(folder: Path, stem: str, tiles: Mapping, *, exported: bool) -> list[str]:
    """Return what is missing from a layer."""
    found = [] if exported else [f"{stem}: not exported in pyopt.layers"]
    missing = missing_files(folder, stem)
    if missing:
        return found + missing
    names = [name for name, _ in PXI.findall((folder / f"{stem}.pxi").read_text())]
    faults = docstring_faults(folder / f"{stem}.py", "layers")
    faults += [f"no layers.{name} as compiled" for name in names if f"layers.{name}" not in tiles]
    faults += [f"the tile {name} is not named after {stem}" for name in names if not name.startswith(stem)]
    faults += [] if names else [f"no tile in {stem}.pxi"]
    return found + [f"{stem}: {fault}" for fault in faults]


def missing_files(folder: Path, stem: str) -> list[str]:
    """Return which of the forms of a stem are not there."""
    names = [f"{stem}{suffix}" for suffix in (".py", *WHOLE)]
    return [f"{stem}: no file {name}" for name in names if not (folder / name).exists()]


def broken(folder: Path, place: Path, file: str, change: tuple[str, str] | None) -> Path:
    """Return a copy, in ``place``, of a family's folder in which one file is gone or one text in it another."""
    copy = place / folder.name
    shutil.copytree(folder, copy)
    path = copy / file
    if change is None:
        path.unlink()
        return copy
    text = path.read_text()
    assert change[0] in text, "the change no longer breaks anything"
    path.write_text(text.replace(*change))
    return copy


def arguments(path: Path, name: str) -> list[str] | None:
    """Return the arguments of a Python function or method, or None where there is none of that name.

    A function on one element has a slash among them, first of all where it forgets it.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            slash = ["/"] if path.name.endswith("_element.py") else []
            return [*(a.arg for a in node.args.posonlyargs), *slash, *(a.arg for a in node.args.args)]
    return None


def pxi_arguments(path: Path, name: str) -> list[str] | None:
    """Return the arrays and scalars of a tile function, or None where there is none of that name."""
    for found, inside in PXI.findall(path.read_text()):
        if found == name:
            return [part.split()[-1] for part in inside.split(",") if part.split()[0] != "Py_ssize_t"]
    return None
