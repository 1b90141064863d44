"""The documentation of the parameters, once for all estimators."""

from __future__ import annotations

import inspect
from typing import TypeVar

Class = TypeVar("Class", bound=type)

PARAMETERS = {
    "hidden_layer_sizes": """tuple of ints, or int
        The number of units of each hidden layer.""",
    "activation": """"relu" or "gelu"
        Of the hidden layers.""",
    "rule": """str
        The update, by its name in pyopt: "sgd", "momentum", "adam", "adamw", "lion"...""",
    "lr": """"auto", float, or function of the step
        The learning rate. A function gets the number of steps taken so far. "auto" goes by the rule and by the scale of
        the data, so that neither the units of the features nor those of the targets matter; features of very different
        scales still cost epochs, and StandardScaler saves them.""",
    "schedule": """function of learning rate and number of steps, optional
        Called with the learning rate and the number of steps that ``max_iter`` epochs have, it returns the function of
        the step that is used instead: ``lambda lr, steps: lambda t: lr * (1 - t / steps)``.""",
    "hypers": """dict, optional
        Further hyper-parameters of the rule, such as {"betas": (0.9, 0.99), "max_grad_norm": 1.0}. ``weight_decay``
        does not act on intercepts.""",
    "penalty": """pyopt penalty or list of them, optional
        Added to the loss, by its gradient; not of the intercepts.""",
    "prox": """pyopt penalty, optional
        Added to the loss, by its proximal step: weights become exact zeros. Not of the intercepts. With the squared
        loss, ``prox=pyopt.L1(alpha)`` minimises what scikit-learn's ``Lasso(alpha)`` does.""",
    "loss": """str
        The loss of a sample, summed over outputs: {losses}.""",
    "loss_options": """dict, optional
        Options of the loss in pyopt.losses, such as {"delta": 2.0} for "huber" or {"gamma": 1.0} for "focal".""",
    "class_weight": """dict, "balanced", or None
        By class, a number >= 0 that the weights of its samples are multiplied by.""",
    "batch_norm": """bool
        Normalise the inputs of the activations over each batch; then by running moments. Weights of samples do not
        count in the moments.""",
    "dropout": """float in [0, 1)
        The share of the hidden units that is set to 0 in training.""",
    "augment": """pyopt.augment.Images, or a function like it, optional
        Called with the images of a batch and their targets, and seed=, step= and index=, the numbers of the rows; it
        returns both anew, for training only. Mixed targets are fine.""",
    "image_shape": """tuple of ints, optional
        The shape of a row as ``augment`` takes it, such as (1, 8, 8); None: as it is.""",
    "batch_size": """"auto", "full" or int >= 1
        Samples of a step. "auto" is min(200, samples).""",
    "max_iter": """int >= 1
        Epochs, at most.""",
    "tol": """float >= 0 or None
        Training stops where ``n_iter_no_change`` epochs in a row have not brought the loss down by more than this share
        of the first epoch's loss, or the validation score up by more than this; None: never.""",
    "fit_intercept": """bool
        Whether to learn an intercept; without one it is 0.""",
    "early_stopping": """bool
        Hold samples out, stop by the score on them, and keep the weights of the best epoch, as pyopt.EarlyStopping does
        with a min_delta of ``tol``.""",
    "validation_fraction": """float in (0, 1)
        The share of the samples that early stopping holds out.""",
    "n_iter_no_change": """int >= 1
        Epochs without progress before training stops.""",
    "warm_start": """bool
        Whether ``fit`` goes on from the weights and the optimizer's state of the last call. What shapes the model,
        such as intercepts and hidden layers, cannot change then.""",
    "shuffle": """bool
        Whether to take the samples in a new order in each epoch.""",
    "random_state": """int, RandomState or None
        Determines the order, first weights, dropout and the samples held out; an int gives the same bits each time.""",
    "verbose": """bool
        Show progress: with rich, where it is installed, else in plain lines.""",
}

ATTRIBUTES = """
    history_ : dict of lists
        By epoch: "loss", penalties included, before its steps; "validation_score" with early stopping.
    n_iter_, t_ : int
        The numbers of epochs and of steps taken.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn."""


def documented(cls: Class) -> Class:
    """Add the documentation of the parameters, in the order of the signature, and of the attributes."""
    names = list(inspect.signature(cls).parameters)
    losses = ", ".join(f'"{name}"' for name in cls.losses)  # type: ignore[attr-defined]
    lines = [f"    {name} : {PARAMETERS[name]}".replace("{losses}", losses)
             for name in names]  # fmt: skip
    own = inspect.cleandoc(cls.__doc__ or "")
    summary, _, attributes = own.partition("\n\nAttributes\n----------\n")
    parts = [summary, "", "Parameters", "----------", inspect.cleandoc("\n".join(["", *lines])), "",
             "Attributes", "----------", attributes.strip(), inspect.cleandoc(ATTRIBUTES)]  # fmt: skip
    cls.__doc__ = "\n".join(parts)
    return cls
