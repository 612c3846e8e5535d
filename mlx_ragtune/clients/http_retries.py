"""Requests that are repeated while a server is away or busy."""

import random
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

from mlx_ragtune.errors import ToolError, printable

Result = TypeVar("Result")
AGAIN = "run the same command again: it continues"
"""The end of a fix. Those who add how to go on look for it."""


class PassingError(ToolError):
    """A failure that a retry may cure: a refused or broken connection, a busy server, an engine that died."""


class ServerGoneError(ToolError):
    """Nothing answers at the address after all retries; further requests would fail too."""


class Retries:
    """How often a failed request to one server is repeated: up to ``attempts`` times, with growing, jittered pauses.

    Each failure that a retry cured is printed to stderr and kept in ``cured``.
    """

    def __init__(self, host: str, *, attempts: int, pause_seconds: float) -> None:
        self._host, self._attempts, self._pause = host, attempts, pause_seconds
        self._jitter = random.Random()  # noqa: S311 (spreads retries, decides nothing)
        self.cured: list[str] = []

    def of(self, call: Callable[[], Result]) -> Result:
        """The result of ``call``, which is repeated while it raises PassingError.

        Raises the last failure; a ServerGoneError when nothing answered at all.
        """
        failures: list[str] = []
        while True:
            try:
                result = call()
            except PassingError as error:
                failures.append(error.what)
                if len(failures) == self._attempts:
                    what = f"{error.what} (tried {len(failures)} times)" if self._attempts > 1 else error.what
                    gone = isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout | ConnectionError)
                    kind = ServerGoneError if gone else ToolError
                    fix = f"{error.fix}, then {AGAIN}" if gone else error.fix
                    raise kind(what, where=error.where, fix=fix) from error
                time.sleep(self._pause * 2 ** (len(failures) - 1) * self._jitter.uniform(0.5, 1.5))
            else:
                for failure in failures:
                    print(printable(f"{self._host}: {failure}; the retry succeeded"), file=sys.stderr, flush=True)
                self.cured += failures
                return result
