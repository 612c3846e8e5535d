"""The process in which papers are read: one JSON request per line on stdin, one JSON answer per line on stdout.

``python -m mlx_ragtune.papers.paper_worker SECONDS MEMORY_BYTES``, started by ``paper_reader``. It ends
itself when a paper reaches a limit: by SIGPROF or SIGALRM for time, with status 75 for memory.
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
from mlx_ragtune.papers.chunks import split
from mlx_ragtune.papers.paper_reader import OUT_OF_MEMORY, READY
from mlx_ragtune.papers.reading import open_paper

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


def _answer(path: Path, identifier: str, chunk_words: int) -> dict[str, Any]:
    """The paper as JSON values, or the error that describes why it cannot be used."""
    try:
        reading = open_paper(path, id=identifier)
        chunks, dropped = split(reading.document, words=chunk_words)
    except InputError as error:
        return {"error": {"what": error.what, "where": error.where, "fix": error.fix}}
    except Exception as error:  # a parser that fails on one paper must not end the run
        what = f"the reader failed on it ({type(error).__name__}: {error})"
        return {"error": {"what": what, "where": str(path), "fix": "remove it, or save it as plain text"}}
    paper = {"document": reading.document, "chunks": chunks, "dropped": [*reading.dropped, *dropped]}
    return {"paper": paper}


def main(seconds: float, limit: int) -> None:
    """Answer requests until stdin ends. Libraries that print cannot disturb the answers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_watch_memory, args=(limit,), daemon=True).start()
    answers.write(READY)
    answers.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, 4 * seconds)
        answer = _answer(Path(request["path"]), request["id"], request["chunk_words"])
        # Freed memory may stay with this process and would count against the next paper.
        answer["last"] = memory_bytes() > limit // 4
        encoded = json.dumps(answer, default=asdict).encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(encoded + b"\n")
        answers.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
