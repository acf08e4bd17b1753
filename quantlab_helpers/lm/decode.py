"""One token through a model whose layers are kernels: what lies between the products is compiled, too.

With packed weights a product of a small model takes some ten microseconds. NumPy's calls for norms, rotations and
attention, some fifty for each layer, would then take longer than all the products. What is computed is what `model.py`
says, with its results up to float32's rounding. The first call compiles, which takes some seconds, once.
"""

from __future__ import annotations

import numpy as np

from ..kernels_compiled import compiled


def next_hidden_state(model, token: int, cache) -> np.ndarray:
    """Return what `model.hidden_states([token], cache)` does for its one token: float32 (width,)."""
    config, weights, norms, eps = model.config, model.weights, model.norms, np.float32(model.config.norm_eps)
    heads = (1, 1, config.num_kv_heads, config.head_size)
    cos, sin = (part.reshape(-1) for part in model._turns(cache.length, 1))
    is_half = config.rope_layout == "half"
    x = model._rows(np.array([token]))[0]
    for i in range(config.num_layers):
        block = f"layers.{i}."
        h = norm(x, norms[block + "attention_norm"], eps)
        q, k, v = (weights[block + name].product(h) for name in ("q_proj", "k_proj", "v_proj"))
        keys, values = cache.extend(i, rotate(k, cos, sin, is_half).reshape(heads), v.reshape(heads))
        x += weights[block + "o_proj"].product(attention(rotate(q, cos, sin, is_half), keys[0], values[0]))
        h = norm(x, norms[block + "ffn_norm"], eps)
        gated = swiglu(weights[block + "gate_proj"].product(h), weights[block + "up_proj"].product(h))
        x += weights[block + "down_proj"].product(gated)
    cache.length += 1
    return norm(x, norms["norm"], eps)


@compiled
def norm(x, weight, eps):
    """x / sqrt(mean(x**2) + eps) * weight, all (width,)."""
    total = np.float32(0)
    for i in range(x.size):
        total += x[i] * x[i]
    factor = np.float32(1) / np.sqrt(total / np.float32(x.size) + eps)
    y = np.empty_like(x)
    for i in range(x.size):
        y[i] = x[i] * factor * weight[i]
    return y


@compiled
def rotate(x, cos, sin, is_half):
    """Turn the pairs of numbers of each head, x (heads * size,), as `model.rotate` does."""
    half = cos.size
    y = np.empty_like(x)
    for head in range(0, x.size, 2 * half):
        for i in range(half):
            first, second = (x[head + i], x[head + half + i]) if is_half else (x[head + 2 * i], x[head + 2 * i + 1])
            y[head + i] = first * cos[i] - second * sin[i]
            y[head + half + i] = first * sin[i] + second * cos[i]
    return y


@compiled
def attention(q, keys, values):
    """The mean of the values weighted by softmax(q @ keys.T), each head's: q (heads * size,), keys (time, kv, size)."""
    time, kv_heads, size = keys.shape
    group = q.size // size // kv_heads
    scale = np.float32(1) / np.sqrt(np.float32(size))
    mixed = np.zeros_like(q)
    weights = np.empty(time, np.float32)
    for head in range(group * kv_heads):
        query, sums = q[head * size : (head + 1) * size], mixed[head * size : (head + 1) * size]
        largest = np.float32(-np.inf)
        for t in range(time):
            score = np.float32(0)
            for i in range(size):
                score += query[i] * keys[t, head // group, i]
            weights[t] = score * scale
            largest = max(largest, weights[t])
        total = np.float32(0)
        for t in range(time):
            weight = np.exp(weights[t] - largest)
            total += weight
            for i in range(size):
                sums[i] += weight * values[t, head // group, i]
        for i in range(size):
            sums[i] /= total
    return mixed


@compiled
def swiglu(gate, up):
    """gate * sigmoid(gate) * up, all (ffn_width,)."""
    y = np.empty_like(gate)
    for i in range(gate.size):
        y[i] = gate[i] / (np.float32(1) + np.exp(-gate[i])) * up[i]
    return y
