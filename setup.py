"""Build pyopt.kernels: the engine once, the tile functions once per instruction set.

A tile function is a Cython function of a ``.pxi`` file. What is written here, under build/, is its entry in the
table: a function of one common type that hands arrays, scalars and sizes over in the order of the signature. Of a rule,
there are forms for arrays in bfloat16 as well.
"""

import functools
import itertools
import os
import re
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

HERE = Path(__file__).resolve().parent
os.chdir(HERE)
GENERATED = Path("build/generated")
TILES = Path("kernels/cpu/tiles.pyx")
SHARED = ("cpu", "cuda", "numerics")  # folders that hold no stems
DEBUG = os.environ.get("PYOPT_DEBUG") == "1"  # sanitizers: Cython's bounds checks do not see raw pointers
OPENMP = os.environ.get("PYOPT_OPENMP")  # "0": without; "1": an error if the compiler has none; else if it has it
MSVC = sys.platform == "win32"
TARGET = sysconfig.get_platform().rpartition("-")[2]  # the machine to build for: a cross compilation names another one

if MSVC:
    FLAGS = ["/O2", "/fp:precise", "/std:c11"]
else:
    FLAGS = [
        "-O3",
        "-fno-fast-math",  # whatever CFLAGS says
        "-g0",
        "-ffp-contract=off",  # the bit law: a fused multiply-add rounds once where two operations round twice
        "-fno-math-errno",  # else nothing with a square root vectorises; changes no bits
        "-fno-trapping-math",  # else three-way selects do not; changes no bits
    ]
