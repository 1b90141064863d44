"""Print a hash of the bits that every tile function and every rule gives on wild data; NaNs count as one value.

The same lines must come from every instruction set, processor, compiler and number of threads: compare with diff. It
needs NumPy and pyopt only, so that it runs where nothing else is installed. The last line, on stderr, says what ran.
"""

import dataclasses
import hashlib
import itertools
import math
import re
import sys
from pathlib import Path

import numpy as np

import pyopt
from pyopt.kernels.cpu import engine, isa
from pyopt.kernels.losses import ELEMENTWISE, LOSSES
from pyopt.kernels.penalties import PENALTIES
from pyopt.kernels.penalty import Projection
from pyopt.optim import OPTIMIZERS

SIGNATURE = re.compile(r"^cdef void (\w+)\(([^)]*)\) noexcept nogil:", re.MULTILINE)
PARAMETER = re.compile(r"(?:const )?(\w+)(\*?) (\w+)")
REALS = (np.float32, np.float64)
INTEGERS = {"int32_t": np.int32, "int64_t": np.int64}
STORED = {"uint16_t": np.uint16, "uint32_t": np.uint32}


def raw(n, dtype, seed=0):
    """Return any bits as integers."""
    return np.random.PCG64(seed).random_raw(n).astype(dtype)


def wild(n, dtype, seed, tame=False):
    """Return numbers of all kinds, from integers alone: random floats pass through libm, which differs."""
    drawn = raw(n, np.uint64, seed)
    bits = drawn.astype({2: np.uint16, 4: np.uint32, 8: np.uint64}[np.dtype(dtype).itemsize]).view(dtype)
    plain = np.ldexp((drawn >> 11).astype(np.float64) * 2.0**-52 - 1.0, (drawn % 7).astype(np.int32) - 3).astype(dtype)
    if tame:
        return plain
    info = np.finfo(dtype)
    some = np.array([0, -0.0, np.inf, -np.inf, np.nan, info.tiny, -info.tiny, info.max, 1, -1, 0.5, 0.5], dtype)
    small = plain * dtype(info.tiny)
    kind = drawn % 16
    return np.select([kind < 10, kind < 12, kind < 14], [plain, bits, small], some[(drawn >> 5) % len(some)])


def digest(arrays):
    """Return a short hash of all bits."""
    found = hashlib.sha256()
    for a in map(np.asarray, arrays):
        nans = np.isnan(a) if a.dtype.kind == "f" else False
        found.update(np.where(nans, np.array(np.nan).astype(a.dtype), a).tobytes())
    return found.hexdigest()[:16]


def signatures(path, family, table):
    """Return the names and arguments of the tiles of a file; those of an ``X_element.py`` are in the table."""
    text = path.read_text()
    if path.suffix == ".pxi":
        return SIGNATURE.findall(text)
    names = [name for name in re.findall(r"^def (\w+)\(", text, re.MULTILINE) if f"{family}.{name}" in table]
    rows = [table[f"{family}.{name}"] for name in names]
    arrays = [[f"{'double' if label == 'terms' else 'real'}* {label}" for label in row[2]] for row in rows]
    scalars = [[f"real {label}" for label in row[3]] for row in rows]
    return [(name, ", ".join([*a, *k, "Py_ssize_t n"])) for name, a, k in zip(names, arrays, scalars, strict=True)]


