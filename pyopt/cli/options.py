"""What the text of options stands for: penalties, hyper-parameters, augmentation; ValueError where it is none."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any

from ..augment import Images
from ..kernels.penalties import PENALTIES
from ..kernels.penalty import Penalty, Projection
from ..optim import OPTIMIZERS
from ..validate import one_of

GRADIENTS = [stem for stem, kind in PENALTIES.items() if not issubclass(kind, Projection)]


def penalty(name: str, text: str, known: Collection[str]) -> Penalty:
    """Return the penalty, or projection, of a text such as ``elastic_net:1e-4,0.5``."""
    stem, _, values = text.partition(":")
    one_of(name, stem, known)
    given = [_number(f"{name}={text!r}", value) for value in values.split(",")] if values else []
    wanted = list(inspect.signature(PENALTIES[stem]).parameters.values())
    needed = sum(p.default is p.empty for p in wanted)
    if not needed <= len(given) <= len(wanted):
        example = f"{stem}:{','.join(p.name for p in wanted)}" if wanted else stem
        raise ValueError(f"{name}={text!r}: {len(given)} coefficients are the wrong number: must be {example}")
    return PENALTIES[stem](*given)


def hypers(optimizer: str, settings: Sequence[str]) -> dict[str, Any]:
    """Return the hyper-parameters given as name=value; the optimizer checks their ranges."""
    rule = OPTIMIZERS[one_of("optimizer", optimizer, OPTIMIZERS)].rule
    return _assigned("set", settings, [hyper.name for hyper in rule.all_hypers if hyper.name != "lr"])


def augmentation(settings: Sequence[str], classes: int) -> Images | None:
    """Return what ``rotate=10`` and the like ask for."""
    known = [name for name in inspect.signature(Images).parameters if name not in ("layout", "num_classes", "size")]
    given = _assigned("augment", settings, known)
    if not given:
        return None
    whole = {name: int(x) for name, x in given.items() if name in ("crop_padding", "cutout") and x == int(x)}
    if classes == 0 and (given.get("mixup") or given.get("cutmix")):
        raise ValueError("augment: mixup and cutmix are for classification")
    return Images(**{**given, **whole}, num_classes=classes or None, layout="NCHW")


def sizes(name: str, text: str) -> tuple[int, ...]:
    """Return the positive integers of a text such as ``100,50``."""
    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"{name}={text!r}: must be integers >= 1, as in 100,50")
    return tuple(int(part) for part in parts)


def batch_size(text: str, rows: int) -> int:
    """Return the rows of a step, of the rows there are to train on."""
    if text in ("auto", "full"):
        return rows if text == "full" else min(32, rows)
    size = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= size <= rows:
        raise ValueError(f"batch-size={text!r}: must be auto, full or an integer in [1, {rows}], the training rows")
    return size


def _assigned(option: str, settings: Sequence[str], known: Collection[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in known:
            raise ValueError(f"{option}={setting!r}: must be name=value, with a name out of {', '.join(known)}")
        if text.lower() in ("true", "false"):
            found[name] = text.lower() == "true"
        elif name == "border":
            found[name] = text
        else:
            values = tuple(_number(f"{option}={setting!r}", part) for part in text.split(","))
            found[name] = values if len(values) > 1 else values[0]
    return found


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}: {text!r} is not a number") from None
