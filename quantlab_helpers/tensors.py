"""Real tensors to measure on: the ones that come with the course, and your own.

    tensors = ql.sample_tensors()                   # four layers of a language model with their real inputs
    weight = ql.load_tensor("model.safetensors", "model.layers.0.mlp.up_proj.weight")

Where the sample tensors come from, and what 4-bit storage did to them before we got them: data/README.md.
"""

from __future__ import annotations

import difflib
import os
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .gguf_file import GgufFile
from .packing import unpack
from .validation import real_array

# The four samples in the order of the lesson: first nothing stands out, then one kind of outlier at a time.
_SAMPLES = {
    "o_proj": "attention output of layer 26: nothing stands out, neither in the weights nor in the inputs",
    "gate_proj": "feed-forward gate of layer 27: one weight row is 16 times as large as the typical row",
    "v_proj": "attention value of layer 12: one input channel is 30 times as large as the typical channel",
    "down_proj": "feed-forward down of layer 11: the first token's inputs are 1,900 times as large as the others",
}
_SAMPLE_FILE = Path(__file__).parent / "data" / "sample_tensors.safetensors"
_INPUTS_FILE = _SAMPLE_FILE.with_name("layer_inputs.safetensors")
_NAMES_SHOWN = 10


@dataclass(frozen=True, eq=False)
class SampleTensor:
    """A linear layer of a trained model with inputs that really reached it; its output is `activations @ weight.T`."""

    name: str
    weight: np.ndarray  # (out_features, in_features) float32
    activations: np.ndarray  # (tokens, in_features) float32
    description: str

    def __repr__(self) -> str:
        shapes = f"weight {self.weight.shape}, activations {self.activations.shape}"
        return f"SampleTensor {self.name}: {shapes}; {self.description}"


def sample_tensors() -> dict[str, SampleTensor]:
    """Return the four layers of SmolLM2-135M-Instruct that ship with the course, by name, always in the same order.

    o_proj has no outliers, gate_proj has outlier weight rows, v_proj an outlier input channel, down_proj an outlier
    token. The arrays are new in each call: change them as you like.

    >>> sample_tensors()["o_proj"]                                                         # doctest: +ELLIPSIS
    SampleTensor o_proj: weight (576, 576), activations (96, 576); attention output of layer 26: ...
    """
    from safetensors.numpy import load_file

    stored = load_file(_SAMPLE_FILE)
    return {
        name: SampleTensor(name, _stored_weight(stored, name), stored[f"{name}.activations"], description)
        for name, description in _SAMPLES.items()
    }


@dataclass(frozen=True, eq=False)
class LayerInputs:
    """What one layer sees of two texts: one to calibrate with, and one to measure on."""

    calibration: np.ndarray  # (tokens, in_features) float32
    heldout: np.ndarray  # (tokens, in_features) float32


def layer_inputs() -> LayerInputs:
    """Return many inputs of the sample layer `v_proj`: 1,024 tokens of one text and 256 of another.

    >>> inputs = layer_inputs()
    >>> inputs.calibration.shape, inputs.heldout.shape, sample_tensors()["v_proj"].weight.shape
    ((1024, 576), (256, 576), (192, 576))
    """
    from safetensors.numpy import load_file

    stored = load_file(_INPUTS_FILE)
    return LayerInputs(*(stored[f"v_proj.{part}"].astype(np.float32) for part in ("calibration", "heldout")))


def _stored_weight(stored: dict[str, np.ndarray], name: str) -> np.ndarray:
    # The model's own Q4_1: weight = scale * code + minimum, one scale and one minimum for each 32 weights of a row.
    scale, minimum = (stored[f"{name}.{part}"].astype(np.float32)[..., None] for part in ("scale", "minimum"))
    out_features, groups, _ = scale.shape
    codes = unpack(stored[f"{name}.codes"], 4, (out_features, groups, 32))
    return (scale * codes + minimum).reshape(out_features, -1)


