"""Run in a process of its own: the engines with two more storage types, made up of rows and functions alone.

``int16``, a plain one, holds multiples of 1/256; ``int8``, for states, holds multiples of 1/16, and says that 64 of
them are encoded together. Their rows stand before all others.
"""

import ctypes
import sys
from importlib.machinery import PathFinder, SourceFileLoader

import numpy as np

TILE = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p, ctypes.POINTER(ctypes.c_ssize_t))
BLOCK = 64
UNITS = {"i16": (np.int16, 256), "i8": (np.int8, 16)}
seen = []  # how many were encoded at a time, of those in blocks


def rounded(kind, x):
    """Return numbers as whole ones of a type's unit."""
    stored, unit = UNITS[kind]
    info = np.iinfo(stored)
    return np.clip(np.rint(np.nan_to_num(x.astype(np.float32)) * np.float32(unit)), info.min, info.max).astype(stored)


def numbers(kind, x):
    return x.astype(np.float32) / np.float32(UNITS[kind][1])


def rows(row, plain):
    """Return the rows of the table."""
    return (
        row("int8", "i8", 1, "|i1", "f32", ("state",), block=BLOCK,
            decode=lambda x: numbers("i8", x), encode=lambda x: rounded("i8", x)),
        row("int16", "i16", 2, "<i2", "f32", plain,
            decode=lambda x: numbers("i16", x), encode=lambda x: rounded("i16", x)),
    )  # fmt: skip


class Finder(PathFinder):
    """Finds codecs.py with the rows in it."""

    class Loader(SourceFileLoader):
        def get_code(self, name):
            text, table = self.get_source(name), "\nTYPES = (\n"
            assert text.count(table) == 1
            text = text.replace(table, f"\nimport made_up{table}    *made_up.rows(Type, PLAIN),\n")
            return compile(text, self.path, "exec")

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        found = super().find_spec(name, path, target) if name == "pyopt.kernels.numerics.codecs" else None
        if found is not None:
            found.loader = cls.Loader(name, found.origin)
        return found


def array(address, dtype, n):
    raw = (ctypes.c_char * (n * np.dtype(dtype).itemsize)).from_address(address)
    return np.frombuffer(raw, dtype)


def tiles(kind, real):
    """Return the tile functions of a type, by name."""
    stored = UNITS[kind][0]

    def decode(a, k, n):
        array(a[0], real, n[0])[:] = numbers(kind, array(a[1], stored, n[0])).astype(real) * array(k, real, 1)

    def encode(a, k, n):
        array(a[1], stored, n[0])[:] = rounded(kind, array(a[0], real, n[0]))
        if kind == "i8":
            seen.append(n[0])

    def add(a, k, n):
        array(a[0], real, n[0])[:] += numbers(kind, array(a[1], stored, n[0])).astype(real)

    return {f"codecs.{f.__name__}_{kind}": TILE(f) for f in (decode, encode, add)}


def install():
    """Add the tiles of each instruction set and the functions of the GPU; return what must be kept."""
    from pyopt.kernels.cpu import isa
    from pyopt.kernels.numerics import codecs_cuda

    kept = []
    for kind in UNITS:
        forms = [tiles(kind, real) for real in (np.float32, np.float64)]
        kept += forms
        addresses = {name: [ctypes.cast(form[name], ctypes.c_void_p).value for form in forms] for name in forms[0]}
        for name in isa.available():
            isa.tiles(name).update({tile: (*found, (), ()) for tile, found in addresses.items()})
    codecs_cuda.CODECS["i16"] = codecs_cuda.Codec(
        "u16",
        lambda word: numbers("i16", np.array(word).astype(np.uint16).view(np.int16))[()],
        lambda x: rounded("i16", np.array(x)).view(np.uint16).astype(np.uint32)[()],
    )
    return kept


def check():
    """Step parameters stored in each type by every engine, and compare with the reference."""
    import pytest
    from helpers import gradients, run, same, tame

    from pyopt import AdamW, GroupLasso
    from pyopt.kernels.cpu import isa
    from pyopt.kernels.numerics import codecs

    def stored(n, kind, seed):
        return codecs.encode(tame(n, np.float32, seed), codecs.dtype(kind))

    options = {"lr": 0.07, "weight_decay": 0.1, "amsgrad": True, "max_grad_norm": 3.0, "ema_decay": 0.9,
               "grad_scale": 2.0, "zero_grads": True}  # fmt: skip
    plain = {"state_dtype": {"exp_avg": "int16", "max_exp_avg_sq": "bfloat16"}, "rounding": "stochastic", "seed": 5}
    for own, given in (("int16", "int16"), ("float32", "int16"), ("int16", "bfloat16"), ("float64", "int16")):
        params = [stored(n, own, n) for n in (0, 1, 9, 700)]
        grads = [[stored(p.size, given, 10 * t + i) for i, p in enumerate(params)] for t in range(2)]
        want = run(AdamW.rule, params, grads, **options, **plain)
        for by in (*isa.available(), "emulated"):
            same(run(AdamW.rule, params, grads, by=by, **options, **plain), want, f"{own} {given} {by}")

    blocks = {"state_dtype": {"exp_avg": "int8", "exp_avg_sq": "float16"}}
    params = [stored(n, "int16", n) for n in (700, 1, 64, 40_009, 130)]
    grads = gradients([codecs.decode(p, np.float32) for p in params], 2, make=tame)
    want = run(AdamW.rule, params, grads, **options, **blocks)
    for threads in (1, 2):
        same(run(AdamW.rule, params, grads, threads=threads, **options, **blocks), want)
        same(run(AdamW.rule, params, grads, by=isa.active(), threads=threads, **options, **blocks), want)
    cut = [p.size % BLOCK for p in params if p.size % BLOCK]
    assert sorted(n % BLOCK for n in seen if n % BLOCK) == sorted(4 * cut), "a block was split"  # 2 runs of 2 steps
    with pytest.raises(ValueError, match="rows of 65 elements, and a state in blocks of 64"):
        AdamW([np.zeros((4, 65), np.float32)], penalty=GroupLasso(0.1), state_dtype={"exp_avg": "int8"})
    with pytest.raises(TypeError, match="is i8: i16 or f32 or bf16 or f16 is needed"):
        run(AdamW.rule, params[:1], [row[:1] for row in grads], by="emulated", **options, **blocks)


if __name__ == "__main__":
    sys.modules["made_up"] = sys.modules[__name__]
    sys.meta_path.insert(0, Finder)
    kept = install()
    check()
