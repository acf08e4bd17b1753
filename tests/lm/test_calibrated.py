"""Methods that look at activations, over whole models: they do to each layer what the method does to one alone."""

import numpy as np
import pytest
from small_model import make_model

import quantlab_helpers as ql
from quantlab_helpers.lm.calibrated import calibration_tokens
from quantlab_helpers.lm.model import apply_linear
from quantlab_helpers.lm.quantize import METHODS, quantize_model
from quantlab_helpers.methods.awq import awq
from quantlab_helpers.methods.gguf_tensor import GGUF_TYPES, gguf_quantize
from quantlab_helpers.methods.llm_int8 import LlmInt8Linear
from quantlab_helpers.methods.smoothquant import W8A8Linear
from quantlab_helpers.packed import PackedTensor

pytestmark = pytest.mark.filterwarnings("error")

TOKENS = np.random.default_rng(1).integers(0, 128, (6, 40))
FRESH = np.random.default_rng(2).integers(0, 128, (2, 40))
NEEDING = ("gptq", "awq", "smoothquant")


class Recorder:
    """A matrix that keeps the inputs it is multiplied with."""

    def __init__(self, weight):
        self.weight, self.shape = weight, weight.shape

    def __call__(self, x):
        self.inputs = x.copy()
        return apply_linear(self.weight, x)


def inputs_of(model, name):
    """What a layer sees of TOKENS, (tokens, in)."""
    weight = model.weights[name]
    recorder = Recorder(weight if isinstance(weight, np.ndarray) else weight.dequantize())
    model.replace({name: recorder}).hidden_states(TOKENS)
    return recorder.inputs.reshape(-1, weight.shape[1])


def uneven_model():
    """A model whose activations have large and small columns everywhere."""
    model, rng = make_model(), np.random.default_rng(3)
    weights = {
        name: weight * np.float32(np.exp(rng.normal(size=(len(weight), 1))))
        for name, weight in model.linears.items()
        if name.endswith(("v_proj", "up_proj"))
    }
    norms = {name: np.float32(np.exp(rng.normal(size=norm.shape))) for name, norm in model.norms.items()}
    return model.replace(weights, norms)


def kl(model, baseline, tokens=FRESH):
    log_p, log_q = (np.float64(m.logits(tokens)) for m in (baseline, model))
    log_p, log_q = (x - np.log(np.exp(x).sum(axis=-1, keepdims=True)) for x in (log_p, log_q))
    return np.mean(np.sum(np.exp(log_p) * (log_p - log_q), axis=-1))


# --- GPTQ -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"num_bits": 4},
        {"num_bits": 3, "group_size": 16},
        {"num_bits": 3, "group_size": 16, "act_order": True},
        {"num_bits": 2, "symmetric": True, "damping": 0.1},
    ],
    ids=str,
)
def test_gptq_fits_each_layer_to_what_the_quantized_ones_before_it_give(options):
    """Layer after layer, one at a time, with the public function and a forward pass for each."""
    model = make_model()
    quantized = quantize_model(model, "gptq", calibration=TOKENS, **options)
    expected = model
    for name in model.linears:
        inputs = inputs_of(expected, name)
        alone = ql.gptq(model.weights[name], inputs, static_groups=options.get("act_order", False), **options)
        np.testing.assert_array_equal(quantized.weights[name].dequantize(), alone.dequantize(), name)
        expected = expected.replace({name: quantized.weights[name]})


def test_gptq_is_sequential():
    """The last layer is fitted to other inputs than the float model's."""
    model = make_model()
    quantized = quantize_model(model, "gptq", num_bits=2, calibration=TOKENS)
    name = list(model.linears)[-1]
    from_float = ql.gptq(model.weights[name], inputs_of(model, name), 2).dequantize()
    assert np.mean(from_float != quantized.weights[name].dequantize()) > 0.05


@pytest.mark.parametrize("num_bits", [2, 3, 4])
def test_gptq_is_better_than_rounding_on_text_like_the_calibration(num_bits):
    model = make_model()
    rounded = quantize_model(model, num_bits=num_bits, symmetric=False)
    assert kl(quantize_model(model, "gptq", num_bits=num_bits, calibration=TOKENS), model, TOKENS) < kl(
        rounded, model, TOKENS
    )