def load_tensor(path, name: str | None = None) -> np.ndarray:
    """Return one tensor of a `.npy`, `.npz`, `.safetensors` or `.gguf` file as a new float32 array.

    `name` says which one if the file holds several; a `.npy` file's only tensor is named after the file. Weights of
    linear layers come as (out_features, in_features), from GGUF too. Whatever the file holds (float64, float16,
    BF16, integers, the quantized types that the `gguf` package knows) becomes float32: integers beyond 2**24
    are rounded. Nothing is ever unpickled. (In Llama models, GGUF files hold the rows of q and k in another order.)

    Raises FileNotFoundError; TypeError for what is not a path, a string as name or real numbers; ValueError for a
    folder, another ending, a damaged file, an empty tensor, numbers too large for float32, a name that is not in the
    file (it proposes similar ones), and for no name where there are several (it lists them).

    >>> load_tensor("weights.npz", "up_proj").shape                                            # doctest: +SKIP
    (1536, 576)
    """
    path = _checked_path(path)
    with _explaining(path):
        tensors = _READERS[path.suffix.lower()](path)
    name = _chosen(name, list(tensors), path)
    with _explaining(path):
        array = tensors[name]()
    array = real_array(array, f"tensor {name!r} of {path.name}")
    with np.errstate(over="ignore"):
        loaded = np.array(array, np.float32)  # always a copy, so that no view keeps the file open
    if np.isinf(loaded).sum() > np.isinf(array).sum():
        raise ValueError(f"tensor {name!r} of {path.name} holds numbers beyond float32's largest, 3.4e38")
    return loaded


def _checked_path(path) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be the name of a file, not {path!r}")
    path = Path(path).expanduser()
    endings = ", ".join(_READERS)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: path must name one file in it, ending in {endings}")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path} (looked from the folder {Path.cwd()})")
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"{path} must end in {endings}, not {path.suffix!r}")
    return path


def _chosen(name: str | None, names: list[str], path: Path) -> str:
    """Return `name` if the file has it, or the only name that there is; else say what to choose from."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a string or None, not {name!r}")
    if name in names:
        return name
    if name is None and len(names) == 1:
        return names[0]
    if not names:
        raise ValueError(f"{path} holds no tensors")
    if name is None:
        raise ValueError(f"{path} holds {len(names)} tensors, so give the name of one: {_listing(names)}")
    similar = [n for n in names if name in n] or difflib.get_close_matches(name, names, n=_NAMES_SHOWN)
    if similar:
        raise ValueError(f"{path} has no tensor {name!r}; similar names are: {_listing(similar)}")
    raise ValueError(f"{path} has no tensor {name!r}; it holds {_listing(names)}")


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(map(repr, names[:_NAMES_SHOWN])) + more


@contextmanager
def _explaining(path: Path):
    """Turn whatever a reader raises on a damaged file (each has its own exceptions) into one clear ValueError."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"cannot read {path} as a {path.suffix} file; is it cut short, or of another type? ({error})"
        ) from error


# A reader returns, for each tensor in the file, its name and a function that reads only that one.


def _read_npy(path: Path):
    def read():
        with open(path, "rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    return {path.stem: read}


def _read_npz(path: Path):
    def read(member):
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    with zipfile.ZipFile(path) as archive:
        return {m.removesuffix(".npy"): partial(read, m) for m in archive.namelist() if m.endswith(".npy")}


def _read_safetensors(path: Path):
    import ml_dtypes  # noqa: F401  (teaches NumPy the dtype "bfloat16", which safetensors then asks for)
    from safetensors import safe_open

    file = safe_open(path, framework="np")
    return {name: partial(file.get_tensor, name) for name in file.keys()}  # noqa: SIM118  (not a dict)


def _read_gguf(path: Path):
    file = GgufFile(path)
    return {name: partial(file.read, name) for name in file.tensors}


_READERS = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors, ".gguf": _read_gguf}
