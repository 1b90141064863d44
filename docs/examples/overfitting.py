"""How a network overfits a hundred digits, and what helps: curves of the loss on digits that it has not seen.

python docs/examples/overfitting.py FOLDER     # draws overfitting.png there
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

import pyopt
from pyopt.estimators import MLPClassifier

EPOCHS, EVERY = 200, 4  # a point of the curves stands for four epochs
REMEDIES = {
    "no penalty": {},
    "L2": {"penalty": pyopt.L2(3e-3)},
    "L1, as a prox": {"prox": pyopt.L1(5e-4)},
    "dropout": {"dropout": 0.8},
    "augmentation": {"augment": pyopt.augment.Images(crop_padding=1), "image_shape": (1, 8, 8)},
}


def digits():
    """Return ten digits of each kind to train on, and the other 1697 to look at."""
    x, y = load_digits(return_X_y=True)
    return train_test_split(np.float32(x / 16), y, train_size=100, stratify=y, random_state=0)


def network(**remedy):
    return MLPClassifier((256,), lr=0.01, batch_size=25, random_state=0, **remedy)


def curves(remedy, data):
    """Return the loss on the training digits and on the others, and the accuracy on the others, along the epochs."""
    x, other_x, y, other_y = data
    estimator, rows = network(**remedy), []
    for _ in range(0, EPOCHS, EVERY):
        for _ in range(EVERY):
            estimator.partial_fit(x, y, classes=np.arange(10))
        probabilities = estimator.predict_proba(other_x)
        rows.append((
            log_loss(y, estimator.predict_proba(x)),
            log_loss(other_y, probabilities),
            np.mean(probabilities.argmax(axis=1) == other_y),
        ))  # fmt: skip
    return np.array(rows)


def stopped_early(data):
    """Return the epoch whose weights early stopping keeps, by the score on a fifth of the training digits."""
    x, _, y, _ = data
    estimator = network(early_stopping=True, validation_fraction=0.2, n_iter_no_change=10, max_iter=EPOCHS)
    estimator.fit(x, y)
    return int(np.argmax(estimator.history_["validation_score"])) + 1, estimator


def draw(found, epoch, folder):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=80, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, column, title in ((left, 0, "loss on 100 training digits"), (right, 1, "loss on 1697 others")):
        for name, rows in found.items():
            axes.plot(np.arange(EVERY, EPOCHS + 1, EVERY), rows[:, column], label=name)
        axes.axvline(epoch, color="grey", linestyle=":", label="early stopping")
        axes.set(title=title, xlabel="epoch", yscale="log")
    right.set_ylim(0.26, 0.8)
    right.set_yticks([0.3, 0.4, 0.5, 0.6, 0.8], ["0.3", "0.4", "0.5", "0.6", "0.8"], minor=False)
    right.minorticks_off()
    left.legend(fontsize=8)
    figure.savefig(Path(folder, "overfitting.png"))


def main(folder):
    data = digits()
    found = {name: curves(remedy, data) for name, remedy in REMEDIES.items()}
    epoch, estimator = stopped_early(data)
    for name, rows in found.items():
        print(f"{name:14} training {rows[-1, 0]:.4f}  others {rows[-1, 1]:.3f}, at best {rows[:, 1].min():.3f}"
              f"  accuracy {rows[-1, 2]:.3f}")  # fmt: skip
    x, y = data[1], data[3]
    print(f"{'early stopping':14} after {epoch} epochs: others {log_loss(y, estimator.predict_proba(x)):.3f}"
          f"  accuracy {estimator.score(x, y):.3f}")  # fmt: skip
    draw(found, epoch, folder)


if __name__ == "__main__":
    main(sys.argv[1])
