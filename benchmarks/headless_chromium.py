"""A real headless Chromium, driven through its debugging pipe: JSON messages that end in a zero byte.

    python benchmarks/headless_chromium.py PAGE PICTURE.png [WIDTH HEIGHT]

takes a picture of the top of a page: a file such as runs/demo/8-report/report.html, or an address. Tests of pages and
``whole_path.py`` use the browser too.
"""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--remote-debugging-pipe", "--window-size=1000,900",
)  # fmt: skip


class Tab:
    """One page: go somewhere, press keys, read what scripts say, take a picture."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._buffer = b""
        self._count = 0
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                self._buffer += os.read(self._read, 65536)
            text, self._buffer = self._buffer.split(b"\0", 1)
            reply: dict[str, Any] = json.loads(text)
            if reply.get("id") == self._count:
                assert "error" not in reply, reply
                found: dict[str, Any] = reply["result"]
                return found

    def says(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def until(self, script: str, wanted: Any, *, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while (found := self.says(script)) != wanted:
            assert time.monotonic() < deadline, f"{script} is {found!r}, not {wanted!r}"
            time.sleep(0.05)

    def go(self, address: str, ready: str) -> None:
        self.call("Page.navigate", url=address)
        self.until(f"document.readyState === 'complete' && document.querySelector('{ready}') !== null", True)

    def press(self, key: str) -> None:
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def chromium(binary: str, profile: Path) -> Iterator[Tab]:
    """A tab of a browser of its own, ended with the context."""
    ends, to_write = os.pipe()
    from_read, begins = os.pipe()
    to_read, from_write = (fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (ends, begins))  # clear of 3 and 4
    os.close(ends)
    os.close(begins)

    browser = subprocess.Popen(  # the browser reads descriptor 3 and writes descriptor 4
        ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{from_write}', "bash", binary, *FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(to_read, from_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        yield Tab(to_write, from_read)
    finally:
        browser.terminate()
        browser.wait(timeout=20)
        os.close(to_write)
        os.close(from_read)


def find_browser() -> str | None:
    """The path of a Chromium or Chrome, if there is one."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def main() -> None:
    """Take a picture of a page."""
    page, target, *size = sys.argv[1:]
    binary = find_browser()
    if binary is None:
        sys.exit("no chromium: apt-get install chromium")
    width, height = (int(number) for number in size or ("1100", "820"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, chromium(binary, Path(profile)) as tab:
        tab.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        tab.go(page if "://" in page else Path(page).resolve().as_uri(), "body")
        tab.picture(Path(target))
    print(f"{target}: {Path(target).stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
