"""Build pyopt.kernels: the engine once, the tile functions once per instruction set.

The loops of the tiles, and the table of all, are written under build/ by kernels/cpu/loops.py.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

os.chdir(Path(__file__).resolve().parent)
sys.path.insert(0, "kernels")
from cpu import loops  # noqa: E402  by its folder: pyopt.kernels is not there before it is built

sys.path.remove("kernels")
GENERATED = Path("build/generated")
TILES = Path("kernels/cpu/tiles.pyx")
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
OPTIONAL_FLAGS = [  # each where the compiler takes it
    "--param=vect-max-version-for-alias-checks=100",  # else gcc silently gives up above 10 pairs of pointers
    "-falign-loops=64",  # where a short loop happens to lie in memory costs it up to half of its speed
]
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
        write(GENERATED / "tables.pxi", loops.table(Path("kernels"), TILES))
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
        return FLAGS + [flag for flag in OPTIONAL_FLAGS if self.takes([flag])], []

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
