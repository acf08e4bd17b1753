"""Layers with which a learner may call an explorer of layers, and what is no layer."""

import numpy as np


def own_layers(weight, x, huge=1e30):
    """Names, and pairs of a weight (out, in) and inputs (..., in) that must be drawn, of magnitudes up to `huge`."""
    return {
        "one number": ([[1.0]], [2.0]),
        "zeros": (np.zeros((2, 3)), np.zeros((4, 3))),
        "an output of 0": ([[1.0, -1.0]], [[1.0, 1.0], [3.0, 1.0]]),
        "huge": (np.full((2, 2), huge), np.full((2, 2), -huge)),
        "tiny": (np.full((2, 2), 1e-15), np.full((2, 2), 1e-15)),
        "float16": (weight.astype(np.float16), np.asfortranarray(x)),
        "one token": (weight, x[0]),
        "a batch": (weight, x.reshape(1, *x.shape)),
    }


def no_layers(weight, x):
    """Triples of a weight, inputs, and how the message that refuses them begins."""
    return [
        (weight, x[:, :5], "x must have 32 values"),
        (x[0], x, "weight must have 2 axes"),
        ([], x, "weight must"),
        ([["a"]], x, "weight must"),
        (np.full((2, 32), np.nan), x, "weight must"),
        (weight, np.full((2, 32), np.inf), "x must"),
        (weight, 3.0, "x must"),
    ]
