"""What verbose=True shows: a bar where rich is installed, else a line for each tenth of the epochs."""

from __future__ import annotations

import sys
from typing import Any


class Progress:
    """A context in which ``advance`` counts epochs; it shows nothing unless asked to."""

    def __init__(self, verbose: Any, name: str, epochs: int) -> None:
        self.name, self.epochs, self.done = name, epochs, 0
        self.bar: Any = None
        self.shown = bool(verbose)

    def __enter__(self) -> Any:
        if self.shown:
            try:
                from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
                from rich.progress import Progress as Bar
            except ImportError:
                return self
            self.bar = Bar(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TextColumn("{task.fields[noted]}"),
            )  # fmt: skip
            self.bar.start()
            self.task = self.bar.add_task(self.name, total=self.epochs, noted="")
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self, noted: dict[str, float]) -> None:
        """Count an epoch and show what was noted of it."""
        if not self.shown:
            return
        self.done += 1
        text = "  ".join(f"{name} {value:.6g}" for name, value in noted.items())
        if self.bar is not None:
            self.bar.update(self.task, advance=1, noted=text)
        elif self.done % max(1, self.epochs // 10) == 0:
            sys.stdout.write(f"{self.name} epoch {self.done}: {text}\n")
