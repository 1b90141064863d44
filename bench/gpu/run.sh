#!/usr/bin/env bash
# Tests and benches on a machine with an NVIDIA GPU: run.sh RESULTS.json. Needs no network, but what pyopt is built with
# (setuptools, Cython, a C compiler) and what the extra of its CUDA brings; torch, CuPy and bitsandbytes if they are to
# take part. Ends with the status of the tests; what failed is in the results too.
set -Eeuo pipefail
out=$(realpath -m "${1:-gpu.json}")
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1
# where the wheel of NVVM is missing, that of the toolkit serves
export CUDA_HOME=${CUDA_HOME:-/usr/local/cuda}
"$python" -m pip install -q --no-deps --no-build-isolation -e .
"$python" -c 'import pyopt; assert "cuda" in pyopt.show_config()'
mkdir -p "$(dirname "$out")"

status=0
workers=() # most of the time goes into compiling
if "$python" -c 'import xdist' 2>/dev/null; then workers=(-n 12); fi
timeout 170 "$python" -m pytest -q -p no:cacheprovider "${workers[@]}" -m gpu tests/cuda/test_gpu.py tests \
    --ignore=tests/estimators/test_estimators.py 2>&1 | tee "$out.tests" || status=$?
timeout 50 "$python" -m bench.gpu.small || status=$? # compiles what the sanitizers are to see
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        timeout 40 compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" -m bench.gpu.small \
            2>&1 | tee "$out.$tool" || status=$?
    done
else
    echo "no compute-sanitizer" | tee "$out.memcheck"
fi
timeout 140 "$python" -m bench.gpu --out "$out" --seconds 100
exit "$status"
