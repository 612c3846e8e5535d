"""Reads papers in a second process with limits on time and memory, so that no file can stop or crash a run.

    PaperReader ──(path, id)──► python -m mlx_ragtune.papers.paper_worker
                ◄──(document, chunks, tokens, dropped | error)──

A file of a few kilobytes can expand to gigabytes or keep a parser busy for hours, and PDFium is C++. The
worker ends itself at a limit; the reader then reports this one paper and starts another worker.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.jsonl import parse_row
from mlx_ragtune.papers.dropped import Dropped
from mlx_ragtune.records import Chunk, Document

READY = b"ready\n"
OUT_OF_MEMORY = 75
"""Exit status of a worker that reached its memory limit."""


@dataclass(frozen=True)
class Limits:
    """What one paper may take: seconds of processor time (four times that on the clock), bytes of memory."""

    seconds: float = 60
    memory_bytes: int = 2**30


@dataclass(frozen=True)
class Paper:
    """A paper that was read: its document, the chunks of it with their tokens, and the text that is in no chunk."""

    document: Document
    chunks: tuple[Chunk, ...]
    tokens: tuple[int, ...]
    dropped: tuple[Dropped, ...]


class PaperReader:
    """Reads papers one after the other, each within ``limits``. Use it as a context manager.

    Chunks have at most ``chunk_tokens`` tokens and share sentences of at most ``overlap_tokens``, counted with the
    file ``tokenizer``, or estimated without one.
    """

    def __init__(
        self,
        *,
        chunk_tokens: int,
        overlap_tokens: int = 0,
        tokenizer: Path | None = None,
        limits: Limits = Limits(),
    ) -> None:
        self._limits = limits
        self._chunking = [str(chunk_tokens), str(overlap_tokens), *([str(tokenizer)] if tokenizer else [])]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop()

    def read(self, path: Path, identifier: str) -> Paper:
        """The paper. Raises InputError with the reason why it cannot be used."""
        process = self._process or self._start()
        request = {"path": str(path), "id": identifier}
        assert process.stdin  # noqa: S101 (a pipe)
        assert process.stdout  # noqa: S101 (a pipe)
        with suppress(BrokenPipeError):  # the worker has ended: its status says why
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._failure(path, process.wait())
        answer: dict[str, Any] = json.loads(line)
        if answer["last"]:
            self._stop()
        if "error" in answer:
            raise InputError(**answer["error"])
        return parse_row(Paper, answer["paper"], where=str(path))

    def _start(self) -> subprocess.Popen[bytes]:
        """A new worker with the same import path as this process; the working directory is not on it."""
        limits = (str(self._limits.seconds), str(self._limits.memory_bytes))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mlx_ragtune.papers.paper_worker", *limits, *self._chunking],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._process = process
        assert process.stdout  # noqa: S101 (a pipe)
        if process.stdout.readline() != READY:
            self._stop()
            raise ToolError(
                f"the process that reads papers did not start (exit status {process.returncode})", fix="ragtune doctor"
            )
        return process

    def _failure(self, path: Path, status: int) -> InputError:
        """Why the worker ended instead of answering."""
        self._stop()
        if status in (-signal.SIGPROF, -signal.SIGALRM):
            reason = f"reading it takes longer than {self._limits.seconds:g} seconds"
        elif status == OUT_OF_MEMORY:
            reason = f"reading it needs more than {self._limits.memory_bytes // 2**20} MiB of memory"
        else:
            reason = f"the reader crashed on it (exit status {status})"
        return InputError(reason, where=str(path), fix="remove it, or save it as plain text")

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin and process.stdout:
            process.kill()
            process.wait()
            process.stdout.close()
            with suppress(BrokenPipeError):
                process.stdin.close()
