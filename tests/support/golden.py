"""Expected weights, computed from the papers' formulas in 60-digit decimal arithmetic, apart from all code of pyopt.

Each row is a dict of hyper-parameters and the weight after each of three steps from p = 1.5 with the gradients g; with
``maximize`` the sign of g is flipped first. The formulas, with g' = g + weight_decay * p where the decay is coupled:

adagrad   s += g'^2;  p -= lr / (1 + (t - 1) * lr_decay) * g' / (sqrt(s) + eps)
adam      m = b1 * m + (1 - b1) * g';  v = b2 * v + (1 - b2) * g'^2;
          p -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps);  with amsgrad the largest v so far stands for v
adamw     p *= 1 - lr * weight_decay, then as adam with g for g'
lamb      u = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * p, m and v as in adam with g for g';
          p -= lr * |p| / |u| * u, with trust_clip no more than lr * u: tensors of elements that are equal, |p| and |u|
          are those of one of them
lion      p -= lr * (sign(b1 * m + (1 - b1) * g) + weight_decay * p);  m = b2 * m + (1 - b2) * g
momentum  v = momentum * v + lr * g';  p -= v;  with nesterov p -= momentum * v + lr * g'
rmsprop   v = alpha * v + (1 - alpha) * g'^2;  m = alpha * m + (1 - alpha) * g';  b = momentum * b + g' / (r + eps) with
          r = sqrt(v), or sqrt(v - m^2) if centered;  p -= lr * b
sgd       b = momentum * b + (1 - dampening) * g', the first b = g';  p -= lr * b;
          with nesterov p -= lr * (g' + momentum * b)
"""

import math

P = 1.5
G = (0.5, -0.25, 0.75)

RULES = {
    "adagrad": [
        (dict(lr=0.5, eps=0.01), (1.00980392156862745098, 1.22948101598882088252, 0.83282953580816365895)),
        (
            dict(lr=0.5, eps=0.01, lr_decay=0.25, initial_accumulator_value=0.5, weight_decay=0.2),
            (1.12884188956816172609, 1.13783335883062886311, 0.91431304006934437665),
        ),
        (
            dict(lr=0.5, eps=0.01, maximize=True),
            (1.99019607843137254902, 1.77051898401117911748, 2.16717046419183634105),
        ),
    ],
    "adam": [
        (
            dict(lr=0.1, betas=(0.75, 0.875), eps=0.01, weight_decay=0.0),
            (1.40196078431372549020, 1.38398221123544751018, 1.31921696117038782942),
        ),
        (
            dict(lr=0.1, betas=(0.75, 0.5), eps=0.01, amsgrad=True, weight_decay=0.2),
            (1.40123456790123456790, 1.34693080149254282976, 1.26993029307503649506),
        ),
        (
            dict(lr=0.1, betas=(0.5, 0.875), eps=0.01, maximize=True, weight_decay=0.0),
            (1.59803921568627450980, 1.59803921568627450980, 1.67411268401666207134),
        ),
    ],
    "adamw": [
        (
            dict(lr=0.1, betas=(0.75, 0.875), eps=0.01, weight_decay=0.2),
            (1.37196078431372549020, 1.32654299554917300038, 1.23524688557312985960),
        ),
        (
            dict(lr=0.1, betas=(0.75, 0.5), eps=0.01, amsgrad=True, weight_decay=0.5),
            (1.32696078431372549020, 1.24353471440259925101, 1.12273313543134483666),
        ),
        (
            dict(lr=0.1, betas=(0.5, 0.875), eps=0.01, weight_decay=0.2, maximize=True),
            (1.56803921568627450980, 1.53667843137254901961, 1.58201833107548560075),
        ),
    ],
    "lamb": [
        (dict(lr=0.1, betas=(0.75, 0.875), eps=0.01, weight_decay=0.2), (1.35, 1.215, 1.0935)),
        (
            dict(lr=0.1, betas=(0.75, 0.5), eps=0.01, weight_decay=0.2, trust_clip=True),
            (1.37196078431372549020, 1.32487422843568192159, 1.23975190061584383137),
        ),
        (
            dict(lr=0.1, betas=(0.25, 0.875), eps=0.25, weight_decay=1.0, trust_clip=True, maximize=True),
            (1.41666666666666666667, 1.275, 1.21566564423474266721),
        ),
    ],
    "lion": [
        (dict(lr=0.1, betas=(0.5, 0.75), weight_decay=0.2), (1.37, 1.4426, 1.313748)),
        (dict(lr=0.1, betas=(0.875, 0.25), weight_decay=0.0), (1.4, 1.3, 1.2)),
        (dict(lr=0.1, betas=(0.875, 0.25), weight_decay=0.5, maximize=True), (1.525, 1.54875, 1.5713125)),
    ],
    "momentum": [
        (dict(lr=0.1, momentum=0.5), (1.45, 1.45, 1.375)),
        (dict(lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.2), (1.38, 1.3561, 1.192267)),
        (dict(lr=0.1, momentum=0.75, maximize=True), (1.55, 1.5625, 1.646875)),
    ],
    "rmsprop": [
        (dict(lr=0.1, alpha=0.75, eps=0.01), (1.30769230769230769231, 1.40384615384615384615, 1.23455078222440118205)),
        (
            dict(lr=0.1, alpha=0.75, eps=0.01, centered=True, weight_decay=0.2),
            (1.27553950858130077818, 1.27395144650390940872, 1.05908633907810333187),
        ),
        (
            dict(lr=0.1, alpha=0.75, eps=0.01, momentum=0.5, maximize=True),
            (1.69230769230769230769, 1.69230769230769230769, 1.86160306392944497180),
        ),
        (
            dict(lr=0.1, alpha=0.75, eps=0.01, momentum=0.5, centered=True),
            (1.27925563768454338675, 1.26576796637385244590, 1.06580509342209432001),
        ),
    ],
    "sgd": [
        (dict(lr=0.1), (1.45, 1.475, 1.4)),
        (dict(lr=0.1, weight_decay=0.2, maximize=True), (1.52, 1.4646, 1.510308)),
        (dict(lr=0.1, momentum=0.5, dampening=0.25), (1.45, 1.44375, 1.384375)),
        (dict(lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.2), (1.38, 1.3561, 1.192267)),
    ],
}

