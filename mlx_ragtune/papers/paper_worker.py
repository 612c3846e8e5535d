"""The process in which papers are read: one JSON request per line on stdin, one JSON answer per line on stdout.

``python -m mlx_ragtune.papers.paper_worker SECONDS MEMORY_BYTES CHUNK_TOKENS OVERLAP_TOKENS [TOKENIZER]``,
started by ``paper_reader``. It ends itself when a paper reaches a limit: by SIGPROF or SIGALRM
for time, with status 75 for memory.
"""

import json
import os
import resource
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.chunks import Chunking, split
from mlx_ragtune.papers.paper_reader import OUT_OF_MEMORY, READY
from mlx_ragtune.papers.reading import open_paper
from mlx_ragtune.papers.token_counts import Estimate, TokenizerFile

WATCH_SECONDS = 0.02
_STATM = Path("/proc/self/statm")


def memory_bytes() -> int:
    """Memory of this process: now on Linux, at its highest so far on other systems."""
    try:
        return int(_STATM.read_bytes().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _watch_memory(limit: int) -> None:
    while True:
        if memory_bytes() > limit:
            os._exit(OUT_OF_MEMORY)
        time.sleep(WATCH_SECONDS)


def _answer(path: Path, identifier: str, chunking: Chunking) -> dict[str, Any]:
    """The paper as JSON values, or the error that describes why it cannot be used."""
    try:
        reading = open_paper(path, id=identifier)
        chunked = split(reading.document, chunking)
    except InputError as error:
        return {"error": {"what": error.what, "where": error.where, "fix": error.fix}}
    except Exception as error:  # a parser that fails on one paper must not end the run
        what = f"the reader failed on it ({type(error).__name__}: {error})"
        return {"error": {"what": what, "where": str(path), "fix": "remove it, or save it as plain text"}}
    dropped = [*reading.dropped, *chunked.dropped]
    paper = {"document": reading.document, "chunks": chunked.chunks, "tokens": chunked.tokens, "dropped": dropped}
    return {"paper": paper}


def main(seconds: float, limit: int, chunking: Chunking) -> None:
    """Answer requests until stdin ends. Libraries that print cannot disturb the answers.

    The limit on memory is for papers: what the tokenizer takes comes on top of it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    before = memory_bytes() if isinstance(chunking.counter, TokenizerFile) else 0
    limit += before
    threading.Thread(target=_watch_memory, args=(limit,), daemon=True).start()
    answers.write(READY)
    answers.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, 4 * seconds)
        answer = _answer(Path(request["path"]), request["id"], chunking)
        # Freed memory may stay with this process and would count against the next paper.
        answer["last"] = memory_bytes() - before > (limit - before) // 4
        encoded = json.dumps(answer, default=asdict).encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(encoded + b"\n")
        answers.flush()


if __name__ == "__main__":
    _seconds, _limit, _tokens, _overlap, *_tokenizer = sys.argv[1:]
    _counter = TokenizerFile(Path(_tokenizer[0])) if _tokenizer else Estimate()
    main(float(_seconds), int(_limit), Chunking(int(_tokens), int(_overlap), _counter))