def tiles():
    """Run every tile function, by its signature: what is added to the table is in here by itself."""
    folder = Path(pyopt.kernels.__file__).parent
    table = isa.tiles()
    left = {key for key in table if "_bf16_" not in key}  # those: tests/storage/test_storage.py, with ml_dtypes
    stems = [*folder.glob("*.pxi"), *folder.glob("*/*.pxi"), *folder.glob("*/*_element.py")]
    for path in sorted(stems, key=lambda path: str(path).replace("_element.py", ".pxi")):
        family = path.stem if path.parent in (folder, folder / "numerics") else path.parent.name
        for name, text in signatures(path, family, table):
            key, parameters = f"{family}.{name}", PARAMETER.findall(text)
            if key not in left:
                continue
            left.remove(key)
            if family == "augment" or (family == "layers" and "first" in text):
                continue  # arrays and sizes must fit together: see augment() and layers()
            arrays = [(kind, label) for kind, star, label in parameters if star]
            scalars = [label for kind, star, label in parameters if not star and kind == "real"]
            sizes = len(parameters) - len(arrays) - len(scalars)
            summed = arrays[-1] == ("double", "terms")
            for real, tame in itertools.product(REALS, (False, True)):  # tame: one NaN makes a row of softmax NaN
                n, room = (1003, 1003) if sizes == 1 else (69, 69 * 69)
                kinds = [kind for kind, _ in (arrays[:-1] if summed else arrays)]
                made = [wild(room, {"real": real}.get(kind, np.float64), i, tame) for i, kind in enumerate(kinds)]
                data = [np.arange(room, dtype=INTEGERS[kind]) % n if kind in INTEGERS
                        else raw(room, STORED[kind]) if kind in STORED else x
                        for kind, x in zip(kinds, made, strict=True)]  # fmt: skip
                values = tuple(0.9 / (i + 1) for i in range(len(scalars)))
                if "sgd" in name and family == "linear_models":
                    engine.each(table, key, tuple(data), (0,) * len(data), (n,) * sizes, values, 1)
                    yield f"{key} {real.__name__} {'tame' if tame else 'wild'}", data
                    continue
                total = engine.sweep(table, key, tuple(data), (0,) * len(data), (n,) * sizes, values, summed)
                yield f"{key} {real.__name__} {'tame' if tame else 'wild'}", [*data, np.float64(total)]
    if left:
        sys.exit(f"tile functions without a source: {sorted(left)}")


def layers():
    """Run the layers whose tiles look at whole arrays, with two threads where they are large; 16 bits, too."""
    for real, tame, shape in itertools.product((*REALS, np.float16), (False, True), ((130, 37), (67, 5, 131))):
        x, dy = (wild(math.prod(shape), real, i, tame).reshape(shape) for i in (1, 2))
        weight, bias = (wild(shape[1], real, i, tame) for i in (3, 4))
        last = wild(shape[-1], real, 5, tame)
        found = []
        if real in REALS:
            made = pyopt.layers.batch_norm(x, None, None, weight, bias, True)
            found += [*made, *pyopt.layers.batch_norm_backward(dy, x, *made[1:], weight, training=True)]
            found += pyopt.layers.batch_norm_backward(dy, x, *made[1:], weight, training=False)
        made = pyopt.layers.layer_norm(x, last)
        found += [*made, *pyopt.layers.layer_norm_backward(dy, x, *made[1:], last)]
        found += [pyopt.layers.dropout(x, 0.3, 2**63 + 1, 2, 3), *pyopt.layers.bias_relu_backward(dy, x, last)]
        for form in ("none", "tanh"):
            found += [pyopt.layers.bias_gelu(x, last, form), *pyopt.layers.bias_gelu_backward(dy, x, last, form)]
        yield f"layers {real.__name__} {'tame' if tame else 'wild'} {shape}", found


def losses():
    """Run losses of 16 bits, weighed and summed, and softmax cross-entropy of rows short and long."""
    for tame, shape in itertools.product((False, True), ((700, 10), (70, 1031))):
        x = wild(math.prod(shape), np.float16, 1, tame).reshape(shape)
        labels = raw(math.prod(shape), np.uint64, 2).reshape(shape) % 2
        weight = wild(shape[0], np.float32, 3, True) / 64 + 0.5
        found = []
        for name in sorted(ELEMENTWISE):
            low, high = getattr(LOSSES[name], "LABELS", (0, 1))
            target = np.where(labels == 0, low, high).astype(np.float16)
            for reduction in ("sum", "none"):
                found += getattr(pyopt.losses, name)(x, target, reduction, sample_weight=weight)
        for target in (labels[:, 0].astype(np.int64), labels.astype(np.float16) / np.float16(8)):
            found += pyopt.losses.softmax_cross_entropy(x, target, label_smoothing=0.125, sample_weight=weight)
        yield f"losses float16 {'tame' if tame else 'wild'} {shape}", found


def augment():
    """Warp and blend images of both layouts; bytes, too."""
    for dtype, layout in itertools.product((*REALS, np.uint8), ("NCHW", "NHWC")):
        shape = (5, 3, 17, 37) if layout == "NCHW" else (5, 17, 37, 3)
        whole = dtype == np.uint8
        images = (raw(math.prod(shape), dtype) if whole else wild(math.prod(shape), dtype, 1)).reshape(shape)
        maps = wild(30, np.float64, 2, True).reshape(5, 2, 3) * 8.0
        found = [pyopt.augment.affine_warp(images, maps, fill=7.0, border=border, size=(19, 70), layout=layout)
                 for border in ("constant", "edge")]  # fmt: skip
        weights = wild(5, np.float64, 3, True) / 64 + 0.5
        found.append(pyopt.augment.blend(images, [4, 1, 0, 2, 2], weights, (2, 3, 9, 21), layout=layout))
        yield f"augment {dtype.__name__} {layout}", found