# gcc silently gives up above 10 pairs of pointers to tell apart: five written arrays and g
GCC_FLAGS = ["--param=vect-max-version-for-alias-checks=100"]
DEBUG_FLAGS = ["-O1", "-g", "-fno-omit-frame-pointer", "-ffp-contract=off"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]  # all: else a finding is a line nobody reads
OPENMP_FLAGS = [  # to compile, to link; the first that works
    (["-fopenmp"], ["-fopenmp"]),
    (["-Xpreprocessor", "-fopenmp"], ["-lomp"]),  # Apple's clang beside a libomp of its own
]
OPENMP_PROBE = "#include <omp.h>\nint probe(void) { return omp_get_max_threads(); }\n"
X86 = {
    "baseline": ["-march=x86-64-v2"],
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
ISAS = {
    "x86_64": X86,
    "amd64": {"baseline": [], "avx2": ["/arch:AVX2"], "avx512": ["/arch:AVX512"]} if MSVC else X86,
    "aarch64": {"neon": []},
    "arm64": {"baseline": []} if MSVC else {"neon": []},
}.get(TARGET, {"baseline": []})

SIGNATURE = re.compile(r"^cdef void (\w+)\(([^)]*)\) noexcept nogil:", re.MULTILINE)
PARAMETER = re.compile(r"(?:const )?(\w+)(\*?) (\w+)")
LOOP = re.compile(r"^( *)for i in range\(n\):\n((?:\1 +.*\n)+)", re.MULTILINE)


def signature(function):
    """Return the name of a tile function and its parameters, each as (type, star, label)."""
    name, parameters = SIGNATURE.search(function).groups()
    return name, PARAMETER.findall(parameters)


def entry(family, function):
    """Return the Cython text of the two table entries (float32, float64) of one tile function, and its row."""
    name, parameters = signature(function)
    arrays = [(kind, label) for kind, star, label in parameters if star]
    scalars = [label for kind, star, label in parameters if not star and kind in ("real", "float")]
    sizes = [f"n[{i}]" for i in range(len(parameters) - len(arrays) - len(scalars))]
    fused = "real" in {kind for kind, _, _ in parameters}
    text = []
    for bits, real in ((32, "float"), (64, "double")):
        pointers = [f"<{real if kind == 'real' else kind}*>a[{i}]" for i, (kind, _) in enumerate(arrays)]
        values = [f"(<const {real}*>k)[{i}]" for i in range(len(scalars))]
        text += [
            f"cdef void {name}_{bits}(void** a, const void* k, const Py_ssize_t* n) noexcept nogil:",
            f"    {name}{f'[{real}]' if fused else ''}({', '.join(pointers + values + sizes)})\n",
        ]
    labels = tuple(label for _, label in arrays), tuple(scalars)
    return "\n".join(text), f'        "{family}.{name}": (<size_t>&{name}_32, <size_t>&{name}_64, *{labels!r}),'


def in_bfloat16(rule):
    """Yield the text of a rule with p, g, its states, or two of these, in bfloat16 and the rest in float32.

    So it reads and writes what is stored: no other loop decodes and encodes it. The names end in which they are.
    """
    name, parameters = signature(rule)
    arrays = [label for _, star, label in parameters if star]
    parts = {"p": arrays[:1], "g": arrays[1:2], "s": arrays[2:]}
    for chosen in itertools.chain.from_iterable(itertools.combinations(parts, count) for count in (1, 2)):
        stored = "|".join(label for part in chosen for label in parts[part])
        text = re.sub(rf"\breal\* ({stored})\b", r"uint16_t* \1", rule)
        text = re.sub(rf"\b({stored})\[i\](?! = )", r"wide_bf16(\1[i])", text)
        text = re.sub(rf"\b({stored})\[i\] = (.*)", r"\1[i] = round_bf16(\2)", text)
        yield re.sub(r"\breal\b", "float", text).replace(f"{name}(", f"{name}_bf16_{''.join(chosen)}(", 1) + "\n"


def in_pairs(rule):
    """Yield the text of a rule with all arrays in bfloat16, rounded to the nearest and, up to 3 states, at random.

    A turn of a loop takes both elements of a word: faster than to widen and to narrow numbers of 16 bits.
    """
    name, parameters = signature(rule)
    arrays = [label for _, star, label in parameters if star]
    written = [arrays[0], *arrays[2:]]
    plain = re.sub(rf"\breal\* ({'|'.join(arrays)})\b", r"pair_t* \1", rule + "\n")
    lows = ", ".join(f"{label}_low" for label in written)
    plain = plain.replace("    cdef Py_ssize_t i\n", f"    cdef Py_ssize_t i\n    cdef uint32_t {lows}\n", 1)
    for form in ("pgs", "random") if len(written) <= 4 else ("pgs",):
        text = LOOP.sub(functools.partial(by_halves, written, form == "random"), plain)
        if form == "random":
            text = text.replace(" real ", " const pair_t* bits, const pair_t* bits2, real ", 1)
        if re.search(rf"(?<!_bf16\()\b({'|'.join(arrays)})\[i\](?! = both)|range\(n\)|\bcontinue\b", text):
            raise ValueError(f"{name}: its loops are not as CONTRIBUTING.md wants them:\n{text}")
        yield re.sub(r"\breal\b", "float", text).replace(f"{name}(", f"{name}_bf16_{form}(", 1)


def by_halves(written, random, loop):
    """Return the text of a loop over elements as one over words: the lower element of each, then the upper one."""
    indent, body = loop.groups()
    text = f"{indent}for i in range(n // 2):\n"
    for upper, half in enumerate(("low", "high")):
        lines = re.sub(r"\b(\w+\[i\])(?! = )", rf"{half}_bf16(\1)", body)
        for number, label in enumerate(written):
            value = r"near_bf16(\1)"
            if random:  # element i has the bits of element i ^ number: philox.py
                half_of_bits = ">> 16" if upper ^ number & 1 else "& 0xffff"
                value = rf"drawn_bf16(\1, {'bits2' if number & 2 else 'bits'}[i] {half_of_bits})"
            stored = f"{label}[i] = both({label}_low, {value})" if upper else f"{label}_low = {value}"
            lines = re.sub(rf"\b{label}\[i\] = (.*)", stored, lines)
        text += lines
    return text


def table():
    """Return the text of tables.pxi: includes, entries and the function that returns the table."""
    includes, entries, rows, mixed = [], [], [], []
    common = [
        Path("kernels", name) for name in re.findall(r'^include "([\w/]+\.pxi)"', TILES.read_text(), re.MULTILINE)
    ]
    stems = sorted(p for p in Path("kernels").glob("*/*.pxi") if p.parent.name not in SHARED)
    for path in [*(p for p in common if p.exists()), *stems]:
        family = path.stem if path in common else path.parent.name
        if path in stems:
            includes.append(f'include "{path.relative_to("kernels").as_posix()}"')
        for function in filter(SIGNATURE.search, path.read_text().split("\n\n\n")):
            text, row = entry(family, function)
            entries.append(text)
            rows.append(row)
            if family == "rules" and signature(function)[0] == path.stem:
                for forms, where in ((in_bfloat16, mixed), (in_pairs, rows)):
                    for form in forms(function):
                        text, row = entry(family, form)
                        entries += [form, text]
                        where.append(row)
    returned = ["    cdef dict tiles = {", *rows, "    }", "    if MIXED_WIDTHS:", "        tiles |= {"]
    returned += [*mixed, "        }", "    return tiles", ""]
    return "\n".join([*includes, "", *entries, "cdef dict all_tiles():", *returned])


def write(path, text):
    """Write only what changed, so that an unchanged tree rebuilds nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


class Build(build_ext):
    """Swap each extension's source for generated C just before compiling, so that an sdist never sees it."""

    def build_extensions(self):
        import numpy as np
        from Cython.Build import cythonize

        compile_flags, link_flags = self.flags()
        openmp = self.openmp()
        stamp = GENERATED / "flags.txt"
        write(stamp, repr((compile_flags, link_flags, openmp, ISAS, getattr(self.compiler, "compiler_so", None))))
        write(GENERATED / "tables.pxi", table())
        copies = []
        for extension in self.extensions:
            name = extension.name.rpartition(".")[2]
            write(GENERATED / f"{name}.pyx", f'include "../../{extension.sources[0]}"\n')
            copies.append(Extension(extension.name, [str(GENERATED / f"{name}.pyx")]))
        made = cythonize(
            copies,
            include_path=["kernels/cpu", "kernels", str(GENERATED)],
            compiler_directives={
                "language_level": 3, "cdivision": True, "boundscheck": False, "wraparound": False,
                "initializedcheck": False, "embedsignature": True,
            },
        )  # fmt: skip
        for extension, copy in zip(self.extensions, made, strict=True):
            extension.sources = copy.sources
            extension.include_dirs = [np.get_include(), "kernels/cpu", "kernels"]
            extension.depends.append(str(stamp))  # other flags than last time: build again
            parallel = openmp if extension.name.endswith(".engine") else ([], [])  # the tiles know no threads
            extension.extra_compile_args = compile_flags + parallel[0] + extension.extra_compile_args
            extension.extra_link_args = link_flags + parallel[1]
        if self.parallel is None:  # nobody asked for -j
            self.parallel = True
        super().build_extensions()

    def flags(self):
        """Return the flags to compile and to link with, whatever the instruction set."""
        if MSVC:
            return FLAGS, []
        if DEBUG:
            return DEBUG_FLAGS + SANITIZE, SANITIZE
        return FLAGS + (GCC_FLAGS if self.takes(GCC_FLAGS) else []), []

    def openmp(self):
        """Return the flags of OpenMP, to compile and to link; none where the compiler or the user has it not."""
        if OPENMP == "0":
            return [], []
        if MSVC:
            return ["/openmp"], []
        for flags in OPENMP_FLAGS:
            if self.takes(*flags, OPENMP_PROBE):
                return flags
        if OPENMP == "1":
            raise CompileError("PYOPT_OPENMP=1, but this compiler builds nothing with -fopenmp")
        print("pyopt: this compiler builds nothing with -fopenmp: every step will be serial", file=sys.stderr)
        return [], []

    def takes(self, compile_flags, link_flags=(), source="int probe;\n"):
        """Say whether the compiler takes these flags. It is asked: neither its name nor its version tells."""
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder, "probe.c")
            probe.write_text(source)
            try:
                made = self.compiler.compile([str(probe)], folder, extra_postargs=["-Werror", *compile_flags])
                self.compiler.link_shared_object(made, str(Path(folder, "probe.so")), extra_postargs=[*link_flags])
            except (CompileError, LinkError):
                return False
        return True


class Wheel(bdist_wheel):
    """Pack what was built now: setuptools packs all that lies in build/lib, files deleted long ago among it."""

    def run(self):
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        super().run()


def extension(name, source, flags=()):
    return Extension(
        f"pyopt.kernels.{name}",
        [source],
        depends=["setup.py", *(p.as_posix() for p in sorted(Path("kernels").rglob("*")) if p.suffix in {".pxi", ".h"})],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        extra_compile_args=list(flags),
    )


setup(
    packages=find_packages(include=["pyopt", "pyopt.*"])
    + [f"pyopt.{name}" for name in find_packages(include=["kernels", "kernels.*"])],
    package_dir={"pyopt.kernels": "kernels"},
    ext_modules=[
        extension("native", "kernels/native.pyx"),
        extension("cpu.engine", "kernels/cpu/engine.pyx"),
        *(extension(f"cpu._tiles_{isa}", TILES.as_posix(), flags) for isa, flags in ISAS.items()),
    ],
    cmdclass={"build_ext": Build, "bdist_wheel": Wheel},
)
