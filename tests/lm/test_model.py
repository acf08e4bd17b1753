"""The Llama: golden logits in pieces and batches, attention and RoPE against plain definitions, writing text."""

import numpy as np
import pytest
import tiny_llama

from quantlab_helpers import lm
from quantlab_helpers.lm import KVCache, LanguageModel, LlamaConfig, model

pytestmark = pytest.mark.filterwarnings("error")

# Another order of the same float32 sums: as far apart as from float64, see test_checkpoint.py.
CLOSE = 1e-4


@pytest.fixture(scope="module", params=tiny_llama.KINDS)
def tiny(request, tmp_path_factory):
    """A model, its tokens (2, 40) and its golden logits (2, 40, 64)."""
    loaded = lm.load(tiny_llama.write_folder(tmp_path_factory.mktemp("model"), request.param))
    return loaded, *(tiny_llama.GOLDEN[f"{request.param}.{part}"] for part in ("tokens", "logits"))


@pytest.fixture
def tied(tmp_path):
    return lm.load(tiny_llama.write_folder(tmp_path, "tied"))


def assert_close(logits, golden):
    assert logits.dtype == np.float32
    assert logits.shape == golden.shape
    assert np.abs(logits - golden).max() < CLOSE


# Logits


def test_a_batch_and_each_of_its_texts(tiny):
    tiny, tokens, golden = tiny
    assert_close(tiny.logits(tokens), golden)
    assert_close(tiny.logits(tokens[0]), golden[0])
    assert_close(tiny.logits(tokens[1:].tolist()), golden[1:])


@pytest.mark.parametrize("block", [1, 7, 40, 1000])
def test_the_blocks_of_queries_and_rows_change_nothing(tiny, monkeypatch, block):
    tiny, tokens, golden = tiny
    monkeypatch.setattr(model, "QUERY_BLOCK", block)
    monkeypatch.setattr(model, "ROW_BLOCK", block)
    assert_close(tiny.logits(tokens), golden)


@pytest.mark.parametrize("pieces", [[1] * 40, [40], [1, 39], [39, 1], [7, 20, 1, 1, 11]])
@pytest.mark.parametrize("block", [8, 64])
def test_in_pieces_with_a_cache(tiny, monkeypatch, pieces, block):
    tiny, tokens, golden = tiny
    monkeypatch.setattr(model, "QUERY_BLOCK", block)
    cache = KVCache(tiny.config, capacity=45, batch=2)
    ends = np.cumsum(pieces)
    parts = [tiny.logits(tokens[:, end - piece : end], cache) for piece, end in zip(pieces, ends, strict=True)]
    assert cache.length == 40
    assert_close(np.concatenate(parts, axis=1), golden)


def test_later_tokens_do_not_change_earlier_logits(tiny):
    tiny, tokens, golden = tiny
    changed = tokens[0].copy()
    changed[25:] = 63 - changed[25:]
    logits = tiny.logits(changed)
    assert_close(logits[:25], golden[0, :25])
    assert np.abs(logits[25:] - golden[0, 25:]).max() > 1


def test_the_head_may_see_only_a_part(tiny):
    tiny, tokens, golden = tiny
    assert_close(tiny.head(tiny.hidden_states(tokens[0])[-1]), golden[0, -1])


def test_nothing_that_the_model_holds_is_changed(tiny):
    tiny, tokens, _ = tiny
    before = {name: array.copy() for name, array in {**tiny.weights, **tiny.norms}.items()}
    given = tokens.copy()
    tiny.logits(given)
    assert np.array_equal(given, tokens)
    for name, array in {**tiny.weights, **tiny.norms}.items():
        assert np.array_equal(array, before[name])


@pytest.mark.parametrize(
    "tokens, error, message",
    [
        ([], TypeError, "tokens must hold integers"),
        (np.zeros((0,), int), ValueError, r"tokens must have shape \(time,\) or \(batch, time\), not \(0,\)"),
        (np.zeros((1, 1, 1), int), ValueError, r"not \(1, 1, 1\)"),
        (3, ValueError, r"not \(\)"),
        ([0, 64], ValueError, "tokens must be from 0 to 63, not 0 to 64"),
        ([-1, 5], ValueError, "tokens must be from 0 to 63, not -1 to 5"),
        ([0.5], TypeError, "tokens must hold integers"),
        ([0] * 129, ValueError, "tokens must be at most 128, the context that the model was made for, not 129"),
    ],
)
def test_tokens_that_cannot_be(tied, tokens, error, message):
    with pytest.raises(error, match=message):
        tied.logits(tokens)


def test_a_cache_ends_at_its_capacity_and_at_the_context(tied):
    cache = KVCache(tied.config, capacity=4)
    tied.logits([1, 2, 3], cache)
    with pytest.raises(ValueError, match="the cache holds 4 tokens, not 5"):
        tied.logits([4, 5], cache)
    assert cache.length == 3
    cache = KVCache(tied.config, capacity=200)
    tied.logits([0] * 128, cache)
    with pytest.raises(ValueError, match=r"at most 128, .* not 129"):
        tied.logits([0], cache)


