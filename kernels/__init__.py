"""The kernels of pyopt, one stem per idea.

``X.py`` says what X is and computes it slowly. What works element by element has ``X_element.py``: what it does to one
number, for every machine. Elsewhere ``X.pxi`` is X on the CPU and, where that engine runs it, ``X_cuda.py`` on the GPU.

=============  ========================================================================================================
rules/         optimizer updates: sgd, adam, lion, ...
penalties/     values, gradients and proximal forms: l1, mcp, group_lasso, ...; projections: box, max_norm, ...
losses/        value and gradient in one pass: squared_error, huber, softmax_cross_entropy, ...
layers/        linear, batch_norm, layer_norm, dropout, bias_relu, bias_gelu
augment/       images: warp, blend
linear_models/ linear models as a whole: linear_sgd, sparse_sgd, sparse_linear, softmax, moments
numerics/      what all of these share: elementary functions, the normal distribution, philox, codecs, reductions
reference/     the step in NumPy: the oracle of the engines
cpu/           the engine in Cython, and its tile functions per instruction set
cuda/          the engine in Numba CUDA; device/ becomes device code
step           the step as data: its stages in order, Group, Request, Beside
backend        the face of an engine: the Protocol of a plan
view           where an array lies, whatever library made it
loss           the stages around a loss: weights, values, the sum
hyper, spec    Hyper; Rule, State: what a stem declares
penalty        what a penalty is around its stems
native         in Cython: powers, the floating-point mode, a guard
checks         what is wrong with an array, in words
=============  ========================================================================================================
"""

if __name__ != "pyopt.kernels":
    raise ImportError("this folder is installed as pyopt.kernels: run `pip install -e .`, then `import pyopt`")
