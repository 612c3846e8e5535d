"""A small project for whole runs: a few of the shipped notes, the toy model, eight questions."""

import json
import os
import shutil
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from mlx_ragtune.cli import main

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data" / "rag_notes"
TRAIN_PAPERS = 8

RECIPE = """\
base: {model: "toy:qwen3", precision: fp32}
benchmark: benchmark.jsonl
corpus: {folder: papers, chunk_tokens: 300}
retrieval: {top_k: 2}
dataset: {pairs: pairs.jsonl, valid_share: 0.25,
  shares: {grounded: 0.6, synthesis: 0.1, refusal: 0.3}, max_tokens: 4096}
train: {rank: 4, alpha: 8, epochs: 1, batch_size: 4, accumulation: 1, learning_rate: 5e-3}
evaluate: {sampling: {max_tokens: 8}, probes: probes.jsonl, distractors: true}
scoring: {similarity: {backend: llamacpp}}
"""


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file as plain dicts."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write_rows(path: Path, values: list[dict[str, Any]]) -> None:
    """Plain dicts as JSONL."""
    path.write_text("".join(json.dumps(one) + "\n" for one in values), encoding="utf-8")


def make_project(folder: Path) -> Path:
    """Write papers, pairs, benchmark and a recipe; returns the recipe's path."""
    (folder / "papers").mkdir(parents=True)
    (folder / "recipes").mkdir()
    pairs = rows(DATA / "pairs.jsonl")
    grounded = [one for one in pairs if one["kind"] == "grounded"]
    papers = list(dict.fromkeys(one["papers"][0] for one in grounded))[:TRAIN_PAPERS]
    chosen = [one for one in grounded if one["papers"][0] in papers]
    synthesis = [one for one in pairs if one["kind"] == "synthesis" and set(one["papers"]) <= set(papers)]
    refusals = [one for one in pairs if one["refusal_kind"] == "off_corpus"][:8]
    near = [one for one in pairs if one["refusal_kind"] == "near_miss" and one["papers"] and one["papers"][0] in papers]
    write_rows(folder / "pairs.jsonl", [*chosen, *synthesis, *refusals, *near])
    questions = rows(DATA / "benchmark.jsonl")
    answerable = [one for one in questions if one["answerable"] and len(one["papers"]) == 1][:6]
    other = [one for one in questions if not one["answerable"] and not one["papers"]][:2]
    write_rows(folder / "benchmark.jsonl", [*answerable, *other])
    write_rows(folder / "probes.jsonl", rows(ROOT / "data" / "probes" / "general.jsonl")[::16])
    for name in {*papers, *(one["papers"][0] for one in answerable)}:
        shutil.copyfile(DATA / "papers" / f"{name}.md", folder / "papers" / f"{name}.md")
    recipe = folder / "recipes" / "small.yaml"
    recipe.write_text(
        RECIPE.replace("benchmark.jsonl", "../benchmark.jsonl")
        .replace("papers,", "../papers,")
        .replace("pairs: pairs.jsonl", "pairs: ../pairs.jsonl")
        .replace("probes.jsonl", "../probes.jsonl")
    )
    if not synthesis:
        edit(recipe, dataset={"shares": {"grounded": 0.7, "refusal": 0.3, "synthesis": 0.0}})
    return recipe


def edit(recipe: Path, **sections: dict[str, Any]) -> None:
    """Change keys of a recipe's sections."""
    value = yaml.safe_load(recipe.read_text())
    for name, keys in sections.items():
        value[name] = {**value.get(name, {}), **keys}
    recipe.write_text(yaml.safe_dump(value, sort_keys=False))


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def ragtune(*arguments: str | Path, cwd: Path) -> Done:
    """The command as a user runs it, offline, in this process: starting Python and MLX takes seconds."""
    before = {name: os.environ.get(name) for name in ("RAGTUNE_OFFLINE", "RAGTUNE_RUNS", "NO_COLOR")}
    os.environ.update(RAGTUNE_OFFLINE="1", NO_COLOR="1")
    os.environ.pop("RAGTUNE_RUNS", None)
    try:
        with chdir(cwd):
            result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def recipe_of(home: Path) -> Path:
    """The project's recipe."""
    return home / "recipes" / "small.yaml"


def run_folder(home: Path) -> Path:
    """The folder of its run."""
    return home / "runs" / "small"


def stage_folder(home: Path, name: str) -> Path:
    """The artifact that the run uses for a stage, ``3-train``, in the store."""
    return (run_folder(home) / name).resolve()


def forget(home: Path, *names: str) -> None:
    """Remove artifacts, as if the stages had never run."""
    for name in names:
        shutil.rmtree(stage_folder(home, name))
        (run_folder(home) / name).unlink()


def answers_of(home: Path) -> list[dict[str, Any]]:
    """All answers that were ever kept, of both models."""
    return [row for path in sorted((home / "runs" / ".store" / "cache").rglob("*answers*")) for row in rows(path)]
