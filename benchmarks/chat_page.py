"""A picture of the chat page of ``ragtune serve``: a question asked in a real browser, answered by a finished run.

    python benchmarks/chat_page.py RECIPE "QUESTION" --out docs/images/chat.png [--model tuned | --together] [--preview]

Needs Chromium or Google Chrome, and the run of the recipe up to ``register`` (``train`` with ``--preview``).
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from headless_chromium import chromium

from mlx_ragtune.commands.serve import ServeOptions, serve
from mlx_ragtune.runner import open_recipe

FINISHED = "[...document.querySelectorAll('.state')].every((state) => / s$/.test(state.textContent))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("question")
    parser.add_argument("--out", type=Path, default=Path("docs/images/chat.png"))
    parser.add_argument("--model", default="tuned")
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--preview", action="store_true")
    options = parser.parse_args()
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        sys.exit("install chromium")
    run = open_recipe(options.recipe, {})
    served = serve(run, ServeOptions(preview=options.preview), say=print)
    with tempfile.TemporaryDirectory() as folder, served as addresses, chromium(binary, Path(folder) / "p") as tab:
        tab.call("Emulation.setDeviceMetricsOverride", width=1280, height=800, deviceScaleFactor=1, mobile=False)
        tab.go(addresses.page, "#models button")
        tab.says("setTogether(true)" if options.together else f"choose('{options.model}')")
        tab.says("document.getElementById('question').focus()")
        tab.call("Input.insertText", text=options.question)
        tab.press("Enter")
        tab.until("document.querySelectorAll('.entry').length", 1)
        tab.until(FINISHED, True, seconds=600)
        tab.says("document.querySelector('a.cite')?.click(); document.activeElement.blur(); window.scrollTo(0, 0)")
        time.sleep(0.5)
        tab.picture(options.out)
    print(f"{options.out}: {options.out.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