# --- AWQ --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"clip": True}, {"group_size": 16}], ids=str)
def test_awq_does_to_layers_that_share_inputs_what_it_does_alone(options):
    model = make_model()
    quantized = quantize_model(model, "awq", num_bits=3, calibration=TOKENS, **options)
    for names, norm in ((("q_proj", "k_proj", "v_proj"), "attention_norm"), (("gate_proj", "up_proj"), "ffn_norm")):
        for block in ("layers.0", "layers.1"):
            weights = [model.weights[f"{block}.{name}"] for name in names]
            alone = awq(weights, inputs_of(model, f"{block}.{names[0]}"), 3, **({"group_size": None} | options))
            np.testing.assert_array_equal(
                quantized.norms[f"{block}.{norm}"], model.norms[f"{block}.{norm}"] / alone.scales
            )
            for name, tensor in zip(names, alone.quantized, strict=True):
                if name not in ("v_proj", "up_proj"):  # whose rows are divided, too
                    np.testing.assert_array_equal(
                        quantized.weights[f"{block}.{name}"].dequantize(), tensor.dequantize()
                    )


def test_awq_multiplies_what_it_divides():
    """With 12 bits the model computes nearly what it did. (With 16 there is nothing left that scaling would better.)"""
    model = uneven_model()
    quantized = quantize_model(model, "awq", num_bits=12, calibration=TOKENS)
    assert all((quantized.norms[name] != model.norms[name]).any() for name in model.norms if name != "norm")
    expected = model.logits(FRESH)
    assert np.linalg.norm(quantized.logits(FRESH) - expected) < 0.02 * np.linalg.norm(expected)


def test_awq_divides_the_rows_before_o_proj_and_down_proj():
    model = uneven_model()
    quantized = quantize_model(model, "awq", num_bits=12, calibration=TOKENS)

    def ratio(name, axis):
        """By what the columns or rows of a matrix were multiplied."""
        before, after = model.weights[name], quantized.weights[name].dequantize()
        return np.sum(before * after, axis=axis) / np.sum(before**2, axis=axis)

    for name, before, norm in (("o_proj", "v_proj", "attention_norm"), ("down_proj", "up_proj", "ffn_norm")):
        s = ratio(f"layers.1.{name}", axis=0)  # (in,)
        assert s.max() / s.min() > 1.5
        if name == "o_proj":  # 4 query heads of 8 share 2 heads of values
            by_head = s.reshape(2, 2, 8)
            np.testing.assert_allclose(by_head[:, 0], by_head[:, 1], rtol=1e-2)
            s = by_head[:, 0].reshape(-1)
        of_norm = model.norms[f"layers.1.{norm}"] / quantized.norms[f"layers.1.{norm}"]
        rows = quantized.weights[f"layers.1.{before}"].dequantize() / of_norm
        expected = model.weights[f"layers.1.{before}"] / s[:, None]
        assert np.linalg.norm(rows - expected) < 0.01 * np.linalg.norm(expected)


def test_awq_takes_no_more_bytes_than_rounding():
    model = make_model()
    rounded = quantize_model(model, num_bits=4, symmetric=False)
    assert quantize_model(model, "awq", num_bits=4, calibration=TOKENS).nbytes == rounded.nbytes


@pytest.mark.parametrize("method", ["awq", "smoothquant"])
@pytest.mark.parametrize("layers", ["*.q_proj", "layers.0.o_proj", "*.down_proj", ["*.k_proj", "*.up_proj"]], ids=str)
def test_layers_that_are_not_chosen_stay_as_they_were(method, layers):
    model = make_model()
    options = {"num_bits": 16} if method == "awq" else {}
    quantized = quantize_model(model, method, layers=layers, calibration=TOKENS, **options)
    chosen = ql.lm.matching(model, layers)
    for name, weight in quantized.weights.items():
        assert isinstance(weight, PackedTensor | W8A8Linear) == (name in chosen), name
    np.testing.assert_allclose(quantized.logits(FRESH), model.logits(FRESH), atol=2e-3 if method == "awq" else 0.3)


def test_awq_after_other_layers_were_quantized():
    """Rows of a quantized matrix are divided by dividing its scales, even where there is one scale for all."""
    model = make_model()
    for options in (
        {"num_bits": 16},
        {"num_bits": 16, "per": "tensor"},
        {"num_bits": 16, "per": "group", "group_size": 16},
    ):
        before = quantize_model(model, layers=["*.v_proj", "*.up_proj"], **options)
        after = quantize_model(before, "awq", num_bits=16, layers=["*.o_proj", "*.down_proj"], calibration=TOKENS)
        np.testing.assert_allclose(after.logits(FRESH), before.logits(FRESH), atol=2e-3)
    before = quantize_model(model, format="FP16", layers="*.up_proj")
    with pytest.raises(ValueError, match=r"layers must be float, or integers with scales, but layers\.0\.up_proj is"):
        quantize_model(before, "awq", layers="*.down_proj", calibration=TOKENS)
    with pytest.raises(ValueError, match=r"layers must be float, but layers\.0\.up_proj is quantized already"):
        quantize_model(before, "awq", layers="*.gate_proj", calibration=TOKENS)


