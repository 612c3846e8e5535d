"""From a folder of papers to a report without a hand-written file: every command, its output, and its time.

    python benchmarks/whole_path.py FOLDER [--base MODEL] [--questions N] [--set KEY=VALUE] [--docs] [--work FOLDER]

``ragtune init``, ``draft``, ``review``, ``run`` and ``ask``, as a newcomer types them. The benchmark is reviewed in
a headless Chromium, by its keyboard: a script accepts the questions, edits the first and rejects the last, so it stands
in for a reader of the page and not for one of the papers. Without Chromium it sends the decisions to the page's server.

``--docs`` writes the transcript to docs/whole-path.md, and pictures of the review page and the report to docs/images/.
The same folder of work continues where an earlier call stopped.
"""

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headless_chromium import Tab, chromium, find_browser

ROOT = Path(__file__).resolve().parents[1]
SMALL_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
POSITION = "document.getElementById('position')?.textContent ?? ''"
KEPT_LINES = 60
"""So many lines of a command's output are kept at most: the first and the last ones."""
ADDED = " in these papers"
"""What the edit of the first question adds before its question mark."""


@dataclass
class Step:
    """One command: what was typed, what it printed, and how long it took."""

    command: str
    output: str
    seconds: float


class Walk:
    """The commands in a folder of work, and the record of them."""

    def __init__(self, papers: Path, work: Path, pictures: Path) -> None:
        self.papers, self.work, self.pictures = papers.resolve(), work.resolve(), pictures
        self.steps: list[Step] = []
        (self.work / "recipes").mkdir(parents=True, exist_ok=True)
        pictures.mkdir(parents=True, exist_ok=True)

    def ragtune(self, *arguments: str) -> str:
        """Run a command to its end; raises RuntimeError with its output when it fails."""
        started = time.perf_counter()
        print(f"$ ragtune {shlex.join(arguments)}", file=sys.stderr, flush=True)
        done = subprocess.run(
            self._command(*arguments), cwd=self.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", check=False, env=self._environment(),
        )  # fmt: skip
        self._add(arguments, done.stdout, started)
        if done.returncode:
            raise RuntimeError(f"exit code {done.returncode}:\n{done.stdout}")
        return done.stdout

    def _add(self, arguments: tuple[str, ...], output: str, started: float) -> None:
        command = "ragtune " + shlex.join(arguments).replace(str(self.papers), "~/papers")
        seconds = time.perf_counter() - started
        print(f"  {seconds:.0f} s", file=sys.stderr, flush=True)
        self.steps.append(Step(command, self._shown(output), seconds))

    def _shown(self, output: str) -> str:
        """The output without this machine's paths, without steps of progress, and without its middle if it is long."""
        for path, name in ((self.papers, "~/papers"), (self.work, "."), (ROOT, "."), (Path.home(), "~")):
            output = output.replace(str(path), name)
        lines = [line.rsplit("\r", 1)[-1].rstrip() for line in output.rstrip().split("\n")]
        lines = [line for line in lines if not re.match(r"  \S.* \d+/\d+( |$)", line)]
        if len(lines) > KEPT_LINES:
            half = KEPT_LINES // 2
            lines = [*lines[:half], f"[{len(lines) - 2 * half} lines]", *lines[-half:]]
        return "\n".join(lines)

    @staticmethod
    def _command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "mlx_ragtune", *arguments]

    @staticmethod
    def _environment() -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}

    def review(self, recipe: str) -> None:
        """Review every question of the benchmark on its page, and write the reviews into the file."""
        arguments = ("review", recipe, "--what", "benchmark", "--all", "--no-open", "--reviewer", "whole_path.py")
        started = time.perf_counter()
        print(f"$ ragtune {shlex.join(arguments)}", file=sys.stderr, flush=True)
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(
                self._command(*arguments), cwd=self.work, stdout=subprocess.PIPE, stderr=said, text=True,
                env=self._environment(),
            )  # fmt: skip
            assert process.stdout is not None
            try:
                address = process.stdout.readline().strip()
                if not address.startswith("http"):
                    said.seek(0)
                    raise RuntimeError(f"no page: {address}{said.read()}")
                browser = find_browser()
                decided = self._by_keys(browser, address) if browser else by_requests(address)
                process.wait(timeout=120)
            finally:
                process.kill()
            said.seek(0)
            self._add(arguments, f"{'(in Chromium) ' if browser else ''}{decided}\n{said.read()}", started)

    def _by_keys(self, browser: str, address: str) -> str:
        profile = tempfile.mkdtemp()
        try:
            with chromium(browser, Path(profile)) as tab:
                return review_by_keys(tab, address, self.pictures / "review.png")
        finally:
            shutil.rmtree(profile, ignore_errors=True)

    def picture_of_report(self, report: Path) -> None:
        """A picture of the head of the report, where there is a browser."""
        if browser := find_browser():
            profile = tempfile.mkdtemp()
            with chromium(browser, Path(profile)) as tab:
                tab.go(report.resolve().as_uri(), "body")
                tab.picture(self.pictures / "report-papers.png")
            shutil.rmtree(profile, ignore_errors=True)


