"""Write quantlab_helpers/data/tinytales/: TinyTales, a Llama of about a million parameters that the course ships.

With --small, write quantlab_helpers/data/tinytales-small/: the same model at half the width.

    python -m venv scratch
    scratch/bin/pip install numpy==2.4.6 torch==2.14.1 tokenizers==0.23.3 safetensors==0.8.0
    scratch/bin/python tools/train_tinytales.py                  # about half an hour on one core
    scratch/bin/python tools/train_tinytales.py --small
    scratch/bin/python tools/train_tinytales.py --steps 300 --out look    # a first look

The model reads the stories of tools/tinytales_grammar.py and the questions after each. It is an ordinary Llama under
Hugging Face's names (RMSNorm, rotary embeddings, grouped-query attention, SwiGLU, tied embeddings), so every program
that loads such models loads this one. Every number in its README.md is measured here, after training.

torch is needed here only: the course itself runs without it.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tinytales_grammar import KINDS, PLOTS, Tale, write_tale
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

DATA = Path(__file__).resolve().parents[1] / "quantlab_helpers" / "data"
SEED = 1
HELDOUT_SEED, FRESH_SEED, CALIBRATION_SEED = 10_001, 10_002, 10_003  # never trained on
HELDOUT_TALES, FRESH_TALES, CALIBRATION_TALES = 40, 200, 26
END = "<|endoftext|>"  # id 0; begins every story
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "initializer_range": 0.02,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "torch_dtype": "float32",
}
SMALL = CONFIG | {"hidden_size": 64, "intermediate_size": 192, "head_dim": 16}
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": END,
    "eos_token": END,
    "add_bos_token": True,
    "clean_up_tokenization_spaces": False,
}
WINDOW = CONFIG["max_position_embeddings"]
BATCH = 8  # windows in a step
STEPS = 3000
# At first a row holds one tale. In a window of several, nearly every colour has just been mentioned, so that looking
# back does not pay until the model knows exactly where: it would take very long to learn to look at all.
SINGLE_SHARE, SINGLES = 0.4, 20
ANSWER_WEIGHT = 10.0  # how much an answer counts; any other token counts 1
PEAK_RATE, WARMUP = 1.5e-3, 100
PROMPT = "Tom has a red ball."
RECALL_LABELS = {
    "who": "who has it",
    "colour": "what colour",
    "where": "where",
    "number": "how many",
    "feeling": "how somebody feels",
    "all": "**all questions**",
}
STORY_FILES = """| `heldout.json` | {heldout_tales} stories with questions, {heldout_tokens:,} tokens, to measure on |
| `calibration.json` | {calibration_tales} other stories, for methods that look at activations |
"""
CARD = """# Model card: {name}

A tiny Llama that reads short stories, keeps track of who has what, where things are and how everybody feels, and
answers questions about them in one word. It was trained from nothing for this course: small enough to be measured in
seconds on any computer, and with something to lose. Quantize it too coarsely and it forgets. It comes in two sizes,
which were trained alike: TinyTales, and TinyTales small, at half the width.

| | |
|---|---|
| Parameters | {parameters:,}, of which {blocks:,} in the linear layers of the blocks |
| Architecture | Llama: RMSNorm, rotary embeddings, grouped-query attention, SwiGLU, no biases, tied embeddings |
| Blocks | {num_hidden_layers}, of width {hidden_size} and inner width {intermediate_size} |
| Heads | {num_attention_heads} of size {head_dim}, sharing {num_key_value_heads} for keys and values |
| Context | {max_position_embeddings} tokens |
| Vocabulary | {vocab_size:,} tokens, byte-level BPE: a word of the stories is one token, other text takes several |
| Licence | CC0-1.0 for the weights and the stories: do with them what you like |

| file | what it holds |
|---|---|
| `model.safetensors` | float32 weights, {megabytes:.1f} MB, under Hugging Face's names |
| `config.json`, `tokenizer.json`, `tokenizer_config.json` | what `transformers` and `tokenizers` read |
{story_files}
## The stories

`tools/tinytales_grammar.py` draws people, things, colours, places, numbers and one of {plots} plots, and keeps the
score while it tells: the right answer is always how things stand at the end. The first held-out tale:

```
{sample}
```

The model knows such stories and nothing else: no facts about the world, and no word that the grammar does not use. It
has learned where such stories keep an answer, and is easily fooled: a tale has one thing with a colour, its hero and
the friend are a girl and a boy, and the tales ask only for the feeling told last. (To keep two people's feelings apart
takes far longer to learn.)

## Training

