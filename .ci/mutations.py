"""Seed one defect at a time into the step, on the CPU and on the GPU, and say which test finds it.

A defect is an expression, in backticks among the text around it, and what takes its place; or a line that goes. All
are built at once into a temporary folder, each behind its number, and a variable of the environment says which one is
there. A crash and a step that never ends are findings too. One that no test finds makes the exit status 1.

    python .ci/mutations.py             # or with the numbers of some
    python .ci/mutations.py --check     # only whether each still has its one place in the sources
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CPU = ["step/step", "step/rows", "step/clipping", "step/prox", "storage/storage", "step/bad_arrays"]
GPU = ["cuda/engine", "cuda/rows", "cuda/plan"]
KEPT = "t.data[REST] is not NULL`:\n        a[2] = at(t, REST, {})\n        "
DEFECTS = {
    "cpu/pipeline.pxi": [
        (f"if `j == P and {KEPT.format('k')}c.join", "False"),
        (f"if `j == P and {KEPT.format('x.k')}c.split", "False"),
        ("elif `w.rounding == STOCHASTIC` and", "w.rounding != NEAREST"),
        ("and `c.of[t.f64].codec[t.kind[j]].random is not NULL`:", "True"),
        ("x, `0` if j == P else RANDOM_EMA", "RANDOM_EMA"),
        ("else RANDOM_EMA if `j == EMA` else", "False"),
        ("else `RANDOM_STATE + j - FIRST_STATE`", "RANDOM_STATE"),
        ("(x.k + x.n + 7) // 8 - x.k // 8, `x.k // 8`", "0"),
        ("= `w.seed`, w.t, t.index", "0"),
        ("w.seed, `w.t`, t.index", "w.t - 1"),
        ("w.seed, w.t, `t.index`", "0"),
        ("return <char*>a[0] + `2 * (x.k % 8)`", "0"),
        ("c.words(&a[1], NULL, sizes)", None),
        ("c.permute_halves(a, NULL, sizes)", None),
        ("random_bits(c, t, w, x, `RANDOM_STATE + 1`, room)", "RANDOM_STATE"),
        ("min(tile, stop - x.k), form, `False`", "x.drawn"),
        ("found = `BF16_STOCHASTIC` if found == BF16_ALL", "BF16_ALL"),
        ("if found == BF16_ALL else `found & BF16_G`", "found"),
        ("if `x.k % 2` or x.n == 1:", "False"),
        ("if x.k % 2 or `x.n == 1`:", "False"),
        ("x.n = `x.n & ~1`", "x.n"),
        ("if `t.needs_codec`:\n        for j in range(c.arrays):", "False"),
        ("elif `t.lags`:", "False"),
        ("return `w.scaled` or w.clipped", "False"),
        ("w.scaled or `w.clipped` or", "False"),
        ("or `w.penalty[0] is not NULL` or w.slope[0] is not NULL", "False"),
        ("or w.penalty[0] is not NULL or `w.slope[0] is not NULL`", "False"),
        ("or (`t.kind[G] != native(t)` and not x.in_rule & BF16_G)", "False"),
        ("&t.scale if `w.max_norm != INFINITY` else &w.scale", "c.limited"),
        ("if `w.clipped`:\n            of.clip", "False"),
        ("while `i < MAX_PENALTIES and w.penalty[i] is not NULL`:", "i < 1 and w.penalty[i] is not NULL"),
        ("if `w.slope[i] is not NULL`:\n                of.add", "False"),
        ("of.rule[x.in_rule](x.a, &w.rule if t.own is NULL else t.own, &x.n)", None),
        ("prepare(c, t, w, &x, NULL, room)", None),
        ("x.a[c.arrays] = `update + (x.k - start) * bytes`", "update"),
        ("if `t.kind[P] != native(t)`:                  # in float32", "False"),
        ("if `w.prox[0] is not NULL`:", "False"),
        ("if `w.scalar_prox_step`:", "not w.scalar_prox_step"),
        ("of.fill(&pair[1], &w.steps, &x.n)", None),
        ("of.steps(a, &w.steps, &x.n)", None),
        ("while `i < MAX_PENALTIES and w.prox[i] is not NULL`:", "i < 1 and w.prox[i] is not NULL"),
        ("if `t.needs_codec` and not x.in_rule & BF16_STATES", "False"),
        ("if `w.rounding != REMAINDER` and w.penalty", "True"),
        ("and `w.penalty[0] is NULL` and w.prox", "True"),
        ("and `w.prox[0] is NULL` and not t.lags", "True"),
        ("w.prox[0] is NULL and `not t.lags`:", "True"),
        ("BF16 and `not staged(t, w)`:", "True"),
        ("load(c, t, EMA, k, n, pair[0])", None),
        ("of.ema(pair, &w.ema, &n)", None),
        ("store(c, t, w, x, EMA, pair[0], room)", None),
        ("store(c, t, w, x, P, x.a[P], room)", None),
        ("if `t.data[SHADOW] is not NULL`:", "False"),
        ("if `c.zero`:", "not c.zero"),
        ("if `t.lags`:\n        a[0] = row", "False"),
        ("if `w.slope[i] is not NULL`:\n            row_slope", "False"),
        ("if `w.shrink is not NULL`:", "False"),
        ("x.a[P] = `row + (x.k - start) * bytes`", "row"),
        ("if `t.decayed[row] == t.decayed[t.rows]`:", "True"),
    ],
    "cpu/leaves.pxi": [
        ("squares[first] = 0", None),
        ("if `t.kind[G] != native(t)`:", "False"),
    ],
    "cpu/tensor_norms.pxi": [
        ('"update_norm": self.norm(t, `leaves`)', "0"),
    ],
    "cpu/grad_norm.pxi": [
        ("while `k < t.n` and found == 0:", "k < 1 and t.n > 0"),
        ("return `found == 0`", "True"),
        ("put(&w.scale, `w.factor` * factor, w.f64)", "1"),
        ("put(&w.scale, w.factor * `factor`, w.f64)", "1"),
        ("put(&w.scale, w.factor * factor, `w.f64`)", "not w.f64"),
        ("w.scaled = `w.max_norm != INFINITY` or", "False"),
        ("or `not one(&w.scale, w.f64)`", "False"),
        ("if `total - total == 0`:", "True"),
        ("norm = norm * `fabs(works[i].factor)`", "works[i].factor"),
        ("rescale(&works[i], factor)", None),
        ("if `t.data[G] is not NULL` and w.max_norm", "True"),
        ("* fabs(w.factor) * `factor`\n", "1"),
        ("// LEAF)) * `fabs(w.factor)`", "w.factor"),
        ("put(&t.scale, `w.factor` * factor * clip_factor(own, w.max_norm), t.f64)", "1"),
        ("put(&t.scale, w.factor * `factor` * clip_factor(own, w.max_norm), t.f64)", "1"),
        ("put(&t.scale, w.factor * factor * `clip_factor(own, w.max_norm)`, t.f64)", "1"),
    ],
    "cpu/tensor_list.pxi": [
        ("self.mixed, self.separate = `True`, False", "self.mixed"),
        ("BF16 and `t.data[EMA] is NULL` and", "True"),
        ("and `t.data[SHADOW] is NULL`:", "True"),
        ("if `kind != t.kind[G]`:", "False"),
        ("moved = True\n                    t.kind[G]", None),
        ("moved = True\n                t.data[G]", None),
        ("bint moved = `not self.separate`", "False"),
        ("if moved or `zero and not self.zeroed`:", "False"),
        ("self.separate, self.zeroed = True, `zero`", "True"),
        ("if `zero`:\n            self.sort", "False"),
    ],
    "cpu/works.pxi": [
        ("StepCount(members[i], `steps[i]`, 1, carries[i]", "0"),
        ("StepCount(members[i], steps[i], 1, `carries[i]`", "0"),
        ("or `x.group != y.group` or", "False"),
        ("or `x.t != y.t` or", "False"),
        ("or `x.carry != y.carry` or", "False"),
        ("or `x.f64 != y.f64`\n", "False"),
        ("or `x.given != y.given`):", "False"),
        ("y.tensors += 1", None),
        ("given.append(groups[x.group].work(`x.t + 1`, x.carry", "x.t"),
        ("given.append(groups[x.group].work(x.t + 1, `x.carry`", "0"),
        ("w.t, w.seed = `x.t + 1`,", "x.t"),
        ("w.f64, w.scaled = `f64`,", "not f64"),
        ("w.f64, w.scaled = f64, `not one(&w.scale, f64)`", "False"),
        ("fill(&w.shrinks, shrink, f64)", None),
        ("fill(&w.rule, rule, f64)", None),
        ("self.counts[i].carry = `self.works[i].t`,", "self.counts[i].t"),
        ("self.works[i].t, `self.works[i].carry`", "self.counts[i].carry"),
        ("if `x.tensors > 1`:", "False"),
        ("x.given = False", None),
    ],
    "cpu/plan.pxi": [
        ("self.list.same(t)\n        self.list.same_rows(t)", None),
        ("self.list.apart_from(values, i)", None),
        ("if `self.list.sparse`:", "False"),
        ("self.c.limited = `skip` or max_norm != INFINITY", "False"),
        ("self.c.limited = skip or `max_norm != INFINITY`", "False"),
        ("self.works.counts[i].given and `self.works.works[i].max_norm != INFINITY`", "False"),
        ("self.norm = None\n        if self.c.limited", None),
        ("range(`count if zero else 0`):", "0 if zero else count"),
        ("if `not self.skipped`:\n            self.works.advance", "True"),
        ("t.decayed[t.rows] * `lazy`", "1"),
        ("self.norm = None\n        if c.limited", None),
        ("self.norm = sqrt(total) * `fabs(w.factor)`", "1"),
        ("factor = `clip_factor(self.norm, max_norm)`", "1"),
        ("clip_factor(self.norm * factor, `w.max_norm`)", "INFINITY"),
        ("clip_factor(self.norm * `factor`, w.max_norm)", "1"),
        ("t.scale = w.scale", None),
        ("self.skipped = `skip` and not (total", "True"),
        ("and `not finite_sums(&c, t, r)`", "True"),
        ("c.zero = `False`", "c.zero"),
        ("t.decayed[t.rows] = decayed", None),
        ("if `not decayed > 1e-200`:", "False"),
        ("request.groups[x.group].work(`x.t + 1`, x.carry", "x.t"),
        ("request.groups[x.group].work(x.t + 1, `x.carry`", "0"),
        ("or `self.works.works[t.work].max_norm != INFINITY`)", "False"),
        ("self.works.counts[t.work].carry = `w.t`,", "self.works.counts[t.work].t"),
        ("= w.t, `w.carry`", "self.works.counts[t.work].carry"),
        ("t.data[G] = NULL", None),
    ],
    "cpu/sparse_rows.pxi": [
        ("if `i == r.first[j]`:", "True"),
        ("while shift < 63 and `largest >> shift`:", "shift < 10"),
        ("if `old is not x`:", "False"),
        ("add_up(c, t, r, j)\n    sizes", None),
        ("once = `r.first[j + 1] - r.first[j] == 1`", "True"),
        ("if `not once and not c.limited`:", "False"),
        ("if `once and not c.limited`:", "False"),
        ("= `r.picks[r.first[j]].at`, r.values", "j"),
        ("u.lags = `not one(&u.catch_up, t.f64)`", "False"),
        ("t.decayed[row] = decayed", None),
        ("r.first[r.touched] = n", None),
        ("if (`r.touched < n` or", "False"),
        ("or `limited`) and", "False"),
        ("a[0], a[1], m = `terms + k * LEAF`,", "terms"),
    ],
    "cuda/device/pipeline.py": [
        ("if `noise[0] == u4(0)`:", "False"),
        ("if `first < start + u8(count)` else", "True"),
        ("if `first > start` else", "True"),
        ("if `zero`:\n                while k < rest", "False"),
        ("while `k < rest`:\n                    clear", "False"),
        ("while `i < before + whole`:", "False"),
        ("while `k < rest`:  # what is before", "False"),
        ("while `i < last`:  # at the end", "False"),
        ("if `zero`:\n            clear(a[1]", "False"),
        ("rule(p, `gradient(p, x[1], s)`, *states", "x[1]"),
        ("*[`DECAY`] * c.rule.decays", "SCALE"),
        ("return (`prox(new, s)`, *rest(new))", "new[0]"),
        ("return form(`before(p, step, s)`, step, *coefficients(s))", "p"),
        ("return (`new[0] * s[factor]`, *new[1:])", "new[0]"),
        ("return (*new, `clean(e + s[EMA] * (new[0] - e))`)", "e"),
        ("return (*new, `new[0]`)", "x[0]"),
        ("lambda p, g, s: `g * s[SCALE]`", "g"),
        ("return `-bound if x < -bound else x`", "x"),
        ("return form(p, `before(p, g, s)`, *coefficients(s))", "g"),
        ("return `before(p, g, s) + s[factor] * (p * s[factor + 1])`", "before(p, g, s)"),
    ],
    "cuda/device/whole_rows.py": [
        ("if `noise[0] == u4(0)`:", "False"),
        ("if `zero`:\n                begin", "False"),
        ("if `moved & (wide - u8(1)) == u8(0)` else", "True"),
        ("if `lags`:\n            lag(", "False"),
        ("if `slopes`:", "False"),
        ("if `shrinks`:", "False"),
        ("a[1] + `moved` * size", "u8(0)"),
        ("lambda x, s: x * `s[lag]` if lags", "s[lag] * s[lag]"),
    ],
    "cuda/device/row_sums.py": [
        ("(leaf, u8(0)) if `short` else", "True"),
        ("if `before < wide and before & u8(3) != u8(0)`:", "False"),
        ("k, u4(count + u8(4)), `before < wide`)", "True"),
        ("while `aligned and k >= u4(4)` and", "aligned"),
        ("and `u4(k + u4(4)) <= end`:", "True"),
        ("if `u4(i - k) & u4(3) == u4(0)`:", "False"),
        ("turn(a, b, c, d, `u4(k - i)`)", "u4(0)"),
        ("if `count > half + half`:\n                kept[half", "False"),
        ("while `k & u8(1) != u8(0)`:", "False"),
        ("if `count & u8(1) != u8(0)`:", "False"),
    ],
    "cuda/device/tensor_norms.py": [
        ("if `at >= first` and (at - first)", "True"),
        ("and `(at - first) & mask == u8(0)`:", "True"),
        ("put(sums + (`total + at`) * u8(8)", "at"),
    ],
    "cuda/device/grad_norm.py": [
        ("if `told`:", "False"),
        ("if `first & mask == u8(0)`:", "True"),
        ('if `squared and kind == "f64"` else', "False"),
        ("bad += (p + q) + (r + s)", None),
        ("bad += (doubt(x0) + doubt(x1)) + (doubt(x2) + doubt(x3))", None),
        ("put(partial + (`at` + start // u8(LEAF))", "u8(0)"),
        ("if `j == half and count > half + half`:", "False"),
    ],
}


def misplaced():
    """Return a line for each defect that does not have exactly one place in the sources."""
    found = []
    for name, defects in DEFECTS.items():
        path = ROOT / "kernels" / name
        text = path.read_text() if path.exists() else ""
        counts = [(old, text.count(old.replace("`", ""))) for old, _ in defects]
        found += [f"{name} has {old!r} {count} times" for old, count in counts if count != 1]
    return found


def seeded(name, first):
    """Return a source with its defects behind the numbers from ``first`` on."""
    text, spots = (ROOT / "kernels" / name).read_text(), []
    for k, (old, new) in enumerate(DEFECTS[name], first):
        ahead, inner, behind = ("", old, "") if new is None else old.split("`")
        spots.append((text.index(ahead + inner + behind) + len(ahead), inner, k, new))
    for start, inner, k, new in sorted(spots, reverse=True):
        cast = "<bint>" if name.endswith(".pxi") and re.search("True|False|not | [!<=]", new or "") else ""
        text = text[:start] + (
            f"if DEFECT != {k}: {inner}" if new is None else f"({cast}({new}) if DEFECT == {k} else {cast}({inner}))"
        ) + text[start + len(inner) :]  # fmt: skip
    return text.replace("import numpy as np\n", "import os\nimport numpy as np\nDEFECT = int(os.environ['DEFECT'])\n")


def build(work):
    """Build the package with all defects into a folder."""
    ignored = shutil.ignore_patterns(".*", "build", "*.so", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, work / "tree", ignore=ignored)
    first = 1
    for name, defects in DEFECTS.items():
        (work / "tree/kernels" / name).write_text(seeded(name, first))
        first += len(defects)
    engine = work / "tree/kernels/cpu/engine.pyx"
    text = engine.read_text().replace("cimport numpy as cnp\n", "cimport numpy as cnp\nimport os\n", 1)
    engine.write_text(text.replace("\ncdef", "\ncdef int DEFECT = int(os.environ['DEFECT'])\ncdef", 1))
    command = [sys.executable, "setup.py", "-q", "build_py", f"--build-lib={work}/lib", "build_ext"]
    subprocess.run(
        [*command, f"--build-lib={work}/lib"], cwd=work / "tree", check=True, env={**os.environ, "DEFECT": "0"}
    )


def found(work, name, k):
    """Return how the tests find a defect; None where they do not."""
    stems = sorted(CPU if name.endswith(".pxi") else GPU, key=lambda stem: ("rows" in stem) != ("rows" in name))
    tests = [f"{ROOT}/tests/{stem.replace('/', '/test_')}.py" for stem in stems]
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", "-c", f"{ROOT}/pyproject.toml"]
    command += ["-n0", "--sample=all", "--tb=no", "-k", "not long_time and not avx", *tests]  # one instruction set
    env = {**os.environ, "PYTHONPATH": f"{work}/lib", "DEFECT": str(k), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, timeout=1200, check=False)
    except subprocess.TimeoutExpired:
        return "never ends"
    if done.returncode < 0:
        return f"signal {-done.returncode}"
    told = re.findall(r"^(?:FAILED|ERROR) .*(test_\w+\.py\S*)", done.stdout, re.MULTILINE)
    return None if done.returncode == 0 else told[0] if told else sys.exit(done.stdout + done.stderr)


def main():
    if wrong := misplaced():
        sys.exit("\n".join(wrong))
    if sys.argv[1:] == ["--check"]:
        print(f"{sum(map(len, DEFECTS.values()))} defects, each with its place")
        return
    names = [(name, old, new) for name, defects in DEFECTS.items() for old, new in defects]
    wanted = [int(k) for k in sys.argv[1:]] or range(1, len(names) + 1)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        work = Path(folder)
        build(work)
        for name in ("cpu/pipeline.pxi", "cuda/device/pipeline.py"):
            if (how := found(work, name, 0)) is not None:
                sys.exit(f"{how} fails without any defect")
        rows = [(k, *names[k - 1]) for k in wanted]
        left = 0
        for (k, name, old, new), how in zip(rows, pool.map(lambda row: found(work, row[1], row[0]), rows), strict=True):
            left += how is None
            print(f"{k:3} {name}: {old!r} -> {new}: {how or 'NOT FOUND'}", flush=True)
    print(f"{len(rows)} defects, {left} not found")
    sys.exit(left > 0)


if __name__ == "__main__":
    main()
