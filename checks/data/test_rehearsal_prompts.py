"""The shipped rehearsal prompts: enough of each category, each once, and none of them a probe or a near copy of one."""

import re
from collections import Counter
from itertools import combinations
from pathlib import Path

from rapidfuzz import fuzz

from mlx_ragtune.scoring.answers.probes import read_probes
from mlx_ragtune.synthesis.rehearsal_prompts import read_prompts

DATA = Path(__file__).parents[2] / "data"
PROMPTS = read_prompts(DATA / "rehearsal" / "prompts.jsonl")
PROBES = [probe.prompt for probe in read_probes(DATA / "probes" / "general.jsonl")]
CATEGORIES = {
    "format", "arithmetic", "facts", "explain", "code", "translation", "reasoning", "rewriting", "writing", "chat",
}  # fmt: skip
RUN = 5
"""So many successive words or marks in common are a copy."""
MOST_SIMILAR, MOST_ALIKE = 80, 90
"""Largest similarity of two texts in percent: of a prompt and a probe, of two prompts."""


def runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+|[^\w\s]", text.casefold())
    return {tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)}


def similar(first: str, second: str) -> float:
    return fuzz.ratio(first.casefold(), second.casefold())


def test_there_are_at_least_320_prompts_in_ten_categories_of_like_size() -> None:
    counts = Counter(prompt.category for prompt in PROMPTS)
    assert set(counts) == CATEGORIES
    assert len(PROMPTS) >= 320
    assert min(counts.values()) >= 30


def test_every_prompt_is_short_and_unlike_the_others() -> None:
    assert [prompt.id for prompt in PROMPTS if len(prompt.prompt) > 200] == []
    pairs = combinations(PROMPTS, 2)
    assert [(a.id, b.id) for a, b in pairs if similar(a.prompt, b.prompt) >= MOST_ALIKE] == []


def test_no_prompt_is_a_probe_or_a_near_copy_of_one() -> None:
    probe_runs = {run for probe in PROBES for run in runs(probe)}
    assert [prompt.id for prompt in PROMPTS if runs(prompt.prompt) & probe_runs] == []
    pairs = [(prompt, probe) for prompt in PROMPTS for probe in PROBES]
    assert [(row.id, probe) for row, probe in pairs if similar(row.prompt, probe) >= MOST_SIMILAR] == []


def test_the_check_finds_a_planted_copy() -> None:
    copy = PROBES[0].replace("Reply", "Answer me")
    assert runs(copy) & runs(PROBES[0])
    assert similar(PROBES[14].replace("7", "8"), PROBES[14]) >= MOST_SIMILAR
