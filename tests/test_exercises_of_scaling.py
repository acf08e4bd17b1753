"""The exercises of notebook 09: right answers in other styles pass, and no choice hangs on a rounding error."""

import numpy as np
import pytest

import quantlab_helpers as ql
from quantlab_helpers import exercises
from quantlab_helpers.methods.awq import awq_scales
from quantlab_helpers.methods.smoothquant import smooth

FOLD, ALPHA = exercises.get("fold_scales"), exercises.get("choose_alpha")


# Folding


def _in_loops(norm_weight, weights, scales):
    norm_weight = np.array([n / s for n, s in zip(norm_weight, scales, strict=True)])
    found = []
    for weight in weights:
        weight = weight.copy()
        for j, s in enumerate(scales):
            weight[:, j] *= s
        found.append(weight)
    return norm_weight, found


def _by_diagonals(norm_weight, weights, scales):
    return norm_weight @ np.diag(1 / scales), tuple(weight @ np.diag(scales) for weight in weights)


def _by_the_package(norm_weight, weights, scales):
    smoothed = smooth(scales, norm_weight, list(weights))
    return smoothed.norm_weight, smoothed.weights


def _on_copies(norm_weight, weights, scales):
    norm_weight, weights = norm_weight.astype(np.float64), [weight.astype(np.float64) for weight in weights]
    norm_weight /= scales
    for weight in weights:
        weight *= scales[None, :]
    return [norm_weight, weights]


@pytest.mark.parametrize("another_style", [_in_loops, _by_diagonals, _by_the_package, _on_copies])
def test_folding_in_another_style_passes(another_style):
    report = FOLD.check(another_style)
    assert report.state == "passed", (report.hint, report.example)


def test_folding_leaves_the_output_as_it_was():
    for norm_weight, weights, scales in FOLD.all_cases():
        x = np.random.default_rng(0).normal(size=(5, len(scales)))
        folded_norm, folded = FOLD.reference(norm_weight, weights, scales)
        for weight, new in zip(weights, folded, strict=True):
            np.testing.assert_allclose((x * folded_norm) @ new.T, (x * norm_weight) @ weight.T, rtol=1e-4, atol=1e-5)


def _norm_in_place(norm_weight, weights, scales):
    norm_weight /= scales
    return norm_weight, tuple(weight * scales for weight in weights)


def _weights_in_place(norm_weight, weights, scales):
    for weight in weights:
        weight *= scales
    return norm_weight / scales, weights


@pytest.mark.parametrize("in_place", [_norm_in_place, _weights_in_place])
def test_folding_in_place_is_told_so(in_place):
    assert "changes the array" in FOLD.check(in_place).hint


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda norm, weights, s: [norm / s, *(weight * s for weight in weights)], "Return 2 values"),
        (lambda norm, weights, s: (tuple(weight * s for weight in weights), norm / s), "in another order"),
        (lambda norm, weights, s: (norm / s, weights * s), "`weights`: This should be a tuple of 2"),
        (lambda norm, weights, s: (norm / s, (weight * s for weight in weights)), "`weights`: This should be a tuple"),
        (lambda norm, weights, s: (norm / s, tuple(weight * s + 1 for weight in weights)), "Not yet: `weights`"),
        (lambda norm, weights, s: (norm / s, tuple((weight * s).ravel() for weight in weights)), "The shape is (4,)"),
        (lambda norm, weights, s: (norm / s, tuple((weight * s).tolist() for weight in weights)), "This is a list"),
    ],
)
def test_what_learners_type_for_folding_is_understood(wrong, told):
    report = FOLD.check(wrong)
    assert report.state == "failed"
    assert told in report.hint


def test_a_mistake_with_weights_of_unlike_shapes_is_narrowed_down():
    def square_ones_only(norm_weight, weights, scales):
        return norm_weight / scales, tuple(w * scales if len(w) == len(scales) else w - 1 for w in weights)

    report = FOLD.check(square_ones_only)
    assert report.hint == "`norm_weight`: right. Not yet: `weights`."


# The search


def _by_argmin(weight, inputs, num_bits, group_size, alphas):
    size = sum(abs(token) for token in inputs) / len(inputs)
    scales = [np.clip(np.power(size, a), 1e-4, None) for a in alphas]
    errors = []
    for s in scales:
        codes = ql.quantize(weight * s, num_bits, symmetric=False, per="group", group_size=group_size)
        errors.append(((inputs / s @ codes.dequantize().T - inputs @ weight.T) ** 2).mean())
    return alphas[np.argmin(errors)], scales[np.argmin(errors)]


