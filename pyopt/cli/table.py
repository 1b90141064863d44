"""Columns of numbers or words from CSV, NPZ and Parquet files; one line for whatever is wrong with them."""

from __future__ import annotations

import csv
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays.backend import Array

Columns = dict[str, Array]
WIDEST = 1 << 18  # columns: each costs some hundred bytes, however small the file


def read(path: Path) -> tuple[Columns, tuple[int, ...] | None]:
    """Return the columns of a file by name, and the shape of a row where an NPZ file has images.

    Raises
    ------
    ValueError
        Where the file cannot be read, is none of these, or has no rows, or columns of different lengths.
    ModuleNotFoundError
        For Parquet without pyarrow.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"data={str(path)!r}: must end in {', '.join(READERS)}")
    try:
        columns, shape = reader(path)
    except ModuleNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"data={str(path)!r} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001 - a damaged file may end in any of them
        raise ValueError(f"data={str(path)!r} cannot be read: {error}") from None
    first, rows = next(((name, len(column)) for name, column in columns.items()), ("", 0))
    if not rows:
        raise ValueError(f"data={str(path)!r} has no rows")
    if other := next((name for name, column in columns.items() if len(column) != rows), None):
        raise ValueError(f"data={str(path)!r}: {first!r} has {rows} rows, but {other!r} has {len(columns[other])}")
    return columns, shape


def numbers(column: Array, name: str) -> Array:
    """Return a column as float64; ValueError, with the row, where something in it is no finite number."""
    if column.dtype.kind in "OUS":
        found, wrong = _parsed(column)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"column {name!r} has {column[row]!r} in row {row + 1}: must be numbers")
    elif column.dtype.kind in "biuf":
        found = column.astype(np.float64)
    else:
        raise ValueError(f"column {name!r} is of type {column.dtype}: must be numbers")
    if not np.isfinite(found).all():
        row = int((~np.isfinite(found)).argmax())
        what = f"{found[row]}" if np.isinf(found[row]) else "no number, or NaN,"
        raise ValueError(f"column {name!r} has {what} in row {row + 1}: fill gaps, or leave such rows out")
    return found


def words(column: Array) -> Array:
    """Return where a column has something else than a number, or a gap."""
    return _parsed(column)[1] if column.dtype.kind in "OUS" else np.zeros(len(column), bool)


def missing(column: Array) -> Array:
    """Return where a column has nothing, or NaN."""
    if column.dtype.kind in "OUS":
        return np.array([x is None or str(x).strip().lower() in ("", "nan", "na", "null", "none") for x in column])
    return np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), bool)


def _parsed(column: Array) -> tuple[Array, Array]:
    """Return what texts say as numbers, and where one says something else."""
    found = np.array([_number(text) for text in column.tolist()])
    return found, np.isnan(found) & ~missing(column)


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return np.nan


def _limited(columns: int) -> None:
    if columns > WIDEST:
        raise ValueError(f"it has {columns} columns: must have {WIDEST} at most")


def _csv(path: Path) -> tuple[Columns, None]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = [name.strip() for name in next(reader, [])]
        _limited(len(header))
        if len(set(header)) < len(header):
            raise ValueError(f"its first line names a column twice: {', '.join(header)}")
        rows = []
        for row in reader:
            if row and len(row) != len(header):
                raise ValueError(f"line {reader.line_num} has {len(row)} values: must have {len(header)}, as the first")
            if row:
                rows.append(row)
    cells = np.array(rows, object).reshape(len(rows), len(header))
    return {name: cells[:, i] for i, name in enumerate(header)}, None


def _npz(path: Path) -> tuple[Columns, tuple[int, ...] | None]:
    """Return an array of one dimension as a column, one of more as columns ``name[0]``, ``name[1]``..."""
    columns: Columns = {}
    shapes = []
    if not zipfile.is_zipfile(path):
        path.open("rb").close()  # says what is wrong with the path, if that is it
        raise ValueError("it is no NPZ file")
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            array = file[name]
            if array.ndim == 0:
                raise ValueError(f"{name!r} is a single number: must be an array")
            if array.ndim == 1:
                columns[name] = array
                continue
            shapes.append(array.shape[1:])
            _limited(len(columns) + math.prod(array.shape[1:]))
            wide = array.reshape(len(array), math.prod(array.shape[1:]))
            columns.update({f"{name}[{i}]": wide[:, i] for i in range(wide.shape[1])})
    images = len(shapes) == 1 and len(shapes[0]) > 1
    return columns, shapes[0] if images else None


def _parquet(path: Path) -> tuple[Columns, None]:
    from pyarrow import parquet

    with path.open("rb") as file:
        _limited(len(parquet.read_schema(file).names))
        table = parquet.read_table(file)
    return {name: table[name].to_numpy() for name in table.column_names}, None


READERS: dict[str, Callable[[Path], tuple[Columns, tuple[int, ...] | None]]] = {
    ".csv": _csv, ".npz": _npz, ".parquet": _parquet,
}  # fmt: skip
