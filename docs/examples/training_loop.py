"""A training loop of one's own on NumPy: two layers, batch norm, dropout, augmentation, a schedule, clipping.

python docs/examples/training_loop.py
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import pyopt
from pyopt import layers, losses

EPOCHS, BATCH, SEED = 40, 64, 0


def glorot(rng, inputs, outputs):
    bound = np.sqrt(6 / (inputs + outputs))
    return rng.uniform(-bound, bound, (inputs, outputs)).astype(np.float32)


class Model:
    """Digits to 128 units, batch norm, ReLU, dropout, 10 classes."""

    def __init__(self, rng):
        self.w1, self.w2 = glorot(rng, 64, 128), glorot(rng, 128, 10)
        self.scale, self.b1, self.b2 = np.ones(128, np.float32), np.zeros(128, np.float32), np.zeros(10, np.float32)
        self.running = np.zeros(128, np.float32), np.ones(128, np.float32)

    def logits(self, x):
        z, *_ = layers.batch_norm(x @ self.w1, *self.running, self.scale)
        return layers.bias_relu(z, self.b1) @ self.w2 + self.b2

    def gradients(self, x, target, step):
        """Return the loss of a batch, and the gradients of w1, w2, scale, b1 and b2."""
        product = x @ self.w1
        z, *moments = layers.batch_norm(product, *self.running, self.scale, training=True)
        hidden = layers.bias_relu(z, self.b1)
        dropped = layers.dropout(hidden, 0.2, seed=SEED, step=step)
        value, dlogits = losses.softmax_cross_entropy(dropped @ self.w2 + self.b2, target, label_smoothing=0.05)

        dhidden = layers.dropout(dlogits @ self.w2.T, 0.2, seed=SEED, step=step)  # the same mask, made again
        dz, db1 = layers.bias_relu_backward(dhidden, z, self.b1)
        dproduct, dscale, _ = layers.batch_norm_backward(dz, product, *moments, self.scale, training=True)
        return value, (x.T @ dproduct, dropped.T @ dlogits, dscale, db1, dlogits.sum(axis=0))


def train():
    """Return the loss of each epoch, and the accuracy on a quarter of the digits that was held out."""
    x, y = load_digits(return_X_y=True)
    x, held_x, y, held_y = train_test_split(np.float32(x / 16), y, stratify=y, random_state=0)
    rng = np.random.default_rng(SEED)
    model = Model(rng)
    steps = EPOCHS * (len(x) // BATCH)
    groups = [{"params": [model.w1, model.w2]}, {"params": [model.scale, model.b1, model.b2], "weight_decay": 0.0}]
    lr = pyopt.schedules.Cosine(0.01, steps)
    opt = pyopt.AdamW(groups, lr=lr, weight_decay=0.05, max_grad_norm=1.0)
    augment = pyopt.augment.Images(crop_padding=1, rotate=8.0, scale=(0.9, 1.1))
    history, step = [], 0
    for epoch in range(EPOCHS):
        total, order = 0.0, rng.permutation(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            images, target = augment(x[rows].reshape(-1, 1, 8, 8), y[rows], seed=SEED, step=epoch, index=rows)
            value, gradients = model.gradients(images.reshape(-1, 64), target, step)
            opt.step(gradients)
            total, step = total + value, step + 1
        history.append(total / (len(x) // BATCH))
    return history, float(np.mean(model.logits(held_x).argmax(axis=1) == held_y))


if __name__ == "__main__":
    history, accuracy = train()
    print(f"loss {history[0]:.3f} -> {history[-1]:.3f}, accuracy on digits not seen {accuracy:.3f}")