def _total_in_float64(weight, inputs, num_bits, group_size, alphas):
    weight, inputs = weight.astype(np.float64), inputs.astype(np.float64)

    def scales_of(alpha):
        return np.where((s := np.mean(np.abs(inputs), axis=0) ** alpha) < 1e-4, 1e-4, s)

    def total(alpha):
        s = scales_of(alpha)
        restored = ql.fake_quantize(weight * s, num_bits, symmetric=False, per="group", group_size=group_size) / s
        return np.linalg.norm((restored - weight) @ inputs.T)

    best = min(alphas, key=total)  # the first of equals
    return [float(best), scales_of(best)]


def _by_moments(weight, inputs, num_bits, group_size, alphas):
    moments, magnitude = inputs.T @ inputs, np.abs(inputs).mean(0)
    best = None
    for alpha in alphas:
        s = np.maximum(magnitude**alpha, 1e-4)
        d = ql.fake_quantize(weight * s, num_bits, symmetric=False, per="group", group_size=group_size) / s - weight
        loss = np.trace(d @ moments @ d.T)
        if best is None or loss < best[0]:
            best = (loss, alpha, s)
    return best[1:]


def _largest_sqnr(weight, inputs, num_bits, group_size, alphas):
    chosen, highest = None, -np.inf
    for alpha in alphas:
        s = np.maximum(np.abs(inputs).mean(axis=0) ** alpha, 1e-4)
        q = ql.fake_quantize(weight * s, num_bits, symmetric=False, per="group", group_size=group_size) / s
        if (sqnr := ql.sqnr_db(inputs @ weight.T, inputs @ q.T)) > highest:
            chosen, highest = (alpha, s), sqnr
    return chosen


@pytest.mark.parametrize("another_style", [_by_argmin, _total_in_float64, _by_moments, _largest_sqnr])
def test_a_search_in_another_style_passes(another_style):
    report = ALPHA.check(another_style)
    assert report.state == "passed", (report.hint, report.example)


def _errors(weight, inputs, num_bits, group_size, alphas):
    return np.array(
        [
            np.mean((inputs @ (_restored(weight, inputs, num_bits, group_size, alpha) - weight).T) ** 2)
            for alpha in alphas
        ]
    )


def _restored(weight, inputs, num_bits, group_size, alpha):
    s = awq_scales(np.abs(inputs).mean(axis=0), alpha)  # AWQ's own, which differ by a factor
    return ql.fake_quantize(weight * s, num_bits, symmetric=False, per="group", group_size=group_size) / s


def test_no_choice_is_close_but_the_tie():
    ties = 0
    for case in ALPHA.all_cases():
        errors = _errors(*case)
        best, second = np.sort(errors)[:2]
        ties += best == second == 0
        assert best == second == 0 or second > 1.005 * best
        assert ALPHA.reference(*case)[0] == case[-1][errors.argmin()]
    assert ties == 1


def test_each_alpha_of_a_list_is_chosen_somewhere_and_so_is_each_place():
    places = {int(np.flatnonzero(case[-1] == ALPHA.reference(*case)[0])[0]) for case in ALPHA.all_cases()}
    assert {0, 1, 2, 3} <= places


def test_the_search_finds_what_awq_finds():
    weight = ql.sample_tensors()["v_proj"].weight[:24]
    x = ql.layer_inputs().calibration[:200]
    alpha, scales = ALPHA.reference(weight, x, 4, 64, np.arange(20) / 20)
    found = ql.awq(weight, x, 4, group_size=64)
    assert alpha == found.alpha
    np.testing.assert_allclose(scales / scales[0], found.scales / found.scales[0], rtol=1e-4)


def _scales_only_once(weight, inputs, num_bits, group_size, alphas):
    weight *= np.abs(inputs).mean(axis=0)
    return alphas[0], weight[0]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (_scales_only_once, "changes the array"),
        (lambda w, x, b, g, alphas: (0.0, np.ones(len(x[0]) + 1)), "`scales`: The shape is"),
        (lambda w, x, b, g, alphas: ALPHA.reference(w, x, b, g, alphas)[::-1], "in another order"),
        (lambda w, x, b, g, alphas: ql.awq(w, x, b, group_size=g).scales, "Return 2 values: `alpha, scales`"),
    ],
)
def test_what_learners_type_for_the_search_is_understood(wrong, told):
    report = ALPHA.check(wrong)
    assert report.state == "failed"
    assert told in report.hint