def review_by_keys(tab: Tab, address: str, picture: Path) -> str:
    """Decide every question with the keyboard, apply, and end the session; what was pressed."""
    pressed: list[str] = []
    pictured = False
    tab.go(address, "#question, #finish")
    while position := str(tab.says(POSITION)):
        number, count = (int(part) for part in re.findall(r"\d+", position)[:2])
        if not pictured and tab.says("document.querySelector('mark') !== null"):
            tab.picture(picture)
            pictured = True
        if number == 1:
            pressed += edit(tab)
        elif number == count and count > 6:
            tab.press("r")
            tab.until("document.querySelectorAll('input[name=reason]').length > 0", True)
            tab.press("1")
            tab.press("Enter")
            pressed += ["r", "1", "Enter"]
        else:
            tab.press("a")
            pressed.append("a")
        deadline = time.monotonic() + 60
        while str(tab.says(POSITION)) == position and time.monotonic() < deadline:
            time.sleep(0.02)
    tab.until("document.getElementById('finish') !== null", True, seconds=60)
    if tab.says("document.getElementById('apply-benchmark')?.disabled === false"):
        tab.says("document.getElementById('apply-benchmark').click()")
        tab.until("document.getElementById('applied-benchmark').textContent !== ''", True, seconds=120)
    tab.says("document.getElementById('finish').click()")
    tab.until("document.body.innerText.includes('You can close this window')", True, seconds=120)
    return "keys pressed: " + " ".join(pressed)