# The parts


@pytest.mark.parametrize("heads, kv_heads", [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("before", [0, 5])
@pytest.mark.parametrize("block", [3, 64])
def test_attention_is_a_softmax_over_what_came_before(monkeypatch, heads, kv_heads, before, block):
    monkeypatch.setattr(model, "QUERY_BLOCK", block)
    rng, time, size = np.random.default_rng(1), 11, 8
    q = rng.normal(size=(2, time, heads, size)).astype(np.float32)
    k, v = rng.normal(size=(2, 2, before + time, kv_heads, size)).astype(np.float32)
    mixed = model.causal_attention(q, k, v)
    for b, t, h in np.ndindex(2, time, heads):
        seen, kv = before + t + 1, h * kv_heads // heads
        scores = np.exp(k[b, :seen, kv].astype(np.float64) @ q[b, t, h])
        # float32: scores of up to 15 are off by 1e-6, so their exponentials, and the mean of values up to 4, by 4e-6.
        assert np.abs(mixed[b, t, h] - scores @ v[b, :seen, kv] / scores.sum()).max() < 1e-5


def test_attention_survives_large_scores():
    q = np.full((1, 2, 1, 2), 100, np.float32)
    assert np.array_equal(model.causal_attention(q, q * 10, q), q)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_rope_turns_pairs_by_the_place_times_a_frequency(layout):
    config = LlamaConfig(8, 8, 8, 1, 1, 1, head_size=6, max_context=99, rope_base=50.0, rope_factors=(1.0, 2.0, 4.0))
    empty = {"embedding": np.zeros((8, 8)), **{name: np.zeros(s) for name, s in config.linear_shapes().items()}}
    turns = LanguageModel(config, empty, {name: np.zeros(8) for name in config.norm_names()})._turns(3, 10)
    x = np.random.default_rng(2).normal(size=(1, 10, 1, 6)).astype(np.float32)
    turned = model.rotate(x, *turns, layout)
    for t in range(10):
        for i, factor in enumerate((1, 2, 4)):
            first, second = (i, i + 3) if layout == "half" else (2 * i, 2 * i + 1)
            angle = (3 + t) * 50 ** (-2 * i / 6) / factor
            expected = (x[0, t, 0, first] + 1j * x[0, t, 0, second]) * np.exp(1j * angle)
            assert abs(turned[0, t, 0, i] + 1j * turned[0, t, 0, i + 3] - expected) < 1e-6


@pytest.mark.parametrize("shape", [(3,), (200, 5), (2, 70, 3)])
def test_swiglu(shape):
    rng = np.random.default_rng(3)
    gate, up = (rng.normal(size=shape).astype(np.float32) * 5 for _ in range(2))
    expected = gate.astype(np.float64) / (1 + np.exp(-gate.astype(np.float64))) * up
    assert np.allclose(model.swiglu(gate.copy(), up), expected, rtol=1e-6, atol=1e-6)


def test_swiglu_at_its_ends():
    gate = np.array([-1000, -100, 0, 100, 1000], np.float32)
    assert np.allclose(model.swiglu(gate, np.ones(5, np.float32)), [0, 0, 0, 100, 1000], rtol=0, atol=1e-30)


# Weights by name


def test_what_the_model_says_of_itself(tiny):
    tiny, _, _ = tiny
    numbers = sum(array.size for array in (*tiny.weights.values(), *tiny.norms.values()))
    assert tiny.num_parameters == numbers
    assert tiny.nbytes == 4 * numbers
    assert tiny.bits_per_weight == 32
    assert f"2 layers of width 32, {numbers:,} parameters" in repr(tiny)
    assert list(tiny.linears) == list(tiny.config.linear_shapes())
    assert len(tiny.linears) == 14


class Packed:
    """A layer that holds float16 and is no array."""

    def __init__(self, weight):
        self.stored = weight.astype(np.float16)
        self.shape, self.nbytes = self.stored.shape, self.stored.nbytes

    def dequantize(self):
        return self.stored.astype(np.float32)


def test_layers_are_replaced_by_name_and_the_rest_is_shared(tied):
    tokens, golden = tiny_llama.GOLDEN["tied.tokens"], tiny_llama.GOLDEN["tied.logits"]
    packed = tied.replace({name: Packed(weight) for name, weight in tied.linears.items()})
    assert_close(packed.logits(tokens), golden)  # float16 holds these weights exactly
    assert packed.weights["embedding"] is tied.weights["embedding"]
    assert packed.bits_per_weight < 24
    assert all(isinstance(weight, np.ndarray) for weight in tied.weights.values())
    assert packed.expanded().bits_per_weight == 32
    assert np.array_equal(packed.expanded().weights["layers.0.q_proj"], tied.weights["layers.0.q_proj"])
    assert tied.expanded() is tied

    doubled = tied.replace({"layers.1.up_proj": lambda_layer(tied.weights["layers.1.up_proj"], 2)})
    by_hand = tied.replace({"layers.1.up_proj": 2 * tied.weights["layers.1.up_proj"]})
    assert np.array_equal(doubled.logits(tokens), by_hand.logits(tokens))
    assert np.abs(doubled.logits(tokens) - golden).max() > 0.1


def lambda_layer(weight, factor):
    class Layer:
        shape, nbytes = weight.shape, weight.nbytes

        def __call__(self, x):
            return model.apply_linear(factor * weight, x)

    return Layer()


def test_names_and_shapes_that_do_not_fit(tied):
    with pytest.raises(ValueError, match=r"the model has no matrix 'layers\.2\.q_proj'; it has embedding, layers\.0\."):
        tied.replace({"layers.2.q_proj": np.zeros((32, 32), np.float32)})
    with pytest.raises(ValueError, match=r"layers\.0\.k_proj must have shape \(16, 32\), not \(32, 32\)"):
        tied.replace({"layers.0.k_proj": np.zeros((32, 32), np.float32)})
    fewer = {name: weight for name, weight in tied.weights.items() if name != "layers.1.o_proj"}
    with pytest.raises(ValueError, match=r"the model needs 'layers\.1\.o_proj', which is missing"):
        LanguageModel(tied.config, fewer, tied.norms)
    with pytest.raises(ValueError, match="the model has no place for 'bias'"):
        LanguageModel(tied.config, tied.weights, {**tied.norms, "bias": np.zeros(32)})
    with pytest.raises(ValueError, match=r"norm must have shape \(32,\), not \(3,\)"):
        LanguageModel(tied.config, tied.weights, {**tied.norms, "norm": np.zeros(3)})


# Text


def greedy(tied, prompt, count):
    """The likeliest continuation, with a full pass for each token."""
    tokens = tied.encode(prompt)
    for _ in range(count):
        tokens.append(int(tied.logits(tokens)[-1].argmax()))
        if tokens[-1] in tied.tokenizer.stop_tokens:
            return tied.decode(tokens[:-1])[len(prompt) :]
    return tied.decode(tokens)[len(prompt) :]


@pytest.mark.parametrize("prompt", ["HELLO", "A", "xyz", "ABABAB"])
def test_greedy_text_is_the_likeliest_token_each_time(tied, prompt):
    assert tied.generate(prompt, 30) == greedy(tied, prompt, 30)
    assert tied.generate(prompt, 1) == greedy(tied, prompt, 1)


def test_text_ends_at_a_stop_token(tied):
    text = tied.generate("HELLO", 30)
    stop = tied.encode(text)[5]
    tied.tokenizer.stop_tokens = frozenset({stop})
    stopped = tied.generate("HELLO", 30)
    assert text.startswith(stopped)
    assert len(tied.encode(stopped)) == tied.encode(text).index(stop)


def test_text_ends_where_the_context_is_full(tied):
    tied.tokenizer.stop_tokens = frozenset()
    # 120 tokens are read, and 8 written and read: the last one that is written is read no more.
    tokens = list(tied.stream("C" * 120, 100))
    assert len(tokens) == 9
    assert len(list(tied.stream("C" * 128, 100))) == 1
    with pytest.raises(ValueError, match="at most 128"):
        tied.generate("C" * 129)


def test_drawn_text_follows_the_probabilities(tied):
    tied.tokenizer.stop_tokens = frozenset()
    temperature, draws, rng = 3.0, 2000, np.random.default_rng(8)
    drawn = [next(tied.stream("HELLO", 1, temperature=temperature, rng=rng)) for _ in range(draws)]
    scores = tied.logits(tied.encode("HELLO"))[-1].astype(np.float64) / temperature
    expected = np.exp(scores - scores.max())
    expected /= expected.sum()
    often = expected * draws > 10  # where the number of draws is close to a bell curve
    off = (np.bincount(drawn, minlength=64) / draws - expected) / np.sqrt(expected * (1 - expected) / draws)
    assert often.sum() > 5
    assert np.abs(off[often]).max() < 4.5  # by chance less than once in 2,000 seeds


def test_drawn_text_is_repeated_with_the_same_rng(tied):
    texts = [tied.generate("HELLO", 30, temperature=1.0, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert tied.generate("HELLO", 30, temperature=1e-6, rng=np.random.default_rng(1)) == tied.generate("HELLO", 30)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"max_tokens": 0}, ValueError, "max_tokens must be from 1 to 128, not 0"),
        ({"temperature": -1}, ValueError, "temperature must be finite and above 0, not -1"),
        ({"temperature": float("nan")}, ValueError, "temperature must be finite"),
        ({"temperature": "hot"}, TypeError, "temperature must be a number above 0, not 'hot'"),
        ({"temperature": 1.0}, TypeError, "rng must be a np.random.Generator where temperature is above 0, not None"),
        ({"prompt": ""}, ValueError, "the prompt must not be empty"),
    ],
)
def test_options_that_cannot_be(tied, options, error, message):
    with pytest.raises(error, match=message):
        tied.generate(**{"prompt": "HELLO", **options})


def test_a_cache_is_for_one_size_of_batch(tied):
    cache = KVCache(tied.config, 8, batch=2)
    with pytest.raises(ValueError, match="the cache is for a batch of 2, not 1"):
        tied.logits([1, 2], cache)
