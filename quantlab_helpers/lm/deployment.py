"""Which format for which device? What fits, how fast it is at most, how good it is, and a rule to choose by.

How good a format is was measured on SmolLM2-135M (`methods_measured`): the KL divergence from its float32 weights.
These come from a 4-bit file in groups of 32, which would flatter groups of 32: hence groups of 64. Larger models
usually lose less. For a model of your own, measure your own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from .devices import Device
from .footprint import WEIGHT_FORMATS, Footprint, footprint
from .measured import methods_measured
from .shapes import ModelShape

CHOICES = tuple(name for name in WEIGHT_FORMATS if name != "FP32")
AS_FAST = 1.2  # predictions that are nearer than this factor are ties


@dataclass(frozen=True)
class Candidate:
    """One format on one device."""

    name: str
    footprint: Footprint
    tokens_per_second: float  # for each user, at most
    divergence: float  # of SmolLM2-135M, in nats a token
    fits: bool
    needs_calibration: bool


def candidates(
    shape: ModelShape, device: Device, *, tokens: int, users: int = 1, cache_format: str = "float16"
) -> list[Candidate]:
    """Return what becomes of a model of a shape in each format, on a device, with full KV caches.

    >>> from quantlab_helpers.lm import DEVICES, KNOWN_SHAPES
    >>> found = candidates(KNOWN_SHAPES["SmolLM2-1.7B"], DEVICES["Raspberry Pi 5"], tokens=2048)
    >>> [candidate.name for candidate in found if candidate.fits]
    ['INT8', 'INT4', 'NF4', 'NF4 dq', 'GPTQ', 'AWQ']
    """
    found = []
    for name in CHOICES:
        size = footprint(shape, name, tokens=tokens, users=users, cache_format=cache_format)
        found.append(
            Candidate(
                name=name,
                footprint=size,
                tokens_per_second=size.tokens_per_second(device.bandwidth),
                divergence=_divergence(name),
                fits=size.total <= device.usable,
                needs_calibration=WEIGHT_FORMATS[name].needs_calibration,
            )
        )
    return found


def recommend(found: Sequence[Candidate], *, floor: float, has_calibration: bool = True) -> Candidate | None:
    """Return the candidate to take, or None if there is none.

    Of those that fit and whose divergence is at most `floor`, the most faithful that is as fast as the fastest: a
    prediction is no more precise than `AS_FAST`, and a little speed is worth no loss.

    has_calibration  whether there is a text for GPTQ and AWQ
    """
    good = [c for c in found if c.fits and c.divergence <= floor and (has_calibration or not c.needs_calibration)]
    if not good:
        return None
    fastest = max(candidate.tokens_per_second for candidate in good)
    return min((c for c in good if c.tokens_per_second * AS_FAST >= fastest), key=lambda c: c.divergence)


@cache
def _divergence(name: str) -> float:
    return methods_measured("smollm2-135m")[WEIGHT_FORMATS[name].measured]["divergence"]
