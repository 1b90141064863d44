"""Finding 10 weights among 400 from 150 samples: L1, MCP and SCAD as proximal steps.

python docs/examples/sparse_recovery.py FOLDER     # draws sparse_recovery.png there
"""

import sys
from pathlib import Path

import numpy as np

import pyopt
from pyopt.estimators import LinearRegressor

SAMPLES, FEATURES, NONZERO = 150, 400, 10
ALPHAS = np.geomspace(0.6, 0.06, 13)
PENALTIES = {
    "L1": pyopt.L1,
    "MCP": lambda alpha: pyopt.MCP(alpha, 3.0),
    "SCAD": lambda alpha: pyopt.SCAD(alpha, 3.7),
}


def problem(seed=0):
    """Return features, targets and the weights behind them."""
    rng = np.random.default_rng(seed)
    w = np.zeros(FEATURES)
    w[:NONZERO] = np.linspace(1, 2, NONZERO) * np.tile([1, -1], NONZERO // 2)
    x = rng.standard_normal((SAMPLES, FEATURES))
    return x, x @ w + 0.5 * rng.standard_normal(SAMPLES), w


def path(make, x, y):
    """Return the weights for each alpha, from strong to weak, each fit starting from the one before."""
    steepest = np.linalg.eigvalsh(x.T @ x / len(x))[-1]
    estimator = LinearRegressor(
        "sgd", lr=1 / steepest, batch_size="full", max_iter=1000, tol=1e-7, fit_intercept=False, warm_start=True
    )
    return np.array([estimator.set_params(prox=make(float(alpha))).fit(x, y).coef_.copy() for alpha in ALPHAS])


def facts(weights, w):
    """Return the distances to the true weights, and how many weights are nonzero that should not be."""
    return np.linalg.norm(weights - w, axis=1), np.count_nonzero(weights[:, w == 0], axis=1)


def draw(paths, w, folder):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=80, layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, weights in paths.items():
        distance, wrong = facts(weights, w)
        left.semilogx(ALPHAS, distance, "o-", markersize=3, label=name)
        right.semilogx(ALPHAS, wrong, "o-", markersize=3, label=name)
    for axes, title in ((left, "distance to the true weights"), (right, "weights that are not 0 and should be")):
        axes.set(title=title, xlabel="alpha")
        axes.set_xticks([0.06, 0.1, 0.2, 0.4], ["0.06", "0.1", "0.2", "0.4"], minor=False)
        axes.minorticks_off()
    left.legend()
    figure.savefig(Path(folder, "sparse_recovery.png"))


def main(folder):
    x, y, w = problem()
    paths = {name: path(make, x, y) for name, make in PENALTIES.items()}
    for name, weights in paths.items():
        distance, wrong = facts(weights, w)
        best = distance.argmin()
        print(f"{name:5} nearest at alpha {ALPHAS[best]:.3f}: distance {distance[best]:.3f}, {wrong[best]} wrong, "
              f"{np.count_nonzero(weights[best, w != 0])} of {NONZERO} found")  # fmt: skip
    draw(paths, w, folder)


if __name__ == "__main__":
    main(sys.argv[1])
