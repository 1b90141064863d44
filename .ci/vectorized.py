"""Check that gcc vectorised every innermost loop of every tile function and its helpers, on every instruction set.

It builds with the flags of setup.py and reads gcc's own notes (-fopt-info-vec), loop by loop, in float32 and float64.
Nothing else tells: a tile that has fallen back to scalar code gives the same bits, only slower.

    python .ci/vectorized.py            # CC and the like as for setup.py
    python .ci/vectorized.py FOLDER     # and leaves the package there, as a wheel would hold it
"""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BYTES = {"baseline": 16, "neon": 16, "avx2": 32, "avx512": 64}  # of the widest vectors
# Loops that need none, by function and the text of the loop: each with the reason.
SCALAR = {
    ("reductions.lanes", "for j in range(n - i):"): "at most 31 elements, once per tensor",
    ("reductions.tree_of_squares", "while depth > 1 and height[depth - 1] == height[depth - 2]:"): "an addition a leaf",
    ("reductions.tree_of_squares", "while depth > 1:"): "a few additions a row",
    ("reductions.row_squares", "for i in range(n):"): "a row each",
    ("penalties.group_lasso_value", "for i in range(n):"): "a row each",
    ("losses.softmax_cross_entropy", "for j in range(n):"): "a look at each label, once a row",
    ("layers.batch_norm_squares", "for k in range(n):"): "a call for each channel",
    ("layers.batch_norm_products", "for k in range(n):"): "a call for each channel",
    ("augment.take_bytes", "for x in range(start, stop):"): "no instruction set gathers bytes",
    ("augment.put", "for x in range(n):"): "stores to every third place or so",
    ("augment.warp_sample", "for c in range(of.channels):"): "calls: the loops are those of sample",
    ("augment.blend_sample", "for y in range(box[0], box[2]):"): "copies of a row of the box",
    ("augment.warp", "for n in range(samples):"): "calls: the loops are those of locate, look_beyond and sample",
    ("augment.warp_bytes", "for n in range(samples):"): "calls: the loops are those of locate, look_beyond and sample",
    ("augment.blend", "for n in range(samples):"): "calls: the loops are those of blend_sample",
    ("augment.blend_bytes", "for n in range(samples):"): "calls: the loops are those of blend_sample",
    ("losses.lane_sum", "for j in range(16):"): "16 additions a row",
    ("losses.lane_sum", "for j in range(n - k):"): "at most 31 additions a row",
    (
        "linear_models.lanes16",
        "for j in range(16):",
    ): "4 vectors of SSE are unrolled first, and vectorised as straight code",
    ("linear_models.descend", "for k in range(i, stop):"): "a product for each row",
    ("linear_models.descend", "for k in range(at, at + stop - i):"): "a sum in order, of one number a row",
    ("linear_models.descend_sparse", "for k in range(i, stop):"): "a product for each row",
    ("linear_models.descend_sparse", "for k in range(start, end):"): "a call for each row",
    (
        "linear_models.descend_sparse",
        "for j in range(indptr[row], indptr[row + 1]):",
    ): "through indices, which may repeat",
    ("linear_models.settle", "for k in range(n):"): "through indices, which may repeat",
    ("linear_models.row_product", "while k + 4 <= n:"): "through indices",
    ("linear_models.row_product", "while k < n:"): "at most 3 products a row",
    ("linear_models.weighted_sums", "for j in range(columns):"): "a sum in order, once for a fit",
    ("linear_models.weighted_squares", "for j in range(columns - k):"): "at most 15 columns a row",
    ("linear_models.weighted_squares", "for j in range(16):"): "unrolled and vectorised as straight code",
    ("linear_models.softmax_forward", "for j in range(1, columns):"): "a sum in order, beside as many exponentials",
    ("linear_models.softmax_forward", "for i in range(rows):"): "pairs of numbers side by side, for predictions",
}

FUNCTION = re.compile(
    r"^static (?:CYTHON_INLINE )?\w+ ((?:__pyx_fuse_[\d_]*\d)?__pyx_f_\w+?_tiles_\w+?_(\w+))\((\w+).*\{$"
)
COMMENT = re.compile(r'/\* "((?:kernels|build/generated)/[\w/]+\.pxi)":(\d+)$')
NOTE = re.compile(r"_tiles_(\w+)\.c:(\d+):\d+: optimized: loop vectorized using (\d+) byte vectors")