def edit(tab: Tab) -> list[str]:
    """Add words to the question and save; where the checks refuse the change, accept the question as it is."""
    tab.press("e")
    tab.until("document.activeElement.id", "edit-question")
    end = "(box => box.setSelectionRange(box.value.trimEnd().length - 1, box.value.trimEnd().length - 1))"
    tab.says(f"{end}(document.getElementById('edit-question'))")
    for key in ADDED:
        tab.press(key)
    time.sleep(2)  # the checks answer
    if tab.says("document.getElementById('save').disabled"):
        tab.press("Escape")
        tab.press("a")
        return ["e", "Escape", "a"]
    for kind in ("keyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key="Enter", modifiers=2)
    return ["e", f"'{ADDED.strip()}'", "Ctrl+Enter"]


def by_requests(address: str) -> str:
    """Accept every question but the last through the page's server; what was decided."""

    def send(route: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{address.rstrip('/')}/{route}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as reply:
            found: dict[str, Any] = json.loads(reply.read())
            return found

    count = len(send("state")["items"])
    for number in range(count):
        last = number == count - 1 and count > 6
        decision = (
            {"action": "reject", "reason": next(iter(send("state")["reasons"]))} if last else {"action": "accept"}
        )
        send("review", {"n": number, "id": send(f"item?n={number}")["id"], **decision})
    send("apply", {"part": "benchmark"})
    send("finish", {})
    return f"{count} decisions sent without a browser"


def walk(path: Walk, options: argparse.Namespace) -> None:
    """All commands, in order."""
    recipe = f"recipes/{options.name}.yaml"
    if not (path.work / recipe).exists():
        path.ragtune("init", str(path.papers), "--out", recipe, "--base", options.base)
    changes = [word for change in options.set for word in ("--set", change)]
    if not (path.work / f"recipes/{options.name}.benchmark.jsonl").exists():
        count = ["--questions", str(options.questions)] if options.questions else []
        path.ragtune("draft", recipe, *count)
    path.review(recipe)
    path.ragtune("validate", recipe)
    path.ragtune("run", recipe, *changes)
    path.ragtune("ask", recipe, options.ask, *changes)
    reports = sorted((path.work / "runs").glob("*/8-report/report.html"), key=lambda file: file.stat().st_mtime)
    path.picture_of_report(reports[-1])


def transcript(path: Walk, recipe: Path, command: str) -> str:
    """The record as Markdown."""
    papers = sorted(file.name for file in path.papers.iterdir() if file.is_file())
    total = sum(step.seconds for step in path.steps)
    lines = [
        "# The whole path, recorded", "",
        f"From a folder of {len(papers)} real PDFs to a report, without a hand-written file. Written by `{command}` on "
        f"{platform.system()} {platform.machine()} with {os.cpu_count()} processors, load {os.getloadavg()[2]:.1f}; "
        f"{total / 60:.0f} minutes in all. A script pressed the keys of the review: it stands in for a reader of the "
        "page, so \"reviewed\" in this report does not mean that a person read the questions.", "",
        "A model of 135 million parameters writes the questions, answers them and is tuned: the smallest that can show "
        "every step. What the verdict says about it says nothing about a larger model.", "",
        f"The papers: {', '.join(papers)}.", "",
        "| step | seconds |", "|---|---|",
        *(f"| `{' '.join(step.command.split()[:2])}` | {step.seconds:.0f} |" for step in path.steps), "",
        "![The review page](images/review.png)", "", "![The report](images/report-papers.png)", "",
        "## The recipe that `init` wrote", "", "```yaml", path._shown(recipe.read_text(encoding="utf-8")), "```", "",
    ]  # fmt: skip
    for step in path.steps:
        lines += [
            f"## `{' '.join(step.command.split()[:2])}`",
            "",
            "```text",
            f"$ {step.command}",
            step.output,
            "```",
            "",
        ]
    return "\n".join(lines)


def main() -> None:
    """Walk the path, write the transcript, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of papers")
    parser.add_argument("--base", default=SMALL_MODEL)
    parser.add_argument("--name", default="papers", help="name of the recipe")
    parser.add_argument("--questions", type=int, help="questions to draft [by the papers]")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for run and ask")
    parser.add_argument("--ask", default="How are robust covariance matrices estimated?")
    parser.add_argument("--work", type=Path, help="folder of the project [a temporary one, which stays]")
    parser.add_argument("--docs", action="store_true", help="write docs/whole-path.md and docs/images/")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="whole-path-"))
    pictures = ROOT / "docs" / "images" if options.docs else work / "pictures"
    path = Walk(options.folder, work, pictures)
    try:
        walk(path, options)
    finally:
        target = ROOT / "docs" / "whole-path.md" if options.docs else work / "transcript.md"
        recipe = work / "recipes" / f"{options.name}.yaml"
        if recipe.exists():
            command = "python benchmarks/whole_path.py FOLDER" + " --docs" * options.docs
            target.write_text(transcript(path, recipe, command), encoding="utf-8")
            print(f"transcript: {target}")
        for step in path.steps:
            print(f"{step.seconds:8.1f} s  {step.command}")


if __name__ == "__main__":
    main()