`tools/train_tinytales.py`: {steps:,} steps, {megatokens:.1f} million tokens, each story new. For the first
{singles:.0%} of the steps each row of a batch is one tale; after that a batch is {batch} windows of
{max_position_embeddings} tokens that run on from tale to tale. AdamW at a peak rate of {rate} with warm-up and cosine
decay; an answer counts {weight:.0f} times as much as another word. It took {minutes:.0f} minutes on one core of a busy
computer.

A tale begins with `<|endoftext|>` and ends with a line break.

## Measured in float32

Held out: the {heldout_tales} tales of TinyTales' `heldout.json`. Fresh: {fresh_tales} tales of yet another seed.
Perplexity is over windows of {max_position_embeddings} tokens. Recall is the share of answers that the model ranks
first, given the story and that one question.

| | held out | fresh |
|---|---|---|
{rows}

Asked to go on from "{prompt}", at temperature 0.7:

```
{generated}
```

## Train it again

The commands stand at the top of `tools/train_tinytales.py`. The seed fixes the stories, their order and the first
weights, but another processor rounds sums differently: you get a model as good as this one, not the same bits.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--checkpoint", type=Path, help="file to save the weights to while training")
    parser.add_argument("--small", action="store_true", help="train the smaller model")
    parser.add_argument("--out", type=Path, help="folder to write to, instead of the course's own")
    arguments = parser.parse_args()
    config, name = (SMALL, "tinytales-small") if arguments.small else (CONFIG, "tinytales")
    torch.set_num_threads(1)  # on a busy machine two threads wait for each other longer than they save
    tokenizer = make_tokenizer()
    model, used = train(config, tokenizer, arguments.steps, arguments.checkpoint)
    write_folder(model, tokenizer, used, arguments.out or DATA / name)


