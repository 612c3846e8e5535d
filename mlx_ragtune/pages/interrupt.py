"""Ctrl-C is answered at once, also while MLX computes for a minute and no Python code runs."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def announce_interrupt() -> Iterator[None]:
    """Write a line to stderr as soon as SIGINT arrives; KeyboardInterrupt follows when the current step returns.

    Python runs signal handlers between bytecodes only. The byte that the C-level handler writes to the wakeup
    file descriptor is read by a thread, which can print while the main thread is inside a C++ call.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait() -> None:
        while byte := os.read(reader, 1):
            if byte[0] == signal.SIGINT:
                sys.stderr.write("\nstopping after the current step; finished work is kept\n")
                sys.stderr.flush()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        thread.join(timeout=1)
        os.close(reader)
