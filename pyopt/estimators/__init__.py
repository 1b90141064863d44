"""Linear models and multi-layer perceptrons in the shape of scikit-learn's, trained by any rule of pyopt."""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "pyopt.estimators needs scikit-learn, which is not installed: pip install 'pyopt-kernels[demo]'"
    ) from error

from .linear import LinearClassifier, LinearRegressor
from .mlp import MLPClassifier, MLPRegressor

__all__ = ["LinearClassifier", "LinearRegressor", "MLPClassifier", "MLPRegressor"]
