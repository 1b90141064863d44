"""Run the benches: ``python -m bench.gpu --out results.json [--seconds 600]``; what matters most comes first."""

from __future__ import annotations

import argparse
import functools
import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import pyopt
from pyopt.kernels.rules import RULES

from ..shapes import gpt2_small, resnet50
from . import steps, timing

Shapes = Sequence[tuple[int, ...]]
SMALL = 1 << 20  # elements up to which what a call costs the host would hide the rest: graphs
LARGE = 1 << 30  # elements from which on not everybody's arrays fit into memory at once
COMPILED = ("2^24", "2^27", "ResNet-50")  # elsewhere torch.compile takes minutes
OUTSIDE = ("cupy", "bitsandbytes", "compile")  # what no graph of PyTorch's takes up: not on its stream


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
    single = {f"2^{k}": [(1 << k,)] for k in (27, 16, 24, 20, 28)}
    models = {"3000 x 3500": [(3500,)] * 3000, "GPT-2 small": gpt2_small(), "ResNet-50": resnet50(),
              "GPT-2 XL": gpt2_xl()}  # fmt: skip
    return {"2^27": single.pop("2^27"), "3000 x 3500": models.pop("3000 x 3500"), **single, **models}


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
            graphs = n <= SMALL and not any(word in name for word in OUTSIDE)
            contenders[name] = timing.captured(calls) if graphs else calls
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


def adamw(name: str, shapes: Shapes) -> dict[str, Any]:
    """Race AdamW."""
    n = size(shapes)
    makers: dict[str, Any] = {
        "pyopt": lambda: steps.steps("adamw", shapes, lr=1e-3),
        "copy": lambda: steps.copy(28 * n),
        "torch fused": lambda: steps.torch_adamw(shapes, fused=True, capturable=n <= SMALL),
        "torch foreach": lambda: steps.torch_adamw(shapes, foreach=True, capturable=n <= SMALL),
    }
    if name in COMPILED:
        makers["torch compile"] = lambda: steps.torch_compiled(shapes)
    if n < LARGE:
        makers |= {peer: (lambda make=make: make(shapes)) for peer, make in steps.peers().items()}
    return measure(shapes, makers, 28)


def whole_step(name: str, shapes: Shapes) -> dict[str, Any]:
    """Race the whole step."""
    makers = {"pyopt": lambda: steps.whole_step(shapes), "copy": lambda: steps.copy(44 * size(shapes)),
              "torch": lambda: steps.torch_whole_step(shapes, capturable=size(shapes) <= SMALL)}  # fmt: skip
    return measure(shapes, makers, 44)


def one_rule(rule: str) -> dict[str, Any]:
    """Race a rule and the copy."""
    moved, shapes = 12 + 8 * sum(state.when is None for state in RULES[rule].states), [(1 << 26,)]
    makers: dict[str, Any] = {"pyopt": lambda: steps.steps(rule, shapes), "copy": lambda: steps.copy(moved << 26)}
    return measure(shapes, makers, moved)


def main() -> None:
    """Write all results to a file, after each case anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=600, help="begin no case after so many")
    args, start = parser.parse_args(), time.perf_counter()
    found: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(0), "torch": torch.__version__, "python": platform.python_version(),
        "config": pyopt.show_config(), "time": time.strftime("%Y-%m-%d %H:%M:%S"), "cases": {}, "left out": [],
    }  # fmt: skip
    shapes = cases()
    jobs: dict[str, Callable[[], dict[str, Any]]] = {}
    for name in shapes:
        jobs[f"adamw, {name}"] = functools.partial(adamw, name, shapes[name])
        if name in ("2^27", "GPT-2 small", "2^16"):
            jobs[f"whole step, {name}"] = functools.partial(whole_step, name, shapes[name])
    jobs |= {f"{rule}, 2^26": functools.partial(one_rule, rule) for rule in sorted(RULES)}
    for name, job in jobs.items():
        if time.perf_counter() - start > args.seconds:
            found["left out"].append(name)
        else:
            result = found["cases"][name] = job()
            line = ", ".join(
                f"{k} {v['median'] * 1e6:.1f} us ({v['of the limit']:.2f})" for k, v in result["contenders"].items()
            )
            print(f"{name}: {line}; missing: {result['missing']}", flush=True)
            steps.tidy()
        args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
