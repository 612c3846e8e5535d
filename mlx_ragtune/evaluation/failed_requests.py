"""Requests that failed. The other requests are still sent; the stage then ends unfinished, and the next run retries."""

from collections import Counter
from collections.abc import Callable
from typing import NoReturn

from mlx_ragtune.clients.http_retries import ServerGoneError
from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.errors import ToolError
from mlx_ragtune.records import ChatReply, ChatRequest

MAX_IN_A_ROW = 20
"""So many failures without a success between them end the run: the server answers nothing but errors."""
SHOWN_REASONS = 3
REASON_CHARACTERS = 200


class FailedRequests:
    """Counts the requests of one kind; ``kind`` names them in messages, for example ``judge requests``."""

    def __init__(self, kind: str = "requests") -> None:
        self._kind = kind
        self._reasons: Counter[str] = Counter()
        self._first: tuple[str, ToolError] | None = None
        self._sent = self._in_a_row = 0

    def succeeded(self) -> None:
        """Count a request that was answered."""
        self._sent += 1
        self._in_a_row = 0

    def failed(self, error: ToolError, *, example: str) -> None:
        """Count a request that failed; ``example`` says which one it was.

        Raises the error itself when the server is gone, and ToolError for ``MAX_IN_A_ROW`` failures in a row.
        """
        if isinstance(error, ServerGoneError):
            raise error
        self._sent += 1
        self._in_a_row += 1
        self._reasons[error.what[:REASON_CHARACTERS]] += 1
        self._first = self._first or (example, error)
        if self._in_a_row >= MAX_IN_A_ROW:
            self._stop(f"stopped after {self._in_a_row} failed {self._kind} in a row; ")

    def ask(self, chat: Callable[[ChatRequest], ChatReply], request: ChatRequest, *, example: str) -> ChatReply | None:
        """The reply; None when the request failed, or when its prompt does not fit in the context."""
        try:
            reply = chat(request)
        except PromptOverflowError:
            self.succeeded()  # the same on every run: there is nothing to retry
            return None
        except ToolError as error:
            self.failed(error, example=example)
            return None
        self.succeeded()
        return reply

    def require_none(self) -> None:
        """Raise ToolError when a request failed, with the reasons, an example, and how to send only those again."""
        if self._reasons:
            self._stop("")

    def _stop(self, why: str) -> NoReturn:
        assert self._first is not None  # noqa: S101 (called after a failure)
        example, error = self._first
        reasons = [f"{times} × {reason}" for reason, times in self._reasons.most_common(SHOWN_REASONS)]
        if more := len(self._reasons) - len(reasons):
            reasons.append(f"{more} other reason{'s' * (more > 1)}")
        again = "run the same command again: ragtune evaluate RECIPE   # sends only the failed requests"
        count = f"{self._reasons.total()} of {self._sent} {self._kind} failed"
        raise ToolError(
            f"{why}{count}: {'; '.join(reasons)} (first: {example})",
            where=error.where,
            fix=f"{error.fix}; then {again}" if error.fix else again,
        )
