"""The kernels of pyopt, one stem per idea.

``X.py`` says what X is and computes it slowly. What works element by element has ``X_element.py``: what it does to one
number, for every machine. Elsewhere ``X.pxi`` is X on the CPU and ``X_cuda.py`` X on the GPU.

=============  ========================================================================================================
rules/         optimizer updates: sgd, adam, lion, ...
penalties/     values, gradients and proximal forms: l1, mcp, group_lasso, ...; projections: box, max_norm, ...
losses/        value and gradient in one pass: squared_error, huber, softmax_cross_entropy, ...
layers/        linear, batch_norm, layer_norm, dropout, bias_relu, bias_gelu
augment/       images: warp, blend
models/        linear models as a whole: linear_sgd, sparse_sgd, sparse_linear, softmax, moments
step           the stages around a rule, in order
loss           the stages around a loss: weights, values, the sum
codecs         storage types and their roundings
norms          reductions over one tree, the same bits everywhere
philox         random bits by number
normal         the normal distribution
numerics       sign, flush, exp, ...: spelled the same on arrays, on one number and in C
spec           Rule, State, Hyper, Penalty: what a stem declares
checks         what is wrong with an array, in words
cpu/           loops, element: how tiles are made from functions on one element
tiles, isa     the tile functions, compiled once per instruction set; which of them run
threads        how many threads a step may take
engine.pyx     the CPU's engine, compiled once, knows no instruction set. It includes, for steps: arrays, memory (what
               lies where), plan, measure (norms), walk (the stages), rows (steps of some rows); for the rest: sweep,
               each
engine_cuda    the GPU's engine; docs/cuda.md says what is in each of the other *_cuda modules
memory.h       what engine and tiles tell the caches
philox.h       blocks of random bits in vectors
platform.h     what the engine needs from compiler, CPU and operating system
=============  ========================================================================================================
"""

if __name__ != "pyopt.kernels":
    raise ImportError("this folder is installed as pyopt.kernels: run `pip install -e .`, then `import pyopt`")
