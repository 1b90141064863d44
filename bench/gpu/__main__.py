"""Run the benches: ``python -m bench.gpu --out results.json [--quick]``."""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import pyopt

from ..shapes import gpt2_small, resnet50
from . import steps, timing

Shapes = Sequence[tuple[int, ...]]
SMALL = 1 << 20  # elements up to which what a call costs the host would hide the rest: graphs


def gpt2_xl() -> list[tuple[int, ...]]:
    """GPT-2 XL: 1.56 billion parameters in 580 tensors."""
    width = 1600
    layer: list[tuple[int, ...]] = [
        (width,), (width,), (width, 3 * width), (3 * width,), (width, width), (width,),
        (width,), (width,), (width, 4 * width), (4 * width,), (4 * width, width), (width,),
    ]  # fmt: skip
    return [(50257, width), (1024, width), *48 * layer, (width,), (width,)]


def cases() -> dict[str, Shapes]:
    """Return the shapes of each case."""
    single = {f"2^{k}": [(1 << k,)] for k in (16, 20, 24, 27, 28)}
    return {**single, "ResNet-50": resnet50(), "GPT-2 small": gpt2_small(), "GPT-2 XL": gpt2_xl(),
            "3000 x 3500": [(3500,)] * 3000}  # fmt: skip


def size(shapes: Shapes) -> int:
    """Return the number of elements."""
    return sum(torch.Size(shape).numel() for shape in shapes)


def copies(make: Callable[[], Callable[[], object]], bytes_of_one: int) -> list[Callable[[], object]]:
    """Return as many contenders of one kind as it takes to leave the L2 cache."""
    return [make() for _ in range(timing.sets_beyond_l2(bytes_of_one))]


def measure(shapes: Shapes, makers: dict[str, Callable[[], Callable[[], object]]], moved: int) -> dict[str, Any]:
    """Race some steps over some shapes; ``moved`` bytes for each element are the limit's."""
    n = size(shapes)
    contenders, missing = {}, {}
    for name, make in makers.items():
        try:
            calls = copies(make, n * moved)
            for call in calls:
                call()
            contenders[name] = timing.captured(calls) if n <= SMALL and "compile" not in name else calls
        except Exception as error:  # noqa: BLE001 - what a peer cannot do must not end the others
            missing[name] = f"{type(error).__name__}: {error}"
            torch.cuda.synchronize()
    found = timing.race(contenders)
    limit = found["copy"]["median"]
    for entry in found.values():
        entry["of the limit"] = limit / entry["median"]
        entry["GB/s"] = n * moved / entry["median"] / 1e9
    return {"elements": n, "tensors": len(shapes), "bytes of an element": moved, "contenders": found,
            "missing": missing}  # fmt: skip


def adamw(shapes: Shapes) -> dict[str, Any]:
    """Race AdamW."""
    makers: dict[str, Any] = {
        "pyopt": lambda: steps.steps("adamw", shapes, lr=1e-3),
        "copy": lambda: steps.copy(28 * size(shapes)),
        "torch fused": lambda: steps.torch_adamw(shapes, fused=True),
        "torch foreach": lambda: steps.torch_adamw(shapes, foreach=True),
        "torch compile": lambda: steps.torch_compiled(shapes),
    }
    makers |= {name: (lambda name=name: steps.peers(shapes)[name]) for name in steps.peers([(1,)])}
    return measure(shapes, makers, 28)


def main() -> None:
    """Write all results to a file, after each case anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="the smallest case only")
    args = parser.parse_args()
    found: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(0), "torch": torch.__version__, "python": platform.python_version(),
        "config": pyopt.show_config(), "time": time.strftime("%Y-%m-%d %H:%M:%S"), "cases": {},
    }  # fmt: skip

    def note(name: str, result: dict[str, Any]) -> None:
        found["cases"][name] = result
        args.out.write_text(json.dumps(found, indent=1))
        line = ", ".join(
            f"{k} {v['median'] * 1e6:.1f} us ({v['of the limit']:.2f})" for k, v in result["contenders"].items()
        )
        print(f"{name}: {line}; missing: {result['missing']}", flush=True)

    for name, shapes in list(cases().items())[: 1 if args.quick else None]:
        note(f"adamw, {name}", adamw(shapes))
        torch.cuda.empty_cache()
        if name in ("2^27", "GPT-2 small", "2^16"):
            makers = {"pyopt": lambda s=shapes: steps.whole_step(s), "copy": lambda s=shapes: steps.copy(44 * size(s)),
                      "torch": lambda s=shapes: steps.torch_whole_step(s)}  # fmt: skip
            note(f"whole step, {name}", measure(shapes, makers, 44))
            torch.cuda.empty_cache()
    for rule in () if args.quick else steps.rules():
        moved = 12 + 8 * sum(state.when is None for state in pyopt.kernels.rules.RULES[rule].states)
        makers = {"pyopt": lambda rule=rule: steps.steps(rule, [(1 << 26,)]),
                  "copy": lambda moved=moved: steps.copy(moved << 26)}  # fmt: skip
        note(f"{rule}, 2^26", measure([(1 << 26,)], makers, moved))
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
