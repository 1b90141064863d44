r"""Poisson: the negative log-likelihood of counts whose rate is exp(log_rate).

.. math::

    loss = e^{log\_rate} - target log\_rate

    gradient = e^{log\_rate} - target

Ranges: log_rate and target of one shape and storage type, C-contiguous. TypeError or ValueError else.
Deviations: as PoissonNLLLoss of torch with log_input; the constant ln(target!) is left out, which torch calls
full=False. The rate is within 1.1 ulp, 0 for log_rate below -87 (float32) or -708 (float64), and inf where it has no
finite value in that dtype: above 88.72 or 709.78. The rest of a term is float64; a count of 0 adds 0
to it, also at an infinite log_rate.
Source: J. Nelder, R. Wedderburn, "Generalized linear models", 1972, https://doi.org/10.2307/2344614

>>> import numpy as np, pyopt
>>> value, gradient = pyopt.losses.poisson(np.array([0.0, -1e4]), np.array([3.0, 2.0]), "sum")
>>> value
20001.0
>>> print(gradient)
[-2. -2.]
"""

import numpy as np

from ..numerics.elementary import exp_any, weighted


def scalars(scale):
    return (scale,)


def reference(log_rate, target, factor):
    e = exp_any(log_rate)
    terms = e.astype(np.float64) - weighted(target.astype(np.float64), log_rate.astype(np.float64))
    return terms, factor * (e - target)