def test_awq_needs_the_same_bits_for_layers_that_share_inputs():
    with pytest.raises(ValueError, match=r"num_bits must be the same for layers\.0\.q_proj, layers\.0\.k_proj, lay"):
        quantize_model(make_model(), "awq", num_bits={"*_proj": 4, "*.v_proj": 8}, calibration=TOKENS)


# --- W8A8, SmoothQuant, LLM.int8(), NF4 -------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"per": "tensor", "activations_per": "tensor"}, {"activations_per": "tensor", "static": True}],
    ids=str,
)
def test_w8a8_computes_with_layers_of_its_kind(options):
    model = make_model()
    quantized = quantize_model(model, "w8a8", calibration=TOKENS, **options)
    how = {key: value for key, value in options.items() if key != "static"}
    alone = {}
    for name, weight in model.linears.items():
        largest = float(np.abs(inputs_of(model, name)).max()) if options.get("static") else None
        alone[name] = W8A8Linear.from_float(weight, activation_absmax=largest, **how)
    np.testing.assert_allclose(quantized.logits(FRESH), model.replace(alone).logits(FRESH), atol=1e-4)
    assert quantized.nbytes == model.replace(alone).nbytes


def test_smoothquant_takes_the_scales_of_all_that_a_norm_feeds():
    model = make_model()
    quantized = quantize_model(model, "smoothquant", alpha=0.7, calibration=TOKENS)
    for block in ("layers.0", "layers.1"):
        for norm, names in (("attention_norm", ("q_proj", "k_proj", "v_proj")), ("ffn_norm", ("gate_proj", "up_proj"))):
            absmax = np.abs(inputs_of(model, f"{block}.{names[0]}")).max(axis=0)
            weights = [model.weights[f"{block}.{name}"] for name in names]
            s = ql.smoothquant_scales(absmax, weights, 0.7)
            np.testing.assert_allclose(
                quantized.norms[f"{block}.{norm}"], model.norms[f"{block}.{norm}"] / s, rtol=1e-5
            )
            for name, weight in zip(names, weights, strict=True):
                alone = W8A8Linear.from_float(weight * s).weight
                np.testing.assert_array_equal(quantized.weights[f"{block}.{name}"].weight.codes, alone.codes)
        for name in ("o_proj", "down_proj"):
            alone = W8A8Linear.from_float(model.weights[f"{block}.{name}"]).weight
            np.testing.assert_array_equal(quantized.weights[f"{block}.{name}"].weight.codes, alone.codes)


def test_static_scales_are_those_of_the_smoothed_activations():
    model = make_model()
    quantized = quantize_model(model, "smoothquant", activations_per="tensor", static=True, calibration=TOKENS)
    name = "layers.0.gate_proj"
    s = model.norms["layers.0.ffn_norm"] / quantized.norms["layers.0.ffn_norm"]
    largest = np.abs(inputs_of(model, name) / s).max()
    assert quantized.weights[name].activation_scale == pytest.approx(largest / 127, rel=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 2.0, 6.0])
def test_llm_int8_is_layer_by_layer(threshold):
    model = make_model()
    quantized = quantize_model(model, "llm_int8", threshold=threshold)
    alone = {name: LlmInt8Linear.from_float(w, threshold=threshold) for name, w in model.linears.items()}
    np.testing.assert_array_equal(quantized.logits(FRESH), model.replace(alone).logits(FRESH))
    assert quantized.nbytes == model.replace(alone).nbytes


@pytest.mark.parametrize("type", GGUF_TYPES)
def test_gguf_is_layer_by_layer(type):
    model = make_model()
    quantized = quantize_model(model, "gguf", type=type, layers="*")
    alone = {name: gguf_quantize(weight, type) for name, weight in model.weights.items()}
    np.testing.assert_array_equal(quantized.logits(FRESH), model.replace(alone).logits(FRESH))
    held = sum(tensor.data.nbytes for tensor in alone.values())
    assert quantized.nbytes == held + sum(norm.nbytes for norm in model.norms.values())