def build(folder):
    """Compile everything; return gcc's notes."""
    flags = f"{os.environ.get('CFLAGS', '')} -fopt-info-vec-optimized"
    with tempfile.TemporaryDirectory() as objects:
        command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", folder]
        # -j 1: two compilers at once would write their notes into one another
        command += ["build_ext", "--force", "-j", "1", "--build-lib", folder, "--build-temp", objects]
        env = {**os.environ, "CFLAGS": flags}
        done = subprocess.run(command, cwd=ROOT, env=env, text=True, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"{done.stderr}\nthe build failed")
    return done.stderr


def innermost(text, names):
    """Yield (function, type, place, source line, C line) of every innermost loop of the tile functions ``names``."""
    lines, mentioned = text.splitlines(), Counter(re.findall(r"\w+", text))
    function, place, opened = None, None, []  # opened: the loops around, [indent, C line, place, has a loop inside]
    for number, line in enumerate(lines, 1):
        if found := FUNCTION.match(line):
            whole, name, kind = found.groups()  # told apart by the type of the first argument
            called = mentioned[whole] > 2  # Cython also makes pairs of types that nobody uses
            function = (name, kind) if name in names and called else None
        elif function and (found := COMMENT.search(line)):
            place = found.groups()
        if not function:
            continue
        indent = len(line) - len(line.lstrip())
        while opened and (line.strip() == "}" or line == "}") and indent <= opened[-1][0]:
            _, at, where, outer = opened.pop()
            if not outer:
                yield *function, where, at
        if re.match(r"\s*(for \(|while \(1\))", line):
            if opened:
                opened[-1][3] = True
            opened.append([indent, number, place, False])
        if line == "}":
            function = None


def needs_none(source, body, isa):
    """Say whether any loop with this head and first line may stay scalar."""
    if re.fullmatch(r"\w+\[\w+\] = 0|memcpy\(.*\)", body):
        return True  # fills and copies: gcc makes a memset or memcpy of them
    if re.fullmatch(r"for \w+ in range\((\d|1[0-5])\):", source):
        return True  # straight code
    return isa == "neon" and re.search(r"\w\[[\w.]+\[\w+\]", body) is not None  # it cannot gather


def main():
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        notes = build(*sys.argv[1:] or [folder])
    loops = ROOT / "build/generated/tables.pxi"  # of the functions on one element
    stems = [p for p in [*(ROOT / "kernels").rglob("*.pxi"), loops] if p.parent.name != "cpu"]  # which holds no tiles
    shared = ("kernels", "numerics", "generated")
    family = {p: p.stem if p.parent.name in shared else p.parent.name for p in stems}
    tile = re.compile(r"^cdef (?:inline )?\w+ (\w+)\([^)]*\) noexcept nogil:", re.MULTILINE)
    names = {name: f"{family[p]}.{name}" for p in stems for name in tile.findall(p.read_text())}
    widths: dict[tuple[str, int], int] = {}
    for isa, line, width in NOTE.findall(notes):
        widths[isa, int(line)] = max(int(width), widths.get((isa, int(line)), 0))
    checked, bad, used, seen, isas = 0, 0, set(), set(), sorted({isa for isa, _ in widths})
    for isa in isas:
        text = (ROOT / f"build/generated/_tiles_{isa}.c").read_text()
        for name, real, (path, row), line in innermost(text, names):
            if re.search("_bf16_(p|g|s|pg|ps|gs)$", name) and isa != "avx512":
                continue  # not compiled
            source, body = map(str.strip, (ROOT / path).read_text().splitlines()[int(row) - 1 : int(row) + 1])
            if (names[name], source) in SCALAR:
                used.add((names[name], source))
                continue
            if needs_none(source, body, isa):
                continue
            checked += 1
            seen.add(name)
            if (width := widths.get((isa, line), 0)) < BYTES[isa]:
                bad += 1
                what = f"vectors of {width} bytes" if width else "scalar"
                print(f"{isa:8} {names[name]} {real}: {what}: {path}:{row}: {source}")
    for key in sorted(set(SCALAR) - used):
        bad += 1
        print(f"no such loop any more: {key}")
    print(f"{checked} loops of {len(seen)} functions on {', '.join(isas)}: {bad} not vectorised")
    if bad or not isas:
        sys.exit(1)


main()