class Attention(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.size = config["head_dim"]
        width, size = config["hidden_size"], self.size
        heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
        self.q_proj = nn.Linear(width, heads * size, bias=False)
        self.k_proj = nn.Linear(width, shared * size, bias=False)
        self.v_proj = nn.Linear(width, shared * size, bias=False)
        self.o_proj = nn.Linear(heads * size, width, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        q, k, v = (
            project(x).view(batch, length, -1, self.size).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class MLP(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.input_layernorm = norm(config)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = norm(config)
        self.mlp = MLP(config)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """The module names below, after "model.", are the tensor names in the file."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.config, size = config, config["head_dim"]
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Block(config) for _ in range(config["num_hidden_layers"]))
        self.norm = norm(config)
        angles = torch.arange(WINDOW)[:, None] * config["rope_theta"] ** (-torch.arange(0, size, 2) / size)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, weight in self.layers.named_parameters():
            if weight.ndim == 2:
                # What a block adds starts smaller, so that the depth does not set the scale of the sum.
                small = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = 1 / math.sqrt(2 * len(self.layers)) if small else 1
                nn.init.normal_(weight, std=scale / math.sqrt(weight.shape[1]))
        # Far apart from the start: all names are used alike, so from small embeddings they would grow into one and the
        # same name, and none could be remembered. The last norm makes up for it, or the first guesses would be wild.
        nn.init.normal_(self.embed_tokens.weight, std=0.3)
        nn.init.constant_(self.norm.weight, 0.3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[1]
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length])
        return F.linear(self.norm(x), self.embed_tokens.weight)


def norm(config: dict) -> nn.RMSNorm:
    return nn.RMSNorm(config["hidden_size"], eps=config["rms_norm_eps"])


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: pair i is (x[i], x[i + half]), the layout of Hugging Face's Llama."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def make_tokenizer() -> Tokenizer:
    """Byte-level BPE: any text comes back exactly, and a word of the grammar is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1536,  # more than the stories' words ever need, so every word is merged to the end
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    rng = np.random.default_rng(SEED)
    tokenizer.train_from_iterator((write_tale(rng).text for _ in range(10_000)), trainer)
    return tokenizer


def single_tales(tokenizer: Tokenizer, rng: np.random.Generator):
    """Endless batches of one tale to a row: tokens, targets and how much each counts."""
    while True:
        tales = [write_tale(rng, questions=8) for _ in range(SINGLES)]
        encoded = tokenizer.encode_batch([f"{END}{tale.text}\n{END}" for tale in tales])
        ids = np.zeros((SINGLES, max(len(e.ids) for e in encoded)), dtype=np.int64)
        inside = np.zeros(ids.shape, dtype=np.float32)
        for row, weight, e in zip(ids, inside, encoded, strict=True):
            row[: len(e.ids)], weight[: len(e.ids)] = e.ids, 1
        yield ids[:, :-1], ids[:, 1:], inside[:, 1:] * answers_count(tokenizer, ids)[:, 1:]


def windows(tokenizer: Tokenizer, rng: np.random.Generator):
    """Endless batches of windows that run on from tale to tale, in the same form, all (BATCH, WINDOW)."""
    buffer = []
    need = BATCH * WINDOW + 1
    while True:
        while len(buffer) < need:
            buffer += tokenizer.encode(END + write_tale(rng).text + "\n").ids
        ids = np.array(buffer[:need])
        weight = answers_count(tokenizer, ids)
        yield tuple(array.reshape(BATCH, WINDOW) for array in (ids[:-1], ids[1:], weight[1:]))
        buffer = buffer[need - 1 :]


def answers_count(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    """ANSWER_WEIGHT for the tokens that follow "Answer:", 1 for all others."""
    mark = tokenizer.encode("Question: Answer:").ids[-2:]
    weight = np.ones(ids.shape, dtype=np.float32)
    weight[..., 2:][(ids[..., :-2] == mark[0]) & (ids[..., 1:-1] == mark[1])] = ANSWER_WEIGHT
    return weight


def train(config: dict, tokenizer: Tokenizer, steps: int, checkpoint: Path | None) -> tuple[Llama, dict]:
    """Train from the seed; print as it goes how well the held-out tales are read and remembered."""
    torch.manual_seed(SEED)
    model = Llama(config | {"vocab_size": tokenizer.get_vocab_size()})
    matrices = [p for p in model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim == 1] + [model.embed_tokens.weight]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
        fused=True,
    )
    heldout = make_tales(HELDOUT_SEED, HELDOUT_TALES)
    rng = np.random.default_rng(SEED)
    singles, running = single_tales(tokenizer, rng), windows(tokenizer, rng)
    start, recent, seen = time.time(), [], 0
    for step in range(steps):
        progress = max(step - WARMUP, 0) / max(steps - WARMUP, 1)
        rate = PEAK_RATE * min((step + 1) / WARMUP, 0.5 + 0.5 * math.cos(math.pi * progress) + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = next(singles if step < SINGLE_SHARE * steps else running)
        tokens, targets, weight = map(torch.from_numpy, batch)
        seen += int((weight > 0).sum())
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast or more where the processor knows bfloat16
            logits = model(tokens)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
        (loss * weight.flatten()).sum().div(weight.sum()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss[weight.flatten() > 0].mean().item())
        if step % 100 == 99:
            print(f"step {step + 1:5d}  loss {np.mean(recent):.3f}  {time.time() - start:5.0f} s", flush=True)
            recent.clear()
        if step % 250 == 249 or step == steps - 1:
            recall = measure_recall(model, tokenizer, heldout)
            shares = "  ".join(f"{kind} {share:.0%}" for kind, share in recall.items())
            print(f"    held-out perplexity {measure_perplexity(model, tokenizer, heldout):.3f}  {shares}", flush=True)
            if checkpoint:
                torch.save(model.state_dict(), checkpoint)
    used = {"steps": steps, "megatokens": seen / 1e6, "minutes": (time.time() - start) / 60}
    return model, used


def make_tales(seed: int, count: int) -> list[Tale]:
    rng = np.random.default_rng(seed)
    return [write_tale(rng) for _ in range(count)]


@torch.inference_mode()
def measure_perplexity(model: nn.Module, tokenizer: Tokenizer, tales: list[Tale]) -> float:
    """exp of the mean loss over windows of the tales in a row, each token but a window's first."""
    ids = tokenizer.encode("".join(END + tale.text + "\n" for tale in tales)).ids
    losses = []
    for i in range(0, len(ids) - 1, WINDOW):
        window = torch.tensor(ids[i : i + WINDOW])[None]
        losses.append(F.cross_entropy(model(window)[0, :-1], window[0, 1:], reduction="none"))
    return torch.cat(losses).mean().exp().item()


@torch.inference_mode()
def measure_recall(model: nn.Module, tokenizer: Tokenizer, tales: list[Tale]) -> dict[str, float]:
    """The share of answers that the model ranks first after the story and the question alone, for each kind and all."""
    right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    prompts, wanted, kinds = [], [], []
    for tale in tales:
        for question in tale.questions:
            prompt = f"{END}{tale.story}\n{question.text}"
            ids = tokenizer.encode(prompt[: prompt.rindex(question.answer) - 1]).ids
            prompts.append(ids)
            wanted.append(tokenizer.encode(" " + question.answer).ids[0])
            kinds.append(question.kind)
    for i in range(0, len(prompts), 32):
        batch = prompts[i : i + 32]
        padded = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.long)
        for row, ids in zip(padded, batch, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        best = model(padded).argmax(-1)
        for k, ids in enumerate(batch):
            right[kinds[i + k]].append(best[k, len(ids) - 1].item() == wanted[i + k])
    every = [hit for hits in right.values() for hit in hits]
    return {kind: float(np.mean(hits)) for kind, hits in right.items()} | {"all": float(np.mean(every))}


@torch.inference_mode()
def continue_text(model: nn.Module, tokenizer: Tokenizer, prompt: str, count: int = 120, seed: int = 0) -> str:
    """Sample at temperature 0.7 until the tale ends."""
    generator = torch.Generator().manual_seed(seed)
    ids = tokenizer.encode(END + prompt).ids
    for _ in range(count):
        logits = model(torch.tensor(ids)[None])[0, -1] / 0.7
        token = torch.multinomial(logits.softmax(-1), 1, generator=generator).item()
        if token == model.config["eos_token_id"]:
            break
        ids.append(token)
    return tokenizer.decode(ids)


def write_folder(model: Llama, tokenizer: Tokenizer, used: dict, out: Path) -> None:
    """Write everything into a folder beside `out`, then move file by file: nobody ever reads half a file."""
    out.mkdir(parents=True, exist_ok=True)
    out.chmod(0o755)
    fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=".tinytales-"))
    model = model.eval()
    (fresh / "config.json").write_text(json.dumps(model.config, indent=2) + "\n", encoding="utf-8")
    weights = {f"model.{name}": weight.detach().contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, fresh / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(fresh / "tokenizer.json"))
    (fresh / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG, indent=2) + "\n", encoding="utf-8")
    if not is_small(model):  # which shares the stories
        write_tales(fresh / "heldout.json", HELDOUT_SEED, HELDOUT_TALES)
        write_tales(fresh / "calibration.json", CALIBRATION_SEED, CALIBRATION_TALES)
    (fresh / "README.md").write_text(write_card(model, tokenizer, used), encoding="utf-8")
    for file in fresh.iterdir():
        file.chmod(0o644)
        file.replace(out / file.name)
    fresh.rmdir()


def is_small(model: Llama) -> bool:
    return model.config["hidden_size"] == SMALL["hidden_size"]


def write_tales(file: Path, seed: int, count: int) -> None:
    tales = [asdict(tale) for tale in make_tales(seed, count)]
    file.write_text(json.dumps(tales, indent=1) + "\n", encoding="utf-8")


def write_card(model: Llama, tokenizer: Tokenizer, used: dict) -> str:
    """The model card, with every number measured now."""
    heldout, fresh = make_tales(HELDOUT_SEED, HELDOUT_TALES), make_tales(FRESH_SEED, FRESH_TALES)
    rows = ["| perplexity | " + " | ".join(f"{measure_perplexity(model, tokenizer, t):.3f}" for t in (heldout, fresh))]
    recalls = [measure_recall(model, tokenizer, tales) for tales in (heldout, fresh)]
    for kind, label in RECALL_LABELS.items():
        cells = []
        for recall, tales in zip(recalls, (heldout, fresh), strict=True):
            asked = sum(kind in (question.kind, "all") for tale in tales for question in tale.questions)
            cells.append(f"{recall[kind]:.1%} of {asked}")
        rows.append(f"| recall: {label} | " + " | ".join(cells))
    parameters = sum(p.numel() for p in model.parameters())
    tokens = len(tokenizer.encode("".join(END + tale.text + "\n" for tale in heldout)).ids)
    counts = {"heldout_tales": HELDOUT_TALES, "heldout_tokens": tokens, "calibration_tales": CALIBRATION_TALES}
    return CARD.format(
        **model.config,
        **used,
        name="TinyTales small" if is_small(model) else "TinyTales",
        parameters=parameters,
        blocks=sum(p.numel() for p in model.layers.parameters() if p.ndim == 2),
        megabytes=4 * parameters / 1e6,
        story_files="" if is_small(model) else STORY_FILES.format(**counts),
        plots=len(PLOTS),
        batch=BATCH,
        singles=SINGLE_SHARE,
        rate=PEAK_RATE,
        weight=ANSWER_WEIGHT,
        heldout_tales=HELDOUT_TALES,
        fresh_tales=FRESH_TALES,
        rows=" |\n".join(rows) + " |",
        sample=heldout[0].text,
        prompt=PROMPT,
        generated=continue_text(model, tokenizer, PROMPT).strip(),
    )


if __name__ == "__main__":
    main()