def value(hyper, on):
    """Return a value of a hyper-parameter that is not its default."""
    if isinstance(hyper.default, bool):
        return on
    if isinstance(hyper.default, tuple):
        return tuple(x * 0.9375 for x in hyper.default)
    if hyper.default is None:
        return None
    return hyper.default * 0.875 if hyper.default else 0.0625 * on


def variants(rule):
    """Yield settings: everything off, each switch on alone, all on."""
    switches = [h.name for h in rule.all_hypers if isinstance(h.default, bool) or h.default == 0]
    for on in [(), *((name,) for name in switches), *itertools.combinations(switches, 2), tuple(switches)]:
        row = rule.Values(*(value(h, h.name in on) for h in rule.all_hypers))
        if rule.check(row) is None:
            yield row._asdict()


def some(kind):
    """Return a penalty with coefficients in their ranges."""
    lowest = [max(f.metadata.get("low", 0.0), 0.0) for f in dataclasses.fields(kind)]
    return kind(*(low + x for low, x in zip(lowest, (0.0625, 0.25), strict=False)))


def rules():
    """Step every optimizer in several settings, and once with two threads."""
    every = [some(kind) for kind in PENALTIES.values() if not issubclass(kind, Projection)]
    proxes = [pyopt.L1(0.03125), pyopt.NonNegative()]
    for cls in OPTIMIZERS.values():
        penalties = [x for x in every if not (x.by_row and cls.rule.norms)]
        for real, (i, row) in itertools.product(REALS, enumerate(variants(cls.rule))):
            tame = i % 4 > 1  # norms of wild gradients are NaN
            params = [wild(n, real, n + i, tame) for n in (1, 1031, 40_009 if i in (0, 2) else 130)]
            near = {"prox": proxes, "metric": "lr" if cls.rule.norms else None}
            more = {"penalty": penalties} if i % 2 else near if i % 8 else {}
            if tame:
                more |= {"max_grad_norm": 0.5, "max_tensor_norm": 1.5, "clip_value": 0.125, "ema_decay": 0.9375}
            opt = cls(params, **(row | more))
            norms = []
            for t in range(3):
                opt.step([wild(p.size, real, p.size + 100 * t, tame) for p in params], grad_scale=4.0)
                norms.append(np.float64(opt.grad_norm if tame else 0))
            states = [state[key] for state in opt.state for key in sorted(state)]
            yield f"{cls.__name__} {real.__name__} {i}", [*params, *states, *norms]


def stored():
    """Step weights that are stored in 16 bits, and rows of them."""
    for rounding, shadow in itertools.product(("nearest", "stochastic"), (None, np.float16)):
        p = wild(40_960, np.float16, 1, True).reshape(640, 64)
        more = {"rounding": rounding, "seed": 2**63 + 5, "shadow_dtype": shadow, "ema_decay": 0.875, "clip_value": 0.5}
        opt = pyopt.AdamW([p], lr=0.125, weight_decay=0.25, prox=pyopt.GroupLasso(0.0625), metric="lr", **more)
        for t in range(3):
            opt.step([wild(p.size, np.float16, 2 + t, True).reshape(p.shape)])
        opt.step_rows(raw(100, np.uint64).astype(np.int64) % 640, wild(6400, np.float16, 9, True).reshape(100, 64))
        opt.catch_up_rows()
        yield f"stored {rounding} {shadow}", [p, *(opt.state[0][key] for key in sorted(opt.state[0]))]


def main():
    pyopt.set_num_threads(2)
    lines = []
    with np.errstate(all="ignore"):
        for label, arrays in itertools.chain(tiles(), layers(), losses(), augment(), rules(), stored()):
            lines.append(f"{label} {digest(arrays)}")
    print("\n".join(lines))
    print(f"{len(lines)} hashes with {isa.active()} of {isa.available()}, numpy {np.__version__}", file=sys.stderr)


main()
