"""Runs of a sweep as their folders would give them, from a seeded random generator."""

import math
import random
from dataclasses import replace
from typing import Any

from mlx_ragtune.pages.plots import LossPoint
from mlx_ragtune.pages.run_rows import RunMetric, RunRow

SETTINGS: dict[str, Any] = {
    "seed": 0, "base.model": "Qwen/Qwen3-4B", "corpus.chunk_words": 350, "dataset.generator": None,
    "train.rank": 16, "train.alpha": 32, "train.learning_rate": 2e-4, "train.target_modules": ["q_proj", "v_proj"],
    "train.epochs": 3,
}  # fmt: skip
HOSTILE = "<script>alert(1)</script>&\"'"


def metric(name: str, mean: float, change: float) -> RunMetric:
    low, high = 100 * change - 6, 100 * change + 6
    verdict = "IMPROVED" if low > 0 else "REGRESSED" if high < 0 else "INCONCLUSIVE"
    return RunMetric(name, "share", True, mean, change, low / 100, high / 100, verdict)


def curve(rate: float, source: random.Random, *, updates: int = 60) -> tuple[LossPoint, ...]:
    points = []
    for update in range(1, updates + 1):
        loss = 0.9 + 1.6 * math.exp(-update * rate * 150) + source.gauss(0, 0.04)
        valid = loss + 0.08 + update * rate * 3 if update % 15 == 0 else None
        points.append(LossPoint(update, loss, valid))
    return tuple(points)


def made_run(at: int, *, seed: int = 0) -> RunRow:
    """A finished run with settings, losses and metrics that depend on the learning rate most."""
    source = random.Random(f"{seed}-{at}")
    rate = round(10 ** source.uniform(-4.5, -3), 7)
    rank = source.choice([4, 8, 16, 32])
    modules = source.choice([["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"]])
    variant = {"train.learning_rate": rate, "train.rank": rank, "train.target_modules": modules}
    losses = curve(rate, source)
    good = 0.3 - abs(math.log10(rate) + 3.6) * 0.2 + source.gauss(0, 0.02)
    mean = 0.4 + good
    name = f"qwen3_4b_16gb+train.learning_rate={rate}+train.rank={rank}+train.target_modules={','.join(modules)}"
    verdict = "IMPROVED" if good > 0.06 else "REGRESSED" if good < -0.06 else "INCONCLUSIVE"
    return RunRow(
        name=f"{name[:92]}-{at:07d}", recipe="recipes/qwen3_4b_16gb.yaml", settings=SETTINGS | variant, variant=variant,
        state="finished", stage="report", changed_at=f"2026-11-{1 + at % 28:02d}T10:00:00Z", verdict=verdict,
        headline=f"{verdict}: {HOSTILE}", primary="correctness",
        metrics=(
            metric("correctness", mean, good), metric("citation_recall", mean / 2, good / 2),
            metric("prose_style", 0.8, 0.01),
        ),
        valid_loss=min(p.valid_loss for p in losses if p.valid_loss is not None), updates=60, best_update=45,
        tokens_per_second=1200.0, train_seconds=1800.0 + 60 * at, seconds=4000.0,
        peak_memory_bytes=int((6 + rank / 16) * 2**30), losses=losses, data="d1", questions="q1",
        report=f"/runs/{at}/8-report/report.html",
    )  # fmt: skip


def made_runs(count: int) -> list[RunRow]:
    return [made_run(at) for at in range(count)]


def partial_run(row: RunRow, **changes: Any) -> RunRow:
    """The run as it would be without a training that was finished."""
    empty: dict[str, Any] = {
        "verdict": None, "headline": "", "primary": "", "metrics": (), "valid_loss": None, "updates": None,
        "best_update": None, "tokens_per_second": None, "train_seconds": None, "peak_memory_bytes": None,
        "losses": (), "data": "", "questions": "", "report": "", "state": "interrupted", "stage": "train",
    }  # fmt: skip
    return replace(row, **(empty | changes))


def swept_runs(count: int) -> list[RunRow]:
    """The trials of a sweep: three in four were pruned at a rung, with the points of their looks."""
    rows = []
    for at, row in enumerate(made_runs(count)):
        score = row.metrics[0].mean
        known: dict[str, Any] = {"study": "s", "trial": at + 1, "rung_score": 0.7 * score}
        if at % 4 == 0:
            rows.append(replace(row, score=score, **known))
            continue
        points = tuple(LossPoint(update, None, row.losses[update].train_loss) for update in (7, 20)[: 1 + at % 2])
        why = f"not among the best {count // 3} of {count} at update 7 of 60"
        pruned = partial_run(row, state="pruned", why=why, losses=points, updates=7, train_seconds=120.0)
        rows.append(replace(pruned, **known))
    return rows
