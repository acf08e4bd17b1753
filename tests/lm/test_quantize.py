"""Quantized models: they compute what rounded weights compute, and hold what they say."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from small_model import make_model

import quantlab_helpers as ql
from quantlab_helpers.lm import quantize
from quantlab_helpers.lm.evaluate import Yardstick
from quantlab_helpers.lm.quantize import matching, quantize_model, sensitivity
from quantlab_helpers.packed import PACKED_FORMATS, PackedTensor, pack_format

pytestmark = pytest.mark.filterwarnings("error")

TOKENS = np.arange(60).reshape(3, 20)
TEXT = "The quick brown fox jumps over the lazy dog."
GROUPS_OF_16 = {"per": "group", "group_size": 16}


def bytes_held(weight):
    if isinstance(weight, np.ndarray):
        return weight.nbytes
    return sum(array.nbytes for array in (weight.data, weight.scale, weight.zero_point) if array is not None)


# --- what it computes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("layers", [None, "*"])
@pytest.mark.parametrize(
    "options",
    [
        *({"num_bits": num_bits} for num_bits in (2, 3, 4, 6, 8, 12, 16)),
        {"num_bits": 4, "per": "tensor"},
        {"num_bits": 4, **GROUPS_OF_16},
        {"num_bits": 5, "symmetric": False, "per": "tensor"},
        {"num_bits": 4, "symmetric": False},
        {"num_bits": 4, "symmetric": False, **GROUPS_OF_16},
        {"num_bits": 10, "symmetric": False},
    ],
    ids=str,
)
def test_a_quantized_model_computes_what_rounded_weights_compute(tied, layers, options):
    model = make_model(tied)
    names = list(model.linears) if layers is None else list(model.weights)
    rounded = {name: ql.fake_quantize(model.weights[name], **{"per": "channel", **options}) for name in names}
    expected = model.replace(rounded).logits(TOKENS)
    quantized = quantize_model(model, layers=layers, **options)
    np.testing.assert_array_equal(quantized.logits(TOKENS), expected)
    assert (expected != model.logits(TOKENS)).any()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("format", PACKED_FORMATS)
@pytest.mark.parametrize("options", [{}, {"per": "tensor"}, GROUPS_OF_16], ids=str)
def test_so_it_does_in_other_number_formats(tied, format, options):
    model = make_model(tied)
    rounded = {
        name: pack_format(weight, format, **{"per": "channel", **options}).dequantize()
        for name, weight in model.weights.items()
    }
    quantized = quantize_model(model, format=format, layers="*", **options)
    np.testing.assert_array_equal(quantized.logits(TOKENS), model.replace(rounded).logits(TOKENS))


def test_8_bits_with_a_scale_for_each_row_unless_told():
    model = make_model()
    plain, told = quantize_model(model), quantize_model(model, "rtn", num_bits=8, symmetric=True, per="channel")
    for name in model.linears:
        assert plain.weights[name].format == "INT8"
        assert plain.weights[name].scale.shape == (len(model.weights[name]), 1)
        np.testing.assert_array_equal(plain.weights[name].data, told.weights[name].data)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("options", [{"num_bits": 4, **GROUPS_OF_16}, {"format": "NF4"}, {"format": "FP16"}], ids=str)
def test_the_expanded_model_computes_the_same(tied, options):
    quantized = quantize_model(make_model(tied), layers="*", **options)
    expanded = quantized.expanded()
    assert all(isinstance(weight, np.ndarray) for weight in expanded.weights.values())
    np.testing.assert_array_equal(expanded.logits(TOKENS), quantized.logits(TOKENS))
    assert quantized.generate("To be", 30) == expanded.generate("To be", 30) != ""


def test_a_quantized_model_goes_on_as_it_predicts():
    quantized = quantize_model(make_model(), num_bits=4, layers="*")
    tokens = quantized.tokenizer.encode_prompt("To be")
    for _ in range(20):
        tokens.append(int(quantized.logits(tokens)[-1].argmax()))
    assert 10 not in tokens  # which ends a text
    assert quantized.generate("To be", 20) == quantized.decode(tokens[6:])


# --- what it holds ----------------------------------------------------------------------------------------


def test_what_is_not_quantized_is_shared_and_the_model_stays():
    model = make_model()
    before = model.logits(TOKENS)
    quantized = quantize_model(model, num_bits=4, layers=["layers.0.*", "head"])
    assert quantized is not model
    for name, weight in model.weights.items():
        assert isinstance(weight, np.ndarray)
        if name.startswith("layers.0.") or name == "head":
            assert isinstance(quantized.weights[name], PackedTensor)
        else:
            assert quantized.weights[name] is weight
    assert all(quantized.norms[name] is norm for name, norm in model.norms.items())
    assert (quantized.config, quantized.tokenizer, quantized.name) == (model.config, model.tokenizer, model.name)
    np.testing.assert_array_equal(model.logits(TOKENS), before)


@pytest.mark.parametrize(
    "options", [{"num_bits": 3}, {"num_bits": 4, "symmetric": False}, {"format": "MXFP4"}], ids=str
)
def test_nbytes_is_what_the_arrays_take(options):
    model = make_model()
    quantized = quantize_model(model, layers="*", **options)
    arrays = (*quantized.weights.values(), *quantized.norms.values())
    assert quantized.nbytes == sum(map(bytes_held, arrays))
    assert quantized.num_parameters == model.num_parameters
    assert quantized.bits_per_weight == 8 * quantized.nbytes / model.num_parameters
    assert quantized.nbytes < model.nbytes / 4


@pytest.mark.parametrize(
    ("options", "bits"),
    [
        ({"num_bits": 8}, 8 + 32 / 64),  # rows are 32 and 64 long: see below
        ({"num_bits": 4, "per": "group", "group_size": 32}, 5),
        ({"num_bits": 4, "symmetric": False, "per": "group", "group_size": 32}, 5.25),
        ({"format": "MXFP4"}, 4.25),
        ({"format": "BF16"}, 16),
    ],
    ids=str,
)
def test_bits_per_weight(options, bits):
    quantized = quantize_model(make_model(), **options)
    assert quantized.weights["layers.1.down_proj"].bits_per_weight == bits
    held = sum(quantized.weights[name].nbytes for name in quantized.linears)
    rest = 4 * (2 * 128 * 32 + 5 * 32)  # embedding, head and norms in float32
    assert quantized.nbytes == held + rest


def test_the_float_weights_are_given_back():
    model = make_model(width=128)
    linears = [weakref.ref(weight) for weight in model.linears.values()]
    tracemalloc.start()
    try:
        quantized = quantize_model(model, num_bits=4, per="group", group_size=32)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    packed = sum(quantized.weights[name].nbytes for name in quantized.linears)
    assert packed <= held <= packed + 14 * 2000 + 20_000  # 2 kB for the objects of each layer, 20 kB for the model's
    assert held < sum(weight.nbytes for weight in model.linears.values()) / 5
    del model
    gc.collect()
    assert not any(reference() is not None for reference in linears)


# --- which layers -----------------------------------------------------------------------------------------


def quantized_names(model):
    return [name for name, weight in model.weights.items() if isinstance(weight, PackedTensor)]


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        (None, "every linear layer"),
        ("*_proj", "every linear layer"),
        ("layers.1.q_proj", ["layers.1.q_proj"]),
        ("*.[qk]_proj", ["layers.0.q_proj", "layers.0.k_proj", "layers.1.q_proj", "layers.1.k_proj"]),
        (["head", "*.q_proj"], ["layers.0.q_proj", "layers.1.q_proj", "head"]),  # the model's order
        (("embedding", "embedding", "emb*"), ["embedding"]),
        (iter(["layers.0.down_proj"]), ["layers.0.down_proj"]),
        ([], []),
    ],
    ids=lambda value: "an iterator" if hasattr(value, "__next__") else str(value),
)
def test_layers_are_chosen_by_pattern(layers, names):
    model = make_model()
    names = list(model.linears) if names == "every linear layer" else names
    assert quantized_names(quantize_model(model, layers=layers)) == names


def test_matching_is_in_the_models_order():
    model = make_model()
    assert matching(model, "*") == list(model.weights)
    assert matching(model, ["head", "layers.0.v*", "embedding"]) == ["embedding", "layers.0.v_proj", "head"]


def test_a_tied_head_is_the_embedding():
    model = make_model(tied=True)
    quantized = quantize_model(model, num_bits=2, layers="embedding")
    rounded = model.replace({"embedding": ql.fake_quantize(model.weights["embedding"], 2, per="channel")})
    np.testing.assert_array_equal(quantized.logits(TOKENS), rounded.logits(TOKENS))
    with pytest.raises(ValueError, match="'head' does not"):
        quantize_model(model, layers="head")


def test_bits_may_differ_from_layer_to_layer():
    model = make_model()
    quantized = quantize_model(model, num_bits={"*.down_proj": 8, "layers.0.*": 4, "head": 6}, symmetric=False)
    formats = {name: quantized.weights[name].format for name in quantized_names(quantized)}
    # Where patterns overlap the later one counts.
    eight, four = {"layers.1.down_proj": "UINT8"}, {name: "UINT4" for name in model.linears if name[7] == "0"}
    assert formats == {**eight, **four, "head": "UINT6"}
    for name in formats:
        one = quantize_model(model, num_bits=int(formats[name][4:]), symmetric=False, layers=name)
        np.testing.assert_array_equal(one.weights[name].data, quantized.weights[name].data)


def test_layer_after_layer_gives_the_same_model():
    model = make_model()
    quantized = model
    for name in model.linears:
        quantized = quantize_model(quantized, num_bits=3, layers=name)
    np.testing.assert_array_equal(quantized.logits(TOKENS), quantize_model(model, num_bits=3).logits(TOKENS))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "best"}, ValueError, "method must be one of 'rtn', .*not 'best'"),
        (
            {"layers": "layers.7.*"},
            ValueError,
            r"layers must match some of the model's, but 'layers.7.\*' does not: emb",
        ),
        ({"layers": ["*.q_proj", "norm"]}, ValueError, "layers must match some of the model's, but 'norm' does not"),
        ({"num_bits": {"q_proj": 4}}, ValueError, "layers must match some of the model's, but 'q_proj' does not"),
        ({"num_bits": {"*": 4}, "layers": "*"}, ValueError, "layers cannot be given where num_bits is a dict"),
        ({"num_bits": 1}, ValueError, "layers.0.q_proj: num_bits must be from 2 to 16, not 1"),
        ({"num_bits": 4.0}, TypeError, "num_bits must be a whole number"),
        ({"num_bits": {"*.up_proj": 17}}, ValueError, "layers.0.up_proj: num_bits must be from 2 to 16, not 17"),
        ({"symmetric": "yes"}, TypeError, "symmetric must be True or False"),
        ({"per": "row"}, ValueError, "layers.0.q_proj: per must be one of"),
        ({"per": "group"}, ValueError, 'layers.0.q_proj: per="group" needs a group_size'),
        ({"group_size": 16}, ValueError, 'layers.0.q_proj: group_size goes with per="group" only'),
        (
            {"per": "group", "group_size": 64},
            ValueError,
            "layers.0.q_proj: group_size must be from 1 to 32, not 64",
        ),
        (
            {"per": "group", "group_size": 12, "layers": ["*.down_proj", "embedding"]},
            ValueError,
            "embedding: group_size must divide the last axis, 32, but it is 12",
        ),
        ({"format": "FP5"}, ValueError, "layers.0.q_proj: format must be one of"),
    ],
)
def test_refuses(options, error, message):
    with pytest.raises(error, match=message):
        quantize_model(make_model(), **options)


def test_a_layer_is_quantized_once():
    quantized = quantize_model(make_model(), num_bits=4, layers="*.v_proj")
    with pytest.raises(
        ValueError, match=r"layers must be float, but layers.0.v_proj is quantized already: PackedTensor\("
    ):
        quantize_model(quantized)
    assert len(quantized_names(quantize_model(quantized, layers="*.q_proj"))) == 4


def test_a_layer_that_does_not_fit_is_named():
    model = make_model()
    odd = model.weights["layers.1.o_proj"].copy()
    odd[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"layers\.1\.o_proj: x must be finite"):
        quantize_model(model.replace({"layers.1.o_proj": odd}))


# --- sensitivity ------------------------------------------------------------------------------------------


def test_sensitivity_is_one_layer_at_a_time():
    model = make_model()
    yardstick = Yardstick(model, TEXT, window=16)
    found = sensitivity(model, yardstick, num_bits=3, symmetric=False)
    assert list(found) == list(model.linears)
    for name, divergence in found.items():
        alone = model.replace({name: ql.fake_quantize(model.weights[name], 3, symmetric=False, per="channel")})
        expected = yardstick.measure(alone).divergence
        assert (divergence, divergence.top1_agreement) == (expected, expected.top1_agreement)
        assert divergence > 0


def test_layers_of_one_pattern_are_quantized_together():
    model = make_model()
    yardstick = Yardstick(model, TEXT, window=16)
    found = sensitivity(model, yardstick, layers=["layers.0.*", "embedding"], format="FP4_E2M1")
    assert list(found) == ["layers.0.*", "embedding"]
    for pattern, divergence in found.items():
        expected = quantize_model(model, format="FP4_E2M1", layers=pattern)
        assert divergence == yardstick.measure(expected).divergence
    assert sensitivity(model, yardstick, layers="layers.0.*", format="FP4_E2M1") == {"layers.0.*": found["layers.0.*"]}


# --- progress ---------------------------------------------------------------------------------------------


def test_only_many_weights_show_a_progress_bar(monkeypatch, capsys):
    model = make_model()
    count = sum(weight.size for weight in model.linears.values())
    for many, shows in ((count + 1, False), (count, True)):
        monkeypatch.setattr(quantize, "MANY_WEIGHTS", many)
        quantize_model(model)
        assert ("quantizing" in capsys.readouterr().err) is shows


def test_only_much_work_shows_that_of_sensitivity(monkeypatch, capsys):
    model = make_model()
    yardstick = Yardstick(model, TEXT, window=16)
    products = 2 * model.num_parameters * 48  # 2 patterns, 45 tokens in 3 windows of 16
    for many, shows in ((products + 1, False), (products, True)):
        monkeypatch.setattr(quantize, "MANY_PRODUCTS", many)
        sensitivity(model, yardstick, layers=["*.q_proj", "*.k_proj"])
        assert ("one layer at a time" in capsys.readouterr().err) is shows
