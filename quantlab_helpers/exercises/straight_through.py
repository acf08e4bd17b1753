"""Exercise: one step of quantization-aware training with the straight-through estimator (notebook 04)."""

import numpy as np

from .base import Exercise, WrongAnswer


def straight_through(weight, quantized, x, target, rate):
    """Return the float weight after one step: the gradient at the quantized weight moves the float one."""
    error = x @ quantized.T - target  # (count, out)
    gradient = error.T @ x / len(x)  # (out, in)
    return weight - rate * gradient


EXAMPLES = (
    (np.array([[0.4]]), np.array([[0.0]]), np.array([[1.0], [3.0]]), np.array([[1.0], [2.0]]), 0.1),
    (np.array([[0.3, 1.1]]), np.array([[0.0, 1.0]]), np.array([[1.0, 2.0]]), np.array([[5.0]]), 0.5),
    (np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), np.zeros((3, 2)), np.ones((3, 2)), 0.1),
)


def cases(rng):
    for count, out, inputs in ((1, 2, 3), (6, 3, 5), (4, 4, 4), (20, 1, 7), (5, 4, 1)):
        weight = rng.normal(size=(out, inputs)).astype(np.float32)
        step = np.abs(weight).max() / 3
        quantized = np.round(weight / step) * step
        x, target = rng.normal(size=(count, inputs)), rng.normal(size=(count, out))
        yield weight, quantized, x, target, rng.uniform(0.01, 0.5)


def _step(*, forward="quantized", start="weight", sign=-1.0, factor=lambda x, target: 1 / len(x)):
    """A step from `start` along `sign` times the gradient at `forward`, averaged by `factor`."""

    def function(weight, quantized, x, target, rate):
        of = {"weight": weight, "quantized": quantized}
        error = x @ of[forward].T - target
        return of[start] + sign * rate * factor(x, target) * (error.T @ x)

    return function


def _derivative_of_rounding(weight, quantized, x, target, rate):
    return weight - rate * np.zeros_like(weight)


def _gradient_turned(weight, quantized, x, target, rate):
    error = x @ quantized.T - target
    return weight - rate * (x.T @ error) / len(x)


def _weight_not_turned(weight, quantized, x, target, rate):
    error = x @ quantized - target
    return weight - rate * error.T @ x / len(x)


def _error_turned_round(weight, quantized, x, target, rate):
    error = target - x @ quantized.T
    return weight - rate * error.T @ x / len(x)


def _whole_gradient(weight, quantized, x, target, rate):
    return weight - (x @ quantized.T - target).T @ x / len(x)


def _returned_the_gradient(weight, quantized, x, target, rate):
    return (x @ quantized.T - target).T @ x / len(x)


EXERCISE = Exercise(
    reference=straight_through,
    outputs=("weight",),
    checked="one input and many, one output and many, float32 and float64, all-zero inputs (the weight stays)",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "Three lines: the error of the quantized layer, the gradient, the step. Only one of them sees `weight`.",
        "`error = x @ quantized.T - target`, (count, out). The gradient has the shape of the weight, (out, in): which "
        "product of `error` and `x` has it?",
        "`gradient = error.T @ x / len(x)`, and return `weight - rate * gradient`: straight through the rounding.",
    ),
    wrong_answers=(
        WrongAnswer(
            "the forward pass uses the float weight",
            (_step(forward="weight"),),
            "Your error is that of the *float* layer, so nothing learns about the rounding. Forward with `quantized`.",
        ),
        WrongAnswer(
            "the step starts from the quantized weight",
            (_step(start="quantized"),),
            "You move the quantized weight and forget the float one: the next rounding would undo each small step. "
            "Return `weight - rate * gradient`.",
        ),
        WrongAnswer(
            "the two weights exchanged",
            (_step(forward="weight", start="quantized"),),
            "You have the two weights the wrong way round: the error is that of `quantized`, the step starts from "
            "`weight`.",
        ),
        WrongAnswer(
            "forgot the rate",
            (_whole_gradient,),
            "Your step is the whole gradient: multiply it by `rate`.",
        ),
        WrongAnswer(
            "uphill",
            (_step(sign=1.0), _error_turned_round),
            "The loss grows: you go along the gradient, not against it. The error is output minus target, and the "
            "step is `- rate * gradient`.",
        ),
        WrongAnswer(
            "summed instead of averaged",
            (_step(factor=lambda x, target: 1.0), _step(factor=lambda x, target: 2.0)),
            "Your gradient is a sum over the inputs, so it grows with their number: divide by `len(x)`.",
        ),
        WrongAnswer(
            "averaged over the outputs too",
            (
                _step(factor=lambda x, target: 1 / target.size),
                _step(factor=lambda x, target: 2 / target.size),
            ),
            "You divide by the number of errors, count times out. The average is over the inputs only: `len(x)`.",
        ),
        WrongAnswer(
            "averaged over the wrong axis",
            (_step(factor=lambda x, target: 1 / x.shape[1]), _step(factor=lambda x, target: 1 / x.size)),
            "You divide by the number of features. The average is over the rows of `x`: `len(x)`.",
        ),
        WrongAnswer(
            "twice the gradient",
            (_step(factor=lambda x, target: 2 / len(x)),),
            "Your step is twice as long: the loss is *half* the squared error, so the 2 of its derivative cancels.",
        ),
        WrongAnswer(
            "the true derivative of rounding",
            (_derivative_of_rounding, lambda weight, quantized, x, target, rate: weight),
            "Your weight does not move. The derivative of rounding is 0 nearly everywhere, which is why the "
            "straight-through estimator takes it as 1: use the gradient at `quantized` as it is.",
        ),
        WrongAnswer(
            "the gradient turned",
            (_gradient_turned,),
            "`x.T @ error` is (in, out), but the weight is (out, in): use `error.T @ x`.",
        ),
        WrongAnswer(
            "the weight not turned",
            (_weight_not_turned,),
            "The weights are (out, in), so the layer is `x @ quantized.T`.",
        ),
        WrongAnswer(
            "returned the gradient",
            (_returned_the_gradient,),
            "That is the gradient. Take the step: return `weight - rate * gradient`.",
        ),
    ),
)
