"""Ctrl-C is answered at once, also while MLX computes for a minute and no Python code runs.

``kill`` and a closed terminal are answered like Ctrl-C: what was begun is recorded as interrupted.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STOPS = (signal.SIGTERM, signal.SIGHUP)
"""What ends a process by default, and stops a command here."""


@contextmanager
def announce_interrupt() -> Iterator[None]:
    """Write a line to stderr as soon as a signal to stop arrives; KeyboardInterrupt follows after the current step.

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
            if byte[0] in (signal.SIGINT, *STOPS):
                with suppress(OSError):  # the terminal may be gone
                    sys.stderr.write("\nstopping after the current step; finished work is kept\n")
                    sys.stderr.flush()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    changed = [number for number in STOPS if signal.getsignal(number) is signal.SIG_DFL]  # not under nohup
    for number in changed:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        os.close(writer)
        thread.join(timeout=1)
        os.close(reader)
