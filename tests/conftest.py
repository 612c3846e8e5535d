"""What every test may rely on."""

import os
import signal

# The models are tiny: more threads only wait for each other, above all beside a second worker. Children inherit this.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Runs go where each test wants them, not where the person who starts the tests keeps runs.
os.environ.pop("RAGTUNE_RUNS", None)

# A shell that starts this in the background leaves SIGINT ignored, and children would inherit that: no test of Ctrl-C
# would stop anything. With a handler here, a child begins with the default.
signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from tests.served_models import models, private_cache, standin  # noqa: E402, F401
from tests.toy_models import toys, written  # noqa: E402, F401

# The same examples on every run, so that a change fails for what it changed; "search" looks for new ones.
settings.register_profile("short", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("search", max_examples=500, deadline=None)
settings.load_profile(os.environ.get("RAGTUNE_HYPOTHESIS", "short"))

SLOW_FIRST = ("stages", "test_pipeline", "tuning", "gguf", "commands", "clients")
"""Folders and files with minutes of work: of two workers, neither should begin one when the other has finished."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files for ``make test``, slow ones first."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    parts = {*item.path.parts, item.path.stem}
    return next((rank for rank, name in enumerate(SLOW_FIRST) if name in parts), len(SLOW_FIRST))