# penalties at the weights W: arguments, value and gradient (None: a projection), step, proximal point
W = (1.5, -0.25, 0.0)
PENALTIES = {
    "box": [
        ((-0.125, 1.0), None, None, 3.0, (1.0, -0.125, 0.0)),
        ((0.5, math.inf), None, None, 0.25, (1.5, 0.5, 0.5)),
    ],
    "elastic_net": [
        # 0.125 * 1.75 + 0.1875 * 2.3125
        ((0.5, 0.25), 0.65234375, (0.6875, -0.21875, 0.0), 2.0, (1.25 / 1.75, 0.0, 0.0)),
        # 0.125 * 1.75 + 0.4375 * 2.3125; (1.5 - 0.125) / 1.875, -(0.25 - 0.125) / 1.875
        ((1.0, 0.125), 1.23046875, (1.4375, -0.34375, 0.0), 1.0, (1.375 / 1.875, -0.125 / 1.875, 0.0)),
    ],
    "group_lasso": [((0.5,), 0.875, (0.5, -0.5, 0.0), 1.5, (0.75, -0.0, 0.0))],  # of rows of one element: L1
    "huber_l1": [((0.5, 0.5), 0.65625, (0.5, -0.25, 0.0), 1.0, (1.0, -0.125, 0.0))],  # 0.5 * 1.25 + 0.5 * 0.0625
    "l1": [((0.5,), 0.875, (0.5, -0.5, 0.0), 0.5, (1.25, 0.0, 0.0))],  # 0.5 * 1.75
    "l2": [((0.5,), 1.15625, (1.5, -0.25, 0.0), 1.0, (0.75, -0.125, 0.0))],  # 0.5 * 2.3125
    "log_sum": [
        # 0.5 * ln(2.5 * 1.25); (1.375 - 1.5) * (1.375 + 1) + 0.59375 * 0.5 = 0
        ((0.5, 1.0), 0.5697171415941824, (0.2, -0.4, 0.0), 0.59375, (1.375, 0.0, 0.0)),
        # 0.5 * ln(3 * 4 / 3); (1.3125 - 1.5) * (1.3125 + 0.75) + 0.7734375 * 0.5 = 0
        ((0.5, 0.75), 0.6931471805599453, (0.5 / 2.25, -0.5, 0.0), 0.7734375, (1.3125, 0.0, 0.0)),
        # 0.5 * ln(1.75 * 1.125); (0.5 - 1.5) * (0.5 + 2) + 5 * 0.5 = 0
        ((0.5, 2.0), 0.3386994117959031, (0.5 / 3.5, -0.5 / 2.25, 0.0), 5.0, (0.5, 0.0, 0.0)),
    ],
    "max_norm": [((0.75,), None, None, 3.0, (0.75, -0.25, 0.0))],
    "mcp": [
        ((0.5, 2.0), 0.359375, (0.0, -0.375, 0.0), 1.0, (1.5, 0.0, 0.0)),  # 0.25 + 0.125 - 0.015625
        ((0.125, 2.0), 0.03125, (0.0, 0.0, 0.0), 1.0, (1.5, -0.25, 0.0)),
        ((1.0, 2.0), 1.171875, (0.25, -0.875, 0.0), 1.0, (1.0, 0.0, 0.0)),  # 0.9375 + 0.234375; (1.5 - 1) / 0.5
    ],
    "non_negative": [((), None, None, 3.0, (1.5, 0.0, 0.0))],
    "scad": [
        ((0.5, 3.0), 0.625, (0.0, -0.5, 0.0), 1.0, (1.5, 0.0, 0.0)),  # (4.5 - 2.25 - 0.25) / 4 + 0.125
        # (5.625 - 2.25 - 0.390625) / 4 + 0.15625; (2 * 1.5 - 3 * 0.625) / (2 - 1)
        ((0.625, 3.0), 0.90234375, (0.1875, -0.625, 0.0), 1.0, (1.125, 0.0, 0.0)),
        # (12 - 2.25 - 1) / 6 + 0.25; 1.5 - 1, where 1.5 <= 2
        ((1.0, 4.0), 1.7083333333333333, (2.5 / 3, -1.0, 0.0), 1.0, (0.5, 0.0, 0.0)),
        # 0.015625 beyond 0.4375, + (0.21875 - 0.0625 - 0.00390625) / 12; (6 * 0.25 - 14 * 0.0625) / 4
        ((0.0625, 7.0), 0.0283203125, (0.0, -0.03125, 0.0), 2.0, (1.5, -0.15625, 0.0)),
    ],
}