@pytest.mark.parametrize("options", [{}, {"block_size": 32, "double_quant": True}, {"table": "fp4"}], ids=str)
def test_nf4_is_layer_by_layer(options):
    model = make_model()
    quantized = quantize_model(model, "nf4", layers="layers.1.*", **options)
    alone = {name: ql.nf4_quantize(model.weights[name], **options) for name in model.linears if "layers.1" in name}
    np.testing.assert_array_equal(quantized.logits(FRESH), model.replace(alone).logits(FRESH))
    assert quantized.nbytes == model.replace(alone).nbytes
    np.testing.assert_array_equal(quantized.expanded().logits(FRESH), quantized.logits(FRESH))


# --- what all have in common ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_model_stays_as_it_was_and_the_result_is_smaller(method):
    model = make_model()
    before = model.logits(FRESH)
    quantized = quantize_model(model, method, calibration=TOKENS)
    np.testing.assert_array_equal(model.logits(FRESH), before)
    held = sum(weight.nbytes for weight in quantized.linears.values())
    assert held < 0.4 * sum(weight.nbytes for weight in model.linears.values())
    assert quantized.weights["embedding"] is model.weights["embedding"]
    assert (quantized.logits(FRESH) != before).any()
    assert quantized.generate("To be", 5) == quantized.expanded().generate("To be", 5)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_again_gives_the_same(method):
    model = make_model()
    first, second = (quantize_model(model, method, calibration=TOKENS).logits(FRESH) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("method", METHODS)
def test_embedding_and_head_are_for_rounding_only(method):
    model = make_model()
    for name in ("embedding", "head"):
        if method in ("rtn", "gguf"):
            assert quantize_model(model, method, layers=name).nbytes < model.nbytes
        else:
            with pytest.raises(
                ValueError, match=f"layers must be linear layers for method '{method}'; for {name} there"
            ):
                quantize_model(model, method, layers=name, calibration=TOKENS)


def test_a_text_is_cut_into_windows():
    model = make_model(max_context=64)
    tokens = calibration_tokens(model, "a" * 200)
    assert tokens.shape == (3, 64)
    assert tokens.reshape(-1).tolist() == [0, *[ord("a")] * 191]
    assert calibration_tokens(model, "short").shape == (1, 6)
    np.testing.assert_array_equal(
        quantize_model(model, "gptq", calibration="a quick brown fox").logits(FRESH),
        quantize_model(model, "gptq", calibration=calibration_tokens(model, "a quick brown fox")).logits(FRESH),
    )


@pytest.mark.parametrize(
    ("method", "options", "error", "message"),
    [
        *((method, {}, ValueError, "calibration must be a text such as .* going to read") for method in NEEDING),
        ("w8a8", {"static": True, "activations_per": "tensor"}, ValueError, "calibration must be a text such as"),
        ("gptq", {"calibration": ""}, ValueError, "calibration must be a text of at least 2 tokens, not ''"),
        ("gptq", {"calibration": [1, 2, 3]}, ValueError, r"calibration must be a text, or tokens \(windows, time\)"),
        ("gptq", {"calibration": [[0.5]]}, TypeError, "calibration must hold integers"),
        ("gptq", {"calibration": [[128]]}, ValueError, "tokens must be from 0 to 127"),
        ("gptq", {"calibration": TOKENS, "per": "group"}, TypeError, "method 'gptq' has no option 'per'; it has num_b"),
        ("nf4", {"num_bits": 4}, TypeError, "method 'nf4' has no option 'num_bits'; it has block_size, double_quant"),
        ("gptq", {"calibration": TOKENS, "group_size": 12}, ValueError, "layers.0.q_proj: group_size must divide"),
        ("gptq", {"calibration": TOKENS, "num_bits": 1}, ValueError, "layers.0.q_proj: num_bits must be from 2 to 16"),
        ("awq", {"calibration": TOKENS, "grid": 0}, ValueError, "layers.0.q_proj: grid must be from 1 to 1000"),
        ("smoothquant", {"calibration": TOKENS, "alpha": 2}, ValueError, "alpha must be from 0 to 1, not 2"),
        ("w8a8", {"static": True, "calibration": TOKENS}, ValueError, 'static goes with activations_per="tensor"'),
        ("w8a8", {"static": 1}, TypeError, "static must be True or False"),
        ("w8a8", {"activations_per": "row"}, ValueError, "activations_per must be one of"),
        ("w8a8", {"per": "group"}, ValueError, "per"),
        ("llm_int8", {"threshold": -1}, ValueError, "layers.0.q_proj: threshold must be finite, and 0 or more"),
        ("nf4", {"block_size": 3}, ValueError, "layers.0.q_proj: block_size must be even"),
    ],
)
def test_refuses(method, options, error, message):
    with pytest.raises(error, match=message):
        quantize_model(make_model(), method, **options)
