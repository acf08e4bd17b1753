"""SmolLM2 for the tests that need a real model."""

import os

import pytest

from quantlab_helpers import lm


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M, from this computer or downloaded. Without it the tests are skipped, but never in CI."""
    try:
        return lm.load("smollm2-135m")
    except ConnectionError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have SmolLM2: {error}")
        pytest.skip(f"SmolLM2 is not here and cannot be downloaded: {error}")
