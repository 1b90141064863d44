"""The format of models and checkpoints: an NPZ file of plain arrays, and a header of JSON that says what they are.

Nothing in a file names code. What is read are numbers and words, whose types and shapes are checked against what a
literal list says; and no more memory is taken than the file is long.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays.backend import Array
from . import files

VERSION = 1
ENDINGS = (".npz",)
KINDS = ("model", "checkpoint")
HEADER = 1 << 20  # bytes of the JSON, at most
OLDER = "it was saved by an older version of pyopt, in a format that is no longer read: train and save again"


def write(name: str, path: Path, kind: str, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a file of one of the ``KINDS``; ValueError, and the old file stays, where that cannot be."""
    text = json.dumps({"format": f"pyopt {kind}", "version": VERSION, **header})
    with files.replaced(name, path) as file:
        np.savez(file, header=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]


def read(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return header and arrays of a file of this kind; ValueError, or what zipfile and NumPy raise, for any other."""
    data = path.read_bytes()
    file = io.BytesIO(data)
    if not zipfile.is_zipfile(file):
        raise ValueError("it is no NPZ file")
    with zipfile.ZipFile(file) as archive:
        listed = archive.infolist()
        entries = {entry.filename.removesuffix(".npy"): entry for entry in listed}
        if "schema.json" in entries:
            raise ValueError(OLDER)
        if "header" not in entries:
            raise ValueError("it has no header: it is another file, or was saved by an older version of pyopt")
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in listed)
        if packed or sum(entry.file_size for entry in listed) > len(data):
            raise ValueError("it is compressed, or its parts overlap: pyopt writes neither")
        if entries["header"].file_size > HEADER:
            raise ValueError(f"its header has {entries['header'].file_size} bytes: must have {HEADER} at most")
        header = _header(_array("header", archive.read(entries.pop("header"))), kind)
        return header, {name: _array(name, archive.read(entry)) for name, entry in entries.items()}


@contextlib.contextmanager
def reading(name: str, path: Path, kind: str) -> Iterator[None]:
    """Make one ValueError of whatever is wrong with a file."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{name}={str(path)!r} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001 - a damaged file may end in any of them
        raise ValueError(f"{name}={str(path)!r} is no {kind} of pyopt train: {error}") from None


def fields(what: str, given: Any, kinds: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """Return an object of the header that has these keys, each with a value of one of these types."""
    if type(given) is not dict:
        raise ValueError(f"{what} of its header is {given!r:.80}: must be an object")
    if odd := sorted(set(given) ^ set(kinds)):
        raise ValueError(f"{what} of its header has the wrong keys, by {', '.join(map(repr, odd)):.80}")
    for name, allowed in kinds.items():
        if type(given[name]) not in allowed:
            names = " or ".join(kind.__name__ for kind in allowed)
            raise ValueError(f"{what} of its header has {name}={given[name]!r:.80}: must be {names}")
    return given


def take(arrays: dict[str, Array], name: str, kind: Any, shape: tuple[int | None, ...],
         finite: bool = True) -> Array:  # fmt: skip
    """Remove an array from those of a file, and return it; ``None`` in a shape stands for any length.

    ValueError where it is not there, is of another type or shape, or has infinities or NaN.
    """
    if name not in arrays:
        raise ValueError(f"it lacks {name}")
    array = arrays.pop(name)
    fits = len(array.shape) == len(shape) and all(m in (None, n) for m, n in zip(shape, array.shape, strict=True))
    if not np.issubdtype(array.dtype, kind) or not fits:
        want = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}: must be {kind.__name__} of shape ({want})")
    if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} has numbers that are not finite")
    return array


def all_taken(arrays: Mapping[str, Array]) -> None:
    """Raise ValueError where a file has more than was taken from it."""
    if arrays:
        raise ValueError(f"it has {', '.join(map(repr, list(arrays)[:4]))}, which does not belong there")


def _header(array: Array, kind: str) -> dict[str, Any]:
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"its header is {array.dtype} of shape {array.shape}: must be text")
    header: dict[str, Any] = json.loads(array.tobytes())
    found = header.pop("format", None) if type(header) is dict else None
    if found in [f"pyopt {other}" for other in KINDS if other != kind]:
        raise ValueError(f"it is a {found.removeprefix('pyopt ')}")
    if found != f"pyopt {kind}":
        raise ValueError("its header is none of pyopt")
    version = header.pop("version", None)
    if type(version) is not int or version != VERSION:
        raise ValueError(f"it has version {version!r:.40} of the format: this pyopt reads version {VERSION}")
    return header


def _array(name: str, data: bytes) -> Array:
    """Return an array of numbers or words from a file in NumPy's format, whose header must tell its true size."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{name} has version {version} of NumPy's format: must have (1, 0)")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in "biufU":
        raise ValueError(f"{name} is of type {dtype}: must be numbers or words")
    size = math.prod(shape) * dtype.itemsize
    if size == 0 or min(shape, default=0) < 0 or size != len(data) - file.tell():
        raise ValueError(f"{name} has {len(data) - file.tell()} bytes, but shape {shape} of {dtype}: it is damaged")
    file.seek(0)
    return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
